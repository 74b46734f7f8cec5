"""The diameter of a typical cell, estimated from the smear itself."""

import numpy as np

from rbcnb._utils.opencv import cv2
from rbcnb.segmentation.stain import OPAQUE, measure_field, upright

_SMALLEST_PX = 6  # narrower areas are noise or platelets
_CROWD = 0.2  # share of the stained area in single cells below which the others count
_SHORT = 1.06  # a cell's diameter over the widest place of a cluster there: cells are not round, and peaks are smoothed
_LARGEST_PX = 1_500_000  # larger images are read at this size


def estimate_diameter(image: np.ndarray) -> float:
    """The diameter of a typical cell, in pixels of *image*.

    Whole stained areas without dents are taken for single cells. In a crowd, where these are fewer than five or a fifth
    of what is stained, the widest places of the stained areas count too. The median is weighted by area: platelets and
    dirt may outnumber the cells but do not outweigh them.

    Args:
        image: [H, W, 3] uint8 RGB; cells dark on a bright field, or bright on a dark one.

    Raises:
        ValueError: nothing stands out from the background like a cell: give the diameter instead.
    """
    factor = min(1.0, (_LARGEST_PX / (image.shape[0] * image.shape[1])) ** 0.5)
    if factor < 1:
        size = tuple(max(1, round(factor * side)) for side in image.shape[1::-1])
        image = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    filled = _filled(upright(image))
    singles = _single_diameters(filled)
    weight = float(np.sum(np.square(singles)))
    crowd = _widths(filled) if len(singles) < 5 or weight < _CROWD * filled.sum() / 255 else []
    diameters = np.sort(singles + crowd)
    if not len(diameters):
        raise ValueError("no cell stands out from the background: give the cell diameter in pixels (diameter_px)")
    weights = np.cumsum(diameters**2)
    return float(diameters[np.searchsorted(weights, weights[-1] / 2)]) / factor


def _filled(image: np.ndarray) -> np.ndarray:
    """Mask [H, W] uint8 0/255 of stained areas at half a typical cell's density, holes filled."""
    field = measure_field(image)
    if field.level == 0:
        return np.zeros(image.shape[:2], np.uint8)
    mask = (field.density > 0.5 * field.level) & (field.density < OPAQUE)
    contours, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    return cv2.drawContours(np.zeros(mask.shape, np.uint8), contours, -1, 255, cv2.FILLED)


def _single_diameters(filled: np.ndarray) -> list[float]:
    """Diameters of the circles of the size of the areas that are whole and shaped like one cell."""
    contours, _ = cv2.findContours(filled, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    diameters = []
    for contour in contours:
        left, top, width, height = cv2.boundingRect(contour)
        whole = left > 0 and top > 0 and left + width < filled.shape[1] and top + height < filled.shape[0]
        if not whole or min(width, height) < _SMALLEST_PX or max(width, height) > 2 * min(width, height):
            continue
        area = cv2.contourArea(contour)
        if area > 0.93 * cv2.contourArea(cv2.convexHull(contour)):
            # A contour runs through the centres of the outermost pixels: half a pixel short on each side.
            diameters.append(2 * float(np.sqrt(area / np.pi)) + 1)
    return diameters


def _widths(filled: np.ndarray) -> list[float]:
    """Diameters of cells, from the largest circles that fit at the widest places of the stained areas."""
    distance = cv2.distanceTransform(filled, cv2.DIST_L2, 5)
    distance = cv2.GaussianBlur(distance, (0, 0), 1.0)
    peaks = (distance >= cv2.dilate(distance, np.ones((7, 7), np.uint8))) & (distance >= _SMALLEST_PX / 2)
    return list(2.0 * _SHORT * distance[peaks])
