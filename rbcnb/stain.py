"""What of a field is a red cell's: masks of stain, of nuclei and platelets, of white cells and of dirt.

Masks are [H, W] uint8 0/1. Lengths are relative to the cell diameter, densities to a typical cell's.
"""

import cv2
import numpy as np

from rbcnb.density import NUCLEAR, OPAQUE, Field

_LACK_BLUE = 0.02  # least density of blue lacking for a nucleus: less is the noise of JPEG's colours
_DIRT = 0.35  # red beyond that of the cells, in levels


def stained_mask(field: Field, spec, diameter: float) -> np.ndarray:
    """Mask [H, W] uint8 0/1 of what is at least a share of the density around it, pallor filled."""
    size = field.density.shape[1::-1]
    small = tuple((side + 3) // 4 for side in size)
    around = cv2.dilate(cv2.resize(shown(field), small, interpolation=cv2.INTER_AREA), disc(0.125 * diameter))
    around = cv2.blur(around, box(0.075 * diameter)).clip(64, 127)
    around = cv2.resize(around.astype(np.float32) * (spec.stain * field.level / 127), size)
    mask = cv2.compare(field.density, around, cv2.CMP_GT) & 1
    # Pale rims are broken here and there: holes are looked for behind closed gaps, and bring their rim with them.
    closed = cv2.morphologyEx(mask, cv2.MORPH_CLOSE, disc(0.15 * diameter))
    pallor = _pallor(closed, diameter)
    rims = cv2.dilate(pallor, disc(0.25 * diameter)) & (closed | pallor)
    return mask | _pallor(mask, diameter) | rims


def _pallor(mask: np.ndarray, diameter: float) -> np.ndarray:
    """Mask [H, W] uint8 0/1 of the holes of *mask* that are a cell's own: small, or round up to the size of a cell.

    Gaps between cells are not round.
    """
    outlines, tree = cv2.findContours(mask, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    holes = []
    for i in np.flatnonzero(tree[0, :, 3] >= 0) if tree is not None else []:
        # An outline of a hole runs over the pixels around it.
        area = cv2.contourArea(outlines[i]) - len(outlines[i]) / 2 + 1
        if area >= 0.02 * diameter**2:
            _, _, width, height = cv2.boundingRect(outlines[i])
            hull = cv2.contourArea(cv2.convexHull(outlines[i]))
            if area >= 0.9 * diameter**2 or min(width, height) <= 0.4 * max(width, height):
                continue
            if cv2.contourArea(outlines[i]) <= 0.88 * hull:
                continue
        holes.append(outlines[i])
    return cv2.drawContours(np.zeros_like(mask), holes, -1, 1, cv2.FILLED)


def foreign_masks(field: Field, spec, diameter: float) -> tuple[np.ndarray, np.ndarray]:
    """Masks [H, W] uint8 0/1 of nuclei and platelets, and of dirt and the pointer; cells may lie under both."""
    shape = field.density.shape
    diameter *= field.colours.shape[1] / shape[1]
    red, green, blue = cv2.split(cv2.blur(field.colours, box(0.15 * diameter)))
    lack = field.hue[1] * green - blue
    # Where cells are brown, shading moves blue by as much as nuclei do elsewhere; and nuclei lack more of it.
    least = max(1.25 * spec.nucleus, 0.75 * (field.hue[1] - NUCLEAR)) * field.level
    nuclei = lack > max(least, _LACK_BLUE)
    foreign = nuclei | (green > OPAQUE) | (red - field.hue[0] * green > _DIRT * field.level)
    opened = cv2.morphologyEx(foreign.astype(np.uint8), cv2.MORPH_OPEN, disc(0.2 * diameter))
    nuclei = opened & cv2.dilate(nuclei.astype(np.uint8), np.ones((3, 3), np.uint8))
    nuclei, foreign = (
        cv2.dilate(cv2.resize(mask, shape[::-1], interpolation=cv2.INTER_NEAREST), np.ones((3, 3), np.uint8))
        for mask in (nuclei, opened)
    )
    return nuclei, foreign & (1 - nuclei)


def white_cell_mask(nuclei: np.ndarray, diameter: float) -> np.ndarray:
    """Mask [H, W] uint8 0/1 of white cells: large nuclei, or lobes close together, and the cytoplasm around them."""
    bodies = np.zeros_like(nuclei)
    joined = cv2.morphologyEx(nuclei, cv2.MORPH_CLOSE, disc(0.5 * diameter))
    for outline in cv2.findContours(joined, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)[0]:
        hull = cv2.convexHull(outline)
        area = cv2.contourArea(hull)
        if area > 0.3 * np.pi / 4 * diameter**2:
            cytoplasm = 0.5 * np.sqrt(area / np.pi)
            cv2.drawContours(bodies, [hull], -1, 1, cv2.FILLED)
            cv2.drawContours(bodies, [hull], -1, 1, max(1, round(2 * cytoplasm)))
    return bodies


def shown(field: Field) -> np.ndarray:
    """Density as a picture [H, W] uint8, white where it is twice a typical cell's."""
    return np.clip(field.density * np.float32(127 / max(field.level, 1e-6)), 0, 255).astype(np.uint8)


def disc(diameter: float) -> np.ndarray:
    return cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (int(diameter) | 1,) * 2)


def box(side: float) -> tuple[int, int]:
    return (int(side) | 1,) * 2
