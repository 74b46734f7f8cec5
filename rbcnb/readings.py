"""Readings: what readers said of cells, one row each, never changed, and the labels that follow from them.

A reading names a found cell (``columns.FOUND``; the circle is kept, so that a label finds its cell again when the
smear is segmented anew), the reader, and its ``kind``:

- ``label``: the cell is of class ``label``.
- ``unsure``: the reader looked and cannot tell; ``label`` may hold a guess, which does not count.
- ``skip``: passed over, nothing said.
- ``undo``: takes back the reader's last standing reading of the cell, of whatever kind; one undo, one reading.

A correction is a further row. ``revision`` counts a reader's rows of a cell from 1 and is filled in when a row is
written, as is ``time`` where none is given. Files are CSV or SQLite, see `rbcnb.logbook`.
"""

import math
import re
import warnings
from collections.abc import Iterable
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from numbers import Real
from pathlib import Path

import numpy as np
import pandas as pd

from rbcnb.columns import CELL, COMMENT, FOUND, KIND, LABEL, RADIUS, READER, REVISION, SESSION, SMEAR, TIME, X, Y
from rbcnb.logbook import Layout, LogbookError, append_rows, read_rows

READINGS_CSV = "readings.csv"  # in a run's folder, or beside the cells.csv of `rbcnb segment`
SECOND_LOOK_CSV = "second_look.csv"  # in a run's folder: apart, as it must change no label of the test
NAMED, UNSURE, SKIPPED, UNDONE = "label", "unsure", "skip", "undo"
KINDS = (NAMED, UNSURE, SKIPPED, UNDONE)
DISPUTED = "disputed"  # of a current label: readers name classes, and no class has more than half of them
N_READERS, N_AGREE = "n_readers", "n_agree"

COLUMNS = (*FOUND, LABEL, KIND, READER, REVISION, SESSION, COMMENT, TIME)
LAYOUT = Layout(COLUMNS, key=(SMEAR, CELL, READER), count=REVISION)
_NUMBERS = (X, Y, RADIUS)
_TEXTS = (SMEAR, LABEL, KIND, READER, SESSION, COMMENT)
_TIME_FORMAT = "%Y-%m-%dT%H:%M:%S.%fZ"
_UNFIT = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]+")  # line breaks, other controls, broken text


class ReadingError(LogbookError):
    """A reading, or a table of them, is not right; the message names the file, the row and the mend."""


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
    """Adds *readings* to the table at *path* (.csv or .sqlite), which is made when it is not there.

    All are checked before any is written. When this returns they are on the disk, and what other processes wrote at
    the same time is there as well.

    Args:
        path: the table.
        readings: a table may leave out the columns that `Reading` has a value for; its ``revision`` is not used.

    Raises:
        ReadingError: a reading lacks a smear, reader or label, or has what no field can hold; it is named.
        LogbookError: *path* is no table of readings or cannot be written to.
    """
    if isinstance(readings, pd.DataFrame):
        readings = _readings_of(readings)
    now = datetime.now(UTC)
    append_rows(path, [_row(reading, f"{path}: reading {n}", now) for n, reading in enumerate(readings, 1)], LAYOUT)


