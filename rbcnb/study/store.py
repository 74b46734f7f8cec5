"""Finished trials on disk: a folder, two files a trial, each row there the moment its fit is done.

``<key>.parquet`` holds the predictions, ``<key>.json`` settings, scores and curves, written last and whole: a trial
that has its JSON is complete. The record holds the digest of the predictions, and one of itself (its ``seal``): what
does not match is not read, and the trial is fitted again. Two processes that share a store at worst fit the same trial
at the same time and write the same result twice. ``<key>.ckpt`` is the state of a long fit under way.

`pack_trials` puts many into two files, small enough to be committed, and `unpack_trials` takes them out again.

A fit that failed leaves its reason. One that diverged on a fold has lost, and that is a result; any other failure is
tried again by the next study that asks for the trial.
"""

import io
import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from rbcnb._utils.errors import InputError, MissingFileError
from rbcnb._utils.files import atomic_write, bytes_digest, file_digest, require_folder
from rbcnb._utils.manifest import DIGEST, changed_files, load_manifest, record_files
from rbcnb._utils.read_files import parse_json, read_table, shown
from rbcnb.columns import CELL, PROB, REPETITION, SMEAR
from rbcnb.training.fit import TrialResult
from rbcnb.training.trial import FIT_VERSION, Trial, setting_fields

_FACTS = ("scores", "n_train", "seconds", "engine", "processor", "part_size")
_NAME = re.compile(r"[0-9a-f]{16}")
_REMEDY = "get the folder again, or make it again with rbcnb publish"
_SEAL = "seal"
# What the record of an earlier version may hold; another name in it is a damaged one.
_UNSEALED = {"key", "data", "fit_version", "trial", "error", "retry", "curves", DIGEST, *_FACTS}
_SEAL_BEFORE, _SEAL_AFTER = f',\n "{_SEAL}": "', '"\n}'
PREDICTIONS, RECORDS = "predictions.parquet", "trials.parquet"  # of packed trials
PACKED = {"index": False, "compression": "zstd", "compression_level": 19}
# Logarithms of probabilities tell those near 1 apart as well as small ones. Rounded to 16 bits they took a fourth less
# room, but the AUROC of networks that tell little apart changed by up to 0.002; 32 bits can change it, too, where a
# network of hardly any training gives all cells almost the same probabilities.
LOG = "log_"
TOLERANCE = 1e-5  # what packing may move a score by


class DamagedTrialError(InputError):
    """A stored trial is not as it was written; the message names its files and the remedy."""


def store_result(result: TrialResult, store: Path, *, data: str) -> str:
    """Writes one finished trial into *store* and returns its key."""
    key = result.trial.key(data)
    with atomic_write(store / f"{key}.parquet", durable=True) as part:
        result.predictions.to_parquet(part, index=False)
    facts = {name: getattr(result, name) for name in _FACTS} | {DIGEST: file_digest(store / f"{key}.parquet")}
    _write_trial(result.trial, store, data=data, curves=result.curves.to_dict(orient="list"), **facts)
    checkpoint_of(store, key).unlink(missing_ok=True)
    return key


def store_failure(trial: Trial, store: Path, *, data: str, error: str, retry: bool) -> None:
    """Writes why a trial has no result, and whether it is worth another try; never over a result that is there."""
    there = load_record(store, trial.key(data))
    if there and not there["error"]:
        return  # from another process that shares the store
    nothing = {"scores": {}, "n_train": 0, "seconds": 0.0, "engine": "", "processor": "", "part_size": 0}
    _write_trial(trial, store, data=data, curves={}, error=error, retry=retry, **nothing)


def _write_trial(
    trial: Trial, store: Path, *, data: str, error: str = "", retry: bool = False, **facts: object
) -> None:
    record = {"key": trial.key(data), "data": data, "fit_version": FIT_VERSION, "trial": trial.settings()}
    write_record(record | {"error": error, "retry": retry} | facts, store)


def write_record(record: dict[str, Any], store: Path) -> None:
    """Writes a trial's record with its seal; from then on the trial is in the store."""
    text = json.dumps(record, indent=1).removesuffix("\n}")
    seal = f"{_SEAL_BEFORE}{bytes_digest(text.encode())}{_SEAL_AFTER}"
    with atomic_write(store / f"{record['key']}.json", durable=True) as part:
        part.write_text(text + seal, encoding="utf-8", newline="\n")


