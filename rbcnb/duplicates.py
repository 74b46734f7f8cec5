"""The same cell twice: near-duplicates among crops, in whatever turn, found without comparing all pairs.

Each crop is freed of its padding, brought to one size and one contrast (mean 0, length 1), and told by the lowest
coefficients of its cosine transform: their signs are its perceptual hash, and as the transform keeps distances, no two
crops lie nearer in the coefficients than in their pixels. So a search tree over the coefficients finds every pair that
is near in pixels, and the pixels then decide. Turns and flips only swap coefficients and change their signs.
"""

import cv2
import numpy as np
import pandas as pd
from scipy.spatial import cKDTree

from rbcnb.columns import CELL, GROUP, LABEL, SMEAR, SPLIT

SIDE_PX = 32  # to which the square of each cell is brought
LOW = 8  # cosine coefficients a side
TURNS = tuple((swap, down, right) for swap in (False, True) for down in (False, True) for right in (False, True))
MAX_DISTANCE = 0.15
TREE_AXES = 12
CHUNK = 20_000  # pairs whose pixels are compared at once
_ROUNDING = 1e-5  # of float32


def squares(crops: np.ndarray) -> np.ndarray:
    """Grey crops without their zero padding, at one size and contrast: float32 [N, SIDE_PX, SIDE_PX], mean 0, length 1.

    Args:
        crops: uint8 [N, S, S, 3], zero-padded as by `rbcnb.crops.crop_cells`. A crop of one shade becomes zeros.
    """
    out = np.zeros((len(crops), SIDE_PX, SIDE_PX), np.float32)
    for square, crop in zip(out, crops, strict=True):
        seen = crop.any(axis=2)
        if not seen.any():
            continue
        rows, columns = np.flatnonzero(seen.any(axis=1)), np.flatnonzero(seen.any(axis=0))
        cell = crop[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        grey = cv2.resize(cell, (SIDE_PX, SIDE_PX), interpolation=cv2.INTER_AREA).mean(axis=2)
        grey -= grey.mean()
        if length := np.linalg.norm(grey):
            square[:] = grey / length
    return out


def coefficients(square: np.ndarray) -> np.ndarray:
    """The LOW x LOW lowest coefficients [N, LOW, LOW] of the orthonormal cosine transform of `squares`."""
    k = np.arange(LOW)[:, None]
    basis = np.cos(np.pi * (2 * np.arange(SIDE_PX) + 1) * k / (2 * SIDE_PX)) * np.sqrt(2 / SIDE_PX)
    basis[0] /= np.sqrt(2)
    return basis @ square @ basis.T


def turned(grids: np.ndarray, turn: tuple[bool, bool, bool]) -> np.ndarray:
    """Squares or other pictures [N, K, K] turned or flipped: *turn* says swap axes, then flip down, then right."""
    swap, down, right = turn
    grids = grids.transpose(0, 2, 1) if swap else grids
    return grids[:, :: -1 if down else 1, :: -1 if right else 1]


def turned_coefficients(low: np.ndarray, turn: tuple[bool, bool, bool]) -> np.ndarray:
    """``coefficients(turned(square, turn))`` from ``coefficients(square)``: a flip changes every second sign."""
    swap, down, right = turn
    signs = (-1.0) ** np.arange(low.shape[1])
    low = low.transpose(0, 2, 1) if swap else low
    return low * (signs[:, None] if down else 1) * (signs if right else 1)


def near_pairs(crops: np.ndarray, *, max_distance: float = MAX_DISTANCE) -> pd.DataFrame:
    """All pairs of *crops* whose `squares`, in one of eight turns, lie within *max_distance*; none is missed.

    Args:
        crops: uint8 [N, S, S, 3].
        max_distance: between squares of length 1, 0 to 2; d is a correlation of 1 - d**2 / 2.

    Returns:
        One row per pair, nearest first: ``first`` < ``second`` (rows of *crops*), ``distance``, ``hash_bits`` (of the
        63 signs of the perceptual hash, how many differ) and ``turn`` (of the first; number in ``TURNS``, 0 for none).
    """
    square = squares(crops)
    low = coefficients(square)
    some = np.flatnonzero(np.linalg.norm(square, axis=(1, 2)) > 0.5)  # a crop of one shade resembles nothing
    # The dozen that differ most between cells tell nearly all pairs apart, and a tree is quick in few dimensions.
    axes = np.argsort(-low[some].reshape(len(some), -1).var(axis=0))[:TREE_AXES]
    tree = cKDTree(low[some].reshape(len(some), -1)[:, axes])
    found = []
    for number, turn in enumerate(TURNS):
        spun = turned_coefficients(low[some], turn).reshape(len(some), -1)
        near = cKDTree(spun[:, axes]).sparse_distance_matrix(tree, max_distance + _ROUNDING, output_type="ndarray")
        one, two = some[near["i"]], some[near["j"]]
        one, two = one[one < two], two[one < two]
        for start in range(0, len(one), CHUNK):
            a, b = one[start : start + CHUNK], two[start : start + CHUNK]
            spun_low = turned_coefficients(low[a], turn)
            kept = np.linalg.norm(spun_low - low[b], axis=(1, 2)) <= max_distance + _ROUNDING
            a, b, spun_low = a[kept], b[kept], spun_low[kept]
            distance = np.linalg.norm(turned(square[a], turn) - square[b], axis=(1, 2))
            bits = ((spun_low > 0) != (low[b] > 0)).sum(axis=(1, 2))
            columns = {"first": a, "second": b, "distance": distance, "hash_bits": bits, "turn": number}
            found.append(pd.DataFrame(columns)[distance <= max_distance + _ROUNDING])
    pairs = pd.concat(found, ignore_index=True).sort_values(["distance", "first", "second", "turn"], kind="stable")
    return pairs.drop_duplicates(["first", "second"]).reset_index(drop=True)
