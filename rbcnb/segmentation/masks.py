"""The area of each cell, from the learned finder's map of red cells: circles miss long and dented cells' shapes."""

from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from rbcnb._utils.files import atomic_write
from rbcnb._utils.opencv import cv2
from rbcnb.columns import RADIUS, X, Y

_REACH = 1.7  # of a cell beyond its circle, in radii: cells are up to three times as long as wide
_LEAST = 0.3  # of a circle's area that its mask has, or the circle is taken


def cell_masks(cells: pd.DataFrame, red_cell: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Which cell each pixel of a smear belongs to: [H,W] int32, the row in *cells* and 1, or 0 for none.

    A pixel that looks like a red cell goes to the cell whose centre is nearest, in radii of that cell, as far as it
    hangs together with the centre.

    Args:
        cells: ``x_px``, ``y_px``, ``radius_px``, in pixels of the smear.
        red_cell: [h,w] float, 0 to 1, of the whole smear at any size (`rbcnb.segmentation.learned.read_maps`).
        shape: (H, W) of the smear.
    """
    size = shape[1], shape[0]
    red = cv2.resize(np.rint(255 * red_cell).astype(np.uint8), size, interpolation=cv2.INTER_LINEAR) > 127
    owner, nearest = np.zeros(shape, np.int32), np.full(shape, np.inf, np.float32)
    circles = cells[[X, Y, RADIUS]].to_numpy(float)
    windows = [_window(circle, shape) for circle in circles]
    for number, (circle, window) in enumerate(zip(circles, windows, strict=True), start=1):
        distance = _distance(circle, window)
        closer = (distance < _REACH) & (distance < nearest[window]) & red[window]
        owner[window][closer] = number
        nearest[window][closer] = distance[closer]
    for number, (circle, window) in enumerate(zip(circles, windows, strict=True), start=1):
        mine, disc = owner[window] == number, _distance(circle, window) < 1
        _, parts = cv2.connectedComponents(mine.astype(np.uint8), connectivity=4)
        inside = np.bincount(parts[mine & disc], minlength=1)
        part = parts == inside.argmax() if inside.any() else np.zeros_like(mine)
        owner[window][mine & ~part] = 0
        if (part & disc).sum() < _LEAST * disc.sum():  # too pale for the map
            owner[window][disc & (owner[window] == 0)] = number
    return owner


def save_masks(path: Path, masks: np.ndarray) -> None:
    """Writes *masks* [H,W] as a 16-bit PNG.

    Raises:
        ValueError: more than 65,535 cells.
    """
    if masks.max(initial=0) > np.iinfo(np.uint16).max:
        raise ValueError(f"{masks.max()} cells are more than a 16-bit mask can number; cut the smear into tiles")
    with atomic_write(path) as temporary:
        Image.fromarray(masks.astype(np.uint16)).save(temporary)


def _distance(circle: np.ndarray, window: tuple[slice, slice]) -> np.ndarray:
    """How far each pixel of *window* lies from the centre of a circle (x, y, radius), in its radii: float32."""
    rows, columns = np.ogrid[window]
    return (np.hypot(columns - circle[0], rows - circle[1]) / circle[2]).astype(np.float32)


def _window(circle: np.ndarray, shape: tuple[int, int]) -> tuple[slice, slice]:
    """Rows and columns of a smear of *shape* that a cell with this circle (x, y, radius) may reach to."""
    x, y, radius = circle
    reach = _REACH * radius + 1
    return tuple(
        slice(max(0, int(centre - reach)), max(0, min(length, int(centre + reach) + 2)))
        for centre, length in ((y, shape[0]), (x, shape[1]))
    )
