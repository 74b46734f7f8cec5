"""Odd crops: the same cell twice, in whatever turn, and cells unlike all others. No label plays a part.

Each crop is freed of its padding, brought to one size and one contrast (mean 0, length 1), and described by the lowest
coefficients of its cosine transform.

Near-duplicates are found without comparing all pairs. The signs of the coefficients are a crop's perceptual hash, and
as the transform keeps distances, no two crops lie nearer in the coefficients than in their pixels. So a search tree
over the coefficients finds every pair that is near in pixels, and the pixels then decide. Turns and flips only swap
coefficients and change their signs.

Outliers are crops whose features, from the same coefficients and from brightness and colour, lie far from their
nearest neighbours'.
"""

import numpy as np
import pandas as pd
from scipy.fft import dct
from scipy.spatial import cKDTree
from sklearn.neighbors import LocalOutlierFactor
from sklearn.preprocessing import RobustScaler

from rbcnb._utils.opencv import cv2
from rbcnb.columns import CELL, DEV, GROUP, SMEAR, SPLIT, TEST

SIDE_PX = 32  # to which the square of each cell is brought
LOW = 8  # cosine coefficients a side
TURNS = tuple((swap, down, right) for swap in (False, True) for down in (False, True) for right in (False, True))
# Between copies after JPEG, noise or other exposure; how many of these it finds: benchmarks/odd_crops.py.
MAX_DISTANCE = 0.15
MAX_HASH_BITS = 10  # of 63 signs that may differ; cells that merely look alike differ in a dozen or more
TREE_AXES = 12
CHUNK = 20_000  # pairs whose pixels are compared at once
NEIGHBOURS = 20  # that a crop is compared with as an outlier; fewer where there are not so many
_ROUNDING = 1e-5  # of float32
_PAIR_COLUMNS = {"first": int, "second": int, "distance": float, "hash_bits": int, "turn": int}


def squares(crops: np.ndarray) -> np.ndarray:
    """Grey crops without their zero padding, at one size and contrast: float32 [N, SIDE_PX, SIDE_PX], mean 0, length 1.

    Args:
        crops: uint8 [N, S, S, 3], zero-padded as by `rbcnb.segmentation.crops.crop_cells`. A crop of one shade becomes
        zeros.
    """
    out = np.zeros((len(crops), SIDE_PX, SIDE_PX), np.float32)
    for square, crop in zip(out, crops, strict=True):
        seen = crop.any(axis=2)
        if not seen.any():
            continue
        rows, columns = np.flatnonzero(seen.any(axis=1)), np.flatnonzero(seen.any(axis=0))
        cell = crop[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].mean(axis=2, dtype=np.float32)
        grey = cv2.resize(cell, (SIDE_PX, SIDE_PX), interpolation=cv2.INTER_AREA)
        grey -= grey.mean()
        if length := np.linalg.norm(grey):
            square[:] = grey / length
    return out


def coefficients(square: np.ndarray) -> np.ndarray:
    """The LOW x LOW lowest coefficients [N, LOW, LOW] of the orthonormal cosine transform of `squares`."""
    basis = dct(np.eye(SIDE_PX), norm="ortho", axis=0)[:LOW]
    return basis @ square @ basis.T


def turned(grids: np.ndarray, turn: tuple[bool, bool, bool]) -> np.ndarray:
    """Pictures [N, K, K] or [N, K, K, 3] turned or flipped: *turn* says swap axes, then flip down, then right."""
    swap, down, right = turn
    grids = grids.swapaxes(1, 2) if swap else grids
    return grids[:, :: -1 if down else 1, :: -1 if right else 1]


def turned_coefficients(low: np.ndarray, turn: tuple[bool, bool, bool]) -> np.ndarray:
    """``coefficients(turned(square, turn))`` from ``coefficients(square)``: a flip changes every second sign."""
    swap, down, right = turn
    signs = (-1.0) ** np.arange(low.shape[1])
    low = low.transpose(0, 2, 1) if swap else low
    return low * (signs[:, None] if down else 1) * (signs if right else 1)


