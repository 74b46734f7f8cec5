"""The published tables and claims, and what recomputation says of them.

The tables and claims stand in ``rbcnb.published``, the arithmetic in ``rbcnb.printed``, the checks in modules by table;
what others need is offered here. Nothing is typed twice: what stands under "recomputed" is computed from the published
numbers when asked. That so much can be checked from print alone is to the authors' credit.
"""

import pandas as pd

from rbcnb.checks import Check
from rbcnb.checks_figure11 import figure11, recalls
from rbcnb.checks_ladder import figure13, table2, table3
from rbcnb.checks_table1 import table1, test_set
from rbcnb.printed import relative_improvement, scores_of_confusion
from rbcnb.published import (
    CLAIMS,
    CONFUSION,
    CONFUSION_PERCENT,
    CONFUSION_SHARES,
    SETTINGS,
    TABLE1,
    TABLE2,
    TABLE3,
    Claim,
)

__all__ = [
    "CLAIMS",
    "CONFUSION",
    "CONFUSION_PERCENT",
    "CONFUSION_SHARES",
    "SETTINGS",
    "TABLE1",
    "TABLE2",
    "TABLE3",
    "Claim",
    "recomputation",
    "relative_improvement",
    "scores_of_confusion",
]


def recomputation() -> pd.DataFrame:
    """Every published number and claim that print alone allows to check, beside what it comes to.

    Returns:
        claim (id in ``CLAIMS``, or empty), place, number, published, recomputed (both as text), agrees (True, False, or
        None where the row is a remark rather than a check), remark. A claim can have several rows.
    """
    parts = (test_set, table1, figure11, recalls, table2, table3, figure13)
    return pd.DataFrame([row for part in parts for row in part()], columns=list(Check._fields)).astype(
        {"agrees": "boolean"}
    )