def _is_sealed(data: bytes) -> bool:
    """Whether the bytes of a record are those that its seal, their last entry, was made of."""
    body, _, seal = data.rpartition(_SEAL_BEFORE.encode())
    return seal == f"{bytes_digest(body)}{_SEAL_AFTER}".encode()


def load_record(store: Path, key: str, *, check_predictions: bool = True) -> dict[str, Any] | None:
    """A trial's record, or None when it is not in the store (or damaged, and must be made again).

    Args:
        store: folder of trials.
        key: of the trial.
        check_predictions: whether the predictions must be those that the record was written with, too. That reads
            them; who reads them next has them checked anyway (`load_predictions`).
    """
    record = _read_record(store, key)
    if record is None or _SEAL not in record:
        return None
    if check_predictions and not record["error"]:
        try:
            return record if file_digest(store / f"{key}.parquet") == record[DIGEST] else None
        except FileNotFoundError:
            return None
    return record


def is_unsealed(store: Path, key: str) -> bool:
    """Whether an earlier version stored the trial *key*, without the digests that would tell damage (`seal_store`)."""
    record = _read_record(store, key)
    return record is not None and _SEAL not in record


def _absent(store: Path, key: str) -> InputError | MissingFileError:
    """Why the trial *key* cannot be read, and the remedy."""
    if is_unsealed(store, key):
        return InputError(
            f"{store}: an earlier version stored trial {key}, without a digest of it; run once: rbcnb results {store} "
            "--seal"
        )
    if (store / f"{key}.json").exists():
        return DamagedTrialError(
            f"{store / key}.json and .parquet: not as they were written (their digests tell); run the same again: this "
            "trial alone is fitted again"
        )
    return MissingFileError(f"{store}: no finished trial {key}; run the study that makes it")


def _read_record(store: Path, key: str) -> dict[str, Any] | None:
    """The record of the trial *key*, sealed or of an earlier version; None where there is none that is whole."""
    if not _NAME.fullmatch(key):
        raise InputError(f"{store}: {shown(key)} is not the key of a trial; it has 16 hexadecimal digits")
    try:
        path = store / f"{key}.json"
        data = path.read_bytes() if path.is_file() else b""
        sealed = _is_sealed(data)
        record = parse_json(data.decode("utf-8"))
        whole = record["key"] == key and isinstance(record["error"], str) and isinstance(record["trial"], dict)
        if not sealed:
            whole = whole and set(record) <= _UNSEALED
        elif not record["error"]:
            whole = whole and isinstance(record[DIGEST], str)
        return record if whole else None
    except (FileNotFoundError, NotADirectoryError, ValueError, KeyError, TypeError):
        return None


def seal_store(store: Path) -> tuple[int, list[str]]:
    """Writes digests into the records that an earlier version stored without; nothing else of them changes.

    A trial gets them if its predictions can be read, have the digest that its record tells, if it tells one, and give
    the scores that it tells.

    Returns:
        How many got them, and the keys of those that are damaged: these are fitted again when a study asks for them.
    """
    from rbcnb.evaluation.metrics import score_predictions

    n_sealed, damaged = 0, []
    for key in [key for key in stored_keys(store) if is_unsealed(store, key)]:
        record = _read_record(store, key)
        if not record["error"]:
            path = store / f"{key}.parquet"
            try:
                digest = file_digest(path)
                scores = score_predictions(pd.read_parquet(path))
                same = all(
                    np.isclose(scores[name], record["scores"][name], rtol=1e-5, equal_nan=True) for name in scores
                )
            except (OSError, ValueError, KeyError):
                same = False
            if not same or record.get(DIGEST, digest) != digest:
                damaged.append(key)
                continue
            record[DIGEST] = digest
        write_record(record, store)
        n_sealed += 1
    return n_sealed, damaged


def lacks(store: Path, key: str) -> bool:
    """Whether a study that asks for the trial is to fit it: it is not there, or failed and is worth another try."""
    record = load_record(store, key)
    return record is None or record["retry"]


