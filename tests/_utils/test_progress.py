"""Progress told in a log, a terminal and a notebook; a study that is interrupted in a real kernel and goes on."""

import io
import os
import time

import pytest

from rbcnb._utils.progress import NotebookTeller, Teller, TerminalTeller, teller
from rbcnb.training.splits import assign_splits


def test_a_log_gets_every_line():
    lines = []
    tell = teller(lines.append)
    tell.update("half", share=0.5)
    tell("done")
    tell.close()
    assert lines == ["half", "done"]
    assert teller(tell) is tell
    assert type(teller()) is Teller  # pytest's output is neither a terminal nor a notebook


def shown(text: str) -> list[str]:
    """The lines of a terminal that was sent *text*: what is left after carriage returns and erasures."""
    lines = [""]
    for piece in text.replace("\r\x1b[K", "\0\r").replace("\n", "\0\n").split("\0"):
        if piece.startswith("\n"):
            lines.append(piece[1:])
        elif piece.startswith("\r"):
            lines[-1] = piece[1:]
        else:
            lines[-1] += piece
    return lines


def test_a_terminal_shows_one_line_and_then_what_stays(monkeypatch):
    monkeypatch.setattr("shutil.get_terminal_size", lambda: os.terminal_size((20, 24)))
    stream = io.StringIO()
    tell = TerminalTeller(stream)
    tell.update("x" * 50, share=0.1)
    assert shown(stream.getvalue()) == ["x" * 19]
    tell("one diverged")
    tell.update("2 of 3", share=0.7)
    assert shown(stream.getvalue()) == ["one diverged", "2 of 3"]
    tell.close()
    tell("3 trials")
    assert shown(stream.getvalue()) == ["one diverged", "3 trials", ""]


def test_a_notebook_has_one_output_that_ends_without_a_bar():
    outputs = []

    class Handle:
        def update(self, data, *, raw):
            assert raw
            outputs[-1] = data

    def display(data, *, raw, display_id):
        assert raw
        assert display_id
        outputs.append(data)
        return Handle()

    tell = NotebookTeller(display)
    tell.close()
    assert outputs == []
    tell.update("1 of 3 <b>", share=1 / 3)
    assert '<progress value="0.3333"' in outputs[0]["text/html"]
    assert "&lt;b&gt;" in outputs[0]["text/html"]
    tell.close()
    tell("3 trials")
    tell("1 diverged")
    assert outputs == [{"text/plain": "3 trials\n1 diverged", "text/html": "3 trials<br>1 diverged"}]


CELL = """
from rbcnb.study import run_study
from rbcnb.training.trial import Trial, expand_grid
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
    displays: list[dict] = []

    def hook(message):
        if message["msg_type"] in ("display_data", "update_display_data"):
            displays.append(message["content"]["data"])

    def run(code):
        displays.clear()
        return client.execute_interactive(code, timeout=300, output_hook=hook)["content"]

    try:
        prepared = run(
            "import numpy as np, pandas as pd\ncells = pd.read_pickle('cells.pkl')\n"
            f"crops = np.fromfile('crops.bin', np.uint8).reshape({crops.shape})"
        )
        assert prepared["status"] == "ok"
        sent = client.execute(CELL % 15)
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

        assert run(CELL % 15)["status"] == "ok"
        assert len(list(store.glob("*.json"))) == 8
        assert all((store / name).stat().st_mtime_ns == time_ns for name, time_ns in done.items())
        assert any("<progress" in data["text/html"] for data in displays)
        assert (
            displays[-1]["text/plain"] == f"study: 8 trials, {8 - len(done)} trained, {len(done)} taken from the store"
        )
        assert "<progress" not in displays[-1]["text/html"]
        assert psutil.pid_exists(manager.provisioner.pid)
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)
