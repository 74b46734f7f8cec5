"""Many tests at once: p values adjusted for their number; a NaN (not tested) stays one and counts for nothing."""

from collections.abc import Sequence

import numpy as np
from scipy import stats


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
