"""Labels as a folder of pictures per class, a CSV and Chula's points, as they are written; the first is read here, too.

Every writer takes one row per labelled cell: ``smear``, ``label`` and what the format tells of the place: ``cell`` (a
folder per class), ``x_px`` and ``y_px`` (points), or any of ``columns.FOUND`` (CSV). Other formats are read by
`rbcnb.smears.annotations`, and written by `rbcnb.labels.annotation_writers`.
"""

import csv
import math
import re
import shutil
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from rbcnb._utils.files import atomic_write, inside
from rbcnb._utils.manifest import changed_files, load_manifest
from rbcnb._utils.read_files import read_array, read_table, shown
from rbcnb.columns import CELL, CROP, FOUND, LABEL, SMEAR, X, Y
from rbcnb.smears.chula import CHULA_TYPES
from rbcnb.smears.images import SmearError
from rbcnb.smears.label_tables import WHERE
from rbcnb.smears.segmented import require_finished

CROP_TABLE = "labels.csv"  # path,label of the pictures of a folder per class
_PICTURE = re.compile(r"(?P<smear>.+)_(?P<cell>\d{4,})\.png", re.IGNORECASE)
_NOTEBOOK_01 = "find the cells again with notebook 01_segmentation"
_NUMBER_OF = {name: number for number, name in CHULA_TYPES.items()}


class LabelFileError(SmearError):
    """Labels cannot be read or written so; the message names the file, what is wrong with it, and the remedy."""


def write_class_folder(labels: pd.DataFrame, pictures: Mapping[int, Path | np.ndarray], folder: str | Path) -> None:
    """Writes ``folder/<label>/<smear>_<cell>.png``, as fastai and ImageNet keep classes, and a table of them.

    The table, ``folder/labels.csv`` with the columns ``path,label``, is what fastai's
    ``ImageDataLoaders.from_csv`` takes.

    Args:
        labels: ``smear``, ``cell``, ``label``.
        pictures: of each row, by its index in *labels*: a PNG file, which is copied, or an image [S, S, 3] uint8.
        folder: made when it is not there; nothing in it is removed.
    """
    folder = Path(folder)
    if len(names := set(labels[LABEL])) != len({name.casefold() for name in names}):
        raise LabelFileError(
            f"{folder}: some classes differ in capitals alone, which no folder tells apart; rename one"
        )
    paths = []
    for row in labels.itertuples():
        for text in (row.label, row.smear):
            if re.search(r'[/\\:*?"<>|]', text) or text.startswith("."):
                raise LabelFileError(f"{folder}: {shown(text)} cannot be the name of a folder or file; rename it")
        target = folder / row.label / f"{row.smear}_{row.cell:04d}.png"
        target.parent.mkdir(parents=True, exist_ok=True)
        paths.append(target.relative_to(folder).as_posix())
        picture = pictures[row.Index]
        if isinstance(picture, Path):
            shutil.copyfile(picture, target)
        else:
            Image.fromarray(picture).save(target)
    with atomic_write(folder / CROP_TABLE) as part:
        pd.DataFrame({"path": paths, LABEL: labels[LABEL].to_numpy()}).to_csv(part, index=False)


