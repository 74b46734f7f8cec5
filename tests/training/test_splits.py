"""Splits keep their promises: sizes, groups, nesting, and re-sampling as section 4.2 describes it."""

import numpy as np
import pandas as pd
import pytest
from conftest import make_cells
from hypothesis import given, strategies as st
from sklearn.metrics import adjusted_rand_score

from rbcnb.columns import DEV, FOLD, GROUP, LABEL, NO_FOLD, SPLIT, TEST
from rbcnb.labels.assign import imbalance_ratio
from rbcnb.paper import TABLE2
from rbcnb.study.ladder import BASE_RHO, dev_rungs, equal_totals, ladder_counts, paper_rung
from rbcnb.training.resampling import draw_counts, oversample, undersample
from rbcnb.training.splits import SplitError, assign_splits, outer_folds

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
        split = assign_splits(cells, protocol="honest", seed=seed, n_folds=4)
        assert split.groupby(GROUP)[SPLIT].agg(set).map(len).eq(1).all()
        assert split.groupby(GROUP)[FOLD].agg(set).map(len).eq(1).all()
        assert (split.groupby(SPLIT)[LABEL].nunique() == 3).all()
        share = (split[SPLIT] == TEST).groupby(split[LABEL]).mean()
        assert share.between(0.15, 0.45).all()


def test_what_cannot_be_split_is_said_with_the_mend(data):
    cells, _ = data
    with pytest.raises(SplitError, match="unknown protocol"):
        assign_splits(cells, protocol="fair", seed=0)
    with pytest.raises(SplitError, match=r"only 3 smears .* 3 outer folds need 6; add smears"):
        assign_splits(cells[cells[GROUP] < "03.png"], protocol="honest", seed=0)
    with pytest.raises(SplitError, match=r"only 6 smears .* 7 folds need 7"):
        assign_splits(cells, protocol="honest", seed=0, n_folds=7)
    with pytest.raises(SplitError, match="1 cells have no label"):
        assign_splits(cells.assign(label=cells[LABEL].where(cells.index != 5)), protocol="paper", seed=0)
    with pytest.raises(SplitError, match="lacks the columns"):
        assign_splits(cells.drop(columns=GROUP), protocol="paper", seed=0)
    one_smear = cells.assign(**{GROUP: np.where(cells[LABEL] == "codocyte", "a", cells[GROUP])})
    with pytest.raises(SplitError, match=r"codocyte stands in 1 smears .* 3 outer folds"):
        assign_splits(one_smear, protocol="honest", seed=0)
    with pytest.raises(SplitError, match="the paper's protocol has one split"):
        assign_splits(cells, protocol="paper", seed=0, outer=1)


def test_outer_splits_test_every_group_once_per_repetition_and_each_fold_has_every_class(data):
    cells, _ = data
    tested = []
    for outer in range(6):
        split = assign_splits(cells, protocol="honest", seed=1, outer=outer, n_folds=3)
        tested.append(split[SPLIT] == TEST)
        assert (pd.crosstab(split[FOLD], split[LABEL]) > 0).all(axis=None)  # of the test set (-1) and every fold
        assert split.loc[tested[-1], GROUP].nunique() >= 2
        assert split.groupby(GROUP)[FOLD].nunique().eq(1).all()
    for repetition in (tested[:3], tested[3:]):
        assert sum(repetition).eq(1).all()
    assert not any(earlier.equals(later) for earlier in tested[:3] for later in tested[3:])


def test_folds_are_redrawn_until_they_hold_every_class_and_a_reason_is_given_when_none_does():
    """Rare cells in as many groups as folds, in nine: a draw may miss, the next must not."""
    cells, _ = make_cells({"codocyte": 3, "hypochromia": 60, "normal": 300}, n_smears=9)
    rare = (cells[LABEL] == "codocyte").to_numpy()
    cells.loc[rare, GROUP] = ["00.png", "01.png", "02.png"]
    for seed in range(20):
        folds = outer_folds(cells, n_outer=3, seed=seed)
        assert (pd.crosstab(folds, cells[LABEL].to_numpy()) > 0).all(axis=None)
    # Away from smear u, whose fold needs another one, only v, w and x together hold all three classes.
    with pytest.raises(SplitError, match="none of 200 ways to deal"):
        outer_folds(pd.DataFrame({LABEL: list("abcabc"), GROUP: list("uuuvwx")}), n_outer=2, seed=0)


def test_repetitions_are_independent_of_each_other():
    """Two random deals agree by chance alone (adjusted Rand index 0), also where smears differ in their counts."""
    cells, _ = make_cells({"codocyte": 100, "hypochromia": 150, "normal": 1000}, n_smears=40)
    sizes = np.random.default_rng(0).dirichlet(np.ones(40), size=1)[0]
    cells[GROUP] = np.random.default_rng(1).choice([f"{i:02}" for i in range(40)], len(cells), p=sizes)
    first = cells.groupby(GROUP).head(1).index
    folds = [outer_folds(cells, n_outer=3, seed=0, repeat=repeat)[first] for repeat in range(6)]
    agreement = [adjusted_rand_score(fold, other) for i, fold in enumerate(folds) for other in folds[:i]]
    assert abs(np.mean(agreement)) < 0.1


