"""A run's files are written whole, read back as they were, and missed with the notebook that makes them."""

import ast
import dataclasses
import json

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from rbcnb._utils.files import atomic_write, file_digest
from rbcnb.plotting import plot_class_counts, plot_focal_curves
from rbcnb.workflow.notebooks import find_notebooks
from rbcnb.workflow.run import CAPTIONS, DamagedResultError, MissingResultError, Run


def test_tables_come_back_as_they_were(tmp_path):
    run = Run.at(tmp_path / "a")
    table = pd.DataFrame(
        {
            "smear": ["1", "NA"],
            "group": ["01", "01"],
            "label": ["2", "None"],
            "x_px": [1.5, 2.0],
            "alpha": [np.nan, 0.5],
        }
    )
    assert run.save_csv(table, "cells") is table
    pd.testing.assert_frame_equal(run.load_csv("cells"), table, check_dtype=False)
    assert run.load_csv("cells")["label"].tolist() == ["2", "None"]
    run.save_table(table, "table1")
    assert (tmp_path / "a" / "tables" / "table1.csv").exists()


def test_crops_come_back_by_row(tmp_path):
    run = Run.at(tmp_path)
    crops = np.arange(4 * 2 * 2 * 3, dtype=np.uint8).reshape(4, 2, 2, 3)
    run.save_crops(crops)
    np.testing.assert_array_equal(run.load_crops(), crops)
    np.testing.assert_array_equal(run.load_crops(np.array([3, 1])), crops[[3, 1]])
    assert run.load_crops().flags.writeable


def test_what_is_missing_is_named_with_its_maker(tmp_path):
    run = Run.at(tmp_path)
    with pytest.raises(MissingResultError, match=r"cells.csv: not there; run notebook 01_segmentation first"):
        run.load_csv("cells")
    with pytest.raises(MissingResultError, match="run notebook 04_cv_tuning first"):
        run.load_table("choices")


def test_images_come_back_as_they_were(tmp_path):
    image = np.arange(5 * 4 * 3, dtype=np.uint8).reshape(5, 4, 3)
    Run.at(tmp_path).save_image(image, "smear")
    np.testing.assert_array_equal(Run.at(tmp_path).load_image("smear"), image)


def test_the_data_hash_follows_the_data(tmp_path):
    run = Run.at(tmp_path)
    assert run.data_hash() == "none"
    run.save_csv(pd.DataFrame({"smear": ["a"]}), "cells")
    without_crops = run.data_hash()
    run.save_crops(np.zeros((1, 2, 2, 3), np.uint8))
    with_crops = run.data_hash()
    run.save_crops(np.ones((1, 2, 2, 3), np.uint8))
    assert len({"none", without_crops, with_crops, run.data_hash()}) == 4


def test_figures_say_what_they_were_drawn_from(tmp_path):
    run = Run.at(tmp_path / "mine", seed=3)
    figure = plot_focal_curves()
    assert run.save_figure(figure, "fig01") is figure
    with Image.open(tmp_path / "mine" / "figures" / "fig01.png") as image:
        assert image.text["Source"] == "run mine, data none, seed 3"
        assert image.width > 400


def test_every_figure_of_the_notebooks_has_words_for_those_who_cannot_see_it(tmp_path):
    cells = [cell for path in find_notebooks() for cell in json.loads(path.read_text())["cells"]]
    trees = [ast.parse("".join(cell["source"])) for cell in cells if cell["cell_type"] == "code"]
    calls = [node for tree in trees for node in ast.walk(tree) if isinstance(node, ast.Call)]
    drawn = [call.args[1] for call in calls if getattr(call.func, "attr", "") == "save_figure"]
    names = {name.value for name in drawn if isinstance(name, ast.Constant)}
    assert len(names) > 30
    assert not names - set(CAPTIONS)
    drawn = Run.at(tmp_path).save_figure(plot_class_counts(pd.Series({"codocyte": 20, "normal": 80})), "class_counts")
    assert drawn.alt == CAPTIONS["class_counts"]


def test_a_damaged_record_is_named(tmp_path):
    run = Run.at(tmp_path)
    assert run.load_record() == {}
    run.save_record({"b": 1, "a": 2})
    assert json.loads((tmp_path / "run.json").read_text()) == run.load_record() == {"a": 2, "b": 1}
    (tmp_path / "run.json").write_text("{")
    with pytest.raises(ValueError, match=r"run.json: cannot be read as JSON .* remove it"):
        run.load_record()


def test_a_write_that_fails_leaves_the_old_file(tmp_path):
    target = tmp_path / "deep" / "table.csv"
    with atomic_write(target) as part:
        assert part.suffix == ".csv"
        part.write_text("old")

    def fail():
        with atomic_write(target) as part:
            part.write_text("new, but only ha")
            raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        fail()
    assert target.read_text() == "old"
    assert [path.name for path in target.parent.iterdir()] == ["table.csv"]


def test_the_manifest_tells_of_every_file_what_it_was_made_from(tmp_path):
    run = Run.at(tmp_path, seed=3)
    run.save_csv(pd.DataFrame({"smear": ["a"]}), "cells")
    run.save_table(pd.DataFrame({"score": [0.5]}), "table1")
    run.save_figure(plot_focal_curves(), "fig01")
    run.save_json({"method": "paper"}, "finder")
    manifest = run.load_manifest()
    assert set(manifest) == {"cells.csv", "tables/table1.csv", "figures/fig01.png", "finder.json"}
    for name, entry in manifest.items():
        assert entry["digest"] == file_digest(tmp_path / name)
        assert (entry["data"], entry["seed"]) == (run.data_hash(), 3)
    # A kernel of a batch learns the seed from the batch's record.
    Run.at(tmp_path).save_record({"seeds": {"seed": 8}})
    Run.at(tmp_path).save_table(pd.DataFrame({"score": [0.6]}), "table1")
    assert Run.at(tmp_path).load_manifest()["tables/table1.csv"]["seed"] == 8
    assert json.loads((tmp_path / "finder.json").read_text(encoding="utf-8")) == {"method": "paper"}


def test_what_is_read_must_be_what_was_written(tmp_path):
    run = Run.at(tmp_path, notebook="04_cv_tuning")
    run.save_csv(pd.DataFrame({"n": [1]}), "splits_honest")
    run.save_crops(np.zeros((2, 4, 4, 3), np.uint8))
    path = tmp_path / "splits_honest.csv"
    path.write_text("n\n2\n")
    with pytest.raises(DamagedResultError, match=rf"{path}: not as it was written.*run notebook 04_cv_tuning again"):
        run.load_csv("splits_honest")
    assert run.changed_results("04_cv_tuning") == ["fold_trials.csv", "splits_honest.csv", "tables/choices.csv"]
    assert dataclasses.replace(run, checked=False).load_csv("splits_honest")["n"].tolist() == [2]
    (tmp_path / "crops.npy").write_bytes(b"")
    with pytest.raises(DamagedResultError, match=r"crops.npy: not as it was written"):
        run.load_crops()
