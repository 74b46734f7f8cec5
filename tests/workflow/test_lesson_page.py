"""The lesson in a real browser: keys move the sliders, the picture is the one that Python draws, nothing is fetched.

Slow, and skipped where Chromium, playwright, JupyterLab or Voila is missing. Latencies are printed (``pytest -rP``),
never judged: `benchmarks/sliders.py` measures them.
"""

import io
import os
import signal
import statistics
import subprocess
import sys
import time
from pathlib import Path

import browser
import nbformat
import numpy as np
import psutil
import pytest
from PIL import Image

from rbcnb.plotting.lesson import loss_terms
from rbcnb.plotting.style import CSS_DPI
from rbcnb.workflow.notebooks import notebooks_folder

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(bool(browser.missing()), reason=f"needs a browser: {browser.missing()}"),
]


def opening(folder: Path) -> Path:
    """The lesson as far as its first explorer, in a folder of its own."""
    notebook = nbformat.read(notebooks_folder() / "03_loss_exploration.ipynb", as_version=4)
    last = next(i for i, cell in enumerate(notebook.cells) if cell.source.startswith("plotting.explore("))
    notebook.cells = notebook.cells[: last + 1]
    path = folder / "notebooks" / "opening.ipynb"
    path.parent.mkdir(parents=True)
    nbformat.write(notebook, path)
    return path


def pixels(file: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(file)).convert("RGB"))


def drawn(**values) -> np.ndarray:
    """What matplotlib's whole draw makes of the same values, with no widget about."""
    stream = io.BytesIO()
    loss_terms(alpha=1.0, **values).savefig(stream, dpi=CSS_DPI)
    return pixels(stream.getvalue())


@pytest.mark.parametrize("app", ["lab", "voila"])
def test_keys_move_the_figure(app, tmp_path, lab):
    with (
        browser.serving(app, opening(tmp_path), tmp_path / "home", lab=lab) as url,
        browser.chromium_page() as (page, strangers),
    ):
        browser.open_notebook(page, url, app=app)
        page.wait_for_selector(".widget-image")
        browser.wait_until_run(page)
        np.testing.assert_array_equal(pixels(browser.shown_picture(page)), drawn(gamma=2.0))
        browser.start_stopwatch(page)
        page.locator(".noUi-handle").first.focus()
        tab_to_slider(page)  # from alpha to gamma
        times = [browser.press_and_time(page, "ArrowRight") for _ in range(5)]
        times += [browser.press_and_time(page, "ArrowLeft") for _ in range(2)]
        assert page.locator(".widget-readout").nth(1).inner_text().strip() == "2.30"
        np.testing.assert_array_equal(pixels(browser.shown_picture(page)), drawn(gamma=2.3))
        page.locator("input[type=checkbox]").first.focus()
        times.append(browser.press_and_time(page, "Space"))
        np.testing.assert_array_equal(pixels(browser.shown_picture(page)), drawn(gamma=2.3, log_p_t=True))
        assert strangers == []
        print(f"{app}: key press to pixels, median of {len(times)}: {statistics.median(times):.0f} ms")


def tab_to_slider(page) -> None:
    """Tab, past a slider's own number, to the next slider."""
    for _ in range(3):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.classList.contains('noUi-handle')"):
            return
    raise AssertionError("Tab does not reach the next slider")


def test_keys_that_pile_up_end_at_the_last_value(tmp_path, lab):
    with (
        browser.serving("lab", opening(tmp_path), tmp_path / "home", lab=lab) as url,
        browser.chromium_page() as (page, _),
    ):
        browser.open_notebook(page, url, app="lab")
        page.wait_for_selector(".widget-image")
        browser.wait_until_run(page)
        page.locator(".noUi-handle").nth(1).focus()
        for _ in range(20):
            page.keyboard.press("ArrowRight")
        wanted = drawn(gamma=4.0)
        deadline = time.monotonic() + 20
        while not np.array_equal(pixels(browser.shown_picture(page)), wanted):
            assert time.monotonic() < deadline, "the figure never came to where the slider stands"
            time.sleep(0.1)


@pytest.mark.parametrize("end", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.heavy), signal.SIGKILL])
def test_the_command_shows_the_lesson_and_leaves_nothing(tmp_path, tmp_path_factory, end):
    command = [sys.executable, "-m", "rbcnb.cli", "lesson", "--no-browser"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    paths = os.environ | {"PYTHONPATH": str(browser.ROOT), "TMPDIR": str(tmp_path_factory.mktemp("temporary"))}
    process = subprocess.Popen(command, cwd=tmp_path, env=paths, **pipes)
    try:
        url = process.stdout.readline().split()[1]
        assert url.startswith("http://127.0.0.1:")
        with browser.chromium_page() as (page, strangers):
            page.goto(url)
            page.wait_for_selector(".widget-image")
            assert strangers == []
            offspring = psutil.Process(process.pid).children(recursive=True)
        assert len(offspring) >= 2  # Voila and a kernel, which is still at work on the later cells
    finally:
        process.send_signal(end)
        _, errors = process.communicate(timeout=30)
    killed = end == signal.SIGKILL
    assert (process.returncode, errors) == ((-end, "") if killed else (0, "rbcnb lesson: ended\n"))
    _, alive = psutil.wait_procs(offspring, timeout=20)
    assert not alive
    assert list(tmp_path.iterdir()) == []
