"""The whole path, small: every notebook on tiny smears, resumed after a kill, and read by people."""

import html
import json
import os
import re
import shutil
import signal
import subprocess
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import psutil
import pytest
from browser import chromium_page, missing, walk_slides
from marks import marks_of
from PIL import Image
from tiny_run import FIGURES, command, reproduce

from rbcnb.cli import main
from rbcnb.counting.class_doubts import class_doubts
from rbcnb.counting.model_file import load_model, save_model
from rbcnb.labels.readings import append_readings
from rbcnb.smears.sources import synthetic_smears
from rbcnb.workflow.publish import publish_run
from rbcnb.workflow.run import Run
from rbcnb.workflow.verify import verify_run

pytestmark = pytest.mark.slow
# Tables and figures of a run on rendered smears that have no simulated reader in them, no smear, or neither.
NOTHING_SIMULATED = {"fig01", "fig02", "fig03", "fig04", "winners_curse", "recomputation", "loss_shares"}
OF_A_TOY = {"alpha_lecture", "noise_training", "toy_losses"}
OF_READERS = {"agreement", "disagreement", "second_look", "suspects", "class_overlap", "to_read_again"}


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    """A run on two workers that was killed in the middle of tuning, and started again without them."""
    out = tmp_path_factory.mktemp("reproduce") / "run"
    process = subprocess.Popen(
        command(out, "--jobs", "2"), stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL, start_new_session=True
    )
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline and process.poll() is None and len(list(out.glob("trials/*.json"))) < 3:
        time.sleep(0.05)
    assert process.poll() is None, "the run ended before it could be killed"
    offspring = psutil.Process(process.pid).children(recursive=True)
    assert len(offspring) >= 3  # a kernel and two workers at least
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    _, alive = psutil.wait_procs(offspring, timeout=20)
    assert not alive, "what a killed run had started goes on without it"
    kept = {path: path.stat().st_mtime_ns for path in out.glob("trials/*.json")}
    assert len(kept) >= 3
    done = reproduce(out)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "01_segmentation: done already" in done.stderr
    assert "04_cv_tuning: done already" not in done.stderr
    assert all(path.stat().st_mtime_ns == when for path, when in kept.items())
    return out


def test_a_killed_run_carries_on_to_everything_promised(finished):
    assert {path.name for path in (finished / "figures").iterdir()} >= FIGURES
    for name in ("table1", "table2", "table3", "verdict"):
        assert len(pd.read_csv(finished / "tables" / f"{name}.csv"))
    notebooks = sorted((finished / "notebooks").glob("*.ipynb"))
    assert len(notebooks) == 6
    for path in notebooks:
        cells = json.loads(path.read_text())["cells"]
        assert all(cell["execution_count"] for cell in cells if cell["cell_type"] == "code" and cell["source"])
    record = json.loads((finished / "run.json").read_text())
    assert {"parameters", "seeds", "versions", "data_hash"} <= set(record)
    assert all(entry["seconds"] > 0 for entry in record["notebooks"].values())
    page = (finished / "report.html").read_text()
    assert page.count("data:image/webp;base64,") >= 13
    for table in (finished / "tables").glob("table*.csv"):
        assert f"tables/{table.name}" in page


def test_as_pages_its_notebooks_show_pictures_in_place_of_widgets(finished):
    """Without a kernel, and without code from elsewhere that draws widgets."""
    exporter = pytest.importorskip("nbconvert").HTMLExporter()
    pages = {path.stem[:2]: exporter.from_filename(path)[0] for path in (finished / "notebooks").glob("*.ipynb")}
    for page in pages.values():
        assert "Box(children" not in page
        assert "html-manager" not in page
        assert " trials done, " not in page  # a progress bar as it stood when it began
        assert "No description has been provided for this image" not in page
    for number, words in {
        "01": r"learned: \d+ cells\. found \(\d+\): blue ring",
        "02": "A labeller, reader ",
    }.items():
        assert re.search(f'<img alt=["\']{words}[^>]*src="data:image/', pages[number])
    assert re.search('class="rbcnb-explorer"[^>]*><img alt="Left: scores of one run', pages["05"])


