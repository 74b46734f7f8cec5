"""What is recomputed of the paper's numbers: the arithmetic, and that the package and the page hold what comes out."""

import re
from itertools import combinations, permutations

import numpy as np
import pandas as pd
import paper_numbers
import pytest
from paper_numbers import (
    ARCHITECTURES,
    CONFUSION_PERCENT,
    PAGE,
    alpha_effect,
    bold_type,
    chance_of_classes,
    classes_of_split,
    count_behind,
    f1_of_means,
    fill_page,
    fits_print,
    mcnemar_range,
    n_layers,
    n_test_cells,
    n_weights,
    page_tables,
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
from rbcnb.paper import (
    CHECKS,
    CONFUSION,
    SETTINGS,
    SPREAD,
    TABLE1,
    TABLE2,
    TABLE3,
    load_checks,
    load_readings,
    load_spread,
)

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
    precision, recall = precisions.mean(), recalls.mean()
    assert f1_of_means(matrix) == pytest.approx(2 * precision * recall / (precision + recall))


@pytest.mark.parametrize(
    ("exact", "printed", "decimals", "places"),
    [
        (91.257, 91.26, 2, 2),
        (91.257, 91.30, 2, 1),  # a 0 may stand where a decimal is missing
        (91.257, 91.31, 2, None),
        (91.257, 91.25, 2, None),
        (91.24, 91.30, 2, None),
        (91.257, 91.00, 2, None),  # one decimal fewer, not two
        (0.8437, 0.85, 2, None),
        (10.495, 10.50, 2, 2),  # a half is rounded either way
        (24.6, 25.0, 1, 0),
        (79.33, 80.0, 1, None),
    ],
)
def test_a_printed_number_fits_what_rounds_to_it(exact, printed, decimals, places):
    assert fits_print(exact, printed, decimals) == places


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
    assert rank_correlation([1, 2, 3], [0.1, 0.5, 0.7], sign=1) == pytest.approx((1, 1 / 6))
    assert rank_correlation([1, 2, 3], [0.1, 0.5, 0.7], sign=-1) == pytest.approx((1, 1))
    assert rank_correlation([1, 2, 3], [0.5, 0.1, 0.7], sign=1) == pytest.approx((1 / 2, 3 / 6))
    assert rank_correlation([1, 2, 3], [0.5, 0.1, 0.7], sign=-1) == pytest.approx((1 / 2, 5 / 6))


@pytest.mark.parametrize("sign", [1, -1])
def test_rank_correlation_counts_ties(sign):
    x, y = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0], [0.3, 0.1, 0.1, 0.9, 0.7, 0.8]
    r, p = rank_correlation(x, y, sign=sign)
    assert r == pytest.approx(stats.spearmanr(x, y).statistic)
    ranks = stats.rankdata(y) - 3.5
    orders = np.array(list(permutations(ranks))) @ np.array(x)
    assert p == pytest.approx(np.mean(sign * orders >= sign * ranks @ np.array(x) - 1e-12))


@pytest.mark.parametrize(("architecture", "n"), [("densenet121", 121), ("resnet50", 50), ("resnet18", 18)])
def test_layers_are_those_in_the_networks_name(architecture, n):
    assert n_layers(architecture) == n


def test_alpha_turns_no_gradient_and_adam_hardly_sees_it():
    cosine, by_alpha, by_seed = alpha_effect((0.25, 1.0, 1.75))
    assert cosine == pytest.approx(1)
    assert by_alpha < 1e-5 < 0.1 < by_seed
    # A hundred times more alpha is no other direction, either; eps, which Adam adds, is what is left of it.
    assert alpha_effect((0.0025, 1.0))[1] > 10 * by_alpha


def test_bold_type_is_counted_where_it_stands():
    rows = pd.DataFrame(
        {"method": ["focal", "cross_entropy"], "rho": 2.0, "accuracy": [0.9, 0.9], "macro_f1": [0.8, 0.7]}
    )
    table = rows.assign(auroc=[0.6, 0.5], architecture="resnet50")
    fair, unfair = ["accuracy macro_f1 auroc", "accuracy"], ["accuracy macro_f1 auroc", ""]
    (check,) = bold_type("here", table.assign(bold=fair), ["architecture", "rho"])
    assert (check.recomputed, check.agrees) == ("4 of 4", True)
    assert check.remark == "of 1 ties bold type is on all that share the best score in 1"
    (check,) = bold_type("here", table.assign(bold=unfair), ["architecture", "rho"])
    assert (check.recomputed, check.agrees) == ("3 of 4", False)
    assert check.remark.endswith("on focal loss alone in 1 (ResNet-50 at 2.00: accuracy)")
    (check,) = bold_type("here", table.assign(bold=["accuracy macro_f1", "accuracy auroc"]), ["architecture", "rho"])
    assert (check.recomputed, check.agrees) == ("3 of 4, and 1 others", False)


