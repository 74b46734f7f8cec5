"""Many trials: each is a row on disk the moment it is done, and none is ever trained twice.

A store is a folder. A finished trial is two files named by the trial's key: ``<key>.parquet`` (predictions) and
``<key>.json`` (settings, scores, curves), the second written last and whole, so a trial that has its JSON is complete.
Two processes that share a store at worst train the same trial at the same time and write the same result twice.
"""

import json
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path

import joblib
import numpy as np
import pandas as pd

from rbcnb.columns import FOLD, LABEL
from rbcnb.files import write_whole
from rbcnb.protocols import images_per_fit
from rbcnb.trial import Trial, TrialResult, hash_data, run_trial
from rbcnb.workers import in_worker

PROGRESS_EVERY_S = 10.0


class StudyError(RuntimeError):
    """Some trials of a study failed; the finished ones are stored."""


def store_result(result: TrialResult, store: Path, *, data: str) -> str:
    """Writes one finished trial into *store* and returns its key."""
    key = result.trial.key(data)
    with write_whole(store / f"{key}.parquet") as part:
        result.predictions.to_parquet(part, index=False)
    facts = {name: getattr(result, name) for name in ("scores", "n_train", "seconds", "device")}
    _write_record(result.trial, store, data=data, curves=result.curves.to_dict(orient="list"), error="", **facts)
    return key


def _write_record(trial: Trial, store: Path, *, data: str, **facts: object) -> None:
    record = {"key": trial.key(data), "data": data, "trial": asdict(trial), **facts}
    with write_whole(store / f"{record['key']}.json") as part:
        part.write_text(json.dumps(record, indent=1), encoding="utf-8")


def load_record(store: Path, key: str) -> dict | None:
    """A stored trial's record, or None when it is not finished (or its file is damaged, and must be made again)."""
    try:
        record = json.loads((store / f"{key}.json").read_text(encoding="utf-8"))
    except (FileNotFoundError, json.JSONDecodeError):
        return None
    return record if record["error"] or (store / f"{key}.parquet").exists() else None


def load_predictions(store: str | Path, key: str) -> pd.DataFrame:
    """A stored trial's held-out predictions, one row per cell."""
    return pd.read_parquet(Path(store) / f"{key}.parquet")


def predictions_by_method(results: pd.DataFrame, store: str | Path) -> dict[tuple[str, str], list[pd.DataFrame]]:
    """(architecture, method) -> the predictions of its fits, one table per seed, seeds ascending.

    Args:
        results: rows of `run_study`, one setting per architecture and method.
        store: the store they lie in.

    Raises:
        ValueError: a method has several fits of one seed, so that seeds would not pair.
    """
    found = {}
    for (architecture, method), rows in results.groupby(["architecture", "method"], sort=False):
        if rows["seed"].duplicated().any():
            raise ValueError(f"{architecture}, {method}: several settings of one seed; choose one (best_settings)")
        found[architecture, method] = [load_predictions(store, key) for key in rows.sort_values("seed")["key"]]
    return found


def load_curves(store: str | Path, keys: Sequence[str]) -> pd.DataFrame:
    """The per-epoch curves of stored trials, one row per trial and epoch, with the trial's settings as columns.

    Raises:
        FileNotFoundError: a key is not in the store.
    """
    frames = []
    for key in keys:
        record = load_record(Path(store), key)
        if record is None:
            raise FileNotFoundError(f"{store}: no finished trial {key}; run the study that makes it")
        if record["error"]:
            continue  # it has no curve, and whoever chooses by curves must do without it
        trial = Trial(**record["trial"])
        settings = {name: value for name, value in asdict(trial).items() if name != "epochs"}
        frames.append(pd.DataFrame(record["curves"]).assign(key=key, method=trial.method, **settings))
    return _with_numbers(pd.concat(frames, ignore_index=True))


def _with_numbers(table: pd.DataFrame) -> pd.DataFrame:
    """Settings that a trial may lack (None) as NaN, so that their columns are numbers whoever lacks them."""
    return table.astype(dict.fromkeys(("alpha", "gamma", "rho", "fold"), float))


def _row(record: dict) -> dict:
    trial = Trial(**record["trial"])
    kept = {name: record[name] for name in ("key", "data", "n_train", "seconds", "device", "error")}
    return {"method": trial.method, **record["trial"], **record["scores"], **kept}


