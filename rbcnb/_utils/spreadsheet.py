"""What a spreadsheet would compute in place of showing it, were it to open our CSV files.

Names that begin so are refused where they are first taken (`FORMULA_FAULT`); free words, such as comments and messages,
are kept with an apostrophe before them, as spreadsheets write text that is no formula.
"""

import re

import pandas as pd

FORMULA_FAULT = "a spreadsheet takes that for a formula; begin it with a letter or a digit"
_SIGNS = "=@\t\r\n＝＋－＠"  # the wide ones are formulas to spreadsheets in East Asia
# "++", "-0.5", and "-12.png", a file that a number names.
_GRADE_OR_NUMBER = re.compile(r"[+-]+|[+-]\d+([.,]\d+)?(e[+-]?\d+)?(\.[a-z]\w{1,4})?", re.IGNORECASE)


def is_formula(text: str) -> bool:
    """Whether a spreadsheet would take *text* for a formula: "=1+1", "@SUM(A1)", "-2+cmd", and no "++" or "-0.5"."""
    return text.startswith(tuple(_SIGNS)) or (
        text.startswith(("+", "-")) and not _GRADE_OR_NUMBER.fullmatch(text)
    )  # fmt: skip


def as_text(text: str) -> str:
    """*text*, with an apostrophe before what a spreadsheet would take for a formula."""
    return f"'{text}" if is_formula(text) else text


def without_formulas(table: pd.DataFrame) -> pd.DataFrame:
    """*table* with every text in it as `as_text` gives it."""
    return table.map(lambda value: as_text(value) if isinstance(value, str) else value)
