"""Images of one folder share one scale; images that no cell can be read from say so."""

import json
import math
import os
from functools import cache

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from rbcnb.cli import main
from rbcnb.columns import RADIUS, SMEAR, X, Y
from rbcnb.segmentation import batch
from rbcnb.segmentation.batch import BatchError, segment_files
from rbcnb.segmentation.finder_net import load_finder
from rbcnb.segmentation.learned import Finds
from rbcnb.segmentation.matching import detection_scores
from rbcnb.segmentation.segment import FinderSpec, _doubts, find_cells, segment_smear
from rbcnb.smears.sources import synthetic_smears

SPEC = FinderSpec(method="learned", upscale="none", size_px=32)


@cache
def rendered(diameter_px, n=3):
    return list(synthetic_smears(n, seed=5, n_cells=20, diameter_px=diameter_px))


def fill(folder, prefix, diameter_px, n=3):
    """Writes *n* smears of cells of one diameter into *folder*; their file names."""
    folder.mkdir(exist_ok=True)
    names = [f"{prefix}{i}.png" for i in range(n)]
    for name, smear in zip(names, rendered(diameter_px, n), strict=True):
        Image.fromarray(smear.image).save(folder / name)
    return names


def blanks(folder):
    """Writes a grey image and one of noise into *folder*."""
    folder.mkdir(exist_ok=True)
    Image.fromarray(np.full((180, 240, 3), 190, np.uint8)).save(folder / "grey.png")
    noise = np.random.default_rng(0).integers(0, 256, (180, 240, 3), dtype=np.uint8)
    Image.fromarray(noise).save(folder / "noise.png")


def run(paths, out, **options):
    return segment_files(paths, out, **{"spec": SPEC} | options)


def scale_of(out, folder):
    return json.loads((out / "scale.json").read_text())[str(folder)]


def notes_on(report, path):
    return [note for file, note in report.notes if file == str(path)]


def test_a_folder_has_one_diameter_and_it_is_right(tmp_path):
    names, out = fill(tmp_path / "in", "a", 30), tmp_path / "out"
    report = run([tmp_path / "in"], out)
    scale = scale_of(out, tmp_path / "in")
    diameter_px, finder = scale.pop("diameter_px"), scale.pop("finder")
    assert load_finder().digest.startswith(finder)
    del scale["digest"]
    assert scale == {"images": 3, "looked_at": 3, "read": 3, "unlike": 0}
    true_px = np.median([2 * smear.truth[RADIUS].median() for smear in rendered(30)])
    assert diameter_px == pytest.approx(true_px, rel=0.08)

    smears = pd.read_csv(out / "smears.csv")
    assert list(smears[SMEAR]) == names
    assert smears["diameter_px"].to_numpy() == pytest.approx(diameter_px, abs=1e-3)
    assert smears["read"].all()
    assert pd.read_csv(out / "cells.csv")["crop_scale"].to_numpy() == pytest.approx(32 / diameter_px, abs=1e-3)
    alone = [segment_smear(smear.image, SPEC).diameter_px for smear in rendered(30)]
    assert np.ptp(alone) > 0.2  # each by itself has another
    assert report.notes == ()


def test_added_images_leave_the_scale_and_what_is_finished(tmp_path):
    folder, out = tmp_path / "in", tmp_path / "out"
    names = fill(folder, "a", 30)
    run([folder], out)
    before, cells = (out / "scale.json").read_bytes(), pd.read_csv(out / "cells.csv")
    fill(folder, "b", 34, 4)  # now most are larger
    report = run([folder], out)
    assert (report.n_images, report.n_resumed) == (7, 3)
    assert (out / "scale.json").read_bytes() == before
    again = pd.read_csv(out / "cells.csv")
    pd.testing.assert_frame_equal(again[again[SMEAR].isin(names)].reset_index(drop=True), cells)
    assert np.ptp(pd.read_csv(out / "smears.csv")["diameter_px"]) == 0
    assert run([folder / names[1]], out).n_resumed == 1  # the folder's scale is an image's, too


