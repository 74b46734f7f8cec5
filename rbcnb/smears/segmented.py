"""Smears whose cells `rbcnb segment` has found: its folder is a source of smears like any other.

The names of its files stand here, since all that comes later on the data's way agrees on them.
"""

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd

from rbcnb._utils.files import inside
from rbcnb._utils.read_files import read_table, shown
from rbcnb._utils.sealed import read_sealed
from rbcnb.columns import CELL, FOUND, RADIUS, SMEAR, X, Y
from rbcnb.smears.images import Smear, SmearError, collect_or_raise, read_image
from rbcnb.smears.overlap import field_groups
from rbcnb.smears.smear_names import name_fault

CELLS_CSV, SMEARS_CSV, FINDER_JSON = "cells.csv", "smears.csv", "finder.json"
FILE = "file"  # in smears.csv: where the image lies
DIAMETER = "diameter_px"  # of a typical cell, given or estimated
NOTE = "note"  # in smears.csv: how far the image can be trusted, in words
_ROUNDED_PX = 1e-3  # tables have four digits
_AGAIN = "run rbcnb segment over all its images again, which makes the table again from what is finished"


def is_segmented(folder: str | Path) -> bool:
    """Whether *folder* is one that `rbcnb segment` filled."""
    return all((Path(folder) / name).is_file() for name in (CELLS_CSV, SMEARS_CSV, FINDER_JSON))


def image_files(folder: str | Path) -> dict[str, Path]:
    """Smear -> its image, where `rbcnb segment` found it; without those that are no longer there."""
    path = Path(folder) / SMEARS_CSV
    table = smears_table(path) if path.exists() else pd.DataFrame()
    files = table.dropna(subset=[FILE]).set_index(SMEAR)[FILE].map(Path) if FILE in table else {}
    return {smear: file for smear, file in files.items() if os.path.isfile(file)}  # whatever a table holds as its name


def read_tables(folder: str | Path, *, columns: Iterable[str]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """``cells.csv`` and ``smears.csv`` of *folder*, the latter with at least *columns*.

    Raises:
        SmearError: one is missing or damaged, or they do not go together.
    """
    folder = Path(folder)
    tables = []
    for name, needed in ((CELLS_CSV, FOUND), (SMEARS_CSV, columns)):
        table = _table(folder / name)
        if missing := [column for column in needed if column not in table]:
            raise SmearError(f"{folder / name}: row 1 lacks {', '.join(missing)}; {_AGAIN}")
        tables.append(table)
    cells, smears = tables
    numbers = cells[[name for name in FOUND if name != SMEAR]].apply(pd.to_numeric, errors="coerce")
    bad = numbers.isna().any(axis=1) | cells[SMEAR].isna() | cells.duplicated([SMEAR, CELL])
    if bad.any():
        row = int(bad.to_numpy().argmax()) + 2
        raise SmearError(f"{folder / CELLS_CSV}: row {row} is damaged, or there twice; {_AGAIN}")
    if smears[SMEAR].isna().any() or smears[SMEAR].duplicated().any():
        raise SmearError(f"{folder / SMEARS_CSV}: a row is damaged, or there twice; {_AGAIN}")
    if "cells" in smears:
        counts = cells[SMEAR].value_counts()
        differ = smears[pd.to_numeric(smears["cells"], errors="coerce") != smears[SMEAR].map(counts).fillna(0)]
        names = [*differ[SMEAR], *sorted(set(counts.index) - set(smears[SMEAR]))]
        if names:
            raise SmearError(
                f"{folder / CELLS_CSV}: has not as many cells of {names[0]} as {SMEARS_CSV} says; {_AGAIN}"
            )
    return cells, smears


def part_file(folder: str | Path, smear: str) -> Path:
    """Where `rbcnb segment` keeps what it found in the image file *smear*, once that is finished."""
    return inside(Path(folder) / "parts", f"{Path(smear).stem}.json")


def require_finished(folder: str | Path, cells: pd.DataFrame) -> None:
    """Refuse *cells*, the table of *folder*, where the crops of an image are of other cells.

    This happens where `rbcnb segment` was stopped while it found cells again, or somebody changed the table.

    Raises:
        SmearError: names the image, and what to do.
    """
    folder = Path(folder)
    if not (folder / "parts").is_dir():
        return
    for smear, rows in cells.groupby(SMEAR, sort=False):
        part = part_file(folder, smear)
        saved = read_sealed(part)
        if saved is None and part.is_file():
            continue  # damaged: what needs the crops says so
        circles = rows.sort_values(CELL)[[X, Y, RADIUS]].to_numpy(float)
        found = pd.DataFrame((saved or {}).get("cells"), columns=[X, Y, RADIUS]).to_numpy(float)
        if len(found) != len(circles) or not np.allclose(found, circles, rtol=0, atol=_ROUNDED_PX):
            raise SmearError(
                f"{folder / CELLS_CSV}: the cells of {shown(smear)} are not those that its crops were cut from: rbcnb "
                "segment was stopped, or the table was changed; run rbcnb segment with --replace over all its images"
            )


def segmented_smears(
    folder: str | Path, *, n: int | None = None, errors: list[SmearError] | None = None
) -> Iterator[Smear]:
    """The smears of *folder*, in the order of its tables, each with the cells that were found in it.

    Labels are what readers say in its ``readings.csv``; as truth, these smears have none.

    Args:
        folder: of `rbcnb segment`.
        n: how many will be taken, so that only they are looked at for overlaps; None for all.
        errors: takes what is wrong with a smear, whose turn is then skipped; None raises it.

    Raises:
        SmearError: a table is damaged; without *errors*, also: an image is gone, or cannot be read.
    """
    cells, smears = read_tables(folder, columns=(SMEAR, FILE, DIAMETER))
    found = dict(iter(cells.groupby(SMEAR, sort=False)))
    there = [Path(row[FILE]) for row in smears.to_dict("records") if not name_fault(row[SMEAR])]
    there = [path for path in dict.fromkeys(there) if os.path.isfile(path)]
    groups = field_groups(there, n=n)
    for row in smears.to_dict("records"):
        path = Path(row[FILE])
        if fault := name_fault(row[SMEAR]):
            collect_or_raise(SmearError(f"{folder / SMEARS_CSV}: smear {shown(row[SMEAR])}: {fault}"), errors)
            continue
        if path not in groups:
            collect_or_raise(
                SmearError(f"{path}: no longer there; put it back, or run rbcnb segment where it lies now"), errors
            )
            continue
        try:
            image = read_image(path)
        except SmearError as error:
            collect_or_raise(error, errors)
            continue
        smear_cells = found.get(row[SMEAR], cells.iloc[:0]).sort_values(CELL, ignore_index=True)
        yield Smear(row[SMEAR], image, None, groups[path], smear_cells, row[DIAMETER])


def smears_table(path: Path) -> pd.DataFrame:
    """``smears.csv`` of `rbcnb segment` or of a run, a row per smear."""
    return _table(path, SMEAR)


def _table(path: Path, *columns: str) -> pd.DataFrame:
    given = {"dtype": {SMEAR: str, FILE: str, NOTE: str}, "keep_default_na": False, "na_values": [""]}
    return read_table(path, columns=columns, remedy=_AGAIN, error=SmearError, **given)
