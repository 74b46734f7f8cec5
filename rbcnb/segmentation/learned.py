"""The learned finder: cells of any microscope, by a small network that was trained on rendered smears alone.

1. The smear is looked at from coarse to fine. At each size the network says where cells are and how large; it was
   trained to find none that are too small or too large to be read, so that the size at which it is surest and its finds
   cover most tells the diameter.
2. Where none of these sizes fits, the smear is read once more with a typical cell of ``WORKING_PX``. Large smears are
   read in tiles.
3. Peaks of the centre map are cells; of two that lie within half a radius of each other the surer one stays.

A smear whose finds are doubtful is read once more with its colours inverted: cells may be bright on a dark field.
Lengths within are pixels of the resized smear unless a name says otherwise.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.spatial import cKDTree

from rbcnb._utils.opencv import cv2

if TYPE_CHECKING:
    from rbcnb.segmentation.finder_net import Finder

WORKING_PX = 21.0  # diameter of a typical cell when it is read
_WELL_READ_PX = (16.0, 29.0)  # diameters at which a reading needs no second one
_KNOWN_PX = (8.5, 50.0)  # diameters that the network was trained on, with some room
_COARSEST_PX = 100  # longer side of the smear at its first reading, at most
_LARGEST_ENLARGEMENT = 2.0  # at which the diameter is looked for
_MOST_ENLARGED = 4.0  # whatever diameter is given: what is 5 px wide shows no more when it is enlarged further
_SAME = 0.22  # difference of two diameters' logarithms that count as one
_TILE_PX = 1024
_SEEN_PX = 96  # around a pixel, more than the network looks at
_LEAST = 0.08  # of the centre map at a peak that is kept at all
_SURE = 0.5  # of the centre map at a peak that the diameter is read from
_APART = 0.5  # of the larger radius: the least distance of two cells
_ENOUGH = 4  # cells that a diameter is read from
_POOR = 0.05  # a reading of less quality found next to nothing
# Below this mean peak, or this quality, the smear may be a dark field.
_DOUBTFUL, _UNLIKELY = 0.65, 0.15


@dataclass(frozen=True, eq=False)
class Finds:
    """Cells in pixels of the smear, and how much they can be trusted."""

    circles: np.ndarray  # [N,3] float: x, y, radius
    score: np.ndarray  # [N] float: the share of such finds that are cells
    diameter_px: float  # of a typical cell: given, expected or found; NaN where there is none
    found_px: float  # of a typical cell, as found; NaN where too few are
    trust: float  # the F1 score that the finder expects of itself, from the scores of all its finds; NaN without any
    explained: float  # share of what looks like red cells that lies in the circles; NaN without any
    stained: float  # share of the circles that looks like red cells; NaN without any
    dark_field: bool = False  # whether cells are bright on a dark field


@dataclass(frozen=True, eq=False)
class _Reading:
    """What the network saw at one size of the smear."""

    size: tuple[int, int]  # (H, W) of the resized smear
    scale: float  # of the resized smear over the smear
    red_cell: np.ndarray  # [h,w] uint8, at half of that size: 255 is a red cell for certain
    circles: np.ndarray  # [N,3], in pixels of the resized smear
    peak: np.ndarray  # [N], of the centre map
    diameter: float  # of a typical cell; NaN where too few were found
    sure: float  # mean peak of the finds, 0 to 1
    quality: float  # how sure the finds are and how much they cover, 0 to 1

    @property
    def diameter_px(self) -> float:
        return self.diameter / self.scale


def find_learned(
    image: np.ndarray,
    *,
    diameter_px: float | None = None,
    expected_px: float | None = None,
    min_score: float = 0.0,
    finder: "Finder | None" = None,
) -> Finds:
    """The cells of *image* [H,W,3] uint8 RGB.

    Args:
        image: cells dark on a bright field, or bright on a dark one.
        diameter_px: of a typical cell; None: estimated.
        expected_px: diameter of the cells of other images of this microscope: kept to, unless this image is read
            clearly better at another.
        min_score: cells of a lower score are left out.
        finder: None: the one that comes with the package.

    Raises:
        rbcnb._utils.errors.WeightsError: the finder's weights cannot be read.
    """
    finder = finder or _package_finder()
    reading, dark_field = _upright_reading(image, diameter_px, expected_px, finder)
    if diameter_px is None:
        kept_to = expected_px is not None and _alike(reading.diameter_px, expected_px)
        diameter_px = expected_px if kept_to else reading.diameter_px
    score = np.interp(reading.peak, finder.raw, finder.score)
    kept = score >= min_score
    if not kept.any():
        diameter_px = math.nan
    elif math.isnan(diameter_px):
        diameter_px = 2 * float(np.median(reading.circles[kept, 2])) / reading.scale
    circles = reading.circles[kept]
    explained, stained = _overlap(reading.red_cell, circles)
    # The resized smear has whole sides, so the factor is not exactly the scale, nor the same along both.
    factors = np.divide(image.shape[1::-1], reading.size[::-1])
    last = np.subtract(image.shape[1::-1], 1)
    circles[:, :2] = np.clip((circles[:, :2] + 0.5) * factors - 0.5, 0, last)
    circles[:, 2] *= factors.mean()
    # Of N finds and all the cells there are, the scores' sums are how many of each are expected to be right.
    trust = 2 * score[kept].sum() / (kept.sum() + score.sum()) if len(score) else math.nan
    return Finds(circles, score[kept], diameter_px, reading.diameter_px, float(trust), explained, stained, dark_field)


def typical_diameter(image: np.ndarray, *, finder: "Finder | None" = None) -> float:
    """The diameter of a typical cell of *image* [H,W,3] uint8 RGB in pixels, NaN where next to nothing was found."""
    reading, _ = _upright_reading(image, None, None, finder or _package_finder())
    return reading.diameter_px if reading.quality > _POOR else math.nan


def _package_finder() -> "Finder":
    from rbcnb.segmentation.finder_net import load_finder

    return load_finder()


def _alike(a: float, b: float) -> bool:
    return abs(math.log(a / b)) < _SAME if a > 0 and b > 0 else True


def _upright_reading(
    image: np.ndarray, diameter_px: float | None, expected_px: float | None, finder: "Finder"
) -> tuple[_Reading, bool]:
    """The reading of *image* as it is or with its colours inverted, whichever is better; and whether it is inverted."""
    reading, finest = _reading(image, diameter_px, expected_px, finder)
    if reading.sure < _DOUBTFUL or reading.quality < _UNLIKELY:
        # Where the search ended early, cells of that size are there; the negative need not be looked at any closer.
        inverted, _ = _reading(255 - image, diameter_px, expected_px, finder, finest=finest)
        if inverted.quality > 1.5 * reading.quality:
            return inverted, True
    return reading, False


def _reading(
    image: np.ndarray,
    diameter_px: float | None,
    expected_px: float | None,
    finder: "Finder",
    *,
    finest: float = math.inf,
) -> tuple[_Reading, float]:
    """The reading of *image* at the size that fits *diameter_px*, else *expected_px*, else at that which fits best.

    Also returns the finest scale at which it was looked at; *finest* limits the search for the diameter.
    """
    if diameter_px is not None:
        return _read(image, _scale_of(diameter_px), finder), math.inf
    expected = None
    if expected_px is not None:
        expected = _read(image, _scale_of(expected_px), finder)
        if expected.sure > _DOUBTFUL and _alike(expected.diameter, WORKING_PX):
            return expected, expected.scale
    best, seen = _best_reading(image, finder, finest)
    for _ in range(2):
        if math.isnan(best.diameter) or _WELL_READ_PX[0] <= best.diameter <= _WELL_READ_PX[1]:
            break
        nearer = _read(image, _scale_of(best.diameter_px), finder)
        if math.isnan(nearer.diameter):
            break
        best = nearer
    return best if expected is None or best.quality > 1.3 * expected.quality else expected, seen


def _overlap(red_cell: np.ndarray, circles: np.ndarray) -> tuple[float, float]:
    """Shares of the *red_cell* map [h,w] that lies in *circles* [N,3], and of the circles that lies on red cells.

    Circles are in pixels of the network's input.
    """
    discs = np.zeros(red_cell.shape, np.uint8)
    for x, y, radius in circles:
        cv2.circle(discs, (round(x / 2), round(y / 2)), max(1, round(radius / 2)), 1, cv2.FILLED)
    both = int(red_cell[discs > 0].sum(dtype=np.int64))
    red, inside = int(red_cell.sum(dtype=np.int64)), 255 * int(np.count_nonzero(discs))
    return both / red if red >= 255 else math.nan, both / inside if inside else math.nan


def _scale_of(diameter_px: float) -> float:
    """Of the resized smear over a smear whose cells have this diameter."""
    return min(WORKING_PX / diameter_px, _MOST_ENLARGED)


def _best_reading(image: np.ndarray, finder: "Finder", finest: float) -> tuple[_Reading, float]:
    """The reading of highest quality, from coarse to fine until two agree on the diameter; the finest scale seen."""
    best = before = None
    seen = 0.0
    for scale in _scales(image.shape):
        if best is not None and scale > finest:
            break
        seen = scale
        reading = _read(image, scale, finder)
        if best is None or reading.quality > best.quality:
            best = reading
        if before is not None and reading.quality > _POOR:
            if _alike(reading.diameter_px, before.diameter_px) and best in (before, reading):
                middle = math.log(WORKING_PX)
                return min(before, reading, key=lambda read: abs(math.log(read.diameter) - middle)), seen
            if reading.quality < 0.4 * best.quality:
                break
        before = None if math.isnan(reading.diameter) else reading
    return best, seen


def _scales(shape: tuple[int, ...]) -> Iterator[float]:
    """Sizes at which a smear of *shape* (H, W, ...) is read, from coarse to fine, over the smear's own."""
    longest = max(shape[:2])
    scale = min(1.0, 2.0 ** math.floor(math.log2(_COARSEST_PX / longest)))
    while scale <= 1 or (scale <= _LARGEST_ENLARGEMENT and longest * scale <= 2 * _TILE_PX):
        yield scale
        scale *= 2


