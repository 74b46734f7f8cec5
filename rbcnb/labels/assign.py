"""From truth to labels: which found cell is which labelled one, what that leaves out, and how well cells were found."""

import itertools
from collections.abc import Sequence

import numpy as np
import pandas as pd

from rbcnb.columns import CELL, GROUP, KIND, LABEL, RADIUS, SMEAR, X, Y, class_names
from rbcnb.labels.readings import SKIPPED
from rbcnb.segmentation.matching import detection_scores, match_cells

MATCH_RADII = 0.9  # a hit lies within this many radii; clicked centres are about a quarter of a radius off
LEAST_CELLS = 10  # of a class that is studied: folds of fewer say nothing
TWIN_DISTANCE_PX = 15.0  # two readers click within so many pixels on the same cell


def label_cells(cells: pd.DataFrame, truth: pd.DataFrame, *, match_radii: float = MATCH_RADII) -> pd.DataFrame:
    """Gives each found cell the label of the truth it matches, one to one within a smear, nearest pairs first.

    Args:
        cells: found cells, ``columns.FOUND``.
        truth: ``smear``, ``x_px``, ``y_px``, ``label``, ``group`` and optionally ``radius_px`` of the labelled cells.
        match_radii: largest distance of centres, in units of the smear's median radius of found cells.

    Returns:
        *cells* with ``label`` (missing where no truth is near) and ``group`` (of the smear).
    """
    truth = truth.reset_index(drop=True)
    groups = truth.drop_duplicates(SMEAR).set_index(SMEAR)[GROUP]
    labels = pd.Series(pd.NA, index=cells.index, dtype=object)
    cell, of = matched(cells, truth, match_radii=match_radii)
    labels.loc[cell] = truth.loc[of, LABEL].to_numpy()
    # A smear without truth has no twin that we know of: it is its own group.
    return cells.assign(**{LABEL: labels, GROUP: cells[SMEAR].map(groups).fillna(cells[SMEAR])})


def matched(
    cells: pd.DataFrame, truth: pd.DataFrame, *, match_radii: float = MATCH_RADII
) -> tuple[np.ndarray, np.ndarray]:
    """Which found cell is which labelled one, see `label_cells`: the index in *cells* and in *truth* of each pair.

    No name stands twice in the index of either.
    """
    pairs = [(cells.index[:0].to_numpy(), truth.index[:0].to_numpy())]
    truth_of = dict(iter(truth.groupby(SMEAR, sort=False)))
    for smear, found in cells.groupby(SMEAR, sort=False):
        if smear in truth_of:
            there = truth_of[smear]
            rows = match_cells(found, there, max_distance=match_radii * found[RADIUS].median())
            pairs.append((found.index[rows >= 0].to_numpy(), there.index[rows[rows >= 0]].to_numpy()))
    return tuple(np.concatenate(part) for part in zip(*pairs, strict=True))


def click_offsets(cells: pd.DataFrame, truth: pd.DataFrame, *, match_radii: float = MATCH_RADII) -> pd.DataFrame:
    """How far labels lie from the centre of the cell that they name: ``smear``, ``offset_px``, ``offset_radii``.

    Args:
        cells, truth, match_radii: as of `label_cells`; a radius is that of the found cell.
    """
    truth = truth.reset_index(drop=True)
    cell, of = matched(cells, truth, match_radii=match_radii)
    found, there = cells.loc[cell], truth.loc[of]
    offset = np.hypot(found[X].to_numpy() - there[X].to_numpy(), found[Y].to_numpy() - there[Y].to_numpy())
    columns = {SMEAR: found[SMEAR].to_numpy(), "offset_px": offset, "offset_radii": offset / found[RADIUS].to_numpy()}
    return pd.DataFrame(columns)


def corrected_labels(
    cells: pd.DataFrame, readings: pd.DataFrame, *, match_radii: float = MATCH_RADII
) -> tuple[pd.DataFrame, int]:
    """*cells* with the labels of readers in place of those that came with the smears.

    A cell that readers dispute, or are unsure of, loses its label: nobody can train on it. A skip changes nothing.
    A reading finds its cell by the circle it was given for, as in `label_cells`, since a finder that is run with other
    settings gives its cells other numbers; by the number where the reading has no circle.

    Args:
        cells: found cells with ``label``.
        readings: `rbcnb.labels.consensus`.
        match_radii: see `label_cells`.

    Returns:
        The cells, and how many of the readings have no cell here.
    """
    answers = readings[readings[KIND] != SKIPPED].reset_index(drop=True)
    cell, of = matched(cells, answers.dropna(subset=[X, Y]), match_radii=match_radii)
    row_of = pd.Series(of, index=cell)
    bare = answers[answers[[X, Y]].isna().any(axis=1)]
    numbers = pd.Series(cells.index, index=pd.MultiIndex.from_frame(cells[[SMEAR, CELL]]))
    by_number = numbers.reindex(pd.MultiIndex.from_frame(bare[[SMEAR, CELL]]))
    row_of = pd.concat([row_of, pd.Series(bare.index, index=by_number.to_numpy())[by_number.notna().to_numpy()]])
    labels = cells[LABEL].astype(object)
    labels.loc[row_of.index] = answers[LABEL].to_numpy()[row_of.to_numpy(int)]
    return cells.assign(**{LABEL: labels}), len(answers) - len(row_of)


