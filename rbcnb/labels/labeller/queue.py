"""A reader's way through a queue of cells, as values: what comes next, what was said, what undo takes back.

A `Sitting` is a value made by `resume` from the readings on disk, and changed only by `say` and `undo`, which return
the next one. So a page that is loaded anew, or a kernel that was restarted, stands where the last reading left it.
Cells are named by their row in the table of cells. Nothing here draws, reads or writes.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import NamedTuple

import numpy as np
import pandas as pd

from rbcnb.columns import CELL, KIND, LABEL, PROB, READER, SESSION, SMEAR, TIME, UNSURE
from rbcnb.labels.consensus import standing_readings
from rbcnb.labels.readings import NAMED, SKIPPED, UNDONE

ALL, UNLABELLED, UNCERTAIN, DISAGREEMENT, FLAGGED = "all", "unlabelled", "uncertain", "disagreement", "flagged"
FIRST_LOOKS = (ALL, UNLABELLED)  # any reading of one's own counts; in other queues, only those made in that queue


class StandingReading(NamedTuple):
    """One standing reading of a cell."""

    kind: str
    label: str
    session: str


@dataclass(frozen=True)
class ReadingSession:
    """One reader before one queue; *queue* does not depend on what the reader says, so that n of N is what it seems."""

    queue: tuple[int, ...]  # rows of the table of cells, in the order in which they are to be read
    session: str  # written with each reading
    second_look: bool = False  # only readings of this session count
    said: Mapping[int, tuple[StandingReading, ...]] | None = None  # row -> what stands of it, the latest last
    acts: tuple[tuple[int, ...], ...] = ()  # rows read at one time in this session, the latest last
    cursor: int = 0  # place in the queue from which on the next unread cell is sought
    first: int | None = None  # a row to be shown before all others: the one just undone

    def standing(self, row: int) -> tuple[StandingReading, ...]:
        """What the reader has said of the cell and not taken back, the latest last."""
        return (self.said or {}).get(row, ())

    def is_read(self, row: int) -> bool:
        """Whether the cell has been named, or found unsure, as far as this queue counts it."""
        return any(one.kind != SKIPPED for one in self._counted(row))

    def is_skipped(self, row: int) -> bool:
        """Whether the cell was passed over and not read since; it comes again when all others are read."""
        return bool(self._counted(row)) and not self.is_read(row)

    def label(self, row: int) -> str | None:
        """The reader's class for the cell, ``unsure``, or None where nothing was said; a skip says nothing."""
        words = [one for one in self.standing(row) if one.kind != SKIPPED]
        return None if not words else words[-1].label if words[-1].kind == NAMED else UNSURE

    def upcoming(self) -> Iterator[int]:
        """Rows to be read, the next one first; those skipped come last, in the order in which they were skipped."""
        first = () if self.first is None else (self.first,)
        onward = chain(self.queue[self.cursor :], self.queue[: self.cursor])
        yield from first
        yield from (row for row in onward if row != self.first and not self._counted(row))
        latest = dict.fromkeys(row for act in reversed(self.acts) for row in act)  # each row where it was last
        again = [row for row in latest if self.is_skipped(row)]
        known, queued = set(again), set(self.queue)
        again += [row for row in reversed(self.queue) if row not in known and self.is_skipped(row)]  # in other sessions
        yield from (row for row in reversed(again) if row != self.first and row in queued)

    def counts(self) -> Counter:
        """How many cells of the queue are ``read`` and ``skipped``."""
        queued, counts = set(self.queue), Counter()
        for row in self.said or ():  # after every key, so over what was said alone: it is less than the queue
            if row in queued and (words := self._counted(row)):
                counts["skipped" if all(one.kind == SKIPPED for one in words) else "read"] += 1
        return counts

    def _counted(self, row: int) -> tuple[StandingReading, ...]:
        stack = self.standing(row)
        return tuple(one for one in stack if one.session == self.session) if self.second_look else stack


def record(sitting: ReadingSession, rows: Sequence[int], kind: str, label: str = "") -> ReadingSession:
    """The sitting after one reading of each of *rows*, made in one act."""
    said, word = dict(sitting.said or {}), StandingReading(kind, label, sitting.session)
    for row in rows:
        said[row] = (*said.get(row, ()), word)
    acts = (*sitting.acts, tuple(rows))
    # A sheet's rows come from anywhere and move nothing.
    cursor = _after(sitting.queue, rows[0], sitting.cursor) if len(rows) == 1 else sitting.cursor
    return replace(sitting, said=said, acts=acts, cursor=cursor, first=None)


def undo(sitting: ReadingSession) -> tuple[ReadingSession, tuple[int, ...]]:
    """The sitting without its last act, and the rows of that act; a single cell that is thereby unread comes next."""
    if not sitting.acts:
        return sitting, ()
    *acts, rows = sitting.acts
    said = dict(sitting.said or {})
    for row in rows:
        said[row] = said[row][:-1]
    before = replace(sitting, said=said, acts=tuple(acts), first=None)
    if len(rows) == 1 and not before.is_read(rows[0]) and rows[0] in before.queue:
        before = replace(before, first=rows[0], cursor=before.queue.index(rows[0]))
    return before, rows


