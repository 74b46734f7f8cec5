"""Milliseconds from the key that labels a cell to the next cell on view, in JupyterLab in Chromium: ours and a peer.

Usage: ``python benchmarks/labelling.py [READINGS] [CELLS]``. Both label the same 100,000 cells, with crop and field, in
one notebook, half of which were read before; key presses alternate between them, so that whatever else the machine does
meets both. The peer is the usual way (innotater's, too): ipywidgets buttons, a focused one pressed by Space, whose
callback adds a line to a file and sets the next pictures of two Image widgets. Times are the page's own, from the
keydown event to the first frame after the next cell's pictures (the peer's first one) have loaded. Prints medians,
their ratio, how many of our readings are on the disk, and the same with no cell read before: a key costs no more.
"""

import sys
import tempfile
from pathlib import Path

from key_times import WARM_UP, browser, lab_page, print_times
from labeller_cells import CELLS, SHOW

from rbcnb.labels.readings import load_readings

READ = """\
from rbcnb.labels import append_readings

half = cells[["smear", "cell", "x_px", "y_px", "radius_px"]].iloc[: len(cells) // 2]
times = pd.date_range("2026-01-01", periods=len(half), freq="s", tz="UTC")
append_readings("readings.csv", half.assign(reader="Ann", label="normal", session="unlabelled", time=times))
"""
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
    around = smears[cell.smear.split("+")[0]].image[max(0, y - side) : y + side, max(0, x - side) : x + side]
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
OURS, USUAL = "rbcnb.labels.labeller.widget", "ipywidgets buttons and images"


def main(readings: int, n_cells: int) -> None:
    """Measures and prints."""
    for read in (READ, ""):
        times: dict[str, list[float]] = {OURS: [], USUAL: []}
        ready = (".widget-image", ".rbcnb-labeller[data-cell]:not([data-cell=''])")
        with tempfile.TemporaryDirectory() as folder:
            sources = (CELLS.format(n=n_cells), read, SHOW, PEER)
            with lab_page(sources, Path(folder), height_px=2000, ready=ready) as page:
                browser.start_attribute_stopwatch(page, ".rbcnb-labeller", "data-cell")
                browser.start_stopwatch(page)
                for n in range(readings + WARM_UP):
                    page.locator(".rbcnb-labeller").focus()
                    times[OURS].append(browser.press_and_time(page, "chn"[n % 3]))
                    page.wait_for_function("document.querySelector('.rbcnb-labeller').dataset.unsaved === '0'")
                    page.locator(".widget-button").nth(n % 3).focus()
                    times[USUAL].append(browser.press_and_time(page, "Space"))
                    page.wait_for_timeout(200)  # its second picture
            before = n_cells // 2 if read else 0
            saved = len(load_readings(Path(folder) / "readings.csv")) - before
        print(f"{n_cells} cells, {before} of them read before")
        print_times(times)
        print(f"on the disk: {saved} of {readings + WARM_UP} readings")


if __name__ == "__main__":
    numbers = [int(text) for text in sys.argv[1:]]
    main(*numbers, *(40, 100_000)[len(numbers) :])
