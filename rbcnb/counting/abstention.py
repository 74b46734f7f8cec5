"""When a cell is called and when it is left as unsure: one threshold on its largest calibrated probability."""

import numpy as np
import pandas as pd

from rbcnb.columns import GROUP, PRED, TARGET, UNSURE, classes_of_predictions, prob_columns

SURE_PRECISION = 0.95  # asked for of the calls
MIN_SHARE = 0.5  # of every class's calls that a threshold must leave


def call_cells(probabilities: np.ndarray, classes: tuple[str, ...], *, threshold: float) -> np.ndarray:
    """The class of the largest of *probabilities* [N, C], or `UNSURE` where that is below *threshold* -> [N] str."""
    probabilities = np.asarray(probabilities).reshape(-1, len(classes))
    names = np.array([*classes, UNSURE], dtype=object)
    return names[np.where(probabilities.max(axis=1) < threshold, len(classes), probabilities.argmax(axis=1))]


def threshold_curve(predictions: pd.DataFrame) -> pd.DataFrame:
    """What each threshold would do.

    Returned are ``threshold``, ``sure`` (share of cells called), ``least_sure`` (of the class that loses most of its
    calls) and ``precision`` (mean over called classes of the share that is right). The mean over classes, since four
    cells out of five are normal and would hide what happens to the others.

    Args:
        predictions: out-of-fold predictions: ``target``, ``pred`` and calibrated ``prob_<class>``.
    """
    classes = classes_of_predictions(predictions.columns)
    top = predictions[prob_columns(classes)].max(axis=1).to_numpy()
    order = np.argsort(-top, kind="stable")
    pred, target = predictions[PRED].to_numpy()[order], predictions[TARGET].to_numpy()[order]
    called = np.stack([np.cumsum(pred == name) for name in classes], axis=1)
    right = np.stack([np.cumsum((pred == name) & (target == name)) for name in classes], axis=1)
    there = called[-1] > 0
    with np.errstate(invalid="ignore", divide="ignore"):
        precision = np.nanmean((right / called)[:, there], axis=1)
    table = pd.DataFrame(
        {
            "threshold": top[order],
            "sure": np.arange(1, len(top) + 1) / len(top),
            "least_sure": (called[:, there] / called[-1, there]).min(axis=1),
            "precision": precision,
        }
    )
    return table.groupby("threshold", sort=True).last().reset_index()  # equal cells are called together


def choose_threshold(predictions: pd.DataFrame, *, precision: float = SURE_PRECISION) -> tuple[float, dict[str, float]]:
    """The lowest threshold at which calls are right to *precision*, averaged over classes, and what it costs.

    Of thresholds that leave every class at least half of its calls; where none of these reaches the precision, the most
    precise one, of equals the lowest. Where all calls together reach it, nothing is unsure: 0.

    Args:
        predictions: out-of-fold predictions, so that no cell is judged by a network that was trained on it.

    Returns:
        The threshold, and ``asked`` (*precision*), ``precision`` and ``sure`` (share of cells called) at it.
    """
    curve = threshold_curve(predictions)
    fair = curve[curve["least_sure"] >= MIN_SHARE]
    good = fair[fair["precision"] >= precision]
    row = good.iloc[0] if len(good) else fair.loc[fair["precision"].idxmax()]
    threshold = 0.0 if row["threshold"] == curve["threshold"].iloc[0] else float(row["threshold"])
    return threshold, {"asked": precision, "precision": float(row["precision"]), "sure": float(row["sure"])}


def confusion_by_group(predictions: pd.DataFrame, *, threshold: float) -> np.ndarray:
    """Counts [G, C + 1, C] of calls (the last is unsure) by true class, one table per group of *predictions*."""
    classes = classes_of_predictions(predictions.columns)
    calls = call_cells(predictions[prob_columns(classes)].to_numpy(), classes, threshold=threshold)
    groups = pd.Categorical(predictions[GROUP])
    counts = np.zeros((len(groups.categories), len(classes) + 1, len(classes)), int)
    outcome = pd.Categorical(calls, categories=[*classes, UNSURE]).codes
    np.add.at(counts, (groups.codes, outcome, pd.Categorical(predictions[TARGET], categories=classes).codes), 1)
    return counts
