"""Readings of one folder into another: with readers, kinds, comments and times, as they were written."""

import shutil
from pathlib import Path

import numpy as np
import pandas as pd

from rbcnb._utils.files import atomic_write, folder_lock
from rbcnb._utils.read_files import shown
from rbcnb._utils.spreadsheet import FORMULA_FAULT, is_formula
from rbcnb.columns import CELL, FOUND, KIND, LABEL, RADIUS, READER, REVISION, SMEAR, TIME, X, Y
from rbcnb.labels.assign import matched
from rbcnb.labels.consensus import added_cells, moved_cells
from rbcnb.labels.formats import read_cells
from rbcnb.labels.labeller.pictures import save_added_crops
from rbcnb.labels.logbook import COLUMNS, WAIT_S, LogbookError, lock_name
from rbcnb.labels.readings import (
    NAMES,
    READINGS_CSV,
    STRUCK,
    TIME_FORMAT,
    UNDONE,
    append_readings,
    holds,
    load_readings,
    readings_of,
)
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
from rbcnb.smears.segmented import CELLS_CSV
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
    n_struck = 0
    if cells is not None:
        known = pd.concat([cells[list(FOUND)], added_cells(ours, cells)], ignore_index=True)
        theirs, n_faults = _on_smears(theirs, known, source, unused), len(unused)
        n_struck = len(theirs)
        theirs = _on_cells(theirs, known, source, unused)
        n_struck -= len(theirs) + len(unused) - n_faults
    for error in unused:
        collect_or_raise(error, errors)
    new = theirs[~_rows(theirs).isin(_rows(ours))]
    append_readings(table, new[[name for name in COLUMNS if name != "revision"]])
    readers = ", ".join(new[READER].unique()) or "nobody"
    summary = f"{len(new)} readings by {readers} added to {table}, from {n_read} in {source}"
    there = len(theirs) - len(new)
    struck = f"; {n_struck} strikes of what was not found here are not needed" if n_struck else ""
    return summary + (f"; {there} were there already" if there else "") + struck + left_out(unused)


def _saved_readings(source: str | Path, errors: list[SmearError]) -> pd.DataFrame:
    """The readings in *source*, also as spreadsheets save them.

    Rows that do not fit the header, or hold a formula in place of a name, go to *errors*.
    """
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
    for name in NAMES:
        formulas = holds(texts[name], is_formula)
        for row in texts[formulas].itertuples():
            fault = f"{name} {shown(getattr(row, name))}; {FORMULA_FAULT}"
            errors.append(LabelError(f"{source}: {row.reader}'s reading of cell {row.cell} of {row.smear} has {fault}"))
        texts = texts[~formulas]
    return readings_of(texts, source)


def readings_to_cells(folder: str | Path) -> str:
    """Takes the readings of *folder*, of `rbcnb segment`, to the cells at their places where cells were found again.

    It is the rule of `merge_readings`. The table as it was stays beside it as ``readings_before_1.csv``, and so on.
    Returns what was done; "" where each number still means the cell that was read.

    Raises:
        LogbookError: the table cannot be read or written, or another process keeps it.
    """
    folder = Path(folder)
    table, cells = folder / READINGS_CSV, read_cells(folder / CELLS_CSV)
    size, readings = table.stat().st_size if table.is_file() else 0, load_readings(table)
    if not (moved := moved_cells(readings, cells)):
        return ""
    here = readings[SMEAR].isin(cells[SMEAR])
    theirs, numbers, struck = _numbered(readings[here], cells)
    theirs = theirs.assign(**{CELL: numbers.fillna(theirs[CELL]).astype(int)})[~struck]
    aside = folder / f"readings_before_{1 + len(list(folder.glob('readings_before_*.csv')))}.csv"
    with folder_lock(folder, name=lock_name(table), wait_s=WAIT_S), atomic_write(table) as part:
        if table.stat().st_size != size:
            raise LogbookError(
                f"{table}: rbcnb label still shows the earlier cells; end it, and run this command again"
            )
        append_readings(part, pd.concat([theirs, readings[~here]]).sort_index().drop(columns=REVISION))
        part.with_name(lock_name(part)).unlink(missing_ok=True)
        with atomic_write(aside) as copy:
            copy.write_bytes(table.read_bytes())
    shutil.rmtree(folder / "added", ignore_errors=True)  # pictures by the earlier numbers
    save_added_crops(folder, added := added_cells(load_readings(table), cells))
    left = f"; {int(struck.sum())} strikes of what was not found again are left out" if struck.any() else ""
    return (
        f"{table}: cells were found again, and {len(moved)} of the numbers that were read mean others now; the "
        f"readings went to the cells at their places, {len(added)} cells that are not found any more count as added by "
        f"their readers{left}. The earlier table: {aside}"
    )


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
    """*theirs* with the numbers that their cells have here; those of no cell go to *errors*, except strikes."""
    theirs, numbers, struck = _numbered(theirs, known)
    for lost in theirs[numbers.isna() & ~struck].itertuples():
        remedy = "it has no place, and there is no cell of that number here; import from the folder it was read in"
        message = f"{source}: {lost.reader}'s reading of cell {lost.cell} of {lost.smear}: {remedy}"
        errors.append(LabelError(message, reason=NO_CELL))
    there = numbers.notna()
    return theirs[there].assign(**{CELL: numbers[there].astype(int)}).reset_index(drop=True)


def _numbered(theirs: pd.DataFrame, known: pd.DataFrame) -> tuple[pd.DataFrame, pd.Series, pd.Series]:
    """*theirs*, each with a radius; the number of its cell here or NaN; whether it strikes what was not found here.

    By place; a cell that was not found here gets a number after those of *known*. Readings without a place go with the
    others of their number, else keep it.
    """
    radius = theirs[RADIUS].fillna(theirs[SMEAR].map(known.groupby(SMEAR)[RADIUS].median()))
    theirs = theirs.assign(**{RADIUS: radius.where(theirs[X].notna() & theirs[Y].notna())})
    last, at = theirs.groupby([SMEAR, CELL])[[X, Y]].transform("last"), [SMEAR, X, Y]
    # Where cells were found again in between, one number names several cells, each at its place.
    away = np.hypot(theirs[X] - last[X], theirs[Y] - last[Y]) > theirs[RADIUS]
    place = theirs.assign(**{name: theirs[name].where(away, last[name]) for name in (X, Y)})
    place[STRUCK] = place[KIND].isin([STRUCK, UNDONE])
    place[STRUCK] = place.groupby(at)[STRUCK].transform("all").eq(True)
    places = place.dropna(subset=[X, Y]).drop_duplicates(at, keep="last").reset_index(drop=True)
    row, of = matched(known, places)
    number = pd.Series(known.loc[row, CELL].to_numpy(), index=of).reindex(places.index)
    missed = number.isna() & ~places[STRUCK]
    rank = places[missed].groupby(SMEAR).cumcount() + 1
    number[missed] = places.loc[missed, SMEAR].map(known.groupby(SMEAR)[CELL].max()).astype(float) + rank
    here = pd.Series(number.to_numpy(), index=pd.MultiIndex.from_frame(places[at]))
    numbers = here.reindex(pd.MultiIndex.from_frame(place[at])).set_axis(theirs.index)
    is_there = pd.MultiIndex.from_frame(theirs[[SMEAR, CELL]]).isin(pd.MultiIndex.from_frame(known[[SMEAR, CELL]]))
    numbers = numbers.where(place[X].notna() | ~is_there, theirs[CELL])
    return theirs, numbers, place[STRUCK] & numbers.isna()
