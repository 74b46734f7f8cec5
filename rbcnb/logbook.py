"""Logbooks: tables of text that only grow, in one file, CSV or SQLite, to which several processes may write at once.

A row is written whole or not at all, and is on the disk when the call returns. The last column is a time that ends in
``Z``: so a row whose line end is missing is known to be whole or torn. Of a torn last line, which a killed process or
a full disk leaves in a CSV file, no reader makes a row: it is told, and the next writer moves it to ``<file>.torn``.
"""

import sqlite3
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from pathlib import Path

import pandas as pd

from rbcnb.files import held
from rbcnb.layout import WAIT_S, Layout, LogbookError
from rbcnb.logbook_csv import append_csv, read_csv
from rbcnb.logbook_sqlite import append_sqlite, read_sqlite

SUFFIXES = (".csv", ".sqlite")


def append_rows(path: str | Path, rows: Sequence[Sequence[str]], layout: Layout) -> None:
    """Adds *rows* (a text for each of the layout's columns; that of ``count`` is filled in) to the logbook at *path*.

    Raises LogbookError where *path* is no logbook of this layout or cannot be written to.
    """
    path = _checked(path)
    if not rows:
        return
    append = append_csv if path.suffix == ".csv" else append_sqlite
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
        if path.suffix == ".sqlite":
            return read_sqlite(path, layout)
        with ExitStack() as stack:
            with suppress(OSError):  # where no lock can be made, nobody writes either
                stack.enter_context(held(path.parent, name=_lock_name(path), wait_s=WAIT_S))
            data = path.read_bytes()
        return read_csv(data, path, layout)
    except (OSError, sqlite3.OperationalError) as error:
        raise LogbookError(f"{path}: cannot be read ({error}); check who may read it") from error


def _checked(path: str | Path) -> Path:
    path = Path(path)
    if path.suffix not in SUFFIXES:
        raise LogbookError(f"{path}: readings are kept as {' or '.join(SUFFIXES)}; choose such a name")
    return path


def _lock_name(path: Path) -> str:
    return f".{path.name}.lock"
