import json
import os
from dataclasses import asdict, replace
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from rbcnb._utils.read_files import system_fault
from rbcnb.cli import main
from rbcnb.columns import CLASSES, UNSURE, prob_columns
from rbcnb.counting import count as count_module
from rbcnb.counting.abstention import call_cells
from rbcnb.counting.count import DOUBTFUL, count_files, draw_overlay
from rbcnb.counting.differential import POOL
from rbcnb.counting.model_file import ModelCard, ModelFileError, save_model
from rbcnb.counting.smear_shift import look_of_smear, reference_of
from rbcnb.evaluation.calibration import apply_temperature
from rbcnb.segmentation.batch import BatchError, read_crops, segment_files
from rbcnb.segmentation.finder_net import load_finder
from rbcnb.segmentation.segment import FinderSpec, segment_smear
from rbcnb.smears.sources import synthetic_smears
from rbcnb.training.models import build_model
from rbcnb.training.predict import predict_crops

SPEC = FinderSpec(method="learned", upscale="none", size_px=32)
CONFUSION = [[[8, 0, 1], [0, 8, 1], [1, 1, 50], [1, 1, 8]]] * 4
TEMPERATURE, THRESHOLD = 1.3, 0.4


@pytest.fixture(scope="module")
def smears(tmp_path_factory):
    """Two smears, the negative of one, an empty field, a broken file and one that is no image."""
    folder = tmp_path_factory.mktemp("smears")
    for smear in synthetic_smears(2, seed=7, n_cells=20):
        Image.fromarray(smear.image).save(folder / smear.name)
    Image.fromarray(255 - smear.image).save(folder / "z_negative.png")
    Image.fromarray(np.full((90, 120, 3), 230, np.uint8)).save(folder / "empty.png")
    (folder / "broken.png").write_bytes((folder / smear.name).read_bytes()[:500])
    (folder / "notes.txt").write_text("ours")
    return folder


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    torch.manual_seed(1)
    network, looks = build_model("small", 3).eval(), []
    for smear in synthetic_smears(40, seed=8, n_cells=20):
        found = segment_smear(smear.image, SPEC)
        table = pd.DataFrame(predict_crops(network, found.crops), columns=prob_columns(CLASSES))
        sure = apply_temperature(table, TEMPERATURE).to_numpy().max(axis=1)
        looks.append(look_of_smear(found.crops, found.cells, diameter_px=found.diameter_px, confidence=sure))
    card = ModelCard(
        "small",
        CLASSES,
        32,
        asdict(SPEC),
        TEMPERATURE,
        THRESHOLD,
        confusion=CONFUSION,
        look=asdict(reference_of(looks)),
    )
    return save_model(network, card, tmp_path_factory.mktemp("model") / "model.safetensors")


def count(smears, model, out, **options):
    return count_files([smears], model, out, **options)


