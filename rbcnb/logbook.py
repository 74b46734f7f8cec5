"""Logbooks: tables of text that only grow, in one file, CSV or SQLite, to which several processes may write at once.

A row is written whole or not at all, and is on the disk when the call returns. The last column is a time that ends in
``Z``: so a row whose line end is missing is known to be whole or torn. Of a torn last line, which a killed process or
a full disk leaves in a CSV file, no reader makes a row: it is told, and the next writer moves it to ``<file>.torn``.
"""

import csv
import io
import os
import re
import sqlite3
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from rbcnb.files import held

SUFFIXES = (".csv", ".sqlite")
WAIT_S = 10.0  # for another process to end its write of a few milliseconds
_TIME = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z"


class LogbookError(ValueError):
    """A logbook cannot be read or written; the message names the file, the row and the mend."""


@dataclass(frozen=True)
class Layout:
    """The columns of a logbook: *count* numbers, from 1, the rows of the same *key*; the last column is the time."""

    columns: tuple[str, ...]
    key: tuple[str, ...]
    count: str

    def numbered(self, rows: Sequence[Sequence[str]], counts: Counter) -> list[list[str]]:
        """*rows* with their number filled in, by *counts* of the rows before, which go on counting."""
        place, key_places = self.columns.index(self.count), [self.columns.index(name) for name in self.key]
        out = []
        for row in rows:
            key = tuple(row[i] for i in key_places)
            counts[key] += 1
            out.append([*row[:place], str(counts[key]), *row[place + 1 :]])
        return out


@dataclass
class _Index:
    """What the first *end* bytes of a CSV file hold: so many lines, the bytes of the last one, rows of each key."""

    end: int = 0
    lines: int = 0
    last: bytes = b""
    counts: Counter = field(default_factory=Counter)


_INDEXES: dict[tuple[int, int], _Index] = {}  # by device and inode: what this process has read is not read again
_DATABASES: dict[tuple[int, int, int], sqlite3.Connection] = {}  # by process, device and inode


def append_rows(path: str | Path, rows: Sequence[Sequence[str]], layout: Layout) -> None:
    """Adds *rows* (a text for each of the layout's columns; that of ``count`` is filled in) to the logbook at *path*.

    Raises LogbookError where *path* is no logbook of this layout or cannot be written to.
    """
    path = _checked(path)
    if not rows:
        return
    append = _append_csv if path.suffix == ".csv" else _append_sqlite
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with held(path.parent, name=_lock_name(path), wait_s=WAIT_S):
            append(path, rows, layout)
    except BlockingIOError as error:
        raise LogbookError(f"{path}: another process has kept it for {WAIT_S:g} s; end that process") from error
    except (OSError, sqlite3.OperationalError) as error:
        raise LogbookError(
            f"{path}: cannot be written to ({error}); check who may write there, and the space"
        ) from error


def read_rows(path: str | Path, layout: Layout) -> pd.DataFrame:
    """The rows at *path* as text, in the order they were written; the index is their number in the file.

    In CSV the header is row 1. A file that is not there has no rows. A torn last line is left out, with a warning that
    shows it.

    Raises LogbookError for any other bad row.
    """
    path = _checked(path)
    if not path.exists():
        return pd.DataFrame(columns=list(layout.columns), dtype=str)
    try:
        return (_read_csv if path.suffix == ".csv" else _read_sqlite)(path, layout)
    except (OSError, sqlite3.OperationalError) as error:
        raise LogbookError(f"{path}: cannot be read ({error}); check who may read it") from error


def _checked(path: str | Path) -> Path:
    path = Path(path)
    if path.suffix not in SUFFIXES:
        raise LogbookError(f"{path}: readings are kept as {' or '.join(SUFFIXES)}; choose such a name")
    return path


def _lock_name(path: Path) -> str:
    return f".{path.name}.lock"


