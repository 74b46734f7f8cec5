"""From scores to statements: paired differences with intervals, and a verdict computed from them.

The unit of chance is the smear (its cells share stain, focus and reader) and the seed: both are drawn anew.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import stats

from rbcnb.columns import CELL, GROUP, PRED, SMEAR, TARGET, classes_of_predictions

N_BOOTSTRAP = 2000
SUPPORTED, NOT_SUPPORTED, INCONCLUSIVE = "supported", "not supported", "inconclusive"
NOT_JUDGED = "one run, not judged"  # nobody knows how far another seed would have fallen


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
    """Macro F1 of *first* minus *second*, seed by seed on the same cells, with a t interval over smears and seeds.

    Both methods meet the same smears and seeds, so what a hard smear or a lucky seed does to both cancels. The variance
    of the mean has two parts: of smears, by a bootstrap over groups, times G / (G - 1); of seeds, the sample variance
    of the seeds' differences over S. Degrees of freedom by Satterthwaite. A plain percentile bootstrap would be too
    narrow with a handful of smears and seeds. With one seed the second part is unknown and the interval covers smears
    alone; `judge_gain` and `judge_alike` then refuse.

    Args:
        first: predictions tables, one per seed.
        second: the rival's, in the same order of seeds.
        seed: of the bootstrap.
        level: coverage of the interval.
        n_bootstrap: draws.

    Raises:
        ValueError: the tables do not speak of the same cells, the seeds do not pair, or there is one group only.
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
    if n_groups < 2:
        raise ValueError("the held-out cells are of one smear: no interval over smears; add smears")
    by_seed = macro_f1_of_counts(one.sum(axis=1)) - macro_f1_of_counts(other.sum(axis=1))

    rng = np.random.default_rng(seed)
    weights = rng.multinomial(n_groups, np.full(n_groups, 1 / n_groups), size=n_bootstrap).astype(float)
    drawn = [macro_f1_of_counts(np.einsum("bg,sgij->bsij", weights, stack)) for stack in (one, other)]
    of_groups = float(np.var((drawn[0] - drawn[1]).mean(axis=1))) * n_groups / (n_groups - 1)
    of_seeds = float(np.var(by_seed, ddof=1)) / n_seeds if n_seeds > 1 else 0.0
    reach = 0.0
    if variance := of_groups + of_seeds:
        freedom = variance**2 / (of_groups**2 / (n_groups - 1) + of_seeds**2 / max(1, n_seeds - 1))
        reach = float(stats.t.ppf((1 + level) / 2, freedom)) * math.sqrt(variance)
    mean = float(by_seed.mean())
    return Difference(mean, mean - reach, mean + reach, level, n_seeds, n_groups)


def judge_gain(difference: Difference, *, margin: float) -> str:
    """Whether "the first is better" is supported, not supported, or left open by an interval.

    Supported: the interval lies above 0 and reaches *margin*. Not supported: it excludes a gain of *margin*. Otherwise
    inconclusive: the data allow both a gain worth having and none. A single run is not judged.
    """
    if difference.n_seeds < 2:
        return NOT_JUDGED
    if difference.high < margin:
        return NOT_SUPPORTED
    return SUPPORTED if difference.low > 0 else INCONCLUSIVE


def judge_alike(difference: Difference, *, margin: float) -> str:
    """Whether "the two are in line" is supported: the interval lies within +-*margin*; not: wholly outside."""
    if difference.n_seeds < 2:
        return NOT_JUDGED
    if -margin < difference.low and difference.high < margin:
        return SUPPORTED
    return NOT_SUPPORTED if difference.low > margin or difference.high < -margin else INCONCLUSIVE
