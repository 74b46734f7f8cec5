"""Windows of an upscaled image without the image: only what they show is computed, in bounded memory.

Waifu2x doubles an image several times and area-averages the last doubling to the size asked for. Read backwards, each
window names the pixels of the last doubling that it averages; those name the pixels of the doubling before that the
network must see; and so on down to the image. At each level the pixels needed by all windows together are covered by
rectangles, each within one tile of the whole-image path, so that overlapping windows are computed once and the result
is the same as if cut from the whole upscaled image: bit for bit on a CPU (see `rbcnb.segmentation.waifu2x`).
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np

from rbcnb.segmentation import upscaling
from rbcnb.segmentation.waifu2x import BLOCK_PX, CONTEXT_PX, TILE_PX, TRIM_PX, network, run

Box = tuple[int, int, int, int]  # top, left, bottom, right; the last two exclusive
_REGION_PX = 6144  # side of the part of the upscaled image that is worked on at a time: at most 130 MB of pixels
_OVERHEAD = 1.5  # what a rectangle costs besides its pixels, as a margin in Winograd blocks: fitted to timings
_SNAP_PX = 16  # rectangles that end this near to their tile's end reach it


@dataclass(frozen=True, eq=False)
class Region:
    """Part of an image: *pixels* begin at its row *top* and column *left*. What was not computed is undefined."""

    pixels: np.ndarray  # [h, w, 3] uint8
    top: int
    left: int
    size: tuple[int, int]  # of the whole image

    def read(self, top: int, left: int, bottom: int, right: int) -> np.ndarray:
        """The pixels of a box; where it leaves the image, that is reflected about its outermost pixels."""
        if top >= 0 and left >= 0 and bottom <= self.size[0] and right <= self.size[1]:
            return self.pixels[top - self.top : bottom - self.top, left - self.left : right - self.left]
        rows = _reflected(np.arange(top, bottom), self.size[0]) - self.top
        columns = _reflected(np.arange(left, right), self.size[1]) - self.left
        return self.pixels[rows[:, None], columns]


@dataclass(frozen=True)
class Taps:
    """Along one axis: output pixel i is the sum of ``weights[i] * input[index[i]]``, added up in this order."""

    index: np.ndarray  # [n_out, k] int, ascending
    weights: np.ndarray  # [n_out, k] float32
    n_in: int


def upscaled_windows(image: np.ndarray, boxes: Sequence[Box], scale: float, *, method: str) -> list[np.ndarray]:
    """``[upscaling.upscale(image, scale, method=method)[top:bottom, left:right] for each box]``, without the whole.

    For "waifu2x" the pixels are the same; for "bicubic" they are one grey level apart at most (OpenCV rounds its
    weights). Where Waifu2x cannot run it warns, and upscales bicubically.

    Args:
        image: [H, W, 3] uint8 RGB.
        boxes: in pixels of the upscaled image, not empty, within it.
    """
    size = upscaling.output_size(image, scale)
    for box in boxes:
        if not (0 <= box[0] < box[2] <= size[0] and 0 <= box[1] < box[3] <= size[1]):
            raise ValueError(f"the box {tuple(box)} is empty or not within {size[0]} x {size[1]} pixels")
    if scale <= 1:  # the whole is no larger than the image
        whole = upscaling.upscale(image, scale, method=method)
        return [whole[top:bottom, left:right].copy() for top, left, bottom, right in boxes]
    method = upscaling.usable_method(method)
    levels = upscaling.doublings(scale) if method == "waifu2x" else 0
    large = tuple(side << levels for side in image.shape[:2])
    taps = area_taps if method == "waifu2x" else cubic_taps
    axes = [taps(before, after) for before, after in zip(large, size, strict=True)]
    windows: list[np.ndarray] = [np.empty(0)] * len(boxes)
    for members in _neighbours(boxes, size):
        sources = [_source(axes, boxes[i]) for i in members]
        source = _doubled(image, sources, levels) if levels else Region(image, 0, 0, image.shape[:2])
        for i in members:
            windows[i] = _weighted(source, axes, boxes[i])
    return windows


def _neighbours(boxes: Sequence[Box], size: tuple[int, int]) -> Iterator[list[int]]:
    """The boxes in groups, each by their centres in one part of the image of at most 6144 x 6144 pixels."""
    parts = [math.ceil(side / _REGION_PX) for side in size]
    groups: dict[tuple[int, int], list[int]] = {}
    for i, (top, left, bottom, right) in enumerate(boxes):
        row, column = (top + bottom) * parts[0] // (2 * size[0]), (left + right) * parts[1] // (2 * size[1])
        groups.setdefault((row, column), []).append(i)
    yield from groups.values()


def _doubled(image: np.ndarray, boxes: list[Box], levels: int) -> Region:
    """*image* doubled *levels* times, computed where *boxes* (pixels of the result) need it."""
    plans: list[list[Box]] = []
    for level in reversed(range(levels)):  # what the last level needs tells what the one before must give
        size = tuple(side << level for side in image.shape[:2])
        needed = [(top // 2, left // 2, -(-bottom // 2), -(-right // 2)) for top, left, bottom, right in boxes]
        plans.append(_cover(needed, size))
        boxes = [_clipped(_context(box, _trim(box, size)), size) for box in plans[-1]]
    nets = {trim: network(trim=trim) for trim in product((False, True), repeat=2)}
    region = Region(image, 0, 0, image.shape[:2])
    for plan in reversed(plans):
        region = _double_where(region, plan, nets)
    return region


def _double_where(source: Region, plan: list[Box], nets: Mapping[tuple[bool, bool], Any]) -> Region:
    """Twice the size of *source*, computed in the boxes of *plan* alone (pixels of *source*); *nets* by their trim."""
    top, left = (min(box[i] for box in plan) for i in (0, 1))
    bottom, right = (max(box[i] for box in plan) for i in (2, 3))
    # Zeroed pages that are never written take no memory.
    pixels = np.zeros((2 * (bottom - top), 2 * (right - left), 3), np.uint8)
    for box in plan:
        trim = _trim(box, source.size)
        height, width = 2 * (box[2] - box[0]), 2 * (box[3] - box[1])
        row, column = 2 * (box[0] - top), 2 * (box[1] - left)
        result = run(nets[trim], source.read(*_context(box, trim)))
        pixels[row : row + height, column : column + width] = result[:height, :width]
    return Region(pixels, 2 * top, 2 * left, (2 * source.size[0], 2 * source.size[1]))


def _trim(box: Box, size: tuple[int, int]) -> tuple[bool, bool]:
    """Whether *box* ends before its tile does: below, right."""
    return tuple(box[axis + 2] % TILE_PX != 0 and box[axis + 2] != size[axis] for axis in (0, 1))


def _context(box: Box, trim: tuple[bool, bool]) -> Box:
    """What the network reads to compute *box*."""
    below, beside = (CONTEXT_PX + TRIM_PX * trimmed for trimmed in trim)
    return box[0] - CONTEXT_PX, box[1] - CONTEXT_PX, box[2] + below, box[3] + beside


def _clipped(box: Box, size: tuple[int, int]) -> Box:
    """Within the image. What is reflected lies in the box already, since no box is narrower than its context."""
    return max(box[0], 0), max(box[1], 0), min(box[2], size[0]), min(box[3], size[1])


def _cover(boxes: list[Box], size: tuple[int, int]) -> list[Box]:
    """Rectangles that cover *boxes* within the image, each in one tile and aligned with its Winograd blocks."""
    origin = [min(box[axis] for box in boxes) // TILE_PX * TILE_PX for axis in (0, 1)]
    end = [max(box[axis + 2] for box in boxes) for axis in (0, 1)]
    blocks = [-(-(end[axis] - origin[axis]) // TILE_PX) * (TILE_PX // BLOCK_PX) for axis in (0, 1)]
    mask = np.zeros(blocks, bool)
    for top, left, bottom, right in boxes:
        mask[
            (top - origin[0]) // BLOCK_PX : -((origin[0] - bottom) // BLOCK_PX),
            (left - origin[1]) // BLOCK_PX : -((origin[1] - right) // BLOCK_PX),
        ] = True
    side, cover = TILE_PX // BLOCK_PX, []
    for row in range(0, blocks[0], side):
        for column in range(0, blocks[1], side):
            for rectangle in rectangles(mask[row : row + side, column : column + side], overhead=_OVERHEAD):
                tile = origin[0] + row * BLOCK_PX, origin[1] + column * BLOCK_PX
                cover.append(_snapped(rectangle, tile, size))
    return cover


def _snapped(rectangle: Box, tile: tuple[int, int], size: tuple[int, int]) -> Box:
    """*rectangle*, in blocks of *tile*, as a box in pixels; it ends well before the tile does, or just there."""
    starts, ends = [], []
    for axis in (0, 1):
        last = min(tile[axis] + TILE_PX, size[axis])
        start, end = (tile[axis] + BLOCK_PX * rectangle[axis + i] for i in (0, 2))
        starts.append(start)
        ends.append(last if end > last - _SNAP_PX else end)
    return starts[0], starts[1], ends[0], ends[1]


def rectangles(mask: np.ndarray, *, overhead: float) -> list[Box]:
    """Disjoint rectangles that cover all of *mask* [h, w] bool, at a low sum of (height + overhead)(width + overhead).

    The smallest rectangle around all is split by a straight cut where that saves most, and each part again.
    """
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not len(rows):
        return []
    top, bottom, left, right = rows[0], rows[-1] + 1, columns[0], columns[-1] + 1
    inner = mask[top:bottom, left:right]
    whole = (inner.shape[0] + overhead) * (inner.shape[1] + overhead)
    best = [_best_cut(inner, overhead), _best_cut(inner.T, overhead)]
    if min(cost for cost, _ in best) >= whole:
        return [(int(top), int(left), int(bottom), int(right))]
    if best[0][0] <= best[1][0]:
        cut = best[0][1]
        parts = [(inner[:cut], 0, 0), (inner[cut:], cut, 0)]
    else:
        cut = best[1][1]
        parts = [(inner[:, :cut], 0, 0), (inner[:, cut:], 0, cut)]
    return [
        (int(top + down + a), int(left + along + b), int(top + down + c), int(left + along + d))
        for part, down, along in parts
        for a, b, c, d in rectangles(part, overhead=overhead)
    ]


def _best_cut(mask: np.ndarray, overhead: float) -> tuple[float, int]:
    """The least cost of two rectangles, above and below a cut between rows, and that row; *mask* has no empty rim."""
    if len(mask) < 2:
        return math.inf, 0
    before, after = _prefix_cost(mask, overhead), _prefix_cost(mask[::-1], overhead)[::-1]
    total = before[:-1] + after[1:]
    cut = int(total.argmin())
    return float(total[cut]), cut + 1


def _prefix_cost(mask: np.ndarray, overhead: float) -> np.ndarray:
    """Cost of the smallest rectangle around the first i + 1 rows, whose first row is not empty."""
    used = mask.any(axis=1)
    width = mask.shape[1]
    first = np.minimum.accumulate(np.where(used, mask.argmax(axis=1), width))
    last = np.maximum.accumulate(np.where(used, width - mask[:, ::-1].argmax(axis=1), 0))
    height = np.maximum.accumulate(np.where(used, np.arange(1, len(mask) + 1), 0))
    return (height + overhead) * (last - first + overhead)


def _reflected(index: np.ndarray, n: int) -> np.ndarray:
    """OpenCV's BORDER_REFLECT_101, as often as need be."""
    if n == 1:
        return np.zeros_like(index)
    index = index % (2 * n - 2)
    return np.minimum(index, 2 * n - 2 - index)


