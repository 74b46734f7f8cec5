"""Predictions to scores: everything from the predictions table alone, the arithmetic by scikit-learn.

A predictions table has one row per held-out cell: ``target``, ``pred`` and one ``prob_<class>`` per class. A score that
the held-out cells leave undefined, such as the recall of a class without cells (``support_<class>`` is then 0), is NaN
and left out of means over classes: it is never a 0.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from sklearn.metrics import (
    accuracy_score,
    average_precision_score,
    confusion_matrix,
    f1_score,
    matthews_corrcoef,
    precision_recall_fscore_support,
    roc_auc_score,
)

from rbcnb.columns import PRED, PROB, TARGET, classes_of_predictions, prob_columns
from rbcnb.evaluation.prior_shift import NATURAL, Prior, class_shares

N_BINS = 15
# Smaller probabilities count as this one: what float32 rounds to 0 costs 87 nats, not infinitely many.
LEAST_PROB = float(np.finfo(np.float32).tiny)


def macro_f1(targets: np.ndarray, preds: np.ndarray, *, weights: np.ndarray | None = None) -> float:
    """Mean of per-class F1, over the classes that are a target or a prediction; an F1 of 0/0 counts as 0.

    As in scikit-learn; not the F1 of mean precision and mean recall. A class that is predicted but has no cells scores
    0: calling cells by it was wrong each time.

    Args:
        targets: true classes [N], as names or numbers.
        preds: predicted classes [N], of the same kind.
        weights: of the cells, [N]; None counts all cells alike.
    """
    return float(f1_score(targets, preds, average="macro", zero_division=0, sample_weight=weights))


def cell_weights(targets: np.ndarray, classes: Sequence[str], prior: Prior) -> np.ndarray | None:
    """Weights of cells, [N], that give the classes of *targets* the shares of *prior*; None leaves all cells alike.

    A class without cells has no share; the others keep theirs towards each other.
    """
    shares = class_shares(prior, classes)
    if shares is None:
        return None
    is_class = targets[:, None] == np.array(classes)
    return is_class @ (shares / np.maximum(is_class.sum(axis=0), 1))


def score_predictions(predictions: pd.DataFrame, *, prior: Prior = NATURAL) -> dict[str, float]:
    """Scores of decisions (argmax), of rankings and of probabilities, overall and per class.

    Args:
        predictions: see the module docstring.
        prior: "natural", or what shares of the cells the classes are weighted to have, as on a test set of that
            prevalence; no cell is thrown away. "balanced": every class that is there counts alike. Of decisions that
            is exactly what the row-normalised confusion matrix scores: accuracy becomes balanced accuracy, precision is
            that at equal prevalence. Or class -> share, or count. ``support_<class>`` stays a count.

    Returns:
        Of decisions: ``accuracy``, ``macro_f1`` (`macro_f1`), ``balanced_accuracy`` (mean recall), ``mcc`` (Matthews's
        correlation for several classes, Gorodkin 2004; 0 if all cells are called alike), and per class
        ``recall_<class>``, ``precision_<class>``, ``f1_<class>``.
        Of rankings: ``auroc``, ``auprc``, unweighted means of the one-vs-rest ``auroc_<class>`` and ``auprc_<class>``;
        the latter is average precision (steps, no interpolation), whose chance level is the class's share of the cells.
        Of probabilities: ``nll``, mean of -log of the target's probability, in nats; ``brier``, mean over cells of the
        squared differences from the 0/1 target *summed over classes*, 0 to 2; ``ece``, mean of ``|share right - mean
        probability|`` over 15 bins of equal width of the predicted class's probability, weighted by cells; and
        ``ece_classwise``, the mean over classes of the same with every cell's probability of that class. ECE is never
        negative, so that few cells make it large by chance alone.
        And ``support_<class>``, cells per class. For what is NaN see the module docstring.

    Raises:
        ValueError: the table is empty, lacks a column, or speaks of a class that it has no probabilities of.
    """
    classes = list(classes_of_predictions(predictions.columns))
    if predictions.empty or len(classes) < 2 or not {TARGET, PRED} <= set(predictions.columns):
        raise ValueError(
            f"a predictions table needs rows, '{TARGET}', '{PRED}' and at least two '{PROB}<class>' columns; "
            f"got {len(predictions)} rows of {list(predictions.columns)}"
        )
    if strangers := {*predictions[TARGET], *predictions[PRED]} - set(classes):
        raise ValueError(f"no column '{PROB}<class>' for the class {', '.join(sorted(map(str, strangers)))}")
    labels = predictions[TARGET].to_numpy()
    is_class = labels[:, None] == np.array(classes)
    # Numbers for names, in the names' order: scikit-learn sorts the labels for each score, and takes long over words.
    code_of = {name: code for code, name in enumerate(sorted(classes))}
    targets, preds = (predictions[column].map(code_of).to_numpy() for column in (TARGET, PRED))
    probs = predictions[prob_columns(classes)].to_numpy(dtype=float)
    weights = cell_weights(labels, classes, prior)
    options = {"labels": [code_of[name] for name in classes], "zero_division": np.nan, "sample_weight": weights}
    precision, recall, f1, _ = precision_recall_fscore_support(targets, preds, **options)
    per_class = {
        "recall": recall,
        "precision": precision,
        "f1": f1,
        "auroc": np.array([auroc(member, p, weights=weights) for member, p in zip(is_class.T, probs.T, strict=True)]),
        "auprc": np.array([auprc(member, p, weights=weights) for member, p in zip(is_class.T, probs.T, strict=True)]),
        "support": is_class.sum(axis=0),
    }
    is_called = predictions[PRED].to_numpy()[:, None] == np.array(classes)
    confidence, right = probs[is_called], targets == preds
    by_class = [calibration_error(p, member, weights=weights) for member, p in zip(is_class.T, probs.T, strict=True)]
    scores = {
        "accuracy": accuracy_score(targets, preds, sample_weight=weights),
        "macro_f1": macro_f1(targets, preds, weights=weights),
        # Over the classes that were there to be recalled, as in scikit-learn's, which warns where one is missing.
        "balanced_accuracy": np.nanmean(per_class["recall"]),
        "mcc": matthews_corrcoef(targets, preds, sample_weight=weights) if len(set(targets)) > 1 else np.nan,
        "auroc": _mean_of_defined(per_class["auroc"]),
        "auprc": _mean_of_defined(per_class["auprc"]),
        "nll": np.average(-np.log(np.maximum(probs[is_class], LEAST_PROB)), weights=weights),
        "brier": np.average(((probs - is_class) ** 2).sum(axis=1), weights=weights),
        "ece": calibration_error(confidence, right, weights=weights),
        "ece_classwise": np.mean(by_class),
    }
    for score, values in per_class.items():
        scores |= {f"{score}_{name}": value for name, value in zip(classes, values, strict=True)}
    return {name: float(value) for name, value in scores.items()}


def auroc(is_class: np.ndarray, score: np.ndarray, *, weights: np.ndarray | None = None) -> float:
    """Area under the ROC curve of one class against the rest; NaN when one of the two sides is empty."""
    if is_class.all() or not is_class.any():
        return float("nan")
    return float(roc_auc_score(is_class, score, sample_weight=weights))


def auprc(is_class: np.ndarray, score: np.ndarray, *, weights: np.ndarray | None = None) -> float:
    """Average precision of one class against the rest; NaN when one of the two sides is empty."""
    if is_class.all() or not is_class.any():
        return float("nan")
    return float(average_precision_score(is_class, score, sample_weight=weights))


def reliability_bins(
    probs: np.ndarray, happened: np.ndarray, *, weights: np.ndarray | None = None, n_bins: int = N_BINS
) -> pd.DataFrame:
    """What was promised against what happened, bin by bin.

    Args:
        probs: probabilities [N] of something.
        happened: whether it did, [N] bool.
        weights: of the cells, [N].
        n_bins: bins of equal width over 0 to 1, each with its lower edge, the last with both.

    Returns:
        One row per bin that is not empty: ``low``, ``high`` (its edges), ``n``, ``hits`` (cells), ``share`` (of the
        weight), ``prob`` (mean) and ``rate`` (share that happened).
    """
    return pd.DataFrame(_bins(probs, happened, weights, n_bins))


def _bins(probs: np.ndarray, happened: np.ndarray, weights: np.ndarray | None, n_bins: int) -> dict[str, np.ndarray]:
    """Columns of `reliability_bins`."""
    weight = np.ones(len(probs)) if weights is None else weights
    codes = np.minimum((np.asarray(probs, dtype=float) * n_bins).astype(int), n_bins - 1)
    n, hits, mass, promised, kept = (
        np.bincount(codes, weights=values, minlength=n_bins)
        for values in (np.ones(len(codes)), happened, weight, weight * probs, weight * happened)
    )
    filled = np.flatnonzero(n)
    mass = mass[filled]
    return {
        "low": filled / n_bins,
        "high": (filled + 1) / n_bins,
        "n": n[filled].astype(int),
        "hits": hits[filled].astype(int),
        "share": mass / mass.sum(),
        "prob": promised[filled] / mass,
        "rate": kept[filled] / mass,
    }


def calibration_error(
    probs: np.ndarray, happened: np.ndarray, *, weights: np.ndarray | None = None, n_bins: int = N_BINS
) -> float:
    """Expected calibration error: |rate - mean probability| over the bins of `reliability_bins`, by their weight."""
    bins = _bins(probs, happened, weights, n_bins)
    return float(bins["share"] @ np.abs(bins["rate"] - bins["prob"]))


def _mean_of_defined(values: np.ndarray) -> float:
    defined = values[~np.isnan(values)]
    return float(defined.mean()) if len(defined) else float("nan")


def confusion_table(predictions: pd.DataFrame) -> pd.DataFrame:
    """Counts as Fig. 11 prints them: rows are the predicted class (output), columns the target.

    Args:
        predictions: a predictions table: ``target``, ``pred`` and one ``prob_<class>`` per class.

    Returns:
        Cells [C, C], the classes in the order of the ``prob_<class>`` columns. A cell with a target or prediction that
        is none of them is not counted.
    """
    names = list(classes_of_predictions(predictions.columns))
    counts = confusion_matrix(predictions[TARGET], predictions[PRED], labels=names).T
    return pd.DataFrame(counts, index=pd.Index(names, name=PRED), columns=pd.Index(names, name=TARGET))


PROBABILITY = "probability"  # of the predicted class
ROW = "row"  # in the predictions table, and so in the held-out crops


def confident_mistakes(predictions: pd.DataFrame, *, n: int = 24) -> pd.DataFrame:
    """The *n* wrong calls with the highest probability, surest first; equal ones in the table's order.

    Args:
        predictions: a predictions table: ``target``, ``pred`` and one ``prob_<class>`` per class.
        n: rows at most.

    Returns:
        ``row`` (of *predictions*, from 0), ``target``, ``pred``, ``probability`` (the largest of the cell's), and
        *predictions*' other columns but probabilities.
    """
    judged = _judged(predictions)
    wrong = judged[judged[PRED] != judged[TARGET]]
    return wrong.sort_values(PROBABILITY, ascending=False, kind="stable").head(n).reset_index(drop=True)


def examples_by_class(predictions: pd.DataFrame, *, n: int = 4) -> pd.DataFrame:
    """Per true class the *n* surest right and the *n* surest wrong calls.

    Args:
        predictions: a predictions table: ``target``, ``pred`` and one ``prob_<class>`` per class.
        n: right calls, and wrong calls, of each class at most.

    Returns:
        Rows as of `confident_mistakes`, and ``right`` (bool): class by class, its right calls first, surest first.
    """
    judged = _judged(predictions).sort_values(PROBABILITY, ascending=False, kind="stable")
    judged["right"] = judged[PRED] == judged[TARGET]
    parts = [
        judged[(judged[TARGET] == name) & (judged["right"] == right)].head(n)
        for name in classes_of_predictions(predictions.columns)
        for right in (True, False)
    ]
    return pd.concat(parts, ignore_index=True)


def _judged(predictions: pd.DataFrame) -> pd.DataFrame:
    columns = prob_columns(classes_of_predictions(predictions.columns))
    table = predictions.drop(columns=columns).assign(**{PROBABILITY: predictions[columns].max(axis=1)})
    table.insert(0, ROW, np.arange(len(table)))
    return table
