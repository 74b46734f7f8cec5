"""AUROC and AUPRC of each class where smears are weighted at will, for bootstraps over smears.

A bootstrap asks for the scores of thousands of weightings of the same cells. For AUROC pairs of cells in order are
counted once, by the smears that they are from, and then only weighed; for AUPRC the cells down to each score are.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from rbcnb.columns import GROUP, TARGET, classes_of_predictions, prob_columns
from rbcnb.evaluation.inference import (
    N_BOOTSTRAP,
    Difference,
    interval_of_draws,
    repetitions_of,
    require_comparable,
    whole_and_draws,
)

_AT_ONCE = 256  # draws, so that many cells need no more memory


def mean_of_defined(by_class: np.ndarray) -> np.ndarray:
    """Means [...] over the classes of *by_class* [..., C] that have a score; NaN where none has."""
    defined = ~np.isnan(by_class)
    with np.errstate(invalid="ignore"):
        return np.where(defined, by_class, 0).sum(axis=-1) / defined.sum(axis=-1)


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


def average_precision(score: np.ndarray, is_class: np.ndarray, groups: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Average precision [B] of one class against the rest, steps without interpolation, on groups weighted at will.

    Args:
        score: [N], higher for the class; equal ones are one step.
        is_class: [N] bool.
        groups: [N] int, 0 to G - 1.
        weights: of the groups, [B, G], not negative.

    Returns:
        As scikit-learn's ``average_precision_score`` with sample weights; NaN where the class or the rest has none.
    """
    order = np.argsort(-score, kind="stable")
    last = np.append(np.flatnonzero(np.diff(score[order])), len(score) - 1)  # of each run of equal scores
    member = np.eye(weights.shape[1])[groups[order]]
    down_to = (member * is_class[order, None]).cumsum(axis=0)[last]  # cells of the class per group, [steps, G]
    gains = np.diff(down_to.sum(axis=1), prepend=0) > 0
    of_class, of_all = (np.ascontiguousarray(table[gains].T) for table in (down_to, member.cumsum(axis=0)[last]))
    area = np.empty(len(weights))
    for start in range(0, len(weights), _AT_ONCE):
        part = slice(start, start + _AT_ONCE)
        hits, precision = weights[part] @ of_class, weights[part] @ of_all  # [B, steps on which the class gains]
        np.divide(hits, precision, out=precision, where=precision > 0)
        area[part] = (np.diff(hits, axis=1, prepend=0) * precision).sum(axis=1)
    positives, whole = weights @ down_to[-1], weights @ member.sum(axis=0)
    return np.divide(area, positives, out=np.full_like(positives, np.nan), where=(positives > 0) & (positives < whole))


class Rankings:
    """How well probabilities rank cells: predictions of the same cells, a table per seed, on smears weighted at will.

    As in `rbcnb.evaluation.score_predictions` a class without a cell, or without a cell of another, has no score (NaN).
    """

    def __init__(self, predictions: Sequence[pd.DataFrame]) -> None:
        self.classes = classes_of_predictions(predictions[0].columns)
        self.groups, names = pd.factorize(predictions[0][GROUP], sort=True)
        self.n_groups = len(names)
        self.is_class = predictions[0][TARGET].to_numpy()[:, None] == np.array(self.classes)  # [N, C]
        self.probs = [table[prob_columns(self.classes)].to_numpy(dtype=float) for table in predictions]

    def auroc(self, weights: np.ndarray) -> np.ndarray:
        """AUROC of each class, [B, S, C], where each group counts as often as *weights* [B, G] say."""
        member = np.eye(self.n_groups)[self.groups]
        positives, negatives = self.is_class.T @ member, ~self.is_class.T @ member  # cells [C, G]
        of_all = (weights @ positives.T) * (weights @ negatives.T)  # [B, C]
        found = np.full((len(weights), len(self.probs), len(self.classes)), np.nan)
        for s, probs in enumerate(self.probs):
            for c, (score, is_class) in enumerate(zip(probs.T, self.is_class.T, strict=True)):
                pairs = concordant_pairs(score, is_class, self.groups, n_groups=self.n_groups)
                in_order = ((weights @ pairs) * weights).sum(axis=1)
                np.divide(in_order, of_all[:, c], out=found[:, s, c], where=of_all[:, c] > 0)
        return found

    def auprc(self, weights: np.ndarray) -> np.ndarray:
        """Average precision of each class, [B, S, C], on groups weighted as for `auroc`."""
        found = np.empty((len(weights), len(self.probs), len(self.classes)))
        for s, probs in enumerate(self.probs):
            for c, (score, is_class) in enumerate(zip(probs.T, self.is_class.T, strict=True)):
                found[:, s, c] = average_precision(score, is_class, self.groups, weights)
        return found


def ranking_differences(
    first: Sequence[pd.DataFrame], second: Sequence[pd.DataFrame], *, seed: int, n_bootstrap: int = N_BOOTSTRAP
) -> dict[str, Difference]:
    """``auprc``, ``auroc`` and these of each class (``auroc_<class>``): *first* minus *second*, over smears and seeds.

    Each score is that of a seed's pooled cells, ranked together; arguments and interval are those of
    `rbcnb.evaluation.inference.paired_difference`, which has the scores of decisions.

    Raises:
        ValueError: as `rbcnb.evaluation.inference.require_comparable`.
    """
    require_comparable(first, second)
    sides = Rankings(first), Rankings(second)
    weights = whole_and_draws(sides[0].n_groups, seed=seed, n_bootstrap=n_bootstrap)
    gaps = {}
    for score in ("auprc", "auroc"):
        left, right = (getattr(side, score)(weights) for side in sides)
        gaps[score] = mean_of_defined(left) - mean_of_defined(right)
        gaps |= {f"{score}_{name}": left[..., c] - right[..., c] for c, name in enumerate(sides[0].classes)}
    options = {"n_groups": sides[0].n_groups, "repetitions": repetitions_of(first)}
    return {name: interval_of_draws(gap, **options) for name, gap in gaps.items()}
