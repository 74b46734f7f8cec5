"""What `rbcnb results` does: a store of trials as a table to read, to export, to merge and to prune."""

import re
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from rbcnb._utils.errors import InputError
from rbcnb._utils.files import atomic_write, require_folder
from rbcnb.study.store import is_unsealed, load_record, seal_store, stored_keys
from rbcnb.study.store_index import DAMAGED, STATE, UNSEALED, VERSION, WHOLE, store_rows, store_states
from rbcnb.training.trial import FIT_VERSION

STORE_FOLDER = "trials"  # in a run's folder
SUMMARY_COLUMNS = ("architecture", "protocol", "method")
# Fits that differ in one of these are no rivals; shown where a list holds more than one.
CONDITIONS = ("data", "dev_counts", "precision")
PRUNABLE = ("failed", "torn")
_FILE = re.compile(r"[0-9a-f]{16}\.(json|parquet|ckpt)")
_PART = re.compile(r"\.[0-9a-f]{16}\.[0-9a-f]+\.part\.(json|parquet|ckpt)")


def _require_export(path: Path) -> None:
    """Refuses a file that `rbcnb results` did not export: what another program wrote is not written over."""
    if path.suffix not in (".csv", ".parquet"):
        raise ValueError(f"--export {path}: name a file that ends in .csv or .parquet")
    if not path.exists():
        return
    try:
        table = pd.read_csv(path, nrows=0) if path.suffix == ".csv" else pd.read_parquet(path)
        known = {"key", "data", "method"} <= {*table.columns}
    except (OSError, ValueError):
        known = False
    if not known:
        raise InputError(f"--export {path}: is there already, and is no table of trials; name another file")


def manage_results(
    stores: Sequence[Path],
    *,
    export: Path | None = None,
    into: Path | None = None,
    prune: Sequence[str] = (),
    seal: bool = False,
) -> str:
    """Seals *stores*, merges them into *into*, prunes, exports the rows; returns a summary to print, in this order.

    Args:
        stores: runs' folders, or stores.
        export: file for the rows of all stores, ``.csv`` or ``.parquet``.
        into: store, or a run's folder, that is given what it lacks; the one that is then pruned, exported, summed up.
        prune: see `prune_store`.
        seal: give trials that an earlier version stored the digests that tell damage, after a check of their scores.

    Raises:
        FileNotFoundError: a store is no folder.
        ValueError: *export* has another ending, or is there and was not exported earlier.
    """
    if export is not None:
        _require_export(export)
    stores, lines = [store_in(path) for path in stores], []
    for store in stores if seal else ():
        n_sealed, damaged = seal_store(store)
        left = f"; damaged, to be fitted again: {', '.join(damaged)}" if damaged else ""
        lines.append(f"{n_sealed} trials of {store} were given digests{left}")
    if into is not None:
        into = into / STORE_FOLDER if (into / STORE_FOLDER).is_dir() else into
        lines.append(f"{merge_stores(stores, into)} trials copied to {into}")
        stores = [into]
    for store in stores if prune else ():
        lines.append(f"{len(prune_store(store, prune))} files removed from {store}")
    tables = [table for store in stores if len(table := store_rows(store))]
    rows = pd.concat(tables, ignore_index=True) if tables else pd.DataFrame()
    if len(tables) > 1:  # stores may hold copies of one trial; a result goes before a failure
        rows = rows.sort_values(["key", "error"]).drop_duplicates("key", ignore_index=True)
    if export is not None:
        with atomic_write(export) as part:
            rows.to_csv(part, index=False) if export.suffix == ".csv" else rows.to_parquet(part, index=False)
        lines.append(f"{len(rows)} rows: {export}")
    states = pd.concat([store_states(store) for store in stores])
    others = states.loc[(states[STATE] == WHOLE) & (states[VERSION] != FIT_VERSION), VERSION]
    for name, n in others.value_counts().sort_index().items():
        kept = f"not {FIT_VERSION} as new ones; kept, unless you ask for --prune {name}"
        lines.append(f"{n} trials have fit version {name}, {kept}")
    if n_unsealed := int((states[STATE] == UNSEALED).sum()):
        lines.append(f"{n_unsealed} trials of an earlier version have no digests, and are not read: run --seal once")
    if n_damaged := int((states[STATE] == DAMAGED).sum()):
        lines.append(f"{n_damaged} trials are damaged; a study that asks for them fits them again")
    return "\n".join([*lines, summary(rows)])


