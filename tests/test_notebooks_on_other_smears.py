"""Notebooks on images that are not rendered for them, and what is said where one fails."""

import json
import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from marks import marks_of
from PIL import Image
from tiny_run import FIGURES, reproduce

from rbcnb.labels.readings import append_readings
from rbcnb.smears.sources import synthetic_smears

pytestmark = pytest.mark.slow


def test_a_failing_notebook_is_named_with_cell_and_error(tmp_path):
    done = reproduce(tmp_path / "run", "--only", "02")
    assert done.returncode == 1
    assert "02_labelling_audit, cell" in done.stderr
    assert "run notebook 01_segmentation first" in done.stderr
    assert (tmp_path / "run" / "notebooks" / "02_labelling_audit.ipynb").exists()
    assert (tmp_path / "run" / "report.html").exists()


@pytest.fixture
def smears(tmp_path):
    """A folder with six labelled images, one without a cell and one that is torn."""
    folder = tmp_path / "smears"
    folder.mkdir()
    truths = []
    for smear in synthetic_smears(6, seed=1, n_cells=30):
        Image.fromarray(smear.image).save(folder / smear.name)
        truths.append(smear.truth[["x_px", "y_px", "label"]].assign(smear=smear.name))
    pd.concat(truths).to_csv(folder / "labels.csv", index=False)
    (folder / "torn.png").write_bytes(b"\x89PNG\r\n\x1a\n then nothing")
    Image.fromarray(np.full((60, 60, 3), 215, np.uint8)).save(folder / "00_blank.png")
    return folder


@pytest.mark.heavy
def test_a_folder_of_ones_own_smears_is_trained_on_by_smear(smears, tmp_path):
    folder = ["--smears", str(smears), "--protocol", "honest"]
    done = reproduce(tmp_path / "run", *folder, "--only", "01,02,04,05")
    assert done.returncode == 1  # done, but something was left out
    assert ", cell " not in done.stderr  # where an error would be
    assert set(pd.read_csv(tmp_path / "run" / "tables" / "table1.csv")["protocol"]) == {"published", "honest"}
    assert reproduce(tmp_path / "run", *folder, "--only", "01,02,04").stderr.count("done already") == 3


def test_a_folder_of_ones_own_smears_with_one_bad_file(smears, tmp_path):
    folder, once = smears, ["--smears", str(smears), "--protocol", "honest"]
    done = reproduce(tmp_path / "run", *once, "--only", "01,02")
    assert done.returncode == 1  # done, but something was left out
    assert "torn.png" in done.stderr
    assert ", cell " not in done.stderr  # where an error would be
    labelled = pd.read_csv(tmp_path / "run" / "labelled.csv")
    assert labelled["smear"].nunique() == 6
    assert set(labelled["label"]) == {"codocyte", "hypochromia", "normal"}
    again = reproduce(tmp_path / "run", *once, "--only", "01,02")
    assert again.returncode == 1  # what was left out stays so
    assert again.stderr.count("done already") == 2
    run = tmp_path / "run"
    of_readers = {name for name, words in marks_of(run).items() if words}
    assert {words for words in marks_of(run).values() if words} == {"readers"}  # nobody has read these cells
    assert of_readers == {"agreement", "disagreement", "second_look"}
    read = pd.read_csv(run / "labelled.csv").head(12)[["smear", "cell", "x_px", "y_px", "radius_px", "label"]]
    for reader in ("anna", "bo"):
        append_readings(run / "readings.csv", read.assign(reader=reader))
    queue = pd.read_csv(run / "relabel_queue.csv").merge(pd.read_csv(run / "labelled.csv"))
    append_readings(run / "second_look.csv", queue[[*read]].assign(reader="cy"))
    assert reproduce(run, *once, "--only", "02").returncode == 1
    assert set(marks_of(run).values()) == {""}
    executed = json.loads((run / "notebooks" / "02_labelling_audit.ipynb").read_text())
    outputs = [cell.get("outputs", "") for cell in executed["cells"]]
    texts = [json.dumps(outputs), *((run / name).read_text() for name in ("data_card.md", "manifest.json"))]
    texts.append((run / "report.html").read_text().split("</style>")[1])
    assert "the readers anna and bo" in texts[1]
    for text in texts:
        assert "simulated" not in text.lower()
    (folder / "torn.png").unlink()
    (folder / "labels.csv").unlink()
    bare = reproduce(tmp_path / "bare", "--smears", str(folder))
    assert bare.returncode == 2
    assert "no smear has labelled cells to train on; put a labels.csv" in bare.stderr
    assert reproduce(tmp_path / "bare", "--smears", str(folder), "--only", "01").returncode == 0
    assert len(pd.read_csv(tmp_path / "bare" / "cells.csv")) > 100


def on_real_smears(out: Path, notebooks: str) -> None:
    """Runs *notebooks* on Chula's first 32 images; most labelled cells must be found."""
    real = ["--smears", "chula", "--data", os.environ["RBCNB_CHULA"], "--set", "max_smears=32"]
    real += ["--types", "codocyte,hypochromia,normal"]
    done = reproduce(out, *real, "--only", notebooks)
    assert done.returncode == 0, done.stderr[-3000:]
    detection = pd.read_csv(out / "tables" / "detection.csv")
    assert detection["n_hits"].sum() / detection["n_truth"].sum() > 0.9


with_chula = pytest.mark.skipif(
    "RBCNB_CHULA" not in os.environ, reason="set RBCNB_CHULA to a folder with Chula RBC-12 to run it"
)


@with_chula
def test_real_smears_are_segmented_and_labelled(tmp_path):
    on_real_smears(tmp_path / "run", "01,02")
    labelled = pd.read_csv(tmp_path / "run" / "labelled.csv")
    assert labelled["label"].value_counts().loc[["codocyte", "hypochromia", "normal"]].min() > 10


@pytest.mark.heavy
@with_chula
def test_all_figures_are_drawn_from_real_smears(tmp_path):
    on_real_smears(tmp_path / "run", "01,02,04,05,06")
    of_the_lesson = {"fig01.png"}
    assert {path.name for path in (tmp_path / "run" / "figures").iterdir()} >= FIGURES - of_the_lesson
