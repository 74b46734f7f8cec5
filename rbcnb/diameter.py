"""The diameter of a typical cell, estimated from the smear itself."""

import cv2
import numpy as np

_OPAQUE_DENSITY = 0.7  # no red cell is so dark: what is, is a nucleus, a fibre or the edge of the field of view
_FAINTEST_DENSITY = 0.03  # between stained and background: fainter than a pale cell, stronger than noise
_SMALLEST_PX = 6  # narrower areas are noise or platelets


def estimate_diameter(image: np.ndarray) -> float:
    """The diameter of a typical cell, in pixels of *image* [H, W, 3] uint8 RGB.

    Stained areas are split from the background by Otsu's threshold on optical density. Areas without dents are taken
    for single cells, and the median of their diameters is weighted by area: platelets and dirt may outnumber the cells
    but do not outweigh them. In a crowd with fewer than five such areas, the widest places of the stained areas count.

    Raises ValueError where nothing stands out from the background like a cell: give the diameter instead.
    """
    mask = _stained(image)
    contours, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    # Drawn filled, since pale centres are part of the cell.
    filled = cv2.drawContours(np.zeros_like(mask), contours, -1, 255, cv2.FILLED)
    diameters = [diameter for contour in contours if (diameter := _single_diameter(contour, mask.shape))]
    if len(diameters) < 5:
        diameters += _widths(filled)
    if not diameters:
        raise ValueError("no cell stands out from the background: give the cell diameter in pixels (diameter_px)")
    diameters = np.sort(diameters)
    weights = np.cumsum(diameters**2)
    return float(diameters[np.searchsorted(weights, weights[-1] / 2)])


def _stained(image: np.ndarray) -> np.ndarray:
    """Mask [H, W] uint8 0/255 of what is darker than the background in green, where haemoglobin absorbs most."""
    green = cv2.GaussianBlur(image[:, :, 1], (0, 0), 1.0).astype(np.float32) + 1
    # Uneven light: the brightest tenth of each of 4 x 4 blocks is background, unless the lens let no light in there.
    rows = np.array_split(green, min(4, green.shape[0]))
    blocks = [[np.percentile(b, 90) for b in np.array_split(row, min(4, green.shape[1]), axis=1)] for row in rows]
    blocks = np.maximum(blocks, np.max(blocks) / 2).astype(np.float32)
    background = cv2.resize(blocks, green.shape[::-1], interpolation=cv2.INTER_LINEAR)
    density = np.log10(background / green)
    levels = np.round(np.clip(density, 0, 1) * 255).astype(np.uint8)
    lit = levels[density < _OPAQUE_DENSITY]
    threshold, split = cv2.threshold(lit, 0, 255, cv2.THRESH_BINARY | cv2.THRESH_OTSU)
    contrast = lit[split.ravel() > 0].mean() - lit[split.ravel() == 0].mean() if split.any() else 0
    stained = levels > threshold if contrast >= 255 * _FAINTEST_DENSITY else np.zeros(levels.shape, bool)
    return np.where(stained, np.uint8(255), np.uint8(0))


def _single_diameter(contour: np.ndarray, shape: tuple[int, int]) -> float | None:
    """Diameter of the circle of a stained area's size, None unless the area is whole and shaped like one cell."""
    left, top, width, height = cv2.boundingRect(contour)
    whole = left > 0 and top > 0 and left + width < shape[1] and top + height < shape[0]
    area = cv2.contourArea(contour)
    if not whole or min(width, height) < _SMALLEST_PX or area < 0.93 * cv2.contourArea(cv2.convexHull(contour)):
        return None
    # A contour runs through the centres of the outermost pixels: half a pixel short on each side.
    return 2 * float(np.sqrt(area / np.pi)) + 1


def _widths(filled: np.ndarray) -> list[float]:
    """Diameters of the largest circles that fit at the widest places of the stained areas."""
    distance = cv2.distanceTransform(filled, cv2.DIST_L2, 5)
    distance = cv2.GaussianBlur(distance, (0, 0), 1.0)
    peaks = (distance >= cv2.dilate(distance, np.ones((7, 7), np.uint8))) & (distance >= _SMALLEST_PX / 2)
    return list(2.0 * distance[peaks])