@pytest.mark.heavy
@pytest.mark.skipif(bool(missing()), reason=f"needs {missing()}")
def test_as_slides_its_notebooks_show_all_they_hold(finished, tmp_path):
    from rbcnb.workflow.slides import Slides

    faults, n_charts = {}, 0
    with chromium_page(width_px=1280, height_px=720) as (page, strangers):
        for path in sorted((finished / "notebooks").glob("*.ipynb")):
            file = tmp_path / f"{path.stem}.html"
            file.write_text(Slides().from_filename(path)[0], encoding="utf-8")
            page.goto(file.as_uri())
            for slide in walk_slides(page):
                n_charts += len(slide["charts"])
                if slide["faults"]:
                    faults[f"{path.stem}: {slide['title']}"] = slide["faults"]
    assert not faults
    assert not strangers
    assert n_charts >= 20


def test_a_second_run_trains_nothing_and_runs_nothing(finished):
    before = {path: path.stat().st_mtime_ns for path in finished.rglob("*.ipynb")}
    trials = {path: path.stat().st_mtime_ns for path in finished.glob("trials/*")}
    done = reproduce(finished)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stderr.count("done already") == 6
    assert before == {path: path.stat().st_mtime_ns for path in finished.rglob("*.ipynb")}
    assert trials == {path: path.stat().st_mtime_ns for path in finished.glob("trials/*")}


def test_its_tables_follow_from_what_it_stored(finished):
    report = verify_run(finished)
    assert report.same, "\n".join(report.lines)
    assert {"choices", "table1", "table2", "table3", "differences", "mistakes", "verdict"} <= set(report.tables)


def test_what_is_simulated_says_so_wherever_it_is_shown(finished, tmp_path):
    marks = marks_of(finished)
    of_no_smear = {name for name, words in marks.items() if words in ("", "toy cells")}
    assert of_no_smear == NOTHING_SIMULATED | OF_A_TOY
    assert {name for name, words in marks.items() if words == ""} == NOTHING_SIMULATED
    assert {name for name, words in marks.items() if "readers" in words} == OF_READERS
    assert {words for name, words in marks.items() if name not in of_no_smear} == {"smears", "readers and smears"}
    manifest = json.loads((finished / "manifest.json").read_text())
    bare = {name for name, entry in manifest.items() if "simulated" not in entry}
    assert {name for name in bare if "/" not in name} == {"finder.json", "manifest.json", "test_openings.csv"}
    assert pd.read_csv(finished / "label_issues.csv")["simulated"].unique() == ["readers and smears"]
    page = html.unescape((finished / "report.html").read_text())
    notice = Run.at(finished).notice()
    assert 0 < page.index(notice) < page.index("<p class=answer>")
    heads = [line for line in (finished / "data_card.md").read_text().splitlines() if line.startswith("#")]
    assert len(heads) > 6
    assert all("SIMULATED" in head for head in heads)
    assert "## Agreement (SIMULATED: readers and smears)" in heads
    for path in (finished / "notebooks").glob("*.ipynb"):
        printed = json.loads(path.read_text())["cells"]
        shown = "".join(json.dumps(cell.get("outputs", "")) for cell in printed)
        assert (notice in shown) == (path.stem != "03_loss_exploration")  # which has no smear
    out = publish_run(finished, tmp_path / "out")
    readme = (out / "README.md").read_text()
    assert readme.index(notice) < readme.index("| claim of the paper | verdict of this run | simulated |")
    assert readme.count(" | smears |") == len(pd.read_csv(out / "tables" / "verdict.csv"))
    assert "How far readers agree (SIMULATED: readers and smears)" in readme
    assert "labels that no person gave: agreement, second look." in readme  # and of no file that is not published
    published = verify_run(out)
    assert published.same, "\n".join(published.lines)


