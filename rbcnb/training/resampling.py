"""Who trains and who tests: the two protocols' splits, the ladder of imbalance, and re-sampling (section 4.2).

``paper`` splits cells at random, as published. ``honest`` deals whole groups (a smear and its identical twins) into
outer folds, each the test set once, and keeps one test set for the whole ladder. Every choice is a function of the
table and the seed.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from rbcnb.columns import DEV, FOLD, LABEL, SPLIT, TEST, class_names
from rbcnb.training.trial import ALL_CELLS, Trial


def training_rows(trial: Trial, cells: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """Row numbers of the cells that a trial trains on, before re-sampling, and of those it is scored on."""
    dev = (cells[SPLIT] == DEV).to_numpy()
    if trial.dev_counts != ALL_CELLS:
        kept = _draw_dev(trial, cells[dev].reset_index(drop=True))
        dev = np.isin(np.arange(len(cells)), np.flatnonzero(dev)[kept])
    if trial.fold is None:
        train, held_out = dev, (cells[SPLIT] == TEST).to_numpy()
    else:
        in_fold = (cells[FOLD] == trial.fold).to_numpy()
        train, held_out = dev & ~in_fold, dev & in_fold
    # A fit for good, on all cells there are, has no test.
    if not train.any() or (trial.fold is not None and not held_out.any()):
        raise ValueError(
            f"nothing to {'train on' if not train.any() else 'score'} in fold {trial.fold} of protocol "
            f"{trial.protocol}: the cells table needs splits from assign_splits with at least that many folds"
        )
    return np.flatnonzero(train), np.flatnonzero(held_out)


def _draw_dev(trial: Trial, dev: pd.DataFrame) -> np.ndarray:
    """Row numbers of the dev cells that a rung of the ladder keeps."""
    classes = class_names(dev[LABEL])
    counts, available = [int(n) for n in trial.dev_counts.split("/")], dev[LABEL].value_counts()
    if len(counts) != len(classes) or any(n > available[name] for name, n in zip(classes, counts, strict=True)):
        there = ", ".join(f"{available[name]} {name}" for name in classes)
        raise ValueError(f"dev_counts {trial.dev_counts} cannot be drawn from the dev cells, {there}")
    return draw_counts(dev, dict(zip(classes, counts, strict=True)), seed=trial.seed).index.to_numpy()


def draw_counts(cells: pd.DataFrame, counts: Mapping[str, int], *, seed: int) -> pd.DataFrame:
    """Keeps ``counts[class]`` randomly chosen cells of each class and drops the rest, in the table's own order.

    Draws are nested: the cells of a class are put in one random order per seed, and the first n are kept, so a smaller
    count keeps a subset of what a larger one keeps.

    Args:
        cells: one row per cell with ``label``.
        counts: class -> cells to keep; all are kept where a class has fewer, none of a class that is not named.
        seed: of the random order.

    Raises:
        ValueError: a cell has no label.
    """
    rng = np.random.default_rng(seed)
    order = pd.Series(rng.permutation(len(cells)), index=cells.index)
    rank = order.groupby(cells[LABEL]).rank(method="first").astype(int)
    return cells[rank <= cells[LABEL].map(counts).fillna(0)]


def undersample(labels: Sequence[str] | np.ndarray, *, seed: int) -> np.ndarray:
    """Row numbers after under-sampling: every class is cut at random to the size of the smallest (section 4.2).

    The paper speaks of one majority class; with its two minority classes (345 and 356 cells) both larger ones are cut.

    Args:
        labels: class of each cell [N], as names or numbers.
        seed: of the draw.

    Returns:
        int [K], ascending.
    """
    labels = np.asarray(labels)
    rng = np.random.default_rng(seed)
    names, counts = np.unique(labels, return_counts=True)
    kept = [rng.choice(np.flatnonzero(labels == name), counts.min(), replace=False) for name in names]
    return np.sort(np.concatenate(kept))


def oversample(labels: Sequence[str] | np.ndarray, *, seed: int) -> np.ndarray:
    """Row numbers of the *extra* cells of over-sampling: each class is filled to the size of the largest (section 4.2).

    Every cell of a class is repeated equally often, up to one, before any is repeated once more. The caller augments
    the extra copies (`rotate_flip`) and keeps the original cells as they are.

    Args:
        labels: class of each cell [N], as names or numbers.
        seed: of the draw.

    Returns:
        int [M], class after class; empty where all classes are of one size.
    """
    labels = np.asarray(labels)
    rng = np.random.default_rng(seed)
    names, counts = np.unique(labels, return_counts=True)
    extra = []
    for name, count in zip(names, counts, strict=True):
        whole, rest = divmod(int(counts.max() - count), int(count))
        rows = np.flatnonzero(labels == name)
        extra += [np.tile(rows, whole), rng.choice(rows, rest, replace=False)]
    return np.concatenate(extra).astype(int)