def test_new_smears_become_calls_counts_and_pictures(smears, model, tmp_path):
    report = count(smears, model, tmp_path)
    assert [Path(file).name for file, _ in report.batch.errors] == ["broken.png"]
    cells = pd.read_csv(tmp_path / "cells.csv")
    assert len(cells) == report.batch.n_cells
    assert cells[prob_columns(CLASSES)].sum(axis=1).to_numpy() == pytest.approx(1, abs=1e-3)
    assert (cells["counted"] == ~cells["border"]).all()

    # The same steps one by one, on one smear.
    from rbcnb.counting.model_file import load_model

    image = np.array(Image.open(smears / "synthetic_00.png"))
    (scale,) = json.loads((tmp_path / "scale.json").read_text()).values()  # of the folder
    found = segment_smear(image, replace(SPEC, expected_px=scale["diameter_px"]))
    smear_cells = cells[cells["smear"] == "synthetic_00.png"]
    assert np.array_equal(read_crops(tmp_path, "synthetic_00.png", len(smear_cells), 32), found.crops)
    raw = pd.DataFrame(predict_crops(load_model(model).network, found.crops), columns=prob_columns(CLASSES))
    expected = apply_temperature(raw, TEMPERATURE).to_numpy()
    assert smear_cells[prob_columns(CLASSES)].to_numpy() == pytest.approx(expected, abs=1e-4)
    assert list(smear_cells["call"]) == list(call_cells(expected, CLASSES, threshold=THRESHOLD))

    table = pd.read_csv(tmp_path / "differential.csv")
    counted = cells[cells["counted"]]
    for smear, rows in table[table["smear"] != POOL].groupby("smear"):
        calls = counted.loc[counted["smear"] == smear, "call"].value_counts()
        assert rows.set_index("class")["n_cells"].to_dict() == calls.reindex([*CLASSES, UNSURE], fill_value=0).to_dict()
    assert table["adjusted"].isna().equals(table["doubt"].notna() | (table["class"] == UNSURE))
    assert table.loc[table["smear"] == "z_negative.png", "doubt"].str.contains("unlike the training smears").sum() == 3
    for name in ("synthetic_00", "synthetic_01", "z_negative", "empty"):
        assert Image.open(tmp_path / "overlays" / f"{name}.jpg").width >= 800
    record = json.loads((tmp_path / "count.json").read_text())
    assert record["threshold"] == THRESHOLD
    assert record["finder"]["upscale"] == "none"


def test_smears_unlike_the_training_are_warned_of_and_not_pooled(smears, model, tmp_path):
    report = count(smears, model, tmp_path)
    facts = report.smears.set_index("smear")
    assert facts.loc["z_negative.png", "warning"].startswith("unlike the training smears")
    assert facts.loc["empty.png", "warning"] == "no cell was found"
    assert facts.loc[["synthetic_00.png", "synthetic_01.png"], "warning"].eq("").all()
    assert list(facts.index[facts["pooled"]]) == ["synthetic_00.png", "synthetic_01.png"]
    table = report.differential.set_index(["smear", "class"])["n_cells"]
    alike = table["synthetic_00.png"] + table["synthetic_01.png"]
    assert table[POOL].to_dict() == alike.to_dict()


def test_a_count_of_doubtful_smears_alone_never_looks_ordinary(smears, model, tmp_path, capsys):
    odd = str(smears / "z_negative.png")
    assert main(["count", odd, "--model", str(model), "--out", str(tmp_path)]) == 1
    printed = capsys.readouterr()
    refused = "every class is in doubt in these smears, so this is no count; label some of them, and train again"
    assert refused in printed.err
    assert "pooled over 1 of 1 smears, DOUBTFUL: every one has a warning:" in printed.out
    assert "so the pooled count is doubtful" in printed.err
    table = pd.read_csv(tmp_path / "differential.csv")
    assert set(table["smear"]) == {"z_negative.png", DOUBTFUL}  # whoever looks for "pooled" finds nothing
    alone, pooled = (table[table["smear"] == name]["n_cells"].tolist() for name in ("z_negative.png", DOUBTFUL))
    assert pooled == alone
    assert not count(smears, model, tmp_path).doubtful


@pytest.fixture
def unread(smears, tmp_path, monkeypatch):
    """Two good smears; a grey image, one of noise, and a smear whose cells the finder doubts as a whole."""
    folder = tmp_path / "smears"
    folder.mkdir()
    for name in ("synthetic_00.png", "synthetic_01.png"):
        (folder / name).write_bytes((smears / name).read_bytes())
    Image.fromarray(np.full((90, 120, 3), 190, np.uint8)).save(folder / "grey.png")
    noise = np.random.default_rng(0).integers(0, 256, (120, 160, 3), dtype=np.uint8)
    Image.fromarray(noise).save(folder / "noise.png")
    (smear,) = synthetic_smears(1, seed=9, n_cells=22)
    Image.fromarray(smear.image).save(folder / "doubtful.png")

    def segment(image, spec):
        found = segment_smear(image, spec)
        doubts = image.shape == smear.image.shape
        return replace(found, trust=0.5, notes=("read with doubt: by the test",)) if doubts else found

    monkeypatch.setattr("rbcnb.segmentation.batch.segment_smear", segment)
    return folder


