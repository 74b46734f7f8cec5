"""Every score equals scikit-learn's, and what is undefined is NaN rather than a number."""

import math

import numpy as np
import pandas as pd
import pytest
from sklearn import metrics as sk

from rbcnb.columns import CLASSES
from rbcnb.evaluation.metrics import (
    auroc,
    calibration_error,
    confusion_table,
    macro_f1,
    reliability_bins,
    score_predictions,
)


def test_scores_equal_scikit_learn(predictions):
    scores = score_predictions(predictions)
    targets, preds = predictions["target"], predictions["pred"]
    probs = predictions[[f"prob_{name}" for name in CLASSES]].to_numpy()
    assert scores["accuracy"] == sk.accuracy_score(targets, preds)
    assert scores["macro_f1"] == sk.f1_score(targets, preds, average="macro")
    assert scores["balanced_accuracy"] == pytest.approx(sk.balanced_accuracy_score(targets, preds), abs=1e-15)
    expected = sk.roc_auc_score(targets, probs, labels=CLASSES, multi_class="ovr", average="macro")
    assert scores["auroc"] == pytest.approx(expected, abs=1e-15)
    report = sk.classification_report(targets, preds, output_dict=True)
    for name in CLASSES:
        assert scores[f"recall_{name}"] == report[name]["recall"]
        assert scores[f"precision_{name}"] == report[name]["precision"]
        assert scores[f"f1_{name}"] == pytest.approx(report[name]["f1-score"], abs=1e-15)
        assert scores[f"support_{name}"] == report[name]["support"]


def test_confusion_has_predictions_in_rows_as_fig_11(predictions):
    counts = confusion_table(predictions)
    expected = sk.confusion_matrix(predictions["target"], predictions["pred"], labels=CLASSES)
    np.testing.assert_array_equal(counts.to_numpy(), expected.T)
    assert counts.to_numpy().sum() == len(predictions)
    right = (predictions["target"] == predictions["pred"]).sum()
    assert np.trace(counts.to_numpy()) == right


@pytest.mark.filterwarnings("error")
def test_a_class_without_cells_is_left_out_not_scored_zero(predictions):
    two = predictions[predictions["target"] != "codocyte"]
    scores = score_predictions(two)
    assert math.isnan(scores["auroc_codocyte"])
    assert math.isnan(scores["recall_codocyte"])
    assert scores["auroc"] == pytest.approx((scores["auroc_hypochromia"] + scores["auroc_normal"]) / 2)
    assert scores["balanced_accuracy"] == pytest.approx((scores["recall_hypochromia"] + scores["recall_normal"]) / 2)


def test_macro_f1_by_hand():
    # "a": one hit of two targets and two predictions, F1 = 1/2; "b": none, F1 = 0.
    assert macro_f1(np.array(["a", "a", "b"]), np.array(["a", "b", "a"])) == pytest.approx((0.5 + 0) / 2)
    assert macro_f1(np.array(["a", "a"]), np.array(["a", "a"])) == 1.0


def test_auroc_of_one_sided_targets_is_undefined():
    assert math.isnan(auroc(np.array([True, True]), np.array([0.1, 0.2])))
    assert auroc(np.array([True, False]), np.array([0.9, 0.2])) == 1.0


def test_wrong_tables_are_named(predictions):
    with pytest.raises(ValueError, match="0 rows"):
        score_predictions(predictions.iloc[:0])
    with pytest.raises(ValueError, match="'pred'"):
        score_predictions(predictions.drop(columns="pred"))


def test_scores_of_rankings_and_of_probabilities_equal_scikit_learn(predictions):
    scores = score_predictions(predictions)
    targets = predictions["target"]
    probs = predictions[[f"prob_{name}" for name in CLASSES]].to_numpy()
    onehot = (targets.to_numpy()[:, None] == np.array(CLASSES)).astype(int)
    assert scores["mcc"] == pytest.approx(sk.matthews_corrcoef(targets, predictions["pred"]), abs=1e-15)
    assert scores["auprc"] == pytest.approx(sk.average_precision_score(onehot, probs, average="macro"), abs=1e-15)
    assert scores["nll"] == pytest.approx(sk.log_loss(targets, probs, labels=CLASSES), rel=1e-12)
    one_vs_rest = [sk.brier_score_loss(onehot[:, i], probs[:, i]) for i in range(3)]
    assert scores["brier"] == pytest.approx(sum(one_vs_rest), rel=1e-12)


def test_mcc_is_gorodkins_covariance_ratio(predictions):
    """As the correlation of the one-hot tables, written out; and 0 for a classifier that calls all cells alike."""
    x, y = (
        (predictions[column].to_numpy()[:, None] == np.array(CLASSES)).astype(float) for column in ("pred", "target")
    )
    x, y = x - x.mean(axis=0), y - y.mean(axis=0)
    expected = (x * y).sum() / np.sqrt((x * x).sum() * (y * y).sum())
    assert score_predictions(predictions)["mcc"] == pytest.approx(expected, abs=1e-14)
    assert score_predictions(predictions.assign(pred="normal"))["mcc"] == 0


def table_of(targets: str, probs: list[list[float]]) -> pd.DataFrame:
    """A predictions table of two classes, a and b, decided by argmax."""
    table = pd.DataFrame(probs, columns=["prob_a", "prob_b"])
    return table.assign(target=list(targets), pred=np.where(table["prob_a"] >= table["prob_b"], "a", "b"))


