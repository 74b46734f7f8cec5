"""Planted label errors: what an audit of labels is measured by, as only who planted an error knows where it is.

``random``: any cell, any other class. ``tired``: as a reader errs who grows tired, more often in rare classes, more and
more as the session goes on, and in favour of the look-alike and of the majority.
"""

from collections.abc import Mapping

import numpy as np
import pandas as pd

from rbcnb.columns import CELL, CODOCYTE, DEV, HYPOCHROMIA, LABEL, NORMAL, SMEAR, SPLIT, class_names

KINDS = ("random", "tired")
RARE_CLASS_FACTOR = 3.0  # how much likelier a tired reader mistakes a cell that is not of the majority
FATIGUE = 3.0  # the last cell of a session is mistaken 1 + FATIGUE times as often as the first
# What each class is mistaken for: the pale ones for each other and for the majority, normal ones mostly for pale ones.
MISTAKEN_FOR: Mapping[str, Mapping[str, float]] = {
    CODOCYTE: {HYPOCHROMIA: 0.5, NORMAL: 0.5},
    HYPOCHROMIA: {CODOCYTE: 0.2, NORMAL: 0.8},
    NORMAL: {CODOCYTE: 0.2, HYPOCHROMIA: 0.8},
}


def plant_errors(labels: pd.Series, *, kind: str, rate: float, seed: int) -> pd.Series:
    """*labels* with ``round(rate * n)`` of them wrong.

    Args:
        labels: the true labels, in the order in which the reader sees the cells.
        kind: of ``KINDS``. Classes that ``MISTAKEN_FOR`` does not know are mistaken for the others alike.
        rate: share of wrong labels, 0 to 1.
        seed: of which, and for what.

    Returns:
        A copy, with the index of *labels*; it differs from them in exactly so many rows.

    Raises:
        ValueError: another kind, a rate outside 0 to 1, or fewer than two classes.
    """
    names = class_names(labels)
    if kind not in KINDS:
        raise ValueError(f"kind must be one of {', '.join(KINDS)}, not {kind!r}")
    if not 0 <= rate <= 1:
        raise ValueError(f"rate must lie between 0 and 1, not {rate}")
    if len(names) < 2:
        raise ValueError(f"errors need two classes, have {list(names)}")
    rng = np.random.default_rng(seed)
    true = labels.to_numpy(dtype=object)
    weights = np.ones(len(true))
    if kind == "tired":
        majority = labels.value_counts().idxmax()
        weights = np.where(true == majority, 1.0, RARE_CLASS_FACTOR)
        weights *= 1 + FATIGUE * np.linspace(0, 1, len(true))
    wrong = rng.choice(len(true), round(rate * len(true)), replace=False, p=weights / weights.sum())
    given = true.copy()
    for row in np.sort(wrong):
        others = [name for name in names if name != true[row]]
        mistakes = MISTAKEN_FOR.get(true[row], {}) if kind == "tired" else {}
        odds = np.array([mistakes.get(name, 0.0) for name in others]) if mistakes else np.ones(len(others))
        odds = odds if odds.sum() else np.ones(len(others))
        given[row] = rng.choice(others, p=odds / odds.sum())
    return pd.Series(given, index=labels.index, name=LABEL)


def plant_dev_errors(cells: pd.DataFrame, *, kind: str, rate: float, seed: int) -> pd.DataFrame:
    """*cells* with errors planted among the labels of the development cells (`plant_errors`); the test stays true.

    Args:
        cells: ``label`` and ``split``, in the order in which the reader sees the cells.
        kind: of ``KINDS``: "random" or "tired".
        rate: share of the development cells' labels that are wrong afterwards, 0 to 1.
        seed: of the draw of wrong labels.

    Raises:
        ValueError: another kind, a rate outside 0 to 1, or fewer than two classes among the development cells.
    """
    dev, labels = cells[SPLIT] == DEV, cells[LABEL].copy()
    labels[dev] = plant_errors(cells.loc[dev, LABEL], kind=kind, rate=rate, seed=seed)
    return cells.assign(**{LABEL: labels})


def audit_scores(issues: pd.DataFrame, truth: pd.DataFrame, *, queue: float = 0.1) -> dict[str, float]:
    """How many of the wrong labels an audit found.

    Args:
        issues: as of `rbcnb.labels.find_label_issues`.
        truth: ``smear``, ``cell`` and the true ``label`` of each of its cells.
        queue: share of the cells, the most doubted first, that a reader would look at.

    Returns:
        ``n_errors``, ``n_listed``, ``precision`` and ``recall`` of the issue list, and ``queue_recall``: the share of
        the errors within the queue. What 0 of 0 leaves undefined is NaN.
    """
    true = issues[[SMEAR, CELL]].merge(truth[[SMEAR, CELL, LABEL]], on=[SMEAR, CELL], how="left", validate="one_to_one")
    wrong, listed = (issues[LABEL].to_numpy() != true[LABEL].to_numpy()), issues["issue"].to_numpy()
    first = issues["rank"].to_numpy() <= round(queue * len(issues))
    n, share = int(wrong.sum()), lambda part, whole: round(part / whole, 3) if whole else float("nan")
    hits = int((wrong & listed).sum())
    scores = {"n_errors": n, "n_listed": int(listed.sum()), "precision": share(hits, int(listed.sum()))}
    return scores | {"recall": share(hits, n), "queue_recall": share(int((wrong & first).sum()), n)}