def test_a_smear_that_was_not_read_is_neither_counted_nor_pooled(unread, model, tmp_path, capsys):
    out, bad = tmp_path / "out", {"grey.png", "noise.png", "doubtful.png"}
    assert main(["count", str(unread), "--model", str(model), "--out", str(out)]) == 0
    printed = capsys.readouterr()
    assert "pooled over 2 of 5 smears:" in printed.out
    for name in bad:
        assert f"rbcnb count: warning: {name}: no" in printed.err  # "no cell was found", "not read with confidence"
    doubt = "warning: doubtful.png: not read with confidence, so not counted: read with doubt: by the test"
    assert doubt in printed.err
    cells = pd.read_csv(out / "cells.csv")
    assert (cells["smear"] == "doubtful.png").sum() > 10  # they are found and called all the same
    assert not cells.loc[cells["smear"].isin(bad), "counted"].any()
    assert (cells["counted"] == ~cells["border"])[~cells["smear"].isin(bad)].all()
    facts = pd.read_csv(out / "smears.csv").set_index("smear")
    for column in ("read", "pooled"):
        assert facts[column].to_dict() == {name: name not in bad for name in facts.index}
    assert (facts.loc[list(bad), "n_counted"] == 0).all()
    table = pd.read_csv(out / "differential.csv")
    assert set(table["smear"]) == {"synthetic_00.png", "synthetic_01.png", POOL}
    assert table.loc[table["smear"] == POOL, "n_cells"].sum() == cells["counted"].sum()
    for path in (out / "overlays").iterdir():
        red, green, blue = (int(value) for value in np.array(Image.open(path))[2, 2])
        assert (red > 180 and green < 40 and blue < 40) == (f"{path.stem}.png" in bad)

    again = count_files([unread], model, out)
    assert again.batch.n_resumed == 5
    assert {name for name, _ in again.warnings} == bad
    assert (again.smears.set_index("smear")["n_counted"] > 0).sum() == 2


def test_where_no_smear_was_read_nothing_is_counted(unread, model, tmp_path, capsys):
    command = [str(unread / name) for name in ("grey.png", "noise.png", "doubtful.png")]
    assert main(["count", *command, "--model", str(model), "--out", str(tmp_path / "out")]) == 0
    printed = capsys.readouterr()
    assert printed.out.startswith("0 cells counted in 3 smears: ")
    assert "pooled" not in printed.out
    assert printed.err.count("rbcnb count: warning: ") == 3
    assert pd.read_csv(tmp_path / "out/differential.csv").empty
    assert not pd.read_csv(tmp_path / "out/smears.csv")["pooled"].any()


def test_images_of_a_folder_are_counted_at_one_scale_or_each_at_its_scale(model, tmp_path):
    folder = tmp_path / "smears"
    folder.mkdir()
    for i, smear in enumerate(synthetic_smears(3, seed=7, n_cells=20)):
        Image.fromarray(smear.image).save(folder / f"{i}.png")
    for name, mixed, n_scales in (("one", False, 1), ("each", True, 3)):
        count_files([folder], model, tmp_path / name, mixed=mixed)
        cells = pd.read_csv(tmp_path / name / "cells.csv")
        assert cells["crop_scale"].nunique() == n_scales


