"""Two methods, fit by fit: tests and effect sizes of their differences, and p values adjusted for many tests.

Each test speaks of the chance that it names, and of nothing more: seeds on these smears (`sign_flip`, `win_share`),
folds (`corrected_resampled_t`), cells (`mcnemar`). Seeds and smears together are `rbcnb.evaluation.inference`'s. `holm`
and `benjamini_hochberg` adjust the p values of a family.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import stats

from rbcnb.columns import PRED, TARGET
from rbcnb.evaluation.inference import LEVEL, require_same_cells

N_FLIPS = 2**16  # all signs of up to 16 differences


def sign_flip(differences: Sequence[float], *, seed: int = 0) -> float:
    """Two-sided p of a mean of differences, one per seed, under flips of their signs: exact where seeds are few.

    Valid where each difference is symmetric about 0 if the methods are equal, as it is when they may trade places; no
    normality is asked for. With n seeds p cannot be below 2 / 2^n: 0.25 with three, 0.0625 with five, so that fewer
    than six seeds never reach 0.05. Over seeds it speaks of other seeds on *these* smears: meant for other smears it is
    far too sure, and calls equal methods different in 11 to 54 % with ten seeds (benchmarks/coverage.py).

    Args:
        differences: one per seed. Up to 16 all signs are tried; beyond, `N_FLIPS` random ones, and the observed one
            counted with them.
        seed: of the random signs.

    Returns:
        p; NaN for fewer than two seeds, or where a difference is NaN.
    """
    d = np.asarray(differences, dtype=float)
    if len(d) < 2 or np.isnan(d).any():
        return math.nan
    total = np.abs(d).sum() or 1.0

    def mean(flipped: np.ndarray, axis: int) -> np.ndarray:
        # Means that are equal in exact arithmetic must tie, whatever the order of adding.
        return (flipped.sum(axis=axis) / total).round(12)

    return float(
        stats.permutation_test(
            (d,), mean, permutation_type="samples", vectorized=True, n_resamples=N_FLIPS, random_state=seed
        ).pvalue
    )


@dataclass(frozen=True)
class McNemar:
    """Cells that one of two fits has right and the other wrong, and the exact p of no difference."""

    first_only: int
    second_only: int
    p_value: float


def mcnemar_p(first_only: int, second_only: int) -> float:
    """Exact two-sided McNemar p: how unequal a fair coin would share out the cells that only one of two has right."""
    n = first_only + second_only
    return float(stats.binomtest(first_only, n).pvalue) if n else 1.0


def mcnemar(first: pd.DataFrame, second: pd.DataFrame) -> McNemar:
    """Exact McNemar test of two fits' accuracy on the same cells, two-sided (binomial, one half).

    It takes cells for independent and the two fits for the methods: it tells two *models* apart, not two methods, and
    is too sure where cells of a smear stand and fall together: on new smears, single fits of equal methods were called
    different in about 7 to 23 % (benchmarks/coverage.py).

    Raises:
        ValueError: the tables do not hold the same cells in the same order.
    """
    require_same_cells([first, second])
    right, also = ((table[PRED] == table[TARGET]).to_numpy() for table in (first, second))
    counts = int((right & ~also).sum()), int((~right & also).sum())
    return McNemar(*counts, mcnemar_p(*counts))


def d_z(differences: Sequence[float]) -> float:
    """Cohen's d_z: mean of differences, one per seed, over their sd (n - 1). NaN for one, or for differences all 0."""
    d = np.asarray(differences, dtype=float)
    if len(d) < 2 or not d.any():
        return math.nan
    return math.copysign(math.inf, d.mean()) if _alike(d) else float(d.mean() / d.std(ddof=1))


def _alike(d: np.ndarray) -> bool:
    """Whether differences scatter by no more than arithmetic does."""
    return np.ptp(d) <= 1e-12 * np.abs(d).max()


def win_share(differences: Sequence[float]) -> tuple[float, float, float]:
    """P(A > B): how often A beats B with the same seed, a tie as half, with its exact 95 % interval.

    Clopper and Pearson's: the lower limit counts ties as lost, the upper one as won, so that it holds its level with
    ties, too. Over seeds, on these smears: five wins of five are [0.48, 1].
    """
    d = np.asarray(differences, dtype=float)
    n, won, tied = len(d), int((d > 0).sum()), int((d == 0).sum())
    low = stats.binomtest(won, n).proportion_ci(method="exact").low
    high = stats.binomtest(won + tied, n).proportion_ci(method="exact").high
    return (won + tied / 2) / n, float(low), float(high)


@dataclass(frozen=True)
class ResampledT:
    """A corrected resampled t test."""

    mean: float
    low: float
    high: float
    t: float
    p_value: float


def corrected_resampled_t(differences: Sequence[float], *, n_train: float, n_test: float) -> ResampledT:
    """Nadeau and Bengio's t (2003) of differences on the folds of a (repeated) cross-validation.

    Training sets of folds overlap, so that differences go together and their plain variance over J is too small; theirs
    is (1/J + n_test/n_train) times the sample variance, on J - 1 degrees of freedom. On ten times five folds equal
    methods were called different in 3.0 % at a nominal 5 %, by the plain t test in 54.4 % (benchmarks/coverage.py).

    Args:
        differences: one per fold and repeat, J in all.
        n_train: cells (or smears, where folds are of smears) trained on per fold.
        n_test: of the same, held out per fold.

    Returns:
        The test, with a 95 % interval. Differences that do not scatter say nothing of chance: t and p are NaN, or 0 and
        1 if all are 0.

    Raises:
        ValueError: fewer than two differences.
    """
    d = np.asarray(differences, dtype=float)
    if len(d) < 2:
        raise ValueError(f"{len(d)} difference: a t test needs two at least")
    mean = float(d.mean())
    if _alike(d):
        return ResampledT(mean, mean, mean, *((math.nan, math.nan) if d.any() else (0.0, 1.0)))
    error = math.sqrt((1 / len(d) + n_test / n_train) * d.var(ddof=1))
    t = mean / error
    reach = float(stats.t.ppf((1 + LEVEL) / 2, len(d) - 1)) * error
    return ResampledT(mean, mean - reach, mean + reach, t, float(2 * stats.t.sf(abs(t), len(d) - 1)))


def holm(p_values: Sequence[float]) -> np.ndarray:
    """Holm's step-down adjustment (1979): reject where it is below alpha, and any false rejection has chance <= alpha.

    Whatever the dependence between the tests.
    """
    p = np.asarray(p_values, dtype=float)
    tested = ~np.isnan(p)
    order = np.argsort(p[tested])
    stepped = p[tested][order] * np.arange(tested.sum(), 0, -1)
    adjusted = np.empty(tested.sum())
    adjusted[order] = np.minimum(1, np.maximum.accumulate(stepped)) if len(order) else stepped
    result = np.full(len(p), np.nan)
    result[tested] = adjusted
    return result


def benjamini_hochberg(p_values: Sequence[float]) -> np.ndarray:
    """Benjamini and Hochberg's adjustment (1995): of what is below q, a share of q is false at most, on average.

    For independent or positively dependent tests, as differences on rungs of one ladder are.
    """
    p = np.asarray(p_values, dtype=float)
    tested = ~np.isnan(p)
    result = np.full(len(p), np.nan)
    if tested.any():
        result[tested] = stats.false_discovery_control(p[tested], method="bh")
    return result
