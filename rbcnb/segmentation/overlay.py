"""A smear with a ring around each cell and a legend below, so that a person sees at a glance how well it was read."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image, ImageDraw, ImageFont

from rbcnb._utils.files import atomic_write
from rbcnb._utils.opencv import cv2
from rbcnb.columns import BORDER, RADIUS, SCORE, X, Y

SURE = 0.75  # least score of a cell that is not in doubt
MAX_PIXELS = 25_000_000  # of the picture; a larger image is drawn at a reduced size
_MAX_SIDE = 60_000  # a JPEG's is 65,535
_WIDTH_PX = 800  # a narrower image is enlarged by a whole factor, so that thin rings show
_RADIUS_PX = 9.0  # likewise an image with smaller cells, so that rings do not hide them
_SHIFT = 4  # of OpenCV's fixed-point coordinates: sixteenths of a pixel
WHITE, PALE, RED = (255, 255, 255), (80, 80, 80), (204, 0, 0)
_BLUE, _ORANGE = (0, 114, 178), (230, 159, 0)  # of Okabe and Ito's palette
_HINT = (176, 58, 0)  # of a note that is no alarm


@dataclass(frozen=True, eq=False)
class Rings:
    """Cells that are ringed alike, and their entry in the legend."""

    text: str
    cells: np.ndarray  # [N] bool: which rows of the table
    colour: tuple[int, int, int]  # RGB
    broken: bool = False
    thin: bool = False  # for cells that are not counted


def draw_overlay(image: np.ndarray, cells: pd.DataFrame, *, note: str = "") -> np.ndarray:
    """*image* [H, W, 3] uint8 RGB with its *cells* ringed by their scores -> [H', W', 3] uint8 RGB.

    A cell that the finder is sure of has a blue ring, one in doubt a broken orange one, one that the image's border
    cuts off a thin grey one. Cells without a score, those of the paper's method, are all taken for sure.

    Args:
        image: the smear.
        cells: ``x_px``, ``y_px``, ``radius_px``, ``border``, and ``score`` where there is one.
        note: why the cells may be wrong: drawn in red above the legend, with a red frame around all.
    """
    cut = cells[BORDER].to_numpy(bool)
    doubtful = (cells[SCORE].to_numpy() < SURE) & ~cut if SCORE in cells else np.zeros(len(cells), bool)
    sure = ~cut & ~doubtful
    rings = [Rings(f"sure {sure.sum()}", sure, _BLUE)]
    if SCORE in cells:
        rings.append(Rings(f"in doubt (score under {SURE}) {doubtful.sum()}", doubtful, _ORANGE, broken=True))
    rings.append(Rings(f"cut off {cut.sum()}", cut, PALE, thin=True))
    title = f"cells {len(cells)}" + (f", about {2 * cells[RADIUS].median():.0f} px across" if len(cells) else "")
    return draw_rings(image, cells, rings, title=title, note=note, alarm=bool(note))


def draw_rings(
    image: np.ndarray,
    cells: pd.DataFrame,
    rings: Sequence[Rings],
    *,
    title: str = "",
    note: str = "",
    alarm: bool = False,
) -> np.ndarray:
    """*image* [H, W, 3] uint8 RGB with *rings* around its cells and a legend below -> [H', W', 3] uint8 RGB.

    Small images are enlarged by a whole factor, and those over 25 megapixels reduced.

    Args:
        image: the smear.
        cells: ``x_px``, ``y_px`` and ``radius_px``, in pixels of *image*.
        rings: how the cells are ringed, in the order of the legend.
        title: stands before the legend's entries.
        note: lines above the legend.
        alarm: the note is red and everything has a red frame, for a smear that was not read well.
    """
    radii = cells[RADIUS].to_numpy(float)
    factor = _factor(image.shape, float(np.median(radii)) if len(radii) else math.inf)
    size = [max(1, round(side * factor)) for side in image.shape[1::-1]]
    picture = cv2.resize(image, size, interpolation=cv2.INTER_AREA if factor < 1 else cv2.INTER_CUBIC)
    centres = (cells[[X, Y]].to_numpy(float) + 0.5) * np.divide(size, image.shape[1::-1]) - 0.5
    radii = radii * factor
    typical = float(np.median(radii)) if len(radii) else 20.0
    width = max(2, min(round(typical / 9), picture.shape[1] // 250))
    for kind in sorted(rings, key=lambda kind: not kind.thin):  # thin ones below
        for centre, radius in zip(centres[kind.cells], radii[kind.cells], strict=True):
            stroke = max(1, width // 2) if kind.thin else width
            _ring(picture, centre, radius, WHITE, stroke + 2)
            _ring(picture, centre, radius, kind.colour, stroke, broken=kind.broken)
    if (missing := _WIDTH_PX // 2 - picture.shape[1]) > 0:  # a very tall image: room for the legend
        picture = cv2.copyMakeBorder(picture, 0, 0, 0, missing, cv2.BORDER_CONSTANT, value=WHITE)
    picture = np.vstack([picture, _legend(rings, picture.shape[1], title, note, RED if alarm else _HINT)])
    if alarm:
        frame = max(8, picture.shape[1] // 80)
        picture = cv2.copyMakeBorder(picture, *(frame,) * 4, cv2.BORDER_CONSTANT, value=RED)
    return picture


def save_overlay(path: Path, picture: np.ndarray) -> None:
    """Writes *picture* [H, W, 3] uint8 RGB as a JPEG."""
    # To be looked at, not measured: JPEG is written many times faster than PNG. Thin rings need full colour.
    with atomic_write(path) as temporary:
        Image.fromarray(picture).save(temporary, quality=92, subsampling=0)


def _factor(shape: tuple[int, ...], radius: float) -> float:
    """Size of the picture over that of an image of *shape* (H, W, ...) whose typical cell has this *radius*."""
    largest = min(math.sqrt(MAX_PIXELS / math.prod(shape[:2])), _MAX_SIDE / max(shape[:2]))
    wanted = max(1, math.ceil(_WIDTH_PX / shape[1]), math.ceil(_RADIUS_PX / radius))
    return largest if largest < 1 else min(wanted, math.floor(largest))


def _ring(
    picture: np.ndarray, centre: Sequence[float], radius: float, colour: tuple, width: int, *, broken: bool = False
) -> None:
    place = tuple(round(c * 2**_SHIFT) for c in centre)
    axes = (round(radius * 2**_SHIFT),) * 2
    arcs = [(start, start + 30) for start in range(0, 360, 60)] if broken else [(0, 360)]
    for start, end in arcs:
        cv2.ellipse(picture, place, axes, 0, start, end, colour, width, cv2.LINE_AA, _SHIFT)


def _legend(rings: Sequence[Rings], width: int, title: str, note: str, note_colour: tuple) -> np.ndarray:
    """A white strip [h, width, 3] with the note, the title, and a mark and the text of each kind of ring."""
    import matplotlib as mpl  # for its font alone

    size = max(16, round(width / 60))
    fonts = Path(mpl.get_data_path()) / "fonts/ttf"
    font = ImageFont.truetype(fonts / "DejaVuSans.ttf", size)
    bold = ImageFont.truetype(fonts / "DejaVuSans-Bold.ttf", size)
    pad, line = size // 2, round(1.8 * size)
    entries = [(None, title)] if title else []
    entries += [(kind, kind.text) for kind in rings]
    places, x, row = [], pad, 0
    for kind, text in entries:
        length = round(font.getlength(text)) + (2 * line if kind else line)
        if x + length > width and x > pad:
            x, row = pad, row + 1
        places.append((x, row))
        x += length
    lines = _wrapped(note, bold, width - 2 * pad)
    strip = Image.new("RGB", (width, pad * 2 + line * (row + 1 + len(lines))), "white")
    draw = ImageDraw.Draw(strip)
    for i, text in enumerate(lines):
        draw.text((pad, pad + i * line), text, fill=note_colour, font=bold)
    for (x, row), (kind, text) in zip(places, entries, strict=True):
        middle = pad + (len(lines) + row) * line + line / 2
        draw.text((x + (1.7 * size if kind else 0), middle), text, fill="black", font=font, anchor="lm")
    marks = np.array(strip)
    for (x, row), (kind, _) in zip(places, entries, strict=True):
        if kind:
            centre = (x + size * 0.7, pad + (len(lines) + row) * line + line / 2)
            _ring(marks, centre, size * 0.55, kind.colour, 2 if kind.thin else max(2, size // 6), broken=kind.broken)
    return marks


def _wrapped(text: str, font: ImageFont.FreeTypeFont, width: int) -> list[str]:
    lines: list[str] = []
    for word in text.split():
        if lines and font.getlength(f"{lines[-1]} {word}") <= width:
            lines[-1] += f" {word}"
        else:
            lines.append(word)
    return lines
