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
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from rbcnb.files import held

SUFFIXES = (".csv", ".sqlite")
WAIT_S = 10.0  # for another process to end its write of a few milliseconds
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z")


class LogbookError(ValueError):
    """A logbook cannot be read or written; the message names the file, the row and the mend."""


@dataclass(frozen=True)
class Layout:
    """The columns of a logbook: *count* numbers, from 1, the rows of the same *key*; the last column is the time."""

    columns: tuple[str, ...]
    key: tuple[str, ...]
    count: str

    def key_of(self, row: Sequence[str]) -> tuple[str, ...]:
        """The key's values in *row*."""
        return tuple(row[self.columns.index(name)] for name in self.key)

    def numbered(self, rows: Sequence[Sequence[str]], counts: Counter) -> list[list[str]]:
        """*rows* with their number filled in, by *counts* of the rows before, which go on counting."""
        place, out = self.columns.index(self.count), []
        for row in rows:
            counts[key] = counts[key := self.key_of(row)] + 1
            out.append([*row[:place], str(counts[key]), *row[place + 1 :]])
        return out


@dataclass
class _Index:
    """How many rows of each key the first *end* bytes of a CSV file hold; *last* are the bytes of its last row."""

    end: int = 0
    last: bytes = b""
    counts: Counter = field(default_factory=Counter)


_INDEXES: dict[tuple[int, int], _Index] = {}  # by device and inode: what this process has read is not read again


def append_rows(path: str | Path, rows: Sequence[Sequence[str]], layout: Layout) -> None:
    """Adds *rows* (a text for each of the layout's columns; that of ``count`` is filled in) to the logbook at *path*.

    Raises LogbookError where *path* is no logbook of this layout or cannot be written to.
    """
    path = _checked(path)
    if not rows:
        return
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        (_append_csv if path.suffix == ".csv" else _append_sqlite)(path, rows, layout)
    except BlockingIOError as error:
        raise LogbookError(f"{path}: another process has kept it for {WAIT_S:g} s; end that process") from error
    except (OSError, sqlite3.OperationalError) as error:
        raise LogbookError(
            f"{path}: cannot be written to ({error}); check who may write there, and the space"
        ) from error


def read_rows(path: str | Path, layout: Layout) -> tuple[list[int], list[list[str]]]:
    """The rows at *path* in the order they were written, and the number of each in the file (CSV: the header is 1).

    A file that is not there has no rows. A torn last line is left out, with a warning that shows it.

    Raises LogbookError for any other bad row.
    """
    path = _checked(path)
    if not path.exists():
        return [], []
    try:
        return _read_sqlite(path, layout) if path.suffix == ".sqlite" else _read_csv(path, layout)
    except OSError as error:
        raise LogbookError(f"{path}: cannot be read ({error.strerror}); check who may read it") from error


def _checked(path: str | Path) -> Path:
    path = Path(path)
    if path.suffix not in SUFFIXES:
        raise LogbookError(f"{path}: readings are kept as {' or '.join(SUFFIXES)}; choose such a name")
    return path


def _lock_name(path: Path) -> str:
    return f".{path.name}.lock"


def _append_csv(path: Path, rows: Sequence[Sequence[str]], layout: Layout) -> None:
    with held(path.parent, name=_lock_name(path), wait_s=WAIT_S), path.open("a+b") as file:
        index = _index_of(file)
        file.seek(index.end)
        new, torn = _split_torn(file.read())
        known = list(_parsed(new, path, layout, header=index.end == 0, first=None))
        if torn:
            _set_aside(path, torn)
            file.truncate(index.end + len(new))
        _INDEXES.pop(_identity(file), None)  # should the write fail, the next one reads the file anew
        index.counts.update(layout.key_of(row) for _, row in known)
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
        index.last = data.splitlines(keepends=True)[-1]
        _INDEXES[_identity(file)] = index


def _identity(file: io.BufferedRandom) -> tuple[int, int]:
    status = os.fstat(file.fileno())
    return status.st_dev, status.st_ino


def _index_of(file: io.BufferedRandom) -> _Index:
    """What this process knows of *file*, if the file still is the one it knew, grown at most."""
    index = _INDEXES.get(_identity(file), _Index())
    file.seek(index.end - len(index.last))
    return index if file.read(len(index.last)) == index.last else _Index()


def _split_torn(data: bytes) -> tuple[bytes, bytes]:
    """*data* up to its last whole row, and the torn piece behind it."""
    cut = data.rfind(b"\n") + 1
    tail = data[cut:]
    if not tail or _TIME.fullmatch(tail.decode(errors="replace").rpartition(",")[2]):
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


