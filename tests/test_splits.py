"""Splits keep their promises: sizes, groups, nesting, and re-sampling as section 4.2 describes it."""

import numpy as np
import pandas as pd
import pytest
from conftest import make_cells
from hypothesis import given
from hypothesis import strategies as st

from rbcnb.columns import DEV, FOLD, GROUP, LABEL, NO_FOLD, SPLIT, TEST, UNUSED
from rbcnb.paper import TABLE2
from rbcnb.protocols import BASE_RHO, ladder
from rbcnb.splits import (
    SplitError,
    assign_splits,
    draw_counts,
    imbalance_ratio,
    ladder_rung,
    oversample,
    undersample,
)

PAPER = {"codocyte": 345, "hypochromia": 356, "normal": 2691}


@pytest.mark.parametrize("protocol", ["paper", "honest"])
def test_every_cell_has_one_place_and_the_seed_decides(data, protocol):
    cells, _ = data
    split = assign_splits(cells, protocol=protocol, seed=3)
    assert set(split[SPLIT]) == {DEV, TEST}
    assert (split[FOLD] == NO_FOLD).equals(split[SPLIT] == TEST)
    assert set(split.loc[split[SPLIT] == DEV, FOLD]) == set(range(5))
    pd.testing.assert_frame_equal(split, assign_splits(cells, protocol=protocol, seed=3))
    assert not split[SPLIT].equals(assign_splits(cells, protocol=protocol, seed=4)[SPLIT])
    pd.testing.assert_frame_equal(split[cells.columns], cells)


def test_paper_split_has_the_published_sizes():
    cells, _ = make_cells(PAPER, n_smears=22)
    split = assign_splits(cells, protocol="paper", seed=0)
    assert (split[SPLIT] == TEST).sum() == 1018  # Fig. 11
    folds = split.loc[split[SPLIT] == DEV, FOLD].value_counts()
    assert folds.max() - folds.min() <= 1


def test_honest_split_keeps_groups_whole_and_every_class_on_both_sides(data):
    cells, _ = data
    for seed in range(5):
        split = assign_splits(cells, protocol="honest", seed=seed)
        assert split.groupby(GROUP)[SPLIT].agg(set).map(len).eq(1).all()
        assert split.groupby(GROUP)[FOLD].agg(set).map(len).eq(1).all()
        assert (split.groupby(SPLIT)[LABEL].nunique() == 3).all()
        share = (split[SPLIT] == TEST).groupby(split[LABEL]).mean()
        assert share.between(0.15, 0.45).all()


def test_what_cannot_be_split_is_said_with_the_mend(data):
    cells, _ = data
    with pytest.raises(SplitError, match="unknown protocol"):
        assign_splits(cells, protocol="fair", seed=0)
    with pytest.raises(SplitError, match=r"only 3 smears .* add smears"):
        assign_splits(cells[cells[GROUP] < "03.png"], protocol="honest", seed=0)
    with pytest.raises(SplitError, match="1 cells have no label"):
        assign_splits(cells.assign(label=cells[LABEL].where(cells.index != 5)), protocol="paper", seed=0)
    with pytest.raises(SplitError, match="lacks the columns"):
        assign_splits(cells.drop(columns=GROUP), protocol="paper", seed=0)
    one_smear = cells.assign(**{GROUP: np.where(cells[LABEL] == "codocyte", "a", cells[GROUP])})
    with pytest.raises(SplitError, match="every class on both sides"):
        assign_splits(one_smear, protocol="honest", seed=0)


def test_ladder_is_table_2_where_there_are_cells_enough():
    rungs = ladder(PAPER)
    for row in TABLE2.to_dict("records"):
        assert rungs[row["rho"]] == {name: row[name] for name in PAPER}
    plenty = ladder({name: 10 * n for name, n in PAPER.items()})
    assert plenty == rungs


