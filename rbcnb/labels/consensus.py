"""The labels that stand: a view on readings, each reader's last word and what more than half of the readers say."""

import warnings
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pandas as pd

from rbcnb._utils.errors import SmearWarning
from rbcnb._utils.read_files import shown
from rbcnb._utils.spreadsheet import as_text
from rbcnb.columns import CELL, COMMENT, FOUND, KIND, LABEL, RADIUS, READER, SMEAR, TIME, UNSURE, X, Y
from rbcnb.labels.assign import matched
from rbcnb.labels.readings import NAMED, SKIPPED, STRUCK, UNDONE, ReadingError

DISPUTED = "disputed"  # of a current label: readers name classes, and no class has more than half of them
N_READERS, N_AGREE = "n_readers", "n_agree"


def standing_readings(readings: pd.DataFrame) -> pd.DataFrame:
    """What each reader says of each cell by now: one row per smear, cell and reader, the reading that stands.

    Undone readings do not stand. Of the standing ones the last goes before those earlier, and any before a skip.
    The rows are of *readings*, in its order.
    """
    key = [SMEAR, CELL, READER]
    if readings[KIND].eq(UNDONE).any():
        undone = readings[readings[KIND] == UNDONE].set_index(key).index.unique()
        touched = readings[readings.set_index(key).index.isin(undone)]
        gone = [row for _, rows in touched.groupby(key, sort=False) for row in _undone(rows.index, rows[KIND])]
        readings = readings.drop(index=gone)
    place = np.arange(len(readings))
    skips_first = np.lexsort((place, readings[KIND] != SKIPPED))
    stands = ~readings.iloc[skips_first].duplicated(key, keep="last").to_numpy()
    return readings.iloc[np.sort(skips_first[stands])]


def _undone(rows: Iterable, kinds: Iterable[str]) -> list:
    """The *rows* of one reader and cell that do not stand: the undos, and what each took back."""
    standing, gone = [], []
    for row, kind in zip(rows, kinds, strict=True):
        if kind != UNDONE:
            standing.append(row)
            continue
        gone.append(row)
        if standing:
            gone.append(standing.pop())
    return gone


def current_labels(readings: pd.DataFrame, *, reader: str | None = None) -> pd.DataFrame:
    """The labels that follow from *readings*: one row per cell that has a valid reading, in the order of the first one.

    With *reader*, that reader's last reading. Else the readers' last readings together: the class named by more than
    half of those who vote. To strike a cell is a vote, too; unsure readers do not vote. Only one more reader settles a
    tie.

    Args:
        readings: as of `rbcnb.labels.load_readings`.
        reader: whose labels; None for all readers'.

    Returns:
        ``columns.FOUND`` (the circle as last given), ``label`` (missing unless kind is ``label``), ``kind`` (``label``;
        ``strike``: no cell; ``disputed`` where nothing has the majority of votes; ``unsure`` where nobody votes and
        someone is unsure; ``skip``), ``n_readers`` (who vote), ``n_agree`` (who agree with the label, or the most named
        class), ``reader`` (all who said something), ``time`` (of the last word), ``comment`` (all, joined by "; ").
    """
    words = standing_readings(readings if reader is None else readings[readings[READER] == reader])
    if moved := moved_cells(readings):
        warnings.warn(
            f"{len(moved)} cells, such as {moved[0][1]} of {moved[0][0]}, were read at places over a radius apart: "
            "the finder numbered the cells again in between; begin a new table for its new cells",
            SmearWarning,
            stacklevel=2,
        )
    cell = [SMEAR, CELL]
    words = words.assign(_cell=words.groupby(cell, sort=False).ngroup())
    view = words.drop_duplicates("_cell").set_index("_cell")
    view[[X, Y, RADIUS, TIME]] = words.groupby("_cell")[[X, Y, RADIUS, TIME]].last()  # the last that is given
    several = words[words.duplicated("_cell", keep=False)].groupby("_cell")
    if len(several):
        view[READER] = several[READER].agg(", ".join).reindex(view.index).fillna(view[READER])
        comments = several[COMMENT].agg(lambda texts: as_text("; ".join(text for text in texts if text)))
        view[COMMENT] = comments.reindex(view.index).fillna(view[COMMENT])
    named = words[words[KIND].isin([NAMED, STRUCK])].fillna({LABEL: ""})  # no class, where the cell is struck
    votes = named.groupby(["_cell", LABEL]).size().rename(N_AGREE).reset_index()
    top = votes.sort_values(N_AGREE, ascending=False, kind="stable").drop_duplicates("_cell").set_index("_cell")
    view[N_AGREE] = top[N_AGREE].reindex(view.index, fill_value=0).astype(int)
    view[N_READERS] = np.bincount(named["_cell"], minlength=len(view)).astype(int)
    majority = 2 * view[N_AGREE] > view[N_READERS]
    unsure = np.bincount(words["_cell"], words[KIND] == UNSURE, minlength=len(view)) > 0
    view[LABEL] = top[LABEL].reindex(view.index).where(majority)
    struck = view[LABEL] == ""
    view[LABEL] = view[LABEL].mask(struck)
    kinds = {STRUCK: struck, NAMED: majority, DISPUTED: view[N_READERS] > 0, UNSURE: unsure}
    view[KIND] = np.select(list(kinds.values()), list(kinds), SKIPPED)
    columns = [*FOUND, LABEL, KIND, N_READERS, N_AGREE, READER, TIME, COMMENT]
    return view[columns].reset_index(drop=True)