def read_class_folder(folder: str | Path) -> pd.DataFrame:
    """Reads what `write_class_folder` wrote, wherever its pictures were moved since.

    Returns:
        ``smear``, ``cell``, ``label`` and ``where``.
    """
    folder = Path(folder)
    rows: dict[tuple[str, int], Path] = {}
    classes = [path for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".")]
    for path in sorted(path for place in classes for path in place.iterdir()):
        if path.name.startswith(".") or path.name in ("Thumbs.db", "desktop.ini"):
            continue
        named = _PICTURE.fullmatch(path.name)
        if not named:
            raise LabelFileError(
                f"{path}: its name does not tell smear and cell, as in smear.png_0012.png; take it out of the folder"
            )
        first = rows.setdefault((named["smear"], int(named["cell"])), path)
        if first is not path:
            raise LabelFileError(f"{path}: the same cell lies in {first.parent.name}; take one of them out")
    if not rows:
        raise LabelFileError(f"{folder}: no picture in a folder per class; see rbcnb export-labels")
    if (table := folder / CROP_TABLE).is_file():  # that somebody may have corrected in place of the folders
        pictures = set(rows.values())
        given = read_table(table, columns=("path", LABEL), remedy="take it out of the folder", error=LabelFileError)
        for row in given.astype(str).itertuples():
            picture = folder / row.path
            if picture in pictures and picture.parent.name != row.label:
                raise LabelFileError(
                    f"{table}: row {row.Index + 2} calls {row.path} {shown(row.label)}, which lies in the folder "
                    f"{shown(picture.parent.name)}; move it into the folder of its class, or take the table away"
                )
    found = [(smear, cell, path.parent.name, str(path)) for (smear, cell), path in rows.items()]
    return _in_order(pd.DataFrame(found, columns=[SMEAR, CELL, LABEL, WHERE]))


def write_labels_csv(labels: pd.DataFrame, path: str | Path) -> None:
    """Writes the CSV that `rbcnb.smears.folder_smears` takes for truth: ``columns.FOUND`` and ``label``."""
    require_places(labels, path)
    hashed = labels[SMEAR].str.startswith("#").any()  # in quotation marks it is no comment
    with atomic_write(path) as part:
        labels[[*FOUND, LABEL]].to_csv(part, index=False, quoting=csv.QUOTE_NONNUMERIC if hashed else csv.QUOTE_MINIMAL)


def write_chula_points(labels: pd.DataFrame, folder: str | Path) -> None:
    """Writes ``folder/Label/<smear without ending>.txt``, lines ``x y type`` in the order of the rows."""
    folder = Path(folder)
    require_places(labels, folder)
    if strange := sorted(set(labels[LABEL]) - set(_NUMBER_OF)):
        raise LabelFileError(
            f"{folder}: Chula RBC-12 has no type {', '.join(strange)}; its types are {', '.join(_NUMBER_OF)}. "
            "Export a CSV or a folder per class, which hold any"
        )
    require_stems(labels, folder)
    for smear, rows in labels.groupby(SMEAR, sort=False):
        lines = [f"{_plain(row.x_px)} {_plain(row.y_px)} {_NUMBER_OF[row.label]}\n" for row in rows.itertuples()]
        with atomic_write(folder / "Label" / f"{Path(smear).stem}.txt") as part:
            part.write_text("".join(lines), encoding="utf-8")


def pictures_of(labels: pd.DataFrame, folder: Path) -> dict[int, Path | np.ndarray]:
    """The picture of each row of *labels* from the crops of `rbcnb segment` or of a run in *folder*, by index.

    Raises LabelFileError where there is none, or one is not as it was written.
    """
    if (folder / "crops.npy").exists():
        if changed_files(folder, {name: entry for name, entry in load_manifest(folder).items() if name == "crops.npy"}):
            raise LabelFileError(f"{folder / 'crops.npy'}: is not as it was written; {_NOTEBOOK_01}")
        cells = read_cells(folder / "cells.csv", CROP).set_index([SMEAR, CELL])[CROP]
        rows = cells.reindex(pd.MultiIndex.from_frame(labels[[SMEAR, CELL]]))
        crops = read_array(folder / "crops.npy", remedy=_NOTEBOOK_01, error=LabelFileError)
        if crops.ndim != 4 or not rows.dropna().between(0, len(crops) - 1).all():
            raise LabelFileError(f"{folder / 'crops.npy'}: holds no picture of some of the cells; {_NOTEBOOK_01}")
        pictures = {
            i: None if math.isnan(row) else np.array(crops[int(row)]) for i, row in zip(labels.index, rows, strict=True)
        }
    else:
        from rbcnb.segmentation.batch import (
            changed_crops,
        )  # loads OpenCV and joblib, which tables of labels do not need

        for smear in labels[SMEAR].unique():
            if changed_crops(folder, smear):
                raise LabelFileError(
                    f"{found_crop(folder, smear, 0).parent}: a picture is missing, or not the one that was "
                    f"written there; run rbcnb segment over {smear} again"
                )
        paths = {row.Index: found_crop(folder, row.smear, row.cell) for row in labels.itertuples()}
        pictures = {i: path if path.exists() else None for i, path in paths.items()}
    for row in labels.itertuples():
        if pictures[row.Index] is None and (path := added_crop(folder, row.smear, row.cell)).exists():
            pictures[row.Index] = path
        if pictures[row.Index] is None:
            raise LabelFileError(
                f"{folder}: no picture of cell {row.cell} of {row.smear}; give the folder it was found in"
            )
    return pictures


