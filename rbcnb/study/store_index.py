"""The rows of a large store of trials, quickly: what was read of a record is kept until its file changes.

``trials/.index.<digest>.parquet`` is made and renewed by whoever reads a whole store. It holds nothing that the records
do not hold; where it is missing, damaged (its name has its digest) or of another version, they are read again.
"""

import io
import os
import re
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import joblib
import pandas as pd

from rbcnb import __version__
from rbcnb._utils.files import atomic_write, bytes_digest
from rbcnb._utils.parallel import run_all
from rbcnb.study.store import is_unsealed, load_record, record_row, with_numbers

STATE, VERSION = "state", "fit_version"
WHOLE, UNSEALED, DAMAGED = "whole", "unsealed", "damaged"  # states of a record
_SIZE, _TIME, _SHOWN, _PACKAGE = "file_size", "file_time_ns", "shown", "package"
_RECORD = re.compile(r"([0-9a-f]{16})\.json")
_KINDS = {**dict.fromkeys(("batch_size", "epochs", "seed", "outer", "n_train", "part_size"), int), "pretrained": bool}
_KEPT_FROM = 500  # records; fewer are read in a moment
_CHUNK = 2000  # records that a worker reads at a time


def store_rows(store: Path) -> pd.DataFrame:
    """The rows of all trials in *store* that this version can show, by key, as `rbcnb.study.store.results_table`."""
    table = _all_rows(store)
    shown = table[table[_SHOWN].astype(bool)]
    rows = shown.drop(columns=[STATE, VERSION, _SIZE, _TIME, _SHOWN, _PACKAGE]).reset_index(drop=True)
    # Beside the records that cannot be shown, whole numbers had become floats.
    return with_numbers(rows.astype({name: kind for name, kind in _KINDS.items() if name in rows}))


def store_states(store: Path) -> pd.DataFrame:
    """``state`` (whole, unsealed, damaged) and ``fit_version`` of each record in *store*; the index is its key."""
    return _all_rows(store)[[STATE, VERSION]]


def _all_rows(store: Path) -> pd.DataFrame:
    files, known = _files(store), _load(store)
    same = known.index.intersection(files.index)
    same = same[(known.loc[same, [_SIZE, _TIME]] == files.loc[same]).all(axis=1)]
    missing = files.index.difference(same)
    if not len(missing):
        return known.loc[files.index]  # none, in an empty store
    read = _read_all(store, list(missing)).join(files)
    table = pd.concat([known.loc[same], read]).loc[files.index] if len(same) else read
    if len(table) >= _KEPT_FROM:
        _save(store, table)
    return table


def _files(store: Path) -> pd.DataFrame:
    """Key -> size and time of its record."""
    with os.scandir(store) as entries:
        records = [(found[1], entry.stat()) for entry in entries if (found := _RECORD.fullmatch(entry.name))]
    facts = {key: (status.st_size, status.st_mtime_ns) for key, status in records}
    return pd.DataFrame.from_dict(facts, orient="index", columns=[_SIZE, _TIME], dtype="int64").sort_index()


def _read_all(store: Path, keys: Sequence[str]) -> pd.DataFrame:
    chunks = [keys[i : i + _CHUNK] for i in range(0, len(keys), _CHUNK)]
    jobs = min(len(chunks), joblib.cpu_count())
    rows = [row for _, part in sorted(run_all(_read_chunk, chunks, shared=(store,), jobs=jobs)) for row in part]
    return pd.DataFrame(rows, index=keys).assign(**{_PACKAGE: __version__})


def _read_chunk(keys: Sequence[str], store: Path) -> list[dict[str, Any]]:
    rows = []
    for key in keys:
        record = load_record(store, key, check_predictions=False)
        state = WHOLE if record else UNSEALED if is_unsealed(store, key) else DAMAGED
        row = record_row(record) if record else None
        rows.append(
            {STATE: state, VERSION: (record or {}).get("fit_version", ""), _SHOWN: row is not None} | (row or {})
        )
    return rows


def _index_files(store: Path) -> list[Path]:
    return sorted(path for path in store.glob(".index.*.parquet") if path.is_file())


def _load(store: Path) -> pd.DataFrame:
    for path in _index_files(store):
        with suppress(OSError, ValueError, KeyError):
            data = path.read_bytes()
            if bytes_digest(data) == path.name.split(".")[2]:
                table = pd.read_parquet(io.BytesIO(data))
                return table[table[_PACKAGE] == __version__]
    return pd.DataFrame(columns=[STATE, VERSION, _SIZE, _TIME, _SHOWN, _PACKAGE])


def _save(store: Path, table: pd.DataFrame) -> None:
    data = table.to_parquet(compression="zstd")
    with suppress(OSError):  # of a store that cannot be written to, it is read again next time
        before = _index_files(store)
        with atomic_write(store / f".index.{bytes_digest(data)}.parquet") as part:
            part.write_bytes(data)
        for path in before:
            path.unlink(missing_ok=True)