def test_its_model_counts_new_smears(finished, tmp_path, capsys):
    (tmp_path / "smears").mkdir()
    for smear in synthetic_smears(2, seed=9, n_cells=30):
        Image.fromarray(smear.image).save(tmp_path / "smears" / smear.name)

    def count(model: Path, out: str) -> int:
        return main(["count", str(tmp_path / "smears"), "--out", str(tmp_path / out), "--model", str(model)])

    model = load_model(finished / "model.safetensors")  # of one epoch: what it can tell differs by machine
    can_tell = not all(class_doubts(model.card.confusion, model.card.classes).values())
    assert count(finished / "model.safetensors", "as it is") == (0 if can_tell else 2)
    n_codocytes, n_hypochromia, n_normal = 5, 20, 60  # whole cells called, of which fewer than ten are too few
    calls = [[*np.diag([n_codocytes, n_hypochromia, n_normal]).tolist(), [0, 0, 0]]]
    judged = save_model(model.network, replace(model.card, confusion=calls), tmp_path / "judged.safetensors")
    assert count(judged, "judged") == 0
    table = pd.read_csv(tmp_path / "judged" / "differential.csv").set_index("class")
    assert table.loc["codocyte", "doubt"].str.startswith("cannot be told: ").all()
    assert table.loc["codocyte", "adjusted"].isna().all()
    unjudged = save_model(model.network, replace(model.card, confusion=[]), tmp_path / "unjudged.safetensors")
    capsys.readouterr()
    assert count(unjudged, "out") == 0
    assert "cells counted in 2 smears" in capsys.readouterr().out
    assert len(pd.read_csv(tmp_path / "out" / "differential.csv")) == 3 * 4


def test_no_cell_of_one_smear_is_on_both_honest_sides(finished):
    split = pd.read_csv(finished / "splits_honest.csv")
    assert (split.groupby("smear")["split"].agg(lambda sides: len(set(sides))) == 1).all()


def test_what_readers_say_of_a_run_is_taken_in(finished, tmp_path):
    out = shutil.copytree(finished, tmp_path / "run")
    before = pd.read_csv(out / "labelled.csv")
    assert "Nobody has read cells" in (out / "data_card.md").read_text()
    read = before[before["label"] == "normal"].head(12)[["smear", "cell", "x_px", "y_px", "radius_px"]]
    append_readings(out / "readings.csv", read.assign(label="codocyte", reader="anna"))
    append_readings(out / "readings.csv", read.head(5).assign(label="codocyte", reader="bo"))
    append_readings(out / "readings.csv", read.tail(3).assign(label="hypochromia", reader="bo"))
    again = pd.read_csv(out / "relabel_queue.csv")
    assert list(again) == ["smear", "cell"]  # blinded
    again = before.drop(columns="label").merge(again[~again["cell"].isin(read["cell"])]).head(6)[list(read)]
    append_readings(out / "second_look.csv", again.assign(label="normal", reader="cy"))
    second = reproduce(out, "--only", "01,02")
    assert second.returncode == 0, second.stderr[-3000:]
    assert "01_segmentation: done already" in second.stderr
    assert "02_labelling_audit: done already" not in second.stderr
    key = ["smear", "cell"]
    after = read[key].merge(pd.read_csv(out / "labelled.csv"), on=key, how="left")["label"]
    assert set(after.head(9).dropna()) == {"codocyte"}  # some are not drawn
    assert after.tail(3).isna().all()  # disputed
    executed = (out / "notebooks" / "02_labelling_audit.ipynb").read_text()
    assert "6 cells read in" in executed
    kept = before.merge(again[key])[[*key, "label"]].merge(pd.read_csv(out / "labelled.csv")[[*key, "label"]], on=key)
    assert len(kept)
    assert (kept["label_x"] == kept["label_y"]).all()  # a second look changes no label but for who trains on it
    card = (out / "data_card.md").read_text()
    assert "Of the readers anna and bo" in card
    assert "| agreement | 0.62 |" in card  # five of eight
    assert "3 disputed" in card
    looks = pd.read_csv(out / "test_openings.csv", keep_default_na=False)
    audits = looks.loc[looks["method"] == "label audit", "reason"]
    assert [bool(reason) for reason in audits] == [False, True]  # labels that were trained on had changed