@pytest.mark.parametrize(("architecture", "n"), [("densenet121", 6_956_931), ("resnet50", 23_514_179)])
def test_weights_of_networks_with_three_classes(architecture, n):
    assert n_weights(architecture) == n


def test_the_packages_table_is_what_the_script_computes():
    checks = recompute_checks()
    pd.testing.assert_frame_equal(load_checks(), checks)
    assert CHECKS.read_text(encoding="utf-8") == checks.to_csv(index=False, lineterminator="\n")


def checks_of(part):
    return pd.DataFrame(part).set_index("number")


def test_checks_follow_the_tables(monkeypatch):
    worse = TABLE3.copy()
    worse.loc[0, "macro_f1"] = 0.5
    monkeypatch.setattr(paper_numbers, "TABLE3", worse)
    rows = pd.DataFrame(paper_numbers.table3()).set_index("claim")
    assert rows.loc["f1_at_every_rho", "agrees"].tolist() == [False, None]
    whole = "accuracies that are a whole number of 1018 test cells"
    assert checks_of(paper_numbers.test_set()).loc[whole, "agrees"]
    monkeypatch.setattr(paper_numbers, "TABLE1", TABLE1.assign(accuracy=0.9191, epochs=10))
    assert not checks_of(paper_numbers.test_set()).loc[whole, "agrees"]
    rows = checks_of(paper_numbers.methods())
    assert rows.loc["optimal epochs at 76 or later, of at most 100", "recomputed"] == "0 of 20, none before 10"
    assert rows.loc["scores of folds in print", "recomputed"].startswith("at most 20 of 20 accuracies")


def test_slightly_is_one_measure_for_both_networks(monkeypatch):
    flat = TABLE1.copy()
    for name in ARCHITECTURES:
        rows = (flat["architecture"] == name) & (flat["method"] == "focal")
        flat.loc[rows, "macro_f1"] = [0.85, 0.85, 0.86, 0.87, 0.86, 0.88, 0.80]
    monkeypatch.setattr(paper_numbers, "TABLE1", flat)
    rises = "{}: F1 rises slightly with alpha up to its peak"
    rows = checks_of(paper_numbers.table1())
    assert not rows.loc[[rises.format(name) for name in ARCHITECTURES.values()], "agrees"].any()  # 0.87, then 0.86
    flat.loc[flat["alpha"] == 1.25, "macro_f1"] = 0.87
    rows = checks_of(paper_numbers.table1())
    assert rows.loc[[rises.format(name) for name in ARCHITECTURES.values()], "agrees"].all()
    flat.loc[flat["alpha"] == 0.25, "macro_f1"] = 0.7
    rows = checks_of(paper_numbers.table1())
    assert not rows.loc[[rises.format(name) for name in ARCHITECTURES.values()], "agrees"].any()


def test_a_sentence_without_a_score_needs_the_same_score_for_both_networks(monkeypatch):
    """Three alphas of ResNet-50 ahead by accuracy: then no score gives both of the printed numbers."""
    other = TABLE1.copy()
    other.loc[(other["architecture"] == "resnet50") & (other["alpha"] == 0.75), "accuracy"] = 0.95
    monkeypatch.setattr(paper_numbers, "TABLE1", other)
    rows = pd.DataFrame(paper_numbers.table1()).set_index("claim")
    assert not rows.loc["cases_resnet50", "agrees"]
    assert not rows.loc["cases_densenet121", "agrees"]


def test_distributions_and_the_fixed_side_follow_table_2(monkeypatch):
    other = TABLE2.copy()
    other.loc[other["rho"] == 7.80, "percent_normal"] = 79.3
    other.loc[0, "codocyte"] = 300
    monkeypatch.setattr(paper_numbers, "TABLE2", other)
    rows = checks_of(paper_numbers.table2())
    assert not rows.loc["cells that stay the same on the other rungs", "agrees"]
    remark = rows.loc["class distributions, percent", "remark"]
    assert "79.3" not in remark
    assert "25.0 is printed for" in remark


