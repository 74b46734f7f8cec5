"""The published numbers hang together, and what recomputation says of them is computed from them."""

import subprocess
import sys
from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import stats
from sklearn.metrics import accuracy_score, f1_score, precision_score, recall_score
from sklearn.model_selection import train_test_split

from rbcnb.columns import CLASSES
from rbcnb.evaluation import recomputation
from rbcnb.evaluation.printed_numbers import (
    chance_of_at_least,
    chance_of_classes,
    classes_drawn_by_seed,
    count_behind,
    densenet_parameters,
    mcnemar_p,
    mcnemar_range,
    n_test_cells,
    rank_correlation,
    relative_improvement,
    resnet_parameters,
    scores_of_confusion,
)

COUNTS = dict(recomputation.SETTINGS["class_counts"])
N_TEST = n_test_cells(sum(COUNTS.values()), recomputation.SETTINGS["test_fraction"])
MATRICES = pytest.mark.parametrize("key", list(recomputation.CONFUSION), ids="-".join)


def agreement(claim_id):
    rows = recomputation.recomputation().set_index("claim")
    return rows.loc[[claim_id], "agrees"].tolist()


def test_table1_has_every_setting_once_per_architecture():
    for _, rows in recomputation.TABLE1.groupby("architecture"):
        assert tuple(rows.loc[rows["method"] == "focal", "alpha"]) == recomputation.SETTINGS["alphas"]
        assert (rows.loc[rows["method"] == "focal", "gamma"] == recomputation.SETTINGS["gamma"]).all()
        assert sorted(rows.loc[rows["method"] != "focal", "method"]) == [
            "cross_entropy",
            "over_sampling",
            "under_sampling",
        ]
        assert rows.loc[rows["method"] != "focal", "alpha"].isna().all()
    assert recomputation.TABLE1["epochs"].between(1, recomputation.SETTINGS["max_epochs"]).all()


def test_table2_holds_the_whole_data_set_and_its_own_totals():
    counts = recomputation.TABLE2[list(CLASSES)]
    assert (counts.sum(axis=1) == recomputation.TABLE2["total"]).all()
    whole = recomputation.TABLE2.set_index("rho").loc[7.80]
    assert {name: whole[name] for name in CLASSES} == COUNTS


def test_table3_repeats_table1_at_the_ratio_of_the_whole_data_set():
    own = recomputation.TABLE3[recomputation.TABLE3["rho"] == 7.80].set_index(["architecture", "method"])
    best = recomputation.TABLE1.sort_values("macro_f1").groupby(["architecture", "method"]).last()
    pd.testing.assert_frame_equal(own[["accuracy", "macro_f1", "auroc"]], best.loc[own.index, own.columns[-3:]])


@MATRICES
def test_matrices_hold_the_same_test_set(key):
    matrix = recomputation.CONFUSION[key]
    assert matrix.to_numpy().sum() == N_TEST == 1018
    assert matrix.sum().to_dict() == recomputation.CONFUSION["resnet50", "focal"].sum().to_dict()


@MATRICES
def test_matrices_agree_with_their_printed_margins(key):
    scores = scores_of_confusion(recomputation.CONFUSION[key])
    for name, percent in recomputation.CONFUSION_PERCENT.loc[key].items():
        assert 100 * scores[name] == pytest.approx(percent, abs=0.05 + 1e-9), name


@MATRICES
def test_scores_of_a_matrix_are_scikit_learns(key):
    matrix = recomputation.CONFUSION[key]
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
    fits = [count_behind(accuracy, N_TEST) for accuracy in recomputation.TABLE1["accuracy"]]
    assert None not in fits
    # Those that fit to one decimal only are the four whose matrices are printed, with one decimal, in Fig. 11.
    coarse = recomputation.TABLE1[[decimals == 1 for _, decimals in fits]]
    assert set(zip(coarse["architecture"], coarse["method"], strict=True)) == set(recomputation.CONFUSION)


def test_a_random_accuracy_is_a_whole_number_of_test_cells_one_time_in_ten():
    hits = sum((count_behind(i / 10000, N_TEST) or (0, 0))[1] == 2 for i in range(10001))
    assert hits == N_TEST + 1


@pytest.mark.parametrize("n", [1, 10, 421, 1018, 3392])
def test_size_of_a_test_set_is_scikit_learns(n):
    expected = len(train_test_split(range(n + 1), test_size=0.3, random_state=0)[1])
    assert n_test_cells(n + 1, 0.3) == expected


@pytest.mark.parametrize("seed", [0, 7, 42])
def test_seeds_draw_scikit_learns_test_set(seed):
    labels = np.repeat(list(COUNTS), list(COUNTS.values()))
    _, test = train_test_split(labels, test_size=0.3, random_state=seed)
    assert classes_drawn_by_seed(COUNTS, 0.3, seed=seed) == {name: (test == name).sum() for name in COUNTS}


def test_published_test_set_is_the_one_of_seed_42():
    drawn = classes_drawn_by_seed(COUNTS, recomputation.SETTINGS["test_fraction"], seed=42)
    assert drawn == recomputation.CONFUSION["densenet121", "focal"].sum().to_dict()


def test_chances_are_scipys():
    assert chance_of_at_least(121, 345, 3392, 1018) == pytest.approx(stats.hypergeom.sf(120, 3392, 345, 1018))
    drawn = {"codocyte": 121, "hypochromia": 115, "normal": 782}
    expected = stats.multivariate_hypergeom.pmf(list(drawn.values()), list(COUNTS.values()), 1018)
    assert chance_of_classes(drawn, COUNTS) == pytest.approx(expected)