def _read(image: np.ndarray, scale: float, finder: "Finder") -> _Reading:
    height, width = _size(image, scale)
    red_cell = np.empty(((height + 1) // 2, (width + 1) // 2), np.uint8)
    parts = [(np.empty((0, 3)), np.empty(0, np.float32))]
    for tile in _tiles(image, scale, finder):
        red_cell[tile.place] = np.rint(255 * tile.maps[2][tile.core])
        circles, peak = peaks_of_maps(tile.maps)
        circles[:, 0] += 2 * (tile.place[1].start - tile.core[1].start)
        circles[:, 1] += 2 * (tile.place[0].start - tile.core[0].start)
        rows, columns = (np.floor((circles[:, i] + 0.5) / 2) for i in (1, 0))
        inside = (rows >= tile.place[0].start) & (rows < tile.place[0].stop)
        inside &= (columns >= tile.place[1].start) & (columns < tile.place[1].stop)
        parts.append((circles[inside], peak[inside]))
    circles, peak = (np.concatenate(column) for column in zip(*parts, strict=True))
    order = np.argsort(-peak, kind="stable")
    circles, peak = circles[order], peak[order]
    room = _with_room(circles)
    circles, peak = circles[room], peak[room]
    diameters = 2 * circles[:, 2]
    telling = (peak > _SURE) & (diameters > _KNOWN_PX[0]) & (diameters < _KNOWN_PX[1])
    if not telling.any():
        return _Reading((height, width), scale, red_cell, circles, peak, math.nan, 0.0, 0.0)
    covered = float(np.sum(peak[telling] * np.pi / 4 * diameters[telling] ** 2)) / (height * width)
    sure = float(peak[peak > _SURE / 2].mean())
    quality = sure**4 * (min(1.0, covered) * min(1.0, telling.sum() / _ENOUGH)) ** 0.5
    return _Reading(
        (height, width), scale, red_cell, circles, peak, float(np.median(diameters[telling])), sure, quality
    )


def read_maps(image: np.ndarray, *, diameter_px: float, finder: "Finder | None" = None) -> dict[str, np.ndarray]:
    """What the network sees where cells of *diameter_px* have their size for reading.

    Returns "centre", "red_cell" and "other", each [h,w] float32 from 0 to 1, at half of that size.
    """
    finder, scale = finder or _package_finder(), _scale_of(diameter_px)
    height, width = _size(image, scale)
    maps = np.empty((4, (height + 1) // 2, (width + 1) // 2), np.float32)
    for tile in _tiles(image, scale, finder):
        maps[:, *tile.place] = tile.maps[:, *tile.core]
    return {"centre": maps[0], "red_cell": maps[2], "other": maps[3]}


@dataclass(frozen=True, eq=False)
class _Tile:
    """The maps of a part of a resized smear; slices of rows and columns are in pixels of the maps."""

    maps: np.ndarray  # [4,h,w] float32, with what lies around the part
    core: tuple[slice, slice]  # the part in these maps
    place: tuple[slice, slice]  # the part in the maps of the whole smear


def _size(image: np.ndarray, scale: float) -> tuple[int, int]:
    return max(1, round(scale * image.shape[0])), max(1, round(scale * image.shape[1]))


def _tiles(image: np.ndarray, scale: float, finder: "Finder") -> Iterator[_Tile]:
    """The parts of *image* [H,W,3] resized by *scale*, read one after another, so that memory stays bounded."""
    height, width = _size(image, scale)
    if small := height <= image.shape[0]:
        image = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
    for top in range(0, height, _TILE_PX):
        for left in range(0, width, _TILE_PX):
            bottom, right = min(top + _TILE_PX, height), min(left + _TILE_PX, width)
            # A part is read with what the network looks at around it, so that the parts join without a seam.
            up, before = max(0, top - _SEEN_PX), max(0, left - _SEEN_PX)
            window = (up, before, min(bottom + _SEEN_PX, height), min(right + _SEEN_PX, width))
            if small:
                pixels = image[window[0] : window[2], window[1] : window[3]]
            else:
                pixels = _enlarged(image, (height, width), window)
            maps = _forward(pixels, finder)
            place = slice(top // 2, (bottom + 1) // 2), slice(left // 2, (right + 1) // 2)
            core = tuple(
                slice(part.start - start // 2, part.stop - start // 2)
                for part, start in zip(place, (up, before), strict=True)
            )
            yield _Tile(maps, core, place)


def _enlarged(image: np.ndarray, size: tuple[int, int], window: tuple[int, int, int, int]) -> np.ndarray:
    """The *window* (top, left, bottom, right) of *image* enlarged to *size* (H, W), without the rest of it."""
    top, left, bottom, right = window
    down, across = image.shape[0] / size[0], image.shape[1] / size[1]
    place = np.array([[across, 0, (left + 0.5) * across - 0.5], [0, down, (top + 0.5) * down - 0.5]])
    how = cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP
    return cv2.warpAffine(image, place, (right - left, bottom - top), flags=how, borderMode=cv2.BORDER_REPLICATE)


def _forward(image: np.ndarray, finder: "Finder") -> np.ndarray:
    """The maps [4,h,w] of one tile [H,W,3], by one thread: the same bits on any number of cores."""
    import torch

    from rbcnb.segmentation.finder_net import MULTIPLE
    from rbcnb.threads import one_thread

    height, width = image.shape[:2]
    padded = cv2.copyMakeBorder(image, 0, -height % MULTIPLE, 0, -width % MULTIPLE, cv2.BORDER_REPLICATE)
    with one_thread(), torch.inference_mode():
        pixels = torch.from_numpy(padded)[None].permute(0, 3, 1, 2).float()
        maps = finder.net(pixels)[0, :, : (height + 1) // 2, : (width + 1) // 2].contiguous().numpy()
    for i in (0, 2, 3):
        cv2.exp(-maps[i], dst=maps[i])
        maps[i] = 1 / (1 + maps[i])
    return maps


def peaks_of_maps(maps: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Circles [N,3] (x, y, radius, in pixels of the network's input) and heights [N] of the centre map's peaks.

    *maps* [4,h,w]: centre (0 to 1), logarithm of the radius over 10 px, and two that are not looked at.
    """
    centre = maps[0]
    rows, columns = np.nonzero((centre >= cv2.dilate(centre, np.ones((3, 3), np.uint8))) & (centre > _LEAST))
    framed = cv2.copyMakeBorder(centre, 1, 1, 1, 1, cv2.BORDER_REPLICATE)
    r, c = rows + 1, columns + 1
    x = columns + _vertex(framed[r, c - 1], framed[r, c], framed[r, c + 1])
    y = rows + _vertex(framed[r - 1, c], framed[r, c], framed[r + 1, c])
    radius = 10.0 * np.exp(np.clip(maps[1][rows, columns], -1.5, 2.0))
    return np.column_stack([2 * x + 0.5, 2 * y + 0.5, radius]), centre[rows, columns]


def _vertex(a: np.ndarray, b: np.ndarray, c: np.ndarray) -> np.ndarray:
    """Where the parabola through three neighbouring values has its vertex, from the middle one: within its pixel."""
    bend = a - 2 * b + c
    return np.clip(np.where(bend < 0, 0.5 * (a - c) / np.minimum(bend, -1e-9), 0), -0.49, 0.49)


def _with_room(circles: np.ndarray) -> np.ndarray:
    """Which of *circles* [N,3], surest first, stay when each keeps others off its centre."""
    keep = np.ones(len(circles), bool)
    if len(circles) < 2:
        return keep
    pairs = cKDTree(circles[:, :2]).query_pairs(_APART * circles[:, 2].max(), output_type="ndarray")
    pairs.sort(axis=1)
    a, b = pairs.T
    close = np.hypot(*(circles[a, :2] - circles[b, :2]).T) < _APART * np.maximum(circles[a, 2], circles[b, 2])
    pairs = pairs[close]
    for first, second in pairs[np.lexsort(pairs.T[::-1])]:
        if keep[first]:
            keep[second] = False
    return keep


def on_white_cells(
    image: np.ndarray, circles: np.ndarray, *, diameter_px: float, finder: "Finder | None" = None
) -> np.ndarray:
    """Which of *circles* [N,3] (x, y, radius, in pixels of *image*) lie on white cells or other things: [N] bool."""
    maps = read_maps(image, diameter_px=diameter_px, finder=finder)
    other = cv2.blur(maps["other"] - maps["red_cell"], (int(0.25 * WORKING_PX) | 1,) * 2)  # over half a diameter
    at = np.round(((circles[:, :2] + 0.5) * _scale_of(diameter_px) - 0.5) / 2).astype(int)
    columns, rows = (np.clip(at[:, i], 0, other.shape[1 - i] - 1) for i in (0, 1))
    return other[rows, columns] > 0