def checkpoint_of(store: Path, key: str) -> Path:
    """Where the state of a long fit is kept while it runs."""
    return store / f"{key}.ckpt"


def pack_trials(store: Path, keys: Sequence[str], folder: Path) -> tuple[str, str]:
    """Writes the predictions and the records of stored trials into *folder*, and returns the names of the two files.

    They are entered into the folder's manifest.

    Probabilities are kept as logarithms, in single precision unless a score of a trial would move by more than
    `TOLERANCE` by that; then all are kept in double precision.

    Raises:
        FileNotFoundError: a key is not in the store.
    """
    parts, records = [], []
    for key in keys:
        record = load_record(store, key)
        if record is None:
            raise _absent(store, key)
        # The file that the digest is of is not kept.
        records.append(
            (key, json.dumps({name: value for name, value in record.items() if name not in (DIGEST, _SEAL)}))
        )
        if not record["error"]:
            parts.append(load_predictions(store, key).assign(key=key))
    table = pd.concat(parts, ignore_index=True)
    names = {name: LOG + name.removeprefix(PROB) for name in table if name.startswith(PROB)}
    precision = np.float32 if all(map(_stay_alike, parts)) else np.float64
    logs = _logs(table, [*names], precision)
    table = table.drop(columns=[*names]).assign(**dict(zip(names.values(), logs.T, strict=True)))
    words = [name for name in table if not pd.api.types.is_numeric_dtype(table[name])]
    table = table.astype(dict.fromkeys(words, "category"))
    with atomic_write(folder / PREDICTIONS) as part:
        # Bytes of equal weight side by side: signs and exponents, much the same, then take little room.
        table.to_parquet(part, use_byte_stream_split=[*names.values()], use_dictionary=[*words, CELL], **PACKED)
    with atomic_write(folder / RECORDS) as part:
        pd.DataFrame(records, columns=["key", "record"]).to_parquet(part, **PACKED)
    record_files(folder, {PREDICTIONS: {}, RECORDS: {}})
    return PREDICTIONS, RECORDS


def _logs(predictions: pd.DataFrame, columns: list[str], precision: type[np.floating]) -> np.ndarray:
    """Logarithms [N, C] of the probabilities in *columns*."""
    with np.errstate(divide="ignore"):  # a probability of 0 is -inf, and comes back as 0
        return np.log(predictions[columns].to_numpy(float)).astype(precision)


def _stay_alike(predictions: pd.DataFrame) -> bool:
    """Whether the scores of one trial's *predictions* stay the same if logarithms are kept in single precision."""
    from rbcnb.evaluation.metrics import score_predictions

    columns = [name for name in predictions if name.startswith(PROB)]
    rounded = predictions.copy()
    rounded[columns] = np.exp(_logs(predictions, columns, np.float32).astype(float))
    before, after = score_predictions(predictions), score_predictions(rounded)
    return np.allclose([*before.values()], [*after.values()], rtol=0, atol=TOLERANCE, equal_nan=True)


