"""Labels into other people's files and back: nothing changes on the way, and what cannot be read is named."""

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from rbcnb.cli import main
from rbcnb.columns import FOUND
from rbcnb.labels.consensus import current_labels
from rbcnb.labels.formats import read_class_folder
from rbcnb.labels.import_export import export_labels, import_labels
from rbcnb.labels.logbook import LogbookError
from rbcnb.labels.readings import Reading, append_readings, load_readings
from rbcnb.smears.annotations import read_annotations
from rbcnb.smears.chula import read_chula_labels
from rbcnb.smears.images import SmearError
from rbcnb.smears.sources import folder_smears, synthetic_smears

KEPT = [*FOUND, "label"]


@pytest.fixture
def segmented(tmp_path) -> Path:
    """A folder as `rbcnb segment` leaves it, with readings: a disputed cell, a skipped one, and one not read."""
    folder, rng = tmp_path / "cells", np.random.default_rng(0)
    rows = [
        (smear, cell, *rng.uniform(30, 600, 2).round(4), 20.0) for smear in ("a_1.png", "b.jpg") for cell in range(6)
    ]
    cells = pd.DataFrame(rows, columns=list(FOUND))
    for smear, cell, *_ in rows:
        path = folder / "crops" / Path(smear).stem / f"{cell:04d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 255, (8, 8, 3), np.uint8)).save(path)
    cells.to_csv(folder / "cells.csv", index=False)
    names = ["normal", "codocyte", "burr cell", "normal"]
    read = cells.groupby("smear").head(4).assign(label=names * 2, reader="anna")
    append_readings(folder / "readings.csv", read)
    append_readings(folder / "readings.csv", [Reading(smear="b.jpg", cell=0, label="codocyte", reader="bo")])
    append_readings(folder / "readings.csv", [Reading(smear="b.jpg", cell=4, kind="skip", reader="bo")])
    return folder


def by_cell(table: pd.DataFrame, columns: list[str] = KEPT) -> pd.DataFrame:
    return table[columns].sort_values(["smear", "cell"], ignore_index=True)


@pytest.mark.parametrize("out", ["labels.csv", "classes"])
def test_a_round_trip_changes_nothing(segmented, tmp_path, out):
    summary = export_labels(segmented, tmp_path / out)
    assert "7 labels written" in summary
    assert "left out: 1 disputed, 1 skip" in summary
    before = current_labels(load_readings(segmented / "readings.csv")).query("kind == 'label'")
    # Into the folder of the cells, as another reader's; and into a table that knows of no cells.
    assert "7 readings by cy added" in import_labels(tmp_path / out, segmented, reader="cy")
    after = current_labels(load_readings(segmented / "readings.csv"), reader="cy")
    pd.testing.assert_frame_equal(by_cell(before), by_cell(after))
    import_labels(tmp_path / out, tmp_path / "alone.csv", reader="cy")
    alone = current_labels(load_readings(tmp_path / "alone.csv"))
    columns = KEPT if out == "labels.csv" else ["smear", "cell", "label"]  # names of files tell no place
    pd.testing.assert_frame_equal(by_cell(before, columns), by_cell(alone, columns))