def count_classes(cells: pd.DataFrame) -> pd.DataFrame:
    """Cells and share per class, in the order of `rbcnb.columns.class_names`.

    Args:
        cells: ``label``; a cell without one does not count.

    Returns:
        ``n_cells`` and ``share`` (of the labelled cells, 0 to 1); the index is the class.
    """
    counts = cells[LABEL].value_counts()
    names = list(class_names(cells[LABEL]))
    n_cells = counts.reindex(names).to_numpy(dtype=int)
    return pd.DataFrame({"n_cells": n_cells, "share": n_cells / np.sum(n_cells)}, index=pd.Index(names, name=LABEL))


def without_rare(cells: pd.DataFrame, *, least: int = LEAST_CELLS) -> tuple[pd.DataFrame, dict[str, int]]:
    """*cells* without those of classes that have fewer than *least*, and class -> number of these, too few to study.

    Args:
        cells: ``label``; a cell without one stays.
        least: cells of a class that is studied.
    """
    counts = cells[LABEL].value_counts()
    rare = counts[counts < least]
    return cells[~cells[LABEL].isin(rare.index)], rare.to_dict()


def labels_per_smear(cells: pd.DataFrame) -> pd.DataFrame:
    """Labelled cells of each class, a row per smear that has any: ``smear``, the classes, ``labelled`` (their sum).

    Args:
        cells: ``smear`` and ``label``; a cell without a label does not count.
    """
    named = cells.dropna(subset=[LABEL])
    counts = pd.crosstab(named[SMEAR], named[LABEL]).reindex(columns=list(class_names(named[LABEL])))
    return counts.assign(labelled=counts.sum(axis=1)).rename_axis(columns=None).reset_index()


def detection_table(
    cells: pd.DataFrame,
    truth: pd.DataFrame,
    smears: pd.DataFrame,
    *,
    exhaustive: bool,
    match_radii: float = MATCH_RADII,
) -> pd.DataFrame:
    """How well the cells of each smear were found, among those at least one diameter from the border.

    Args:
        cells, truth, smears: as from `rbcnb.segmentation.segment_smears`.
        exhaustive: every cell of the smears was labelled. Else precision and F1 are left empty: a found cell without a
            label may be a cell of another type, or one that nobody labelled.
        match_radii: see `label_cells`.

    Returns:
        One row per smear that has truth: ``smear`` and the scores of `rbcnb.segmentation.detection_scores`.
    """
    rows = []
    for smear in smears.itertuples():
        there, found = truth[truth[SMEAR] == smear.smear], cells[cells[SMEAR] == smear.smear]
        if there.empty or found.empty:
            continue
        radius = found[RADIUS].median()
        scores = detection_scores(
            found,
            there,
            max_distance=match_radii * radius,
            image_shape=(smear.height_px, smear.width_px),
            margin=2 * radius,
        )
        if not exhaustive:
            scores |= dict.fromkeys(("n_false", "precision", "f1_score"), np.nan)
        rows.append({SMEAR: smear.smear, **scores})
    scores = ("n_truth", "n_hits", "n_false", "precision", "recall", "f1_score")
    return pd.DataFrame(rows, columns=[SMEAR, *scores]).astype(dict.fromkeys(scores, float))


def twin_readings(truth: pd.DataFrame) -> pd.DataFrame:
    """Cells that were labelled twice, in identical images: one row per cell with its ``first`` and ``second`` label.

    Args:
        truth: labelled cells with ``smear`` and ``group``; smears of one group are the same image.
    """
    rows = []
    for group, readings in truth.groupby(GROUP, sort=False):
        pages = [page for _, page in readings.groupby(SMEAR, sort=True)]
        for first, second in itertools.combinations(pages, 2):
            partner = match_cells(first, second, max_distance=TWIN_DISTANCE_PX)
            rows += [
                {GROUP: group, "first": a, "second": b}
                for a, b in zip(first[LABEL][partner >= 0], second[LABEL].iloc[partner[partner >= 0]], strict=True)
            ]
    return pd.DataFrame(rows, columns=[GROUP, "first", "second"])


def imbalance_ratio(labels: Sequence[str] | pd.Series) -> float:
    """rho, Eq. (5): cells of the largest class over cells of the smallest."""
    counts = pd.Series(labels).value_counts()
    return float(counts.max() / counts.min())
