"""Readings of one folder go to the cells of another as they were written, whatever the numbers are there."""

import io

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from rbcnb.cli import main
from rbcnb.labels.assign import corrected_labels, label_cells
from rbcnb.labels.consensus import added_cells, current_labels, moved_cells
from rbcnb.labels.formats import read_cells
from rbcnb.labels.import_export import export_labels, import_labels
from rbcnb.labels.logbook import LogbookError
from rbcnb.labels.merge_readings import readings_to_cells
from rbcnb.labels.readings import Reading, append_readings, load_readings
from rbcnb.segmentation.batch import segment_files
from rbcnb.segmentation.segment import FinderSpec
from rbcnb.smears.annotations import format_of
from rbcnb.smears.images import SmearError
from rbcnb.smears.sources import synthetic_smears
from rbcnb.workflow.pages import folder_labeller

PLACE = ["x_px", "y_px", "radius_px"]
FOUND = [("a.png", 0, 10.0, 10.0), ("a.png", 1, 50.0, 10.0), ("b.png", 0, 30.0, 30.0)]


def cells_csv(folder, cells):
    folder.mkdir(exist_ok=True)
    table = pd.DataFrame(cells, columns=["smear", "cell", "x_px", "y_px"]).assign(radius_px=8.0)
    table.to_csv(folder / "cells.csv", index=False)
    return folder


def reading(smear, cell, x, y, reader="anna", **more):
    return Reading(smear=smear, cell=cell, x_px=x, y_px=y, radius_px=8.0, reader=reader, **{"label": "normal"} | more)


@pytest.fixture
def source(tmp_path):
    """Two readers' words: labels, a skip, an unsure one and an undo, with a comment."""
    path = tmp_path / "there" / "readings.csv"
    readings = [
        reading("a.png", 0, 10.0, 10.0, comment='thick, "blue"'),
        reading("a.png", 1, 50.0, 10.0, kind="skip", label=""),
        reading("a.png", 1, 50.0, 10.0, label="codocyte"),
        reading("b.png", 0, 30.0, 30.0, reader="ben", kind="unsure", label=""),
        reading("b.png", 0, 30.0, 30.0, label="codocyte"),
        reading("b.png", 0, 30.0, 30.0, kind="undo", label=""),
    ]
    append_readings(path, readings)
    return path


def test_all_of_them_arrive_as_they_were_written(source, tmp_path):
    folder = cells_csv(tmp_path / "here", FOUND)
    summary = import_labels(source, folder)
    assert summary.startswith("6 readings by anna, ben added")
    there = load_readings(source)
    pd.testing.assert_frame_equal(load_readings(folder / "readings.csv"), there)
    assert import_labels(source, folder).startswith("0 readings by nobody")
    pd.testing.assert_frame_equal(load_readings(folder / "readings.csv"), there)


def test_they_find_their_cells_by_place_and_what_was_missed_is_added(source, tmp_path):
    moved = [("a.png", 0, 50.0, 12.0), ("a.png", 1, 11.0, 10.0), ("b.png", 0, 80.0, 80.0), ("b.png", 1, 90.0, 9.0)]
    folder = cells_csv(tmp_path / "here", moved)
    assert main(["import-labels", str(source), str(folder)]) == 0
    readings = load_readings(folder / "readings.csv")
    words = current_labels(readings).set_index(["smear", "cell"])
    assert words.loc[("a.png", 1), "label"] == "normal"
    assert words.loc[("a.png", 0), "label"] == "codocyte"
    added = added_cells(readings, pd.read_csv(folder / "cells.csv"))
    assert added[["smear", "cell", "x_px"]].to_numpy().tolist() == [["b.png", 2, 30.0]]
    assert words.loc[("b.png", 2), "kind"] == "unsure"


