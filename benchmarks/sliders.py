"""Milliseconds from a key press on a slider to changed pixels, in JupyterLab in Chromium: ours and the usual way.

Usage: ``python benchmarks/sliders.py [PRESSES]``. Both explorers draw the same three panels and stand in one notebook;
key presses alternate between them, so that whatever else the machine does meets both. The peer is what tutorials show:
a function that draws with pyplot, under ``ipywidgets.interactive_output``. Times are the page's own, from the keydown
event to the first frame after the new picture has loaded. Prints medians and their ratio.
"""

import sys
import tempfile
from pathlib import Path

from key_times import browser, lab_page, tell_times

OURS = """\
from rbcnb.lesson_figures import loss_terms
from rbcnb.widgets import explore, slider
explore(loss_terms, alpha=slider("alpha", 1.0, 0.25, 1.75, 0.25), gamma=slider("gamma", 2.0, 0.0, 5.0, 0.05))
"""
PEER = """\
%matplotlib inline
import ipywidgets as widgets
import matplotlib.pyplot as plt
from rbcnb.curves import focal_curve, focal_gradient, modulating_factor
from rbcnb.lesson_figures import P_T

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

alpha = widgets.FloatSlider(1.0, min=0.25, max=1.75)
gamma = widgets.FloatSlider(2.0, min=0, max=5, step=0.05)
widgets.VBox([alpha, gamma, widgets.interactive_output(draw, {"alpha": alpha, "gamma": gamma})])
"""
HANDLES = {
    "rbcnb.plotting.sliders.explore": 1,
    "matplotlib, interactive_output": 3,
}  # the gamma sliders, in the page's order


def main(presses: int) -> None:
    """Measures and prints."""
    times: dict[str, list[float]] = {name: [] for name in HANDLES}
    with (
        tempfile.TemporaryDirectory() as folder,
        lab_page((OURS, PEER), Path(folder), height_px=1400, ready=(".widget-image", ".widget-output img")) as page,
    ):
        browser.start_stopwatch(page)
        for press in range(presses):
            for name, handle in HANDLES.items():
                page.locator(".noUi-handle").nth(handle).focus()
                page.wait_for_timeout(60)
                times[name].append(browser.press_and_time(page, "ArrowRight" if press % 40 < 20 else "ArrowLeft"))
    tell_times(times)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 60)