def area_taps(n_in: int, n_out: int) -> Taps:
    """The weights of OpenCV's INTER_AREA from *n_in* to *n_out* <= *n_in* <= 2 n_out pixels."""
    ratio = n_in / n_out
    start = np.arange(n_out) * ratio
    end = start + ratio
    length = np.minimum(ratio, n_in - start)
    last = np.minimum(np.floor(end).astype(int), n_in - 1)
    first = np.minimum(np.ceil(start).astype(int), last)
    columns = [(first - 1, (first - start) / length, first - start > 1e-3)]
    columns += [(first + i, 1 / length, first + i < last) for i in range(2)]
    columns += [(last, np.minimum(np.minimum(end - last, 1), length) / length, end - last > 1e-3)]
    index = np.stack([np.where(used, at, first) for at, _, used in columns], axis=1)
    weights = np.stack([np.where(used, weight, 0) for _, weight, used in columns], axis=1)
    return Taps(index, weights.astype(np.float32), n_in)


def cubic_taps(n_in: int, n_out: int) -> Taps:
    """The weights of OpenCV's INTER_CUBIC: Keys' kernel with a = -3/4; beyond the border its pixels are repeated."""
    centre = (np.arange(n_out) + 0.5) * (n_in / n_out) - 0.5
    index = np.floor(centre).astype(int)[:, None] + np.arange(-1, 3)
    distance = np.abs(centre[:, None] - index)
    a = -0.75
    near = ((a + 2) * distance - (a + 3)) * distance**2 + 1
    far = ((a * distance - 5 * a) * distance + 8 * a) * distance - 4 * a
    return Taps(np.clip(index, 0, n_in - 1), np.where(distance <= 1, near, far).astype(np.float32), n_in)


