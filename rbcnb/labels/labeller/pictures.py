"""Pictures of cells as files for a page, made when they are asked for: a cell, its surroundings, a sheet of many."""

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pandas as pd

from rbcnb.columns import CELL, CROP, RADIUS, SMEAR, X, Y
from rbcnb.smears.images import images_in, read_image

AROUND_RADII = 10.0  # side of the surroundings: the cell, and two rows of neighbours on every side
AROUND_PX = 480  # no larger than this is a picture of surroundings sent
THUMB_PX = 96
_KEPT_SMEARS = 6  # decoded, as queues jump between smears


@dataclass(frozen=True)
class Around:
    """The neighbourhood of a cell as a JPEG file, and the cell's circle in it, in units of the picture's side."""

    file: bytes
    x: float
    y: float
    radius: float


class CellPictures:
    """Pictures of the rows of a table of cells.

    Args:
        cells: ``smear``, ``cell``; for surroundings ``x_px``, ``y_px``, ``radius_px`` too.
        crop: row -> picture [S, S, 3] uint8 RGB, as the network sees it; see `crops_of_array` and `crops_of_folder`.
        smear_image: smear -> image [H, W, 3] uint8 RGB, or None where there is none; kept for a few smears.
    """

    def __init__(
        self,
        cells: pd.DataFrame,
        crop: Callable[[int], np.ndarray],
        smear_image: Callable[[str], np.ndarray | None] | None = None,
    ) -> None:
        self._cells = cells.reset_index(drop=True)
        self._crop = crop
        self._smear = functools.lru_cache(_KEPT_SMEARS)(smear_image or (lambda _smear: None))

    def crop_file(self, row: int) -> bytes:
        """The cell's crop, to the bit, as a PNG file."""
        return _encoded(".png", self._crop(row), cv2.IMWRITE_PNG_COMPRESSION, 1)

    def around(self, row: int) -> Around | None:
        """The cell among its neighbours, off centre at the border; None without its circle or the smear's image."""
        cell = self._cells.loc[row]
        placed = all(name in cell and np.isfinite(cell[name]) for name in (X, Y, RADIUS))
        image = self._smear(str(cell[SMEAR])) if placed else None
        if image is None:
            return None
        side = min(round(AROUND_RADII * cell[RADIUS]), *image.shape[:2])
        left, top = (
            int(np.clip(round(cell[at] - side / 2), 0, size - side))
            for at, size in ((X, image.shape[1]), (Y, image.shape[0]))
        )
        window = image[top : top + side, left : left + side]
        if side > AROUND_PX:
            window = cv2.resize(window, (AROUND_PX, AROUND_PX), interpolation=cv2.INTER_AREA)
        # The centre of the window's first pixel is half a pixel from its edge.
        x, y = (cell[X] + 0.5 - left) / side, (cell[Y] + 0.5 - top) / side
        return Around(_encoded(".jpg", window, cv2.IMWRITE_JPEG_QUALITY, 92), x, y, cell[RADIUS] / side)

    def sheet_file(self, rows: Sequence[int], columns: int) -> bytes:
        """The crops of *rows* in reading order as one JPEG, each THUMB_PX wide."""
        sheet = np.zeros((-(-len(rows) // columns) * THUMB_PX, columns * THUMB_PX, 3), np.uint8)
        for i, row in enumerate(rows):
            crop = self._crop(row)
            how = cv2.INTER_AREA if crop.shape[0] > THUMB_PX else cv2.INTER_CUBIC
            top, left = i // columns * THUMB_PX, i % columns * THUMB_PX
            sheet[top : top + THUMB_PX, left : left + THUMB_PX] = cv2.resize(
                crop, (THUMB_PX, THUMB_PX), interpolation=how
            )
        return _encoded(".jpg", sheet, cv2.IMWRITE_JPEG_QUALITY, 88)


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
    paths = [Path(folder) / "crops" / Path(smear).stem / f"{cell:04d}.png" for smear, cell in names]
    return lambda row: read_image(paths[row])


def smears_of_folder(folder: str | Path) -> Callable[[str], np.ndarray | None]:
    """The images of *folder* by the names of their files."""
    paths = {path.name: path for path in images_in(Path(folder))}
    return lambda smear: read_image(paths[smear]) if smear in paths else None


def _encoded(suffix: str, image: np.ndarray, *options: int) -> bytes:
    return cv2.imencode(suffix, cv2.cvtColor(image, cv2.COLOR_RGB2BGR), options)[1].tobytes()