def test_the_pictures_are_those_of_the_cells(segmented, tmp_path):
    export_labels(segmented, tmp_path / "classes")
    copies = sorted((tmp_path / "classes").glob("*/*.png"))
    assert [f"{path.parent.name}/{path.name}" for path in copies][:2] == [
        "burr cell/a_1.png_0002.png",
        "burr cell/b.jpg_0002.png",
    ]
    for path in copies:
        smear, cell = path.stem.rsplit("_", 1)
        assert path.read_bytes() == (segmented / "crops" / Path(smear).stem / f"{cell}.png").read_bytes()
    # As another library reads such folders.
    from torchvision.datasets import ImageFolder

    seen = ImageFolder(str(tmp_path / "classes"))
    assert seen.classes == ["burr cell", "codocyte", "normal"]
    view = current_labels(load_readings(segmented / "readings.csv"))
    assert sorted(seen.classes[target] for target in seen.targets) == sorted(view["label"].dropna())
    from fastai.vision.data import ImageDataLoaders

    loaders = ImageDataLoaders.from_csv(tmp_path / "classes", "labels.csv", bs=2, num_workers=0, valid_pct=0.3, seed=0)
    assert list(loaders.vocab) == seen.classes
    assert len(loaders.train_ds) + len(loaders.valid_ds) == len(seen)
    for image, label in loaders.train_ds:
        assert image.size == (8, 8)
        assert loaders.vocab[int(label)] in seen.classes
    # The same from a run, whose pictures lie in one array.
    crops = np.stack([np.array(Image.open(path)) for path in sorted((segmented / "crops").glob("*/*.png"))])
    np.save(segmented / "crops.npy", crops)
    cells = pd.read_csv(segmented / "cells.csv")
    cells.assign(crop=range(len(cells))).to_csv(segmented / "cells.csv", index=False)
    export_labels(segmented, tmp_path / "again")
    for path in copies:
        other = tmp_path / "again" / path.parent.name / path.name
        assert np.array_equal(np.array(Image.open(path)), np.array(Image.open(other)))


def test_pictures_moved_by_hand_become_corrections_and_nothing_else(segmented, tmp_path):
    folder = tmp_path / "classes"
    export_labels(segmented, folder, reader="anna")
    (folder / "normal" / "a_1.png_0003.png").rename(folder / "codocyte" / "a_1.png_0003.png")
    assert "1 readings by anna added" in import_labels(folder, segmented, reader="anna")
    assert "0 readings by anna added" in import_labels(folder, segmented, reader="anna")
    last = load_readings(segmented / "readings.csv").iloc[-1]
    assert (last["smear"], last["cell"], last["label"], last["revision"]) == ("a_1.png", 3, "codocyte", 2)


def test_chulas_points_come_back_exactly(tmp_path):
    points = tmp_path / "chula" / "Label"
    points.mkdir(parents=True)
    (tmp_path / "chula" / "Dataset").mkdir()
    for name, text in (("10", "3 4 0\n250 17 12\n"), ("2", "12.5 300.25 4\n1 1 11\n5 6 10\n")):
        (points / f"{name}.txt").write_text(text)
        Image.new("RGB", (4, 4)).save(tmp_path / "chula" / "Dataset" / f"{name}.png")
    assert set(read_annotations(tmp_path / "chula", layout="chula")["smear"]) == {"2.png", "10.png"}
    import_labels(tmp_path / "chula", tmp_path / "readings.csv", reader="chula")
    export_labels(tmp_path / "readings.csv", tmp_path / "back", layout="chula")
    for path in points.iterdir():
        assert (tmp_path / "back" / "Label" / path.name).read_text() == path.read_text()


@pytest.mark.slow
@pytest.mark.skipif("RBCNB_CHULA" not in os.environ, reason="set RBCNB_CHULA to a folder with Chula RBC-12 to run it")
def test_all_of_chulas_points_come_back(tmp_path):
    root = Path(os.environ["RBCNB_CHULA"])
    import_labels(root, tmp_path / "readings.csv", reader="chula")
    export_labels(tmp_path / "readings.csv", tmp_path / "back", layout="chula")
    files = [path for path in (root / "Label").glob("*.txt") if len(read_chula_labels(path))]
    assert len(files) > 500
    for path in files:
        pd.testing.assert_frame_equal(
            read_chula_labels(path), read_chula_labels(tmp_path / "back" / "Label" / path.name)
        )


