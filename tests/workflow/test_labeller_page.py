"""The labeller in a real browser, over 10,000 cells: keys label, undo goes back, a reload loses nothing.

Slow, and skipped where Chromium, playwright, JupyterLab or Voila is missing. What is true is read from the table on
the disk. Latencies are printed (``pytest -rP``): `benchmarks/labelling.py` measures them against a peer.
"""

import os
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import browser
import labeller_cells
import nbformat
import pandas as pd
import psutil
import pytest
from PIL import Image

from rbcnb.labels.consensus import current_labels
from rbcnb.labels.readings import load_readings
from rbcnb.segmentation.batch import segment_files
from rbcnb.segmentation.segment import FinderSpec
from rbcnb.smears.sources import synthetic_smears

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(bool(browser.missing()), reason=f"needs a browser: {browser.missing()}"),
]

ROOT = ".rbcnb-labeller"
CELLS, SHOW = labeller_cells.CELLS.format(n=10_000), labeller_cells.SHOW
BURST = """([selector, keys]) => [...keys].forEach(key => document.querySelector(selector).dispatchEvent(
  new KeyboardEvent('keydown', {key, bubbles: true})))"""
LABELS = {"c": "codocyte", "h": "hypochromia", "n": "normal"}


def notebook(folder: Path, *sources: str) -> Path:
    kernel = {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}}
    cells = [nbformat.v4.new_code_cell(source) for source in sources or (CELLS, SHOW)]
    path = folder / "notebooks" / "label.ipynb"
    path.parent.mkdir(parents=True)
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=kernel), path)
    return path


def shown_cell(page) -> str:
    """The cell on view, once its picture is there."""
    page.wait_for_function(f"document.querySelector('{ROOT}')?.dataset.cell")
    return page.locator(ROOT).get_attribute("data-cell")


def take_focus(page) -> None:
    page.locator(f"{ROOT} .frame").first.click()
    assert page.evaluate(f"document.activeElement.matches('{ROOT}')")


@contextmanager
def labeller_page(app: str, folder: Path, lab: tuple[str, Path]) -> Iterator[tuple]:
    """The labeller with the focus, in *app*: the page, the strangers that it asked for, the notebook's address."""
    with (
        browser.serving(app, notebook(folder), folder / "home", lab=lab) as url,
        browser.chromium_page(width_px=1280, height_px=800) as (page, strangers),
    ):
        browser.open_notebook(page, url, app=app)
        shown_cell(page)
        browser.wait_until_run(page)
        take_focus(page)
        yield page, strangers, url
        if app == "lab":
            page.evaluate("window.jupyterapp.shell.currentWidget.sessionContext.shutdown()")


def wait_until_saved(page) -> None:
    page.wait_for_function(f"document.querySelector('{ROOT}').dataset.unsaved === '0'")


