"""What is recomputed of the paper's numbers: the arithmetic, and that the package holds what comes out."""

from itertools import combinations, permutations

import numpy as np
import pandas as pd
import paper_numbers
import pytest
from paper_numbers import (
    CONFUSION_PERCENT,
    chance_of_classes,
    classes_of_split,
    count_behind,
    mcnemar_range,
    n_test_cells,
    n_weights,
    published_spread,
    rank_correlation,
    recompute_checks,
    scores_of_confusion,
)
from scipy import stats
from sklearn.metrics import accuracy_score, f1_score, precision_score, recall_score
from sklearn.model_selection import train_test_split

from rbcnb.columns import CLASSES
from rbcnb.evaluation.hypothesis_tests import mcnemar_p
from rbcnb.paper import CHECKS, CONFUSION, SETTINGS, SPREAD, TABLE1, TABLE3, load_checks

COUNTS = dict(SETTINGS["class_counts"])
N_TEST = n_test_cells(sum(COUNTS.values()))
MATRICES = pytest.mark.parametrize("key", list(CONFUSION), ids="-".join)


@MATRICES
def test_matrices_hold_the_same_test_set(key):
    matrix = CONFUSION[key]
    assert matrix.to_numpy().sum() == N_TEST == 1018
    assert matrix.sum().to_dict() == CONFUSION["resnet50", "focal"].sum().to_dict()


@MATRICES
def test_matrices_agree_with_their_printed_margins(key):
    scores = scores_of_confusion(CONFUSION[key])
    for name, percent in CONFUSION_PERCENT.loc[key].items():
        assert 100 * scores[name] == pytest.approx(percent, abs=0.05 + 1e-9), name


@MATRICES
def test_scores_of_a_matrix_are_scikit_learns(key):
    matrix = CONFUSION[key]
    pairs = [(p, t) for p in CLASSES for t in CLASSES for _ in range(matrix.loc[p, t])]
    pred, target = map(list, zip(*pairs, strict=True))
    scores = scores_of_confusion(matrix)
    assert scores["accuracy"] == pytest.approx(accuracy_score(target, pred))
    assert scores["macro_f1"] == pytest.approx(f1_score(target, pred, average="macro"))
    recalls = recall_score(target, pred, labels=CLASSES, average=None)
    precisions = precision_score(target, pred, labels=CLASSES, average=None)
    assert [scores[f"recall_{name}"] for name in CLASSES] == pytest.approx(list(recalls))
    assert [scores[f"precision_{name}"] for name in CLASSES] == pytest.approx(list(precisions))


def test_count_behind_an_accuracy():
    assert count_behind(0.9194, 1018) == (936, 2)
    assert count_behind(0.9130, 1018) == (929, 1)  # 91.257 %, printed as one decimal of it
    assert count_behind(0.9190, 1018) == (936, 1)
    assert count_behind(0.9191, 1018) is None  # between 935 (91.85 %) and 936 (91.94 %)


def test_every_accuracy_is_a_whole_number_of_test_cells():
    fits = [count_behind(accuracy, N_TEST) for accuracy in TABLE1["accuracy"]]
    assert None not in fits
    # Those that fit to one decimal only are the four whose matrices are printed, with one decimal, in Fig. 11.
    coarse = TABLE1[[decimals == 1 for _, decimals in fits]]
    assert set(zip(coarse["architecture"], coarse["method"], strict=True)) == set(CONFUSION)


def test_a_random_accuracy_is_a_whole_number_of_test_cells_one_time_in_ten():
    hits = sum((count_behind(i / 10000, N_TEST) or (0, 0))[1] == 2 for i in range(10001))
    assert hits == N_TEST + 1