def test_a_second_call_resumes_and_another_model_does_not(smears, model, tmp_path, monkeypatch):
    first = count(smears, model, tmp_path)
    contents = {path: path.read_bytes() for path in tmp_path.rglob("*.csv")}
    calls = []
    real = predict_crops
    monkeypatch.setattr("rbcnb.training.predict.predict_crops", lambda *given: calls.append(1) or real(*given))
    again = count(smears, model, tmp_path)
    assert (again.batch.n_resumed, calls) == (first.batch.n_images, [])
    assert {path: path.read_bytes() for path in tmp_path.rglob("*.csv")} == contents
    (tmp_path / "overlays" / "synthetic_00.jpg").unlink()
    (tmp_path / "classified" / "synthetic_01.json").write_text('{"key": "cut sho')
    count(smears, model, tmp_path)
    assert len(calls) == 2
    assert {path: path.read_bytes() for path in tmp_path.rglob("*.csv")} == contents

    from rbcnb.counting.model_file import load_model

    torch.manual_seed(2)
    other = save_model(build_model("small", 3), load_model(model).card, tmp_path / "other.safetensors")
    calls.clear()
    count(smears, other, tmp_path)
    assert len(calls) == 3  # of the four images one has no cell


def test_what_goes_wrong_with_one_smear_stops_no_other(smears, model, tmp_path, monkeypatch):
    def fail(image, cells, classes, **options):
        if "unlike" in options["note"]:
            raise MemoryError
        return draw_overlay(image, cells, classes, **options)

    monkeypatch.setattr("rbcnb.counting.count.draw_overlay", fail)
    report = count(smears, model, tmp_path)
    assert {Path(file).name for file, _ in report.batch.errors} == {"broken.png", "z_negative.png"}
    assert "z_negative.png" not in set(pd.read_csv(tmp_path / "cells.csv")["smear"])
    assert "z_negative.png" not in set(report.smears["smear"])


@pytest.mark.slow
def test_jobs_do_not_change_the_count(smears, model, tmp_path):
    serial, parallel = count(smears, model, tmp_path / "one"), count(smears, model, tmp_path / "two", jobs=2)
    pd.testing.assert_frame_equal(serial.differential, parallel.differential)


def test_settings_of_the_finder_that_this_version_lacks_are_refused(tmp_path):
    card = ModelCard("small", CLASSES, 32, asdict(SPEC) | {"sixth_sense": 1})
    path = save_model(build_model("small", 3), card, tmp_path / "model.safetensors")
    with pytest.raises(ModelFileError, match=r"does not know \(sixth_sense\); install the version"):
        count_files([tmp_path], path, tmp_path / "out")


def test_a_model_whose_cells_other_weights_found_is_noted(smears, tmp_path, capsys):
    notes = {}
    for name, spec, weights in (
        ("other", SPEC, "of another finder"),
        ("same", SPEC, load_finder().digest),
        ("unknown", SPEC, ""),
        ("paper", FinderSpec(upscale="none", size_px=32), ""),
    ):
        card = ModelCard("small", CLASSES, 32, asdict(spec), package="0.0.9", finder_weights=weights)
        path = save_model(build_model("small", 3), card, tmp_path / f"{name}.safetensors")
        command = ["count", str(smears / "empty.png"), "--model", str(path), "--out", str(tmp_path / name)]
        assert main(command) == 0
        notes[name] = [line for line in capsys.readouterr().err.splitlines() if "weights" in line]
    assert [name for name, lines in notes.items() if lines] == ["other"]
    (line,) = notes["other"]
    assert line.startswith(f"rbcnb count: note: {tmp_path / 'other.safetensors'}: the cells that it was trained on")
    assert line.endswith("train and export the model again, or install rbcnb 0.0.9")