def store_in(path: Path) -> Path:
    """The store at *path*, or in the run at *path*; raises FileNotFoundError where there is neither."""
    require_folder(path, remedy=f"name a run's folder, or its folder {STORE_FOLDER}")
    return path / STORE_FOLDER if (path / STORE_FOLDER).is_dir() else path


def merge_stores(sources: Sequence[str | Path], target: str | Path) -> int:
    """Copies what *target* lacks from *sources*; returns the number of trials copied. A result replaces a failure.

    Raises:
        FileNotFoundError: a source is no folder.
    """
    target, copied = Path(target), 0
    for source in map(Path, sources):
        if not source.is_dir():
            raise FileNotFoundError(f"{source}: no such store; give the folder `trials` of a run")
        for key in stored_keys(source):
            theirs, ours = load_record(source, key), load_record(target, key)
            if theirs is None or (ours and (theirs["error"] or not ours["error"])):
                continue
            for suffix in (".json",) if theirs["error"] else (".parquet", ".json"):
                with atomic_write(target / f"{key}{suffix}") as part:
                    shutil.copyfile(source / f"{key}{suffix}", part)
            copied += 1
    return copied


def prune_store(store: str | Path, what: Sequence[str]) -> list[Path]:
    """Removes files of *store* and returns them. Nothing may be training into the store meanwhile.

    What another version of this package made is removed only where that version is named.

    Args:
        store: folder of trials.
        what: "failed" (trials with a reason instead of a result), "torn" (halves, and checkpoints of fits that ended),
            or the `FIT_VERSION` of trials that are in the store.

    Raises:
        ValueError: *what* has another word.
    """
    store = Path(store)
    states = store_states(store)
    allowed = [*PRUNABLE, *sorted(set(states.loc[states[STATE] == WHOLE, VERSION]))]
    if unknown := set(what) - set(allowed):
        raise ValueError(f"cannot prune {', '.join(sorted(unknown))}; choose from {', '.join(allowed)}")
    doomed = []
    for path in sorted(store.iterdir()):
        if _PART.fullmatch(path.name):
            reason = "torn"
        elif not _FILE.fullmatch(path.name):
            continue  # nothing of ours
        elif (record := load_record(store, path.stem)) is None:
            reason = "" if path.suffix == ".ckpt" or is_unsealed(store, path.stem) else "torn"
        elif (version := record.get("fit_version", "")) != FIT_VERSION:
            reason = version
        elif record["error"]:
            reason = "failed"
        else:
            reason = "torn" if path.suffix == ".ckpt" else FIT_VERSION
        if reason in what:
            doomed.append(path)
    for path in doomed:
        path.unlink(missing_ok=True)
    return doomed


def summary(rows: pd.DataFrame) -> str:
    """Rows of stored trials as text: a line per architecture, protocol and method; folds apart from final fits.

    Other data, another rung of the ladder or another number format are lines of their own: nothing is averaged over
    fits that cannot be compared.
    """
    if rows.empty:
        return "no trials"
    table = rows if "macro_f1" in rows else rows.assign(macro_f1=np.nan)  # where all failed
    table = table.assign(fit=rows["fold"].isna().map({True: "final", False: "fold"}), failed=rows["error"] != "")
    apart = [name for name in CONDITIONS if len(table[name].unique()) > 1]
    lines = table.groupby([*SUMMARY_COLUMNS, *apart, "fit"], sort=True, dropna=False).agg(
        trials=("key", "size"),
        failed=("failed", "sum"),
        macro_f1_mean=("macro_f1", "mean"),
        macro_f1_best=("macro_f1", "max"),
        hours=("seconds", lambda seconds: seconds.sum() / 3600),
    )
    return lines.round(3).reset_index().to_string(index=False)
