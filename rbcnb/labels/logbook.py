"""The logbook of readings: a CSV file that only grows, to which several processes may write at once.

A row is written whole or not at all, and is on the disk when the call returns. The last column is a time that ends in
``Z``: so a row whose line end is missing is known to be whole or torn. Of a torn last line, which a killed process or
a full disk leaves, no reader makes a row: it warns, and the next writer moves the line to ``<file>.torn``.
"""

import csv
import io
import os
import re
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from operator import itemgetter
from pathlib import Path

import pandas as pd

from rbcnb._utils.errors import PlainError, SmearWarning
from rbcnb._utils.files import folder_lock, sync_folder
from rbcnb._utils.read_files import cause_of, read_bytes, require_file
from rbcnb.columns import CELL, COMMENT, FOUND, KIND, LABEL, READER, REVISION, SESSION, SMEAR, TIME

COLUMNS = (*FOUND, LABEL, KIND, READER, REVISION, SESSION, COMMENT, TIME)
_KEY = (SMEAR, CELL, READER)  # a reader's rows of a cell, which REVISION numbers from 1
WAIT_S = 10.0  # for another process to end its write of a few milliseconds
_REMEDY = "name a table of readings, or put the file right"
_TIME = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z"


class LogbookError(PlainError, ValueError):
    """A logbook cannot be read or written; the message names the file, the row and the remedy."""


def append_rows(path: str | Path, rows: Iterable[Sequence[str]]) -> None:
    """Adds *rows* (a text for each of ``COLUMNS``; the revision is filled in) to the logbook at *path*.

    Raises LogbookError where *path* is no such logbook or cannot be written to.
    """
    path = _checked(path)
    if not rows:
        return
    if path.exists():
        require_file(path, remedy=_REMEDY, error=LogbookError)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with folder_lock(path.parent, name=lock_name(path), wait_s=WAIT_S):
            _append(path, rows)
    except BlockingIOError as error:
        raise LogbookError(f"{path}: another process has kept it for {WAIT_S:g} s; end that process") from error
    except OSError as error:
        raise LogbookError(
            f"{path}: cannot be written to ({cause_of(error)}); check who may write there, and the space"
        ) from error


def read_rows(path: str | Path) -> pd.DataFrame:
    """The rows at *path* as text, in the order they were written; the index is their number in the file.

    The header is row 1. A file that is not there has no rows. A torn last line is left out, with a warning that
    shows it.

    Raises LogbookError for any other bad row.
    """
    path = _checked(path)
    if not path.exists():
        return pd.DataFrame(columns=list(COLUMNS), dtype=str)
    try:
        with ExitStack() as stack:
            with suppress(OSError):  # where no lock can be made, nobody writes either
                stack.enter_context(folder_lock(path.parent, name=lock_name(path), wait_s=WAIT_S))
            data = read_bytes(path, remedy=_REMEDY, error=LogbookError)
        return _read(data, path)
    except OSError as error:
        raise LogbookError(f"{path}: cannot be read ({cause_of(error)}); {_REMEDY}") from error


@dataclass
class _Index:
    """What the first *end* bytes of a CSV file hold: number of lines, the last line, number of rows per key."""

    end: int = 0
    lines: int = 0
    last: bytes = b""
    counts: Counter = field(default_factory=Counter)


_INDEXES: dict[tuple[int, int], _Index] = {}  # by device and inode: what this process has read is not read again


def _append(path: Path, rows: Iterable[Sequence[str]]) -> None:
    """Adds *rows* to the file at *path*, in one write that is synced; the caller holds its lock."""
    with path.open("a+b", buffering=0) as file:
        index = _known_of(file)
        file.seek(index.end)
        new, torn = _split_torn(file.read())
        if new:
            known = _parsed(new, path, lines_before=index.lines)
            index.counts.update(known.groupby(list(_KEY), sort=False).size().to_dict())
        if torn:
            _set_aside(path, torn)
            file.truncate(index.end + len(new))
        data = io.BytesIO()
        # A whole row may lack its line end alone, where an editor saved the file.
        data.write(b"\n" if new and not new.endswith(b"\n") else b"")
        text = io.TextIOWrapper(data, encoding="utf-8", newline="")
        writer = csv.writer(text, lineterminator="\n")
        if index.end + len(new) == 0:
            writer.writerow(COLUMNS)
        writer.writerows(_numbered(rows, index.counts))
        text.flush()
        data = data.getvalue()
        _write_whole(file, data, end=index.end + len(new))
        if index.end == 0:
            sync_folder(path.parent)  # in which the file's name may be new
        index.end += len(new) + len(data)
        index.lines += new.count(b"\n") + data.count(b"\n")
        index.last = data[data.rfind(b"\n", 0, -1) + 1 :]
        _INDEXES[_identity(path)] = index


def _write_whole(file: io.FileIO, data: bytes, *, end: int) -> None:
    """Writes *data* behind the first *end* bytes and waits for the disk; a write that fails leaves none of it."""
    try:
        rest = memoryview(data)
        while rest:
            rest = rest[file.write(rest) :]
        os.fsync(file.fileno())
    except OSError:
        file.truncate(end)
        raise


