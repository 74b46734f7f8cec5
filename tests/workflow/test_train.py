"""From labelled cells to a model: what it is judged by, what it says of itself, and what it refuses."""

import html
import os
import shutil

import cv2
import numpy as np
import pandas as pd
import pytest

from rbcnb._utils.errors import InputError
from rbcnb.cli import main
from rbcnb.counting.class_doubts import class_doubts
from rbcnb.counting.model_file import load_model
from rbcnb.labels.assign import label_cells
from rbcnb.labels.consensus import added_cells
from rbcnb.labels.readings import Reading, append_readings
from rbcnb.segmentation.batch import segment_files
from rbcnb.segmentation.segment import FinderSpec
from rbcnb.smears import overlap
from rbcnb.smears.segmented import segmented_smears
from rbcnb.smears.sources import synthetic_smears
from rbcnb.workflow import train
from rbcnb.workflow.pages import folder_labeller
from rbcnb.workflow.train import train_model

SPEC = FinderSpec(upscale="none", diameter_px=40, size_px=32)


def silent(_):
    pass


def readings_of(folder, truth):
    """The found cells of *folder* as one reader would name them."""
    cells = pd.read_csv(folder / "cells.csv")
    named = label_cells(cells, truth).dropna(subset=["label"])
    return named[["smear", "cell", "x_px", "y_px", "radius_px", "label"]].assign(reader="anna")


