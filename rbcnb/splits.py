"""Who trains and who tests: the two protocols' splits, the ladder of imbalance, and re-sampling (section 4.2).

``paper`` splits cells at random, as published. ``honest`` keeps the cells of one group (a smear and its identical
twins) on one side, and keeps one test set for the whole ladder. Every choice is a function of the table and the seed.
"""

import math
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from sklearn.model_selection import GroupShuffleSplit, KFold, StratifiedGroupKFold, train_test_split

from rbcnb.columns import CELL, CROP, DEV, FOLD, GROUP, LABEL, NO_FOLD, SMEAR, SPLIT, TEST, UNUSED
from rbcnb.published import SETTINGS

PROTOCOLS = ("paper", "honest")
TEST_FRACTION = SETTINGS["test_fraction"]
N_FOLDS = SETTINGS["n_folds"]
MIN_GROUPS = 4  # of an honest split: two on either side
_CANDIDATES = 200  # grouped splits drawn, of which the one nearest to 30 % of every class is kept


class SplitError(ValueError):
    """The cells cannot be split as asked; the message says why and what would mend it."""


def _check(cells: pd.DataFrame, protocol: str) -> None:
    if protocol not in PROTOCOLS:
        raise SplitError(f"unknown protocol {protocol!r}; known: {', '.join(PROTOCOLS)}")
    missing = [name for name in (SMEAR, CELL, LABEL, GROUP) if name not in cells]
    if missing:
        raise SplitError(f"the cells table lacks the columns {missing}; label the cells first (notebook 02)")
    if cells[LABEL].isna().any():
        raise SplitError(f"{int(cells[LABEL].isna().sum())} cells have no label; drop or label them before splitting")
    counts = cells[LABEL].value_counts()
    if len(counts) < 2 or counts.min() < 2:
        raise SplitError(f"need two classes of at least two cells, have {counts.to_dict()}; add smears")


def assign_splits(cells: pd.DataFrame, *, protocol: str, seed: int, n_folds: int | None = N_FOLDS) -> pd.DataFrame:
    """Adds ``split`` (dev or test, 70/30) and ``fold`` (0..n_folds-1 within dev, -1 in test) to the cells.

    ``paper``: both at random over cells, not stratified (section 4.2; Fig. 11's test set has
    121 codocytes where a stratified one has 104). ``honest``: both by group, classes spread as evenly as the groups
    allow.

    Args:
        cells: one row per cell with ``smear``, ``cell``, ``label`` and ``group``.
        protocol: "paper" or "honest".
        seed: of the random draws; the same table and seed give the same split.
        n_folds: number of folds on the dev cells; None makes none, and every ``fold`` is -1.

    Returns:
        A copy of *cells* with the two columns.

    Raises:
        SplitError: too few cells, classes or groups, with the mend.
    """
    _check(cells, protocol)
    out = cells.copy()
    if protocol == "paper":
        dev, test = train_test_split(np.arange(len(out)), test_size=TEST_FRACTION, random_state=seed, shuffle=True)
    else:
        dev, test = _grouped_split(out, seed)
    dev = np.sort(dev)
    out[SPLIT] = DEV
    out[FOLD] = NO_FOLD
    split_at, fold_at = out.columns.get_loc(SPLIT), out.columns.get_loc(FOLD)
    out.iloc[test, split_at] = TEST
    if n_folds is not None:
        for fold, held_out in enumerate(_folds(out.iloc[dev], protocol, seed, n_folds)):
            out.iloc[dev[held_out], fold_at] = fold
    return out


def _folds(dev: pd.DataFrame, protocol: str, seed: int, n_folds: int) -> list[np.ndarray]:
    """The row numbers within *dev* that each fold holds out."""
    units, what = (len(dev), "cells") if protocol == "paper" else (dev[GROUP].nunique(), "smears (groups)")
    if units < n_folds:
        raise SplitError(f"{units} {what} are left to make {n_folds} folds of; add smears or ask for fewer folds")
    if protocol == "paper":
        folds = KFold(n_folds, shuffle=True, random_state=seed).split(dev)
    else:
        folds = StratifiedGroupKFold(n_folds, shuffle=True, random_state=seed).split(dev, dev[LABEL], dev[GROUP])
    return [held_out for _, held_out in folds]