def resume(
    queue: Sequence[int], cells: pd.DataFrame, readings: pd.DataFrame, *, reader: str, session: str, second_look: bool
) -> ReadingSession:
    """The sitting as *readings* left it: after the queue's cell read last, with the acts of this session to undo.

    Args:
        queue: rows of *cells*.
        cells: ``smear`` and ``cell``, as of `rows_by_name`.
        readings: as of `rbcnb.labels.load_readings`, in the order of writing; other readers' are passed over.
    """
    rows = rows_by_name(cells)
    own = readings[readings[READER] == reader]
    said: dict[int, tuple[StandingReading, ...]] = {}
    acts: list[list[int]] = []
    when = None
    names = zip(own[SMEAR], own[CELL], strict=True)
    words = map(StandingReading, own[KIND], own[LABEL].fillna(""), own[SESSION])
    for name, time, word in zip(names, own[TIME], words, strict=True):
        if (row := rows.get(name)) is None:
            continue  # of a smear that is not here, or was segmented anew
        if word.kind == UNDONE:
            *before, gone = said.get(row) or (None,)
            said[row], when = tuple(before), None
            if gone and gone.session == session:
                next(act for act in reversed(acts) if row in act).remove(row)
                acts = [act for act in acts if act]
            continue
        said[row] = (*said.get(row, ()), word)
        if word.session == session:
            if time != when:
                acts.append([])
            acts[-1].append(row)
            when = time
    sitting = ReadingSession(tuple(map(int, queue)), session, second_look, said, tuple(map(tuple, acts)))
    place = {row: i for i, row in enumerate(sitting.queue)}
    last = next((place[act[0]] for act in reversed(acts) if len(act) == 1 and act[0] in place), -1)
    return replace(sitting, cursor=last + 1)


def rows_by_name(cells: pd.DataFrame) -> dict[tuple[str, int], int]:
    """(smear, cell) -> row of *cells*, from 0; raises ValueError where two rows name one cell."""
    names = list(zip(cells[SMEAR].astype(str), cells[CELL].astype(int), strict=True))
    rows = {name: row for row, name in enumerate(names)}
    if len(rows) < len(names):
        smear, cell = Counter(names).most_common(1)[0][0]
        raise ValueError(f"cell {cell} of {smear} stands in the table twice; keep one row of it")
    return rows


def queue_rows(
    kind: str | pd.DataFrame,
    cells: pd.DataFrame,
    readings: pd.DataFrame,
    *,
    reader: str,
    session: str,
    probs: pd.DataFrame | None = None,
    flagged: pd.DataFrame | None = None,
) -> np.ndarray:
    """Rows of *cells* in the order in which they are to be read; see the module for what that order never depends on.

    Args:
        kind: ``all``; ``unlabelled``, cells with no ``label`` and no reading of another reader; ``uncertain``, those of
            *probs*, the two likeliest classes closest together first; ``disagreement``, cells for which the standing
            readings name more than one class, the most evenly divided first; ``flagged``, as *flagged* lists them; or a
            table with ``smear`` and ``cell``: any cells in any order.
        readings: of all readers.
        session: the reader's own readings of it are not looked at.
        probs: ``smear``, ``cell`` and ``prob_<class>``: what a model that did not train on the cells says of them.
        flagged: ``smear`` and ``cell``, most suspicious first.

    Raises:
        ValueError: no such queue, or the table that it is made from was not given.
    """
    if isinstance(kind, pd.DataFrame):
        return _listed(kind, cells)
    if kind == ALL:
        return np.arange(len(cells))
    others = readings[(readings[READER] != reader) | (readings[SESSION] != session)]
    if kind == UNLABELLED:
        words = standing_readings(readings[readings[READER] != reader])
        rows = _listed(words[words[KIND] == NAMED], cells)
        unlabelled = cells[LABEL].isna().to_numpy(copy=True) if LABEL in cells else np.ones(len(cells), bool)
        unlabelled[rows] = False
        return np.flatnonzero(unlabelled)
    if kind == DISAGREEMENT:
        words = standing_readings(others)
        votes = words[words[KIND] == NAMED].groupby([SMEAR, CELL], sort=False)[LABEL]
        shares = votes.agg(lambda labels: labels.value_counts(normalize=True).max())
        return _listed(shares[shares < 1].sort_values(kind="stable").reset_index(), cells)
    table = {UNCERTAIN: probs, FLAGGED: flagged}.get(kind)
    if table is None:
        wanted = {UNCERTAIN: "probs=, a table of probabilities", FLAGGED: "flagged=, a table of label issues"}
        raise ValueError(
            f"queue {kind!r}: " + (f"needs {wanted[kind]}" if kind in wanted else "there is no such queue")
        )
    if kind == UNCERTAIN:
        two = np.sort(probs.filter(regex=f"^{PROB}").to_numpy(float), axis=1)[:, -2:]
        table = probs.assign(_gap=two[:, 1] - two[:, 0]).sort_values("_gap", kind="stable").dropna(subset="_gap")
    return _listed(table, cells)


def _listed(table: pd.DataFrame, cells: pd.DataFrame) -> np.ndarray:
    """Rows of *cells* that *table* names, each once, in the table's order; cells that are not here are left out."""
    rows = rows_by_name(cells)
    names = zip(table[SMEAR].astype(str), table[CELL].astype(int), strict=True)
    return np.array([row for name in dict.fromkeys(names) if (row := rows.get(name)) is not None], dtype=int)


def _after(queue: Sequence[int], row: int, cursor: int) -> int:
    """The place after *row* in the queue, where it most often is next; *cursor* where the queue has no such row."""
    if cursor < len(queue) and queue[cursor] == row:
        return cursor + 1
    return queue.index(row) + 1 if row in queue else cursor
