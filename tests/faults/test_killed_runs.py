"""`rbcnb reproduce`, killed again and again, ends as a run that was left alone."""

import io
import shutil
from collections.abc import Mapping
from pathlib import Path

import pandas as pd
import pytest
from damage import seeded
from kills import count_files, kill_at, run, temporary_files, tree
from made import make_run
from outcomes import record, share
from tiny_run import command

from rbcnb.cli import main
from rbcnb.study.store import load_predictions, load_record, stored_keys

MOMENTS = 20
# Of a trial, what does not depend on the machine: how long a fit took does.
SAME = ("key", "data", "fit_version", "trial", "error", "scores", "curves", "n_train")
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
    ledger = pd.read_csv(out / "test_openings.csv", dtype=str).drop(columns="opened_at")
    return files | {"test_openings.csv": ledger.to_csv(index=False).encode()}


def trials(out: Path) -> dict[str, tuple]:
    """Key -> what a trial's record and predictions hold."""
    found = {}
    for key in stored_keys(out / "trials"):
        trial = load_record(out / "trials", key)
        assert trial is not None, f"{key} is damaged"
        predictions = io.BytesIO()
        if not trial["error"]:
            load_predictions(out / "trials", key).to_pickle(predictions)
        found[key] = ({name: trial[name] for name in SAME if name in trial}, predictions.getvalue())
    return found


def differing(one: Mapping, other: Mapping) -> list[str]:
    return sorted(str(name) for name in one.keys() | other.keys() if one.get(name) != other.get(name))


@pytest.mark.faults
def test_a_run_killed_often_ends_as_one_that_was_left_alone(tmp_path):
    left_alone = make_run(tmp_path / "left_alone")
    rng, out, log = seeded("reproduce killed"), tmp_path / "killed" / "run", tmp_path / "log"
    n_files, moments = count_files(left_alone), share(MOMENTS)
    problems, n_killed, n_failed = [], 0, 0
    done: dict[Path, int] = {}  # finished trials, and when they were written
    for moment in range(moments):
        # A second of chance: notebooks write in bursts, and compute between them.
        n_now = n_files * (moment + 1) // (moments + 1)
        killed, alive = kill_at(
            command(out, "--jobs", "2"), out, n_now, rng=rng, group=bool(moment % 2), log=log, jitter_s=1.0
        )
        n_killed += killed
        found = [f"outlived it: {words}" for words in alive]
        found += [
            f"done again or gone: {path.name}"
            for path, when in done.items()
            if not path.exists() or path.stat().st_mtime_ns != when
        ]
        done |= {path: path.stat().st_mtime_ns for path in out.glob("trials/*.json") if not path.name.startswith(".")}
        problems += [f"moment {moment}: {words}" for words in found]
        n_failed += bool(found)
        if not killed:
            break
    last = run(command(out, "--jobs", "1"), log=log)
    ended = [f"outlived the last run: {words}" for words in last.survivors]
    if last.code:
        ended.append(f"code {last.code}: {last.text[-2000:]}")
    else:
        ended += [f"not as left alone: {name}" for name in differing(results(out), results(left_alone))]
        ended += [f"not as left alone: trial {name}" for name in differing(trials(out), trials(left_alone))]
        ended += [f"left over: {name}" for name in temporary_files(out)]
        ended += [f"done again: {path.name}" for path, when in done.items() if path.stat().st_mtime_ns != when]
        if main(["verify", str(out)]):
            ended.append("rbcnb verify is not content")
    record("reproduce killed", n_killed, n_killed if ended else n_failed)
    assert not problems + ended, "\n".join(problems + ended)
    assert n_killed >= moments / 2, f"only {n_killed} of {moments} kills came before the end"
    shutil.rmtree(out)
