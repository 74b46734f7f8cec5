"""A lab's whole way on real smears, as the four commands: segment, label (in a browser), train, count."""

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import browser
import pandas as pd
import pytest

from rbcnb.columns import NORMAL
from rbcnb.labels.assign import label_cells
from rbcnb.labels.readings import load_readings
from rbcnb.smears.chula import CHULA_TYPES, read_chula_labels
from rbcnb.smears.overlap import overlaps_of_files

CHULA = Path(os.environ.get("RBCNB_CHULA", ""))
# Of the smears in which every cell is labelled (exhaustively_labelled.json), in their order, the first four whose most
# frequent class is not normal and no two of which show the same cells. They are of one slide.
LEARNT, KEPT_OUT = ("27", "29", "33"), "38"
PAGE = ".rbcnb-labeller"
LIMIT_S = 600

pytestmark = [
    pytest.mark.heavy,
    pytest.mark.skipif(not CHULA.name, reason="set RBCNB_CHULA to the folder of Chula RBC-12"),
    pytest.mark.skipif(bool(browser.missing()), reason=browser.missing() or "all there"),
]


def image(name: str) -> str:
    return str(CHULA / "Dataset" / f"{name}.jpg")


def truth(*names: str) -> pd.DataFrame:
    tables = [
        read_chula_labels(CHULA / "Label" / f"{name}.txt").assign(smear=f"{name}.jpg", group=name) for name in names
    ]
    return pd.concat(tables, ignore_index=True)


def command(*arguments: str, folder: Path) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "rbcnb.cli", *arguments], cwd=folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@contextmanager
def labeller(folder: Path, reader: str) -> Iterator[str]:
    """`rbcnb label` at work; yields the page's address."""
    classes = ",".join(CHULA_TYPES.values())
    arguments = ["label", "cells", "--reader", reader, "--classes", classes, "--no-browser"]
    server = subprocess.Popen(
        [sys.executable, "-u", "-m", "rbcnb.cli", *arguments], cwd=folder, stdout=subprocess.PIPE, text=True
    )
    try:
        yield re.search(r"http://\S+", server.stdout.readline())[0]
    finally:
        server.terminate()
        server.wait(30)


def read_all(url: str, labels: dict[str, str]) -> None:
    """Names every cell on the page with the key of its class, and is unsure of what nobody labelled."""
    with browser.chromium_page(width_px=1366, height_px=900) as (page, _):
        page.goto(url)
        page.wait_for_function(f"document.querySelector('{PAGE}')?.dataset.cell")
        buttons = page.locator(f"{PAGE} .classes button")
        key_of = {button.get_attribute("title"): button.locator("kbd").inner_text().lower() for button in buttons.all()}
        # On a busy machine the page may have no cell for a moment, until the kernel has sent the next ones.
        page_has = "page.dataset.cell || page.innerText.includes('rbcnb train')"
        next_or_end = f"(page => {page_has})(document.querySelector('{PAGE}'))"
        while cell := page.locator(PAGE).get_attribute("data-cell"):
            page.keyboard.press(key_of[labels[cell]] if cell in labels else "0")
            page.wait_for_function(f"document.querySelector('{PAGE}').dataset.cell !== {cell!r}")
            page.wait_for_function(next_or_end)
        page.wait_for_function(f"document.querySelector('{PAGE}').dataset.unsaved === '0'")
        assert "rbcnb train" in page.locator(PAGE).inner_text()


def test_the_smears_are_those_that_the_rule_gives():
    numbers = json.loads((CHULA / "exhaustively_labelled.json").read_text())["exhaustively_labelled"]
    common = {number: truth(number)["label"].mode()[0] for number in numbers}
    rich = [number for number, name in common.items() if name != NORMAL]
    overlaps = overlaps_of_files({number: Path(image(number)) for number in rich})
    apart = []
    for number in rich:
        if not any({overlap.first, overlap.second} <= {*apart, number} for overlap in overlaps):
            apart.append(number)
    assert apart[:4] == [*LEARNT, KEPT_OUT]


@pytest.fixture(scope="module")
def walked(tmp_path_factory):
    """The folder in which the four commands have run, and how many minutes they took."""
    tmp_path = tmp_path_factory.mktemp("road")
    start = time.monotonic()
    printed = command("segment", *map(image, LEARNT), "--out", "cells", folder=tmp_path)
    assert "next: rbcnb label cells --reader" in printed

    cells = pd.read_csv(tmp_path / "cells" / "cells.csv")
    named = label_cells(cells, truth(*LEARNT)).dropna(subset=["label"])
    labels = {f"{row.smear}, cell {row.cell}": row.label for row in named.itertuples()}
    for reader in ("anna", "ben"):
        with labeller(tmp_path, reader) as url:
            read_all(url, labels)
    readings = load_readings(tmp_path / "cells" / "readings.csv")
    named_by = readings.loc[readings["kind"] == "label", "reader"].value_counts().to_dict()
    assert named_by == dict.fromkeys(("anna", "ben"), len(named))

    printed = command("train", "cells", folder=tmp_path)
    assert "next: rbcnb count" in printed
    command("count", image(KEPT_OUT), "--model", "cells/model.safetensors", "--out", "counts", folder=tmp_path)
    minutes = (time.monotonic() - start) / 60
    print(f"segment, label (two readers), train, count: {minutes:.1f} minutes")
    return tmp_path, minutes


@pytest.fixture
def counted(walked):
    """Class -> its share of the smear kept out, of those with ten cells or more; and its row of the count."""
    there = truth(KEPT_OUT)["label"].value_counts()  # all that its label file has, found or not
    shares = (there / there.sum())[there >= 10]
    assert len(shares)
    table = pd.read_csv(walked[0] / "counts" / "differential.csv").fillna({"doubt": ""})
    table = table[table["smear"] == f"{KEPT_OUT}.jpg"].set_index("class")
    return shares, table.loc[shares.index]


def test_four_commands_lead_from_smears_to_a_count(walked):
    folder, minutes = walked
    assert minutes < LIMIT_S / 60
    assert {path.name for path in folder.iterdir()} == {"cells", "counts"}


def test_the_interval_of_each_frequent_class_is_narrow_and_covers_its_share(counted):
    shares, rows = counted
    assert (rows["doubt"] == "").all(), rows["doubt"].to_dict()
    low, high = rows["adjusted_low"], rows["adjusted_high"]
    assert (high - low <= 0.4).all()
    assert ((low <= shares) & (shares <= high)).all()