def unpack_trials(folder: Path, store: Path) -> int:
    """Adds the trials that `pack_trials` left in *folder* and *store* lacks to *store*; returns how many.

    Raises:
        FileNotFoundError: there is no *folder*, or it holds no packed trials.
        InputError: they are damaged, or the manifest of *folder* has no digest of them.
    """
    require_folder(folder, remedy="name a folder of rbcnb publish")
    if not is_packed(folder):
        raise MissingFileError(f"{folder}: no {PREDICTIONS} and {RECORDS} in it; name a folder of rbcnb publish")
    entries = {name: entry for name, entry in load_manifest(folder).items() if name in (PREDICTIONS, RECORDS)}
    changed = [*changed_files(folder, entries), *({PREDICTIONS, RECORDS} - set(entries))]
    if changed:
        raise InputError(f"{folder / changed[0]}: is not the file that was published (its digest tells); {_REMEDY}")
    table = read_table(folder / RECORDS, remedy=_REMEDY, columns=["key", "record"])
    records = {str(key): text for key, text in table[["key", "record"]].itertuples(index=False)}
    for key, text in records.items():
        try:
            records[key] = parse_json(text)
            whole = bool(_NAME.fullmatch(key)) and records[key]["key"] == key and isinstance(records[key]["error"], str)
        except (ValueError, TypeError, KeyError):
            whole = False
        if not whole:
            raise InputError(f"{folder / RECORDS}: {shown(key)} is not the key of a trial; do not trust this folder")
    wanted = [key for key in records if lacks(store, key)]
    store.mkdir(parents=True, exist_ok=True)
    predictions = read_table(folder / PREDICTIONS, remedy=_REMEDY, columns=["key"])
    for key, table in predictions.groupby("key", sort=False, observed=True):
        if key not in wanted:
            continue
        table = table.drop(columns="key").reset_index(drop=True)
        names = {name: PROB + name.removeprefix(LOG) for name in table if name.startswith(LOG)}
        table = table.rename(columns=names)
        table[[*names.values()]] = np.exp(table[[*names.values()]].astype(float))
        words = dict.fromkeys(table.select_dtypes("category"), str)
        with atomic_write(store / f"{key}.parquet") as part:
            table.astype(words).to_parquet(part, index=False)
        records[key][DIGEST] = file_digest(store / f"{key}.parquet")
    whole = [key for key in wanted if records[key]["error"] or DIGEST in records[key]]
    for key in whole:
        write_record(records[key], store)
    return len(whole)


def is_packed(folder: Path) -> bool:
    """Whether `pack_trials` filled *folder*."""
    return (folder / PREDICTIONS).exists() and (folder / RECORDS).exists()


def load_predictions(store: str | Path, key: str) -> pd.DataFrame:
    """A stored trial's held-out predictions, one row per cell.

    Raises:
        FileNotFoundError: there are none.
        DamagedTrialError: they, or the trial's record, are not as they were written.
    """
    store = Path(store)
    record, path = load_record(store, key, check_predictions=False), store / f"{key}.parquet"
    if record is None:
        raise _absent(store, key)
    if record["error"]:
        raise MissingFileError(f"{store}: trial {key} has no predictions: {record['error']}")
    data = path.read_bytes() if path.is_file() else b""
    if bytes_digest(data) != record[DIGEST]:
        raise _absent(store, key)
    return pd.read_parquet(io.BytesIO(data))


def predictions_by_method(
    results: pd.DataFrame,
    store: str | Path,
    *,
    change: Callable[[Any, pd.DataFrame], pd.DataFrame] = lambda _, table: table,
) -> dict[tuple[str, str], list[pd.DataFrame]]:
    """(architecture, method) -> the predictions of its fits, one table per seed, seeds ascending.

    Fits of one seed that hold out different cells (the outer splits or folds of one repetition) make one table: every
    cell predicted once, by a network that did not see it, in the order of smears and cells. Repetitions make further
    tables, one after the other, with their number in a column of its own.

    Args:
        results: rows of `rbcnb.study.run_study`, one setting per architecture, method and outer split.
        store: the store they lie in.
        change: what is done to the predictions of each fit, a row of *results* as `itertuples` gives it, before they
            are put together; nothing by default.

    Raises:
        ValueError: a method has several fits of one seed on the same cells, so that seeds would not pair.
    """
    found = {}
    for (architecture, method), rows in results.groupby(["architecture", "method"], sort=False):
        if rows.duplicated(["outer", "fold", "seed"]).any():
            raise ValueError(f"{architecture}, {method}: several settings of one seed; choose one (best_settings)")
        found[architecture, method] = []
        for _, seed_rows in rows.sort_values(["outer", "fold"]).groupby("seed"):
            found[architecture, method] += _pool(
                [change(fit, load_predictions(store, fit.key)) for fit in seed_rows.itertuples()]
            )
    return found