def _append_csv(path: Path, rows: Sequence[Sequence[str]], layout: Layout) -> None:
    with path.open("a+b") as file:
        index = _known_of(file)
        file.seek(index.end)
        new, torn = _split_torn(file.read())
        if new:
            known = _parsed(new, path, layout, lines_before=index.lines)
            index.counts.update(known.groupby(list(layout.key), sort=False).size().to_dict())
        if torn:
            _set_aside(path, torn)
            file.truncate(index.end + len(new))
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        if index.end + len(new) == 0:
            writer.writerow(layout.columns)
        writer.writerows(layout.numbered(rows, index.counts))
        # A whole row may lack its line end alone, where an editor saved the file.
        data = (b"\n" if new and not new.endswith(b"\n") else b"") + text.getvalue().encode()
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
        index.end += len(new) + len(data)
        index.lines += new.count(b"\n") + data.count(b"\n")
        index.last = data.splitlines(keepends=True)[-1]
        _INDEXES[_identity(path)] = index


def _identity(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_dev, status.st_ino


def _known_of(file: io.BufferedRandom) -> _Index:
    """What this process knows of *file*, if it still is the file it knew, grown at most. Forgotten until it is kept
    again, so that after a write that failed the file is read anew."""
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
    warnings.warn(f"{path}: its last line is torn ({_shown(torn)}) and was moved to {aside.name}", stacklevel=5)


def _shown(torn: bytes) -> str:
    return repr(torn.decode(errors="replace").replace("\0", "")[:200])


def _read_csv(path: Path, layout: Layout) -> pd.DataFrame:
    with ExitStack() as stack:
        with suppress(OSError):  # where no file can be made, none is written either
            stack.enter_context(held(path.parent, name=_lock_name(path), wait_s=WAIT_S))
        data, torn = _split_torn(path.read_bytes())
    if torn:
        warnings.warn(f"{path}: its last line is torn and is left out: {_shown(torn)}", stacklevel=4)
    return _parsed(data, path, layout, lines_before=0)


def _parsed(data: bytes, path: Path, layout: Layout, *, lines_before: int) -> pd.DataFrame:
    """The rows in *data*, of which *lines_before* lines were read earlier; the first line of a file is its header."""
    quick = _quickly_parsed(data, layout, header=lines_before == 0)
    if quick is not None:
        quick.index += lines_before + 1 + (lines_before == 0)
        return quick
    numbers, rows = [], []
    try:
        lines = csv.reader(io.StringIO(data.decode("utf-8-sig"), newline=""), strict=True)
        for row in lines:
            number = lines_before + lines.line_num
            if number == 1:
                if tuple(row) != layout.columns:
                    raise LogbookError(
                        f"{path}: row 1 is {','.join(row)[:200]!r}; a table of readings begins "
                        f"{','.join(layout.columns)}. Bring other tables in with: rbcnb labels import"
                    )
            elif len(row) == len(layout.columns) and re.fullmatch(_TIME, row[-1]):
                numbers.append(number)
                rows.append(row)
            elif row:
                raise LogbookError(
                    f"{path}: row {number} is {','.join(row)[:200]!r}; it must hold {len(layout.columns)} fields, the "
                    "last a time such as 2026-01-31T12:00:00.000000Z; correct it, or take the row out"
                )
    except UnicodeDecodeError as error:
        raise LogbookError(f"{path}: byte {error.start} is not UTF-8; save it as CSV in UTF-8") from error
    except csv.Error as error:
        raise LogbookError(
            f"{path}: row {lines_before + lines.line_num} cannot be read ({error}); correct it"
        ) from error
    return pd.DataFrame(rows, columns=list(layout.columns), index=numbers, dtype=str)


def _quickly_parsed(data: bytes, layout: Layout, *, header: bool) -> pd.DataFrame | None:
    """The rows in *data*, one in each line, or None where anything is unusual: then row by row says what it is."""
    shape = {"header": 0} if header else {"header": None, "names": list(layout.columns)}
    try:
        table = pd.read_csv(
            io.BytesIO(data), **shape, dtype=str, na_filter=False, skip_blank_lines=False, encoding="utf-8-sig"
        )
    except ValueError:  # of pandas' own kinds, or of decoding
        return None
    n_lines = data.count(b"\n") + (not data.endswith(b"\n")) - header
    usual = (
        tuple(table.columns) == layout.columns
        and isinstance(table.index, pd.RangeIndex)  # else rows have a field too many
        and len(table) == n_lines
        and table[layout.columns[-1]].str.fullmatch(_TIME).all()
    )
    return table if usual else None


def _append_sqlite(path: Path, rows: Sequence[Sequence[str]], layout: Layout) -> None:
    where = " AND ".join(f"{name} = ?" for name in layout.key)
    places = ", ".join("?" * len(layout.columns))
    key_places = [layout.columns.index(name) for name in layout.key]
    counts = Counter()
    database = _database(path, layout, make=True)
    with _told(path):
        database.execute("BEGIN IMMEDIATE")
        with database:  # commits, or rolls back
            for key in {tuple(row[i] for i in key_places) for row in rows}:
                counts[key] = database.execute(f"SELECT COUNT(*) FROM readings WHERE {where}", key).fetchone()[0]
            database.executemany(
                f"INSERT INTO readings ({', '.join(layout.columns)}) VALUES ({places})", layout.numbered(rows, counts)
            )


def _read_sqlite(path: Path, layout: Layout) -> pd.DataFrame:
    database = _database(path, layout, make=False)
    with _told(path):
        rows = database.execute(f"SELECT id, {', '.join(layout.columns)} FROM readings ORDER BY id").fetchall()
    columns = list(zip(*rows, strict=True)) or [()] * (1 + len(layout.columns))
    named = dict(zip(layout.columns, columns[1:], strict=True))
    return pd.DataFrame(named, index=list(columns[0]), columns=list(layout.columns), dtype=str)


def _database(path: Path, layout: Layout, *, make: bool) -> sqlite3.Connection:
    """This process's connection to *path*, whose table ``readings`` refuses all change but new rows.

    It stays open, as closing it costs several times what a row does; whatever it wrote is on the disk all the same.
    """
    if path.exists() and (known := _DATABASES.get((os.getpid(), *_identity(path)))):
        return known
    with _told(path):
        database = sqlite3.connect(path, timeout=WAIT_S, isolation_level=None, check_same_thread=False)
        columns = [row[1] for row in database.execute("PRAGMA table_info(readings)")]
        if not columns and make:
            database.executescript(_schema(layout))
        elif columns != ["id", *layout.columns]:
            database.close()
            raise LogbookError(
                f"{path}: holds no table readings with the columns {', '.join(layout.columns)}; choose another name"
            )
        database.execute("PRAGMA synchronous = FULL")
    return _DATABASES.setdefault((os.getpid(), *_identity(path)), database)


@contextmanager
def _told(path: Path) -> Iterator[None]:
    """Tells of a file that is no database, or a damaged one."""
    try:
        yield
    except sqlite3.OperationalError:
        raise
    except sqlite3.DatabaseError as error:
        raise LogbookError(f"{path}: cannot be read as an SQLite database ({error}); choose another name") from error


def _schema(layout: Layout) -> str:
    columns = ", ".join(f"{name} TEXT NOT NULL" for name in layout.columns)
    refuse = "\n".join(
        f"CREATE TRIGGER readings_no_{verb} BEFORE {verb} ON readings "
        "BEGIN SELECT RAISE(ABORT, 'readings are never changed: add a row'); END;"
        for verb in ("update", "delete")
    )
    return f"""
PRAGMA journal_mode = WAL;
BEGIN;
CREATE TABLE readings (id INTEGER PRIMARY KEY, {columns});
CREATE INDEX readings_key ON readings ({", ".join(layout.key)});
{refuse}
COMMIT;
"""
