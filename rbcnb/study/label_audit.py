"""An audit of labels by networks, and what comes of it.

Networks say what cells are whose smears they have not seen: folds by smear, eight views of a cell, opinions averaged.
`rbcnb.labels.find_label_issues` lists the labels that these opinions make doubtful. After a second look
(`rbcnb.labels.relabel_queue`) the corrections are applied to development cells, and their effect is measured.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from rbcnb._utils.errors import MissingFileError
from rbcnb._utils.opencv import cv2
from rbcnb.columns import (
    CELL,
    DEV,
    FOLD,
    LABEL,
    NO_FOLD,
    PRED,
    SMEAR,
    SPLIT,
    TEST,
    UNUSED,
    class_names,
    classes_of_predictions,
    prob_columns,
)
from rbcnb.evaluation.inference import Difference, paired_macro_f1
from rbcnb.labels.assign import corrected_labels
from rbcnb.labels.consensus import current_labels
from rbcnb.labels.odd_crops import TURNS, turned
from rbcnb.labels.readings import load_readings
from rbcnb.labels.second_look import SECOND
from rbcnb.study.runner import run_study
from rbcnb.study.store import load_predictions, predictions_by_method
from rbcnb.training.splits import N_FOLDS, N_OUTER, assign_splits, outer_folds
from rbcnb.training.trial import Trial, expand_grid

AUDIT_SIZE_PX = 64


def audit_splits(
    cells: pd.DataFrame, *, seed: int, n_folds: int = N_FOLDS, n_outer: int = N_OUTER, include_test: bool = False
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The honest split of *cells*, and the same cells with the folds in which labels are audited.

    Args:
        cells: ``smear``, ``cell``, ``label``, ``group``.
        seed, n_outer: of the split, as of notebook 04: with others, labels of its test would be audited.
        n_folds: no smear is in two.
        include_test: audit test cells too. Then every cell is in a fold and, for the audit's own fits, in ``dev``.

    Returns:
        Two tables with ``split`` and ``fold``: who is tested on in the study, and what `rbcnb.study.run_study` is to
        fit for the audit. They are equal unless *include_test*.

    Raises:
        rbcnb.training.SplitError: too few smears, classes or cells.
    """
    split = assign_splits(cells, protocol="honest", seed=seed, n_folds=n_folds, n_outer=n_outer)
    if not include_test:
        return split, split
    return split, split.assign(**{SPLIT: DEV, FOLD: outer_folds(cells, n_outer=n_folds, seed=seed)})


def eight_views(cells: pd.DataFrame, crops: np.ndarray) -> tuple[pd.DataFrame, np.ndarray]:
    """Each development cell eight times, turned and mirrored: a cell has no up and down.

    Eight views to learn from where there are few cells, and eight opinions to average. Those of cell n are numbered 8 n
    to 8 n + 7; `out_of_fold` puts them together again.

    Args:
        cells: the second table of `audit_splits`.
        crops: uint8 [len(cells), S, S, 3]; brought down to ``AUDIT_SIZE_PX``, since eight of each fill the memory.

    Returns:
        Cells and crops for `rbcnb.study.run_study`; test cells are left out.
    """
    dev = (cells[SPLIT] == DEV).to_numpy()
    cells, crops = cells[dev], crops[dev]
    if crops.shape[1] > AUDIT_SIZE_PX:
        size = (AUDIT_SIZE_PX, AUDIT_SIZE_PX)
        crops = np.stack([cv2.resize(crop, size, interpolation=cv2.INTER_AREA) for crop in crops])
    views = [cells.assign(**{CELL: len(TURNS) * cells[CELL] + number}) for number in range(len(TURNS))]
    return pd.concat(views, ignore_index=True), np.concatenate([turned(crops, turn) for turn in TURNS])


def out_of_fold(results: pd.DataFrame, store: str | Path) -> pd.DataFrame:
    """Predictions for each cell by fits without its smear, averaged over views, seeds, architectures and methods.

    Args:
        results: rows of `rbcnb.study.run_study` on `eight_views`, the folds of one or more settings; none may
            lack a fold.
        store: where their predictions lie.

    Returns:
        A predictions table, one row per cell of the folds.

    Raises:
        ValueError: a fit is not of a fold, or diverged, or a setting lacks a fold.
    """
    if results["fold"].isna().any():
        raise ValueError("a fit without a fold has seen the cells that it is asked about; give fits of folds alone")
    if (lost := results["error"].astype(bool)).any():
        raise ValueError(f"{int(lost.sum())} fits diverged; audit with a lower learning rate")
    parts = {
        name: pd.concat([load_predictions(store, key) for key in rows["key"]])
        for name, rows in results.groupby(["architecture", "method", "seed"], sort=False)
    }
    views = average_predictions(list(parts.values()))
    turn = views[CELL] % len(TURNS)
    return average_predictions([view for _, view in views.assign(**{CELL: views[CELL] // len(TURNS)}).groupby(turn)])


def average_predictions(tables: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """The mean of the probabilities of predictions tables of the same cells; ``pred`` is the class it speaks for.

    Raises:
        ValueError: there is no table, one names a cell twice, or they do not hold the same cells.
    """
    if not tables:
        raise ValueError("there are no predictions to average")
    key, names = [SMEAR, CELL], prob_columns(classes_of_predictions(tables[0].columns))
    first = tables[0].sort_values(key, ignore_index=True)
    for table in tables:
        if table.duplicated(key).any():
            raise ValueError("a predictions table holds a cell twice: give the folds of one setting only once")
        if not table[key].sort_values(key, ignore_index=True).equals(first[key]):
            raise ValueError("the predictions tables do not hold the same cells; all settings need all folds")
    mean = np.mean([table.sort_values(key)[names].to_numpy() for table in tables], axis=0)
    classes = np.array(classes_of_predictions(names))
    return first.assign(**{PRED: classes[mean.argmax(axis=1)], **dict(zip(names, mean.T, strict=True))})


def load_corrections(path: str | Path) -> pd.DataFrame:
    """The corrections that follow from the readings at *path*, for `apply_corrections`.

    Args:
        path: table of readings (.csv) of the second look.

    Returns:
        One row per cell that was read, as of `rbcnb.labels.current_labels`.

    Raises:
        FileNotFoundError: there is no such file: a wrong path must not pass for a look that changed nothing.
        LogbookError: the file is no table of readings, or has a row that is no reading.
    """
    if not Path(path).is_file():
        raise MissingFileError(f"{path}: no such file of readings; give the one that the second look was saved to")
    return current_labels(load_readings(path))


def apply_corrections(cells: pd.DataFrame, readings: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """*cells* with the labels of a second look on the development cells, and the table of what was changed.

    Args:
        cells: a split table: ``smear``, ``cell``, ``x_px``, ``y_px``, ``radius_px``, ``label``, ``split``, ``fold``.
        readings: `rbcnb.labels.consensus`; how they find their cells, `rbcnb.labels.corrected_labels` says.

    Returns:
        The cells, in their order, and the cells whose label the reader does not confirm: ``smear``, ``cell``,
        ``label`` (before), ``second``. A development cell of which the reader could not tell what it
        is, or that is of none of the study's classes, is "unused" from here on and keeps its label.
    """
    second = corrected_labels(cells, readings)[0][LABEL].where(lambda labels: labels.notna(), None)
    change = (second != cells[LABEL]) & (cells[SPLIT] == DEV)
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
