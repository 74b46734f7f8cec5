"""The hybrid finder: single cells whole, circles inside clusters, and what is left of the stain.

1. Density over an even field (`rbcnb.segmentation.stain`), thresholded at a share of what is stained around each
   pixel, so that a pale cell beside a dark one keeps its outline; rings are closed and their pallor is filled.
2. White cells are taken out by the colour of their nuclei, whose dyes absorb less blue for their green than haemoglobin
   with eosin does. Under platelets, dirt and the eyepiece's pointer nothing is known: what shows of a cell decides.
3. A stained area of a cell's size without dents is one cell, whatever its shape.
4. Everything else is explained by circles (`rbcnb.segmentation.circles`): the best supported first, each must show an
   edge or be stained, and add something new. Two circles whose stain together is of a cell's size and without dents are
   one cell.
5. Stained areas far from every circle and large enough are cells too.

Lengths are relative to the cell diameter, densities to the smear's own.
"""

from dataclasses import dataclass

import cv2
import numpy as np
from scipy.spatial import cKDTree

from rbcnb.segmentation.circles import edge_pixels, fit_circles, gradients, propose_circles
from rbcnb.segmentation.stain import (
    NUCLEAR,
    box,
    disc,
    foreign_masks,
    measure_field,
    shown,
    stained_mask,
    upright,
    white_cell_mask,
)

_STEEP = 4.0  # slope of a full edge, in levels of density per diameter
_RADII = (0.65, 1.25)  # of circles inside clusters, in halves of the diameter; whole cells may have any
_LARGEST_ENLARGEMENT = 4.0  # of a smear with tiny cells
_SPIRAL = np.arange(256) + 0.5
# [2, 256] x and y of points that cover the unit disc evenly, on a sunflower's spiral.
_POINTS = np.sqrt(_SPIRAL / 256) * np.stack(
    [np.cos(_SPIRAL * np.pi * (3 - 5**0.5)), np.sin(_SPIRAL * np.pi * (3 - 5**0.5))]
)


@dataclass(frozen=True, eq=False)
class Found:
    """What the finder returns, in pixels of its image."""

    circles: np.ndarray  # [N, 3] float: x, y, radius
    score: np.ndarray  # [N] float, 0 to 1: share of the circle with an edge of a cell
    double: np.ndarray  # [N] bool: may hold two cells
    stages: dict[str, np.ndarray]  # "density" [H, W] uint8, "stained" [H, W] bool, at the working size


def find_hybrid(image: np.ndarray, spec, *, diameter_px: float) -> Found:
    """Find the red cells of *image* [H, W, 3] uint8 RGB; *spec* is a `rbcnb.segmentation.FinderSpec`."""
    factor = min(spec.density_px / diameter_px, _LARGEST_ENLARGEMENT)
    small = _resized(upright(image), factor)
    diameter = diameter_px * factor
    field = measure_field(small, sigma_px=max(0.025 * diameter, 0.6), block_px=0.075 * diameter)
    height, width = small.shape[:2]
    if field.level == 0 or field.hue[1] < NUCLEAR:
        nothing = {"density": shown(field), "stained": np.zeros((height, width), bool)}
        return Found(np.empty((0, 3)), np.empty(0), np.empty(0, bool), nothing)

    nuclei, dirt = foreign_masks(field, spec, diameter)
    white = white_cell_mask(nuclei, diameter)
    loose = stained_mask(field, spec, diameter) & (1 - (nuclei | white | dirt))
    stained = cv2.morphologyEx(loose, cv2.MORPH_OPEN, disc(0.15 * diameter))
    whole, wholes, rest = whole_cells(stained, diameter)

    gx, gy = gradients(field.density / np.float32(field.level))
    steep = _STEEP / diameter
    radii = (_RADII[0] * diameter / 2, _RADII[1] * diameter / 2)
    edges = edge_pixels(gx, gy, 0.4 * steep, 0.8 * steep)
    edges &= cv2.dilate(wholes, np.ones(box(0.175 * diameter), np.uint8)) == 0
    circles = propose_circles(gx, gy, edges, radius_px=radii, steep=1.2 * steep)
    circles, support = fit_circles(circles, gx, gy, radius_px=radii, steep=steep)
    circles, far = _choose(circles, support, (wholes | white, dirt | nuclei, stained, loose), spec, diameter)
    circles = _fuse(circles, rest, spec, diameter)
    left = _left_over(rest * (far == 0), spec, diameter)

    found = np.concatenate([whole, circles, left])
    _, score = fit_circles(found, gx, gy, radius_px=radii, steep=steep, widths=(0.14,))
    where, seen = _disc_points(found, white.shape)
    # Two cells side by side are large and no circle; two on top of each other absorb twice, with a step in between.
    double = (found[:, 2] > 0.515 * diameter) & (score < 0.82)
    density = np.where(seen, field.density.ravel()[where], 0)
    median = np.median(density, axis=1, keepdims=True)
    double |= ((density > 1.5 * median).mean(axis=1) > 0.1) & ((density > 1.5 * field.level).mean(axis=1) > 0.3)
    red = (nuclei.ravel()[where] & seen).sum(axis=1) < 0.4 * seen.sum(axis=1)
    x, y = (np.clip(found[:, i], 0, side - 1).astype(int) for i, side in enumerate((width, height)))
    red &= white[y, x] == 0
    inside = (found[:, 0] >= 0) & (found[:, 1] >= 0) & (found[:, 0] <= width - 1) & (found[:, 1] <= height - 1)
    keep = red & inside
    scale = np.divide(image.shape[1::-1], (width, height))  # whole sides: not exactly the factor asked for
    circles = np.column_stack([(found[:, :2] + 0.5) * scale - 0.5, found[:, 2] * scale.mean()])[keep]
    return Found(circles, score[keep], double[keep], {"density": shown(field), "stained": stained > 0})


