"""A smear with its cells ringed in the colours of their calls, and a legend that counts them."""

from collections.abc import Sequence
from pathlib import Path

import cv2
import matplotlib as mpl
import numpy as np
import pandas as pd
from PIL import Image, ImageColor, ImageDraw, ImageFont

from rbcnb.columns import BORDER, RADIUS, UNSURE, X, Y, readable
from rbcnb.plotting.style import BLACK, colours_of

CALL = "call"
_NOT_COUNTED = "cut off, not counted"
_WIDTH_PX = 800  # a narrower image is enlarged by a whole factor, so that thin rings show
_SHIFT = 4  # of OpenCV's fixed-point coordinates: sixteenths of a pixel
_WHITE, _PALE = (255, 255, 255), (110, 110, 110)


def draw_overlay(image: np.ndarray, cells: pd.DataFrame, classes: Sequence[str], *, note: str = "") -> np.ndarray:
    """*image* [H, W, 3] uint8 RGB with a ring around each cell and a legend below -> [H', W', 3] uint8 RGB.

    Unsure cells have a broken black ring, cells cut off by the border a thin grey one.

    Args:
        cells: ``x_px``, ``y_px``, ``radius_px``, ``border`` and ``call``.
        classes: of the model, for the colours; all are in the legend.
        note: a line above the legend, such as a warning.
    """
    factor = max(1, -(-_WIDTH_PX // image.shape[1]))
    picture = cv2.resize(image, None, fx=factor, fy=factor, interpolation=cv2.INTER_CUBIC)
    colours = {name: ImageColor.getrgb(colour) for name, colour in colours_of(classes).items()}
    colours[UNSURE] = ImageColor.getrgb(BLACK)
    typical = float(cells[RADIUS].median()) * factor if len(cells) else 20.0
    width = max(2, round(typical / 9))
    # Rings lie outside the cell, so that the cell stays to be seen.
    for x, y, radius, border, call in cells[[X, Y, RADIUS, BORDER, CALL]].itertuples(index=False):
        centre = ((x + 0.5) * factor - 0.5, (y + 0.5) * factor - 0.5)
        if border:
            _ring(picture, centre, radius * factor, _PALE, max(1, width // 2))
            continue
        _ring(picture, centre, radius * factor, _WHITE, width + 2)
        _ring(picture, centre, radius * factor, colours[call], width, broken=call == UNSURE)
    return np.vstack([picture, _legend(cells, colours, picture.shape[1], note)])


def _ring(
    picture: np.ndarray, centre: tuple[float, float], radius: float, colour: tuple, width: int, *, broken: bool = False
) -> None:
    place = tuple(round(c * 2**_SHIFT) for c in centre)
    axes = (round(radius * 2**_SHIFT),) * 2
    arcs = [(start, start + 30) for start in range(0, 360, 60)] if broken else [(0, 360)]
    for start, end in arcs:
        cv2.ellipse(picture, place, axes, 0, start, end, colour, width, cv2.LINE_AA, _SHIFT)


def _legend(cells: pd.DataFrame, colours: dict[str, tuple], width: int, note: str) -> np.ndarray:
    """A white strip [h, width, 3] with a mark, the name, the number and the share of each call."""
    size = max(16, round(width / 60))
    font = ImageFont.truetype(Path(mpl.get_data_path()) / "fonts/ttf/DejaVuSans.ttf", size)
    counted = cells.loc[~cells[BORDER].astype(bool), CALL]
    n = counted.value_counts()
    entries = [
        (name, colour, f"{readable(name)} {n.get(name, 0)} ({n.get(name, 0) / max(len(counted), 1):.0%})")
        for name, colour in colours.items()
    ]
    entries.append((_NOT_COUNTED, _PALE, f"{_NOT_COUNTED} {len(cells) - len(counted)}"))
    pad, line = size // 2, round(1.8 * size)
    places, x, row = [], pad, 0
    for _, _, text in entries:
        length = round(font.getlength(text)) + 2 * line
        if x + length > width and x > pad:
            x, row = pad, row + 1
        places.append((x, row))
        x += length
    lines = _wrapped(note, font, width - 2 * pad)
    strip = Image.new("RGB", (width, pad * 2 + line * (row + 1 + len(lines))), "white")
    draw = ImageDraw.Draw(strip)
    for i, text in enumerate(lines):
        draw.text((pad, pad + i * line), text, fill="#B03A00", font=font)
    marks = np.array(strip)
    for (x, row), (name, colour, _) in zip(places, entries, strict=True):
        centre = (x + size * 0.7, pad + (len(lines) + row) * line + line / 2)
        _ring(
            marks, centre, size * 0.55, colour, 2 if name == _NOT_COUNTED else max(2, size // 6), broken=name == UNSURE
        )
    strip = Image.fromarray(marks)
    draw = ImageDraw.Draw(strip)
    for (x, row), (_, _, text) in zip(places, entries, strict=True):
        middle = pad + (len(lines) + row) * line + line / 2
        draw.text((x + 1.7 * size, middle), text, fill="black", font=font, anchor="lm")
    return np.array(strip)


def _wrapped(text: str, font: ImageFont.FreeTypeFont, width: int) -> list[str]:
    lines: list[str] = []
    for word in text.split():
        if lines and font.getlength(f"{lines[-1]} {word}") <= width:
            lines[-1] += f" {word}"
        else:
            lines.append(word)
    return lines
