"""Every score equals scikit-learn's, and what is undefined is NaN rather than a number."""

import math

import numpy as np
import pytest
from sklearn import metrics as sk

from rbcnb.columns import CLASSES
from rbcnb.metrics import auroc, confusion_table, macro_f1, score_predictions


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
