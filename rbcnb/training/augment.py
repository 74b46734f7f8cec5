"""Turned and mirrored cells: once for the copies of over-sampling (section 4.2), or at random in every batch."""

import numpy as np
import torch
from fastai.vision.all import Transform
from torch import Tensor

from rbcnb._utils.opencv import cv2
from rbcnb.paper import SETTINGS

MAX_ROTATION_DEG = SETTINGS["rotation_degrees"]


def rotate_flip(crops: np.ndarray, *, seed: int) -> np.ndarray:
    """The augmentation of over-sampling (section 4.2): rotation by -15 to 15 degrees, flips left-right and up-down.

    Args:
        crops: uint8 [N, S, S, 3]; what turns in from outside is zero, like the padding of Algorithm 1.
        seed: of angles and flips.

    Returns:
        A new uint8 array of the same shape.
    """
    rng = np.random.default_rng(seed)
    size = crops.shape[1]
    centre = ((size - 1) / 2, (size - 1) / 2)
    angles = rng.uniform(-MAX_ROTATION_DEG, MAX_ROTATION_DEG, len(crops))
    flips = rng.random((len(crops), 2)) < 0.5
    out = np.empty_like(crops)
    for i, (angle, (left_right, up_down)) in enumerate(zip(angles, flips, strict=True)):
        turned = cv2.warpAffine(crops[i], cv2.getRotationMatrix2D(centre, angle, 1.0), (size, size))
        out[i] = turned[:: -1 if up_down else 1, :: -1 if left_right else 1]
    return out


class SeededGenerator:
    """A `torch.Generator` on the CPU that can be pickled; the copy begins at the seed again."""

    def __init__(self, seed: int) -> None:
        self.seed, self.torch = seed, torch.Generator().manual_seed(seed)

    def __reduce__(self) -> tuple[type, tuple[int]]:
        return SeededGenerator, (self.seed,)


class FlipsTurns(Transform):
    """Each training crop in one of the square's eight positions, drawn for every batch.

    Quarter turns and mirror images move pixels and change none: nothing is interpolated, no corner is filled. A cell on
    a slide has no upper side.

    Args:
        seed: of the draws.
    """

    order = 0  # before crops become normalised images
    split_idx = 0  # training batches, and fastai's test-time augmentation

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.generator = SeededGenerator(seed)

    def encodes(self, crops: Tensor) -> Tensor:
        """uint8 crops [N, S, S, 3] to turned ones; other tensors pass."""
        if crops.dtype != torch.uint8 or crops.ndim != 4:
            return crops
        return turn_each(crops, torch.randint(8, crops.shape[:1], generator=self.generator.torch))


def turn_each(crops: Tensor, positions: Tensor) -> Tensor:
    """Crops [N, S, S, C], each put in its position of the square, *positions* being integers [N] from 0 to 7.

    The lowest bit of a position mirrors left-right, the next up-down, the third swaps rows and columns.
    """
    out = torch.empty_like(crops)
    for position in range(8):
        rows = torch.nonzero(positions == position).flatten().to(crops.device)
        if not len(rows):
            continue
        chosen = crops.index_select(0, rows)
        axes = [axis for bit, axis in ((1, 2), (2, 1)) if position & bit]
        chosen = chosen.flip(axes) if axes else chosen
        out.index_copy_(0, rows, chosen.transpose(1, 2) if position & 4 else chosen)
    return out
