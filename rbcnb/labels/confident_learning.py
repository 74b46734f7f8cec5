"""Labels to doubt: confident learning (Northcutt, Jiang, Chuang 2021) on predictions made without the cell's own smear.

A network that never saw a smear says what its cells are; where it is surer of another class than it usually is of that
class, the label given is doubted. `rbcnb.study.label_audit` makes such predictions, `find_label_issues` the list.

Of errors planted in 5 % of synthetic labels (benchmarks/label_issues.py: two sets of cells, two fits per fold averaged)
95 % of random ones and 90 % of a tired reader's stood within the first 10 % of the queue, 95 % and 80 % on the list, of
which 53 % and 57 % were errors. Self-confidence, the baseline, did as well: 95 % and 91 % within the queue, and a list
as long held as many errors or one more. The margin stays, since the list is made by it. With one set of cells and one
fit per fold, random and tired: at 2 %, 100 % and 94 % within the queue (self-confidence the same), the list's recall
100 % and 88 % at a precision of 25 %; at 10 %, where the queue is no longer than the errors are many, 77 % and 73 % (82
% and 75 %), recall 93 % and 86 %, precision 55 %.

Labels of the test set are left alone unless asked for: who corrects them by a model's opinion makes the test agree with
the model.
"""

import numpy as np
import pandas as pd
from sklearn.metrics import confusion_matrix

from rbcnb.columns import (
    CELL,
    GROUP,
    LABEL,
    SMEAR,
    SPLIT,
    TARGET,
    TEST,
    class_names,
    classes_of_predictions,
    prob_columns,
)

SUGGESTED = "suggested"  # the class that the other smears speak for
DOUBT = "doubt"  # how far the label is doubted: the higher, the earlier in the queue
ISSUE = "issue"  # True where confident learning lists the cell
RANK = "rank"  # from 1, of the cell to look at first
NOTE = "note"
TEST_NOTE = (
    "Labels of test cells are among these. Changing them changes what every method is scored on, in favour of models "
    "that think as the auditing one does: scores before and after are not of one test, and none is independent of the "
    "audit any more. Let a reader correct them who sees neither label nor score, and then score everything again."
)
_TINY = 1e-6  # a probability that near to a threshold reaches it, and one that near to 0 is no less


def class_thresholds(given: np.ndarray, probs: np.ndarray) -> np.ndarray:
    """How sure a model is of a class [C] where it was given: its mean probability there; inf where it never was.

    Args:
        given: class numbers [N] of the labels.
        probs: probabilities [N, C] out of fold.
    """
    return np.array([probs[given == j, j].mean() if (given == j).any() else np.inf for j in range(probs.shape[1])])


def confident_classes(given: np.ndarray, probs: np.ndarray) -> np.ndarray:
    """The class number [N] of which the model is at least as sure as usual, the surest of several; -1 for none.

    As in the confident joint of Northcutt et al. (2021, doi:10.1613/jair.1.12125).
    """
    sure = probs >= class_thresholds(given, probs) - _TINY
    several = sure.sum(axis=1) > 1
    guess = np.where(several, probs.argmax(axis=1), sure.argmax(axis=1))
    return np.where(sure.any(axis=1), guess, -1)


def confident_joint(given: np.ndarray, probs: np.ndarray) -> np.ndarray:
    """Counts [C, C]: row the label given, column the class the model is sure of. Off the diagonal, classes overlap."""
    sure = confident_classes(given, probs)
    return confusion_matrix(given[sure >= 0], sure[sure >= 0], labels=range(probs.shape[1]))


def flag_issues(given: np.ndarray, probs: np.ndarray) -> np.ndarray:
    """The issue list, bool [N]: the n cells with the greatest `normalised_margin`.

    n is the number of cells where the model is sure of another class than the label, and the label is not its likeliest
    class. This is what cleanlab's filter "low_normalized_margin" does, and the list is the same.

    Args:
        given: class numbers [N] of the labels.
        probs: probabilities [N, C] out of fold.
    """
    sure = confident_classes(given, probs)
    likeliest = probs[np.arange(len(given)), given] >= probs.max(axis=1) - _TINY
    count = ((sure >= 0) & (sure != given) & ~likeliest).sum()
    listed = np.zeros(len(given), dtype=bool)
    listed[np.argsort(-normalised_margin(given, probs), kind="stable")[:count]] = True
    return listed


