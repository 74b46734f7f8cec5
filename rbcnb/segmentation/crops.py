"""Crops of single cells (lines 7 to 15 of Algorithm 1), from a smear that is upscaled or is to be."""

import math

import numpy as np
import pandas as pd

from rbcnb.columns import RADIUS, X, Y
from rbcnb.segmentation import upscaling
from rbcnb.segmentation.matching import coordinates
from rbcnb.segmentation.upscaled_windows import upscaled_windows


def crop_cells(
    image: np.ndarray, cells: pd.DataFrame, size_px: int, *, scale: float = 1.0, enlarge: float = 1.0
) -> np.ndarray:
    """Cut one square per cell (lines 7 to 15 of Algorithm 1) -> [N, size_px, size_px, 3] uint8.

    The square of side 2 * radius around the centre is cut and zero-padded to size_px, equally on all sides (an odd
    pixel goes right and below). The paper is silent on 2 * radius > size_px: then the centre of the square is kept.
    What lies outside the image is zero too.

    Args:
        image: [H, W, 3] uint8, *scale* times as large as the smear whose pixels the table speaks of.
        cells: x_px, y_px, radius_px.
        enlarge: each square is enlarged by this factor (bicubically; area averaging below 1) before it is padded.

    Raises ValueError for a missing or non-finite coordinate or radius.
    """
    circles = magnified(coordinates(cells, [X, Y, RADIUS]), scale)
    crops = np.zeros((len(circles), size_px, size_px, 3), np.uint8)
    for crop, circle in zip(crops, circles, strict=True):
        square = _square(image, *_corner(circle))
        if enlarge != 1:
            square = upscaling.bicubic(square, enlarge)
        side = square.shape[0]
        if side > size_px:
            start = (side - size_px) // 2
            crop[:] = square[start : start + size_px, start : start + size_px]
        else:
            start = (size_px - side) // 2
            crop[start : start + side, start : start + side] = square
    return crops


def upscaled_crops(image: np.ndarray, cells: pd.DataFrame, size_px: int, scale: float, *, method: str) -> np.ndarray:
    """``crop_cells(upscaling.upscale(image, scale), cells, size_px, scale=scale)``, upscaling only what crops show.

    Args:
        image: [H, W, 3] uint8 RGB, the smear whose pixels the table speaks of.
        method: as of `upscaling.upscale`; how equal the pixels are, `upscaled_windows` says.
    """
    circles = magnified(coordinates(cells, [X, Y, RADIUS]), scale)
    height, width = upscaling.output_size(image, scale)
    crops = np.zeros((len(circles), size_px, size_px, 3), np.uint8)
    boxes, views = [], []
    for crop, circle in zip(crops, circles, strict=True):
        left, top, side = _corner(circle)
        shift = max(0, (side - size_px) // 2)  # of a square larger than the crop the centre is kept
        left, top, side = left + shift, top + shift, min(side, size_px)
        start = (size_px - side) // 2
        box = max(top, 0), max(left, 0), min(top + side, height), min(left + side, width)
        if box[0] < box[2] and box[1] < box[3]:
            row, column = start + box[0] - top, start + box[1] - left
            boxes.append(box)
            views.append(crop[row : row + box[2] - box[0], column : column + box[3] - box[1]])
    windows = upscaled_windows(image, boxes, scale, method=method)
    for view, window in zip(views, windows, strict=True):
        view[:] = window
    return crops


def _corner(circle: np.ndarray) -> tuple[int, int, int]:
    """Left, top and side of the square of pixels around a circle (x, y, radius); halves go right and below."""
    x, y, radius = circle
    side = max(1, round(2 * radius))
    return math.floor(x + 1 - side / 2), math.floor(y + 1 - side / 2), side


def _square(image: np.ndarray, left: int, top: int, side: int) -> np.ndarray:
    """A square of pixels [side, side, 3], zero outside the image."""
    square = np.zeros((side, side, 3), np.uint8)
    inside = image[max(top, 0) : max(top + side, 0), max(left, 0) : max(left + side, 0)]
    row, column = max(-top, 0), max(-left, 0)
    square[row : row + inside.shape[0], column : column + inside.shape[1]] = inside
    return square


def magnified(circles: np.ndarray, scale: float | np.ndarray) -> np.ndarray:
    """Circles [N, 3] (x, y, radius) in an image *scale* times as large; *scale* is one number, or one each for x, y."""
    centres = (circles[:, :2] + 0.5) * scale - 0.5
    return np.column_stack([centres, circles[:, 2] * np.mean(scale), circles[:, 3:]])