@pytest.mark.parametrize("app", [pytest.param("lab", marks=pytest.mark.heavy), "voila"])
def test_twenty_cells_by_keyboard_undo_and_reload_lose_nothing(app, tmp_path, lab):
    readings = tmp_path / "notebooks" / "readings.csv"
    with labeller_page(app, tmp_path, lab) as (page, strangers, url):
        n_notebook_cells = page.locator(".jp-Cell").count()
        browser.start_attribute_stopwatch(page, ROOT, "data-cell")
        keys, seen, times = [*"chnnchnnchnchhnn", "0", "n", "Space", "c"], [], []
        for key in keys:
            seen.append(shown_cell(page))
            times.append(browser.press_and_time(page, key))
        assert seen == [f"synthetic_00.png, cell {i}" for i in range(20)]
        page.keyboard.press("Backspace")
        page.wait_for_function(f"document.querySelector('{ROOT}').dataset.cell === '{seen[-1]}'")
        wait_until_saved(page)
        box = page.locator(ROOT).bounding_box()
        assert box["y"] >= 0
        assert box["y"] + box["height"] <= 800  # all of it is seen at once
        # What a reader types is no shortcut of JupyterLab, and the keys stay with the labeller.
        assert page.locator(".jp-Cell").count() == n_notebook_cells
        assert page.evaluate(f"document.activeElement.matches('{ROOT}')")

        if app == "lab":  # the kernel lives on, and the page finds its labeller again
            page.evaluate("window.jupyterapp.commands.execute('docmanager:save')")
            page.reload()
            assert shown_cell(page) == seen[-1]
            browser.open_notebook(page, url, app=app)  # all cells run again
        else:
            page.reload()  # with a new kernel
        assert shown_cell(page) == seen[-1]
        browser.wait_until_run(page)
        assert "18 of 10000 read, 1 skipped" in page.locator(ROOT).inner_text()
        table = load_readings(readings)
        assert len(table) == 21
        current = current_labels(table, reader="Ann").set_index("cell")
        wanted = {cell: LABELS.get(key) for cell, key in enumerate(keys[:-1])}
        named = current[current["kind"] == "label"]["label"].to_dict()
        assert named == {cell: label for cell, label in wanted.items() if label}
        assert current["kind"].loc[[16, 18]].tolist() == ["unsure", "skip"]

        take_focus(page)
        page.keyboard.press("Backspace")  # undo reaches beyond the reload
        page.wait_for_function(f"document.querySelector('{ROOT}').dataset.cell === '{seen[-2]}'")
        page.keyboard.press("Enter")
        page.keyboard.type("a thin rim")  # no class while it is typed
        page.keyboard.press("Enter")
        page.keyboard.press("n")
        assert shown_cell(page) == seen[-1]
        wait_until_saved(page)
        assert load_readings(readings).iloc[-1][["cell", "label", "comment"]].tolist() == [
            18,
            "normal",
            "a thin rim",
        ]
        assert strangers == []
        median = statistics.median(times)
        print(f"{app}: key press to next cell, median of {len(times)}: {median:.0f} ms (10,000 cells)")
        # Loose, for the machine may be busy; the claim of 150 ms is the benchmark's. Only: no key waits for seconds.
        assert median < 2000


@pytest.mark.parametrize("app", [pytest.param("lab", marks=pytest.mark.heavy), "voila"])
def test_odd_ones_of_a_sheet_are_re_marked_together(app, tmp_path, lab):
    readings = tmp_path / "notebooks" / "readings.csv"
    with labeller_page(app, tmp_path, lab) as (page, strangers, _url):
        for n in range(8):
            page.keyboard.press("n")
            page.wait_for_function(f"document.querySelector('{ROOT}').dataset.cell.endsWith(' {n + 1}')")
        page.keyboard.press("#")
        page.wait_for_selector(f"{ROOT} .grid", state="attached")
        page.get_by_label("class of the sheet").select_option("normal")
        page.wait_for_function(f"document.querySelector('{ROOT}').dataset.sheet === 'normal 0 8'")
        thumbs = page.locator(f"{ROOT} .thumb")
        thumbs.nth(1).click()
        thumbs.nth(4).click()
        page.keyboard.press("ArrowRight")
        page.keyboard.press("Space")
        assert page.locator(f"{ROOT} .thumb[aria-selected=true]").count() == 3
        page.keyboard.press("c")
        page.wait_for_function(f"document.querySelector('{ROOT}').dataset.sheet === 'normal 0 5'")
        named = current_labels(load_readings(readings)).set_index("cell")["label"]
        assert named[named == "codocyte"].index.tolist() == [1, 4, 5]
        page.keyboard.press("Backspace")  # one act
        page.wait_for_function(f"document.querySelector('{ROOT}').dataset.sheet === 'normal 0 8'")
        assert set(current_labels(load_readings(readings))["label"]) == {"normal"}
        assert len(load_readings(readings)) == 8 + 3 + 3
        assert strangers == []


