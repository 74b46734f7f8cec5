"""Fig. 13 with intervals: relative improvement of one method over another in percent, over smears and seeds.

A bootstrap over smears asks for the AUROC of many weightings of the same cells: `MacroAuroc` counts pairs of cells in
order once, by the smears that they are from, and then only weighs them.
"""

from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd

from rbcnb.columns import GROUP, SCORES, TARGET, classes_of_predictions, prob_columns
from rbcnb.evaluation.inference import (
    N_BOOTSTRAP,
    Difference,
    draw_groups,
    interval_of,
    macro_f1_of_counts,
    paired_counts,
    repetitions_of,
)

Sides = tuple[Sequence[pd.DataFrame], Sequence[pd.DataFrame]]  # predictions of two methods, a table per seed
Measure = Callable[[np.ndarray], np.ndarray]  # weights of groups [B, G] -> a score per draw and seed [B, S]
_OF_COUNTS = {
    "accuracy": lambda counts: np.trace(counts, axis1=-2, axis2=-1) / counts.sum(axis=(-2, -1)),
    "macro_f1": macro_f1_of_counts,
}


def relative_improvement(table3: pd.DataFrame) -> pd.DataFrame:
    """Fig. 13: (focal - cross entropy) / cross entropy in percent, averaged over architectures.

    Args:
        table3: columns rho, architecture, method, accuracy, macro_f1, auroc, as Table 3. Repeated rows (draws, seeds)
            are averaged before the ratio is taken; methods other than focal and cross_entropy are left out.

    Returns:
        rho, accuracy, macro_f1, auroc in percent, one row per rho, ascending. Scores printed to two decimals leave up
        to one point of doubt in it. A score that is missing (AUROC without both sides) stays missing.

    Raises:
        ValueError: one of the two methods is missing for some rho and architecture.
    """
    pair = table3[table3["method"].isin(["focal", "cross_entropy"])]
    if pair.empty or (pair.groupby(["rho", "architecture"])["method"].nunique() < 2).any():
        raise ValueError("every rho and architecture needs rows of both methods, focal and cross_entropy, with scores")
    means = pair.pivot_table(index=["rho", "architecture"], columns="method", values=list(SCORES), dropna=False)
    change = {score: 100 * (means[score, "focal"] / means[score, "cross_entropy"] - 1) for score in SCORES}
    return pd.DataFrame(change).groupby("rho").mean().reset_index()


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

        As in `rbcnb.evaluation.score_predictions` a class without a cell, or without a cell of another, is left out of
        the mean; NaN where that leaves none.
        """
        in_order = np.einsum("bscg,bg->bsc", np.tensordot(weights, self.pairs, axes=(1, 2)), weights)
        of_all = ((weights @ self.own.T) * (weights @ self.rest.T))[:, None, :]
        share = np.divide(in_order, of_all, out=np.zeros_like(in_order), where=of_all > 0)
        with np.errstate(invalid="ignore"):
            return share.sum(axis=-1) / (of_all > 0).sum(axis=-1)


def relative_gain(pairs: Sequence[Sides], *, score: str, seed: int, n_bootstrap: int = N_BOOTSTRAP) -> Difference:
    """Improvement of the first of two methods over the second, percent, a mean over architectures; 95 % interval.

    As in Fig. 13 the ratio is that of means over seeds. Its variance over seeds is that of the ratio's linear part,
    (a_s - (1 + r) b_s) / mean b (the delta method); over smears it is that of a bootstrap that architectures share.

    Args:
        pairs: per architecture the predictions of both methods, the same test cells throughout.
        score: one of `rbcnb.columns.SCORES`. AUROC ranks the cells of pooled outer splits together, as Fig. 10 does.
        seed: of the bootstrap.
        n_bootstrap: draws; one in which all cells are of one class has no AUROC and is left out.

    Raises:
        ValueError: as `rbcnb.evaluation.inference.paired_counts`, or architectures have other numbers of seeds.
    """
    shapes, measured = [], []
    for pair in pairs:
        counts = paired_counts(*pair)
        shapes.append(counts[0].shape[:2])
        measured.append([_measure(*side, score) for side in zip(pair, counts, strict=True)])
    n_seeds, n_groups = shapes[0]
    if any(shape != (n_seeds, n_groups) for shape in shapes):
        raise ValueError("architectures do not have the same seeds and smears")
    weights = draw_groups(n_groups, seed=seed, n_bootstrap=n_bootstrap)
    by_seed, drawn = np.zeros(n_seeds), np.zeros(n_bootstrap)
    for sides in measured:
        a, b = (measure(np.ones((1, n_groups)))[0] for measure in sides)
        ratio = a.mean() / b.mean()
        by_seed += 100 * (ratio - 1 + (a - ratio * b) / b.mean()) / len(measured)
        one, other = (measure(weights).mean(axis=1) for measure in sides)
        drawn += 100 * (one / other - 1) / len(measured)
    told = ~np.isnan(drawn)
    options = {"n_groups": n_groups, "repetitions": repetitions_of(pairs[0][0])}
    return interval_of(by_seed, drawn[told] if told.any() else drawn, **options)


def _measure(tables: Sequence[pd.DataFrame], counts: np.ndarray, score: str) -> Measure:
    """A method's *score* from its predictions and their confusion counts [S, G, C, C]."""
    if score not in SCORES:
        raise ValueError(f"no relative improvement of {score!r}; known: {', '.join(SCORES)}")
    if score == "auroc":
        return MacroAuroc(tables)
    return lambda weights: _OF_COUNTS[score](np.tensordot(weights, counts, axes=(1, 1)))
