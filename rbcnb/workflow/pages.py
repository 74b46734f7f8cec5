"""The labeller over a folder of found cells, as a page for whoever opens no notebook."""

import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import nbformat
import pandas as pd

from rbcnb._utils.errors import InputError
from rbcnb._utils.read_files import read_array, read_table
from rbcnb._utils.voila_page import free_or, show_page
from rbcnb.columns import CELL, SMEAR
from rbcnb.labels.consensus import require_same_cells
from rbcnb.labels.formats import read_cells
from rbcnb.labels.labeller.pictures import crops_of_array, crops_of_folder
from rbcnb.labels.labeller.queue import FLAGGED, UNLABELLED
from rbcnb.labels.labeller.widget import Labeller
from rbcnb.labels.readings import READINGS_CSV, load_readings
from rbcnb.smears.images import images_in, read_image
from rbcnb.smears.segmented import CELLS_CSV, image_files, is_segmented
from rbcnb.smears.tiff import pixel_size_um
from rbcnb.workflow.run import Run

_KERNEL = {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}}
_PORTS = range(8900, 9900)


def folder_labeller(
    folder: str | Path,
    *,
    reader: str,
    readings: str | Path | None = None,
    smears: str | Path | None = None,
    classes: Sequence[str] | None = None,
    flagged: str | Path | None = None,
    probs: str | Path | None = None,
    um_per_px: float | None = None,
) -> Labeller:
    """The labeller over the cells of *folder*: what `rbcnb segment` filled, or a run.

    Args:
        folder: with ``cells.csv`` and ``crops/`` or ``crops.npy``.
        reader, classes: see `Labeller`.
        readings: table of readings, *folder*'s ``readings.csv`` by default.
        smears: folder of the images that the cells were found in; by default each lies where `rbcnb segment` found it
            (``file`` of ``smears.csv``) or in a run's folder. A cell whose image is not there is shown alone.
        flagged, probs: CSV files for the queues "flagged", with which the page then begins, and "uncertain".
        um_per_px: size of a pixel, for the scale bar; by default what a microscope wrote into the image.

    Raises:
        ValueError, OSError: a file is missing or not right; the message names it.
    """
    folder = Path(folder)
    if not (path := folder / CELLS_CSV).is_file():
        raise FileNotFoundError(f"{path}: no such table; make it with: rbcnb segment IMAGES --out {folder}")
    if smears is not None and not Path(smears).is_dir():
        raise FileNotFoundError(f"{smears}: no such folder; name the one that holds the smears' images")
    cells, stacked = read_cells(path), folder / "crops.npy"
    if stacked.exists():
        crops = crops_of_array(cells, read_array(stacked, remedy="find the cells again with notebook 01"))
    else:
        crops = crops_of_folder(cells, folder)
    readings = Path(readings or folder / READINGS_CSV)
    if is_segmented(folder):
        require_same_cells(load_readings(readings), cells, folder)
    if um_per_px is not None and not 0 < um_per_px < 100:
        raise InputError(f"--um-per-px {um_per_px}: no size of a pixel; give micrometres, such as 0.1")
    files = image_files(folder) if smears is None else {path.name: path for path in images_in(Path(smears))}
    return Labeller(
        cells,
        readings,
        reader=reader,
        crops=crops,
        smear_image=lambda smear: read_image(files[smear]) if smear in files else Run.at(folder).load_smear(smear),
        classes=classes,
        queue=FLAGGED if flagged else UNLABELLED,
        flagged=_table(flagged) if flagged else None,
        probs=_table(probs) if probs else None,
        um_per_px=um_per_px or (lambda smear: pixel_size_um(files[smear]) if smear in files else None),
        next_step=f"Next: rbcnb train {folder}.",
    )


def show_labeller(folder: str | Path, *, port: int, browse: bool, say: Callable[[str], None], **options: Any) -> None:
    """Serves `folder_labeller` as a page until interrupted; *options* are its arguments, paths or plain values.

    Raises:
        ValueError, OSError: as of `folder_labeller`, before anything is served.
        rbcnb._utils.voila_page.PageError: the page cannot be shown.
    """
    labeller = folder_labeller(folder, **options)
    labeller.close()
    # The page's kernel works elsewhere, so that every path has to be whole.
    plain = {name: str(value.resolve()) if isinstance(value, Path) else value for name, value in options.items()}
    where = repr(str(Path(folder).resolve()))
    source = f"from rbcnb.workflow.pages import folder_labeller\n\nfolder_labeller({where}, **{plain!r})"
    cells = [nbformat.v4.new_code_cell(source)]
    notebook = nbformat.writes(nbformat.v4.new_notebook(cells=cells, metadata=_KERNEL))
    hint = f"every reading goes to {labeller.path}; Ctrl-C ends it, and the same command goes on"
    # The same address each time, so that a page that is still open finds its server again.
    page = f"{where} {labeller.reader}"
    port = port or free_or(_PORTS[zlib.crc32(page.encode()) % len(_PORTS)])
    show_page("label", notebook, hint=hint, port=port, browse=browse, say=say, returning=page)


def _table(path: str | Path) -> pd.DataFrame:
    names = {"dtype": {SMEAR: str}, "keep_default_na": False, "na_values": [""]}
    return read_table(path, columns=(SMEAR, CELL), remedy="name a CSV file in UTF-8 with smear,cell", **names)
