"""Where two tables differ: value by value, rows matched by what names them."""

import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from rbcnb.columns import SIMULATED
from rbcnb.workflow.run import read_table

# Numbers that name a row, and words that are outcomes.
_NAMING = ("alpha", "gamma", "rho", "outer")
_OUTCOMES = (
    *("verdict", "evidence", "contrast", "decided_by", "key", "engine", "processor", "data", "error"),
    SIMULATED,
)
_LONGEST = 60  # characters that are shown of a text
MISSING, THERE = "missing", "there"
READABLE = "readable"  # expected of what could not be read; the other value says why


@dataclass(frozen=True)
class Finding:
    """One number (or file) that is not what it should be."""

    table: str
    row: str
    column: str
    stored: Any
    expected: Any  # recomputed, or the other run's

    def as_line(self, words: tuple[str, str]) -> str:
        """The finding as a line; *words* say what the two values are, such as "stored" and "recomputed"."""
        where = " | ".join(part for part in (self.table, self.row, self.column) if part)
        if self.expected == READABLE:
            return f"{where}: {self.stored}"
        line = f"{where}: {words[0]} {_text(self.stored)}, {words[1]} {_text(self.expected)}"
        if _is_number(self.stored) and _is_number(self.expected):
            line += f" (difference {self.stored - self.expected:+.3g})"
        return line


def compare_tables(
    name: str, stored: pd.DataFrame, expected: pd.DataFrame, *, tolerance: float = 1e-9, unit: float = 1
) -> tuple[list[Finding], int]:
    """Values of *stored* that are not those of *expected*, and how many values were compared.

    Rows are matched by what names them: columns of words that are no outcomes, alpha, gamma and rho. Numbers below
    *unit* (100 for percent) may differ by *tolerance* times *unit*, others by *tolerance* times themselves.
    """
    stored, expected = _as_read(stored), _as_read(expected)
    shared = [column for column in stored if column in expected]
    keys = [c for c in shared if c not in _OUTCOMES and (c in _NAMING or not _numeric(stored[c], expected[c]))]
    findings = [
        Finding(name, "", column, *((THERE, MISSING) if column in stored else (MISSING, THERE)))
        for column in dict.fromkeys([*stored, *expected])
        if column not in shared
    ]
    rows, others = _by_label(stored, keys), _by_label(expected, keys)
    n_values = 0
    for label in dict.fromkeys([*rows, *others]):
        if label not in rows or label not in others:
            findings.append(Finding(name, label, "", *((THERE, MISSING) if label in rows else (MISSING, THERE))))
            continue
        for column in shared:
            if column in keys:
                continue
            value, other = rows[label][column], others[label][column]
            n_values += 1
            if not same_value(value, other, tolerance, unit):
                findings.append(Finding(name, label, column, value, other))
    return findings, n_values


def _as_read(table: pd.DataFrame) -> pd.DataFrame:
    """*table* as it comes back from a CSV file, so that computed and stored values are of one kind."""
    if not len(table.columns):
        return table
    return read_table(io.StringIO(table.to_csv(index=False)))


def _numeric(*columns: pd.Series) -> bool:
    return all(pd.api.types.is_numeric_dtype(column) and column.dtype != bool for column in columns)


def _by_label(table: pd.DataFrame, keys: Sequence[str]) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    counts: dict[str, int] = {}
    for record in table.to_dict("records"):
        parts = [
            f"{key} {record[key]:g}" if key in _NAMING else str(record[key]) for key in keys if pd.notna(record[key])
        ]
        label = ", ".join(parts)
        counts[label] = counts.get(label, 0) + 1
        if counts[label] > 1 or not label:
            label = f"{label} #{counts[label]}".strip()
        found[label] = record
    return found


def same_value(value: Any, other: Any, tolerance: float, unit: float = 1) -> bool:
    """Whether two values of tables are the same: missing both, equal, or within *tolerance* of themselves or *unit*."""
    if pd.isna(value) or pd.isna(other):
        return pd.isna(value) and pd.isna(other)
    if _is_number(value) and _is_number(other):
        return math.isclose(value, other, rel_tol=tolerance, abs_tol=tolerance * unit)
    return value == other


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float | np.number) and not isinstance(value, bool)


def _text(value: Any) -> str:
    if _is_number(value):
        return f"{value:.10g}"
    text = str(value).replace("\n", " ")
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 3]}..."