def test_rank_correlation_is_scipys():
    x, y = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0], [0.3, 0.1, 0.1, 0.9, 0.7, 0.8]
    r, p = rank_correlation(x, y)
    test = stats.permutation_test(
        (y,), lambda values: stats.spearmanr(x, values).statistic, permutation_type="pairings", n_resamples=np.inf
    )
    assert r == pytest.approx(stats.spearmanr(x, y).statistic)
    assert p == pytest.approx(test.pvalue)


def table3_of(**scores):
    """A table of one rho whose rows are (architecture, method) -> the same value for every score."""
    rows = [
        {"rho": 2.0, "architecture": name.split("__")[0], "method": name.split("__")[1]}
        | dict.fromkeys(("accuracy", "macro_f1", "auroc"), value)
        for name, values in scores.items()
        for value in values
    ]
    return pd.DataFrame(rows)


def test_relative_improvement_averages_the_architectures_ratios():
    # +10 % and +30 %: a ratio of means would give 0.8 + ... = +18 %, not the mean of the two.
    table = table3_of(a__focal=[0.66], a__cross_entropy=[0.60], b__focal=[0.52], b__cross_entropy=[0.40])
    row = relative_improvement(table).iloc[0]
    assert row[["accuracy", "macro_f1", "auroc"]].tolist() == pytest.approx([20.0] * 3)


def test_relative_improvement_averages_draws_first():
    table = table3_of(a__focal=[0.5, 0.7], a__cross_entropy=[0.4, 0.6], a__over_sampling=[0.9])
    assert relative_improvement(table)["macro_f1"].tolist() == pytest.approx([100 * (0.6 / 0.5 - 1)])


def test_relative_improvement_wants_both_methods_everywhere():
    table = table3_of(a__focal=[0.5], a__cross_entropy=[0.4], b__focal=[0.6])
    with pytest.raises(ValueError, match="both methods"):
        relative_improvement(table)
    with pytest.raises(ValueError, match="both methods"):
        relative_improvement(table[table["method"] == "focal"])


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


@pytest.mark.parametrize("n_classes", [3, 1000])
def test_weights_are_torchvisions(n_classes):
    models = pytest.importorskip("torchvision.models")
    for build, count in ((models.resnet50, resnet_parameters), (models.densenet121, densenet_parameters)):
        with torch.device("meta"):
            network = build(num_classes=n_classes)
        assert sum(weights.numel() for weights in network.parameters()) == count(n_classes)


def test_claims_are_named_once_and_checked_rows_name_a_claim():
    ids = [claim.id for claim in recomputation.CLAIMS]
    assert len(set(ids)) == len(ids)
    rows = recomputation.recomputation()
    assert set(rows["claim"]) - {""} <= set(ids)
    # Only what stands in a curve's picture alone cannot be recomputed from print.
    assert set(ids) - set(rows["claim"]) == {"auroc_all_classes", "converges_faster"}


def test_what_adds_up_and_what_does_not():
    assert agreement("accuracy_6_6") == [False]  # codocyte recall, not model accuracy
    assert agreement("codocyte_3_3") == agreement("hypochromia_15_6") == [True]
    assert agreement("cases_densenet121") == [True]
    assert agreement("cases_resnet50") == [False]  # two by accuracy, one by F1
    assert agreement("f1_up_others_down") == [True, False]  # AUROC rises for ResNet-50
    rows = recomputation.recomputation().set_index("number")
    assert rows.loc["ResNet-50, cross entropy: macro F1", "recomputed"] == "0.844"


def test_recomputation_follows_the_tables(monkeypatch):
    assert agreement("f1_at_every_rho")[0] is True
    worse = recomputation.TABLE3.copy()
    worse.loc[0, "macro_f1"] = 0.5
    monkeypatch.setattr(recomputation, "TABLE3", worse)
    assert agreement("f1_at_every_rho")[0] is False
    monkeypatch.setattr(recomputation, "TABLE1", recomputation.TABLE1.assign(accuracy=0.9191))
    rows = recomputation.recomputation().set_index("number")
    assert not rows.loc["accuracies that are a whole number of 1018 test cells", "agrees"]


def test_importing_the_paper_loads_numpy_and_pandas_only():
    code = "import sys, rbcnb.paper; print(*{'torch', 'fastai', 'scipy', 'sklearn', 'matplotlib'} & set(sys.modules))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == ""


def test_the_readmes_table_is_what_is_computed():
    """Every row of its table word for word, and none that does not agree left out."""
    lines = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8").splitlines()
    begin = lines.index("| Place | Number | Published | Recomputed | Agrees |") + 2
    end = next(i for i, line in enumerate(lines[begin:], begin) if not line.startswith("|"))
    checks = recomputation.recomputation()
    verdicts = checks["agrees"].map({True: "yes", False: "no"}).fillna("–")
    told = checks[["place", "number", "published", "recomputed"]].assign(agrees=verdicts)
    computed = ["| " + " | ".join(row) + " |" for row in told.itertuples(index=False, name=None)]
    assert set(lines[begin:end]) <= set(computed)
    assert {line for line in computed if line.endswith("| no |")} <= set(lines[begin:end])
    counts = verdicts.value_counts()
    text = " ".join(lines)
    assert (
        f"{len(checks)} checks, of which {counts['yes']} agree, {counts['no']} do not and {counts['–']} are remarks"
        in text
    )
