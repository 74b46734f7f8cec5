"""Milliseconds from the key that labels a cell to the next cell on view, in JupyterLab in Chromium: ours and a peer.

Usage: ``python benchmarks/labelling.py [READINGS]``. Both label the same 10,000 cells, with crop and surroundings, in
one notebook; key presses alternate between them, so that whatever else the machine does meets both. The peer is the
usual way (innotater's, too): ipywidgets buttons, a focused one pressed by Space, whose callback adds a line to a file
and sets the next pictures of two Image widgets. Times are the page's own, from the keydown event to the first frame
after the next cell's pictures (the peer's first one) have loaded. Prints medians, their ratio, and how many of our
readings are on the disk.
"""

import sys
import tempfile
from pathlib import Path

from key_times import browser, lab_page, tell_times
from test_browser_labeller import CELLS, SHOW

from rbcnb.labels.readings import load_readings

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
OURS, USUAL = "rbcnb.labels.labeller.widget", "ipywidgets buttons and images"


def main(readings: int) -> None:
    """Measures and prints."""
    times: dict[str, list[float]] = {OURS: [], USUAL: []}
    ready = (".widget-image", ".rbcnb-labeller[data-cell]:not([data-cell=''])")
    with tempfile.TemporaryDirectory() as folder:
        with lab_page((CELLS, SHOW, PEER), Path(folder), height_px=2000, ready=ready) as page:
            browser.start_attribute_stopwatch(page, ".rbcnb-labeller", "data-cell")
            browser.start_stopwatch(page)
            for n in range(readings):
                page.locator(".rbcnb-labeller").focus()
                times[OURS].append(browser.press_and_time(page, "123"[n % 3]))
                page.wait_for_function("document.querySelector('.rbcnb-labeller').dataset.unsaved === '0'")
                page.locator(".widget-button").nth(n % 3).focus()
                times[USUAL].append(browser.press_and_time(page, "Space"))
                page.wait_for_timeout(200)  # its second picture
        saved = len(load_readings(Path(folder) / "readings.csv"))
    tell_times(times)
    print(f"on the disk: {saved} of {readings} readings")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 40)
