"""What is simulated says so in table, picture, manifest and report; what is not carries no word of it."""

import ast
import html
import json
from dataclasses import replace

import nbformat
import numpy as np
import pandas as pd
import pytest
from marks import HEADING_PX, has_heading, marks_of
from matplotlib.figure import Figure
from PIL import Image

from rbcnb.columns import READERS
from rbcnb.plotting.cells import plot_contact_sheet
from rbcnb.plotting.comparisons import plot_class_counts
from rbcnb.plotting.lesson import loss_terms
from rbcnb.workflow.notebooks import notebooks_folder
from rbcnb.workflow.report import simulated_notices, write_report
from rbcnb.workflow.run import Run

TABLE = pd.DataFrame({"protocol": ["published", "honest"], "macro_f1": [0.9, 0.8]})
# What brings simulated readers, or labels as such a reader would give them, into notebook 02.
SOURCES = {"compared_readers", "plant_dev_errors", "simulated_labels"}


def note_source(run: Run, source: str) -> None:
    """Has the run's record say where its smears come from, as notebook 01 does."""
    run.save_record({"parameters": {"01_segmentation": {"smears": source}}})


def made(folder, source: str) -> Run:
    """A run on *source* with tables and figures of each kind, and its report."""
    run = Run.at(folder, seed=0)
    note_source(run, source)
    run.save_csv(pd.DataFrame({"smear": ["a"]}), "cells")
    run.save_table(pd.DataFrame({"claim": ["a"], "verdict": ["inconclusive"]}), "verdict")
    run.save_table(TABLE, "table1")
    run.save_table(TABLE, "recomputation")
    run.save_table(TABLE.head(0), "skipped")
    run.save_table(TABLE.drop(columns="protocol"), "agreement", simulated=READERS)
    for name in ("fig01", "fig13", "toy_losses"):
        run.save_figure(loss_terms(), name)
    run.save_figure(loss_terms(), "disagreement", simulated=READERS)
    write_report(run)
    return run


def test_every_place_says_what_is_simulated(tmp_path):
    run = made(tmp_path / "run", "synthetic")
    assert marks_of(run.folder) == {
        **dict.fromkeys(("verdict", "table1", "skipped", "fig13"), "smears"),
        **dict.fromkeys(("agreement", "disagreement"), "readers and smears"),
        **dict.fromkeys(("recomputation", "fig01"), ""),
        "toy_losses": "toy cells",
    }
    page = html.unescape((run.folder / "report.html").read_text())
    of_smears, of_readers = simulated_notices(run)
    assert page.count(of_smears) == page.count(of_readers) == 1
    assert page.index("<h1>") < page.index(of_smears) < page.index(of_readers) < page.index("<h2")
    assert of_readers.endswith("these show labels that no person gave: agreement, disagreement.")
    assert run.provenance().endswith("seed 0, SIMULATED smears")
    assert run.load_manifest()["cells.csv"]["simulated"] == "smears"
    assert list(run.load_csv("cells")) == ["smear"]  # what a run works with stays as it is


@pytest.mark.parametrize("source", ["chula", "/somewhere/smears"])
def test_real_smears_with_simulated_readers_are_not_called_rendered(tmp_path, source):
    run = made(tmp_path / "run", source)
    marks = {name: words for name, words in marks_of(run.folder).items() if words}
    assert marks == {"agreement": "readers", "disagreement": "readers", "toy_losses": "toy cells"}
    assert run.notice() == ""
    assert [text.split(":")[0] for text in simulated_notices(run)] == ["SIMULATED readers"]


def test_where_nothing_is_simulated_no_byte_is_added(tmp_path):
    run = Run.at(tmp_path / "run", seed=0)
    assert run.save_table(TABLE, "table1") is TABLE
    assert (run.folder / "tables/table1.csv").read_text() == TABLE.to_csv(index=False)
    run.save_figure(loss_terms(), "fig13")
    assert "simulated" not in (run.folder / "manifest.json").read_text()
    assert "simulated" not in write_report(run).read_text().split("</style>")[1].lower()