@pytest.fixture(scope="module")
def labelled(tmp_path_factory):
    """Images of four smears of like stain, the quarters of a large one; three of them are segmented and labelled."""
    root = tmp_path_factory.mktemp("train")
    (root / "smears").mkdir()
    truths = []
    (whole,) = synthetic_smears(1, seed=5, n_cells=280)
    height, width = (side // 2 for side in whole.image.shape[:2])
    for number in range(4):
        y, x, name = number // 2 * height, number % 2 * width, f"synthetic_{number:02d}.png"
        cv2.imwrite(str(root / "smears" / name), whole.image[y : y + height, x : x + width, ::-1])
        there = whole.truth.assign(x_px=whole.truth.x_px - x, y_px=whole.truth.y_px - y, smear=name, group=name)
        truths.append(there[there.x_px.between(0, width) & there.y_px.between(0, height)])
    segment_files(sorted((root / "smears").iterdir())[:3], root / "cells", spec=SPEC)
    return root, pd.concat(truths, ignore_index=True)


@pytest.fixture
def folder(labelled, tmp_path, monkeypatch):
    """A copy of what was segmented, to be trained quickly."""
    monkeypatch.setattr(train, "_STEPS", 60)
    monkeypatch.setattr(train, "find_spec", lambda _: None)  # from random weights, which is quicker here
    return shutil.copytree(labelled[0] / "cells", tmp_path / "cells")


@pytest.mark.slow
def test_labelled_cells_become_a_model_that_counts(labelled, folder, tmp_path, capsys, monkeypatch):
    root, truth = labelled
    monkeypatch.setattr(train, "_STEPS", 400)
    readings = readings_of(folder, truth)
    append_readings(folder / "readings.csv", readings)
    append_readings(folder / "readings.csv", readings.head(1).assign(kind="skip", label="", reader="ben"))
    before = (folder / "readings.csv").read_bytes()

    assert main(["train", str(folder)]) == 0
    printed = capsys.readouterr()
    assert f"{len(readings)} labelled cells of 3 smears; lesson net from random weights, 4 fits" in printed.err
    model = folder / "model.safetensors"
    assert f"next: rbcnb count SMEARS --model {model} --out" in printed.out
    assert (folder / "readings.csv").read_bytes() == before
    assert "pip install 'rbcnb[pretrained]'" in printed.err
    first = load_model(model).digest
    with monkeypatch.context() as patch:  # the same again fits nothing
        patch.setattr("rbcnb.workflow.model_export._fit", None)
        assert main(["train", str(folder)]) == 0
    assert load_model(model).digest == first

    card = load_model(model).card
    assert card.classes == ("codocyte", "hypochromia", "normal")
    assert card.finder["diameter_px"] == 40
    whole = pd.read_csv(folder / "cells.csv").merge(readings[["smear", "cell", "label"]]).query("not border")
    assert np.sum(card.confusion) == len(whole)  # each whole cell was called once, by a network without its smear
    assert len(card.confusion) == 3
    support = {name: card.scores[f"support_{name}"] for name in card.classes}
    assert support == whole["label"].value_counts().to_dict()

    page = (folder / "model.html").read_text()
    mistakes = pd.read_csv(folder / "mistakes.csv")
    wrong = len(whole) - round(card.scores["accuracy"] * len(whole))
    assert len(mistakes) == wrong
    assert f"{wrong} of {len(whole)} cells called otherwise" in page
    assert f"--flagged {folder / 'mistakes.csv'}" in page
    assert "<img alt" in page
    normal = whole[whole["label"] == "normal"]
    found = len(normal) - (mistakes["target"] == "normal").sum()
    assert f"<td>normal</td><td>{len(normal)}</td><td>{found / len(normal):.0%} [" in page
    assert "://" not in page.replace("http://www.w3.org", "")

    out = tmp_path / "count"
    doubts_of = class_doubts(card.confusion, card.classes)  # they differ by machine
    can_tell = [name for name in card.classes if not doubts_of[name]]
    assert can_tell, doubts_of
    assert f"It can tell {', '.join(can_tell)}." in printed.out
    code = main(["count", str(root / "smears"), "--model", str(model), "--out", str(out)])
    table = pd.read_csv(out / "differential.csv", keep_default_na=False)
    assert {f"synthetic_{number:02d}.png" for number in range(4)} <= set(table["smear"])
    cells = table[table["class"] != "unsure"]
    doubts = cells["doubt"]
    assert doubts[~cells["class"].isin(can_tell)].str.startswith("cannot be told").all()
    assert code == doubts.ne("").all()


@pytest.mark.slow
def test_cells_of_one_smear_are_dealt_out_and_this_is_said(labelled, folder):
    smear_readings = readings_of(folder, labelled[1]).query("smear == 'synthetic_00.png'")
    append_readings(folder / "readings.csv", smear_readings)
    training = train_model(folder, say=silent)
    assert "All cells are of one smear: nobody knows how it does on another one" in training.verdict
    assert len(load_model(training.model).card.confusion) == 1
    assert "one smear gives no interval" in training.page.read_text()


@pytest.mark.slow
def test_fields_that_overlap_are_judged_as_one_smear(labelled, folder, tmp_path):
    smears = labelled[0] / "smears"
    image = cv2.imread(str(smears / "synthetic_00.png"))
    cv2.imwrite(str(tmp_path / "again.png"), np.roll(image, (9, 40), axis=(0, 1)))
    segment_files([tmp_path / "again.png"], folder, spec=SPEC)
    first = labelled[1].query("smear == 'synthetic_00.png'")
    moved = first.assign(x_px=first.x_px + 40, y_px=first.y_px + 9, smear="again.png", group="again.png")
    append_readings(folder / "readings.csv", readings_of(folder, pd.concat([first, moved])))
    training = train_model(folder, say=silent)
    assert "All images show cells of one smear: nobody knows how it does on another one" in training.verdict
    (note,) = [note for note in training.notes if "same cells" in note]
    assert "synthetic_00.png and again.png (9" in note
    assert html.escape(note) in training.page.read_text()

    append_readings(folder / "readings.csv", readings_of(folder, labelled[1].query("smear == 'synthetic_01.png'")))
    training = train_model(folder, say=silent)
    assert len(load_model(training.model).card.confusion) == 2  # not three
    assert "nobody knows" not in training.verdict

    (tmp_path / "again.png").unlink()
    training = train_model(folder, say=silent)
    assert "1 image is no longer there: whether it overlaps with others was not looked for" in training.notes


@pytest.mark.slow
def test_what_is_left_out_is_said(labelled, folder):
    readings = readings_of(folder, labelled[1])
    rare = readings.index[readings["label"] == "codocyte"]
    readings.loc[rare[1:], "label"] = "hypochromia"
    append_readings(folder / "readings.csv", readings)
    second = readings[readings["label"] == "normal"].head(2).assign(reader="ben", label="hypochromia")
    append_readings(folder / "readings.csv", second)  # a tie: no label stands
    training = train_model(folder, say=silent)
    assert "2 cells are left out: disputed" in training.notes
    assert "codocyte has 1 cell: too few to learn, left out; label more of it" in training.notes
    assert load_model(training.model).card.classes == ("hypochromia", "normal")
    page = training.page.read_text()
    assert all(html.escape(note) in page for note in training.notes)


@pytest.mark.slow
def test_cells_that_readers_added_or_struck_out_count_as_such(labelled, folder):
    readings = readings_of(folder, labelled[1])
    append_readings(folder / "readings.csv", readings)
    cells = pd.read_csv(folder / "cells.csv")
    last = cells.query("smear == 'synthetic_00.png'")["cell"].max()
    extra = readings.head(1).assign(kind="label", cell=last + 1, x_px=60.0, y_px=60.0, label="normal")
    struck = readings.tail(1).assign(kind="strike", label="")
    append_readings(folder / "readings.csv", pd.concat([extra, struck]))
    training = train_model(folder, say=silent)
    assert "1 cells are left out: strike" in training.notes
    card = load_model(training.model).card
    named = [*readings["label"].iloc[:-1], "normal"]
    border = [*cells.merge(readings[["smear", "cell"]].iloc[:-1])["border"], False]
    whole = pd.Series(named)[~np.array(border)]
    assert {name: card.scores[f"support_{name}"] for name in card.classes} == whole.value_counts().to_dict()


def test_more_images_than_are_compared_are_noted_once(folder, monkeypatch, recwarn):
    monkeypatch.setattr(train, "MOST_IMAGES", 2)
    monkeypatch.setattr(overlap, "MOST_IMAGES", 2)
    groups, notes = train._groups(folder, [f"synthetic_{number:02d}.png" for number in range(3)])
    assert len(set(groups.values())) == 3
    assert notes == ["there are more than 2 images: whether they overlap was not looked for"]
    assert not [warning for warning in recwarn if "overlap" in str(warning.message)]


def test_what_cannot_be_trained_is_refused_with_the_next_command(labelled, folder, capsys):
    assert main(["train", str(folder.parent)]) == 2
    assert "rbcnb segment IMAGES --out" in capsys.readouterr().err
    assert main(["train", str(folder)]) == 2
    assert f"no reading in it; label cells first: rbcnb label {folder}" in capsys.readouterr().err

    readings = readings_of(folder, labelled[1])
    append_readings(folder / "readings.csv", readings.assign(label="normal"))
    with (folder / "readings.csv").open("a") as file:
        file.write("synthetic_00.png,3,1")  # the line of a writer who was killed
    assert main(["train", str(folder)]) == 2
    assert f"rbcnb train: note: {folder / 'readings.csv'}: its last line is torn" in capsys.readouterr().err
    with pytest.raises(
        InputError, match=f"two classes of at least 2 cells are needed .* there are {len(readings)} normal"
    ):
        train_model(folder, say=silent)
    with pytest.raises(InputError, match="no reading by clara in it"):
        train_model(folder, reader="clara", say=silent)
    (folder / "finder.json").write_text("{")
    with pytest.raises(InputError, match=r"finder\.json: missing, damaged"):
        train_model(folder, say=silent)


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such names")
def test_a_colon_in_the_name_of_an_image_stops_no_step(tmp_path):
    names = ["C:.png", "plain.png", "scan 2026-01-31 12:30.png"]
    (tmp_path / "in").mkdir()
    for name, smear in zip(names, synthetic_smears(3, seed=5, n_cells=8), strict=True):
        cv2.imwrite(str(tmp_path / "in" / name), smear.image)
    out = tmp_path / "out"
    for n_resumed in (0, 3):
        assert segment_files([tmp_path / "in"], out, spec=SPEC).n_resumed == n_resumed
    found = train._found(out)
    assert sorted(found["smear"].unique()) == names
    append_readings(out / "readings.csv", found[["smear", "cell"]].assign(label="normal", reader="ann"))
    append_readings(
        out / "readings.csv",
        [Reading(smear="C:.png", cell=99, reader="ann", label="normal", x_px=9, y_px=9, radius_px=8)],
    )
    page = folder_labeller(out, reader="ben")
    assert sorted(page.sitting.queue) == list(range(len(found) + 1))  # and the added one
    readings = train._readings(out, None)
    found = train._with_added(found, added_cells(readings, found), out)
    assert train._crops(out, found, SPEC).any(axis=(1, 2, 3)).all()
    assert [smear.name for smear in segmented_smears(out)] == names