def moved_cells(readings: pd.DataFrame, cells: pd.DataFrame | None = None) -> list[tuple[str, int]]:
    """Names (smear, cell) that do not mean one cell: their places, where given, lie more than a radius apart.

    This happens where smears were segmented again, with other settings, between two readings.

    Args:
        readings: as of `rbcnb.labels.load_readings`.
        cells: found cells whose circles count as well, to see whether *readings* are of them. The number of one that a
            reader added means another cell, too, where one was found at its place.
    """
    places, twice = readings[list(FOUND)], []
    if cells is not None:
        named = pd.MultiIndex.from_frame(cells[[SMEAR, CELL]]).isin(pd.MultiIndex.from_frame(places[[SMEAR, CELL]]))
        places = pd.concat([places, cells.loc[named, list(FOUND)]])
        added = added_cells(readings, cells)
        again = matched(cells, added, match_radii=0.5)[1]  # nearer than a reader can add a cell to a found one
        twice = list(added.loc[again, [SMEAR, CELL]].itertuples(index=False, name=None))
    circles = places.dropna(subset=[X, Y]).groupby([SMEAR, CELL], sort=False)
    reach = circles[[X, Y]].max() - circles[[X, Y]].min()
    return reach.index[np.hypot(reach[X], reach[Y]) > circles[RADIUS].max()].tolist() + twice


def require_same_cells(readings: pd.DataFrame, cells: pd.DataFrame, folder: str | Path) -> None:
    """Raises ReadingError where *readings* of *folder*, of `rbcnb segment`, name other cells than its *cells*."""
    if moved := moved_cells(readings, cells):
        smear, cell = moved[0]
        raise ReadingError(
            f"{folder}: its cells were found again since they were read, so that the numbers of {len(moved)}, such as "
            f"{cell} of {shown(smear)}, mean other cells now; run rbcnb segment over its images again, which takes the "
            "readings to the cells at their places"
        )


def added_cells(readings: pd.DataFrame, cells: pd.DataFrame) -> pd.DataFrame:
    """The cells that readers added to those that were found: ``columns.FOUND``, in the order of their readings.

    They are numbered after the last found cell of their smear, and have a place. A cell of which no reading stands any
    more was taken back.

    Args:
        readings: as of `rbcnb.labels.load_readings`.
        cells: the found cells, ``smear`` and ``cell``.
    """
    last = cells.groupby(SMEAR)[CELL].max()
    words = standing_readings(readings[readings[CELL] > readings[SMEAR].map(last).astype(float)])
    placed = words.dropna(subset=[X, Y, RADIUS])
    return placed[list(FOUND)].drop_duplicates([SMEAR, CELL]).reset_index(drop=True)