def test_a_key_held_down_is_one_reading_and_a_kernel_that_does_not_answer_is_told(tmp_path, lab):
    readings = tmp_path / "notebooks" / "readings.csv"
    with labeller_page("lab", tmp_path, lab) as (page, _strangers, _url):
        for _repeat in range(5):  # without letting go of it
            page.keyboard.down("n")
        page.keyboard.up("n")
        wait_until_saved(page)
        page.wait_for_timeout(300)
        assert len(load_readings(readings)) == 1
        # While the kernel does not answer, readings wait and say so; then they are written, in order.
        mine = psutil.Process().children(recursive=True)
        (kernel,) = [process for process in mine if "ipykernel_launcher" in process.cmdline()]
        kernel.suspend()
        try:
            for key in "ch":
                page.keyboard.press(key)
            page.wait_for_selector("text=2 NOT SAVED, kept here: the kernel does not answer, no more keys are taken")
            page.keyboard.press("n")
            assert shown_cell(page).endswith("cell 3")
        finally:
            kernel.resume()
        wait_until_saved(page)
        written = load_readings(readings)
        assert written["label"].tolist() == ["normal", "codocyte", "hypochromia"]
        for key in "chnchnchnchn":  # faster than anyone reads
            page.keyboard.press(key)
        wait_until_saved(page)
        written = load_readings(readings)
        assert written["cell"].tolist() == list(range(15))
        assert written["label"].tolist()[3:] == [LABELS[key] for key in "chnchnchnchn"]


BUSY = """\
import time
while not Path("go").exists():
    time.sleep(0.1)
"""
EMPTY = """\
from pathlib import Path

named = cells.head(50).assign(label="normal")
Labeller(named, "readings.csv", reader="Ann", crops=crops, smear_image=lambda name: smears[name.split("+")[0]].image)
"""


def test_while_cells_run_and_with_nothing_to_read_there_are_words_and_no_black_frames(tmp_path, lab):
    """Run All: the kernel answers no widget before the last cell is done, and every rendered cell has its label."""
    path = notebook(tmp_path, CELLS, EMPTY, BUSY)
    with (
        browser.serving("lab", path, tmp_path / "home", lab=lab) as url,
        browser.chromium_page(width_px=1280, height_px=800) as (page, _strangers),
    ):
        browser.open_notebook(page, url, app="lab")
        page.wait_for_selector("text=The kernel is busy with other cells of the notebook")
        root = page.locator(ROOT)
        words = root.inner_text()
        assert "Nothing is left to label" in words
        assert "saved" not in words
        assert root.locator(".notice img").evaluate("image => image.naturalWidth") > 96
        assert root.locator(".frame:visible").count() == root.locator("button:visible").count() == 0
        (path.parent / "go").touch()
        page.wait_for_selector("text=nothing read yet")
        assert "Nothing is left to label" in root.inner_text()
        assert root.locator(".frame:visible").count() == 0
        page.get_by_label("queue").select_option("all")
        assert shown_cell(page).endswith("cell 0")
        assert root.locator(".notice:visible").count() == 0
        assert root.locator(".frame:visible").count() == 2  # the cell, and the whole field
        page.evaluate("window.jupyterapp.shell.currentWidget.sessionContext.shutdown()")


CLASSES = (
    "normal cell,macrocyte,microcyte,spherocyte,target cell,stomatocyte,ovalocyte,teardrop,burr cell,schistocyte,"
    "uncategorised,hypochromia,elliptocyte,Heinz body,acanthocyte"
)


@pytest.fixture(scope="module")
def segmented(tmp_path_factory):
    """A folder of `rbcnb segment` over two smears."""
    folder = tmp_path_factory.mktemp("lab")
    (folder / "smears").mkdir()
    for smear, name in zip(synthetic_smears(2, seed=0, n_cells=20), "ab", strict=True):
        Image.fromarray(smear.image).save(folder / "smears" / f"{name}.png")
    spec = FinderSpec(method="learned", upscale="none", size_px=32)
    segment_files([folder / "smears"], folder / "out", spec=spec)
    return folder


@contextmanager
def label_command(folder: Path, *more: str) -> Iterator[str]:
    """`rbcnb label out` in *folder*; yields the page's address."""
    command = [sys.executable, "-m", "rbcnb.cli", "label", "out", "--smears", "smears", "--no-browser", *more]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    process = subprocess.Popen(command, cwd=folder, env=os.environ | {"PYTHONPATH": str(browser.ROOT)}, **pipes)
    try:
        yield process.stdout.readline().split()[1]
    finally:
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
    assert (process.returncode, errors) == (0, "rbcnb label: ended\n")