def whole_cells(stained: np.ndarray, diameter: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Circles [N, 3] of the areas that are one cell each, these areas, and the other areas ([H, W] uint8 0/1)."""
    size = np.pi / 4 * diameter**2
    circles, whole, others = [], [], []
    outlines, _ = cv2.findContours(stained, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    for outline in outlines:
        area = cv2.contourArea(outline) + len(outline) / 2 + 1  # in pixels, those of the outline counted in
        if area < 0.1 * size:
            continue
        left, top, width, height = cv2.boundingRect(outline)
        cut = left == 0 or top == 0 or left + width == stained.shape[1] or top + height == stained.shape[0]
        longest = 1.45 if area > 1.2 * size else 2.2
        if not cut and 0.35 * size <= area < 1.9 * size and _is_one_cell(outline, diameter, longest=longest):
            moments = cv2.moments(outline)
            circles.append((moments["m10"] / moments["m00"], moments["m01"] / moments["m00"], np.sqrt(area / np.pi)))
            whole.append(outline)
        else:
            others.append(outline)
    wholes, rest = (
        cv2.drawContours(np.zeros_like(stained), chosen, -1, 1, cv2.FILLED) & stained for chosen in (whole, others)
    )
    return np.array(circles, float).reshape(-1, 3), wholes, rest


def _is_one_cell(outline: np.ndarray, diameter: float, *, longest: float) -> bool:
    """Whether an outline has no dents and is no longer than *longest* times its width."""
    hull = cv2.convexHull(outline)
    if cv2.contourArea(outline) <= 0.94 * cv2.contourArea(hull):
        return False
    (_, sides, _) = cv2.minAreaRect(outline)
    if max(sides) >= longest * max(min(sides), 1):
        return False
    corners = cv2.convexHull(outline, returnPoints=False)
    corners[::-1].sort(axis=0)  # convexityDefects wants them in order
    dents = cv2.convexityDefects(outline, corners) if len(outline) > 4 else None
    return dents is None or dents.reshape(-1, 4)[:, 3].max() / 256 < 0.06 * diameter


def _choose(
    circles: np.ndarray, support: np.ndarray, masks: tuple[np.ndarray, ...], spec, diameter: float
) -> tuple[np.ndarray, np.ndarray]:
    """The circles that explain the clusters, greedily, and the mask [H, W] of what lies in or close to one.

    *masks*: what is taken by others, what nothing can be seen through, stained areas, and these with thin rims.
    """
    taken, dirt, stained, loose = masks
    hopeful = (support >= 0.35) & (support + 0.5 >= spec.evidence)
    circles, support = circles[hopeful], support[hopeful]
    where, seen = _disc_points(circles, stained.shape)
    n_inside = seen.sum(axis=1)
    seen &= dirt.ravel()[where] == 0
    rim = seen & (np.hypot(*_POINTS) >= 0.72)
    n, n_rim = np.maximum(seen.sum(axis=1), 1), np.maximum(rim.sum(axis=1), 1)
    cover = np.maximum(
        (stained.ravel()[where] & seen).sum(axis=1) / n, (loose.ravel()[where] & rim).sum(axis=1) / n_rim
    )
    evidence = support + 0.5 * cover
    value = evidence + 0.3 * circles[:, 2] / diameter
    free = (taken.ravel()[where] & seen).sum(axis=1) <= 0.3 * n
    sure = (
        free & (n >= np.maximum(0.4 * n_inside, 0.03 * _POINTS.shape[1])) & (evidence >= spec.evidence) & (cover > 0.1)
    )
    explained, far = np.zeros_like(stained), np.zeros_like(stained)
    chosen: list[int] = []
    for i in np.flatnonzero(sure)[np.argsort(-value[sure], kind="stable")]:
        apart = circles[chosen, :2] - circles[i, :2]
        if chosen and (apart**2).sum(axis=1).min() < (spec.apart * diameter) ** 2:
            continue
        if (explained.ravel()[where[i]] & seen[i]).sum() > 0.5 * n[i]:
            continue
        _fill(explained, circles[i])
        _fill(far, circles[i] * (1, 1, 1.15))
        chosen.append(int(i))
    return circles[chosen], far


def _fuse(circles: np.ndarray, rest: np.ndarray, spec, diameter: float) -> np.ndarray:
    """Replace two circles by one where their stain together looks like one cell."""
    circles = circles.copy()
    if len(circles) < 2:
        return circles
    owner = np.full(rest.shape, -1, np.int32)
    power = np.full(rest.shape, np.inf, np.float32)
    for i, (x, y, radius) in enumerate(circles):
        window, squared = _window(x, y, 1.35 * radius, rest.shape)
        nearer = (squared - radius**2 < power[window]) & (rest[window] > 0)
        power[window][nearer] = (squared - radius**2)[nearer]
        owner[window][nearer] = i
    pairs = cKDTree(circles[:, :2]).query_pairs(diameter, output_type="ndarray")
    pairs = pairs[np.argsort(np.linalg.norm(circles[pairs[:, 0], :2] - circles[pairs[:, 1], :2], axis=1))]
    gone = np.zeros(len(circles), bool)
    for i, j in pairs:
        if gone[i] or gone[j]:
            continue
        middle = (circles[i] + circles[j]) / 2
        window, _ = _window(middle[0], middle[1], 1.5 * diameter, rest.shape)
        both = (owner[window] == i) | (owner[window] == j)
        area = both.sum()
        if not 0.05 * diameter**2 < area <= spec.fuse * np.pi / 4 * diameter**2:
            continue
        outlines, _ = cv2.findContours(both.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
        hull = cv2.contourArea(cv2.convexHull(np.concatenate(outlines)))
        if max(map(cv2.contourArea, outlines)) < 0.92 * hull:
            continue
        rows, columns = np.nonzero(both)
        circles[i] = columns.mean() + window[1].start, rows.mean() + window[0].start, np.sqrt(area / np.pi)
        owner[window][both] = i
        gone[j] = True
    return circles[~gone]


def _left_over(left: np.ndarray, spec, diameter: float) -> np.ndarray:
    """Circles [N, 3] for the stained areas that no circle explains, several for a large one."""
    left = cv2.morphologyEx(left.astype(np.uint8), cv2.MORPH_OPEN, disc(0.2 * diameter))
    count, labels, stats, centres = cv2.connectedComponentsWithStats(left, connectivity=4)
    size = np.pi / 4 * diameter**2
    found = []
    for i in range(1, count):
        x, y, width, height, area = stats[i]
        cut = x == 0 or y == 0 or x + width == left.shape[1] or y + height == left.shape[0]
        if area < spec.remnant * size * (0.7 if cut else 1.0):
            continue
        if area < 1.5 * size:
            found.append((*centres[i], np.sqrt(area / np.pi)))
            continue
        piece = cv2.copyMakeBorder((labels[y : y + height, x : x + width] == i).astype(np.uint8), 1, 1, 1, 1, 0)
        distance = cv2.distanceTransform(piece, cv2.DIST_L2, 5)
        for _ in range(2 * round(area / size)):
            _, depth, _, (column, row) = cv2.minMaxLoc(distance)
            if depth < 0.2 * diameter:
                break
            found.append((column + x - 1, row + y - 1, min(depth, 0.65 * diameter)))
            cv2.circle(distance, (column, row), round(0.7 * diameter), 0, cv2.FILLED)
    return np.array(found, float).reshape(-1, 3)


def _disc_points(circles: np.ndarray, shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Points spread evenly over each circle's disc: indices [N, K] into the flat image, and which [N, K] lie in it."""
    x, y = (circles[:, :2, None] + circles[:, 2, None, None] * _POINTS).round().astype(np.int32).transpose(1, 0, 2)
    seen = (x >= 0) & (x < shape[1]) & (y >= 0) & (y < shape[0])
    return np.where(seen, y * shape[1] + x, 0), seen


def _window(x: float, y: float, reach: float, shape: tuple[int, ...]) -> tuple[tuple[slice, slice], np.ndarray]:
    """The window of an image within *reach* of (x, y), and the squared distances [h, w] float32 of its pixels."""
    top, bottom = (min(max(int(v), 0), shape[0]) for v in (y - reach, y + reach + 2))
    left, right = (min(max(int(v), 0), shape[1]) for v in (x - reach, x + reach + 2))
    rows = np.arange(top - y, bottom - y - 0.5, dtype=np.float32)
    columns = np.arange(left - x, right - x - 0.5, dtype=np.float32)
    return (slice(top, bottom), slice(left, right)), np.add.outer(rows * rows, columns * columns)


def _fill(mask: np.ndarray, circle: np.ndarray) -> None:
    """Draw a disc (x, y, radius) on *mask*, its centre and radius to a sixteenth of a pixel."""
    x, y, radius = (round(16 * float(v)) for v in circle)
    cv2.circle(mask, (x, y), radius, 1, cv2.FILLED, shift=4)


def _resized(image: np.ndarray, factor: float) -> np.ndarray:
    if abs(factor - 1) < 0.02:
        return image
    size = tuple(max(1, round(factor * side)) for side in image.shape[1::-1])
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA if factor < 1 else cv2.INTER_CUBIC)
