"""From what a network says to what is true: posteriors out of focal probabilities."""

import numpy as np


def focal_posterior(probs: np.ndarray, *, gamma: float) -> np.ndarray:
    """The posterior [..., C] at which focal loss is least when the network says *probs* [..., C].

    Charoenphakdee et al. (2021), On Focal Loss for Class-Posterior Probability Estimation, theorem 11.
    """
    probs = np.asarray(probs, dtype=float)
    q = 1 - probs
    with np.errstate(divide="ignore", invalid="ignore"):
        slope = q**gamma - gamma * q ** (gamma - 1) * probs * np.log(probs) if gamma else np.ones_like(probs)
    h = probs / slope
    return h / h.sum(axis=-1, keepdims=True)