def test_ungrouped_outer_folds_part_the_cells_of_a_smear(data):
    cells, _ = data
    folds = outer_folds(cells, n_outer=3, seed=0, grouped=False)
    assert cells[GROUP].groupby(folds).nunique().eq(10).all()
    shares = pd.crosstab(folds, cells[LABEL].to_numpy())
    assert (shares.max() - shares.min() <= 1).all()


def test_ladder_is_table_2_where_there_are_cells_enough():
    rungs = ladder_counts(PAPER)
    for row in TABLE2.to_dict("records"):
        assert rungs[row["rho"]] == {name: row[name] for name in PAPER}
    plenty = ladder_counts({name: 10 * n for name, n in PAPER.items()})
    assert plenty == rungs


def test_ladder_shrinks_by_one_factor_and_names_other_classes_by_rank():
    half = ladder_counts({"codocyte": 200, "hypochromia": 178, "normal": 5000})
    assert half[BASE_RHO] == {"codocyte": 172, "hypochromia": 178, "normal": 1346}
    other = ladder_counts({"burr_cell": 345, "spherocyte": 2691})
    assert other[37.9] == {"burr_cell": 71, "spherocyte": 2691}
    with pytest.raises(SplitError, match="two classes"):
        ladder_counts({"normal": 5})


def test_draws_are_nested_and_exact(data):
    cells, _ = data
    many = draw_counts(cells, {"codocyte": 15, "hypochromia": 10, "normal": 100}, seed=1)
    few = draw_counts(cells, {"codocyte": 5, "hypochromia": 10, "normal": 50}, seed=1)
    assert many[LABEL].value_counts().to_dict() == {"normal": 100, "codocyte": 15, "hypochromia": 10}
    assert set(few.index) <= set(many.index)
    assert many.index.is_monotonic_increasing


def test_honest_rungs_keep_the_share_of_each_class_that_table_2_keeps():
    cells, _ = make_cells(PAPER, n_smears=22)
    split = assign_splits(cells, protocol="honest", seed=0)
    available = split.loc[split[SPLIT] == DEV, LABEL].value_counts()
    rungs = dev_rungs(split, ladder_counts(PAPER))
    assert rungs[BASE_RHO] == available.to_dict()
    for row in TABLE2.to_dict("records"):
        for name, n in PAPER.items():
            assert abs(rungs[row["rho"]][name] - available[name] * row[name] / n) <= 0.5


def test_paper_rungs_draw_a_new_test_set_each(data):
    cells, _ = data
    rungs = ladder_counts(cells[LABEL].value_counts().to_dict())
    low, high = (paper_rung(cells, rungs[rho], seed=0) for rho in (2.03, 37.9))
    assert low[LABEL].value_counts().to_dict() == rungs[2.03]
    assert imbalance_ratio(high[LABEL]) > imbalance_ratio(low[LABEL])
    tests = [set(rung.index[rung[SPLIT] == TEST]) for rung in (low, high)]
    assert tests[0] - tests[1]
    assert tests[1] - tests[0]
    assert (low[FOLD] == NO_FOLD).all()
    assert paper_rung(cells, cells[LABEL].value_counts().to_dict(), seed=0) is cells


def test_paper_rungs_hold_table_2_to_the_cell():
    cells, _ = make_cells(PAPER, n_smears=22)
    climb = {rho: paper_rung(cells, counts, seed=0) for rho, counts in ladder_counts(PAPER).items()}
    counts = pd.DataFrame({rho: rung[LABEL].value_counts() for rho, rung in climb.items()}).T[list(PAPER)]
    pd.testing.assert_frame_equal(counts, TABLE2.set_index("rho")[list(PAPER)], check_names=False, check_dtype=False)


def test_table_2_at_equal_totals_differs_in_imbalance_alone():
    plain, equal = ladder_counts(PAPER), equal_totals(ladder_counts(PAPER))
    assert {sum(counts.values()) for counts in equal.values()} == {1402}
    assert equal[2.03] == plain[2.03]
    for rho, counts in equal.items():
        # A class of 35 cells cannot be halved without rounding.
        assert counts["normal"] / counts["codocyte"] == pytest.approx(rho, rel=0.03)
        assert all(n <= plain[rho][name] for name, n in counts.items())


@given(rungs=st.lists(st.lists(st.integers(20, 3000), min_size=3, max_size=3), min_size=2, max_size=7))
def test_equal_totals_are_equal_and_keep_the_proportions(rungs):
    table = {float(i): dict(zip("abc", counts, strict=True)) for i, counts in enumerate(rungs)}
    smallest = min(map(sum, rungs))
    for rho, counts in equal_totals(table).items():
        assert sum(counts.values()) == smallest
        for name, n in counts.items():
            assert n == 2 or abs(n - table[rho][name] * smallest / sum(table[rho].values())) <= 4


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
