"""Names that are HTML, Markdown, formulas or commands, from the readings to every page and figure: shown, never run."""

import html
import re
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import browser
import matplotlib as mpl
import mistune
import numpy as np
import pandas as pd
import pytest
from matplotlib.text import Text
from mistune.plugins.table import table
from PIL import Image

from rbcnb import plotting
from rbcnb.labels import agreement_table
from rbcnb.labels.agreement import compared_readers
from rbcnb.labels.assign import count_classes
from rbcnb.labels.consensus import current_labels
from rbcnb.labels.data_card import data_card_text, source_text
from rbcnb.labels.import_export import export_labels, import_labels
from rbcnb.labels.readings import append_readings, load_readings
from rbcnb.plotting.evaluation import plot_reliability, plot_roc
from rbcnb.plotting.labels import plot_agreement, plot_disagreement, plot_duplicates, plot_overlap, plot_suspects
from rbcnb.plotting.style import png
from rbcnb.workflow.model_page import write_model_page
from rbcnb.workflow.report import write_report
from rbcnb.workflow.run import Run

BAD = "<img src=x onerror=alert(1)>|$x$"
SMEAR = "<script>alert(1)<script>&\"'.png"  # no / can be in a file's name
READER = "<b onclick=alert(1)>Ann`|$"
CLASSES = (BAD, "a$b$c", "normal")


@pytest.fixture
def readings(tmp_path) -> pd.DataFrame:
    """Two readers' words of twelve cells in two smears."""
    smears = [SMEAR] * 6 + ["b.png"] * 6
    cells = pd.DataFrame({"smear": smears, "cell": [*range(6)] * 2, "x_px": 60.0, "y_px": 50.0, "radius_px": 8.0})
    cells["x_px"] += 40.0 * cells["cell"]
    for i, reader in enumerate((READER, "Bo")):
        labels = [CLASSES[(n + i * (n > 9)) % 3] for n in range(12)]
        append_readings(tmp_path / "readings.csv", cells.assign(label=labels, reader=reader, comment=f"{BAD}\n{i}"))
    return load_readings(tmp_path / "readings.csv")


def predictions(labels: pd.Series) -> pd.DataFrame:
    """Half of *labels* called otherwise, each surely."""
    probs = np.full((len(labels), 3), 0.1)
    called = [CLASSES.index(name) if n % 2 else (CLASSES.index(name) + 1) % 3 for n, name in enumerate(labels)]
    probs[np.arange(len(labels)), called] = 0.8
    table = pd.DataFrame(probs, columns=[f"prob_{name}" for name in CLASSES])
    return table.assign(target=labels.to_numpy(), pred=[CLASSES[n] for n in called])


