"""Smears whose cells `rbcnb segment` has found: its folder is a source of smears like any other.

The names of its files stand here, since all that comes later on the data's way agrees on them.
"""

from collections.abc import Container, Iterator
from pathlib import Path

import pandas as pd

from rbcnb._utils.read_files import read_table
from rbcnb.columns import CELL, FOUND, SMEAR
from rbcnb.smears.images import Smear, SmearError, collect_or_raise, identical_image_groups, read_image

CELLS_CSV, SMEARS_CSV, FINDER_JSON = "cells.csv", "smears.csv", "finder.json"
FILE = "file"  # in smears.csv: where the image lies
DIAMETER = "diameter_px"  # of a typical cell, given or estimated


def is_segmented(folder: str | Path) -> bool:
    """Whether *folder* is one that `rbcnb segment` filled."""
    return all((Path(folder) / name).is_file() for name in (CELLS_CSV, SMEARS_CSV, FINDER_JSON))


def image_files(folder: str | Path) -> dict[str, Path]:
    """Smear -> its image, where `rbcnb segment` found it; without those that are no longer there."""
    path = Path(folder) / SMEARS_CSV
    table = smears_table(path) if path.exists() else pd.DataFrame()
    files = table.dropna(subset=[FILE]).set_index(SMEAR)[FILE].map(Path) if FILE in table else {}
    return {smear: file for smear, file in files.items() if file.is_file()}


def segmented_smears(
    folder: str | Path, *, errors: list[SmearError] | None = None, only: Container[str] | None = None
) -> Iterator[Smear]:
    """The smears of *folder*, in the order of its tables, each with the cells that were found in it.

    Labels are what readers say in its ``readings.csv``; as truth, these smears have none.

    Args:
        folder: of `rbcnb segment`.
        errors: takes what is wrong with a smear, whose turn is then skipped; None raises it.
        only: names of smears; None for all.

    Raises:
        SmearError: a table is damaged; without *errors*, also: an image is gone, or cannot be read.
    """
    folder = Path(folder)
    smears = _table(folder / SMEARS_CSV, SMEAR, FILE, DIAMETER)
    cells = _table(folder / CELLS_CSV, *FOUND)
    if only is not None:
        smears = smears[[name in only for name in smears[SMEAR]]]
    found = dict(iter(cells.groupby(SMEAR, sort=False)))
    there = [Path(file) for file in smears[FILE] if Path(file).is_file()]
    groups = identical_image_groups(there)
    for row in smears.to_dict("records"):
        path = Path(row[FILE])
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
        own = found.get(row[SMEAR], cells.iloc[:0]).sort_values(CELL, ignore_index=True)
        yield Smear(row[SMEAR], image, None, groups[path], own, row[DIAMETER])


def smears_table(path: Path) -> pd.DataFrame:
    """``smears.csv`` of `rbcnb segment` or of a run, a row per smear."""
    return _table(path, SMEAR)


def _table(path: Path, *columns: str) -> pd.DataFrame:
    given = {"dtype": {SMEAR: str, FILE: str}, "keep_default_na": False, "na_values": [""]}
    remedy = "run rbcnb segment over the same images again"
    return read_table(path, columns=columns, remedy=remedy, error=SmearError, **given)
