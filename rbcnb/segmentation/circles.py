"""Circles around cells, from edges that know which side is the cell's.

Density rises into a cell, so every edge pixel says not only that a centre lies along its gradient but on which side.
Gaps between cells and the inner rim of a pallor, where density rises outwards, cast no votes for a cell.
"""

import cv2
import numpy as np

_ANGLES = np.arange(48) * (2 * np.pi / 48)
_COS, _SIN = np.cos(_ANGLES), np.sin(_ANGLES)
_STEP_PX = 2  # of the accumulator


def gradients(density: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Slopes of *density* [H, W] float32 along x and y, per pixel."""
    return tuple(cv2.Sobel(density, cv2.CV_32F, dx, dy, ksize=3, scale=1 / 8) for dx, dy in ((1, 0), (0, 1)))


def edge_pixels(gx: np.ndarray, gy: np.ndarray, low: float, high: float) -> np.ndarray:
    """Mask [H, W] of Canny's edges: ridges of the slope above *low* that connect to one above *high*."""
    unit = 20000 / max(high * 8, 1e-6)  # Canny reads 16-bit slopes
    slopes = (np.clip(slope * unit, -32000, 32000).astype(np.int16) for slope in (gx, gy))
    return cv2.Canny(*slopes, low * unit, high * unit, L2gradient=True) > 0


def propose_circles(
    gx: np.ndarray, gy: np.ndarray, edges: np.ndarray, *, radius_px: tuple[float, float], steep: float
) -> np.ndarray:
    """Circles [N, 3] (x, y, radius) for which many edge pixels vote; rough, to the pixel or two.

    Every edge pixel votes at each radius for the centre that lies so far up the slope; an edge of slope *steep* or
    more has a full vote. Votes are counted per pixel of circumference.
    """
    low, high = radius_px
    radii = np.arange(low, high + 0.1, _STEP_PX)
    rows, columns = np.nonzero(edges)
    if not len(rows):
        return np.empty((0, 3))
    pad = int(high) + 2 * _STEP_PX  # centres may lie outside the image
    height, width = ((side + 2 * pad) // _STEP_PX + 1 for side in edges.shape)
    vx, vy = gx[rows, columns], gy[rows, columns]
    slope = np.hypot(vx, vy)
    reach = radii[:, None]
    x = ((columns + reach * (vx / slope) + pad) / _STEP_PX + 0.5).astype(np.int32)
    y = ((rows + reach * (vy / slope) + pad) / _STEP_PX + 0.5).astype(np.int32)
    cells = (np.arange(len(radii), dtype=np.int32)[:, None] * height + y) * width + x
    weights = np.broadcast_to(np.minimum(slope / steep, 1), cells.shape)
    votes = np.bincount(cells.ravel(), weights.ravel(), minlength=len(radii) * height * width)
    votes = votes.astype(np.float32).reshape(len(radii), height, width)
    sigma = 0.09 * (low + high) / 2 / _STEP_PX  # cells are not quite circles
    for layer, radius in zip(votes, radii, strict=True):
        layer[:] = cv2.GaussianBlur(layer, (0, 0), sigma) * (sigma**2 / radius)
    summed = votes.copy()
    summed[1:] += 0.5 * votes[:-1]
    summed[:-1] += 0.5 * votes[1:]
    best = summed.max(axis=0)
    window = int(0.2 * (low + high) / _STEP_PX) | 1
    rows, columns = np.nonzero((best >= cv2.dilate(best, np.ones((window, window), np.uint8))) & (best > 0.12))
    radius = radii[summed[:, rows, columns].argmax(axis=0)]
    return np.column_stack([columns * _STEP_PX - pad, rows * _STEP_PX - pad, radius]).astype(float)


def fit_circles(
    circles: np.ndarray,
    gx: np.ndarray,
    gy: np.ndarray,
    *,
    radius_px: tuple[float, float],
    steep: float,
    widths: tuple[float, ...] = (0.24, 0.14),
) -> tuple[np.ndarray, np.ndarray]:
    """Move each circle [N, 3] onto the edges around it -> circles [N, 3], and the support [N] of each, 0 to 1.

    Along 48 spokes the steepest rise towards the centre is sought near the circle, and a circle is laid through these
    points by weighted least squares: once for each of *widths*, how far is looked in and out, in mean radii. Support is
    the share of the circle inside the image that has such an edge where the circle is; an edge of slope *steep* counts
    in full.
    """
    circles = circles.astype(float)
    if not len(circles):
        return circles, np.empty(0)
    unit = sum(radius_px) / 2
    terms = np.stack([np.ones_like(_ANGLES), _COS, _SIN], axis=1)
    for width in widths:
        offsets = np.linspace(-width, width, 9) * unit
        along = circles[:, 2, None, None] + offsets
        x = (circles[:, 0, None, None] + along * _COS[:, None]).astype(np.float32)
        y = (circles[:, 1, None, None] + along * _SIN[:, None]).astype(np.float32)
        slopes = [_sample(slope, x, y) for slope in (gx, gy)]
        rise = -(slopes[0] * _COS[:, None] + slopes[1] * _SIN[:, None]).astype(float)
        nearest_first = 1 - 0.3 * np.abs(offsets) / offsets[-1]
        where = (rise * nearest_first).argmax(axis=2)
        edge = np.clip(np.take_along_axis(rise, where[..., None], 2)[..., 0] / steep, 0, 1)
        weight = edge**2
        # A prior of one and a half spokes keeps a circle with few edges where it is.
        normal = np.einsum("nk,ki,kj->nij", weight, terms, terms) + np.diag([0.5, 1.5, 1.5])
        moved = np.linalg.solve(normal, np.einsum("nk,ki,nk->ni", weight, terms, offsets[where])[..., None])[..., 0]
        misfit = np.abs(offsets[where] - moved @ terms.T)
        circles += moved[:, [1, 2, 0]]
        circles[:, 2] = np.clip(circles[:, 2], radius_px[0], 1.1 * radius_px[1])
    middle = offsets.size // 2
    inside = (x[..., middle] >= 0) & (x[..., middle] < gx.shape[1]) & (y[..., middle] >= 0)
    inside &= y[..., middle] < gx.shape[0]
    seen = edge * (misfit < 0.12 * unit) * inside
    return circles, seen.sum(axis=1) / np.maximum(inside.sum(axis=1), 12)


def _sample(image: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """*image* [H, W] at points of any shape, bilinear, 0 outside."""
    count, rest = len(x), x[0].size
    step = 32000 // 8  # OpenCV's remap takes less than 32768 rows
    parts = [
        cv2.remap(image, x[i : i + step].reshape(-1, rest), y[i : i + step].reshape(-1, rest), cv2.INTER_LINEAR)
        for i in range(0, count, step)
    ]
    return np.concatenate(parts).reshape(x.shape)