def load_readings(path: str | Path) -> pd.DataFrame:
    """All rows of the table at *path* in the order they were written; none where there is no file.

    Returns ``COLUMNS``: ``cell`` and ``revision`` int, ``x_px``, ``y_px``, ``radius_px`` float, ``time`` UTC, the
    others text; ``label`` is missing (NaN) where none was given. A torn last line is left out, with a warning.

    Raises LogbookError for any other row that is no reading, with file, row and mend.
    """
    texts = read_rows(path, LAYOUT)
    table = texts.reset_index(drop=True)

    def refuse(bad: pd.Series, name: str, mend: str) -> None:
        if bad.any():
            at = int(np.argmax(bad.to_numpy()))
            raise ReadingError(f"{path}: row {texts.index[at]} has {name} {texts[name].iloc[at]!r}; {mend}")

    given = table[list(_TEXTS)]
    for name in (CELL, REVISION):
        values = pd.to_numeric(table[name], errors="coerce")
        refuse(~(values >= 0) | (values % 1 != 0), name, "give a whole number")
        table[name] = values.astype("int64")
    for name in _NUMBERS:
        values = pd.to_numeric(table[name], errors="coerce").astype(float)
        refuse(~np.isfinite(values) & (table[name] != ""), name, "give a number of pixels, or nothing")
        table[name] = values
    times = pd.to_datetime(table[TIME], format=_TIME_FORMAT, errors="coerce", utc=True)
    refuse(times.isna(), TIME, "give a time such as 2026-01-31T12:00:00.000000Z")
    table[TIME] = times.astype("datetime64[us, UTC]")
    refuse(~given[KIND].isin(KINDS), KIND, f"give one of {', '.join(KINDS)}")
    for name in (SMEAR, READER):
        refuse(given[name] == "", name, "name it")
    refuse((given[KIND] == NAMED) & (given[LABEL] == ""), LABEL, "name the class")
    table[LABEL] = given[LABEL].where(given[LABEL] != "", np.nan)
    return table


def last_words(readings: pd.DataFrame) -> pd.DataFrame:
    """What each reader says of each cell by now: one row per smear, cell and reader, the reading that stands.

    Undone readings do not stand. Of the standing ones the last goes before those earlier, and any before a skip.
    The rows are of *readings*, in its order.
    """
    key = [SMEAR, CELL, READER]
    if readings[KIND].eq(UNDONE).any():
        undone = readings[readings[KIND] == UNDONE].set_index(key).index.unique()
        touched = readings[readings.set_index(key).index.isin(undone)]
        gone = [row for _, rows in touched.groupby(key, sort=False) for row in _undone(rows.index, rows[KIND])]
        readings = readings.drop(index=gone)
    place = np.arange(len(readings))
    skips_first = np.lexsort((place, readings[KIND] != SKIPPED))
    stands = ~readings.iloc[skips_first].duplicated(key, keep="last").to_numpy()
    return readings.iloc[np.sort(skips_first[stands])]


def _undone(rows: Iterable, kinds: Iterable[str]) -> list:
    """The *rows* of one reader and cell that do not stand: the undos, and what each took back."""
    standing, gone = [], []
    for row, kind in zip(rows, kinds, strict=True):
        if kind != UNDONE:
            standing.append(row)
            continue
        gone.append(row)
        if standing:
            gone.append(standing.pop())
    return gone


def current_labels(readings: pd.DataFrame, *, reader: str | None = None) -> pd.DataFrame:
    """The view on *readings*: one row per cell of which anything stands, in the order of the first such row.

    With *reader*, that reader's last word. Else the readers' last words together: the class that more than half of
    those who name one name. A tie is settled by one more reader, by nothing else; unsure readers do not vote.

    Args:
        readings: as of `load_readings`.
        reader: whose labels; None for all readers'.

    Returns:
        ``columns.FOUND`` (the circle as last given), ``label`` (missing unless kind is ``label``), ``kind`` (``label``;
        ``disputed`` where classes are named and none has the majority; ``unsure`` where none is named and someone is
        unsure; ``skip``), ``n_readers`` (who name a class), ``n_agree`` (who name the label, or the most named class),
        ``reader`` (all who said something), ``time`` (of the last word), ``comment`` (all, joined by "; ").
    """
    words = last_words(readings if reader is None else readings[readings[READER] == reader])
    if moved := moved_cells(readings):
        warnings.warn(
            f"{len(moved)} cells, such as {moved[0][1]} of {moved[0][0]}, were read at places over a radius apart: "
            "the finder numbered anew in between; begin a new table for its new cells",
            stacklevel=2,
        )
    cell = [SMEAR, CELL]
    words = words.assign(_cell=words.groupby(cell, sort=False).ngroup())
    view = words.drop_duplicates("_cell").set_index("_cell")
    view[[*_NUMBERS, TIME]] = words.groupby("_cell")[[*_NUMBERS, TIME]].last()  # the last that is given
    several = words[words.duplicated("_cell", keep=False)].groupby("_cell")
    if len(several):
        view[READER] = several[READER].agg(", ".join).reindex(view.index).fillna(view[READER])
        said = several[COMMENT].agg(lambda texts: "; ".join(text for text in texts if text))
        view[COMMENT] = said.reindex(view.index).fillna(view[COMMENT])
    named = words[words[KIND] == NAMED]
    votes = named.groupby(["_cell", LABEL]).size().rename(N_AGREE).reset_index()
    top = votes.sort_values(N_AGREE, ascending=False, kind="stable").drop_duplicates("_cell").set_index("_cell")
    view[N_AGREE] = top[N_AGREE].reindex(view.index, fill_value=0).astype(int)
    view[N_READERS] = np.bincount(named["_cell"], minlength=len(view)).astype(int)
    majority = 2 * view[N_AGREE] > view[N_READERS]
    unsure = np.bincount(words["_cell"], words[KIND] == UNSURE, minlength=len(view)) > 0
    view[LABEL] = top[LABEL].reindex(view.index).where(majority)
    view[KIND] = np.select([majority, view[N_READERS] > 0, unsure], [NAMED, DISPUTED, UNSURE], SKIPPED)
    columns = [*FOUND, LABEL, KIND, N_READERS, N_AGREE, READER, TIME, COMMENT]
    return view[columns].reset_index(drop=True)