def normalised_margin(given: np.ndarray, probs: np.ndarray) -> np.ndarray:
    """How much more probable another class is than the label, [N], 0 to 1: (1 + p of that class - p of label) / 2."""
    others = np.where(np.arange(probs.shape[1]) == given[:, None], -np.inf, probs)
    return (1 + others.max(axis=1) - probs[np.arange(len(given)), given]) / 2


def label_codes(predictions: pd.DataFrame) -> tuple[tuple[str, ...], np.ndarray, np.ndarray]:
    """Classes, numbers of the labels given [N] and probabilities [N, C] of a predictions table.

    Raises:
        ValueError: there is no row, fewer than two classes, or a label that is none of the classes.
    """
    classes = classes_of_predictions(predictions.columns)
    given = predictions[TARGET].map({name: i for i, name in enumerate(classes)})
    if len(classes) < 2 or predictions.empty or given.isna().any():
        raise ValueError(
            f"an audit needs predictions of two classes at least and labels among them; have {len(predictions)} rows, "
            f"classes {list(classes)} and labels {list(class_names(predictions[TARGET]))}"
        )
    return classes, given.to_numpy(dtype=int), predictions[prob_columns(classes)].to_numpy(dtype=float)


def find_label_issues(predictions: pd.DataFrame, cells: pd.DataFrame, *, include_test: bool = False) -> pd.DataFrame:
    """The audited cells, the one to look at first on top.

    Args:
        predictions: out of fold, as of `rbcnb.study.out_of_fold`; ``target`` is the label given.
        cells: the study's own split, the first table of `rbcnb.study.audit_splits`: ``smear``, ``cell``, ``split``.
        include_test: list test cells too; ``note`` then says at each what that does to the evaluation.

    Returns:
        ``smear``, ``cell``, ``group``, ``split``, ``label`` (given), ``suggested`` (the likeliest class), ``doubt``
        (the normalised margin, 0 to 1), ``issue``, ``rank`` and ``note``.

    Raises:
        ValueError: a cell without a split, or nothing to audit.
    """
    table = predictions.merge(cells[[SMEAR, CELL, SPLIT]], on=[SMEAR, CELL], how="left", validate="one_to_one")
    if table[SPLIT].isna().any():
        raise ValueError(
            f"{int(table[SPLIT].isna().sum())} predicted cells are not in the cells table; give both of one run"
        )
    if not include_test:
        table = table[table[SPLIT] != TEST].reset_index(drop=True)
    classes, given, probs = label_codes(table)
    facts = {LABEL: table[TARGET], SUGGESTED: np.array(classes)[probs.argmax(axis=1)]}
    facts |= {DOUBT: normalised_margin(given, probs), ISSUE: flag_issues(given, probs)}
    listed = table[[SMEAR, CELL, GROUP, SPLIT]].assign(**facts)
    listed = listed.sort_values(DOUBT, ascending=False, kind="stable", ignore_index=True)
    return listed.assign(**{RANK: np.arange(1, len(listed) + 1), NOTE: np.where(listed[SPLIT] == TEST, TEST_NOTE, "")})


def class_overlap(predictions: pd.DataFrame) -> pd.DataFrame:
    """Which classes overlap: of the cells with a label (row), the share where the model is sure of each class (column).

    Only cells where the model is sure of a class count, so that rows sum to 1; a row without any is NaN.

    Args:
        predictions: out of fold, as of `rbcnb.study.out_of_fold`; ``target`` is the label given.

    Raises:
        ValueError: there is no row, fewer than two classes, or a label that is none of the classes.
    """
    classes, given, probs = label_codes(predictions)
    counts = confident_joint(given, probs)
    with np.errstate(invalid="ignore"):
        shares = counts / counts.sum(axis=1, keepdims=True)
    return pd.DataFrame(shares, index=pd.Index(classes, name=LABEL), columns=pd.Index(classes, name=SUGGESTED))
