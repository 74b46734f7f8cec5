"""Progress of a study in a log, a terminal and a notebook; a study that is interrupted in a real kernel and goes on."""

import io
import os
import time

import pytest

from rbcnb.study import runner
from rbcnb.study.runner import run_study
from rbcnb.training.splits import assign_splits
from rbcnb.training.trial import Trial, expand_grid


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def study(data, tmp_path, monkeypatch):
    """Runs a study of two trials that says where it stands after each."""
    cells, crops = data
    monkeypatch.setattr(runner, "LOG_EVERY_S", 0.0)
    monkeypatch.setattr(runner, "BAR_EVERY_S", 0.0)
    split = assign_splits(cells, protocol="paper", seed=0)
    return lambda: run_study(expand_grid(Trial(epochs=1), fold=range(2)), split, crops, tmp_path, jobs=1)


def test_a_log_gets_plain_lines(study, capsys):
    study()
    printed = capsys.readouterr()
    assert printed.err == ""
    lines = printed.out.splitlines()
    assert [line.partition(" trials")[0] for line in lines] == ["study: 0 of 2", "study: 1 of 2", "study: 2"]
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
        while len(list(store.glob("*.json"))) < 3:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        manager.interrupt_kernel()
        interrupted = time.monotonic()
        while (reply := client.get_shell_msg(timeout=60))["parent_header"].get("msg_id") != sent:
            pass
        took_s = time.monotonic() - interrupted
        done = {path.name: path.stat().st_mtime_ns for path in store.glob("*.json")}
        assert reply["content"]["ename"] == "StudyInterrupt"
        assert "trials are done and stored" in reply["content"]["evalue"]
        assert len(reply["content"]["traceback"]) == 1
        assert 3 <= len(done) < 8
        assert took_s < 20
        time.sleep(2)
        assert {path.name for path in store.glob("*.json")} == set(done)  # nobody trains on

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
