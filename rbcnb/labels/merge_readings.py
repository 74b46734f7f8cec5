"""Readings of one folder into another: with readers, kinds, comments and times, as they were written."""

from pathlib import Path

import pandas as pd

from rbcnb._utils.read_files import shown
from rbcnb._utils.spreadsheet import FORMULA_FAULT, is_formula
from rbcnb.columns import CELL, FOUND, KIND, LABEL, RADIUS, READER, SESSION, SMEAR, TIME, X, Y
from rbcnb.labels.assign import matched
from rbcnb.labels.consensus import added_cells
from rbcnb.labels.logbook import COLUMNS, LogbookError
from rbcnb.labels.readings import TIME_FORMAT, append_readings, load_readings, readings_of
from rbcnb.smears.images import SmearError, collect_or_raise
from rbcnb.smears.label_tables import (
    NO_CELL,
    UNKNOWN_SMEAR,
    LabelError,
    columns_of,
    labels_left_out,
    left_out,
    read_numbers,
    read_text_table,
    report_faults,
)
from rbcnb.smears.smear_names import match_names

_ROW = [SMEAR, CELL, READER, KIND, LABEL, TIME]  # two such rows that are equal are one reading


def merge_readings(
    source: str | Path,
    table: str | Path,
    cells: pd.DataFrame | None,
    *,
    reader: str | None = None,
    errors: list[SmearError] | None = None,
) -> str:
    """Adds the readings in *source* to *table*, and says what was done. What is there already adds nothing.

    A reading goes to the found cell at its place, whatever its number was; where none is near, its reader saw a cell
    that the finder missed here, which is added. A reading without a place keeps its number.

    Args:
        source: a table of readings.
        table: another one, made where it is not there.
        cells: the cells that were found beside *table*, ``columns.FOUND``; None: numbers stay as they are.
        reader: whose readings alone; None for all.
        errors: takes what cannot be used, and the others are added; None raises the first, and nothing is.

    Raises:
        LogbookError: a table of readings that cannot be read, with file and row.
        SmearError: a smear or cell that is not there.
    """
    unused: list[SmearError] = []
    theirs, ours = _saved_readings(source, unused), load_readings(table)
    n_read = len(theirs) + labels_left_out(unused).total()
    if reader is not None:
        theirs = theirs[theirs[READER] == reader].reset_index(drop=True)
    for name in (SMEAR, LABEL, READER, SESSION):
        formulas = theirs[name].map(lambda text: isinstance(text, str) and is_formula(text)).astype(bool)
        for row in theirs[formulas].itertuples():
            fault = f"{name} {shown(getattr(row, name))}; {FORMULA_FAULT}"
            unused.append(LabelError(f"{source}: {row.reader}'s reading of cell {row.cell} of {row.smear} has {fault}"))
        theirs = theirs[~formulas].reset_index(drop=True)
    if cells is not None:
        known = pd.concat([cells[list(FOUND)], added_cells(ours, cells)], ignore_index=True)
        theirs = _on_cells(_on_smears(theirs, known, source, unused), known, source, unused)
    for error in unused:
        collect_or_raise(error, errors)
    new = theirs[~_rows(theirs).isin(_rows(ours))]
    append_readings(table, new[[name for name in COLUMNS if name != "revision"]])
    readers = ", ".join(new[READER].unique()) or "nobody"
    summary = f"{len(new)} readings by {readers} added to {table}, from {n_read} in {source}"
    there = len(theirs) - len(new)
    return summary + (f"; {there} were there already" if there else "") + left_out(unused)


def _saved_readings(source: str | Path, errors: list[SmearError]) -> pd.DataFrame:
    """The readings in *source*, also as spreadsheets save them; rows that do not fit the header go to *errors*."""
    table = read_text_table(source)
    texts = columns_of(table, {name: (name,) for name in COLUMNS})
    if missing := [name for name in COLUMNS if name not in texts]:
        raise LogbookError(f"{source}: row {table.header_row} lacks {', '.join(missing)}; save it with all its columns")
    report_faults(table.faults.values(), errors, source)
    numbers, _ = read_numbers(texts[[X, Y, RADIUS]], table.separator)
    for name, values in numbers.items():
        texts[name] = values.map(repr).where(values.notna(), texts[name])
    times = pd.to_datetime(texts[TIME], format="ISO8601", errors="coerce", utc=True)
    texts[TIME] = times.dt.strftime(TIME_FORMAT).where(times.notna(), texts[TIME])
    return readings_of(texts, source)


def _rows(readings: pd.DataFrame) -> pd.MultiIndex:
    return pd.MultiIndex.from_frame(readings[_ROW].fillna({LABEL: ""}))


def _on_smears(theirs: pd.DataFrame, known: pd.DataFrame, source: str | Path, errors: list[SmearError]) -> pd.DataFrame:
    """*theirs* under the names that their smears have here; those of none go to *errors*."""
    names, wrong = match_names(theirs[SMEAR].unique(), known[SMEAR].unique(), among="smears of the folder")
    for name, message in wrong.items():
        n_readings = int((theirs[SMEAR] == name).sum())
        errors.append(LabelError(f"{source}: the smear {shown(name)} {message}", n_readings, UNKNOWN_SMEAR))
    there = theirs[theirs[SMEAR].isin(names)]
    return there.assign(**{SMEAR: there[SMEAR].map(names)}).reset_index(drop=True)


def _on_cells(theirs: pd.DataFrame, known: pd.DataFrame, source: str | Path, errors: list[SmearError]) -> pd.DataFrame:
    """*theirs* with the numbers that their cells have here; cells that were not found here get new ones."""
    place_of = theirs.dropna(subset=[X, Y, RADIUS]).drop_duplicates([SMEAR, CELL], keep="last").reset_index(drop=True)
    row, of = matched(known, place_of)
    number = pd.Series(known.loc[row, CELL].to_numpy(), index=of).reindex(place_of.index)
    last = known.groupby(SMEAR)[CELL].max()
    missed = number.isna()
    rank = place_of[missed].groupby(SMEAR).cumcount() + 1
    number[missed] = place_of.loc[missed, SMEAR].map(last).astype(float) + rank
    here = pd.Series(number.to_numpy(), index=pd.MultiIndex.from_frame(place_of[[SMEAR, CELL]]))
    bare = pd.MultiIndex.from_frame(known[[SMEAR, CELL]])
    own = pd.MultiIndex.from_frame(theirs[[SMEAR, CELL]])
    numbers = here.reindex(own).to_numpy(copy=True)
    same = pd.isna(numbers) & own.isin(bare)
    numbers[same] = theirs.loc[same, CELL]
    for lost in theirs[pd.isna(numbers)].itertuples():
        remedy = "it has no place, and there is no cell of that number here; import from the folder it was read in"
        message = f"{source}: {lost.reader}'s reading of cell {lost.cell} of {lost.smear}: {remedy}"
        errors.append(LabelError(message, reason=NO_CELL))
    return theirs.assign(**{CELL: numbers}).dropna(subset=[CELL]).astype({CELL: int}).reset_index(drop=True)
