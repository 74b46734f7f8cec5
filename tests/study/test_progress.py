"""Progress of a study in a log, a terminal and a notebook; a study that is interrupted in a real kernel and goes on."""

import dataclasses
import io
import os
import re
import time

import pandas as pd
import pytest

from rbcnb.study import progress, runner
from rbcnb.study.progress import Course, EpochFile, Epochs, Outcome
from rbcnb.study.runner import run_study
from rbcnb.training.fit import run_trial
from rbcnb.training.splits import assign_splits
from rbcnb.training.trial import Trial, expand_grid

FAST = Trial(epochs=2)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def study(data, tmp_path, monkeypatch):
    """Runs a study of two trials that says very often where it stands."""
    cells, crops = data
    monkeypatch.setattr(runner, "LOG_EVERY_S", 0.01)
    monkeypatch.setattr(runner, "BAR_EVERY_S", 0.01)
    split = assign_splits(cells, protocol="paper", seed=0)
    return lambda: run_study(expand_grid(Trial(epochs=1), fold=range(2)), split, crops, tmp_path, jobs=1)


def test_a_log_gets_plain_lines(study, capsys):
    study()
    printed = capsys.readouterr()
    assert printed.err == ""
    lines = [line.partition(" trials")[0] for line in printed.out.splitlines()]
    assert list(dict.fromkeys(lines))[:2] == ["study: 0 of 2", "study: 1 of 2"]
    assert lines.count("study: 0 of 2") > 2  # before any trial has ended
    assert lines[-1] == "study: 2"
    study()
    assert capsys.readouterr().out == "study: 2 trials, 0 trained, 2 taken from the store\n"


