"""Labels reach the cells they belong to, detection is scored, twins are compared."""

import math

import numpy as np
import pandas as pd
import pytest

from rbcnb.labels.assign import (
    click_offsets,
    corrected_labels,
    count_classes,
    detection_table,
    label_cells,
    twin_readings,
)


def table(smear: str, points: list[tuple[float, float]], **columns) -> pd.DataFrame:
    frame = pd.DataFrame(points, columns=["x_px", "y_px"]).assign(smear=smear, radius_px=10.0)
    return frame.assign(cell=range(len(points)), **columns)


def test_each_cell_takes_the_nearest_label_once():
    cells = pd.concat([table("a", [(0, 0), (30, 0), (60, 0)]), table("b", [(0, 0)])], ignore_index=True)
    truth = table("a", [(31, 0), (4, 3), (100, 0)], label=["normal", "codocyte", "normal"], group="g")
    labelled = label_cells(cells, truth)
    assert labelled["label"].tolist()[:2] == ["codocyte", "normal"]
    assert labelled["label"].isna().tolist() == [False, False, True, True]
    assert labelled["group"].tolist() == ["g", "g", "g", "b"]
    stacked = label_cells(cells, truth.set_axis([0, 0, 0]))  # as parts that were put together may be numbered
    assert stacked["label"].tolist()[:2] == ["codocyte", "normal"]


def test_the_distance_limit_is_in_radii():
    cells, truth = table("a", [(0, 0)]), table("a", [(8.5, 0)], label="normal", group="a")
    assert label_cells(cells, truth, match_radii=0.9)["label"].tolist() == ["normal"]
    assert label_cells(cells, truth, match_radii=0.8)["label"].isna().all()


def test_counts_stand_in_the_papers_order():
    cells = pd.DataFrame({"label": ["normal"] * 3 + ["burr_cell", "codocyte"]})
    counts = count_classes(cells)
    assert counts.index.tolist() == ["codocyte", "normal", "burr_cell"]
    assert counts["n_cells"].tolist() == [1, 3, 1]
    assert counts["share"].sum() == pytest.approx(1)


def test_detection_counts_hits_misses_and_false_alarms_inside_only():
    cells = table("a", [(50, 50), (80, 50), (5, 5)])
    truth = table("a", [(52, 50), (50, 90)], label="normal", group="a")
    smears = pd.DataFrame({"smear": ["a", "empty"], "height_px": 120, "width_px": 120})
    scores = detection_table(cells, truth, smears, exhaustive=True)
    assert scores["smear"].tolist() == ["a"]
    row = scores.iloc[0]
    assert (row["n_truth"], row["n_hits"], row["n_false"]) == (2, 1, 1)
    assert (row["precision"], row["recall"], row["f1_score"]) == (0.5, 0.5, 0.5)
    sparse = detection_table(cells, truth, smears, exhaustive=False).iloc[0]
    assert sparse["recall"] == 0.5
    assert math.isnan(sparse["precision"])


def test_twins_are_read_cell_by_cell():
    first = table("1.jpg", [(10, 10), (50, 50), (90, 90)], label=["normal", "codocyte", "normal"], group="1.jpg")
    second = table("2.jpg", [(52, 50), (12, 10)], label=["normal", "normal"], group="1.jpg")
    alone = table("3.jpg", [(10, 10)], label="normal", group="3.jpg")
    pairs = twin_readings(pd.concat([first, second, alone], ignore_index=True))
    assert set(map(tuple, pairs[["first", "second"]].to_numpy())) == {("normal", "normal"), ("codocyte", "normal")}
    assert len(pairs) == 2
    assert np.array_equal(twin_readings(alone).columns, ["group", "first", "second"])


def test_readers_go_before_what_came_with_the_smears():
    cells = pd.concat([table("a", [(0, 0), (30, 0), (60, 0)]), table("b", [(0, 0), (30, 0)])], ignore_index=True)
    cells["label"] = ["normal", "normal", "normal", "codocyte", pd.NA]
    # The finder has run again: what was cell 7 at (31, 0) is cell 1 now. Of the last there is no circle.
    answers = table("a", [(31, 0), (0, 1), (60, 0), (200, 0)], label=["codocyte", np.nan, np.nan, "normal"])
    answers = answers.assign(kind=["label", "unsure", "skip", "label"], cell=[7, 1, 2, 9])
    bare = pd.DataFrame({"smear": ["b", "b"], "cell": [1, 5], "label": "hypochromia", "kind": "label"})
    corrected, n_lost = corrected_labels(cells, pd.concat([answers, bare], ignore_index=True))
    assert corrected["label"].fillna("-").tolist() == ["-", "codocyte", "normal", "codocyte", "hypochromia"]
    assert n_lost == 2
    assert cells["label"].fillna("-").tolist() == ["normal", "normal", "normal", "codocyte", "-"]
    same, n_lost = corrected_labels(cells, answers.iloc[:0])
    assert n_lost == 0
    pd.testing.assert_frame_equal(same, cells, check_dtype=False)


def test_click_offsets_are_distances_to_the_cell_that_took_the_label():
    cells = table("a", [(0, 0), (30, 0)])
    truth = table("a", [(33, 4), (200, 0)], label="normal", group="a")
    offsets = click_offsets(cells, truth)
    assert offsets["offset_px"].tolist() == [5]
    assert offsets["offset_radii"].tolist() == [0.5]
    assert click_offsets(cells, truth.iloc[1:]).empty
