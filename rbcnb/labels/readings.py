"""Readings: what readers said of cells, one row each, never changed.

What follows from them: `rbcnb.labels.consensus`. A reading names a found cell (``columns.FOUND``; the circle is kept,
so that a label finds its cell again when the smear is segmented again), the reader, and its ``kind``:

- ``label``: the cell is of class ``label``.
- ``unsure``: the reader looked and cannot tell; ``label`` may hold a guess, which does not count.
- ``strike``: what was found there is no cell.
- ``skip``: passed over, nothing said.
- ``undo``: takes back the reader's last standing reading of the cell, of whatever kind; one undo, one reading.

A cell that the finder missed is added by a reading, most often a ``skip``, of the number after the smear's last one
(`rbcnb.labels.consensus.added_cells`).

No name of a smear, class, reader or session is what a spreadsheet would take for a formula; a comment that would be one
gets an apostrophe before it (`rbcnb._utils.spreadsheet`).

A correction is a further row. ``revision`` counts a reader's rows of a cell from 1 and is filled in when a row is
written, as is ``time`` where none is given. Files are CSV, see `rbcnb.labels.logbook`.
"""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from functools import partial
from numbers import Real
from pathlib import Path

import numpy as np
import pandas as pd

from rbcnb._utils.read_files import shown
from rbcnb._utils.spreadsheet import FORMULA_FAULT, as_text, is_formula
from rbcnb.columns import (
    CELL,
    COMMENT,
    KIND,
    LABEL,
    RADIUS,
    READER,
    REVISION,
    SESSION,
    SKIPPED,
    SMEAR,
    STRUCK,
    TIME,
    UNSURE,
    X,
    Y,
)
from rbcnb.labels.logbook import COLUMNS, LogbookError, append_rows, read_rows
from rbcnb.smears.smear_names import NO_CLASS_FAULT, UNFIT, is_no_class

READINGS_CSV = "readings.csv"  # in a run's folder, or beside the cells.csv of `rbcnb segment`
SECOND_LOOK_CSV = "second_look.csv"  # in a run's folder: apart, as it must change no label of the test
NAMED, UNDONE = "label", "undo"
KINDS = (NAMED, UNSURE, STRUCK, SKIPPED, UNDONE)
_NUMBERS = (X, Y, RADIUS)
NAMES = (SMEAR, LABEL, READER, SESSION)  # which a spreadsheet must not take for formulas
_TEXTS = (*NAMES, KIND, COMMENT)
TIME_FORMAT = "%Y-%m-%dT%H:%M:%S.%fZ"


class ReadingError(LogbookError):
    """A reading, or a table of them, is not right; the message names the file, the row and the remedy."""


@dataclass(frozen=True, kw_only=True)
class Reading:
    """What one reader said of one cell at one time; `append_readings` checks it and fills in revision and time."""

    smear: str
    cell: int
    reader: str
    label: str = ""
    kind: str = NAMED
    x_px: float = math.nan
    y_px: float = math.nan
    radius_px: float = math.nan
    session: str = ""
    comment: str = ""  # line breaks become spaces
    time: datetime | None = None  # None: now; without a zone: UTC


def append_readings(path: str | Path, readings: pd.DataFrame | Iterable[Reading]) -> None:
    """Adds *readings* to the table at *path* (.csv), which is made when it is not there.

    All are checked before any is written. When this returns they are on the disk, and what other processes wrote at
    the same time is there as well.

    Args:
        path: the table.
        readings: a table may leave out the columns that `Reading` has a value for; its ``revision`` is not used.

    Raises:
        ReadingError: a reading lacks a smear, reader or label, or has what no field can hold; it is named.
        LogbookError: *path* is no table of readings or cannot be written to.
    """
    now = datetime.now(UTC)
    if isinstance(readings, pd.DataFrame):
        if (rows := _usual_rows(readings, now)) is not None:
            append_rows(path, rows if len(readings) else [])
            return
        readings = _readings_of(readings)
    append_rows(path, [_row(reading, f"{path}: reading {n}", now) for n, reading in enumerate(readings, 1)])