def test_a_terminal_shows_a_line_that_is_written_over_and_then_what_stays(study, capsys, monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    study()
    assert capsys.readouterr().out == "study: 2 trials, 2 trained, 0 taken from the store\n"
    shown = terminal.getvalue()
    assert "\n" not in shown
    assert "study: 1 of 2 trials done" in shown
    assert shown.split("\r")[-2:] == [" " * len(shown.split("\r")[-2]), ""]  # nothing of it is left


@pytest.mark.parametrize("jobs", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_the_clock_goes_on_and_epochs_are_told_while_no_trial_ends(data, tmp_path, monkeypatch, jobs):
    cells, crops = data
    monkeypatch.setattr(runner, "LOG_EVERY_S", 0.02)
    monkeypatch.setattr(runner, "BAR_EVERY_S", 0.02)
    monkeypatch.setattr(progress, "WRITE_EVERY_S", 0.0)
    split, lines = assign_splits(cells, protocol="paper", seed=0), []
    trials = expand_grid(Trial(epochs=12), seed=range(jobs))
    run_study(trials, split, crops, tmp_path, jobs=jobs, say=lines.append)
    first = [line for line in lines if line.startswith(f"study: 0 of {jobs} trials done, {jobs} running (epoch")]
    epochs = [int(re.search(r"\(epochs? (\d+) of \d+\)", line)[1]) for line in first]
    assert len(set(epochs)) > 1
    assert epochs == sorted(epochs)
    for line, n_done in zip(first, epochs, strict=True):
        assert (" s left" in line) == (n_done > 0)  # nothing is promised before anything is measured
    assert [path.suffix for path in tmp_path.iterdir() if path.suffix not in (".json", ".parquet")] == []


def test_who_is_told_the_epochs_changes_no_number(data):
    cells, crops = data
    split, epochs = assign_splits(cells, protocol="paper", seed=0), []
    plain = run_trial(FAST, split, crops)
    asked = run_trial(FAST, split, crops, report=epochs.append)
    assert epochs == [0, 1, 2]
    pd.testing.assert_frame_equal(plain.predictions, asked.predictions, check_exact=True)
    pd.testing.assert_frame_equal(plain.curves, asked.curves, check_exact=True)


def test_the_line_tells_done_running_left_and_the_best_fold():
    trials = expand_grid(FAST, fold=[0, 1, None])
    done = [Outcome(1, macro_f1=0.25), Outcome(2, macro_f1=0.9)]
    course = Course([*trials, FAST, FAST], [1.0, 2.0, 3.0, 4.0, 5.0], 2, done)
    assert course.line(spent_s=10) == (
        "study: 2 of 5 trials done, 2 running, 1 waiting, 10 s, about 20 s left, "
        "best macro F1 on a fold 0.250 (cross_entropy)"
    )  # the test set's 0.9 is not told
    assert Course(trials, [1.0] * 3, 1, [Outcome(0, error="no")]).line(spent_s=5).endswith("left, 1 failed")


def test_time_left_follows_from_epochs_done_in_this_run():
    long = dataclasses.replace(FAST, epochs=10)
    course = Course([long, long], [5.0, 5.0], 2)
    assert course.line(spent_s=30) == "study: 0 of 2 trials done, 2 running, 0 waiting, 30 s"
    course.epochs = {0: Epochs(start=6, done=6)}  # of a checkpoint: an earlier run was so far
    assert course.line(spent_s=30) == "study: 0 of 2 trials done, 2 running (epoch 6 of 10), 0 waiting, 30 s"
    course.epochs, course.idle_s = {0: Epochs(6, 8), 1: Epochs(0, 2)}, 10.0
    # Four epochs in twenty seconds, ten to go.
    assert "2 running (epochs 10 of 20), 0 waiting, 30 s, about 50 s left" in course.line(spent_s=30)
    course.done.append(Outcome(0))
    assert "1 running (epoch 2 of 10), 0 waiting, 40 s, about 40 s left" in course.line(spent_s=40)


def test_epochs_are_read_from_the_files_that_workers_write(tmp_path):
    course, file = Course([FAST, FAST], [1.0, 1.0], 1), EpochFile(tmp_path / "b")
    course.look(tmp_path, {"a": 0, "b": 1}, spent_s=7.0)
    assert (course.epochs, course.idle_s) == ({}, 0.0)
    file(1)
    file(2)  # too soon to be written
    for name, torn in (("a", ""), ("a.", "1"), ("c", "1 2")):
        (tmp_path / name).write_text(torn)
    course.look(tmp_path, {"a": 0, "b": 1}, spent_s=8.0)
    course.look(tmp_path, {"a": 0, "b": 1}, spent_s=9.0)
    assert (course.epochs, course.idle_s) == ({1: Epochs(1, 1)}, 8.0)
    file.written_s = 0.0
    file(2)
    course.look(tmp_path, {"a": 0, "b": 1}, spent_s=9.0)
    assert course.epochs == {1: Epochs(1, 2)}
    EpochFile(tmp_path / "gone" / "d")(1)  # cannot be written, and stops no fit


CELL = """
from rbcnb.study import run_study
from rbcnb.training import Trial, expand_grid
trials = expand_grid(Trial(epochs=%d, fold=0), seed=range(8))
rows = run_study(trials, cells, crops, "store", jobs=2)
"""


@pytest.mark.slow
def test_a_study_in_a_kernel_is_interrupted_and_goes_on(data, tmp_path):
    """Finished trials stay, the workers are gone, the message is short, and running the cell again does the rest."""
    manager_module = pytest.importorskip("jupyter_client.manager")
    psutil = pytest.importorskip("psutil")
    cells, crops = data
    assign_splits(cells, protocol="paper", seed=0).to_pickle(tmp_path / "cells.pkl")
    crops.tofile(tmp_path / "crops.bin")
    root = os.path.dirname(os.path.dirname(os.path.dirname(__file__)))
    manager, client = manager_module.start_new_kernel(
        cwd=str(tmp_path), env=os.environ | {"PYTHONPATH": root, "OMP_NUM_THREADS": "1"}
    )
    outputs: list[dict] = []  # what a saved notebook would hold

    def hook(message):
        if message["msg_type"] in ("display_data", "update_display_data", "stream"):
            outputs.append(message["content"])

    def run(code):
        outputs.clear()
        return client.execute_interactive(code, timeout=300, output_hook=hook)["content"]

    try:
        prepared = run(
            "import numpy as np, pandas as pd\ncells = pd.read_pickle('cells.pkl')\n"
            f"crops = np.fromfile('crops.bin', np.uint8).reshape({crops.shape})"
        )
        assert prepared["status"] == "ok"
        sent = client.execute(CELL % 8)
        store = tmp_path / "store"
        deadline = time.monotonic() + 120
        while len(list(store.glob("[!.]*.json"))) < 3:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        manager.interrupt_kernel()
        interrupted = time.monotonic()
        while (reply := client.get_shell_msg(timeout=60))["parent_header"].get("msg_id") != sent:
            pass
        took_s = time.monotonic() - interrupted
        done = {path.name: path.stat().st_mtime_ns for path in store.glob("[!.]*.json")}
        assert reply["content"]["ename"] == "StudyInterrupt"
        assert "trials are done and stored" in reply["content"]["evalue"]
        assert len(reply["content"]["traceback"]) == 1
        assert 3 <= len(done) < 8
        assert took_s < 20
        time.sleep(2)
        assert {path.name for path in store.glob("[!.]*.json")} == set(done)  # nobody trains on

        assert run(CELL % 8)["status"] == "ok"
        assert len(list(store.glob("*.json"))) == 8
        assert all((store / name).stat().st_mtime_ns == time_ns for name, time_ns in done.items())
        bar, *lines = outputs
        assert "application/vnd.jupyter.widget-view+json" in bar["data"]
        last = f"study: 8 trials, {8 - len(done)} trained, {len(done)} taken from the store\n"
        assert "".join(line["text"] for line in lines) == last
        assert psutil.pid_exists(manager.provisioner.pid)
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)