def test_a_cell_that_is_added_so_has_a_picture(tmp_path):
    smear = next(synthetic_smears(1, seed=0, n_cells=12))
    Image.fromarray(smear.image).save(tmp_path / "a.png")
    folder = tmp_path / "here"
    segment_files([tmp_path / "a.png"], folder, spec=FinderSpec(upscale="none", diameter_px=40, size_px=32))
    found = pd.read_csv(folder / "cells.csv")
    free = [
        (x, y)
        for x in range(30, 150, 10)
        for y in range(30, 110, 10)
        if np.hypot(found.x_px - x, found.y_px - y).min() > 22
    ]
    x, y = free[0]
    source = tmp_path / "there" / "readings.csv"
    append_readings(
        source, [Reading(smear="a.png", cell=3, x_px=x, y_px=y, radius_px=20.0, reader="ben", label="normal")]
    )
    import_labels(source, folder)
    assert import_labels(source, folder).startswith("0 readings")
    export_labels(folder, tmp_path / "crops")  # needs the picture
    (picture,) = (tmp_path / "crops" / "normal").iterdir()
    crop = np.array(Image.open(picture))
    assert crop.shape == (32, 32, 3)
    assert np.abs(crop[16, 16].astype(int) - smear.image[y, x]).max() < 40


def test_one_reader_and_names_in_other_writing(source, tmp_path):
    folder = cells_csv(tmp_path / "here", [("A.PNG", 0, 10.0, 10.0), ("B.PNG", 0, 30.0, 30.0)])
    import_labels(source, folder, reader="ben")
    readings = load_readings(folder / "readings.csv")
    assert readings["reader"].tolist() == ["ben"]
    assert readings["smear"].tolist() == ["B.PNG"]


def test_what_has_no_cell_here_is_named_and_the_rest_is_done(source, tmp_path, capsys):
    append_readings(source, [Reading(smear="a.png", cell=77, reader="anna", label="normal")])
    folder = cells_csv(tmp_path / "here", FOUND[:2])
    with pytest.raises(SmearError, match=r"b\.png"):
        import_labels(source, folder)
    assert not (folder / "readings.csv").exists()
    assert main(["import-labels", str(source), str(folder)]) == 1
    printed = capsys.readouterr()
    assert "3 readings by anna added" in printed.out
    assert "4 left out" in printed.out
    assert "'b.png'" in printed.err
    assert "anna's reading of cell 77 of a.png: it has no place" in printed.err


def test_what_was_struck_elsewhere_and_is_not_found_here_is_counted(source, tmp_path):
    append_readings(source, [reading("a.png", 5, 90.0, 90.0, kind="strike", label="")])
    folder = cells_csv(tmp_path / "here", FOUND)
    summary = import_labels(source, folder)
    assert summary.endswith("from 7 in " + str(source) + "; 1 strikes of what was not found here are not needed")
    assert len(load_readings(folder / "readings.csv")) == 6


def test_other_tables_need_a_reader(source, tmp_path):
    assert format_of(source) == "readings"
    other = tmp_path / "labels.csv"
    other.write_text("smear,x_px,y_px,label\na.png,10,10,normal\n")
    assert format_of(other) == "csv"
    with pytest.raises(SmearError, match="say --reader NAME"):
        import_labels(other, cells_csv(tmp_path / "here", FOUND))


def test_a_reading_with_a_formula_is_left_out_and_named(source, tmp_path):
    text = source.read_text().replace("codocyte", "=1+1", 1).replace(",ben,", ",@ben,")
    source.write_text(text)
    errors = []
    summary = import_labels(source, tmp_path / "here.csv", errors=errors)
    assert summary.endswith("from 6 in " + str(source) + "; 2 left out: 2 unreadable")
    assert "anna's reading of cell 1 of a.png has label '=1+1'; a spreadsheet takes that" in str(errors[0])
    assert "@ben's reading of cell 0 of b.png has reader '@ben'; a spreadsheet takes that" in str(errors[1])
    assert load_readings(tmp_path / "here.csv")["reader"].unique().tolist() == ["anna"]


def as_a_spreadsheet_saves(text, how):
    table = pd.read_csv(io.StringIO(text), dtype=str, keep_default_na=False)
    if how == "semicolons":
        places = ["x_px", "y_px", "radius_px"]
        table[places] = table[places].map(lambda number: number.replace(".", ","))
        return "\ufeff" + table.to_csv(index=False, sep=";", lineterminator="\r\n") + ";" * 10 + "\r\n"
    if how == "tabs":
        return table.to_csv(index=False, sep="\t")
    if how == "capitals":
        return table.rename(columns=lambda name: f" {name.upper().replace('_', ' ')}").to_csv(index=False)
    if how == "times":
        table["time"] = table["time"].map(lambda time: time.replace("T", " ").replace("Z", "+00:00"))
        return "sep=,\n" + table.to_csv(index=False)
    return table.assign(seen="")[[*table.columns[::-1], "seen"]].to_csv(index=False)


