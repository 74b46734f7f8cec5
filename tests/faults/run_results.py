"""What of two runs must be the same."""

import io
import json
from collections.abc import Callable
from pathlib import Path

import pandas as pd
from kills import tree

from rbcnb.study.ledger import DataDigests, Entry, load_ledger
from rbcnb.study.store import load_predictions, load_record, stored_keys

# Of a trial, what does not depend on the machine: how long a fit took does.
SAME = ("key", "data", "fit_version", "trial", "error", "scores", "curves", "n_train")
OPENED = (*DataDigests._fields, *Entry._fields, "reason", "plan")
LISTS = ("fold_trials", "final_trials", "ladder_trials", "lesson_trials", "leakage_trials")


def results(out: Path) -> dict[str, bytes]:
    """What must be the same, byte for byte: the tables, and what they follow from.

    Not compared: how long fits took (``seconds`` in the lists of trials), when a test set was opened (``opened_at`` of
    the ledger), and run.json, notebooks and report, which tell both.
    """
    files = {name: data for name, data in tree(out).items() if name.startswith("tables/")}
    others = (*out.glob("splits_*.csv"), out / "cells.csv", out / "labelled.csv", out / "crops.npy")
    files |= {path.name: path.read_bytes() for path in others if path.exists()}
    for name in LISTS:
        files[f"{name}.csv"] = _text(lambda path=out / f"{name}.csv": pd.read_csv(path).drop(columns="seconds"))
    return files | {"test_openings.csv": _text(lambda: load_ledger(out)[list(OPENED)])}


def _text(load: Callable[[], pd.DataFrame]) -> bytes:
    """A table as CSV, or why there is none."""
    try:
        return load().to_csv(index=False).encode()
    except (OSError, ValueError, KeyError) as error:
        return f"{type(error).__name__}: {error}".encode()


def trials(out: Path) -> dict[str, tuple[str, bytes]]:
    """Key -> what a trial's record and predictions hold."""
    found = {}
    for key in stored_keys(out / "trials"):
        trial = load_record(out / "trials", key)
        assert trial is not None, f"{key} is damaged"
        predictions = io.BytesIO()
        if not trial["error"]:
            load_predictions(out / "trials", key).to_pickle(predictions)
        # As text, in which a score that is no number is the same as another such.
        found[key] = (json.dumps({name: trial[name] for name in SAME if name in trial}), predictions.getvalue())
    return found