def test_ladder_shrinks_by_one_factor_and_names_other_classes_by_rank():
    half = ladder({"codocyte": 200, "hypochromia": 178, "normal": 5000})
    assert half[BASE_RHO] == {"codocyte": 172, "hypochromia": 178, "normal": 1346}
    other = ladder({"burr_cell": 345, "spherocyte": 2691})
    assert other[37.9] == {"burr_cell": 71, "spherocyte": 2691}
    with pytest.raises(SplitError, match="two classes"):
        ladder({"normal": 5})


def test_draws_are_nested_and_exact(data):
    cells, _ = data
    many = draw_counts(cells, {"codocyte": 15, "hypochromia": 10, "normal": 100}, seed=1)
    few = draw_counts(cells, {"codocyte": 5, "hypochromia": 10, "normal": 50}, seed=1)
    assert many[LABEL].value_counts().to_dict() == {"normal": 100, "codocyte": 15, "hypochromia": 10}
    assert set(few.index) <= set(many.index)
    assert many.index.is_monotonic_increasing


def test_honest_rungs_share_one_test_set_and_nest(data):
    cells, _ = data
    split = assign_splits(cells, protocol="honest", seed=0)
    rungs = ladder(cells[LABEL].value_counts().to_dict())
    dev_sets = {}
    for rho in (BASE_RHO, 11.35, 17.94, 37.9):
        rung = ladder_rung(split, rungs[rho], rungs[BASE_RHO], protocol="honest", seed=0)
        assert rung[SPLIT].eq(TEST).equals(split[SPLIT].eq(TEST))
        assert (rung.loc[rung[SPLIT] == UNUSED, FOLD] == NO_FOLD).all()
        dev_sets[rho] = set(rung.index[rung[SPLIT] == DEV])
    assert dev_sets[37.9] < dev_sets[17.94] < dev_sets[11.35] < dev_sets[BASE_RHO]
    assert dev_sets[BASE_RHO] == set(split.index[split[SPLIT] == DEV])


def test_paper_rungs_draw_a_new_test_set_each(data):
    cells, _ = data
    rungs = ladder(cells[LABEL].value_counts().to_dict())
    low, high = (ladder_rung(cells, rungs[rho], rungs[BASE_RHO], protocol="paper", seed=0) for rho in (2.03, 37.9))
    assert low[LABEL].value_counts().to_dict() == rungs[2.03]
    assert high[LABEL].value_counts().to_dict() == rungs[37.9]
    assert imbalance_ratio(high[LABEL]) > imbalance_ratio(low[LABEL])
    tests = [set(rung.index[rung[SPLIT] == TEST]) for rung in (low, high)]
    assert tests[0] - tests[1]
    assert tests[1] - tests[0]
    assert (low[FOLD] == NO_FOLD).all()


COUNTS = st.dictionaries(st.sampled_from("abcde"), st.integers(1, 40), min_size=2)


@given(counts=COUNTS)
def test_undersampling_cuts_every_class_to_the_smallest(counts):
    labels = np.repeat(list(counts), list(counts.values()))
    rows = undersample(labels, seed=0)
    assert len(set(rows)) == len(rows)
    assert set(pd.Series(labels[rows]).value_counts()) == {min(counts.values())}
    assert np.array_equal(rows, undersample(labels, seed=0))


@given(counts=COUNTS)
def test_oversampling_fills_every_class_to_the_largest_and_evenly(counts):
    labels = np.repeat(list(counts), list(counts.values()))
    extra = oversample(labels, seed=0)
    both = np.concatenate([np.arange(len(labels)), extra])
    assert set(pd.Series(labels[both]).value_counts()) == {max(counts.values())}
    for name in counts:
        uses = pd.Series(both[labels[both] == name]).value_counts()
        assert uses.max() - uses.min() <= 1


def test_imbalance_ratio_is_equation_5():
    assert imbalance_ratio(["a"] * 6 + ["b"] * 2 + ["c"] * 3) == 3.0