def overflow_px(page) -> int:
    """How far the page reaches beyond the window's right edge."""
    return page.evaluate("Math.max(...[...document.querySelectorAll('.rbcnb-labeller *')].map("
                         "node => node.getBoundingClientRect().right)) - innerWidth")  # fmt: skip


def test_a_lab_labels_a_segmented_folder_goes_back_strikes_and_adds(segmented):
    table = segmented / "out" / "readings.csv"
    with (
        label_command(segmented, "--reader", "Ann", "--classes", CLASSES, "--um-per-px", "0.1") as url,
        browser.chromium_page(width_px=1366, height_px=768) as (page, strangers),
    ):
        assert url.startswith("http://127.0.0.1:")
        page.goto(url)
        first = shown_cell(page)
        page.keyboard.press("t")  # the first key counts: nobody clicked
        page.wait_for_function(f"document.querySelector('{ROOT}').dataset.cell !== '{first}'")
        second = shown_cell(page)
        page.keyboard.press("Delete")
        page.wait_for_function(f"document.querySelector('{ROOT}').dataset.cell !== '{second}'")
        third = shown_cell(page)
        for back in (second, first):
            page.keyboard.press("ArrowLeft")
            page.wait_for_function(f"document.querySelector('{ROOT}').dataset.cell === '{back}'")
        assert "target cell" in page.locator(f"{ROOT} .current").inner_text()
        page.keyboard.press("u")  # an earlier reading is changed, and the page goes on where it was
        page.wait_for_function(f"document.querySelector('{ROOT}').dataset.cell === '{third}'")
        wait_until_saved(page)
        view = current_labels(load_readings(table)).set_index("cell")
        readings = [view.loc[int(cell.rpartition(" ")[2]), ["kind", "label"]].tolist() for cell in (first, second)]
        assert readings[0] == ["label", "uncategorised"]
        assert readings[1][0] == "strike"

        # To a cell by smear and number, and by a click in the whole field.
        page.keyboard.press("/")
        page.keyboard.type("b.png")
        page.keyboard.press("Enter")
        page.keyboard.type("2")
        page.keyboard.press("Enter")
        page.wait_for_function(f"document.querySelector('{ROOT}').dataset.cell === 'b.png, cell 2'")
        page.wait_for_function(f"document.querySelector('{ROOT} .field svg').ariaLabel.includes('b.png')")
        assert page.locator(f"{ROOT} .bar").inner_text().endswith("µm")
        places = pd.read_csv(segmented / "out" / "cells.csv").query("smear == 'b.png'")

        def click_at(x: float, y: float, **how) -> None:
            left, top, width, _ = map(float, page.locator(f"{ROOT} .field svg").get_attribute("viewBox").split())
            box = page.locator(f"{ROOT} .field").bounding_box()
            scale = box["width"] / width
            page.locator(f"{ROOT} .field").click(
                position={"x": (x + 0.5 - left) * scale, "y": (y + 0.5 - top) * scale}, **how
            )

        page.get_by_role("button", name="whole").click()
        near = places.query("cell == 4").iloc[0]
        click_at(near.x_px, near.y_px)
        page.wait_for_function(f"document.querySelector('{ROOT}').dataset.cell === 'b.png, cell 4'")
        image = Image.open(segmented / "smears" / "b.png")
        free = next(
            (x, y) for x in range(40, image.width - 40, 7) for y in range(40, image.height - 40, 7)
            if (((places.x_px - x) ** 2 + (places.y_px - y) ** 2) ** 0.5 > 1.5 * places.radius_px).all()
        )  # fmt: skip
        click_at(*free, modifiers=["Shift"])
        added = f"b.png, cell {len(places)}"
        page.wait_for_function(f"document.querySelector('{ROOT}').dataset.cell === '{added}'")
        page.keyboard.press("h")
        wait_until_saved(page)
        row = load_readings(table).iloc[-1]
        assert (row["cell"], row["label"]) == (len(places), "hypochromia")
        before, left = len(load_readings(table)), int(page.locator(f"{ROOT} progress").get_attribute("max"))
        left -= int(page.locator(f"{ROOT} progress").get_attribute("value"))
        page.evaluate(BURST, [ROOT, "hn" * 10 + "h"])  # faster than any picture comes
        page.wait_for_function(f"document.querySelector('{ROOT} progress').value > {min(left, 21) - 1}")
        wait_until_saved(page)
        burst = load_readings(table).iloc[before:]
        assert burst["label"].str[0].str.cat() == ("hn" * 10 + "h")[:left]
        assert not burst[["smear", "cell"]].duplicated().any()
        assert abs(row["x_px"] - free[0]) < 2
        assert abs(row["y_px"] - free[1]) < 2

        for width, height in ((390, 844), (1366, 768), (2560, 1440)):
            page.set_viewport_size({"width": width, "height": height})
            page.wait_for_timeout(300)
            assert overflow_px(page) <= 0
            side = page.locator(f"{ROOT} .crop").bounding_box()["width"]
            assert side >= 200
            buttons = [button.bounding_box() for button in page.locator(f"{ROOT} .classes button").all()]
            assert len(buttons) == 15
            assert min(box["height"] for box in buttons) >= 44
            lowest = page.locator(f"{ROOT} .others button").filter(visible=True).last.bounding_box()
            assert lowest["y"] + lowest["height"] <= height  # all keys are seen at once
        assert page.locator(f"{ROOT} .field").bounding_box()["width"] > 1200
        looks = page.locator(f"{ROOT} .classes path").evaluate_all(
            "nodes => nodes.map(node => [node.getAttribute('d'), node.getAttribute('fill')])"
        )
        assert len({shape for shape, _ in looks}) == len({colour for _, colour in looks}) == 15
        page.keyboard.press("?")
        assert page.locator(f"{ROOT} .help").is_visible()
        assert strangers == []


