"""Labels changed by a second look: the development cells of a study follow them, its test stays as it was.

Corrections are readings (`rbcnb.readings`), rows of a file that only grows; the labels of a run are never overwritten.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from rbcnb.columns import CELL, DEV, FOLD, LABEL, NO_FOLD, SMEAR, SPLIT, TEST, UNUSED, class_names
from rbcnb.current_labels import current_labels
from rbcnb.inference import Difference, paired_macro_f1
from rbcnb.labels import corrected_labels
from rbcnb.readings import load_readings
from rbcnb.relabel import SECOND
from rbcnb.store import predictions_by_method
from rbcnb.study import run_study
from rbcnb.trial import Trial, expand_grid


def load_corrections(path: str | Path) -> pd.DataFrame:
    """What the readings at *path* come to, as `apply_corrections` takes it.

    Raises:
        FileNotFoundError: there is no such file: a wrong path must not pass for a look that changed nothing.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"{path}: no such file of readings; give the one that the second look was saved to")
    return current_labels(load_readings(path))


def apply_corrections(
    cells: pd.DataFrame, readings: pd.DataFrame, *, include_test: bool = False
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """*cells* with the labels of a second look on the development cells, and the table of what was changed.

    Args:
        cells: a split table: ``smear``, ``cell``, ``x_px``, ``y_px``, ``radius_px``, ``label``, ``split``, ``fold``.
        readings: `rbcnb.current_labels`; how they find their cells, `rbcnb.labels.corrected_labels` says.
        include_test: change test labels too. Scores are then of another test than before, and no more independent of
            whatever chose the cells for the second look.

    Returns:
        The cells, in their order, and the cells whose label the reader does not confirm: ``smear``, ``cell``,
        ``label`` (before), ``second``. A development cell of which the reader could not tell what it
        is, or that is of none of the study's classes, is "unused" from here on and keeps its label.
    """
    second = corrected_labels(cells, readings)[0][LABEL].where(lambda labels: labels.notna(), None)
    change = (second != cells[LABEL]) & cells[SPLIT].isin([DEV, TEST] if include_test else [DEV])
    known = second.isin(class_names(cells[LABEL]))
    out, dropped = cells.copy(), change & ~known
    out.loc[change & known, LABEL] = second[change & known]
    out.loc[dropped, SPLIT], out.loc[dropped, FOLD] = UNUSED, NO_FOLD
    changes = cells.loc[change, [SMEAR, CELL, LABEL]].assign(**{SECOND: second[change]})
    return out, changes.reset_index(drop=True)


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
        given, corrected: the study's cells before and after `apply_corrections`, in the order of *crops*.
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
