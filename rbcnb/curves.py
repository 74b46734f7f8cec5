"""The focal loss as plain arithmetic on probabilities, for curves and lessons; needs no torch."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from rbcnb.columns import LABEL


def focal_curve(p_t: np.ndarray | float, *, alpha: float = 1.0, gamma: float = 2.0) -> np.ndarray:
    """Eq. (4), ``-alpha (1 - p_t)^gamma log p_t``, at *p_t* in (0, 1]; gamma = 0 is cross entropy, Eq. (1)."""
    p_t = np.asarray(p_t, dtype=float)
    return -alpha * (1 - p_t) ** gamma * np.log(p_t)


def loss_shares(counts: Mapping[str, int], p_t: Mapping[str, float], gammas: Sequence[float]) -> pd.DataFrame:
    """Which share of a batch's total loss each class brings, when all its cells have the same p_t.

    A scalar alpha cancels. Section 3.2 of the paper argues from this: many easy cells may outweigh a few hard ones.

    Args:
        counts: class -> cells.
        p_t: class -> probability of the true class.
        gammas: focusing parameters.

    Returns:
        ``gamma``, ``label``, ``n_cells``, ``p_t``, ``share`` (sums to 1 for each gamma).
    """
    rows = []
    for gamma in gammas:
        losses = {name: n * float(focal_curve(p_t[name], gamma=gamma)) for name, n in counts.items()}
        total = sum(losses.values())
        rows += [
            {"gamma": gamma, LABEL: name, "n_cells": counts[name], "p_t": p_t[name], "share": loss / total}
            for name, loss in losses.items()
        ]
    return pd.DataFrame(rows)
