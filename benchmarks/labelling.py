"""Milliseconds from the key that labels a cell to the next cell on view, in JupyterLab in Chromium: ours and a peer.

Usage: ``python benchmarks/labelling.py [READINGS]``. Both label the same 10,000 cells, with crop and surroundings, in
one notebook; key presses alternate between them, so that whatever else the machine does meets both. The peer is the
usual way (innotater's, too): ipywidgets buttons, a focused one pressed by Space, whose callback adds a line to a file
and sets the next pictures of two Image widgets. Times are the page's own, from the keydown event to the first frame
after the next cell's pictures (the peer's first one) have loaded. Prints medians, their ratio, and how many of our
readings are on the disk.
"""

import os
import statistics
import sys
import tempfile
from pathlib import Path

import nbformat

ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

import browser  # noqa: E402
from test_browser_labeller import CELLS, SHOW  # noqa: E402

from rbcnb.readings import load_readings  # noqa: E402

PEER = """\
import cv2
import ipywidgets as widgets

at = 0
pictures = widgets.Image(width=350), widgets.Image(width=350)

def encoded(image):
    return cv2.imencode(".png", image[..., ::-1])[1].tobytes()

def draw():
    cell = cells.iloc[at]
    x, y, side = int(cell.x_px), int(cell.y_px), 100
    around = smears[cell.smear].image[max(0, y - side) : y + side, max(0, x - side) : x + side]
    pictures[0].value, pictures[1].value = encoded(crops[cell.crop]), encoded(around)

def label(button):
    global at
    with open("peer.csv", "a") as file:
        file.write(f"{cells.smear[at]},{cells.cell[at]},{button.description}\\n")
    at += 1
    draw()

buttons = [widgets.Button(description=name) for name in ("codocyte", "hypochromia", "normal")]
for button in buttons:
    button.on_click(label)
draw()
widgets.VBox([widgets.HBox(buttons), widgets.HBox(pictures)])
"""
OURS, USUAL = "rbcnb.labeller", "ipywidgets buttons and images"


def main(readings: int) -> None:
    """Measures and prints."""
    cells = [nbformat.v4.new_code_cell(source) for source in (CELLS, SHOW, PEER)]
    kernel = {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}}
    times: dict[str, list[float]] = {OURS: [], USUAL: []}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "label.ipynb"
        nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=kernel), path)
        with (
            browser.serving("lab", path, Path(folder) / "home") as url,
            browser.chromium_page(height_px=2000) as (page, _),
        ):
            browser.open_notebook(page, url, app="lab")
            page.wait_for_selector(".widget-image")
            page.wait_for_function("document.querySelector('.rbcnb-labeller')?.dataset.cell")
            browser.wait_until_run(page)
            page.wait_for_timeout(1500)
            browser.start_attribute_stopwatch(page, ".rbcnb-labeller", "data-cell")
            browser.start_stopwatch(page)
            for n in range(readings):
                page.locator(".rbcnb-labeller").focus()
                times[OURS].append(browser.press_and_time(page, "123"[n % 3]))
                page.wait_for_function("document.querySelector('.rbcnb-labeller').dataset.unsaved === '0'")
                page.locator(".widget-button").nth(n % 3).focus()
                times[USUAL].append(browser.press_and_time(page, "Space"))
                page.wait_for_timeout(200)  # its second picture
        saved = len(load_readings(path.parent / "readings.csv"))
    medians = {name: statistics.median(own[3:]) for name, own in times.items()}  # the first few warm caches up
    for name, own in times.items():
        low, high = statistics.quantiles(own[3:], n=10)[::8]
        print(f"{name:30} median {medians[name]:6.1f} ms   8 of 10 within {low:.1f} to {high:.1f} ms")
    print(f"ratio peer / ours: {medians[USUAL] / medians[OURS]:.1f}   on the disk: {saved} of {readings} readings")
    print(f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 40)