def test_the_command_says_what_it_did(smears, model, tmp_path, capsys):
    assert main(["count", str(smears), "--model", str(model), "--out", str(tmp_path / "out")]) == 1
    printed = capsys.readouterr()
    assert "cells counted in 4 smears" in printed.out
    assert "pooled over 2 of 4 smears:" in printed.out
    assert "warning: z_negative.png: unlike the training smears" in printed.err
    assert "left out:" in printed.err
    assert "broken.png" in printed.err
    good = [str(smears / f"synthetic_0{i}.png") for i in range(2)]
    assert main(["count", *good, "--model", str(model), "--out", str(tmp_path / "good")]) == 0
    capsys.readouterr()
    assert main(["count", *good, "--model", str(smears / "empty.png"), "--out", str(tmp_path / "none")]) == 2
    assert "empty.png: no model file" in capsys.readouterr().err
    assert not (tmp_path / "none").exists()
    assert main(["count", str(smears / "broken.png"), "--model", str(model), "--out", str(tmp_path / "bad")]) == 1
    assert "0 cells counted in 0 smears" in capsys.readouterr().out


def test_an_overlay_has_a_ring_in_its_colour_around_each_cell_and_leaves_the_cell_itself():
    image = np.full((400, 1000, 3), 200, np.uint8)
    cells = pd.DataFrame({"x_px": [100.0, 300, 500, 990], "y_px": 200.0, "radius_px": 40.0})
    cells["border"] = [False, False, False, True]
    cells["call"] = ["codocyte", "normal", UNSURE, "normal"]
    picture = draw_overlay(image, cells, CLASSES, note="mind the light " * 20)
    assert picture.shape[1] == 1000
    assert tuple(picture[200, 60]) == (213, 94, 0)  # vermillion
    assert tuple(picture[200, 260]) == (0, 158, 115)  # green
    ring = cv2.cvtColor(picture[150:250, 450:550], cv2.COLOR_RGB2GRAY)
    assert (ring == 0).any()  # broken: black and white
    assert (ring == 255).any()
    for x in (100, 300, 500):
        assert (picture[180:220, x - 20 : x + 20] == 200).all()
    assert (picture[400:] != 255).any()
    unread = draw_overlay(image, cells, CLASSES, note="not read", read=False)
    assert (unread[:8] == (204, 0, 0)).all()
    assert not (picture == (204, 0, 0)).all(axis=2).any()  # a warning alone has no frame
    longer = draw_overlay(image, cells, CLASSES).shape[0]
    assert picture.shape[0] > longer > 400
    assert draw_overlay(image, cells.iloc[:0], CLASSES).shape[1] == 1000


def test_a_model_that_can_tell_no_class_is_refused(smears, model, tmp_path, capsys):
    from rbcnb.counting.model_file import load_model

    good = load_model(model)
    blind = [[[3, 3, 30], [3, 3, 30], [3, 3, 30], [0, 0, 0]]] * 4  # each class is called each of them, equally often
    poor = save_model(good.network, replace(good.card, confusion=blind), tmp_path / "poor.safetensors")
    assert main(["count", str(smears), "--model", str(poor), "--out", str(tmp_path / "out")]) == 2
    message = capsys.readouterr().err
    assert "this model can tell no class (codocyte: of 36 cells it finds" in message
    assert "label more cells" in message
    assert not (tmp_path / "out").exists()