def test_points_go_to_the_found_cell_near_them(segmented, tmp_path):
    cells = pd.read_csv(segmented / "cells.csv")
    clicks = cells.assign(x_px=cells["x_px"] + 5, label="teardrop")[["smear", "x_px", "y_px", "label"]]
    far = pd.DataFrame({"smear": ["b.jpg"], "x_px": [5.0], "y_px": [5.0], "label": ["teardrop"]})
    pd.concat([clicks, far]).to_csv(tmp_path / "clicks.csv", index=False)
    with pytest.raises(
        SmearError, match=r"clicks\.csv: row 14 puts 'teardrop' at x_px 5, .* and no found cell is near"
    ):
        import_labels(tmp_path / "clicks.csv", segmented, reader="cy")
    errors = []
    assert "; 1 left out" in import_labels(tmp_path / "clicks.csv", segmented, reader="cy", errors=errors)
    assert len(errors) == 1
    view = current_labels(load_readings(segmented / "readings.csv"), reader="cy")
    pd.testing.assert_frame_equal(by_cell(cells, list(FOUND)), by_cell(view, list(FOUND)))


def clicks_csv(path: Path, table: pd.DataFrame) -> Path:
    table.assign(label="teardrop")[["smear", "x_px", "y_px", "label"]].to_csv(path, index=False)
    return path


def test_exchanged_and_foreign_places_are_refused(segmented, tmp_path):
    cells = pd.read_csv(segmented / "cells.csv")
    before = (segmented / "readings.csv").read_bytes()
    exchanged = clicks_csv(tmp_path / "a.csv", cells.rename(columns={"x_px": "y_px", "y_px": "x_px"}))
    with pytest.raises(
        SmearError, match=r"0 of 12 labels meet a cell .* most meet no cell .* and 12 would if x and y were exchanged"
    ):
        import_labels(exchanged, segmented, reader="cy", errors=[])
    foreign = clicks_csv(tmp_path / "b.csv", cells.assign(x_px=cells["x_px"] / 4, y_px=cells["y_px"] / 4))
    with pytest.raises(SmearError, match=r"\d of 12 labels meet a cell of .*cells\.csv: most labels meet no cell"):
        import_labels(foreign, segmented, reader="cy", errors=[])
    assert (segmented / "readings.csv").read_bytes() == before


def dense_cells(n: int = 300, *, radius_px: float = 20.0) -> pd.DataFrame:
    """Cells of one smear, 640 x 480, as dense as in a smear where half of all places lie in a cell."""
    rng = np.random.default_rng(0)
    places = np.empty((0, 2))
    while len(places) < n:
        new = rng.uniform((0, 0), (1280, 960), 2)
        if np.hypot(*(places - new).T).min(initial=np.inf) > 1.9 * radius_px:
            places = np.vstack([places, new])
    cells = pd.DataFrame(places, columns=["x_px", "y_px"]).assign(smear="a.png", radius_px=radius_px)
    return cells.assign(cell=np.arange(n))


@pytest.mark.parametrize("change", ["y from the bottom", "turned", "0.9 times", "20 px aside"])
def test_labels_that_meet_dense_cells_by_chance_are_refused(tmp_path, change):
    cells, rng = dense_cells(), np.random.default_rng(1)
    cells.to_csv(tmp_path / "cells.csv", index=False)
    x, y = (cells[name] + rng.normal(0, 4, len(cells)) for name in ("x_px", "y_px"))  # clicks
    clicks = cells.assign(x_px=x, y_px=y)
    changes = {
        "y from the bottom": {"y_px": 960 - y},
        "turned": {"x_px": 1280 - x, "y_px": 960 - y},
        "0.9 times": {"x_px": 0.9 * x, "y_px": 0.9 * y},
        "20 px aside": {"x_px": x + 20},
    }
    wrong = clicks_csv(tmp_path / "wrong.csv", clicks.assign(**changes[change]))
    with pytest.raises(SmearError, match="some do by chance"):
        import_labels(wrong, tmp_path, reader="cy", errors=[])
    assert "300 readings by cy" in import_labels(clicks_csv(tmp_path / "right.csv", clicks), tmp_path, reader="cy")
    most = clicks_csv(tmp_path / "most.csv", clicks[:100])
    cells[30:].to_csv(tmp_path / "cells.csv", index=False)  # a finder that missed three in ten of them
    errors = []
    assert "70 readings by di" in import_labels(most, tmp_path, reader="di", errors=errors)
    assert len(errors) == 30


