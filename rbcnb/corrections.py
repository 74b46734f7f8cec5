"""Labels changed by a second look: the development cells of a study follow them, its test stays as it was.

Corrections are readings (`rbcnb.readings`), rows of a file that only grows; the labels of a run are never overwritten.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from rbcnb.columns import CELL, DEV, FOLD, LABEL, NO_FOLD, RADIUS, SMEAR, SPLIT, TEST, UNUSED, X, Y, class_names
from rbcnb.inference import Difference, paired_macro_f1
from rbcnb.readings import current_labels, load_readings
from rbcnb.relabel import SECOND
from rbcnb.store import predictions_by_method
from rbcnb.study import run_study
from rbcnb.trial import Trial, expand_grid

CORRECTIONS = (SMEAR, CELL, LABEL, SECOND)  # of the table of what was changed: cell, label before, label after


def load_corrections(path: str | Path) -> pd.DataFrame:
    """The labels that the readings at *path* agree on, as `correct_labels` takes them.

    Raises:
        FileNotFoundError: there is no such file: a wrong path must not pass for a look that changed nothing.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"{path}: no such file of readings; give the one that the second look was saved to")
    return current_labels(load_readings(path)).dropna(subset=LABEL)


def correct_labels(
    cells: pd.DataFrame, labels: pd.DataFrame, *, include_test: bool = False
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """*cells* with the labels of a second look on the development cells, and the table of what was changed.

    Args:
        cells: a split table: ``smear``, ``cell``, ``label``, ``split``, ``fold``; with ``x_px``, ``y_px`` and
            ``radius_px`` the place of each reading is checked.
        labels: as of `load_corrections`; cells that the study does not hold are ignored.
        include_test: change test labels too. Scores are then of another test than before, and no more independent of
            whatever chose the cells for the second look.

    Returns:
        The cells, in their order, and ``CORRECTIONS``. A cell that turned out to be of none of the study's classes is
        "unused" from here on and keeps its label.

    Raises:
        ValueError: a cell has two labels, or a reading was made at another place than its cell's.
    """
    if labels.duplicated([SMEAR, CELL]).any():
        raise ValueError("a cell has several labels; settle them first (rbcnb.readings.current_labels)")
    places = [name for name in (X, Y) if name in cells and name in labels]
    said = labels[[SMEAR, CELL, LABEL, *places]].rename(columns={LABEL: SECOND, X: "read_x", Y: "read_y"})
    both = cells.reset_index(drop=True).merge(said, on=[SMEAR, CELL], how="left")
    if len(places) == 2 and RADIUS in cells:
        far = np.hypot(both["read_x"] - both[X], both["read_y"] - both[Y]) > both[RADIUS]
        if far.any():
            first = both[far].iloc[0]
            raise ValueError(
                f"{first[SMEAR]}, cell {first[CELL]}: read at ({first['read_x']:.0f}, {first['read_y']:.0f}), lies at "
                f"({first[X]:.0f}, {first[Y]:.0f}); the readings are of cells found otherwise: give those of this run"
            )
    sides = [DEV, TEST] if include_test else [DEV]
    change = both[SECOND].notna() & (both[SECOND] != both[LABEL]) & both[SPLIT].isin(sides)
    known = both[SECOND].isin(class_names(cells[LABEL]))
    out = cells.copy()
    out[LABEL] = np.where(change & known, both[SECOND], both[LABEL])
    out[SPLIT] = np.where(change & ~known, UNUSED, both[SPLIT])
    out[FOLD] = np.where(change & ~known, NO_FOLD, both[FOLD])
    return out, both.loc[change, list(CORRECTIONS)].reset_index(drop=True)


def correction_effect(
    given: pd.DataFrame,
    corrected: pd.DataFrame,
    crops: np.ndarray,
    store: str | Path,
    *,
    trial: Trial,
    seeds: Sequence[int],
    jobs: int | None = None,
    seed: int = 0,
) -> Difference:
    """Macro F1 after correction minus before: the same setting on both, seed by seed, scored on the same test labels.

    Args:
        given, corrected: the study's cells before and after `correct_labels`, in the order of *crops*.
        crops: uint8 [N, S, S, 3].
        store: of the fits.
        trial: the setting; it is fitted to all development cells.
        seeds: of the fits.
        jobs: fits side by side.
        seed: of the interval's bootstrap.

    Raises:
        ValueError: the two tables do not share their test cells and test labels.
    """
    test = [
        table.loc[table[SPLIT] == TEST, [SMEAR, CELL, LABEL]].reset_index(drop=True) for table in (given, corrected)
    ]
    if not test[0].equals(test[1]):
        raise ValueError("test cells or labels differ before and after: macro F1 of two tests cannot be compared")
    trials = expand_grid(replace(trial, fold=None), seed=seeds)
    before, after = (
        next(iter(predictions_by_method(run_study(trials, cells, crops, store, jobs=jobs), store).values()))
        for cells in (given, corrected)
    )
    return paired_macro_f1(after, before, seed=seed)