@pytest.mark.parametrize("how", ["semicolons", "tabs", "capitals", "times", "order"])
def test_readings_that_a_spreadsheet_saved_arrive_as_they_were_written(source, tmp_path, how, capsys):
    append_readings(source, [reading("#c.png", 3, 7.5, 8.25, comment="# 2, of 3, cells")])
    there = load_readings(source)
    saved = tmp_path / "saved.csv"
    saved.write_text(as_a_spreadsheet_saves(source.read_text(), how), encoding="utf-8", newline="")
    assert main(["import-labels", str(saved), str(tmp_path / "here.csv"), "--reader", "anna"]) == 0
    assert main(["import-labels", str(saved), str(tmp_path / "here.csv")]) == 0
    here = load_readings(tmp_path / "here.csv")
    by = ["smear", "cell", "reader", "revision"]
    pd.testing.assert_frame_equal(here.sort_values(by, ignore_index=True), there.sort_values(by, ignore_index=True))
    capsys.readouterr()
    assert main(["import-labels", str(saved), str(tmp_path / "there.csv"), "--as", "csv", "--reader", "x"]) == 2
    assert "is a table of readings, of which not all are labels; bring it in with" in capsys.readouterr().err


def test_rows_and_columns_that_a_spreadsheet_lost_are_named(source, tmp_path):
    lines = source.read_text().splitlines()
    damaged = tmp_path / "damaged.csv"
    damaged.write_text("\n".join([*lines[:3], lines[3].rpartition(",")[0], *lines[4:]]))
    errors = []
    summary = import_labels(damaged, tmp_path / "here.csv", errors=errors)
    assert summary.endswith(f"from 6 in {damaged}; 1 left out: 1 unreadable")
    assert "damaged.csv: row 4 has more or fewer fields than the header: 11, not 12" in str(errors[0])
    damaged.write_text("\n".join(line.rpartition(",")[0] for line in lines))
    with pytest.raises(LogbookError, match=r"damaged\.csv: row 1 lacks time; save it with all its columns"):
        import_labels(damaged, tmp_path / "new.csv")
    damaged.write_text(source.read_text().replace("Z\n", " in the morning\n", 1))
    with pytest.raises(LogbookError, match=r"damaged\.csv: row 2 has time .* in the morning'; give a time such as"):
        import_labels(damaged, tmp_path / "new.csv")


def test_the_folder_of_readings_serves_as_their_file(source, tmp_path):
    cells_csv(source.parent, FOUND)
    assert import_labels(source.parent, tmp_path / "here.csv").startswith("6 readings by anna, ben added")


def test_cells_that_are_found_anew_keep_what_was_said_of_them(tmp_path, capsys):
    smear = next(synthetic_smears(1, seed=0, n_cells=40))
    Image.fromarray(smear.image).save(tmp_path / "a.png")
    folder, truth = tmp_path / "here", smear.truth.assign(smear="a.png", group="a.png")
    segment = ["segment", str(tmp_path / "a.png"), "--out", str(folder), "--upscale", "none", "--size", "32"]
    assert main([*segment, "--method", "paper", "--diameter", "40"]) == 0
    found = read_cells(folder / "cells.csv")
    named = label_cells(found, truth).dropna(subset=["label"])
    append_readings(folder / "readings.csv", named[["smear", "cell", *PLACE, "label"]].assign(reader="anna"))
    nothing = {"x_px": 0.5, "y_px": 0.5, "radius_px": 3.0, "kind": "strike", "label": ""}
    append_readings(folder / "readings.csv", [Reading(smear="a.png", cell=98, reader="anna", **nothing)])
    before = (folder / "readings.csv").read_bytes()

    assert main([*segment, "--method", "learned", "--replace"]) == 0
    found_again = read_cells(folder / "cells.csv")
    assert not found_again[["x_px", "y_px"]].equals(found[["x_px", "y_px"]])
    assert f"The earlier table: {folder / 'readings_before_1.csv'}" in capsys.readouterr().out
    assert (folder / "readings_before_1.csv").read_bytes() == before
    assert not [path for path in folder.glob(".*") if "part" in path.name]
    readings = load_readings(folder / "readings.csv")
    assert len(readings) == len(named)  # the strike went with what it struck
    assert moved_cells(readings, found_again) == []
    cells = pd.concat([found_again[["smear", "cell", *PLACE]], added_cells(readings, found_again)], ignore_index=True)
    true = label_cells(cells, truth).set_index("cell")["label"]
    page = folder_labeller(folder, reader="anna")
    by_number = page.table().set_index("cell")["label"]
    assert len(by_number) == len(named)
    assert by_number.to_dict() == true[by_number.index].to_dict()
    export_labels(folder, tmp_path / "classes", reader="anna")
    pictures = {int(path.stem.split("_")[-1]): path.parent.name for path in (tmp_path / "classes").glob("*/*.png")}
    assert pictures == by_number.to_dict()
    by_place, n_lost = corrected_labels(cells.assign(label=None), current_labels(readings))
    assert n_lost == 0
    assert by_place.dropna(subset="label").set_index("cell")["label"].to_dict() == by_number.to_dict()

    assert main([*segment, "--method", "learned", "--replace"]) == 0  # all is as it should be
    assert not (folder / "readings_before_2.csv").exists()


