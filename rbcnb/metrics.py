"""Predictions to scores: everything from the predictions table alone, the arithmetic by scikit-learn.

A predictions table has one row per held-out cell: ``target``, ``pred`` and one ``prob_<class>`` per class.
"""

import numpy as np
import pandas as pd
from sklearn.metrics import (
    accuracy_score,
    confusion_matrix,
    f1_score,
    precision_score,
    recall_score,
    roc_auc_score,
)

from rbcnb.columns import PRED, PROB, TARGET, classes_of_predictions


def macro_f1(targets: np.ndarray, preds: np.ndarray) -> float:
    """Mean over classes of F1, a class that is neither target nor prediction left out, an F1 of 0/0 taken as 0.

    This is the mean of per-class F1, as in scikit-learn; not the F1 of mean precision and mean recall.
    """
    return float(f1_score(targets, preds, average="macro", zero_division=0))


def score_predictions(predictions: pd.DataFrame) -> dict[str, float]:
    """Accuracy, macro F1, balanced accuracy and AUROC, overall and per class.

    Args:
        predictions: see the module docstring.

    Returns:
        ``accuracy``, ``macro_f1``, ``balanced_accuracy``, ``auroc`` (unweighted mean of the one-vs-rest AUROCs), and
        per class ``recall_<class>``, ``precision_<class>``, ``f1_<class>``, ``auroc_<class>``, ``support_<class>``.
        What a held-out set without (or with nothing but) a class leaves undefined is NaN; ``auroc`` averages the rest.

    Raises:
        ValueError: the table is empty, or lacks a column.
    """
    classes = classes_of_predictions(predictions.columns)
    if predictions.empty or len(classes) < 2 or not {TARGET, PRED} <= set(predictions.columns):
        raise ValueError(
            f"a predictions table needs rows, '{TARGET}', '{PRED}' and at least two '{PROB}<class>' columns; "
            f"got {len(predictions)} rows of {list(predictions.columns)}"
        )
    targets, preds = predictions[TARGET].to_numpy(), predictions[PRED].to_numpy()
    names = list(classes)
    per_class = {
        "recall": recall_score(targets, preds, labels=names, average=None, zero_division=np.nan),
        "precision": precision_score(targets, preds, labels=names, average=None, zero_division=np.nan),
        "f1": f1_score(targets, preds, labels=names, average=None, zero_division=np.nan),
        "auroc": np.array([auroc(targets == name, predictions[PROB + name].to_numpy()) for name in names]),
        "support": np.array([(targets == name).sum() for name in names]),
    }
    defined = per_class["auroc"][~np.isnan(per_class["auroc"])]
    scores = {
        "accuracy": accuracy_score(targets, preds),
        "macro_f1": macro_f1(targets, preds),
        # Over the classes that were there to be recalled, as in scikit-learn's, which warns where one is missing.
        "balanced_accuracy": np.nanmean(per_class["recall"]),
        "auroc": float(defined.mean()) if len(defined) else float("nan"),
    }
    for score, values in per_class.items():
        scores |= {f"{score}_{name}": value for name, value in zip(names, values, strict=True)}
    return {name: float(value) for name, value in scores.items()}


def auroc(is_class: np.ndarray, score: np.ndarray) -> float:
    """Area under the ROC curve of one class against the rest; NaN when one of the two sides is empty."""
    if is_class.all() or not is_class.any():
        return float("nan")
    return float(roc_auc_score(is_class, score))


def confusion_table(predictions: pd.DataFrame) -> pd.DataFrame:
    """Counts as Fig. 11 prints them: rows are the predicted class (output), columns the target."""
    names = list(classes_of_predictions(predictions.columns))
    counts = confusion_matrix(predictions[TARGET], predictions[PRED], labels=names).T
    return pd.DataFrame(counts, index=pd.Index(names, name=PRED), columns=pd.Index(names, name=TARGET))