def _read_csv(path: Path, layout: Layout) -> tuple[list[int], list[list[str]]]:
    with _if_possible(held(path.parent, name=_lock_name(path), wait_s=WAIT_S)):  # no row is being written just now
        data = path.read_bytes()
    data, torn = _split_torn(data)
    if torn:
        warnings.warn(f"{path}: its last line is torn and is left out: {_shown(torn)}", stacklevel=4)
    numbered = list(_parsed(data, path, layout, header=True, first=1))
    return [number for number, _ in numbered], [row for _, row in numbered]


@contextmanager
def _if_possible(lock) -> Iterator[None]:
    """Holds *lock*, or nothing where no file can be made."""
    try:
        lock.__enter__()
    except OSError:
        yield
        return
    try:
        yield
    finally:
        lock.__exit__(None, None, None)


def _parsed(
    data: bytes, path: Path, layout: Layout, *, header: bool, first: int | None
) -> Iterator[tuple[int, list[str]]]:
    """Rows of *data*, each with its number, *first* being that of the first line (None: behind those that are known)."""
    try:
        lines = csv.reader(io.StringIO(data.decode("utf-8-sig" if header else "utf-8"), newline=""), strict=True)
        for row in lines:
            number = lines.line_num + (first or 1) - 1
            if header:
                header = False
                if tuple(row) != layout.columns:
                    raise LogbookError(
                        f"{path}: row 1 is {','.join(row)!r}; a table of readings begins {','.join(layout.columns)}. "
                        "Bring other tables in with: rbcnb labels import"
                    )
            elif len(row) == len(layout.columns) and _TIME.fullmatch(row[-1]):
                yield number, row
            elif row:
                where = f"{path}: row {number}" if first else f"{path}: a row added by another program"
                raise LogbookError(
                    f"{where} is {','.join(row)[:200]!r}; it must hold {len(layout.columns)} fields, the last a time "
                    "such as 2026-01-31T12:00:00.000000Z. Correct it, or take the row out"
                )
    except UnicodeDecodeError as error:
        raise LogbookError(f"{path}: byte {error.start} is not UTF-8; save it as CSV in UTF-8") from error
    except csv.Error as error:
        raise LogbookError(f"{path}: row {lines.line_num} cannot be read ({error}); correct it") from error


def _append_sqlite(path: Path, rows: Sequence[Sequence[str]], layout: Layout) -> None:
    with held(path.parent, name=_lock_name(path), wait_s=WAIT_S), _opened(path, layout, make=True) as database:
        where = " AND ".join(f"{name} = ?" for name in layout.key)
        keys = {layout.key_of(row) for row in rows}
        counts = Counter()
        database.execute("BEGIN IMMEDIATE")
        for key in keys:
            counts[key] = database.execute(f"SELECT COUNT(*) FROM readings WHERE {where}", key).fetchone()[0]
        places = ", ".join("?" * len(layout.columns))
        columns = ", ".join(layout.columns)
        database.executemany(f"INSERT INTO readings ({columns}) VALUES ({places})", layout.numbered(rows, counts))
        database.execute("COMMIT")


def _read_sqlite(path: Path, layout: Layout) -> tuple[list[int], list[list[str]]]:
    with _opened(path, layout, make=False) as database:
        rows = database.execute(f"SELECT id, {', '.join(layout.columns)} FROM readings ORDER BY id").fetchall()
    return [row[0] for row in rows], [list(row[1:]) for row in rows]


@contextmanager
def _opened(path: Path, layout: Layout, *, make: bool) -> Iterator[sqlite3.Connection]:
    """The database at *path*, whose table ``readings`` has the layout's columns and refuses all change but new rows."""
    with closing(sqlite3.connect(path, timeout=WAIT_S, isolation_level=None)) as database:
        try:
            known = [row[1] for row in database.execute("PRAGMA table_info(readings)")]
            if not known and make:
                database.executescript(_schema(layout))
            elif known != ["id", *layout.columns]:
                raise LogbookError(
                    f"{path}: holds no table readings with the columns {', '.join(layout.columns)}; choose another name"
                )
            database.execute("PRAGMA synchronous = FULL")
            yield database
        except sqlite3.OperationalError:
            raise
        except sqlite3.DatabaseError as error:
            raise LogbookError(
                f"{path}: cannot be read as an SQLite database ({error}); choose another name"
            ) from error


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