def test_one_image_or_two_are_read_as_without_a_folder(tmp_path):
    folder = tmp_path / "in"
    names = fill(folder, "a", 30)
    for n in (1, 2):
        out = tmp_path / str(n)
        run([folder / name for name in names[:n]], out)
        assert not (out / "scale.json").exists()
        table = pd.read_csv(out / "cells.csv")
        for name, smear in zip(names[:n], rendered(30), strict=False):
            found = find_cells(smear.image, SPEC)[[X, Y, RADIUS]].to_numpy()
            assert table.loc[table[SMEAR] == name, [X, Y, RADIUS]].to_numpy() == pytest.approx(found, abs=1e-3)


def test_a_folder_of_two_magnifications_is_noted_and_each_image_read_by_itself(tmp_path):
    folder, out = tmp_path / "in", tmp_path / "out"
    small, large = fill(folder, "small", 24), fill(folder, "large", 44)
    report = run([folder], out)
    ((file, note),) = report.notes
    assert file == str(folder)
    assert "3 of 6 are unlike the others" in note
    assert scale_of(out, folder)["diameter_px"] is None
    smears = pd.read_csv(out / "smears.csv").set_index(SMEAR)
    for name, smear in zip(small + large, rendered(24) + rendered(44), strict=True):
        alone = segment_smear(smear.image, SPEC)
        assert smears.loc[name, "diameter_px"] == pytest.approx(alone.diameter_px, abs=1e-3)
        assert smears.loc[name, "cells"] == len(alone.cells)
    assert smears["read"].all()

    mixed = run([folder], out, mixed=True)
    assert (mixed.notes, mixed.n_resumed) == ((), 6)
    assert len(run([folder], out).notes) == 1
    run([folder], tmp_path / "mixed", mixed=True)
    assert not (tmp_path / "mixed/scale.json").exists()

    for name in large:
        (folder / name).unlink()
    assert run([folder], out).notes == ()  # who parted them is no longer warned
    assert scale_of(out, folder)["diameter_px"] == pytest.approx(24, rel=0.1)


def test_a_diameter_is_shared_by_most_or_by_none():
    found = batch._common_diameter([40.0, 41.0, 42.0, 80.0, None, float("nan")])
    assert found == {"read": 4, "unlike": 1, "diameter_px": pytest.approx(41, abs=0.01)}
    assert batch._common_diameter([40.0, 40.0, 60.0, 60.0]) == {"read": 4, "unlike": 2, "diameter_px": None}
    assert batch._common_diameter([40.0] * 3 + [None] * 4) == {"read": 3, "unlike": 0, "diameter_px": None}
    assert batch._common_diameter([40.0, 40.0, None]) == {"read": 2, "unlike": 0, "diameter_px": None}


def test_an_image_of_another_scale_is_named_and_still_read_well(tmp_path):
    folder, out = tmp_path / "in", tmp_path / "out"
    fill(folder, "a", 30, 4)
    fill(folder, "odd", 60, 1)
    report = run([folder], out)
    ((file, note),) = report.notes
    assert file == str(folder / "odd0.png")
    assert "another magnification?" in note
    smears = pd.read_csv(out / "smears.csv").set_index(SMEAR)
    odd = smears.loc["odd0.png"]
    assert odd["note"] == note
    assert odd["read"]
    assert odd["diameter_px"] == pytest.approx(60, rel=0.1)
    assert smears["diameter_px"].drop("odd0.png").to_numpy() == pytest.approx(30, rel=0.1)
    cells = pd.read_csv(out / "cells.csv")
    (smear,) = rendered(60, 1)
    found = cells[cells[SMEAR] == "odd0.png"]
    scores = detection_scores(found, smear.truth, max_distance=15, image_shape=smear.image.shape, margin=30)
    assert scores["f1_score"] > 0.9


