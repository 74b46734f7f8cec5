"""AUROC of any mixture of smears, from counts of pairs: what a bootstrap over smears needs, without sorting anew.

AUROC is the share of pairs, a cell of the class and one of the rest, in which the first has the higher probability,
ties counting half (Mann and Whitney). A smear drawn w times brings each of its cells w times, so with pairs counted
once for every two smears, each draw is a sum of products.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from rbcnb.columns import GROUP, TARGET, classes_of_predictions, prob_columns


def concordant_pairs(score: np.ndarray, is_class: np.ndarray, groups: np.ndarray, *, n_groups: int) -> np.ndarray:
    """Pairs in order, float [G, G]: a cell of the class from group g scores above one of the rest from group h.

    Args:
        score: [N], higher for the class.
        is_class: [N] bool.
        groups: [N] int, 0 to *n_groups* - 1.
        n_groups: G.
    """
    member = np.eye(n_groups)[groups]
    order = np.argsort(score[~is_class], kind="stable")
    rest = score[~is_class][order]
    below = np.vstack([np.zeros(n_groups), member[~is_class][order].cumsum(axis=0)])
    lower, upper = (below[np.searchsorted(rest, score[is_class], side)] for side in ("left", "right"))
    return member[is_class].T @ (lower + upper) / 2


class MacroAuroc:
    """Macro AUROC of predictions of the same cells, a table per seed, on smears weighted at will."""

    def __init__(self, predictions: Sequence[pd.DataFrame]) -> None:
        classes = classes_of_predictions(predictions[0].columns)
        groups, names = pd.factorize(predictions[0][GROUP], sort=True)
        is_class = predictions[0][TARGET].to_numpy()[:, None] == np.array(classes)
        member = np.eye(len(names))[groups]
        self.own, self.rest = is_class.T @ member, ~is_class.T @ member  # cells [C, G]
        probs = [table[prob_columns(classes)].to_numpy(dtype=float) for table in predictions]
        self.pairs = np.array(  # [S, C, G, G]
            [
                [
                    concordant_pairs(p, own, groups, n_groups=len(names))
                    for p, own in zip(one.T, is_class.T, strict=True)
                ]
                for one in probs
            ]
        )

    def __call__(self, weights: np.ndarray) -> np.ndarray:
        """Macro AUROC [B, S] where each group counts as often as *weights* [B, G] say.

        As in `rbcnb.metrics.score_predictions` a class without a cell, or without a cell of another, is left out of the
        mean; NaN where that leaves none.
        """
        in_order = np.einsum("bscg,bg->bsc", np.tensordot(weights, self.pairs, axes=(1, 2)), weights)
        of_all = ((weights @ self.own.T) * (weights @ self.rest.T))[:, None, :]
        share = np.divide(in_order, of_all, out=np.zeros_like(in_order), where=of_all > 0)
        with np.errstate(invalid="ignore"):
            return share.sum(axis=-1) / (of_all > 0).sum(axis=-1)
