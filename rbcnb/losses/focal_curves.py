"""The focal loss as plain arithmetic on probabilities, for curves and lessons; needs no torch."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from rbcnb.columns import LABEL


def focal_curve(p_t: np.ndarray | float, *, alpha: float = 1.0, gamma: float = 2.0) -> np.ndarray:
    """Focal loss, Eq. (4) (Lin et al. 2020): ``-alpha (1 - p_t)^gamma log p_t``, in nats.

    At alpha = 1 and gamma = 0 it is cross entropy, Eq. (1).

    Args:
        p_t: probability of the true class, in (0, 1], of any shape.
        alpha: weight of the loss.
        gamma: focusing parameter, 0 or more.

    Returns:
        float64, of the shape of *p_t*.
    """
    p_t = np.asarray(p_t, dtype=float)
    return -alpha * (1 - p_t) ** gamma * np.log(p_t)


def modulating_factor(p_t: np.ndarray | float, *, gamma: float = 2.0) -> np.ndarray:
    """``(1 - p_t)^gamma``, section 3.2: what focal loss multiplies cross entropy by; 1 everywhere at gamma = 0."""
    return (1 - np.asarray(p_t, dtype=float)) ** gamma


def focal_gradient(p_t: np.ndarray | float, *, alpha: float = 1.0, gamma: float = 2.0) -> np.ndarray:
    """How hard a cell pulls: ``|dFL/dx_t|``, x_t the logit of its true class, at *p_t* in (0, 1].

    From ``dFL/dx_j = c (p_j - [j = t])`` with ``c = alpha q^(gamma - 1) (q - gamma p_t log p_t)`` and q = 1 - p_t. The
    other logits together are pushed as hard the other way, so this is half the sum of all |dFL/dx_j|, for any number of
    classes. At gamma = 0 it is alpha (1 - p_t).
    """
    p_t = np.asarray(p_t, dtype=float)
    q = 1 - p_t
    return alpha * q**gamma * (q - gamma * p_t * np.log(p_t))


def group_shares(
    n_cells: Sequence[float], p_t: Sequence[float], gammas: Sequence[float]
) -> tuple[np.ndarray, np.ndarray]:
    """Which shares of a batch's total loss and gradient its groups bring, all cells of a group having the same p_t.

    A scalar alpha cancels.

    Args:
        n_cells: [G] cells of each group, or their shares of the batch.
        p_t: [G] probability of the true class.
        gammas: [K] focusing parameters.

    Returns:
        loss shares and gradient shares, each [K, G], rows summing to 1. Gradients are counted as `focal_gradient`: how
        hard the cells pull, whichever way.
    """
    counts, p_t, gammas = (np.asarray(values, dtype=float) for values in (n_cells, p_t, gammas))
    totals = [counts * of(p_t[None, :], gamma=gammas[:, None]) for of in (focal_curve, focal_gradient)]
    loss, gradient = (total / total.sum(axis=1, keepdims=True) for total in totals)
    return loss, gradient


def loss_shares(counts: Mapping[str, int], p_t: Mapping[str, float], gammas: Sequence[float]) -> pd.DataFrame:
    """`group_shares` of classes as a table: section 3.2 argues that many easy cells may outweigh a few hard ones.

    Args:
        counts: class -> cells.
        p_t: class -> probability of the true class.
        gammas: focusing parameters.

    Returns:
        ``gamma``, ``label``, ``n_cells``, ``p_t``, ``share`` (of the loss) and ``gradient_share``; shares sum to 1 for
        each gamma.
    """
    loss, gradient = group_shares(list(counts.values()), [p_t[name] for name in counts], gammas)
    rows = [
        {
            "gamma": gamma,
            LABEL: name,
            "n_cells": counts[name],
            "p_t": p_t[name],
            "share": loss[k, g],
            "gradient_share": gradient[k, g],
        }
        for k, gamma in enumerate(gammas)
        for g, name in enumerate(counts)
    ]
    return pd.DataFrame(rows)
