"""Few rectangles that cover a mask, where each costs its area and something besides."""

import math

import numpy as np

Box = tuple[int, int, int, int]  # top, left, bottom, right; the last two exclusive


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