def near_pairs(crops: np.ndarray, *, max_distance: float = MAX_DISTANCE) -> pd.DataFrame:
    """All pairs of *crops* that look alike, with the first in one of eight turns or flips; none is missed.

    A pair looks alike if it is at most *max_distance* apart in pixels and differs in at most `MAX_HASH_BITS` bits of a
    perceptual hash.

    Args:
        crops: uint8 [N, S, S, 3].
        max_distance: distance of the two normalised crops (`squares`), 0 to 2; a distance d is a correlation of
            1 - d**2 / 2.

    Returns:
        One row per pair, nearest first: ``first`` < ``second`` (rows of *crops*), ``distance``, ``hash_bits`` and
        ``turn`` (of the first; its number in ``TURNS``, 0 for none).
    """
    square = squares(crops)
    low = coefficients(square)
    some = np.flatnonzero(square.any(axis=(1, 2)))  # a crop of one shade resembles nothing
    found = [pd.DataFrame({name: pd.Series(dtype=kind) for name, kind in _PAIR_COLUMNS.items()})]
    # The dozen that differ most between cells tell nearly all pairs apart, and a tree is quick in few dimensions.
    axes = np.argsort(-low[some].reshape(len(some), LOW * LOW).var(axis=0))[:TREE_AXES] if len(some) else []
    points = low.reshape(len(low), LOW * LOW)[some]
    for number, turn in enumerate(TURNS if len(some) > 1 else ()):
        spun = turned_coefficients(low[some], turn).reshape(points.shape)
        tree = cKDTree(spun[:, axes])
        near = tree.sparse_distance_matrix(cKDTree(points[:, axes]), max_distance + _ROUNDING, output_type="ndarray")
        ordered = near[near["i"] < near["j"]]
        for start in range(0, len(ordered), CHUNK):
            i, j = ordered["i"][start : start + CHUNK], ordered["j"][start : start + CHUNK]
            kept = np.linalg.norm(spun[i] - points[j], axis=1) <= max_distance + _ROUNDING
            i, j = i[kept], j[kept]
            # Signs of what is 0 but for rounding do not count.
            bits = (spun[i] * points[j] < -(_ROUNDING**2)).sum(axis=1)
            i, j, bits = (part[bits <= MAX_HASH_BITS] for part in (i, j, bits))
            first, second = some[i], some[j]
            distance = np.linalg.norm(turned(square[first], turn) - square[second], axis=(1, 2))
            values = first, second, distance, bits, np.full(len(first), number)
            columns = dict(zip(_PAIR_COLUMNS, values, strict=True))
            found.append(pd.DataFrame(columns)[distance <= max_distance + _ROUNDING])
    pairs = pd.concat(found, ignore_index=True).sort_values(["distance", "first", "second", "turn"], kind="stable")
    return pairs.drop_duplicates(["first", "second"]).reset_index(drop=True)


def duplicate_cells(cells: pd.DataFrame, crops: np.ndarray) -> pd.DataFrame:
    """Pairs of cells that show the same thing.

    Args:
        cells: ``smear``, ``cell``, ``group``, in the order of *crops*.
        crops: uint8 [N, S, S, 3].

    Returns:
        The pairs of `near_pairs` with ``smear``, ``cell``, ``other_smear``, ``other_cell``, ``identical`` (to the byte,
        unturned) and ``same_group`` (an honest split keeps them on one side).
    """
    if len(cells) != len(crops):
        raise ValueError(f"{len(cells)} cells but {len(crops)} crops: they must stand in the same order, one each")
    pairs = near_pairs(crops)
    first, second = (cells.iloc[pairs[name].to_numpy(int)].reset_index(drop=True) for name in ("first", "second"))
    same = [np.array_equal(crops[i], crops[j]) for i, j in zip(pairs["first"], pairs["second"], strict=True)]
    named = {SMEAR: first[SMEAR], CELL: first[CELL], f"other_{SMEAR}": second[SMEAR], f"other_{CELL}": second[CELL]}
    facts = {"identical": np.array(same, dtype=bool), "same_group": first[GROUP] == second[GROUP]}
    return pd.DataFrame(named).join(pairs).assign(**facts)


def across_split(pairs: pd.DataFrame, cells: pd.DataFrame) -> pd.Series:
    """Which *pairs* (of `duplicate_cells`) have one cell in training and one in the test, bool [len(pairs)].

    Args:
        cells: the same cells in the same order, with ``split``.
    """
    first, second = (cells[SPLIT].to_numpy()[pairs[name].to_numpy(int)] for name in ("first", "second"))
    across = ((first == DEV) & (second == TEST)) | ((first == TEST) & (second == DEV))
    return pd.Series(across, index=pairs.index, dtype=bool)


def crop_features(crops: np.ndarray) -> np.ndarray:
    """What a crop looks like whichever way up, as 13 numbers [N, 13].

    Strength of its pattern in eight bands from coarse to fine (of the cosine transform of its square), mean and spread
    of its brightness, its two differences of colour, and its side.

    Args:
        crops: uint8 [N, S, S, 3], zero-padded as by `rbcnb.segmentation.crops.crop_cells`.
    """
    low = coefficients(squares(crops)) ** 2
    order = np.add.outer(np.arange(low.shape[1]), np.arange(low.shape[2]))
    bands = np.stack([low[:, order == n].sum(axis=1) for n in range(1, 9)], axis=1)
    seen = crops.any(axis=3)
    n_seen = np.maximum(seen.sum(axis=(1, 2)), 1)
    colour = crops.sum(axis=(1, 2)) / n_seen[:, None]
    grey = crops.mean(axis=3)
    mean = grey.sum(axis=(1, 2)) / n_seen
    spread = np.sqrt(np.maximum((grey**2).sum(axis=(1, 2)) / n_seen - mean**2, 0))
    hue = colour[:, [0, 2]] - colour[:, [1]]
    return np.column_stack([np.log(bands + 1e-4), mean, spread, hue, np.sqrt(n_seen)])


def outlier_scores(crops: np.ndarray) -> np.ndarray:
    """How much each crop differs from those most like it, [N]: about 1 among similar crops, higher for odd ones.

    Local outlier factor (Breunig et al. 2000) on `crop_features`, each scaled by its quartiles. Odd crops that resemble
    each other count as a group and get low scores.

    Args:
        crops: uint8 [N, S, S, 3], at least 3.

    Raises:
        ValueError: there are fewer than 3 crops.
    """
    if len(crops) < 3:
        raise ValueError(f"{len(crops)} crops have no crowd to stand out from; give at least 3")
    scaled = RobustScaler().fit_transform(crop_features(crops))
    found = LocalOutlierFactor(min(NEIGHBOURS, len(crops) - 1)).fit(scaled)
    return -found.negative_outlier_factor_
