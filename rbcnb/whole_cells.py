"""Stained areas that are one cell each: of a cell's size, without dents, whatever their shape."""

import cv2
import numpy as np


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