def test_calibration_error_by_hand():
    # Two bins: sure of 0.95 and right in one of two, and sure of 0.6 and right in two of two; halves of the cells.
    table = table_of("abaa", [[0.95, 0.05], [0.95, 0.05], [0.6, 0.4], [0.6, 0.4]])
    scores = score_predictions(table)
    assert scores["ece"] == pytest.approx(0.5 * 0.45 + 0.5 * 0.4)
    assert scores["ece_classwise"] == pytest.approx(scores["ece"])  # of two classes one mirrors the other
    assert scores["brier"] == pytest.approx(2 * np.mean([0.05**2, 0.95**2, 0.4**2, 0.4**2]))


def test_bins_hold_their_lower_edge_and_the_last_one_both():
    bins = reliability_bins(np.array([0.0, 0.5, 1.0]), np.array([False, True, True]), n_bins=2)
    assert bins["n"].tolist() == [1, 2]
    assert bins["hits"].tolist() == [0, 2]
    assert bins[["low", "high"]].to_numpy().tolist() == [[0, 0.5], [0.5, 1]]


@pytest.mark.filterwarnings("error")
def test_a_true_forecast_is_calibrated_and_a_false_certainty_is_not_infinitely_wrong():
    rng = np.random.default_rng(0)
    p = rng.uniform(size=40_000)
    # Chance alone leaves sqrt(p (1 - p) / n) in each of 15 bins of 2667 cells: at most 0.01 on average.
    assert calibration_error(p, rng.random(len(p)) < p) < 0.01
    certain = score_predictions(table_of("ab", [[0.0, 1.0], [0.0, 1.0]]))
    assert certain["nll"] == pytest.approx(-math.log(np.finfo(np.float32).tiny) / 2)


@pytest.mark.filterwarnings("error")
def test_a_balanced_view_scores_the_row_normalised_confusion(predictions):
    scores = score_predictions(predictions, prior="balanced")
    rates = sk.confusion_matrix(predictions["target"], predictions["pred"], labels=CLASSES, normalize="true")
    recall, precision = np.diag(rates), np.diag(rates) / rates.sum(axis=0)
    assert scores["accuracy"] == pytest.approx(recall.mean()) == pytest.approx(scores["balanced_accuracy"])
    assert scores["macro_f1"] == pytest.approx(np.mean(2 * recall * precision / (recall + precision)))
    for i, name in enumerate(CLASSES):
        assert scores[f"precision_{name}"] == pytest.approx(precision[i])
        assert scores[f"support_{name}"] == (predictions["target"] == name).sum()


def test_a_balanced_view_is_what_repeating_the_rare_classes_scores(predictions):
    """Copies of every class up to the same number of cells, scored as they stand: all scores agree."""
    by_class = {"codocyte": 10, "hypochromia": 15, "normal": 30}
    few = pd.concat([predictions[predictions["target"] == name].head(n) for name, n in by_class.items()])
    copies = few.loc[few.index.repeat(few["target"].map({name: 30 // n for name, n in by_class.items()}))]
    weighted, plain = score_predictions(few, prior="balanced"), score_predictions(copies)
    for name, value in plain.items():
        if not name.startswith("support_"):
            assert weighted[name] == pytest.approx(value, abs=1e-12), name


def test_any_prior_is_what_repeating_cells_to_its_counts_scores(predictions):
    """10, 15 and 30 cells, weighted to 1 : 3 : 6, score as 10, 30 and 60 of them do; counts are as good as shares."""
    by_class = {"codocyte": 10, "hypochromia": 15, "normal": 30}
    few = pd.concat([predictions[predictions["target"] == name].head(n) for name, n in by_class.items()])
    times = {"codocyte": 1, "hypochromia": 2, "normal": 2}
    plain = score_predictions(few.loc[few.index.repeat(few["target"].map(times))])
    for prior in (
        {"normal": 0.6, "hypochromia": 0.3, "codocyte": 0.1},
        {"codocyte": 7, "hypochromia": 21, "normal": 42},
    ):
        weighted = score_predictions(few, prior=prior)
        for name, value in plain.items():
            if not name.startswith("support_"):
                assert weighted[name] == pytest.approx(value, abs=1e-12), name
    natural = score_predictions(few, prior=by_class)
    assert natural == pytest.approx(score_predictions(few))


@pytest.mark.parametrize(
    "prior", ["rung", {"codocyte": 1, "normal": 2}, {"codocyte": 0, "hypochromia": 1, "normal": 2}]
)
def test_a_prior_that_is_not_one_is_refused(predictions, prior):
    with pytest.raises(ValueError, match=r"prior|positive"):
        score_predictions(predictions, prior=prior)


@pytest.mark.filterwarnings("error")
def test_cells_of_one_class_leave_rankings_undefined(predictions):
    normal = predictions[predictions["target"] == "normal"]
    for prior in ("natural", "balanced"):
        scores = score_predictions(normal, prior=prior)
        undefined = {name for name, value in scores.items() if math.isnan(value)}
        of_class = {f"{score}_{name}" for score in ("auroc", "auprc") for name in CLASSES}
        assert undefined == {"mcc", "auroc", "auprc", "recall_codocyte", "recall_hypochromia"} | of_class
        assert scores["support_codocyte"] == 0


def test_a_target_without_a_probability_is_named(predictions):
    with pytest.raises(ValueError, match="class elliptocyte"):
        score_predictions(predictions.replace({"target": {"normal": "elliptocyte"}}))
