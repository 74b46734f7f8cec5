"""What of two runs must be the same."""

import io
import json
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
    files |= {path.name: path.read_bytes() for path in [*out.glob("splits_*.csv"), out / "cells.csv"]}
    files |= {path.name: path.read_bytes() for path in (out / "labelled.csv", out / "crops.npy")}
    for name in LISTS:
        table = pd.read_csv(out / f"{name}.csv").drop(columns="seconds", errors="ignore")
        files[f"{name}.csv"] = table.to_csv(index=False).encode()
    ledger = load_ledger(out)[list(OPENED)]
    return files | {"test_openings.csv": ledger.to_csv(index=False).encode()}


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