def load_readings(path: str | Path) -> pd.DataFrame:
    """All rows of the table at *path* in the order they were written; none where there is no file.

    A torn last line is left out, with a warning.

    Args:
        path: the table (.csv).

    Returns:
        ``COLUMNS``: ``cell`` and ``revision`` int, ``x_px``, ``y_px``, ``radius_px`` float, ``time`` UTC, the others
        text; ``label`` is missing (NaN) where none was given.

    Raises:
        LogbookError: *path* does not end in .csv, cannot be read, or has another row that is no reading; the message
            has file, row and remedy.
    """
    return readings_of(read_rows(path), path)


def readings_of(texts: pd.DataFrame, path: str | Path) -> pd.DataFrame:
    """*texts* [rows, COLUMNS], whose index is the row in the file at *path*, as `load_readings` gives them."""
    table = texts.reset_index(drop=True)

    def refuse(bad: pd.Series, name: str, remedy: str) -> None:
        if bad.any():
            at = int(np.argmax(bad.to_numpy()))
            raise ReadingError(f"{path}: row {texts.index[at]} has {name} {shown(texts[name].iloc[at])}; {remedy}")

    given = table[list(_TEXTS)]
    for name in (CELL, REVISION):
        values = pd.to_numeric(table[name], errors="coerce")
        refuse(~(values >= 0) | (values % 1 != 0), name, "give a whole number")
        table[name] = values.astype("int64")
    for name in _NUMBERS:
        values = pd.to_numeric(table[name], errors="coerce").astype(float)
        refuse(~np.isfinite(values) & (table[name] != ""), name, "give a number of pixels, or nothing")
        table[name] = values
    times = pd.to_datetime(table[TIME], format=TIME_FORMAT, errors="coerce", utc=True)
    refuse(times.isna(), TIME, "give a time such as 2026-01-31T12:00:00.000000Z")
    table[TIME] = times.astype("datetime64[us, UTC]")
    refuse(~given[KIND].isin(KINDS), KIND, f"give one of {', '.join(KINDS)}")
    for name in (SMEAR, READER):
        refuse(given[name] == "", name, "name it")
    for name in NAMES:
        refuse(holds(given[name], is_formula), name, FORMULA_FAULT)
    refuse((given[KIND] == NAMED) & (given[LABEL] == ""), LABEL, "name the class")
    refuse((given[KIND] == NAMED) & holds(given[LABEL], is_no_class), LABEL, NO_CLASS_FAULT)
    formulas = holds(given[COMMENT], is_formula)
    table.loc[formulas, COMMENT] = given.loc[formulas, COMMENT].map(as_text)
    table[LABEL] = given[LABEL].where(given[LABEL] != "", np.nan)
    return table


def holds(texts: pd.Series, fault: Callable[[str], bool]) -> pd.Series:
    """Which of *texts* have *fault*, bool; each text is looked at once, however many rows have it."""
    return texts.isin([text for text in texts.unique() if fault(text)])


def _readings_of(table: pd.DataFrame) -> list[Reading]:
    known = [field.name for field in fields(Reading)]
    if strange := [name for name in table.columns if name not in (*known, REVISION)]:
        raise ReadingError(f"a reading has no {', '.join(strange)}; it has {', '.join(known)}: leave out the others")
    if missing := [name for name in (SMEAR, CELL, READER) if name not in table]:
        raise ReadingError(f"the readings lack {', '.join(missing)}; give the columns")
    records = table.drop(columns=REVISION, errors="ignore").to_dict("records")
    empty = dict.fromkeys(_TEXTS, "") | {TIME: None}
    return [
        Reading(**{name: empty.get(name, value) if pd.isna(value) else value for name, value in record.items()})
        for record in records
    ]


