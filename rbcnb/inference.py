"""From scores to statements: paired differences with intervals, and a verdict computed from them.

The unit of chance is the smear (its cells share stain, focus and reader) and the seed: both are drawn anew.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from rbcnb.columns import CELL, GROUP, PRED, SMEAR, TARGET, classes_of_predictions

N_BOOTSTRAP = 2000
SUPPORTED, NOT_SUPPORTED, INCONCLUSIVE = "supported", "not supported", "inconclusive"


@dataclass(frozen=True)
class Difference:
    """A mean difference of scores with its interval."""

    mean: float
    low: float
    high: float
    level: float
    n_seeds: int
    n_groups: int


def confusion_stack(predictions: Sequence[pd.DataFrame], classes: Sequence[str]) -> np.ndarray:
    """Confusion counts [S, G, C, C] (seed, group, target, prediction) of S predictions tables of the same cells."""
    groups = sorted(predictions[0][GROUP].unique())
    stack = np.zeros((len(predictions), len(groups), len(classes), len(classes)))
    for seed, table in enumerate(predictions):
        codes = [
            pd.Categorical(table[column], categories=names).codes
            for column, names in ((GROUP, groups), (TARGET, classes), (PRED, classes))
        ]
        np.add.at(stack[seed], tuple(codes), 1)
    return stack


def macro_f1_of_counts(counts: np.ndarray) -> np.ndarray:
    """Macro F1 [...] of confusion counts [..., C, C]; a class neither targeted nor predicted is left out."""
    hits = np.diagonal(counts, axis1=-2, axis2=-1)
    total = counts.sum(axis=-1) + counts.sum(axis=-2)
    with np.errstate(invalid="ignore"):
        return np.nanmean(np.where(total > 0, 2 * hits / np.where(total > 0, total, 1), np.nan), axis=-1)


def paired_macro_f1(
    first: Sequence[pd.DataFrame],
    second: Sequence[pd.DataFrame],
    *,
    seed: int,
    level: float = 0.95,
    n_bootstrap: int = N_BOOTSTRAP,
) -> Difference:
    """Macro F1 of *first* minus *second*, seed by seed on the same cells, with a bootstrap percentile interval.

    Smears (``group``) and seeds are drawn anew with replacement, both methods alike, so that what a hard smear or a
    lucky seed does to both of them cancels.

    Args:
        first: predictions tables, one per seed.
        second: the rival's, in the same order of seeds.
        seed: of the bootstrap.
        level: coverage of the interval.
        n_bootstrap: draws.

    Raises:
        ValueError: the tables do not speak of the same cells, or the seeds do not pair.
    """
    if len(first) != len(second) or not first:
        raise ValueError(f"seeds do not pair: {len(first)} tables against {len(second)}")
    where = first[0][[SMEAR, CELL]].reset_index(drop=True)
    for table in (*first, *second):
        if not table[[SMEAR, CELL]].reset_index(drop=True).equals(where):
            raise ValueError("the predictions tables do not hold the same cells in the same order")
    classes = classes_of_predictions(first[0].columns)
    one, other = confusion_stack(first, classes), confusion_stack(second, classes)
    n_seeds, n_groups = one.shape[:2]
    mean = (macro_f1_of_counts(one.sum(axis=1)) - macro_f1_of_counts(other.sum(axis=1))).mean()

    rng = np.random.default_rng(seed)
    weights = rng.multinomial(n_groups, np.full(n_groups, 1 / n_groups), size=n_bootstrap).astype(float)
    seeds = rng.integers(n_seeds, size=(n_bootstrap, n_seeds))
    drawn = [np.einsum("bg,sgij->bsij", weights, stack) for stack in (one, other)]
    by_seed = macro_f1_of_counts(drawn[0]) - macro_f1_of_counts(drawn[1])
    draws = np.take_along_axis(by_seed, seeds, axis=1).mean(axis=1)
    low, high = np.quantile(draws, [(1 - level) / 2, (1 + level) / 2])
    return Difference(float(mean), float(low), float(high), level, n_seeds, n_groups)


def judge_gain(difference: Difference, *, margin: float) -> str:
    """Whether "the first is better" is supported, not supported, or left open by an interval.

    Supported: the interval lies above 0 and reaches *margin*. Not supported: it excludes a gain of *margin*. Otherwise
    inconclusive: the data allow both a gain worth having and none.
    """
    if difference.high < margin:
        return NOT_SUPPORTED
    return SUPPORTED if difference.low > 0 else INCONCLUSIVE


def judge_alike(difference: Difference, *, margin: float) -> str:
    """Whether "the two are in line" is supported: the interval lies within +-*margin*; not: wholly outside."""
    if -margin < difference.low and difference.high < margin:
        return SUPPORTED
    return NOT_SUPPORTED if difference.low > margin or difference.high < -margin else INCONCLUSIVE
