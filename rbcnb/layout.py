"""The layout of a logbook: its columns, what numbers its rows, and the error that all its files raise."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

WAIT_S = 10.0  # for another process to end its write of a few milliseconds


class LogbookError(ValueError):
    """A logbook cannot be read or written; the message names the file, the row and the mend."""


@dataclass(frozen=True)
class Layout:
    """The columns of a logbook: *count* numbers, from 1, the rows of the same *key*; the last column is the time."""

    columns: tuple[str, ...]
    key: tuple[str, ...]
    count: str

    def numbered(self, rows: Sequence[Sequence[str]], counts: Counter) -> list[list[str]]:
        """*rows* with their number filled in, by *counts* of the rows before, which go on counting."""
        place, key_places = self.columns.index(self.count), [self.columns.index(name) for name in self.key]
        out = []
        for row in rows:
            key = tuple(row[i] for i in key_places)
            counts[key] += 1
            out.append([*row[:place], str(counts[key]), *row[place + 1 :]])
        return out