def test_words_for_no_class_are_no_classes(segmented, tmp_path):
    cells = pd.read_csv(segmented / "cells.csv")
    names = ["normal"] * (len(cells) - 4) + ["NA", "unsure", "#REF!", "Strike"]
    table = clicks_csv(tmp_path / "a.csv", cells)
    text = pd.read_csv(table, keep_default_na=False).assign(label=names)
    text.to_csv(table, index=False)
    errors = []
    assert "4 without a class" in import_labels(table, segmented, reader="cy", errors=errors)
    assert {"'NA'", "'unsure'", "'#REF!'", "'Strike'"} <= set(" ".join(map(str, errors)).replace(",", "").split())
    assert set(load_readings(segmented / "readings.csv").query("reader == 'cy'")["label"]) == {"normal"}


def test_a_table_that_contradicts_its_folders_is_named(segmented, tmp_path):
    export_labels(segmented, tmp_path / "classes", reader="anna")
    table = tmp_path / "classes" / "labels.csv"
    table.write_text(table.read_text().replace(",codocyte", ",normal"))
    with pytest.raises(SmearError, match=r"labels\.csv: row \d+ calls codocyte/\S+ 'normal', which lies in the folder"):
        import_labels(tmp_path / "classes", segmented, reader="anna")
    with pytest.raises(SmearError, match=r"labels\.csv: is a table of crops, .* import their folder, \S+classes$"):
        import_labels(table, segmented, reader="anna")


def test_one_smear_with_exchanged_places_is_refused_and_the_others_are_done(tmp_path, capsys):
    rng = np.random.default_rng(5)
    grid = np.stack(np.meshgrid(np.arange(20, 400, 40), np.arange(20, 400, 40)), axis=-1).reshape(-1, 2)
    cells = pd.concat(
        pd.DataFrame(grid[rng.permutation(100)[:60]] + rng.uniform(-9, 9, (60, 2)), columns=["x_px", "y_px"]).assign(
            smear=smear, cell=range(60), radius_px=14.0
        )
        for smear in ("p.png", "q.png", "r.png")
    )
    folder = tmp_path / "{cells}"
    folder.mkdir()
    cells.to_csv(folder / "cells.csv", index=False)
    wrong = cells["smear"] == "q.png"
    labels = cells.assign(
        x_px=cells["x_px"].where(~wrong, cells["y_px"]), y_px=cells["y_px"].where(~wrong, cells["x_px"])
    )
    assert main(["import-labels", str(clicks_csv(tmp_path / "a.csv", labels)), str(folder), "--reader", "bo"]) == 1
    out, err = capsys.readouterr()
    assert "120 readings by bo added to" in out
    assert "from 180 labels in" in out
    assert out.endswith("; 60 left out: 60 with x and y exchanged\n")
    assert "of 60 labels of q.png meet a cell of" in err
    assert "and 60 would if x and y were exchanged; exchange the columns" in err
    read = load_readings(folder / "readings.csv")
    assert read["smear"].value_counts().to_dict() == {"p.png": 60, "r.png": 60}


