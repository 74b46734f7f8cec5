"""Labels from other people's files into a table of readings, and out of it: `rbcnb import-labels`, `export-labels`."""

from pathlib import Path

import pandas as pd

from rbcnb.columns import CELL, FOUND, GROUP, KIND, LABEL, RADIUS, READER, SESSION, SMEAR, X, Y
from rbcnb.labels.assign import label_cells
from rbcnb.labels.consensus import added_cells, current_labels
from rbcnb.labels.formats import (
    LabelFileError,
    pictures_of,
    read_cells,
    read_chula_points,
    read_class_folder,
    read_labelled_points,
    write_chula_points,
    write_class_folder,
    write_labels_csv,
)
from rbcnb.labels.readings import NAMED, READINGS_CSV, append_readings, load_readings

FOLDER, CSV, CHULA = "folder", "csv", "chula"  # layouts
CELLS_CSV = "cells.csv"


def readings_file(path: str | Path) -> Path:
    """The table of readings that *path* means: itself, or ``readings.csv`` in the folder."""
    path = Path(path)
    return path / READINGS_CSV if path.is_dir() else path


def import_labels(source: str | Path, into: str | Path, *, reader: str, layout: str | None = None) -> str:
    """Adds the labels in *source* to a table of readings as those of *reader*, and tells what was done.

    Labels that are this reader's word already add nothing; so a folder per class can be exported, sorted by hand and
    imported again, and only what was moved becomes a reading. Where ``cells.csv`` lies beside the table, labels with a
    place go to the found cell there (`rbcnb.labels.label_cells`), and those without any near are counted and left out;
    else each point is a cell of its own, numbered within its smear.

    Args:
        source: a folder per class, a CSV, or a folder with Chula's label files.
        into: a table of readings, or the folder of `rbcnb segment` or of a run.
        reader: whose labels these are.
        layout: ``FOLDER``, ``CSV`` or ``CHULA``; None to see from *source*.

    Raises:
        SmearError, LogbookError: what cannot be read, with file, row and mend.
    """
    source, table = Path(source), readings_file(into)
    layout = layout or _layout_of(source)
    labels = {FOLDER: read_class_folder, CSV: read_labelled_points, CHULA: read_chula_points}[layout](source)
    cells_csv, n_read = table.parent / CELLS_CSV, len(labels)
    if cells_csv.exists():
        cells = read_cells(cells_csv)
        cells = pd.concat([cells, added_cells(load_readings(table), cells)], ignore_index=True)
        labels = _on_cells(labels, cells, source, cells_csv)
    elif CELL not in labels:
        labels[CELL] = labels.groupby(SMEAR, sort=False).cumcount()
    before = current_labels(load_readings(table), reader=reader)
    known = before.set_index([SMEAR, CELL])[LABEL].reindex(pd.MultiIndex.from_frame(labels[[SMEAR, CELL]]))
    new = labels[(known.to_numpy() != labels[LABEL].to_numpy())]
    columns = [name for name in (*FOUND, LABEL) if name in new]
    append_readings(table, new[columns].assign(**{READER: reader, KIND: NAMED, SESSION: f"import {source.name}"}))
    told = f"{len(new)} readings by {reader} added to {table}, from {n_read} labels in {source} ({layout})"
    same, lost = len(labels) - len(new), n_read - len(labels)
    told += f"; {same} were {reader}'s word already" if same else ""
    return told + (f"; {lost} left out: no found cell is near" if lost else "")


def export_labels(
    source: str | Path, out: str | Path, *, reader: str | None = None, layout: str | None = None, replace: bool = False
) -> str:
    """Writes the current labels of *source* to *out*, and tells what was done.

    Args:
        source: a table of readings, or the folder of `rbcnb segment` or of a run with one.
        out: a CSV, which ``rbcnb reproduce --smears`` takes when it lies beside the smears as ``labels.csv``, or a
            folder.
        reader: whose last words; None for what more than half of the readers say.
        layout: ``FOLDER``, ``CSV`` or ``CHULA``; None for ``csv`` where *out* ends so, else ``folder``.
        replace: write over a CSV that is there already.

    Raises:
        SmearError, LogbookError: what cannot be read or written, with the mend.
    """
    table, out = readings_file(source), Path(out)
    if not table.exists():
        raise LabelFileError(
            f"{table}: no readings there; label cells first, or bring them in with: rbcnb import-labels"
        )
    layout = layout or (CSV if out.suffix == ".csv" else FOLDER)
    if out.is_dir() and any(out.iterdir()):  # what is left of older labels would pass for new ones
        raise LabelFileError(f"{out}: is not empty; choose another folder, or empty it")
    if out.is_file() and not replace:
        raise LabelFileError(f"{out}: is there already; choose another name, or say --replace")
    readings = load_readings(table)
    if reader is not None and reader not in set(readings[READER]):
        raise LabelFileError(f"{table}: no reading by {reader}; its readers are {', '.join(readings[READER].unique())}")
    view = current_labels(readings, reader=reader)
    labels = view[view[KIND] == NAMED].reset_index(drop=True)
    if labels.empty:
        raise LabelFileError(f"{table}: no cell has a label that stands; label cells first")
    cells_csv = table.parent / CELLS_CSV
    if labels[X].isna().any() and cells_csv.exists():
        labels = labels.fillna(_circles(labels, read_cells(cells_csv)))
    if layout == FOLDER:
        write_class_folder(labels, pictures_of(labels, table.parent), out)
    else:
        (write_labels_csv if layout == CSV else write_chula_points)(labels, out)
    rest = view.loc[view[KIND] != NAMED, KIND].value_counts()
    left = "; left out: " + ", ".join(f"{n} {kind}" for kind, n in rest.items()) if len(rest) else ""
    counts = ", ".join(f"{n} {label}" for label, n in labels[LABEL].value_counts().items())
    return f"{len(labels)} labels written to {out} ({layout}): {counts}{left}"


def _layout_of(source: Path) -> str:
    if source.is_file() and source.suffix.lower() == ".csv":
        return CSV
    if source.is_dir():
        if (source / "Label").is_dir() or any(source.glob("*.txt")):
            return CHULA
        return FOLDER
    raise LabelFileError(
        f"{source}: neither a folder nor a .csv file; give a folder per class, a CSV or Chula's folder"
    )


def _on_cells(labels: pd.DataFrame, cells: pd.DataFrame, source: Path, cells_csv: Path) -> pd.DataFrame:
    """*labels* with the numbers and circles of found cells, named or near; those of none are left out."""
    if X not in labels:
        circles = _circles(labels, cells)
        if (bad := circles[X].isna()).any():
            row = labels[bad].iloc[0]
            raise LabelFileError(
                f"{source}: names cell {row[CELL]} of {row[SMEAR]}, which is not in {cells_csv}; import into "
                "the folder that the pictures came from"
            )
        return labels.assign(**circles)
    found = label_cells(cells, labels.assign(**{GROUP: labels[SMEAR]}))
    return found.dropna(subset=[LABEL])[[*FOUND, LABEL]].reset_index(drop=True)


def _circles(labels: pd.DataFrame, cells: pd.DataFrame) -> pd.DataFrame:
    places = cells.set_index([SMEAR, CELL])[[X, Y, RADIUS]]
    return places.reindex(pd.MultiIndex.from_frame(labels[[SMEAR, CELL]])).set_axis(labels.index)
