"""Fig. 13 with intervals: relative improvement of one method over another in percent, over smears and seeds."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from rbcnb.columns import SCORES
from rbcnb.evaluation.inference import (
    N_BOOTSTRAP,
    OF_COUNTS,
    Difference,
    interval_of_draws,
    paired_counts,
    repetitions_of,
    weighted_score,
    whole_and_draws,
)
from rbcnb.evaluation.rankings import Rankings, mean_of_defined

Sides = tuple[Sequence[pd.DataFrame], Sequence[pd.DataFrame]]  # predictions of two methods, a table per seed


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


@dataclass(frozen=True)
class RelativeGain:
    """A relative improvement in percent, as its interval is made of it."""

    draws: np.ndarray  # [1 + B, S]: its linear part by seed; below it draws of smears, alike for all seeds
    n_groups: int
    repetitions: np.ndarray  # of the seeds, [S]

    def interval(self) -> Difference:
        """The improvement with its 95 % interval over smears and seeds."""
        return interval_of_gains([(1.0, self)])


def interval_of_gains(terms: Sequence[tuple[float, RelativeGain]]) -> Difference:
    """A sum of gains times factors, with its 95 % interval: their difference, their mean, their slope along a ladder.

    Args:
        terms: factors and gains, of the same seeds and smears, drawn with the same seed.

    Raises:
        ValueError: they do not have the same seeds and smears.
    """
    first = terms[0][1]
    if any((gain.draws.shape, gain.n_groups) != (first.draws.shape, first.n_groups) for _, gain in terms):
        raise ValueError("gains do not have the same seeds and smears")
    values = sum(factor * gain.draws for factor, gain in terms)
    return interval_of_draws(values, n_groups=first.n_groups, repetitions=first.repetitions)


def relative_gain(pairs: Sequence[Sides], *, score: str, seed: int, n_bootstrap: int = N_BOOTSTRAP) -> RelativeGain:
    """Improvement of the first of two methods over the second, percent, a mean over architectures.

    As in Fig. 13 the ratio is that of means over seeds, each seed's score being that of its pooled cells. Its variance
    over seeds is that of the ratio's linear part, (a_s - (1 + r) b_s) / mean b (the delta method); over smears it is
    that of a bootstrap that architectures share.

    Args:
        pairs: per architecture the predictions of both methods, the same test cells throughout.
        score: one of `rbcnb.columns.SCORES`. AUROC ranks the cells of pooled outer splits together, as Fig. 10 does.
        seed: of the bootstrap.
        n_bootstrap: draws.

    Raises:
        ValueError: as `rbcnb.evaluation.inference.require_comparable`, or architectures have other numbers of seeds.
    """
    if score not in SCORES:
        raise ValueError(f"no relative improvement of {score!r}; known: {', '.join(SCORES)}")
    counts = [paired_counts(*pair) for pair in pairs]
    shapes = {of_first.shape[:2] for of_first, _ in counts}
    if len(shapes) > 1:
        raise ValueError("architectures do not have the same seeds and smears")
    ((n_seeds, n_groups),) = shapes
    weights = whole_and_draws(n_groups, seed=seed, n_bootstrap=n_bootstrap)
    values = np.zeros((len(weights), n_seeds))
    for pair, stacks in zip(pairs, counts, strict=True):
        if score in OF_COUNTS:
            first, second = (weighted_score(stack, weights, score=score) for stack in stacks)
        else:
            first, second = (mean_of_defined(Rankings(tables).auroc(weights)) for tables in pair)
        a, b = first[0], second[0]
        ratio = a.mean() / b.mean()
        by_seed = ratio - 1 + (a - ratio * b) / b.mean()
        drawn = first[1:].mean(axis=1) / second[1:].mean(axis=1) - 1
        values += 100 * np.vstack([by_seed, np.repeat(drawn[:, None], n_seeds, axis=1)]) / len(pairs)
    return RelativeGain(values, n_groups, repetitions_of(pairs[0][0]))
