"""`rbcnb label`, killed while a reader presses keys: what the page called saved is in the table, once."""

import threading
import time
from functools import partial

import browser
import pandas as pd
import pytest
from damage import seeded
from kills import Started, rbcnb, start
from made import make_cells
from outcomes import record, share

from rbcnb.labels.readings import load_readings

pytestmark = [
    pytest.mark.faults,
    pytest.mark.skipif(bool(browser.missing()), reason=f"needs a browser: {browser.missing()}"),
]
MOMENTS = 20
ROOT = ".rbcnb-labeller"
START_S = 120


def address(server: Started) -> str:
    """Where the page is, as the command prints it."""
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline and server.process.poll() is None:
        for line in server.log.read_text().splitlines():
            if line.startswith("label: http"):
                return line.split()[1]
        time.sleep(0.05)
    pytest.fail(f"the labeller does not start: {server.log.read_text()}")


def press_until(page, done: threading.Event, most: int) -> int:
    """Presses up to *most* keys until *done*; returns how many readings the page called saved before that."""
    n_pressed, saved, root = 0, 0, page.locator(ROOT)
    while not done.is_set() and n_pressed < most:
        if not root.get_attribute("data-cell"):  # until the next cell is on view a key is no reading
            continue
        page.keyboard.press("n")
        n_pressed += 1
        unsaved = int(root.get_attribute("data-unsaved"))
        if not done.is_set():  # a page without its server takes no more keys
            saved = n_pressed - unsaved
    return saved


@pytest.mark.filterwarnings("ignore:.*its last line is torn")
def test_a_killed_labeller_has_every_reading_that_it_called_saved(tmp_path):
    cells, _ = make_cells(tmp_path)
    rng, readings = seeded("labeller killed"), cells / "readings.csv"
    problems, n_failed, n_cells = [], 0, len(pd.read_csv(cells / "cells.csv"))
    moments = share(MOMENTS)
    with browser.chromium_page(width_px=1280, height_px=800) as (page, _strangers):
        for moment in range(moments):
            n_before = len(load_readings(readings))
            log = tmp_path / "log"
            log.unlink(missing_ok=True)
            server = start(rbcnb("label", cells, "--reader", "anna", "--no-browser"), log)
            done = threading.Event()

            # By turns the command alone, which cannot tell its server, and all at once.
            end = server.kill_all if moment % 2 else partial(server.kill, group=False)

            def kill(end=end, done=done) -> None:
                done.set()
                end()

            timer = threading.Timer(rng.uniform(0.2, 3), kill)
            try:
                page.goto(address(server))
                page.wait_for_function(f"document.querySelector('{ROOT}')?.dataset.cell", timeout=START_S * 1000)
                timer.start()
                saved = press_until(page, done, n_cells - n_before)
            finally:
                timer.cancel()
                if server.process.poll() is None:
                    server.kill(group=True)
                alive = server.survivors()
            found = [f"outlived it: {words}" for words in alive]
            table = load_readings(readings)
            if len(table) - n_before < saved:
                found.append(f"{saved} called saved, {len(table) - n_before} in the table")
            if table.duplicated(["smear", "cell"]).any():
                found.append("a reading is there twice")
            problems += [f"moment {moment}: {words}" for words in found]
            n_failed += bool(found)
            if len(table) > n_cells / 2:  # few cells are left: begin again
                readings.unlink()
    record("labeller killed", moments, n_failed)
    assert not problems, "\n".join(problems)
