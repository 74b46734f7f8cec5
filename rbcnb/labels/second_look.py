"""A second look at doubted labels, by a reader who does not know which are doubted.

Suspects are mixed with controls, cells of the same given classes that nobody doubts. A reader changes some labels of
any cells shown, by slips and because classes overlap; only what is changed more often among suspects than among
controls speaks of wrong labels. The queue that the reader sees holds neither label nor doubt; the key lies in another
file.
What is then done with the changes: `rbcnb.study.label_audit`.
"""

import math

import numpy as np
import pandas as pd
from scipy import stats

from rbcnb.columns import CELL, KIND, LABEL, RADIUS, READER, SMEAR, X, Y, class_names
from rbcnb.labels.confident_learning import DOUBT, ISSUE, RANK, SUGGESTED
from rbcnb.labels.readings import NAMED

ROLE = "role"
SUSPECT, CONTROL = "suspect", "control"
SECOND = "second"  # the label of the second look; missing where the reader was unsure or has not come that far
ALL = "all"
_COUNTS = ["suspects", "controls", "unread", "suspects_changed", "controls_changed"]
SIMULATED_READER = "simulated from the truth"  # name of a reader who is none


def relabel_queue(
    issues: pd.DataFrame, *, n_suspects: int | None = None, seed: int
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Suspects and controls in one shuffled order, and the key that says which is which.

    For each suspect a control is drawn from the cells of the same given class that are neither suspects nor issues; all
    of them where there are fewer.

    Args:
        issues: as of `rbcnb.labels.find_label_issues`.
        n_suspects: the first so many of the ranking; None takes the cells that are issues.
        seed: of the controls and of the order.

    Returns:
        The queue, ``smear`` and ``cell`` alone, and the key in the same order: ``smear``, ``cell``, ``role``, ``label``
        (given), ``suggested``, ``doubt``.

    Raises:
        ValueError: there is no suspect.
    """
    suspect = issues[ISSUE] if n_suspects is None else issues[RANK] <= n_suspects
    if not suspect.any():
        raise ValueError("there is no suspect to look at; ask for the first so many of the ranking (n_suspects)")
    rng = np.random.default_rng(seed)
    pool = issues[~suspect & ~issues[ISSUE]]
    parts = [issues[suspect].assign(**{ROLE: SUSPECT})]
    for name, n in issues.loc[suspect, LABEL].value_counts(sort=False).sort_index().items():
        same_class = pool[pool[LABEL] == name]
        drawn = rng.choice(len(same_class), size=min(len(same_class), n), replace=False)
        parts.append(same_class.iloc[drawn].assign(**{ROLE: CONTROL}))
    key = pd.concat(parts, ignore_index=True)
    key = key.iloc[rng.permutation(len(key))][[SMEAR, CELL, ROLE, LABEL, SUGGESTED, DOUBT]].reset_index(drop=True)
    return key[[SMEAR, CELL]].copy(), key


def simulated_labels(key: pd.DataFrame, truth: pd.DataFrame, *, slip_rate: float, seed: int) -> pd.DataFrame:
    """Simulated readings by a reader who knows the truth and makes some slips, for smears whose truth is known.

    Args:
        key: of `relabel_queue`; its cells are read.
        truth: ``smear``, ``cell``, ``label`` of at least these cells.
        slip_rate: share of readings that name another class, any of those in *truth*, at random.
        seed: of the slips.

    Returns:
        Current labels as of `rbcnb.labels.consensus`, less the columns that only files have.
    """
    names = class_names(truth[LABEL])
    true = key[[SMEAR, CELL]].merge(truth[[SMEAR, CELL, LABEL]], on=[SMEAR, CELL], how="left", validate="one_to_one")
    if true[LABEL].isna().any():
        raise ValueError(f"the truth lacks {int(true[LABEL].isna().sum())} cells of the queue")
    rng = np.random.default_rng(seed)
    slips = rng.random(len(true)) < slip_rate
    given = [
        str(rng.choice([name for name in names if name != label])) if slip else label
        for label, slip in zip(true[LABEL], slips, strict=True)
    ]
    return true.assign(**{LABEL: given, X: np.nan, Y: np.nan, RADIUS: np.nan, KIND: NAMED, READER: SIMULATED_READER})


def compare_second_look(key: pd.DataFrame, labels: pd.DataFrame) -> pd.DataFrame:
    """The key with what the second reader said: ``second`` and ``changed`` (missing where nothing was named).

    Args:
        key: of `relabel_queue`.
        labels: ``smear``, ``cell``, ``label``, as of `rbcnb.labels.consensus`; cells beyond the key are ignored.
    """
    read = key.merge(
        labels[[SMEAR, CELL, LABEL]].rename(columns={LABEL: SECOND}),
        on=[SMEAR, CELL],
        how="left",
        validate="one_to_one",
    )
    changed = (read[SECOND] != read[LABEL]).astype("boolean").mask(read[SECOND].isna())
    return read.assign(changed=changed)


def error_estimate(look: pd.DataFrame) -> pd.DataFrame:
    """How many of the suspects' labels are wrong, by how much more often they were changed than those of controls.

    The 95 % interval of each difference of shares is Newcombe's (1998, Statistics in Medicine 17:873, method 10), from
    Wilson's of both; over classes they add up as independent ones (Zou and Donner 2008, the same 27:1693). A wrong
    label among the controls lowers the estimate: it is a cautious one.

    Args:
        look: of `compare_second_look`. Cells on which nothing was named count as unread.

    Returns:
        One row per given class and one for ``all``, weighted by suspects: ``suspects`` and ``controls`` (read),
        ``unread``, ``suspects_changed``, ``controls_changed``, ``excess`` with ``low`` and ``high``, and ``errors``,
        ``errors_low``, ``errors_high`` (the excess times the suspects read, at least 0). A class of which either side
        was not read has no excess, and ``all`` speaks of the other classes.
    """
    rows = [_class_row(name, class_look) for name, class_look in look.groupby(LABEL, sort=False)]
    order = class_names(look[LABEL])
    table = pd.DataFrame(sorted(rows, key=lambda row: order.index(row[LABEL])))
    known = table.dropna(subset="excess")
    weight = known["suspects"] / known["suspects"].sum()
    mean = (weight * known["excess"]).sum() if len(known) else np.nan
    down = np.sqrt((weight**2 * (known["excess"] - known["low"]) ** 2).sum())
    up = np.sqrt((weight**2 * (known["high"] - known["excess"]) ** 2).sum())
    total = {LABEL: ALL, **table[_COUNTS].sum(), "excess": mean, "low": mean - down, "high": mean + up}
    suspects = [*table["suspects"], known["suspects"].sum()]
    table = pd.concat([table, pd.DataFrame([total])], ignore_index=True)
    errors = table[["excess", "low", "high"]].mul(suspects, axis=0).clip(lower=0)
    return table.assign(**dict(zip(("errors", "errors_low", "errors_high"), errors.to_numpy().T, strict=True)))


def _class_row(name: str, class_look: pd.DataFrame) -> dict[str, object]:
    """The row of `error_estimate` of one given class."""
    read = class_look.dropna(subset="changed")
    n = read[ROLE].value_counts()
    hits = read.loc[read["changed"].astype(bool), ROLE].value_counts()
    unread = len(class_look) - len(read)
    counts = [n.get(SUSPECT, 0), n.get(CONTROL, 0), unread, hits.get(SUSPECT, 0), hits.get(CONTROL, 0)]
    row = {LABEL: name, **dict(zip(_COUNTS, counts, strict=True)), "excess": np.nan, "low": np.nan, "high": np.nan}
    if not (row["suspects"] and row["controls"]):
        return row
    tests = [stats.binomtest(int(row[f"{role}s_changed"]), int(row[f"{role}s"])) for role in (SUSPECT, CONTROL)]
    a, b = (test.statistic for test in tests)
    (a_low, a_high), (b_low, b_high) = (test.proportion_ci(method="wilson") for test in tests)
    low, high = a - b - math.hypot(a - a_low, b_high - b), a - b + math.hypot(a_high - a, b - b_low)
    return row | {"excess": a - b, "low": low, "high": high}