def _work(
    number: int, trial: Trial, cells: pd.DataFrame, crops: np.ndarray, store: Path, data: str
) -> tuple[int, str | None]:
    """Runs and stores one trial in a worker, with one thread; returns its number and what went wrong, if anything."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        store_result(run_trial(trial, cells, crops), store, data=data)
    except FloatingPointError as error:
        if trial.fold is None:
            return number, f"{trial}: {error}"
        # On a fold a setting that diverges has lost, and that is a result: kept, so that nobody fits it again.
        nothing = {"scores": {}, "curves": {}, "n_train": 0, "seconds": 0.0, "device": ""}
        _write_record(trial, store, data=data, error=str(error), **nothing)
    except (ArithmeticError, RuntimeError, ValueError, TypeError) as error:
        return number, f"{trial}: {type(error).__name__}: {error}"
    finally:
        torch.set_num_threads(threads)
    return number, None


def default_jobs() -> int:
    """One trial per core; one at a time where a GPU does the work."""
    import torch

    return 1 if torch.cuda.is_available() else joblib.cpu_count()


def run_study(
    trials: Sequence[Trial],
    cells: pd.DataFrame,
    crops: np.ndarray,
    store: str | Path,
    *,
    jobs: int | None = None,
    say: Callable[[str], None] | None = None,
) -> pd.DataFrame:
    """Runs the trials that the store does not have yet and returns all of them, one row each, in the order given.

    Each trial computes with one thread, so that its result does not depend on how many run side by side.

    Args:
        trials: the settings; twice the same trial is run once.
        cells: table with ``label``, ``split`` and ``fold``.
        crops: uint8 [len(cells), S, S, 3].
        store: folder of finished trials; made when missing.
        jobs: trials side by side; None takes one per core (one in all on a GPU).
        say: takes a line of progress every few seconds; None prints it.

    Returns:
        Settings, scores, ``key``, ``n_train``, ``seconds``, ``device`` and ``error`` of every trial. A fit on a fold
        whose loss diverged has its reason in ``error`` and no scores.

    Raises:
        StudyError: trials failed; it names each with its reason. All others are done and stored.
    """
    store = Path(store)
    store.mkdir(parents=True, exist_ok=True)
    say = say or _print_line
    data = hash_data(cells, crops)
    keys = [trial.key(data) for trial in trials]
    missing = {key: trial for key, trial in zip(keys, trials, strict=True) if load_record(store, key) is None}
    if missing:
        errors = _train(list(missing.values()), cells, crops, store, data=data, jobs=jobs or default_jobs(), say=say)
        if errors:
            raise StudyError(
                f"{len(errors)} of {len(missing)} trials failed, the rest is stored:\n" + "\n".join(errors)
            )
    say(f"study: {len(set(keys))} trials, {len(missing)} trained, {len(set(keys)) - len(missing)} taken from the store")
    rows = pd.DataFrame([_row(load_record(store, key)) for key in keys])
    if diverged := int(rows["error"].astype(bool).sum()):
        say(f"study: {diverged} of {len(rows)} fits diverged; their settings are out")
    return _with_numbers(rows)


def _train(
    trials: list[Trial],
    cells: pd.DataFrame,
    crops: np.ndarray,
    store: Path,
    *,
    data: str,
    jobs: int,
    say: Callable[[str], None],
) -> list[str]:
    counts, n_folds = cells[LABEL].value_counts().to_dict(), max(2, int(cells[FOLD].max()) + 1)
    costs = [images_per_fit(trial, counts, n_folds=n_folds) for trial in trials]
    # The longest first, so that no worker sits idle behind one that started late.
    order = sorted(range(len(trials)), key=lambda i: -costs[i])
    jobs = min(jobs, len(trials))
    run_one = _work if jobs == 1 else partial(in_worker, _work)  # one at a time is done in this process
    work = (joblib.delayed(run_one)(i, trials[i], cells, crops, store, data) for i in order)
    start = last = time.monotonic()
    errors, spent = [], 0.0
    results = joblib.Parallel(n_jobs=jobs, return_as="generator_unordered", max_nbytes="1M")(work)
    for done, (number, error) in enumerate(results, start=1):
        if error:
            errors.append(error)
        spent += costs[number]
        now = time.monotonic()
        if now - last >= PROGRESS_EVERY_S and done < len(trials):
            left = (now - start) * (sum(costs) / spent - 1)
            say(f"study: {done} of {len(trials)} trials, {now - start:.0f} s, about {left:.0f} s left")
            last = now
    return errors


def _print_line(line: str) -> None:
    print(line, flush=True, file=sys.stdout)
