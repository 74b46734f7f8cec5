"""What choosing the best of several runs does by itself, when all of them are equally good.

The best of k runs is lucky on average, and its luck is reported as if it were skill. The gain grows with the spread of
the runs and with k, and needs no method that is better than another. On new cells, or with a new seed, it is gone.
"""

import numpy as np
from scipy.special import ndtr

# Gauss and Hermite's rule for means over a standard normal: within 1e-8 of adaptive quadrature up to k = 20.
NODES, WEIGHTS = np.polynomial.hermite_e.hermegauss(80)
WEIGHTS = WEIGHTS / WEIGHTS.sum()
NODES, WEIGHTS = NODES[WEIGHTS > 1e-14], WEIGHTS[WEIGHTS > 1e-14]  # the rest is below rounding


def expected_best_of(k: int, sd: float = 1.0) -> float:
    """Expected gain of the best of *k* equal normal runs over one, exactly: sd times the mean of the largest of k."""
    return sd * float(k * WEIGHTS @ (NODES * ndtr(NODES) ** (k - 1)))


def chance_of_gain(gain: float | np.ndarray, k: int, sd: float) -> float | np.ndarray:
    """Chance that the best of *k* equal normal runs is at least *gain* (a number or [N]) above one run of a rival.

    At 0 it is k / (k + 1), for any distribution without ties: the rival must be the best of k + 1.
    """
    return 1 - ndtr(NODES + np.asarray(gain)[..., None] / sd) ** k @ WEIGHTS