def test_readings_of_other_cells_are_used_by_no_command(tmp_path, capsys):
    folder = cells_csv(tmp_path / "here", FOUND)
    (folder / "smears.csv").write_text("smear,cells\na.png,2\nb.png,1\n")
    (folder / "finder.json").write_text("{}")
    append_readings(folder / "readings.csv", [reading("a.png", 0, 50.0, 10.0), reading("a.png", 7, 11.0, 10.0)])
    commands = (["label", "--reader", "anna"], ["train"], ["export-labels", str(tmp_path / "labels.csv")])
    for name, *more in commands:
        assert main([name, str(folder), *more]) in (1, 2)
        assert (
            "the numbers of 2, such as 0 of 'a.png', mean other cells now; run rbcnb segment" in capsys.readouterr().err
        )
    assert readings_to_cells(folder)
    assert load_readings(folder / "readings.csv")["cell"].tolist() == [1, 0]


def test_a_reading_of_before_and_one_of_now_meet_one_cell(tmp_path):
    folder = cells_csv(tmp_path / "here", [("a.png", 0, 50.0, 10.0), ("a.png", 1, 10.0, 10.0)])
    rows = [
        reading("a.png", 0, 10.0, 10.0),  # before
        reading("a.png", 0, 50.5, 10.0, label="codocyte"),  # on a page that was opened since
        Reading(smear="a.png", cell=1, x_px=50.5, y_px=10.0, reader="ben", label="normal"),  # from a table of points
    ]
    append_readings(folder / "readings.csv", rows)
    readings_to_cells(folder)
    assert load_readings(folder / "readings.csv")["cell"].tolist() == [1, 0, 0]


def test_labels_that_come_before_the_cells_get_them(tmp_path, capsys):
    smear = next(synthetic_smears(1, seed=0, n_cells=40))
    Image.fromarray(smear.image).save(tmp_path / "a.png")
    folder, truth = tmp_path / "here", smear.truth.assign(smear="a.png")
    folder.mkdir()
    truth[["smear", "x_px", "y_px", "label"]].to_csv(tmp_path / "labels.csv", index=False)
    assert main(["import-labels", str(tmp_path / "labels.csv"), str(folder), "--reader", "anna"]) == 0
    segment = ["segment", str(tmp_path / "a.png"), "--out", str(folder)]
    assert f"next, so that they get cells: rbcnb segment SMEARS --out {folder}" in capsys.readouterr().out
    assert main([*segment, "--min-score", "0.9"]) == 0  # so that some are not found
    cells = read_cells(folder / "cells.csv")
    readings = load_readings(folder / "readings.csv")
    added = added_cells(readings, cells)
    assert 0 < len(added) < len(truth)
    assert added["radius_px"].tolist() == [cells["radius_px"].median()] * len(added)
    page = folder_labeller(folder, reader="anna")
    assert len(page.table()) == len(truth)
    assert sum(page.sitting.counts()[label] for label in set(truth["label"])) == len(truth)
    crops = [page._pictures.crop(row) for row in range(len(cells) + len(added))]
    assert {crop.shape for crop in crops} == {(64, 64, 3)}
    true = label_cells(pd.concat([cells, added], ignore_index=True), truth.assign(group="")).set_index("cell")["label"]
    assert readings.set_index("cell")["label"].to_dict() == true.dropna().to_dict()