def found_crop(folder: Path, smear: str, cell: int) -> Path:
    """Where `rbcnb segment` writes the picture of a cell."""
    return inside(folder / "crops", Path(smear).stem) / f"{cell:04d}.png"


def added_crop(folder: Path, smear: str, cell: int) -> Path:
    """Where the labeller writes the picture of a cell that a reader added: apart, as ``crops`` are those found."""
    return inside(folder / "added", Path(smear).stem) / f"{cell:04d}.png"


def read_cells(path: Path, *more: str) -> pd.DataFrame:
    """The found cells of `rbcnb segment` or of a run, with ``columns.FOUND`` and *more* columns at least.

    Raises LabelFileError where they are damaged: no table, no numbers in place of numbers, a cell that stands twice;
    SmearError where a stopped command left crops of other cells.
    """
    given = {"dtype": {SMEAR: str}, "keep_default_na": False, "na_values": [""]}
    remedy = "find the cells again with rbcnb segment"
    table = read_table(path, columns=(*FOUND, *more), remedy=remedy, error=LabelFileError, **given)
    for name in (*FOUND[1:], *more):
        numbers = pd.to_numeric(table[name], errors="coerce")
        bad = ~np.isfinite(numbers.to_numpy(float))
        if name == CELL:
            bad |= ~(numbers >= 0).to_numpy() | (numbers % 1 != 0).to_numpy()
        if bad.any():
            value = shown(table[name].tolist()[bad.argmax()])
            raise LabelFileError(f"{path}: row {bad.argmax() + 2} has {name} {value}, no such number; {remedy}")
        table[name] = numbers
    if (again := table.duplicated([SMEAR, CELL])).any():
        row = table[again].iloc[0]
        raise LabelFileError(f"{path}: row {again.argmax() + 2} has cell {row[CELL]} of {row[SMEAR]} again; {remedy}")
    require_finished(path.parent, table)
    return table


def _in_order(table: pd.DataFrame) -> pd.DataFrame:
    return table.sort_values([SMEAR, CELL], kind="stable", ignore_index=True)


def require_places(labels: pd.DataFrame, target: str | Path) -> None:
    """Raises LabelFileError where a label has no place."""
    if (bad := labels[[X, Y]].isna().any(axis=1)).any():
        row = labels[bad].iloc[0]
        raise LabelFileError(
            f"{target}: cell {row[CELL]} of {row[SMEAR]} has no place in its readings; put the cells.csv it was found "
            "in beside them, or export a folder per class"
        )


def require_stems(labels: pd.DataFrame, folder: Path) -> None:
    """Raises LabelFileError where the names of two smears differ only in their endings."""
    stems = labels[SMEAR].drop_duplicates().map(lambda smear: Path(smear).stem)
    if stems.duplicated().any():
        raise LabelFileError(f"{folder}: two smears are called {stems[stems.duplicated()].iloc[0]}; rename one")


def _plain(value: float) -> str:
    return str(int(value)) if float(value).is_integer() else repr(float(value))