def test_an_image_without_a_cell_is_not_read_and_says_so(tmp_path):
    folder, out = tmp_path / "in", tmp_path / "out"
    fill(folder, "a", 30)
    blanks(folder)
    report = run([folder], out)
    assert report.errors == ()
    smears = pd.read_csv(out / "smears.csv").set_index(SMEAR)
    assert smears["read"].to_dict() == {name: name.startswith("a") for name in smears.index}
    assert smears.loc["grey.png", ["cells", "note"]].to_list() == [0, "no cell was found"]
    assert notes_on(report, folder / "grey.png") == ["no cell was found"]
    assert notes_on(report, folder / "noise.png")
    assert smears.loc["noise.png", "note"] == "; ".join(notes_on(report, folder / "noise.png"))
    assert smears["note"].isna().sum() == 3
    assert scale_of(out, folder)["read"] == 3  # the others' scale is theirs alone
    again = run([folder], out)
    assert (again.n_resumed, again.notes) == (5, report.notes)


@pytest.mark.parametrize(
    "damaged",
    ["{", "[]", '{"FOLDER": 30}', '{"FOLDER": {"diameter_px": 30}}', "WIDE", "NaN", "-1"],
)
def test_a_damaged_scale_is_replaced(tmp_path, damaged):
    folder, out = tmp_path / "in", tmp_path / "out"
    fill(folder, "a", 30)
    run([folder], out)
    whole = (out / "scale.json").read_text()
    if damaged[0] not in "{[":
        entry = json.loads(whole)
        entry[str(folder)]["diameter_px"] = "VALUE"
        damaged = json.dumps(entry).replace('"VALUE"', {"WIDE": '"wide"'}.get(damaged, damaged))
    (out / "scale.json").write_text(damaged.replace("FOLDER", str(folder)))
    assert run([folder], out).n_resumed == 3
    assert (out / "scale.json").read_text() == whole


def test_a_diameter_that_is_given_is_not_looked_for(tmp_path, monkeypatch):
    folder = tmp_path / "in"
    fill(folder, "a", 30)
    monkeypatch.setattr(batch, "_try_diameter", None)
    for name, more in (("given", {"diameter_px": 30.0}), ("expected", {"expected_px": 30.0})):
        run([folder], tmp_path / name, spec=FinderSpec(method="learned", upscale="none", size_px=32, **more))
        assert set(pd.read_csv(tmp_path / name / "smears.csv")["diameter_px"]) == {30.0}
    run([folder], tmp_path / "paper", spec=FinderSpec(upscale="none", size_px=32))
    assert not list(tmp_path.glob("*/scale.json"))


@pytest.mark.slow
def test_a_process_that_dies_over_the_scale_ends_the_batch_with_a_mend(tmp_path, monkeypatch):
    fill(tmp_path / "in", "a", 30)
    monkeypatch.setattr(batch, "_try_diameter", lambda *_: os._exit(9))
    with pytest.raises(BatchError, match="fewer --jobs"):
        run([tmp_path / "in"], tmp_path / "out", jobs=2)


def test_the_command_line_tells_notes_and_ends_well(tmp_path, capsys):
    folder, arguments = tmp_path / "in", ["--upscale", "none", "--size", "32"]
    fill(folder, "small", 24)
    fill(folder, "large", 44)
    blanks(folder)
    command = ["segment", str(folder), "--out", str(tmp_path / "out"), *arguments]
    assert main(command) == 0
    notes = [line for line in capsys.readouterr().err.splitlines() if line.startswith("rbcnb segment: ")]
    assert all(line.startswith("rbcnb segment: note: ") for line in notes)
    assert any(f"{folder}: cells differ in size" in line for line in notes)
    assert f"rbcnb segment: note: {folder / 'grey.png'}: no cell was found" in notes
    assert main([*command, "--mixed"]) == 0
    shown = capsys.readouterr().err
    assert "cells differ in size" not in shown
    assert f"note: {folder / 'grey.png'}: no cell was found" in shown


def test_a_size_that_cannot_be_told_is_not_said_to_be_another():
    found = Finds(np.array([[50.0, 50.0, 20.0]]), np.array([0.5]), 40.0, math.nan, 0.9, 0.9, 0.9)
    assert _doubts(found, FinderSpec(method="learned", expected_px=40.0)) == []
    other = Finds(found.circles, found.score, 60.0, 60.0, 0.9, 0.9, 0.9)
    assert "about 60 px" in _doubts(other, FinderSpec(method="learned", expected_px=40.0))[0]