def _numbered(rows: Iterable[Sequence[str]], counts: Counter) -> Iterator[list[str]]:
    """*rows* with their revision filled in, by *counts* of the rows before, which go on counting."""
    place, key_of = COLUMNS.index(REVISION), itemgetter(*map(COLUMNS.index, _KEY))
    for row in rows:
        key = key_of(row)
        number = counts[key] = counts.get(key, 0) + 1
        yield [*row[:place], str(number), *row[place + 1 :]]


def _identity(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_dev, status.st_ino


def _known_of(file: io.FileIO) -> _Index:
    """What this process knows of *file*; an empty index if the file has changed in other ways than by growing.

    The entry is removed; the caller stores it again after a successful write, so that after a failed one the whole file
    is read.
    """
    index = _INDEXES.pop(_identity(Path(file.name)), _Index())
    file.seek(index.end - len(index.last))
    return index if file.read(len(index.last)) == index.last else _Index()


def _split_torn(data: bytes) -> tuple[bytes, bytes]:
    """*data* up to its last whole row, and the torn piece behind it."""
    cut = data.rfind(b"\n") + 1
    tail = data[cut:]
    if not tail or re.fullmatch(_TIME, tail.decode(errors="replace").rpartition(",")[2]):
        return data, b""
    return data[:cut], tail


def _set_aside(path: Path, torn: bytes) -> None:
    aside = path.with_name(f"{path.name}.torn")
    with aside.open("ab") as file:
        file.write(torn + b"\n")
        file.flush()
        os.fsync(file.fileno())
    note = f"{path}: its last line is torn ({_shown(torn)}) and was moved to {aside.name}"
    warnings.warn(note, SmearWarning, stacklevel=5)


def _shown(torn: bytes) -> str:
    return repr(torn.decode(errors="replace").replace("\0", "")[:200])


def _read(data: bytes, path: Path) -> pd.DataFrame:
    """The rows in *data*, the bytes of the file at *path*; see `rbcnb.labels.logbook.read_rows`."""
    data, torn = _split_torn(data)
    if torn:
        note = f"{path}: its last line is torn and is left out: {_shown(torn)}"
        warnings.warn(note, SmearWarning, stacklevel=4)
    return _parsed(data, path, lines_before=0)


def _parsed(data: bytes, path: Path, *, lines_before: int) -> pd.DataFrame:
    """The rows in *data*, of which *lines_before* lines were read earlier; the first line of a file is its header."""
    quick = _quickly_parsed(data, header=lines_before == 0)
    if quick is not None:
        quick.index += lines_before + 1 + (lines_before == 0)
        return quick
    numbers, rows = [], []
    try:
        lines = csv.reader(io.StringIO(data.decode("utf-8-sig"), newline=""), strict=True)
        for row in lines:
            number = lines_before + lines.line_num
            if number == 1:
                if tuple(row) != COLUMNS:
                    raise LogbookError(
                        f"{path}: row 1 is {','.join(row)[:200]!r}; a table of readings begins "
                        f"{','.join(COLUMNS)}. Bring other tables, or one that a spreadsheet saved, in "
                        "from another place with: rbcnb import-labels"
                    )
            elif len(row) == len(COLUMNS) and re.fullmatch(_TIME, row[-1]):
                numbers.append(number)
                rows.append(row)
            elif row:
                raise LogbookError(
                    f"{path}: row {number} is {','.join(row)[:200]!r}; it must hold {len(COLUMNS)} fields, the "
                    "last a time such as 2026-01-31T12:00:00.000000Z; correct it, or take the row out"
                )
    except UnicodeDecodeError as error:
        raise LogbookError(f"{path}: byte {error.start} is not UTF-8; save it as CSV in UTF-8") from error
    except csv.Error as error:
        raise LogbookError(
            f"{path}: row {lines_before + lines.line_num} cannot be read ({error}); correct it"
        ) from error
    return pd.DataFrame(rows, columns=list(COLUMNS), index=numbers, dtype=str)


def _quickly_parsed(data: bytes, *, header: bool) -> pd.DataFrame | None:
    """The rows in *data*, one in each line, or None where anything is unusual: then row by row says what it is."""
    shape = {"header": 0} if header else {"header": None, "names": list(COLUMNS)}
    try:
        table = pd.read_csv(
            io.BytesIO(data), **shape, dtype=str, na_filter=False, skip_blank_lines=False, encoding="utf-8-sig"
        )
    except ValueError:  # of pandas' own kinds, or of decoding
        return None
    n_lines = data.count(b"\n") + (not data.endswith(b"\n")) - header
    usual = (
        tuple(table.columns) == COLUMNS
        and isinstance(table.index, pd.RangeIndex)  # else rows have a field too many
        and len(table) == n_lines
        and table[COLUMNS[-1]].str.fullmatch(_TIME).all()
    )
    return table if usual else None


def _checked(path: str | Path) -> Path:
    path = Path(path)
    if path.suffix != ".csv":
        raise LogbookError(
            f"{path}: no such folder; name one that is there, or a table of readings, which ends in .csv"
        )
    return path


def lock_name(path: Path) -> str:
    """Of the lock that writers of the logbook at *path* take (`rbcnb._utils.files.folder_lock`)."""
    return f".{path.name}.lock"