def test_the_pages_tables_are_those_of_the_package():
    page = PAGE.read_text(encoding="utf-8")
    tables = page_tables(load_checks(), load_readings())
    assert page == fill_page(page, tables)
    rows = {name: len(table.splitlines()) - 2 for name, table in tables.items()}
    checks = load_checks()
    assert rows["disagree"] + rows["remarks"] + rows["agree"] == len(checks)
    assert (rows["disagree"], rows["agree"]) == ((~checks["agrees"]).sum(), checks["agrees"].sum())
    sentence = (
        f"{len(checks)} rows: {rows['agree']} agree, {rows['disagree']} do not agree and {rows['remarks']} are remarks"
    )
    assert sentence in prose(page)
    assert f"{len(checks)} checks and remarks" in (PAGE.parents[1] / "CHANGELOG.md").read_text(encoding="utf-8")
    with pytest.raises(ValueError, match="no marks"):
        fill_page("no table here", tables)


def prose(page):
    """The page without its tables and code, its lines joined."""
    page = re.sub(r"<!-- (\w+) -->.*<!-- end of \1 -->", "", page, flags=re.DOTALL)
    return " ".join(line for line in page.splitlines() if not line.startswith("    "))


def test_the_pages_sentences_are_those_of_the_data():
    text = re.sub(r"\s+", " ", prose(PAGE.read_text(encoding="utf-8")))
    spread, checks = load_spread().set_index("architecture"), load_checks().set_index("number")
    parts = [" and ".join(f"{value:.2f}" for value in spread[name]) for name in ("expected_gain", "gain")]
    (dense, resnet) = (f"{row.mean:.2f} ± {row.sd:.2f}" for row in spread.itertuples())
    assert list(spread.index) == ["densenet121", "resnet50"]
    assert f"Their F1 is {dense} (DenseNet-121) and {resnet} (ResNet-50)." in text
    assert (
        f"the best is ahead of one run by {parts[0]} on average. The printed gains over cross entropy are {parts[1]}."
        in text
    )
    falls = checks.loc["DenseNet-121: F1 rises slightly with alpha up to its peak", "recomputed"]
    assert f"With DenseNet-121 it falls first: {falls}." in text
    r, p = re.search(
        r"rho (\S+); .* probability (\S+) ", checks.loc["relative improvement of F1 by rising rho, percent", "remark"]
    ).groups()
    assert f"a rank correlation of {r} with rho. A random order rises as clearly with probability {p}." in text
    ties = checks.loc[checks["place"] == "Table 3"].loc["best scores that are in bold type", "remark"]
    assert "cross entropy alone" not in ties
    n, both, alone = re.match(r"of (\d+) ties .* in (\d+); on focal loss alone in (\d+)", ties).groups()
    assert (
        f"Table 3 has {n} ties for the best score. In {both} of them both scores are in bold type, in {alone} only"
        in text
    )
    late = checks.loc["optimal epochs at 76 or later, of at most 100", "recomputed"]
    assert f"Of 20 optimal epochs, {late.split(' of ')[0]} are at 76 or later, of at most 100." in text
    recalls = "recalls that the text repeats (codocytes, hypochromia; ResNet-50, DenseNet-121; cross entropy), percent"
    a, b, c, d = checks.loc[recalls, "recomputed"].split(", ")
    assert f"ResNet-50 finds {b} % of the hypochromia and {a} % of the codocytes, DenseNet-121 {d} % and {c} %." in text
    f1 = checks.loc["rho and architectures at which focal loss has the higher F1"]
    n, by_a_digit = f1["recomputed"].split(" of ")[0], re.search(r", (\d+) of them by 0.01", f1["remark"])[1]
    assert f"Of the {n} higher F1 in Table 3, {by_a_digit} are higher by 0.01" in text


def test_every_number_of_the_pages_sentences_stands_in_the_data():
    text = prose(PAGE.read_text(encoding="utf-8"))
    text = re.sub(r"\[[^\]]*\]\([^)]*\)", "", text)  # links
    text = re.sub(r"Table \d|section [\d.]+|Eq\. \(\d\)|DenseNet-121|ResNet-50|F1", "", text)
    number = re.compile(r"\d[\d,.]*(?<![,.])")
    spread = [f"{value:.2f}" for value in load_spread().drop(columns="architecture").to_numpy().ravel()]
    known = {*spread, *number.findall(load_checks().drop(columns="agrees").to_csv(index=False))}
    known |= {str(n) for n in (len(load_checks()), *load_checks()["agrees"].value_counts(dropna=False))}
    known |= {"91.3"}  # an example of the rule of rounding: 91.30 with a decimal fewer
    assert sorted(set(number.findall(text)) - known) == []


def test_the_committed_spread_is_the_one_computed():
    # Processors differ in the last bit of a sum.
    pd.testing.assert_frame_equal(pd.read_csv(SPREAD), published_spread(), check_dtype=False, rtol=1e-12, atol=0)
