"""F1 along the renderer's axes, and the command that trains the finder."""

import csv
import sys

import pytest
import train_finder
from axes import AXES, Axis, along_axes, middle_half, views_of

from rbcnb.segmentation.finder_net import load_finder


def small_axis():
    return Axis("diameter_px", (14.0, 60.0), lambda value: {"diameter_px": (value, value)}, (9.5, 46.0))


def test_an_axis_sets_its_value_and_nothing_else():
    for value in small_axis().points:
        for view in views_of(small_axis(), value, 3, seed=1):
            assert 2 * view.radius_px == pytest.approx(value)
            assert min(view.read().shape[:2]) >= 240
    ranges = middle_half()
    for axis in AXES:
        for value in axis.points:
            assert axis.settings(value).keys() <= vars(ranges).keys()


def test_the_table_says_where_f1_falls_below_nine_tenths():
    scores = {True: (10, 10, 0), False: (10, 5, 0)}  # small cells are all found, of large ones half

    def score(view):
        return dict(zip(("n_truth", "n_hits", "n_false"), scores[view.radius_px < 20], strict=True))

    table = along_axes(score, n=2, axes=[small_axis()])
    assert table["F1"].round(3).tolist() == [1.0, 0.667]
    assert table["low"].tolist() == ["", "below 0.9"]
    assert table["trained"].tolist() == ["yes", "no"]


@pytest.mark.slow
def test_the_command_trains_and_goes_on_from_where_it_was(tmp_path, monkeypatch):
    arguments = ["train_finder.py", "--out", str(tmp_path), "--steps", "2", "--views", "3", "--jobs", "0"]
    monkeypatch.setattr(sys, "argv", arguments)
    train_finder.main()
    finder = load_finder(tmp_path / "finder.safetensors")
    assert finder.card["training"]["steps"] == 2
    assert finder.card["calibrated_on"] == ["rendered views"]
    assert (finder.score[1:] >= finder.score[:-1]).all()
    assert set(finder.card["test"]) >= {"recall", "precision", "f1_score"}
    with (tmp_path / "finder_log.csv").open() as file:
        assert [row["step"] for row in csv.DictReader(file)] == ["2"]
    (tmp_path / "finder.safetensors").unlink()
    load_finder.cache_clear()
    train_finder.main()  # the training is finished; only the rest is done again
    assert load_finder(tmp_path / "finder.safetensors").digest == finder.digest
