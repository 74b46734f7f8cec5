"""A reader's way through a queue of cells: what comes next, what was read, what undo takes back.

A `ReadingSession` is made by `resume` from the readings on disk, and changed by its own methods alone. So a page that
is loaded again, or a kernel that was restarted, stands where the last reading left it. Cells are named by their row in
the table of cells. Nothing here draws, reads or writes, and a reading costs the same however many cells there are and
have been read.
"""

from bisect import bisect_left, insort
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import NamedTuple

import numpy as np
import pandas as pd

from rbcnb.columns import BORDER, CELL, KIND, LABEL, PROB, READER, SESSION, SMEAR, TIME
from rbcnb.labels.consensus import standing_readings
from rbcnb.labels.readings import NAMED, SKIPPED, UNDONE

ALL, UNLABELLED, UNCERTAIN, DISAGREEMENT, FLAGGED = "all", "unlabelled", "uncertain", "disagreement", "flagged"
FIRST_LOOKS = (ALL, UNLABELLED)  # any reading of the reader counts; in other queues, only those made in that queue


class StandingReading(NamedTuple):
    """One standing reading of a cell."""

    kind: str
    label: str
    session: str

    @property
    def word(self) -> str:
        """The class that it names, or its kind."""
        return self.label if self.kind == NAMED else self.kind


class ReadingSession:
    """One reader before one queue; the queue does not depend on what the reader says, so that n of N is what it seems.

    Args:
        queue: rows of the table of cells, in the order in which they are to be read.
        session: written with each reading.
        second_look: only readings of this session count.
        standing: row -> its standing readings, the latest last.
        acts: rows read at one time in this session, the latest last.
    """

    def __init__(
        self,
        queue: Sequence[int],
        session: str,
        *,
        second_look: bool = False,
        standing: Mapping[int, Iterable[StandingReading]] | None = None,
        acts: Iterable[Sequence[int]] = (),
    ) -> None:
        self.queue, self.session = [int(row) for row in queue], session
        self.acts = [tuple(rows) for rows in acts]
        self._second_look = second_look
        self._standing = {row: list(words) for row, words in (standing or {}).items() if words}
        self._place = {row: place for place, row in enumerate(self.queue)}
        self._unread = list(range(len(self.queue)))  # places, in order
        self._skipped: dict[int, None] = {}  # rows, in the order in which they were skipped
        self._words: dict[int, str] = {}  # row of the queue -> its word, as far as this queue counts it
        self._counts: Counter[str] = Counter()
        for row in self._standing:
            self._count(row, listed=False)
        self._unread = [place for place, row in enumerate(self.queue) if row not in self._words]
        last = next((self._place[rows[0]] for rows in reversed(self.acts) if self._moves(rows)), -1)
        self._cursor = last + 1  # place from which on the next unread cell is sought
        self._first: int | None = None  # a row to be shown before all others: the one just undone

    def standing(self, row: int) -> tuple[StandingReading, ...]:
        """What the reader has said of the cell and not taken back, the latest last."""
        return tuple(self._standing.get(row, ()))

    def label(self, row: int) -> str | None:
        """The reader's class for the cell, ``unsure``, ``strike``; None where unread or skipped."""
        words = [reading.word for reading in self._standing.get(row, ()) if reading.kind != SKIPPED]
        return words[-1] if words else None

    def upcoming(self) -> Iterator[int]:
        """Rows to be read, the next one first; those skipped come last, in the order in which they were skipped."""
        if self._first is not None:
            yield self._first
        at = bisect_left(self._unread, self._cursor)
        for part in (islice(self._unread, at, None), islice(self._unread, at)):
            yield from (row for row in (self.queue[place] for place in part) if row != self._first)
        yield from (row for row in self._skipped if row != self._first)

    def counts(self) -> Counter[str]:
        """How many cells of the queue have which word: a class, ``unsure``, ``strike`` or ``skip``."""
        return +self._counts

    @property
    def n_read(self) -> int:
        """How many cells of the queue are read; a skipped one is not."""
        return len(self._words) - len(self._skipped)

    def neighbours(self, row: int) -> tuple[int | None, int | None]:
        """The rows before and after *row* in the queue; of a row that is not in it, the next one to read."""
        if (place := self._place.get(row)) is None:
            return None, next(self.upcoming(), None)
        before = self.queue[place - 1] if place else None
        return before, self.queue[place + 1] if place + 1 < len(self.queue) else None

    def record(self, rows: Sequence[int], kind: str, label: str = "") -> None:
        """Takes in one reading of each of *rows*, made in one act."""
        reading = StandingReading(kind, label, self.session)
        for row in rows:
            self._standing.setdefault(row, []).append(reading)
            self._count(row)
        self.acts.append(tuple(rows))
        if self._moves(rows):
            self._cursor = self._place[rows[0]] + 1
        self._first = None

    def undo(self) -> tuple[int, ...]:
        """Takes back the last act and returns its rows; a single cell that is thereby unread comes next."""
        if not self.acts:
            return ()
        rows = self.acts.pop()
        for row in rows:
            self._standing[row].pop()
            self._count(row)
        self._first = None
        if self._moves(rows) and self._words.get(rows[0], SKIPPED) == SKIPPED:
            self._first, self._cursor = rows[0], self._place[rows[0]]
        return rows

    def add(self, row: int) -> None:
        """Puts a new *row*, of which nothing stands, at the end of the queue."""
        self._place[row] = len(self.queue)
        self._unread.append(len(self.queue))
        self.queue.append(row)

    def _moves(self, rows: Sequence[int]) -> bool:
        """Whether an act on *rows* moves the place in the queue: a sheet's rows come from anywhere and move nothing."""
        return len(rows) == 1 and rows[0] in self._place

    def _count(self, row: int, *, listed: bool = True) -> None:
        """Counts the cell again after its readings changed; *listed*: whether it is in the list of unread cells."""
        if row not in self._place:
            return
        before = self._words.pop(row, None)
        stack = self._standing.get(row, ())
        counted = [reading for reading in stack if not self._second_look or reading.session == self.session]
        words = [r.word for r in counted if r.kind != SKIPPED] or [r.word for r in counted]
        self._skipped.pop(row, None)
        if before:
            self._counts[before] -= 1
        if words:
            self._words[row] = words[-1]
            self._counts[words[-1]] += 1
            if words[-1] == SKIPPED:
                self._skipped[row] = None
        if listed and bool(before) != bool(words):
            place = self._place[row]
            if words:
                del self._unread[bisect_left(self._unread, place)]
            else:
                insort(self._unread, place)