def test_names_are_matched_and_each_lost_label_is_told_with_its_reason(segmented, tmp_path, capsys):
    cells = pd.read_csv(segmented / "cells.csv")
    renamed = cells.assign(smear=cells["smear"].map({"a_1.png": r"D:\scans\A_1.tif", "b.jpg": "c.jpg"}))
    source = clicks_csv(
        tmp_path / "a.csv", pd.concat([renamed, renamed[:1].assign(x_px=lambda rows: rows["x_px"] + 4)])
    )
    assert main(["import-labels", str(source), str(segmented), "--reader", "cy"]) == 1
    out, err = capsys.readouterr()
    assert "6 readings by cy added" in out
    assert "from 13 labels" in out
    assert "; 7 left out" in out
    assert "a.csv: row 8 names the smear 'c.jpg' (and so do 5 labels more), which is not among the smears of" in err
    assert "the nearest names are b.jpg, a_1.png" in err
    assert "row 14 puts 'teardrop'" in err
    assert "another label is nearer to the cell there" in err
    assert main(["import-labels", str(tmp_path / "none.csv"), str(segmented), "--reader", "cy"]) == 2


def test_classes_keep_the_spelling_of_the_readings(segmented, tmp_path, capsys):
    cells = pd.read_csv(segmented / "cells.csv").assign(label="Burr  Cell")
    cells.to_csv(tmp_path / "a.csv", index=False)
    assert main(["import-labels", str(tmp_path / "a.csv"), str(segmented), "--reader", "cy"]) == 0
    assert "'Burr  Cell' and 'burr cell' differ in capitals, spaces or unseen letters alone" in capsys.readouterr().err
    view = current_labels(load_readings(segmented / "readings.csv"), reader="cy")
    assert set(view["label"]) == {"burr cell"}


def test_what_cannot_be_done_is_said(segmented, tmp_path):
    export_labels(segmented, tmp_path / "classes")
    twice = tmp_path / "classes" / "normal" / "b.jpg_0001.png"
    twice.write_bytes(b"")
    with pytest.raises(SmearError, match=r"the same cell lies in codocyte"):
        read_class_folder(tmp_path / "classes")
    twice.unlink()
    (tmp_path / "classes" / "normal" / "IMG_1.jpg").write_bytes(b"")
    with pytest.raises(SmearError, match=r"IMG_1\.jpg: its name does not tell smear and cell"):
        import_labels(tmp_path / "classes", segmented, reader="cy")
    (tmp_path / "classes" / "normal" / "IMG_1.jpg").rename(tmp_path / "classes" / "normal" / "a_1.png_0099.png")
    with pytest.raises(SmearError, match=r"names cell 99 of a_1\.png, which is not in .*cells\.csv"):
        import_labels(tmp_path / "classes", segmented, reader="cy")
    with pytest.raises(SmearError, match="Chula RBC-12 has no type burr cell"):
        export_labels(segmented, tmp_path / "points", layout="chula")
    for replace in (False, True):
        with pytest.raises(SmearError, match="is not empty; choose another folder"):
            export_labels(segmented, tmp_path / "classes", replace=replace)
    with pytest.raises(SmearError, match="no reading by dora; its readers are anna, bo"):
        export_labels(segmented, tmp_path / "new", reader="dora")
    with pytest.raises(SmearError, match="no readings there"):
        export_labels(tmp_path, tmp_path / "new.csv")
    (segmented / "crops" / "b" / "0001.png").unlink()
    with pytest.raises(SmearError, match=r"no picture of cell 1 of b\.jpg"):
        export_labels(segmented, tmp_path / "new")


