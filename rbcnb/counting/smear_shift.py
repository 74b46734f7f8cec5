"""Does a smear look like those that the network was trained on? Light, stain, sharpness, size and confidence say.

Each is one robust number per smear, read off the crops of its cells. A smear is unlike the training smears when its
numbers together, in units of their spread, lie farther from the nearest of theirs than was seen among themselves: each
training smear is compared with the others, and the limit is the distance that a given share of them stays below.
Numbers taken one by one would miss a smear whose every number is found somewhere among varied training smears, but not
together. With S training smears that share is S / (S + 1) at most: an ordinary smear gets a false warning with a chance
of at least 1 / (S + 1). A network that is surer than it was is no sign: the training smears were judged by networks
that had not learnt them, and the final network has learnt more.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from rbcnb._utils.opencv import cv2
from rbcnb.columns import BORDER, RADIUS

FALSE_ALARMS = 0.02  # target share of ordinary smears that get a false warning; at least 1 / (S + 1)
MIN_CELLS = 5  # of a smear whose numbers are compared
MIN_SMEARS = 3  # to tell a spread of
MOST_NAMED = 3  # differences that a warning names
_LOOK_PX = 48  # crops are looked at no larger than this
_NEAREST = 3  # training smears that a smear's distance is taken from
_FLOOR = 0.02  # least spread taken: 5 % of a light, a density or a length, which are decimal logarithms
# name -> words for a smear that is low in it, and for one that is high
MEANING = {
    "light_red": ("less red in the light", "more red in the light"),
    "light_green": ("less green in the light", "more green in the light"),
    "light_blue": ("less blue in the light", "more blue in the light"),
    "density": ("paler stain", "darker stain"),
    "stain_red": ("stain absorbs less red", "stain absorbs more red"),
    "stain_blue": ("stain absorbs less blue", "stain absorbs more blue"),
    "edge": ("less sharp", "sharper"),
    "grain": ("smoother", "grainier"),
    "diameter": ("smaller cells, in pixels", "larger cells, in pixels"),
    "spread": ("more even sizes", "more uneven sizes"),
    "confidence": ("the network is less sure", ""),
}


@dataclass(frozen=True)
class Reference:
    """The looks of the training smears, their spread, and how far from them is too far."""

    names: tuple[str, ...]
    looks: tuple[tuple[float, ...], ...]  # [S, K]
    spread: tuple[float, ...]  # [K]
    limit: float  # of the mean distance from the nearest smears, in spreads
    n_smears: int


def look_of_smear(
    crops: np.ndarray, cells: pd.DataFrame, *, diameter_px: float, confidence: np.ndarray | None = None
) -> dict[str, float] | None:
    """The numbers of `MEANING` for one smear, or None where fewer than `MIN_CELLS` whole cells were found.

    Args:
        crops: uint8 [N, S, S, 3], in the order of *cells*; zero outside the square that was cut.
        cells: ``radius_px`` and ``border``; cells cut off by the border are left out.
        diameter_px: of a typical cell, in the smear.
        confidence: largest calibrated probability [N] of each cell; None leaves it out.
    """
    whole = ~cells[BORDER].to_numpy(bool)
    if whole.sum() < MIN_CELLS:
        return None
    looks = np.median(_looks(crops[whole]), axis=0)
    radius = cells[RADIUS].to_numpy(float)[whole]
    deviation = 1.4826 * np.median(np.abs(radius - np.median(radius))) / np.median(radius)
    numbers = [*looks, math.log10(diameter_px), math.log10(deviation + 0.02)]
    if confidence is not None:
        mean = float(np.clip(np.mean(np.asarray(confidence)[whole]), 0.01, 0.999))
        numbers.append(math.log10(mean / (1 - mean)))
    return dict(zip(MEANING, map(float, numbers), strict=False))


def reference_of(looks: Sequence[dict[str, float]]) -> Reference:
    """What the *looks* of the training smears (`look_of_smear`, None left out by the caller) have in common.

    Raises:
        ValueError: fewer than `MIN_SMEARS`.
    """
    if len(looks) < MIN_SMEARS:
        raise ValueError(
            f"{len(looks)} smears with at least {MIN_CELLS} whole cells: {MIN_SMEARS} are needed to tell a spread"
        )
    names = tuple(looks[0])
    values = np.array([[look[name] for name in names] for look in looks])
    n = len(values)
    spread = _spread(values)
    alone = [_distance(_offsets(values[i], np.delete(values, i, axis=0), spread, names)) for i in range(n)]
    rank = min(n, math.ceil((n + 1) * (1 - FALSE_ALARMS)))
    rows = tuple(map(tuple, values.tolist()))
    return Reference(names, rows, tuple(spread.tolist()), float(np.sort(alone)[rank - 1]), n)


def unlike(look: dict[str, float], reference: Reference) -> dict[str, float]:
    """In what *look* differs from the nearest training smears, by name, farthest first; empty if it is like them.

    Values are signed and in units of the limit; the root of the sum of their squares is how many times the limit the
    smear lies away.
    """
    values = np.array([look[name] for name in reference.names])
    offsets = _offsets(values, np.array(reference.looks), np.array(reference.spread), reference.names)
    times = _distance(offsets) / max(reference.limit, 1e-9)
    if times <= 1:
        return {}
    near = np.argsort(np.linalg.norm(offsets, axis=1), kind="stable")[:_NEAREST]
    offset = offsets[near].mean(axis=0)
    offset *= times / np.linalg.norm(offset)
    differences = dict(zip(reference.names, map(float, offset), strict=True))
    return dict(sorted(differences.items(), key=lambda item: -abs(item[1])))


def times_the_limit(differences: dict[str, float]) -> float:
    """How many times the limit a smear lies from the training smears, by `unlike`'s answer; 0 within it."""
    return math.hypot(*differences.values()) if differences else 0.0


