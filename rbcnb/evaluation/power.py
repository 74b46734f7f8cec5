"""How many seeds and smears the next study needs, from the two variances that a pilot shows."""

import math

import numpy as np
import pandas as pd
from scipy import stats

from rbcnb.evaluation.inference import ALIKE, EQUIVALENCE_SIZE, GAIN, Difference, freedom

POWER = 0.8  # that is planned for
CAUTION = 0.8  # about a pilot's variances, see `power_of`
MOST_SEEDS = 200
TIMES = (1, 2, 4)  # as many smears as the pilot had, and more


def power_of(
    pilot: Difference,
    *,
    margin: float,
    n_seeds: int,
    n_groups: int,
    goal: str = GAIN,
    caution: float = 0.5,
    n_tests: int = 1,
) -> float:
    """Chance that a study of *n_seeds* and *n_groups* smears reaches its goal.

    Seeds' variance shrinks as 1 / seeds, smears' as 1 / smears, whatever the other does: where few smears leave a wide
    interval, no number of seeds helps.

    Args:
        pilot: a difference with two seeds at least; its mean is not used, only how it scatters.
        margin: the gain to be found, or the half width of what counts as equal.
        n_seeds: of the study, 2 at least.
        n_groups: smears in its test set, 2 at least.
        goal: "gain": an interval above 0 where the true gain is *margin* (noncentral t). "alike": TOST at 5 % where
            the true difference is 0.
        caution: a pilot's variances are estimates. 0.5 takes them as they are; 0.8 takes their upper 80 % limit
            (Browne 1995), which with three seeds is 4.5 times the seeds' variance.
        n_tests: size of the family that a gain is tested in. Holm's first step asks the smallest p to be below
            5 % / *n_tests*; a gain that is not alone may pass a later, easier one, so that the power is at least this.
            TOST needs no adjustment (`rbcnb.evaluation.adjust_for_families`).

    Raises:
        ValueError: the pilot has a single seed, or *goal* is another.
    """
    if pilot.n_seeds < 2:
        raise ValueError("a pilot of one seed does not show how seeds scatter; give it two at least, better five")
    if goal not in (GAIN, ALIKE):
        raise ValueError(f"goal must be {GAIN} or {ALIKE}, got {goal!r}")
    of_seeds = pilot.of_seeds * _at_most(caution, pilot.n_seeds) * pilot.n_seeds / n_seeds
    of_groups = pilot.of_groups * _at_most(caution, pilot.n_groups) * pilot.n_groups / n_groups
    error = math.sqrt(of_seeds + of_groups)
    if error == 0:
        return 1.0
    dof = freedom(of_seeds, of_groups, n_seeds=n_seeds, n_groups=n_groups)
    if goal == ALIKE:
        # The mean is normal, its estimated error a scaled chi: averaged over 400 equally likely errors.
        errors = np.sqrt(stats.chi2.ppf((np.arange(400) + 0.5) / 400, dof) / dof)
        reach = margin / error - stats.t.ppf(1 - EQUIVALENCE_SIZE, dof) * errors
        return float(np.mean(np.maximum(0, 2 * stats.norm.cdf(reach) - 1)))
    critical = stats.t.isf((1 - pilot.level) / (2 * n_tests), dof)
    return float(stats.nct.sf(critical, dof, margin / error))


def plan_seeds(pilot: Difference, *, margin: float, goal: str = GAIN, n_tests: int = 1) -> pd.DataFrame:
    """The fewest seeds that give a power of `POWER`, by the number of smears.

    Args:
        pilot: a difference with two seeds at least; its variances are taken at their upper 80 % limit (`power_of`).
        margin: the gain to be found, or the half width of what counts as equal, in units of *pilot*'s score.
        goal: "gain": an interval above 0 where the true gain is *margin*. "alike": TOST at 5 % where the true
            difference is 0.
        n_tests: size of the family that a gain is tested in (Holm); TOST needs no adjustment.

    Returns:
        One row per number of smears (the pilot's, twice and four times as many): ``smears``, ``seeds`` (missing where
        `MOST_SEEDS` would not do), and ``power`` at that number of seeds, or at `MOST_SEEDS`.

    Raises:
        ValueError: the pilot has a single seed, or *goal* is another.
    """
    rows = []
    for smears in [pilot.n_groups * times for times in TIMES]:
        seeds = range(2, MOST_SEEDS + 1)
        options = {"margin": margin, "n_groups": smears, "goal": goal, "caution": CAUTION, "n_tests": n_tests}
        powers = np.array([power_of(pilot, n_seeds=n, **options) for n in seeds])
        enough = np.flatnonzero(powers >= POWER)
        at = int(enough[0]) if len(enough) else len(powers) - 1
        rows.append({"smears": smears, "seeds": seeds[at] if len(enough) else pd.NA, "power": float(powers[at])})
    return pd.DataFrame(rows).astype({"seeds": "Int64"})


def _at_most(caution: float, n: int) -> float:
    """By what to multiply a variance estimated from *n* units to have its upper limit at confidence *caution*."""
    return 1.0 if caution == 0.5 else (n - 1) / float(stats.chi2.ppf(1 - caution, n - 1))