def _usual_rows(table: pd.DataFrame, now: datetime) -> Iterable[tuple[str, ...]] | None:
    """The fields of the readings in *table* as `_row` gives them; None where one may be wrong: `_row` says which."""
    known = [field.name for field in fields(Reading)]
    if not {SMEAR, CELL, READER} <= set(table.columns) <= {*known, REVISION}:
        return None
    empty = {**dict.fromkeys(_TEXTS, ""), KIND: NAMED} | dict.fromkeys(_NUMBERS, math.nan) | {TIME: None}
    columns: dict[str, Iterable[str]] = {REVISION: [""] * len(table)}
    for name in (*_TEXTS, TIME, *_NUMBERS, CELL):
        if name not in table:
            texts, codes = [_usual_text(name, empty[name], now)], [0] * len(table)
        elif name in _NUMBERS:
            numbers = table[name].to_numpy()
            if numbers.dtype.kind not in "fi" or np.isinf(numbers).any():
                return None
            # Written as they are needed: of a million readings the texts would fill the memory.
            columns[name] = map(partial(_usual_text, name, now=now), numbers.tolist())
            continue
        else:  # each value is looked at once, however many readings have it
            found, values = pd.factorize(table[name], use_na_sentinel=False)
            texts, codes = [_usual_text(name, value, now) for value in values.tolist()], found.tolist()
        if None in texts:
            return None
        columns[name] = [texts[code] for code in codes]
    if "" in columns[SMEAR] or "" in columns[READER] or not set(columns[KIND]) <= set(KINDS):
        return None
    named = {label for kind, label in zip(columns[KIND], columns[LABEL], strict=True) if kind == NAMED}
    if any(not label or is_no_class(label) for label in named):
        return None
    return zip(*(columns[name] for name in COLUMNS), strict=True)


def _usual_text(name: str, value: object, now: datetime) -> str | None:
    """What `_row` writes for *value* of the column *name*; None where that takes a closer look."""
    if name in _NUMBERS:
        return "" if math.isnan(value) else repr(float(value))
    if name == CELL:
        usual = isinstance(value, Real) and 0 <= value < 10**18 and float(value).is_integer()
        return str(int(value)) if usual else None
    if name == TIME:
        return _time_text(now if value is None or pd.isna(value) else value)
    text = "" if pd.isna(value) else str(value).strip()
    text = as_text(UNFIT.sub(" ", text)) if name == COMMENT else text
    return None if UNFIT.search(text) or is_formula(text) else text


def _time_text(time: datetime) -> str:
    return (time if time.tzinfo else time.replace(tzinfo=UTC)).astimezone(UTC).strftime(TIME_FORMAT)


def _row(reading: Reading, where: str, now: datetime) -> list[str]:
    """The fields of *reading* as they are written; *where* names file and reading in errors."""
    texts = {name: str(getattr(reading, name)).strip() for name in _TEXTS}
    texts[COMMENT] = as_text(UNFIT.sub(" ", texts[COMMENT]))
    for name, text in texts.items():
        if UNFIT.search(text):
            raise ReadingError(f"{where} has {name} {shown(text)}, with a line break or what is no text; take that out")
        if is_formula(text):
            raise ReadingError(f"{where} has {name} {shown(text)}; {FORMULA_FAULT}")
    for name in (SMEAR, READER):
        if not texts[name]:
            raise ReadingError(f"{where} has no {name}; name it")
    if texts[KIND] not in KINDS:
        raise ReadingError(f"{where} has kind {shown(reading.kind)}; give one of {', '.join(KINDS)}")
    if texts[KIND] == NAMED and not texts[LABEL]:
        raise ReadingError(f"{where} has no label; name the class, or give another kind")
    if texts[KIND] == NAMED and is_no_class(texts[LABEL]):
        raise ReadingError(f"{where} has label {shown(texts[LABEL])}; {NO_CLASS_FAULT}")
    number = reading.cell
    if not (isinstance(number, Real) and float(number).is_integer() and 0 <= number < 10**18):
        raise ReadingError(f"{where} has cell {shown(number)}; give its number in the smear, from 0")
    for name in _NUMBERS:
        value = float(getattr(reading, name))
        if math.isinf(value):
            raise ReadingError(f"{where} has {name} {shown(value)}; give a number of pixels, or NaN")
        texts[name] = "" if math.isnan(value) else repr(value)
    texts[TIME] = _time_text(now if pd.isna(reading.time) else reading.time)
    texts |= {CELL: str(int(number)), REVISION: ""}
    return [texts[name] for name in COLUMNS]
