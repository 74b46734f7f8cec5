"""Milliseconds from a key press on a slider to the first frame with the new picture, in Chromium.

Usage: ``python benchmarks/sliders.py [PRESSES]``. Three ways to move the same three panels: the explorer in JupyterLab;
the usual way, which tutorials show, a function that draws with pyplot under ``ipywidgets.interactive_output``, in the
same page; the explorer in a file of its own. Key presses go from one to the next in turn, so that whatever else the
machine does meets all of them. Times are the page's own, from the keydown event to the first frame after a curve has
another shape, or a new picture has loaded. Prints medians, and the usual way's over the explorer's.
"""

import sys
import tempfile
from pathlib import Path
from typing import Any

from key_times import browser, lab_page, print_times

from rbcnb.plotting.lesson import loss_terms

OURS = """\
from rbcnb import plotting
plotting.loss_terms()
"""
PEER = """\
%matplotlib inline
import ipywidgets as widgets
import matplotlib.pyplot as plt
import numpy as np
from rbcnb.losses.focal_curves import focal_curve, focal_gradient, modulating_factor

P_T = np.concatenate([np.geomspace(1e-4, 0.05, 120, endpoint=False), np.linspace(0.05, 1, 281)])

def draw(alpha, gamma):
    figure, axes = plt.subplots(1, 3, figsize=(10, 4))
    for ax, of in zip(axes, (focal_curve, focal_gradient, modulating_factor)):
        scale = {} if of is modulating_factor else {"alpha": alpha}
        ax.plot(P_T, of(P_T, gamma=0), "--", label="cross entropy")
        ax.plot(P_T, of(P_T, gamma=gamma, **scale), label="focal loss")
        ax.set(xlabel="$p_t$", ylabel=of.__name__)
    axes[0].set_ylim(0, 5)
    axes[0].legend()
    plt.show()

alpha = widgets.FloatSlider(1.0, min=0.25, max=1.75, step=0.25)
gamma = widgets.FloatSlider(2.0, min=0, max=5, step=0.1)
widgets.VBox([alpha, gamma, widgets.interactive_output(draw, {"alpha": alpha, "gamma": gamma})])
"""
EXPLORER, USUAL, FILE = "explorer, JupyterLab", "interactive_output, JupyterLab", "explorer, HTML file"
DRAWN = "document.querySelector('.rbcnb-explorer')?.views !== undefined"


def write_page(folder: Path) -> str:
    """The explorer as a file; its address."""
    path = folder / "explorer.html"
    head = '<meta charset="utf-8"><title>explorer</title>'
    path.write_text(f"<!doctype html><html><head>{head}</head><body>{loss_terms().html()}</body></html>", "utf-8")
    return path.as_uri()


def time_press(page: Any, way: str, key: str) -> float:
    """Milliseconds of one press on the gamma slider."""
    page.bring_to_front()
    page.locator(".noUi-handle" if way == USUAL else ".rbcnb-explorer input[type=range]").nth(1).focus()
    page.wait_for_timeout(60)
    return browser.press_and_time(page, key)


def main(presses: int) -> None:
    """Measures and prints."""
    times: dict[str, list[float]] = {name: [] for name in (EXPLORER, USUAL, FILE)}
    ready = (".rbcnb-explorer svg", ".jp-OutputArea img")
    with (
        tempfile.TemporaryDirectory() as folder,
        lab_page((OURS, PEER), Path(folder), height_px=1400, ready=ready) as notebook,
    ):
        file = notebook.context.browser.new_page(viewport=notebook.viewport_size)
        file.goto(write_page(Path(folder)))
        for page in (notebook, file):
            page.wait_for_function(DRAWN)
            browser.start_drawing_stopwatch(page)
        browser.start_stopwatch(notebook)  # a press moves either curves or a picture, so that both may run
        for press in range(presses):
            for name in times:
                key = "ArrowRight" if press % 40 < 20 else "ArrowLeft"
                times[name].append(time_press(file if name == FILE else notebook, name, key))
    print_times(times)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 60)