def moved_cells(readings: pd.DataFrame, cells: pd.DataFrame | None = None) -> list[tuple[str, int]]:
    """Names (smear, cell) that do not mean one cell: their circles, where given, lie more than a radius apart.

    So it is where smears were segmented anew, with other settings, between two readings.

    Args:
        readings: as of `load_readings`.
        cells: found cells whose circles count as well, to see whether *readings* are of them.
    """
    places = readings[list(FOUND)]
    if cells is not None:
        named = pd.MultiIndex.from_frame(cells[[SMEAR, CELL]]).isin(pd.MultiIndex.from_frame(places[[SMEAR, CELL]]))
        places = pd.concat([places, cells.loc[named, list(FOUND)]])
    known = places.dropna(subset=[X, Y, RADIUS])
    circles = known.groupby([SMEAR, CELL], sort=False)
    reach = circles[[X, Y]].max() - circles[[X, Y]].min()
    return reach.index[np.hypot(reach[X], reach[Y]) > circles[RADIUS].max()].tolist()


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


def _row(reading: Reading, where: str, now: datetime) -> list[str]:
    """The fields of *reading* as they are written; *where* names file and reading in errors."""
    texts = {name: str(getattr(reading, name)).strip() for name in _TEXTS}
    texts[COMMENT] = _UNFIT.sub(" ", texts[COMMENT])
    for name, text in texts.items():
        if _UNFIT.search(text):
            raise ReadingError(f"{where} has {name} {text!r}, with a line break or what is no text; take that out")
    for name in (SMEAR, READER):
        if not texts[name]:
            raise ReadingError(f"{where} has no {name}; name it")
    if texts[KIND] not in KINDS:
        raise ReadingError(f"{where} has kind {reading.kind!r}; give one of {', '.join(KINDS)}")
    if texts[KIND] == NAMED and not texts[LABEL]:
        raise ReadingError(f"{where} has no label; name the class, or give another kind")
    number = reading.cell
    if not (isinstance(number, Real) and float(number).is_integer() and 0 <= number < 10**18):
        raise ReadingError(f"{where} has cell {number!r}; give its number in the smear, from 0")
    for name in _NUMBERS:
        value = float(getattr(reading, name))
        if math.isinf(value):
            raise ReadingError(f"{where} has {name} {value!r}; give a number of pixels, or NaN")
        texts[name] = "" if math.isnan(value) else repr(value)
    time = now if pd.isna(reading.time) else reading.time
    texts[TIME] = (time if time.tzinfo else time.replace(tzinfo=UTC)).astimezone(UTC).strftime(_TIME_FORMAT)
    texts |= {CELL: str(int(number)), REVISION: ""}
    return [texts[name] for name in COLUMNS]