class Tags(HTMLParser):
    """Tags and attributes of a page, and its text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags, self.text = [], ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


def assert_harmless(path: Path, *names: str) -> None:
    """No name has become a tag or an attribute, and each is there to be read; in a browser nothing runs."""
    page = Tags(path.read_text(encoding="utf-8"))
    assert {tag for tag, _ in page.tags}.isdisjoint({"script", "b onclick", "iframe", "object"})
    for tag, attributes in page.tags:
        assert not any(name.startswith("on") for name in attributes), (tag, attributes)
        assert attributes.get("src", "data:").startswith("data:"), attributes
        assert not attributes.get("href", "").lower().startswith(("javascript:", "data:", "http", "/")), attributes
    for name in names:
        assert name in page.text
    if browser.missing():
        return
    with browser.chromium_page() as (tab, strangers):
        ran = []
        tab.on("dialog", lambda dialog: (ran.append(dialog.message), dialog.dismiss()))
        tab.goto(path.as_uri())
        tab.evaluate("document.querySelectorAll('details').forEach((part) => (part.open = true))")
        for name in names:
            assert name in tab.locator("body").inner_text()
        assert (ran, strangers) == ([], [])


def test_the_report_shows_names_as_they_are_and_links_to_files_of_the_run_alone(tmp_path, readings):
    run = Run.at(tmp_path / "<i>run", seed=0)
    view = current_labels(readings)
    run.save_table(view.drop(columns="time", errors="ignore"), "labels_that_stand")
    run.save_table(count_classes(view).reset_index(), "<b id=x>counts & '\"")
    run.save_figure(plotting.plot_class_counts(pd.DataFrame({"all": [3, 4]}, index=CLASSES[:2])), "<u onclick=x> fig")
    inside = run.folder / "notebooks" / "a <b> #1?.ipynb"
    inside.parent.mkdir()
    inside.write_text("{}")
    (tmp_path / "secret.ipynb").write_text("{}")
    (run.folder / "leads_out.ipynb").symlink_to(tmp_path / "secret.ipynb")
    files = {
        "inside": "notebooks/a <b> #1?.ipynb",
        "<s>script": "javascript:alert(1)",
        "above": "../secret.ipynb",
        "absolute": str(tmp_path / "secret.ipynb"),
        "whole": str(inside),
        "link": "leads_out.ipynb",
        "missing": "notebooks/none.ipynb",
        "other host": "//evil.example/x",
        "folder": ".",
        "nul": "a\0b",
    }
    record = {name: {"seconds": 1.0, "file": file} for name, file in files.items()}
    run.save_record({"parameters": {name: {} for name in files}, "notebooks": record, "profile": BAD})
    path = write_report(run)
    assert_harmless(path, BAD, SMEAR, "a$b$c", "<s>script", "<b id=x>counts & '\"", "<u onclick=x> fig")
    links = [attributes["href"] for tag, attributes in Tags(path.read_text()).tags if tag == "a"]
    files = [link for link in links if not link.startswith("#")]
    assert files[-1] == "notebooks/a%20%3Cb%3E%20%231%3F.ipynb"
    assert all((run.folder / unquote(file)).resolve().is_relative_to(run.folder.resolve()) for file in files)
    assert all((run.folder / unquote(file)).is_file() for file in files)
    anchors = {attributes.get("id") for _, attributes in Tags(path.read_text()).tags}
    assert {unquote(link[1:]) for link in links if link.startswith("#")} <= anchors
    assert "Content-Security-Policy" in path.read_text()


def test_the_models_page_shows_names_as_they_are(tmp_path, readings):
    folder = tmp_path / "cells; rm -rf $HOME"
    folder.mkdir()
    cells = current_labels(readings, reader=READER).query("kind == 'label'").reset_index(drop=True)
    judged = cells[["smear", "cell"]].assign(group=cells["smear"]).join(predictions(cells["label"]))
    crops = np.zeros((len(cells), 8, 8, 3), np.uint8)
    words = {"verdict": f"good for {BAD}", "notes": [f"{SMEAR} by {READER}"]}
    path = write_model_page(
        folder, judged, {name: f"not {name}" for name in CLASSES}, crops=crops, cells=cells, **words
    )
    assert_harmless(path, BAD, SMEAR, READER, "a$b$c")
    assert f"rbcnb label '{folder}' --reader" in html.unescape(path.read_text())


def test_the_data_card_shows_names_as_they_are(tmp_path, readings):
    cells = current_labels(readings, reader=READER)
    cells = cells.assign(border=False, group=cells["smear"])
    compared = compared_readers(readings, cells, cells, error=0.1, seed=0)
    folder = tmp_path / "a`<i>|$b"
    folder.mkdir()
    (folder / "LICENSE").write_text(f"{BAD}\n# licence")
    card = data_card_text(
        title=f"Data card of the run {BAD}", source=source_text(str(folder)), cells=cells, truth=cells, drawn=cells,
        smears=pd.DataFrame({"smear": [SMEAR, "b.png"], "group": [SMEAR, "b.png"]}), readings=readings,
        compared=compared, agreement=agreement_table(compared.ratings, compared.smears),
    )  # fmt: skip
    assert "$" not in card  # a formula to JupyterLab and GitHub
    page = mistune.create_markdown(escape=False, plugins=[table])(card)
    shown = tmp_path / "card.html"
    shown.write_text(page, encoding="utf-8")
    assert_harmless(shown, BAD, SMEAR, READER, "a$b$c", folder.name)
    assert {tag for tag, _ in Tags(page).tags} <= {"h1", "h2", "p", "table", "thead", "tbody", "tr", "th", "td", "code"}
    bodies = re.findall("<tbody>(.*?)</tbody>", page, re.DOTALL)
    widths = [{row.count("<td") for row in body.split("<tr>")[1:]} for body in bodies]
    assert all(len(width) == 1 for width in widths), widths  # no name has made a column


def test_files_for_other_programs_come_back_with_the_same_names(tmp_path, readings):
    (tmp_path / "smears").mkdir()
    for name in (SMEAR, "b.png"):
        Image.new("RGB", (400, 100)).save(tmp_path / "smears" / name)
    before = current_labels(readings, reader=READER).query("kind == 'label'")
    for out in ("labels.csv", "coco.json", "cvat.xml", "voc", "labelme", "yolo"):
        layout = out if "." not in out else None
        export_labels(tmp_path, tmp_path / out, reader=READER, layout=layout, smears=tmp_path / "smears")
        table = tmp_path / f"back_{out.partition('.')[0]}" / "readings.csv"
        table.parent.mkdir()
        import_labels(tmp_path / out, table, reader="back", smears=tmp_path / "smears")
        after = current_labels(load_readings(table))
        named = [set(zip(rows["smear"], rows["x_px"].round(1), rows["label"], strict=True)) for rows in (before, after)]
        assert named[0] == named[1], out


NAMES = [BAD, "a$b$c", "$", r"$\frac{$", "_x_", "x^2_i", r"\alpha", "normal"]


def figures():
    n = len(NAMES)
    crops, counts = np.zeros((n, 8, 8, 3), np.uint8), pd.DataFrame(np.eye(n), NAMES, NAMES)
    counts = counts.rename_axis(index=READER, columns="$Bo")
    table = pd.DataFrame(np.full((n, n), 1 / n) + np.eye(n) / 9, columns=[f"prob_{name}" for name in NAMES])
    table = table.assign(target=NAMES, pred=NAMES[::-1], smear=SMEAR, cell=range(n))
    agreement = pd.DataFrame({"statistic": NAMES, "value": 0.5, "low": 0.1, "high": 0.9, "n_cells": 9, "n_smears": 2})
    issues = pd.DataFrame({"label": NAMES, "suggested": NAMES[::-1], "doubt": 0.5})
    pairs = pd.DataFrame({"first": 0, "second": 1, "smear": NAMES, "cell": 1, "other_smear": SMEAR, "other_cell": 2})
    return {
        "examples": lambda: plotting.plot_class_examples(crops, NAMES, per_class=1, seed=0),
        "confusion": lambda: plotting.plot_confusion({BAD: counts, "$": counts}),
        "roc": lambda: plot_roc({name: [table] for name in NAMES[:3]}),
        "reliability": lambda: plot_reliability({BAD: [table], "$": [table]}, of_class="a$b$c"),
        "counts": lambda: plotting.plot_class_counts(pd.DataFrame({"$": range(n), BAD: range(n)}, index=NAMES)),
        "contact": lambda: plotting.plot_contact_sheet(crops, NAMES, columns=3),
        "smears": lambda: plotting.plot_smears(list(crops[:2]), [SMEAR, "$"]),
        "disagreement": lambda: plot_disagreement(counts),
        "agreement": lambda: plot_agreement(agreement),
        "suspects": lambda: plot_suspects(crops, issues),
        "overlap": lambda: plot_overlap(counts),
        "duplicates": lambda: plot_duplicates(crops, pairs.assign(distance=0.5, hash_bits=1)),
    }


@pytest.mark.parametrize("name", figures())
@pytest.mark.parametrize("usetex", [False, True])
def test_figures_draw_every_name_and_typeset_none(name, usetex):
    with mpl.rc_context({"text.usetex": usetex}):  # what a person's own settings say
        figure = figures()[name]()
        assert png(figure).startswith(b"\x89PNG")
    texts = [text for text in figure.findobj(Text) if text.get_text()]
    assert any("$" in text.get_text() for text in texts)
    assert not any(text.get_parse_math() or text.get_usetex() for text in texts)
    assert not any("mathdefault" in text.get_text() for text in texts)
