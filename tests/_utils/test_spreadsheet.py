"""What a spreadsheet would compute, and what is as harmless as it looks."""

import pandas as pd
import pytest

from rbcnb._utils.spreadsheet import as_text, is_formula, without_formulas

FORMULAS = [
    "=1+1",
    "=",
    "@SUM(A1)",
    "\t=1",
    "\r=1",
    "-2+cmd|' /C calc'!A0",
    "+A1",
    "-burr",
    "- thin",
    "＝1",
    "+1-1",
    "-1 2",
]
PLAIN = [
    "",
    "normal",
    "a=b",
    "x@y",
    "+",
    "-",
    "++",
    "+++",
    "-1",
    "+1",
    "-0.5",
    "-1,5",
    "+1e-3",
    "1+",
    "'=1",
    " =1",
    "−2",
]


@pytest.mark.parametrize("text", FORMULAS)
def test_formulas_are_known_and_become_text(text):
    assert is_formula(text)
    assert as_text(text) == f"'{text}"
    assert as_text(as_text(text)) == as_text(text)


@pytest.mark.parametrize("text", PLAIN)
def test_words_grades_and_numbers_stay(text):
    assert not is_formula(text)
    assert as_text(text) == text


def test_a_table_keeps_its_numbers():
    table = pd.DataFrame({"file": ["=x.png", "b.png"], "n": [-1.5, 2.0]})
    assert without_formulas(table).to_dict("list") == {"file": ["'=x.png", "b.png"], "n": [-1.5, 2.0]}
