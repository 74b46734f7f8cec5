"""Pictures of cells as files for a page, made when they are asked for: a cell, a whole field, a sheet of many."""

import functools
import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from rbcnb._utils.errors import SmearWarning
from rbcnb._utils.files import atomic_write
from rbcnb._utils.opencv import cv2
from rbcnb.columns import CELL, CROP, RADIUS, SMEAR, X, Y
from rbcnb.labels.formats import added_crop, found_crop
from rbcnb.segmentation.crops import crop_cells
from rbcnb.segmentation.segment import finder_spec
from rbcnb.smears.images import read_image
from rbcnb.smears.segmented import image_files

FIELD_PX = 2400  # no longer than this is the longer side of a field's picture
THUMB_PX = 96
_KEPT_SMEARS = 6  # decoded, as queues jump between smears


@dataclass(frozen=True)
class Field:
    """A whole smear as a JPEG file, with the width and height in pixels that the smear itself has."""

    file: bytes
    width: int
    height: int


class CellPictures:
    """Pictures of the rows of a table of cells.

    Args:
        cells: ``smear``, ``cell``; for the place in the field ``x_px``, ``y_px``, ``radius_px`` too.
        crop: row -> picture [S, S, 3] uint8 RGB, as the network sees it; see `crops_of_array` and `crops_of_folder`.
        smear_image: smear -> image [H, W, 3] uint8 RGB, or None where there is none; kept for a few smears.
        n_found: rows of *cells* that have a picture by *crop*; further ones were added by readers. None: all.
        folder: where pictures of added cells lie.
    """

    def __init__(
        self,
        cells: pd.DataFrame,
        crop: Callable[[int], np.ndarray],
        smear_image: Callable[[str], np.ndarray | None] | None = None,
        *,
        n_found: int | None = None,
        folder: Path | None = None,
    ) -> None:
        self._crop, self._folder = crop, folder or Path()
        self._n_found = len(cells) if n_found is None else n_found
        self._smear = functools.lru_cache(_KEPT_SMEARS)(smear_image or (lambda _smear: None))
        self._names = list(zip(cells[SMEAR].astype(str), cells[CELL].astype(int), strict=True))
        self._places: dict[str, list[tuple[int, float, float, float]]] = {}
        circles = cells.reindex(columns=[X, Y, RADIUS]).to_numpy(float)
        for row in np.flatnonzero(np.isfinite(circles).all(axis=1)).tolist():
            self._places.setdefault(self._names[row][0], []).append((row, *circles[row].tolist()))

    def crop(self, row: int) -> np.ndarray:
        """The cell's crop [S, S, 3] uint8 RGB."""
        return self._crop(row) if row < self._n_found else read_image(added_crop(self._folder, *self._names[row]))

    def crop_file(self, row: int) -> bytes:
        """The cell's crop, to the bit, as a PNG file."""
        return _encoded(".png", self.crop(row), cv2.IMWRITE_PNG_COMPRESSION, 1)

    def field(self, smear: str) -> Field | None:
        """The whole image of *smear*, made smaller where it is large; None where it is not here."""
        image = self._smear(smear)
        if image is None:
            return None
        height, width = image.shape[:2]
        if (ratio := FIELD_PX / max(height, width)) < 1:
            image = cv2.resize(image, None, fx=ratio, fy=ratio, interpolation=cv2.INTER_AREA)
        return Field(_encoded(".jpg", image, cv2.IMWRITE_JPEG_QUALITY, 92), width, height)

    def places(self, smear: str) -> Sequence[tuple[int, float, float, float]]:
        """Row, ``x_px``, ``y_px`` and ``radius_px`` of each cell of *smear* that has a place."""
        return self._places.get(smear, ())

    def nearest(self, smear: str, x_px: float, y_px: float) -> int | None:
        """The row of the cell in whose inner half the place lies, the nearest one; None where there is none."""
        away = [(math.hypot(x - x_px, y - y_px), row, radius) for row, x, y, radius in self.places(smear)]
        return min(((far, row) for far, row, radius in away if far < radius / 2), default=(0, None))[1]

    def add(self, cell: Mapping[str, Any], *, size_px: int) -> None:
        """Takes in a further row: cuts its crop from the image of its smear, and keeps that in a file.

        Args:
            cell: ``columns.FOUND``.
            size_px: side of the crop, which the cell fills.

        Raises:
            ValueError: the smear's image is not here.
        """
        image = self._smear(cell[SMEAR])
        if image is None:
            raise ValueError(f"{cell[SMEAR]}: its image is not here, so that no cell can be added; give --smears DIR")
        save_added_crop(self._folder, cell, image, size_px=size_px)
        self._places.setdefault(cell[SMEAR], []).append((len(self._names), cell[X], cell[Y], cell[RADIUS]))
        self._names.append((cell[SMEAR], cell[CELL]))

    def sheet_file(self, rows: Sequence[int], columns: int) -> bytes:
        """The crops of *rows* in reading order as one JPEG, each THUMB_PX wide."""
        sheet = np.zeros((-(-len(rows) // columns) * THUMB_PX, columns * THUMB_PX, 3), np.uint8)
        for i, row in enumerate(rows):
            crop = self.crop(row)
            how = cv2.INTER_AREA if crop.shape[0] > THUMB_PX else cv2.INTER_CUBIC
            top, left = i // columns * THUMB_PX, i % columns * THUMB_PX
            sheet[top : top + THUMB_PX, left : left + THUMB_PX] = cv2.resize(
                crop, (THUMB_PX, THUMB_PX), interpolation=how
            )
        return _encoded(".jpg", sheet, cv2.IMWRITE_JPEG_QUALITY, 88)


def save_added_crop(folder: Path, cell: Mapping[str, Any], image: np.ndarray, *, size_px: int) -> None:
    """Cuts a cell that a reader added from the image [H, W, 3] uint8 RGB of its smear, and keeps the crop in a file.

    Args:
        folder: of `rbcnb segment`.
        cell: ``columns.FOUND``.
        image: of its smear.
        size_px: side of the crop, which the cell fills.
    """
    crop = crop_cells(image, pd.DataFrame([cell]), size_px, enlarge=size_px / (2 * cell[RADIUS]))[0]
    path = added_crop(folder, cell[SMEAR], cell[CELL])
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(path) as part:
        part.write_bytes(_encoded(".png", crop))


def save_added_crops(folder: Path, added: pd.DataFrame) -> None:
    """Cuts the pictures of *added* cells that have none yet, for the page and for exports."""
    if added.empty:
        return
    images, size_px = image_files(folder), finder_spec(folder).size_px
    for smear, cells in added.groupby(SMEAR, sort=False):
        missing = [cell for cell in cells.to_dict("records") if not added_crop(folder, smear, cell[CELL]).exists()]
        if missing and smear not in images:
            note = f"{smear}: its image is not there, so that cells added to it have no picture"
            warnings.warn(note, SmearWarning, stacklevel=3)
        elif missing:
            image = read_image(images[smear])
            for cell in missing:
                save_added_crop(folder, cell, image, size_px=size_px)


def crops_of_array(cells: pd.DataFrame, crops: np.ndarray) -> Callable[[int], np.ndarray]:
    """Crops [N, S, S, 3], which may be a memory map, by the cells' ``crop``, or in their order where they have none."""
    places = cells[CROP].to_numpy(int) if CROP in cells else np.arange(len(cells))
    if len(places) and not 0 <= places.min() <= places.max() < len(crops):
        raise ValueError(
            f"the cells ask for crop {places.max()}, and there are {len(crops)}; load the crops of this run"
        )
    return lambda row: np.asarray(crops[places[row]])


def crops_of_folder(cells: pd.DataFrame, folder: str | Path) -> Callable[[int], np.ndarray]:
    """Crops as `rbcnb segment` writes them: ``<folder>/crops/<smear without ending>/<cell>.png``."""
    names = zip(cells[SMEAR].astype(str), cells[CELL].astype(int), strict=True)
    paths = [found_crop(Path(folder), smear, cell) for smear, cell in names]
    return lambda row: read_image(paths[row])


def _encoded(suffix: str, image: np.ndarray, *options: int) -> bytes:
    return cv2.imencode(suffix, cv2.cvtColor(image, cv2.COLOR_RGB2BGR), options)[1].tobytes()
