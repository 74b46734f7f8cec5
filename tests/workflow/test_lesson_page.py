"""An explorer in JupyterLab and in Voila: keys move its charts, the numbers are Python's, nothing is fetched.

Slow, and skipped where Chromium, playwright, JupyterLab or Voila is missing. Latencies are printed (``pytest -rP``),
never judged: `benchmarks/sliders.py` measures them.
"""

import os
import signal
import statistics
import subprocess
import sys
from pathlib import Path

import browser
import nbformat
import numpy as np
import psutil
import pytest

from rbcnb.losses.focal_curves import focal_curve, focal_gradient, modulating_factor

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(bool(browser.missing()), reason=f"needs a browser: {browser.missing()}"),
]
SLIDERS = ".rbcnb-explorer input[type=range]"  # alpha, gamma
DRAWN = "document.querySelector('.rbcnb-explorer')?.views !== undefined"


def notebook_of(source: str, folder: Path) -> Path:
    """A notebook of one cell, in a folder of its own."""
    kernel = {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}}
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source)], metadata=kernel)
    path = folder / "notebooks" / "cell.ipynb"
    path.parent.mkdir(parents=True)
    nbformat.write(notebook, path)
    return path


def check_lines(page, *, gamma: float, log_p_t: bool = False) -> None:
    """What the charts draw is what Python computes from the points that they draw it at."""
    panels = browser.explorer_lines(page)
    assert len(panels) == 3
    for lines, of in zip(panels, (focal_curve, focal_gradient, modulating_factor), strict=True):
        for line, at in zip(lines, (0, gamma), strict=True):  # cross entropy, focal loss
            x, y = np.array(line).T
            p_t = 10**x if log_p_t else x
            assert (p_t.min(), p_t.max()) == pytest.approx((1e-4, 1))
            np.testing.assert_allclose(y, of(np.minimum(p_t, 1), gamma=at), rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("app", ["lab", "voila"])
def test_keys_move_the_charts(app, tmp_path, lab):
    notebook = notebook_of("from rbcnb import plotting\nplotting.loss_terms()", tmp_path)
    with (
        browser.serving(app, notebook, tmp_path / "home", lab=lab) as url,
        browser.chromium_page() as (page, strangers),
    ):
        browser.open_notebook(page, url, app=app)
        page.wait_for_function(DRAWN, timeout=180_000)
        check_lines(page, gamma=2.0)
        browser.start_drawing_stopwatch(page)
        page.locator(SLIDERS).first.focus()
        page.keyboard.press("Tab")  # from alpha to gamma
        times = [browser.press_and_time(page, "ArrowRight") for _ in range(5)]
        times += [browser.press_and_time(page, "ArrowLeft") for _ in range(2)]
        assert page.locator(".rbcnb-explorer output").nth(1).inner_text() == "2.3"
        check_lines(page, gamma=2.3)
        page.locator(".rbcnb-explorer input[type=checkbox]").first.focus()
        times.append(browser.press_and_time(page, "Space"))
        check_lines(page, gamma=2.3, log_p_t=True)
        for _ in range(20):  # keys that come fast end where the slider stands
            page.locator(SLIDERS).nth(1).press("ArrowRight")
        check_lines(page, gamma=4.3, log_p_t=True)
        assert strangers == []
        print(f"{app}: key press to pixels, median of {len(times)}: {statistics.median(times):.0f} ms")


PICTURES = """
from rbcnb.plotting.explorers import steps
from rbcnb.plotting.kernel_pictures import KernelPictures, Picture
from rbcnb.plotting.lesson import calibration_map
from rbcnb.plotting.style import new_figure, png

def drawing(height):
    figure, axes = new_figure(2.0, 2.0)
    axes[0, 0].bar([0, 1], [1, height])
    return [Picture(name, f"height {height:g}", png(figure)) for name in ("one", "other")]

KernelPictures(drawing, [steps("height", "height of a bar", 2.0, 0.0, 5.0, 0.5)], without_kernel=calibration_map())
"""


@pytest.mark.parametrize("app", ["lab", "voila"])
def test_keys_have_the_kernel_draw(app, tmp_path, lab):
    notebook = notebook_of(PICTURES, tmp_path)
    with (
        browser.serving(app, notebook, tmp_path / "home", lab=lab) as url,
        browser.chromium_page(width_px=390) as (page, strangers),
    ):
        browser.open_notebook(page, url, app=app)
        page.wait_for_selector(".rbcnb-many img", timeout=180_000)
        slider = page.get_by_role("slider", name="height of a bar", exact=True)
        slider.focus()
        browser.start_stopwatch(page)
        times = [browser.press_and_time(page, "ArrowRight") for _ in range(3)]
        page.wait_for_function("document.querySelector('.rbcnb-many img').alt === 'one: height 3.5'")
        assert page.get_by_role("img", name="other: height 3.5", exact=True).count() == 1
        assert slider.get_attribute("aria-valuetext") == "3.5"
        page.get_by_role("button", name="Reset", exact=True).press("Enter")
        page.wait_for_function("document.querySelector('.rbcnb-many img').alt === 'one: height 2'")
        small = (
            "[...document.querySelectorAll('.rbcnb-explorer *')].map((of) => parseFloat(getComputedStyle(of).fontSize))"
        )
        assert min(page.evaluate(small)) >= 12
        assert strangers == []
        print(f"{app}: key press to a new picture, median of {len(times)}: {statistics.median(times):.0f} ms")


@pytest.mark.parametrize(
    "end",
    [signal.SIGINT, *(pytest.param(number, marks=pytest.mark.heavy) for number in (signal.SIGTERM, signal.SIGKILL))],
)
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
            page.wait_for_selector(".rbcnb-explorer input", timeout=180_000)
            if end == signal.SIGINT:  # an answer is typed in the page, which has no place for code
                form = page.locator("form.exercise").first
                form.locator("input").fill("-alpha * (1 - p_t)**gamma * np.log(p_t)", timeout=180_000)
                form.locator("input").press("Enter")
                page.wait_for_selector("form.exercise[data-passed=true]")
                assert page.locator("text=your line").count() == 0
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