def resume(
    queue: Sequence[int], cells: pd.DataFrame, readings: pd.DataFrame, *, reader: str, session: str, second_look: bool
) -> ReadingSession:
    """The session as *readings* left it: after the queue's cell read last, with the acts of this session to undo.

    Args:
        queue: rows of *cells*.
        cells: ``smear`` and ``cell``, as of `rows_by_name`.
        readings: as of `rbcnb.labels.load_readings`, in the order of writing; other readers' are passed over.
    """
    rows = rows_by_name(cells)
    theirs = readings[readings[READER] == reader]
    standing: dict[int, list[StandingReading]] = {}
    acts: list[list[int]] = []
    when = None
    names = zip(theirs[SMEAR], theirs[CELL], strict=True)
    words = map(StandingReading, theirs[KIND], theirs[LABEL].fillna(""), theirs[SESSION])
    for name, time, word in zip(names, theirs[TIME], words, strict=True):
        if (row := rows.get(name)) is None:
            continue  # of a smear that is not here, or was segmented again
        stack = standing.setdefault(row, [])
        if word.kind == UNDONE:
            gone, when = stack.pop() if stack else None, None
            if gone and gone.session == session:
                next(act for act in reversed(acts) if row in act).remove(row)
                while acts and not acts[-1]:
                    acts.pop()
            continue
        stack.append(word)
        if word.session == session:
            if time != when:
                acts.append([])
            acts[-1].append(row)
            when = time
    return ReadingSession(queue, session, second_look=second_look, standing=standing, acts=filter(None, acts))


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
        kind: ``all``; ``unlabelled``, cells with no ``label`` (whoever else has read: a second reader reads as many as
            the first), both as of `reading_order`; ``uncertain``, those of *probs*, the two likeliest classes closest
            together first; ``disagreement``, cells for which the standing readings name more than one class, the most
            evenly divided first; ``flagged``, as *flagged* lists them; or a table with ``smear`` and ``cell``: any
            cells in any order.
        readings: of all readers.
        session: the reader's own readings of it are not looked at.
        probs: ``smear``, ``cell`` and ``prob_<class>``: what a model that did not train on the cells says of them.
        flagged: ``smear`` and ``cell``, most suspicious first.

    Raises:
        ValueError: no such queue, or the table that it is made from was not given.
    """
    if isinstance(kind, pd.DataFrame):
        return _listed(kind, cells)
    if kind in FIRST_LOOKS:
        order = reading_order(cells, readings, reader)
        return order if kind == ALL or LABEL not in cells else order[cells[LABEL].isna().to_numpy()[order]]
    if kind == DISAGREEMENT:
        others = readings[(readings[READER] != reader) | (readings[SESSION] != session)]
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


def reading_order(cells: pd.DataFrame, readings: pd.DataFrame, reader: str) -> np.ndarray:
    """Rows of *cells* in the order in which *reader* reads them; cells cut by the border (``border``) come last.

    The reader whose reading is the first in *readings* goes by the table. Each other reader goes from smear to smear,
    and from cell to cell within one, in an order drawn by the reader's name: so fatigue falls on other cells.
    """
    order = np.arange(len(cells))
    if len(readings) and readings[READER].iloc[0] != reader:
        rng = np.random.default_rng(list(reader.encode()))
        smears, names = pd.factorize(cells[SMEAR])
        # Numbers drawn one by one, so that a cell that is added at the end moves no other.
        of_smears, of_cells = rng.random(len(names)), rng.random(len(cells))
        order = np.lexsort((of_cells, of_smears[smears]))
    border = cells[BORDER].eq(True).to_numpy() if BORDER in cells else np.zeros(len(cells), bool)
    return order[np.argsort(border[order], kind="stable")]


def _listed(table: pd.DataFrame, cells: pd.DataFrame) -> np.ndarray:
    """Rows of *cells* that *table* names, each once, in the table's order; cells that are not here are left out."""
    rows = rows_by_name(cells)
    names = zip(table[SMEAR].astype(str), table[CELL].astype(int), strict=True)
    return np.array([row for name in dict.fromkeys(names) if (row := rows.get(name)) is not None], dtype=int)
