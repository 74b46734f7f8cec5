"""Logbooks in SQLite: one table ``readings`` that refuses every change but new rows, in write-ahead mode.

While a process has the database open its newest rows may lie in ``<file>-wal``: copy both, or end the process first.
"""

import os
import sqlite3
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pandas as pd

from rbcnb.layout import WAIT_S, Layout, LogbookError

_DATABASES: dict[tuple[int, int, int], sqlite3.Connection] = {}  # by process, device and inode


def append_sqlite(path: Path, rows: Sequence[Sequence[str]], layout: Layout) -> None:
    """Adds *rows* to the database at *path*, in one transaction; the caller holds its lock."""
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


def read_sqlite(path: Path, layout: Layout) -> pd.DataFrame:
    """The rows in the database at *path*; see `rbcnb.logbook.read_rows`."""
    database = _database(path, layout, make=False)
    with _told(path):
        rows = database.execute(f"SELECT id, {', '.join(layout.columns)} FROM readings ORDER BY id").fetchall()
    columns = list(zip(*rows, strict=True)) or [()] * (1 + len(layout.columns))
    named = dict(zip(layout.columns, columns[1:], strict=True))
    return pd.DataFrame(named, index=list(columns[0]), columns=list(layout.columns), dtype=str)


def _inode(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_dev, status.st_ino


def _database(path: Path, layout: Layout, *, make: bool) -> sqlite3.Connection:
    """This process's connection to *path*, whose table ``readings`` refuses all change but new rows.

    It stays open, as closing it costs several times what a row does; whatever it wrote is on the disk all the same.
    """
    if path.exists() and (known := _DATABASES.get((os.getpid(), *_inode(path)))):
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
    return _DATABASES.setdefault((os.getpid(), *_inode(path)), database)


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