def test_a_server_that_ends_and_comes_back_loses_no_reading_and_a_second_reader_is_blind(segmented):
    table = segmented / "out" / "others.csv"
    ann = ("--reader", "Ann", "--readings", "out/others.csv")
    with browser.chromium_page(width_px=1280, height_px=800) as (page, _strangers):
        with label_command(segmented, *ann) as url:
            page.goto(url)
            shown_cell(page)
            page.keyboard.press("n")
            wait_until_saved(page)
            second = page.context.browser.new_page()  # the same reader in a second tab
            second.goto(url)
            second.wait_for_selector("text=The same reader labels here in another tab")
            second.close()
            mine = psutil.Process().children(recursive=True)
            # The second tab's kernel may just be ending: it has no command line any more.
            lines = {process: process.as_dict(["cmdline"])["cmdline"] or () for process in mine}
            kernels = [process for process, line in lines.items() if "ipykernel_launcher" in line]
            kernel = min(kernels, key=lambda process: process.create_time())
            kernel.suspend()
            page.keyboard.press("c")
            page.wait_for_selector("text=1 NOT SAVED, kept here")
            kernel.kill()
        page.wait_for_selector("text=the server does not answer, no more keys are taken")
        assert len(load_readings(table)) == 1
        with label_command(segmented, *ann) as again:
            assert again == url
            page.wait_for_selector("text=2 of ")
            wait_until_saved(page)
            assert load_readings(table)["label"].tolist() == ["normal", "codocyte"]
            n = page.locator(f"{ROOT} progress").evaluate("bar => bar.max")
        with label_command(segmented, "--reader", "Bob", "--readings", "out/others.csv") as url:
            page.goto(url)
            shown_cell(page)
            words = page.locator(ROOT).inner_text()
            assert f"0 of {n} read" in words
            assert page.locator(f"{ROOT} .marks path").count() == 0


