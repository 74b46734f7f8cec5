"""A random split flatters where cells of one smear look alike, and by nothing where they do not."""

import numpy as np
import pandas as pd
import pytest
from conftest import make_cells

from rbcnb.columns import DEV, FOLD, GROUP, LABEL, SPLIT
from rbcnb.study.leakage import GROUPED, RANDOM, leakage_fits, leakage_folds, leakage_gap
from rbcnb.study.store_index import store_rows
from rbcnb.training.trial import Trial


def test_both_ways_hold_out_every_cell_once_in_folds_of_equal_classes(data):
    cells, _ = data
    folds = leakage_folds(cells, n_outer=3, seed=0)
    for folded in folds.values():
        assert (folded[SPLIT] == DEV).all()
        assert set(folded[FOLD]) == {0, 1, 2}
    assert folds["grouped"].groupby(GROUP)[FOLD].nunique().eq(1).all()
    assert folds["random"].groupby(GROUP)[FOLD].nunique().eq(3).all()


def test_a_repetition_that_diverged_is_left_out_and_named(data, tmp_path):
    cells, crops = data
    trials = [Trial(epochs=1, learning_rate=1e-3), Trial(epochs=1, learning_rate=1e38)]
    fine, lost = (
        leakage_fits([trial], cells, crops, tmp_path, n_outer=2, seeds=[0, 1], jobs=1, say=lambda _: None)
        for trial in trials
    )
    assert lost["error"].astype(bool).all()
    whole = leakage_gap(fine, tmp_path).iloc[0]
    assert (whole["n_seeds"], whole["error"]) == (2, "")
    assert whole["mean"] == pytest.approx(whole["random"] - whole["grouped"])
    without_1 = leakage_gap(fine[fine["seed"] == 0], tmp_path).iloc[0]
    mixed = pd.concat([fine.drop(fine.index[fine["seed"] == 1][0]), lost[lost["seed"] == 1].head(1)])
    partly = leakage_gap(mixed, tmp_path).iloc[0]
    assert partly["error"] == "diverged with seed 1"
    assert partly[["random", "grouped", "mean"]].tolist() == without_1[["random", "grouped", "mean"]].tolist()
    nothing = leakage_gap(lost, tmp_path).iloc[0]
    assert nothing["error"] == "diverged with seed 0, 1"
    assert nothing[["random", "grouped", "mean", "low", "high", "p"]].isna().all()
    assert leakage_gap(fine.head(0), tmp_path).empty
    fine.to_csv(tmp_path / "fits.csv", index=False)  # no error is an empty field there
    assert leakage_gap(pd.read_csv(tmp_path / "fits.csv"), tmp_path).iloc[0].equals(whole)


@pytest.mark.slow
def test_labels_that_only_the_smear_tells_leak_and_the_gap_says_so(tmp_path):
    cells, _ = make_cells({"codocyte": 150, "normal": 150}, n_smears=12)
    rng = np.random.default_rng(0)
    number = cells[GROUP].str[:2].astype(int)
    cells[LABEL] = np.where(rng.permutation(12)[number] < 6, "codocyte", "normal")
    cells.loc[cells.groupby(GROUP).head(2).index, LABEL] = ["codocyte", "normal"] * 12  # every smear has both
    hue = rng.integers(40, 216, (12, 3))  # of the smear: all that there is to see
    noise = rng.normal(0, 8, (300, 16, 16, 3))
    crops = np.clip(hue[number][:, None, None] + noise, 0, 255).astype(np.uint8)
    trial = Trial(epochs=8, learning_rate=3e-3)
    fits = leakage_fits([trial], cells, crops, tmp_path, n_outer=3, seeds=[0, 1], jobs=1, say=lambda _: None)
    gap = leakage_gap(fits, tmp_path).iloc[0]
    assert gap["random"] > 0.8
    assert gap["mean"] == pytest.approx(gap["random"] - gap["grouped"])
    assert gap["low"] > 0
    stored = store_rows(tmp_path)
    assert stored.groupby("protocol").size().to_dict() == {"grouped": 6, "random": 6}


def test_fits_of_one_way_alone_are_no_gap(tmp_path):
    fits = pd.DataFrame(
        {"architecture": "small", "method": "focal", "protocol": RANDOM, "error": "", "seed": 0, "key": "0"}, index=[0]
    )
    with pytest.raises(ValueError, match=f"no fit of {GROUPED}; make the fits of the leakage gap again"):
        leakage_gap(fits, tmp_path)