def fold_predictions(fit: pd.Series, folds: pd.DataFrame, store: str | Path) -> pd.DataFrame:
    """What the folds' fits of a final fit's setting predicted, put together: every dev cell once.

    They are of the last epoch of the folds' fits, which may be later than the epoch that was chosen.

    Args:
        fit: a row of `rbcnb.study.run_study`.
        folds: rows of the study on folds that its setting was chosen by.
        store: where these lie.

    Raises:
        ValueError: no fold has the setting, or one that has it diverged.
    """
    rows = folds[folds["data"] == fit["data"]]
    for name in setting_fields(folds):
        rows = rows[(rows[name] == fit[name]) | (rows[name].isna() & pd.isna(fit[name]))]
    if rows.empty or (rows["error"].notna() & (rows["error"] != "")).any():
        what = f"{fit['method']}, {fit['architecture']}"
        raise ValueError(f"{store}: no whole set of folds of the setting of {what}; tune it (notebook 04)")
    return pd.concat([load_predictions(store, key) for key in rows.sort_values("fold")["key"]], ignore_index=True)


def _pool(tables: Sequence[pd.DataFrame]) -> list[pd.DataFrame]:
    """Tables of different cells put together; a cell that comes again begins the next table."""
    pooled: list[list[pd.DataFrame]] = []
    seen: set[tuple] = set()
    for table in tables:
        cells = set(zip(table[SMEAR], table[CELL], strict=True))
        if not pooled or seen & cells:
            pooled.append([])
            seen = set()
        pooled[-1].append(table)
        seen |= cells
    whole = [
        parts[0] if len(parts) == 1 else pd.concat(parts).sort_values([SMEAR, CELL], ignore_index=True)
        for parts in pooled
    ]
    return whole if len(whole) < 2 else [table.assign(**{REPETITION: i}) for i, table in enumerate(whole)]


def load_curves(store: str | Path, keys: Sequence[str]) -> pd.DataFrame:
    """The per-epoch curves of stored trials, one row per trial and epoch, with the trial's settings as columns.

    Args:
        store: folder of trials.
        keys: of the trials; one whose fit failed has no curve, and is left out.

    Returns:
        `rbcnb.training.learner.CURVE_COLUMNS` (``..._ce`` in nats), ``key``, ``method``, and the settings but
        ``epochs``.

    Raises:
        FileNotFoundError: a key is not in the store.
        ValueError: a key has another form, a trial's record is damaged or was stored by an earlier version without a
            digest, or no trial has a curve.
    """
    frames = []
    for key in keys:
        record = load_record(Path(store), key, check_predictions=False)
        if record is None:
            raise _absent(Path(store), key)
        if record["error"]:
            continue  # it has no curve, and whoever chooses by curves must do without it
        trial = Trial(**record["trial"])
        settings = {name: value for name, value in trial.settings().items() if name != "epochs"}
        frames.append(pd.DataFrame(record["curves"]).assign(key=key, method=trial.method, **settings))
    return with_numbers(pd.concat(frames, ignore_index=True))


def results_table(store: str | Path, keys: Sequence[str]) -> pd.DataFrame:
    """One row per stored trial: ``method``, settings, scores, and how it was made: ``key``, ``data``, ``seconds``...

    Args:
        store: folder of trials.
        keys: the trials to show, in this order. Of all there are: `rbcnb.study.store_index.store_rows`.
    """
    store = Path(store)
    rows = [row for key in keys if (record := load_record(store, key)) and (row := record_row(record))]
    return with_numbers(pd.DataFrame(rows))


def stored_keys(store: Path) -> Iterator[str]:
    """Keys of the trials in *store*, in order; a record may still turn out to be damaged."""
    return (path.stem for path in sorted(store.glob("*.json")) if _NAME.fullmatch(path.stem))


def record_row(record: dict) -> dict | None:
    """A record as a row; None where this version of the package does not know its settings, or some are missing."""
    try:
        trial = Trial(**record["trial"])
        record = {"processor": ""} | record  # which earlier versions did not write down
        kept = {name: record[name] for name in ("key", "data", *_FACTS[1:], "error")}
        return {"method": trial.method, **trial.settings(), **record["scores"], **kept}
    except (KeyError, TypeError, ValueError):
        return None


def with_numbers(table: pd.DataFrame) -> pd.DataFrame:
    """Settings that a trial may lack (None) as NaN, and what `Trial.settings` leaves out as its default."""
    later = {field.name: field.default for field in fields(Trial) if field.metadata.get("later")}
    table = table.fillna({name: value for name, value in later.items() if name in table})
    return table.astype({field.name: float for field in fields(Trial) if field.default is None and field.name in table})