def test_names_that_are_html_are_shown_and_do_nothing(tmp_path):
    (tmp_path / "smears").mkdir()
    smear, reader = "<script>alert(1)<script>&\"'.png", "<b onclick=alert(1)>Ann`|$"
    classes = ["<img src=x onerror=alert(1)>|$x$", "a$b$c", "constructor"]
    Image.fromarray(next(iter(synthetic_smears(1, seed=0, n_cells=20))).image).save(tmp_path / "smears" / smear)
    spec = FinderSpec(method="learned", upscale="none", size_px=32)
    segment_files([tmp_path / "smears"], tmp_path / "out", spec=spec)
    with (
        label_command(tmp_path, "--reader", reader, "--classes", ",".join(classes)) as url,
        browser.chromium_page(width_px=1366, height_px=768) as (page, strangers),
    ):
        ran = []
        page.on("dialog", lambda dialog: (ran.append(dialog.message), dialog.dismiss()))
        page.goto(url)
        assert shown_cell(page).startswith(f"{smear}, cell ")
        assert page.locator(f"{ROOT} .classes .label").all_inner_texts() == classes
        assert page.locator(f"{ROOT} .classes .n").all_inner_texts() == [""] * 3
        leaves = "([at, old]) => ![old, ''].includes(document.querySelector(at).dataset.cell)"
        for n, name in enumerate(classes):
            shown = shown_cell(page)
            page.wait_for_selector(f"{ROOT}:not(.deaf)")  # a kernel that is late takes no keys
            page.keyboard.press("Enter")
            page.keyboard.type(f"=1+1 {name}")
            page.keyboard.press("Enter")
            page.locator(f"{ROOT} .classes button").nth(n).click()
            wait_until_saved(page)
            page.wait_for_function(leaves, arg=[ROOT, shown])
        for name in reversed(classes):
            shown = page.locator(ROOT).get_attribute("data-cell")
            page.keyboard.press("ArrowLeft")
            page.wait_for_function(leaves, arg=[ROOT, shown])
            assert page.locator(f"{ROOT} .current").inner_text() == name
        words = page.locator(ROOT).inner_text()
        assert reader in words
        assert smear in words
        page.keyboard.press("#")
        page.get_by_label("class of the sheet").select_option(classes[0])
        page.wait_for_function("([at, want]) => document.querySelector(at).dataset.sheet === want",
                               arg=[ROOT, f"{classes[0]} 0 1"])  # fmt: skip
        assert page.locator("img[src=x], mjx-container, .MathJax").count() == 0
        assert (ran, strangers) == ([], [])
    table = load_readings(tmp_path / "out" / "readings.csv")
    assert table["label"].tolist() == classes
    assert table["comment"].tolist() == [f"'=1+1 {name}" for name in classes]
    assert set(table["reader"]) == {reader}


def n_kernels() -> int:
    lines = [process.as_dict(["cmdline"])["cmdline"] or () for process in psutil.Process().children(recursive=True)]
    return sum("ipykernel_launcher" in line for line in lines)


def test_a_page_of_another_port_gets_nothing_of_the_labeller(segmented):
    """What a site does in a browser that had the page open and has its cookie."""
    with (
        label_command(segmented, "--reader", "Ann", "--readings", "out/forged.csv") as url,
        browser.chromium_page() as (page, _strangers),
    ):
        page.goto(url)
        shown_cell(page)
        home, key = url.split("?token=")
        other = browser.free_port()
        loaded = page.evaluate("performance.getEntriesByType('resource').map((entry) => entry.name)")
        assert loaded
        assert not any(key in address for address in loaded)
        page.route(f"http://127.0.0.1:{other}/", lambda route: route.fulfill(content_type="text/html", body="<p>site"))
        page.goto(f"http://127.0.0.1:{other}/")
        assert page.context.cookies(home)
        deadline = time.monotonic() + 30
        while n_kernels() and time.monotonic() < deadline:  # the page is closed
            time.sleep(0.1)
        assert n_kernels() == 0
        forge = """async ([home, socket]) => {
          const asked = ["GET", "POST"].map((method) => fetch(home, { method, credentials: "include" }).then(
            (answer) => answer.status, () => "refused"));
          const opened = new Promise((done) => {
            const link = new WebSocket(socket);
            link.onopen = () => done("open");
            link.onerror = () => done("refused");
          });
          return Promise.all([...asked, opened]);
        }"""
        socket = f"{home.replace('http', 'ws')}api/kernels/00000000-0000-0000-0000-000000000000/channels"
        assert page.evaluate(forge, [home, socket]) == ["refused"] * 3
        framed = """(home) => new Promise((done) => {
          const frame = document.createElement("iframe");
          frame.onload = () => done(frame.contentDocument ? "readable" : "closed");
          frame.src = home;
          document.body.append(frame);
        })"""
        assert page.evaluate(framed, home) == "closed"
        assert n_kernels() == 0