def test_mcnemar_range_is_that_of_all_pairings():
    """Small matrices of two classes, every way to lay the second one's right cells over the first one's."""
    first, second = (pd.DataFrame(counts, index=["a", "b"], columns=["a", "b"]) for counts in (FEW, MORE))
    found = set()
    for a in combinations(range(5), 3):
        for b in combinations(range(6), 5):
            right = [(set(range(2)), set(a)), (set(range(4)), set(b))]  # of the first model, of the second
            found.add(mcnemar_p(sum(len(x - y) for x, y in right), sum(len(y - x) for x, y in right)))
    assert mcnemar_range(first, second) == (2, min(found), max(found))
    assert len(found) > 2


FEW, MORE = [[2, 2], [3, 4]], [[3, 1], [2, 5]]  # rows predicted, columns target: 5 cells of a, 6 of b


@pytest.mark.parametrize("n", [1, 10, 421, 1018, 3392])
def test_size_of_a_test_set_is_scikit_learns(n):
    assert n_test_cells(n + 1) == len(train_test_split(range(n + 1), test_size=0.3, random_state=0)[1])


def test_published_test_set_is_the_one_of_seed_42():
    assert classes_of_split(COUNTS, seed=42) == CONFUSION["densenet121", "focal"].sum().to_dict()
    assert classes_of_split(COUNTS, seed=7) != classes_of_split(COUNTS, seed=42)


def test_chance_of_classes_is_scipys():
    drawn = {"codocyte": 121, "hypochromia": 115, "normal": 782}
    expected = stats.multivariate_hypergeom.pmf(list(drawn.values()), list(COUNTS.values()), 1018)
    assert chance_of_classes(drawn, COUNTS) == pytest.approx(expected)


def test_rank_correlation_by_hand():
    """Three values have six orders: r is 1, 1/2 twice, -1/2 twice and -1."""
    assert rank_correlation([1, 2, 3], [0.1, 0.5, 0.7]) == pytest.approx((1, 2 / 6))
    assert rank_correlation([1, 2, 3], [0.5, 0.1, 0.7]) == pytest.approx((1 / 2, 1))


def test_rank_correlation_counts_ties():
    x, y = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0], [0.3, 0.1, 0.1, 0.9, 0.7, 0.8]
    r, p = rank_correlation(x, y)
    assert r == pytest.approx(stats.spearmanr(x, y).statistic)
    ranks = stats.rankdata(y) - 3.5
    orders = np.array(list(permutations(ranks))) @ np.array(x)
    assert p == pytest.approx(np.mean(np.abs(orders) >= abs(ranks @ np.array(x)) - 1e-12))


@pytest.mark.parametrize(("architecture", "n"), [("densenet121", 6_956_931), ("resnet50", 23_514_179)])
def test_weights_of_networks_with_three_classes(architecture, n):
    assert n_weights(architecture) == n


def test_the_packages_table_is_what_the_script_computes():
    checks = recompute_checks()
    pd.testing.assert_frame_equal(load_checks(), checks)
    assert CHECKS.read_text(encoding="utf-8") == checks.to_csv(index=False, lineterminator="\n")


def test_checks_follow_the_tables(monkeypatch):
    worse = TABLE3.copy()
    worse.loc[0, "macro_f1"] = 0.5
    monkeypatch.setattr(paper_numbers, "TABLE3", worse)
    rows = pd.DataFrame(paper_numbers.table3()).set_index("claim")
    assert rows.loc["f1_at_every_rho", "agrees"].tolist() == [False, None]
    whole = "accuracies that are a whole number of 1018 test cells"
    assert pd.DataFrame(paper_numbers.test_set()).set_index("number").loc[whole, "agrees"]
    monkeypatch.setattr(paper_numbers, "TABLE1", TABLE1.assign(accuracy=0.9191))
    assert not pd.DataFrame(paper_numbers.test_set()).set_index("number").loc[whole, "agrees"]


def test_the_committed_spread_is_the_one_computed():
    # Processors differ in the last bit of a sum.
    pd.testing.assert_frame_equal(pd.read_csv(SPREAD), published_spread(), check_dtype=False, rtol=1e-12, atol=0)