def _grouped_split(cells: pd.DataFrame, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Of many random grouped 70/30 splits, the one whose test set holds most nearly 30 % of each class."""
    n_groups = cells[GROUP].nunique()
    if n_groups < MIN_GROUPS:
        raise SplitError(f"only {n_groups} smears (groups): an honest split needs at least {MIN_GROUPS}; add smears")
    classes = pd.get_dummies(cells[LABEL]).to_numpy(dtype=float)
    draws = GroupShuffleSplit(_CANDIDATES, test_size=TEST_FRACTION, random_state=seed)
    best, best_miss = None, math.inf
    for dev, test in draws.split(cells, groups=cells[GROUP]):
        share = classes[test].sum(axis=0) / classes.sum(axis=0)
        if share.min() == 0 or share.max() == 1:
            continue  # a class would be missing on one side
        miss = np.abs(share - TEST_FRACTION).max()
        if miss < best_miss:
            best, best_miss = (dev, test), miss
    if best is None:
        raise SplitError("no split by smear leaves every class on both sides; add smears that hold the rare classes")
    return best


def draw_counts(cells: pd.DataFrame, counts: Mapping[str, int], *, seed: int) -> pd.DataFrame:
    """Keeps ``counts[class]`` randomly chosen cells of each class and drops the rest, in the table's own order.

    Draws are nested: the cells of a class are put in one random order per seed, and the first n are kept, so a smaller
    count keeps a subset of what a larger one keeps.
    """
    rng = np.random.default_rng(seed)
    order = pd.Series(rng.permutation(len(cells)), index=cells.index)
    rank = order.groupby(cells[LABEL]).rank(method="first").astype(int)
    return cells[rank <= cells[LABEL].map(counts).fillna(0)]


def ladder_rung(
    cells: pd.DataFrame, counts: Mapping[str, int], base: Mapping[str, int], *, protocol: str, seed: int
) -> pd.DataFrame:
    """The cells of one rung of Table 2, split.

    ``paper``: cells are removed from the whole data set and what is left is split anew at random (section 5), so every
    rung has another test set; it has no folds, as nothing is tuned there. ``honest``: *cells* are split already; the
    test set stays as it is, and only dev cells are removed (``split`` becomes "unused"), each rung keeping the same
    share of a class as its counts keep of *base*.

    Args:
        cells: for ``paper`` the labelled cells; for ``honest`` the output of `assign_splits`.
        counts: class -> cells of this rung, out of the whole data set.
        base: class -> cells of the whole data set.
        protocol: "paper" or "honest".
        seed: of removal and split.

    Returns:
        A table with ``split`` and ``fold``.
    """
    if protocol == "paper":
        return assign_splits(draw_counts(cells, counts, seed=seed), protocol="paper", seed=seed, n_folds=None)
    out = cells.copy()
    dev = out[out[SPLIT] == DEV]
    available = dev[LABEL].value_counts()
    wanted = {name: max(2, round(available[name] * counts[name] / base[name])) for name in counts}
    kept = draw_counts(dev, wanted, seed=seed)
    dropped = dev.index.difference(kept.index)
    out.loc[dropped, SPLIT] = UNUSED
    out.loc[dropped, FOLD] = NO_FOLD
    return out


def undersample(labels: Sequence[str] | np.ndarray, *, seed: int) -> np.ndarray:
    """Row numbers after under-sampling: every class is cut at random to the size of the smallest (section 4.2).

    The paper speaks of one majority class; with its two minority classes (345 and 356 cells) both larger ones are cut.
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


def imbalance_ratio(labels: Sequence[str] | pd.Series) -> float:
    """rho, Eq. (5): cells of the largest class over cells of the smallest."""
    counts = pd.Series(labels).value_counts()
    return float(counts.max() / counts.min())


def splits_table(cells: pd.DataFrame) -> pd.DataFrame:
    """What is saved of a split: who stands where, so that nobody re-splits by accident."""
    return cells[[SMEAR, CELL, CROP, LABEL, GROUP, SPLIT, FOLD]]
