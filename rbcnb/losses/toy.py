"""A toy of the paper's problem: two measurements of a cell, three classes, of which one is the majority.

Each class is a round Gaussian, so the true posterior is known, and no loss can be praised for what only luck gave it.
"""

import numpy as np
from scipy.special import softmax

from rbcnb.columns import CLASSES, CODOCYTE, HYPOCHROMIA, NORMAL

# Centre (first and second measurement) and standard deviation of each class, in standard deviations of normal cells.
BLOBS = {CODOCYTE: (1.9, 0.9, 0.8), HYPOCHROMIA: (-0.6, 2.1, 0.8), NORMAL: (0.0, 0.0, 1.0)}

EXTENT = (-3.2, 4.4, -3.2, 4.6)  # of a picture that shows nearly all cells: left, right, bottom, top


def toy_prior(majority: float) -> np.ndarray:
    """[3] shares of ``CLASSES``: *majority* for normal cells, the rest in halves. The paper's 10:10:80 is 0.8."""
    return np.array([majority if name == NORMAL else (1 - majority) / 2 for name in CLASSES])


def sample_toy(n_cells: int, *, majority: float = 0.8, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Draws cells of the toy's three classes.

    Args:
        n_cells: how many; each class has its share of them, rounded, and at least two.
        majority: share of normal cells, 0 to 1; the other two classes share the rest equally.
        seed: of the draw.

    Returns:
        measurements [N, 2] and targets [N], indices into ``CLASSES``.
    """
    rng = np.random.default_rng(seed)
    counts = np.maximum(np.round(toy_prior(majority) * n_cells).astype(int), 2)
    targets = rng.permutation(np.repeat(np.arange(len(CLASSES)), counts))
    blobs = np.array([BLOBS[name] for name in CLASSES])[targets]
    return blobs[:, :2] + blobs[:, 2:] * rng.normal(size=(len(targets), 2)), targets


def toy_posterior(x: np.ndarray, *, majority: float = 0.8) -> np.ndarray:
    """The true probabilities [N, 3] of ``CLASSES``: Bayes' rule on the known Gaussians.

    Args:
        x: measurements [N, 2], in standard deviations of normal cells.
        majority: share of normal cells, between 0 and 1; the other two classes share the rest equally.
    """
    blobs = np.array([BLOBS[name] for name in CLASSES])
    distance = ((x[:, None, :] - blobs[None, :, :2]) ** 2).sum(axis=2) / (2 * blobs[:, 2] ** 2)
    log_joint = np.log(toy_prior(majority)) - distance - 2 * np.log(blobs[:, 2])
    return softmax(log_joint, axis=1)


def flip_labels(targets: np.ndarray, *, noise: float, seed: int) -> np.ndarray:
    """*targets* with the share *noise* of them, drawn at random, replaced by one of the other classes."""
    rng = np.random.default_rng(seed)
    wrong = rng.permutation(len(targets))[: round(noise * len(targets))]
    flipped = targets.copy()
    flipped[wrong] = (targets[wrong] + rng.integers(1, len(CLASSES), len(wrong))) % len(CLASSES)
    return flipped


def toy_grid(side: int = 90) -> np.ndarray:
    """[side * side, 2] measurements over ``EXTENT``, row by row from the bottom."""
    left, right, bottom, top = EXTENT
    x, y = np.meshgrid(np.linspace(left, right, side), np.linspace(bottom, top, side))
    return np.stack([x.ravel(), y.ravel()], axis=1)