def warning_of(differences: dict[str, float]) -> str:
    """`unlike`'s answer in words: how far, and the `MOST_NAMED` most striking differences; empty for none."""
    if not differences:
        return ""
    times = times_the_limit(differences)
    least = 0.3 * max(map(abs, differences.values()))
    named = [MEANING[name][x > 0] for name, x in list(differences.items())[:MOST_NAMED] if abs(x) >= least]
    how_far = f"{times:.1f} times the limit" if times >= 1.05 else "just beyond the limit"
    return f"unlike the training smears ({how_far}): {', '.join(named)}"


def _offsets(values: np.ndarray, known: np.ndarray, spread: np.ndarray, names: Sequence[str]) -> np.ndarray:
    """How far *values* [K] are from each of *known* [S, K], in *spread* [K]; a network that is surer is not far."""
    offsets = (values - known) / spread
    if "confidence" in names:
        place = names.index("confidence")
        offsets[:, place] = np.minimum(offsets[:, place], 0)
    return offsets


def _distance(offsets: np.ndarray) -> float:
    """Mean length of the shortest of *offsets* [S, K]."""
    return float(np.sort(np.linalg.norm(offsets, axis=1))[:_NEAREST].mean())


def _spread(values: np.ndarray) -> np.ndarray:
    """Spread, by the median absolute deviation, of each column of [S, K]."""
    middle = np.median(values, axis=0)
    return np.maximum(1.4826 * np.median(np.abs(values - middle), axis=0), _FLOOR)


def _looks(crops: np.ndarray) -> np.ndarray:
    """Light of three colours, density, stain of two, edge and grain of each crop -> [N, 8].

    Decimal logarithms, but for the stain, which is relative to the density in green.
    """
    if (size := crops.shape[1]) > _LOOK_PX:
        shape = (_LOOK_PX, _LOOK_PX)
        crops = np.stack([cv2.resize(crop, shape, interpolation=cv2.INTER_AREA) for crop in crops])
        size = _LOOK_PX
    inside = crops.any(axis=-1)
    n_outside = (~inside).reshape(len(crops), -1).sum(axis=1)
    n_inside = np.maximum(inside[0].size - n_outside, 1)
    logs = np.log10(crops.astype(np.float32) + 1)
    # Sorted, what lies outside the square comes first, as zero does.
    ordered = np.sort(np.where(inside[..., None], logs, -1).reshape(len(crops), -1, 3), axis=1)
    brightest = (n_outside + 0.95 * (n_inside - 1)).astype(int)
    light = ordered[np.arange(len(crops)), brightest]
    y, x = np.mgrid[:size, :size] - (size - 1) / 2
    middle = np.hypot(x, y) < 0.3 * size
    density = np.maximum(light - np.median(logs[:, middle], axis=1), 0.01)
    green = logs[..., 1]
    whole = (
        inside[:, 1:-1, 1:-1] & inside[:, :-2, 1:-1] & inside[:, 2:, 1:-1] & inside[:, 1:-1, :-2] & inside[:, 1:-1, 2:]
    )
    up, down, left, right = green[:, :-2, 1:-1], green[:, 2:, 1:-1], green[:, 1:-1, :-2], green[:, 1:-1, 2:]
    slope = _percentile(np.hypot(right - left, down - up), whole, 0.9)
    grain = _percentile(np.abs(up + down + left + right - 4 * green[:, 1:-1, 1:-1]), whole, 0.5)
    relative = np.log10(slope / density[:, 1] + 1e-3), np.log10(grain + 1e-3)
    ratio = density[:, [0, 2]] / density[:, 1:2]  # no logarithm: there may be next to no red
    return np.column_stack([light, np.log10(density[:, 1]), ratio, *relative])


def _percentile(values: np.ndarray, valid: np.ndarray, share: float) -> np.ndarray:
    """The *share* quantile [N] of *values* [N, H, W] where *valid*; values are at least 0."""
    ordered = np.sort(np.where(valid, values, -1).reshape(len(values), -1), axis=1)
    n_valid = valid.reshape(len(values), -1).sum(axis=1)
    place = ordered.shape[1] - n_valid + (share * np.maximum(n_valid - 1, 0)).astype(int)
    return np.maximum(ordered[np.arange(len(values)), np.minimum(place, ordered.shape[1] - 1)], 0)