def test_from_segment_to_the_truth_that_reproduce_reads(tmp_path, capsys):
    smears, cells = tmp_path / "smears", tmp_path / "cells"
    smears.mkdir()
    truths = {}
    for smear in synthetic_smears(2, seed=3, n_cells=15):
        Image.fromarray(smear.image).save(smears / smear.name)
        truths[smear.name] = smear.truth.assign(smear=smear.name)
    assert main(["segment", str(smears), "--out", str(cells), "--upscale", "none", "--size", "24"]) == 0
    pd.concat(truths.values()).to_csv(tmp_path / "clicks.csv", index=False)  # in the place of a reader at the labeller
    assert main(["import-labels", str(tmp_path / "clicks.csv"), str(cells), "--reader", "anna"]) == 0
    assert "readings by anna added" in capsys.readouterr().out
    assert main(["export-labels", str(cells), str(smears / "labels.csv")]) == 0
    assert main(["export-labels", str(cells), str(smears / "labels.csv")]) == 2
    assert "--replace" in capsys.readouterr().err
    assert main(["export-labels", str(cells), str(smears / "labels.csv"), "--replace"]) == 0
    coco = tmp_path / "labels.json"
    assert main(["export-labels", str(cells), str(coco), "--as", "coco", "--smears", str(smears)]) == 0
    assert {image["file_name"] for image in json.loads(coco.read_text())["images"]} == set(truths)
    labels = current_labels(load_readings(cells / "readings.csv"))
    for smear in folder_smears(smears):
        smear_labels = labels[labels["smear"] == smear.name]
        assert len(smear_labels) > 10
        assert np.array_equal(smear.truth[["x_px", "y_px"]], smear_labels[["x_px", "y_px"]])
        assert smear.truth["label"].tolist() == smear_labels["label"].tolist()
    classes = tmp_path / "classes"
    assert main(["export-labels", str(cells), str(classes)]) == 0
    shutil.rmtree(classes)
    first, second, *_ = sorted((cells / "crops" / "synthetic_00").iterdir())
    other = second.read_bytes()
    first.rename(second)
    first.write_bytes(other)
    capsys.readouterr()
    assert main(["export-labels", str(cells), str(classes)]) == 2
    assert "synthetic_00: a picture is missing, or not the one that was written there; run " in capsys.readouterr().err
    assert not classes.exists()


def test_rows_that_name_a_formula_are_left_out_and_named(tmp_path, capsys):
    table = tmp_path / "labels.csv"
    table.write_text("smear,x_px,y_px,label\na.png,1,2,normal\na.png,9,2,=1+1\n=b.png,1,2,normal\na.png,20,2,++\n")
    assert main(["import-labels", str(table), str(tmp_path / "readings.csv"), "--reader", "Ann"]) == 1
    printed = capsys.readouterr().err
    assert f"{table}: row 3 has the label '=1+1'; a spreadsheet takes that for a formula" in printed
    assert f"{table}: row 4 has the smear '=b.png'; a spreadsheet takes that for a formula" in printed
    assert load_readings(tmp_path / "readings.csv")["label"].tolist() == ["normal", "++"]
    with pytest.raises(SmearError, match="--reader @Ann: a spreadsheet takes that for a formula"):
        import_labels(table, tmp_path / "readings.csv", reader="@Ann")


def test_a_formula_in_readings_of_another_program_is_not_exported(segmented, tmp_path):
    path = segmented / "readings.csv"
    path.write_text(path.read_text().replace("burr cell", "=burr"))
    for out in ("labels.csv", "classes"):
        with pytest.raises(
            LogbookError, match=r"readings\.csv: row \d+ has label '=burr'; a spreadsheet takes that for"
        ):
            export_labels(segmented, tmp_path / out)
        assert not (tmp_path / out).exists()


def test_names_that_begin_with_a_hash_come_back(tmp_path):
    rows = [
        ("#1.jpg", 0, 3.5, 4.5, 8.0, "#codo"),
        ("1.jpg", 0, 3.5, 4.5, 8.0, "codo"),
        ("1.jpg", 1, 40.0, 9.0, 8.0, "#"),
    ]
    table = pd.DataFrame(rows, columns=KEPT)
    append_readings(tmp_path / "readings.csv", table.assign(reader="anna"))
    export_labels(tmp_path / "readings.csv", tmp_path / "labels.csv")
    assert import_labels(tmp_path / "labels.csv", tmp_path / "back.csv", reader="bo").startswith(
        "3 readings by bo added"
    )
    pd.testing.assert_frame_equal(by_cell(load_readings(tmp_path / "back.csv")), by_cell(table))