def heading_of(figure, folder) -> tuple[np.ndarray, np.ndarray]:
    """The strip above *figure*, and what lies under it, as a run on rendered smears saves it."""
    run = Run.at(folder)
    note_source(run, "synthetic")
    run.save_figure(figure, "x")
    assert has_heading(run.folder / "figures/x.png")
    with Image.open(run.folder / "figures/x.png") as image:
        pixels = np.asarray(image.convert("RGB"))
    return pixels[:HEADING_PX], pixels[HEADING_PX:]


def laid_out() -> Figure:
    """A figure that is not laid out again whenever it is drawn, which moves lines by parts of a pixel."""
    figure = plot_class_counts(pd.Series({"codocyte": 20, "normal": 80}))
    figure.draw_without_rendering()
    figure.set_layout_engine("none")
    return figure


@pytest.mark.parametrize("draw", [laid_out, loss_terms])
def test_a_heading_moves_no_pixel_of_the_figure(draw, tmp_path):
    Run.at(tmp_path / "bare").save_figure(draw(), "x")
    with Image.open(tmp_path / "bare/figures/x.png") as image:
        bare = np.asarray(image.convert("RGB"))
    _, below = heading_of(draw(), tmp_path / "run")
    np.testing.assert_array_equal(below, bare)


def test_a_heading_is_whole_over_a_narrow_picture(tmp_path):
    strip, below = heading_of(plot_contact_sheet(np.zeros((1, 8, 8, 3), np.uint8)), tmp_path / "run")
    inked = (strip < 255).any(axis=(0, 2))
    assert not inked[-5:].any()
    wide, _ = heading_of(loss_terms(), tmp_path / "wide")
    assert inked.sum() == (wide < 255).any(axis=(0, 2)).sum()
    assert (below == 0).any()


def test_a_figure_is_shown_as_it_is_saved(tmp_path):
    run = Run.at(tmp_path)
    note_source(run, "synthetic")
    figure = run.save_figure(plot_class_counts(pd.Series({"codocyte": 20, "normal": 80})), "fig13")
    (tmp_path / "shown.png").write_bytes(figure._repr_png_())
    assert has_heading(tmp_path / "shown.png")


def test_an_explorer_says_in_its_page_what_its_picture_says(tmp_path):
    run = Run.at(tmp_path)
    drawn = loss_terms()
    assert run.save_figure(drawn, "x") is drawn
    assert not has_heading(run.folder / "figures/x.png")
    note_source(run, "synthetic")
    assert run.save_figure(drawn, "fig01") is drawn  # no smear has a part in it
    shown = run.save_figure(drawn, "x", simulated=READERS)
    assert shown == replace(drawn, heading="SIMULATED: readers and smears")
    assert has_heading(run.folder / "figures/x.png")
    assert json.dumps({"heading": shown.heading})[1:-1] in shown.html()


def names_in(node: ast.AST) -> set[str]:
    return {
        n.id if isinstance(n, ast.Name) else n.attr for n in ast.walk(node) if isinstance(n, ast.Name | ast.Attribute)
    }


def saved_without_a_word(source: str) -> list[str]:
    """Names of files that *source* saves from something that simulated readers have a part in, without saying so."""
    tree = ast.parse(source)
    assigned = [node for node in ast.walk(tree) if isinstance(node, ast.Assign)]
    theirs, before = set(SOURCES), set()
    while theirs != before:
        before = set(theirs)
        for node in assigned:
            if names_in(node.value) & theirs:
                theirs |= {name for target in node.targets for name in names_in(target)}
    return [
        call.args[-1].value
        for call in ast.walk(tree)
        if isinstance(call, ast.Call)
        and isinstance(call.func, ast.Attribute)
        and call.func.attr.startswith("save_")
        and set().union(*map(names_in, call.args)) & theirs
        and "simulated" not in {keyword.arg for keyword in call.keywords}
    ]


def test_notebook_02_saves_nothing_of_simulated_readers_without_saying_so():
    notebook = nbformat.read(notebooks_folder() / "02_labelling_audit.ipynb", as_version=4)
    source = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "code")
    assert saved_without_a_word(source) == ["relabel_queue"]  # blinded: names of cells, no more
    for word in ("compared.simulated", "planted", "invented"):
        assert f"simulated={word}" in source
    forgotten = source.replace(', "second_look", simulated=invented', ', "second_look"')
    assert saved_without_a_word(forgotten) == ["relabel_queue", "second_look"]