def _source(axes: Sequence[Taps], box: Box) -> Box:
    """The pixels that *box* is averaged from."""
    rows, columns = axes[0].index[box[0] : box[2]], axes[1].index[box[1] : box[3]]
    return int(rows.min()), int(columns.min()), int(rows.max()) + 1, int(columns.max()) + 1


def _weighted(source: Region, axes: Sequence[Taps], box: Box) -> np.ndarray:
    """The pixels of *box*, summed in single precision in OpenCV's own order: along rows first."""
    top, left, bottom, right = _source(axes, box)
    pixels = source.read(top, left, bottom, right)
    rows, columns = axes
    heights, widths = (len(axis.index) for axis in axes)
    if 2 * heights == rows.n_in and 2 * widths == columns.n_in:  # OpenCV averages 2 x 2 in whole numbers, halves up
        quads = pixels.reshape(pixels.shape[0] // 2, 2, pixels.shape[1] // 2, 2, 3)
        return ((quads.sum(axis=(1, 3), dtype=np.uint16) + 2) >> 2).astype(np.uint8)
    along = _sum_taps(pixels.astype(np.float32), columns, slice(box[1], box[3]), left, axis=1)
    return np.clip(np.rint(_sum_taps(along, rows, slice(box[0], box[2]), top, axis=0)), 0, 255).astype(np.uint8)


def _sum_taps(values: np.ndarray, taps: Taps, outputs: slice, origin: int, *, axis: int) -> np.ndarray:
    index, weights = taps.index[outputs] - origin, taps.weights[outputs]
    shape = (-1, 1) if axis else (-1, 1, 1)
    total = None
    for k in range(index.shape[1]):
        if weights[:, k].any():
            part = values.take(index[:, k], axis=axis)
            part *= weights[:, k].reshape(shape)
            total = part if total is None else np.add(total, part, out=total)
    return total