def test_a_count_that_was_stopped_before_its_last_table_carries_on(smears, model, tmp_path, monkeypatch):
    out = tmp_path / "out"

    def killed(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(count_module, "differential_count", killed)
        with pytest.raises(KeyboardInterrupt):
            count_files([smears], model, out)
    assert (out / "cells.csv").exists()
    assert not (out / "differential.csv").exists()
    report = count_files([smears], model, out)
    assert report.batch.n_resumed == report.batch.n_images > 0
    assert (out / "differential.csv").exists()


def test_a_count_takes_no_place_of_cells_or_of_another_count(smears, model, tmp_path):
    first, second = smears / "synthetic_00.png", smears / "synthetic_01.png"
    out = tmp_path / "out"
    count_files([first], model, out)
    before = (out / "differential.csv").read_bytes()
    with pytest.raises(BatchError, match=r"holds the count of other smears \(synthetic_00\.png\)"):
        count_files([second], model, out)
    assert (out / "differential.csv").read_bytes() == before
    assert count_files([first, second], model, out).batch.n_images == 2
    assert list(count_files([second], model, out, replace_count=True).smears["smear"]) == ["synthetic_01.png"]

    found = tmp_path / "found"
    segment_files([first], found, spec=SPEC)
    with pytest.raises(BatchError, match="holds cells of rbcnb segment"):
        count_files([first], model, found)


COUNT_DAMAGES = {
    "emptied crop": lambda out: (out / "crops/synthetic_00/0000.png").write_bytes(b""),
    "halved call": lambda out: halve(out / "classified/synthetic_00.json"),
    "edited call": lambda out: edit(out / "classified/synthetic_00.json"),
    "halved overlay": lambda out: halve(out / "overlays/synthetic_00.jpg"),
    "swapped calls": lambda out: swap(out / "classified/synthetic_00.json", out / "classified/synthetic_01.json"),
    "swapped overlays": lambda out: swap(out / "overlays/synthetic_00.jpg", out / "overlays/synthetic_01.jpg"),
    "emptied table": lambda out: (out / "smears.csv").write_bytes(b""),
    "halved table": lambda out: halve(out / "cells.csv"),
}


def halve(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def edit(path):
    saved = json.loads(path.read_text())
    saved["probabilities"][0] = saved["probabilities"][0][::-1]
    path.write_text(json.dumps(saved))


def swap(first, second):
    first_data, second_data = first.read_bytes(), second.read_bytes()
    first.write_bytes(second_data)
    second.write_bytes(first_data)


@pytest.mark.parametrize("damage", COUNT_DAMAGES)
def test_what_is_damaged_of_a_count_is_made_again(smears, model, tmp_path, damage):
    images = [smears / "synthetic_00.png", smears / "synthetic_01.png"]
    count_files(images, model, tmp_path)
    whole = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    COUNT_DAMAGES[damage](tmp_path)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} != whole
    assert count_files(images, model, tmp_path).batch.errors == ()
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == whole


def test_a_damaged_table_opens_no_count_to_other_smears(smears, model, tmp_path):
    count_files([smears / "synthetic_00.png"], model, tmp_path)
    (tmp_path / "smears.csv").write_bytes(b"")
    with pytest.raises(BatchError, match=r"holds the count of other smears \(synthetic_00\)"):
        count_files([smears / "synthetic_01.png"], model, tmp_path)


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such names")
def test_images_with_a_colon_in_their_name_are_counted(smears, model, tmp_path):
    (tmp_path / "in").mkdir()
    for name, source in (("C:.png", "synthetic_00.png"), ("12:30.png", "synthetic_01.png")):
        (tmp_path / "in" / name).write_bytes((smears / source).read_bytes())
    for n_resumed in (0, 2):
        report = count(tmp_path / "in", model, tmp_path / "out")
        assert (report.batch.errors, report.batch.n_resumed) == ((), n_resumed)
    assert set(report.smears["smear"]) == {"C:.png", "12:30.png"}
    assert (tmp_path / "out" / "overlays" / "12:30.jpg").is_file()


def test_pipes_are_taken_for_damaged_files_and_a_folder_is_named(smears, model, tmp_path):
    first = count(smears, model, tmp_path)
    for path in (tmp_path / "smears.csv", next((tmp_path / "classified").glob("*.json"))):
        path.unlink()
        os.mkfifo(path)
    pd.testing.assert_frame_equal(count(smears, model, tmp_path).differential, first.differential)
    (tmp_path / "differential.csv").unlink()
    (tmp_path / "differential.csv").mkdir()
    with pytest.raises(IsADirectoryError) as error:
        count(smears, model, tmp_path)
    assert system_fault(error.value) == (
        f"{tmp_path / 'differential.csv'}: is a folder, not a file; remove or rename that folder"
    )
