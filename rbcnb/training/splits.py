"""Who trains and who tests: the two protocols' splits, the ladder of imbalance, and re-sampling (section 4.2).

``paper`` splits cells at random, as published. ``honest`` deals whole groups (a smear and its identical twins) into
outer folds, each the test set once, and keeps one test set for the whole ladder. Every choice is a function of the
table and the seed.
"""

import math
from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd
from sklearn.model_selection import KFold, StratifiedKFold, train_test_split

from rbcnb._utils.errors import PlainError
from rbcnb.columns import CELL, CROP, DEV, FOLD, GROUP, LABEL, NO_FOLD, SMEAR, SPLIT, TEST
from rbcnb.paper import SETTINGS

PROTOCOLS = ("paper", "honest")
TEST_FRACTION = SETTINGS["test_fraction"]
N_FOLDS = SETTINGS["n_folds"]
N_OUTER = 3  # outer folds of the honest protocol: a test set of a third, near to the paper's 30 %
MIN_TEST_GROUPS = 2  # in every outer fold: with one smear there is no interval over smears
_DRAWS = 20  # of grouped folds, of which those nearest to equal shares of every class are kept
_ATTEMPTS = 200  # grouped folds drawn before SplitError says that none will do
_OUTER, _INNER = 0, 1  # apart, so that folds and test sets are drawn from different random numbers


class SplitError(PlainError, ValueError):
    """The cells cannot be split as asked; the message says why, and the remedy."""


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


def assign_splits(
    cells: pd.DataFrame,
    *,
    protocol: str,
    seed: int,
    n_folds: int | None = N_FOLDS,
    outer: int = 0,
    n_outer: int = N_OUTER,
) -> pd.DataFrame:
    """Adds ``split`` (dev or test) and ``fold`` (0..n_folds-1 within dev, -1 in test) to the cells.

    ``paper``: 70/30, both at random over cells, not stratified (section 4.2; Fig. 11's test set has
    121 codocytes where a stratified one has 104). ``honest``: both by group, every class in every fold. Its outer
    splits are numbered through: 0..n_outer-1 test each group once, n_outer..2 n_outer-1 once more by other folds ...

    Args:
        cells: one row per cell with ``smear``, ``cell``, ``label`` and ``group``.
        protocol: "paper" or "honest".
        seed: of the random draws; the same table and seed give the same split.
        n_folds: number of folds on the dev cells; None makes none, and every ``fold`` is -1.
        outer: which outer split; ``paper`` has the first only.
        n_outer: outer folds of ``honest``, at least 2: one of them is tested, the rest developed on.

    Returns:
        A copy of *cells* with the two columns.

    Raises:
        SplitError: too few cells, classes or groups, with the remedy.
    """
    _check(cells, protocol)
    out = cells.copy()
    if protocol == "paper":
        if outer:
            raise SplitError(f"the paper's protocol has one split, asked for number {outer + 1}; take another seed")
        test = train_test_split(np.arange(len(out)), test_size=TEST_FRACTION, random_state=seed, shuffle=True)[1]
    else:
        repeat, which = divmod(outer, n_outer)
        test = np.flatnonzero(outer_folds(out, n_outer=n_outer, seed=seed, repeat=repeat) == which)
    dev = np.setdiff1d(np.arange(len(out)), test)
    out[SPLIT] = DEV
    out[FOLD] = NO_FOLD
    out.iloc[test, out.columns.get_loc(SPLIT)] = TEST
    if n_folds is not None:
        out.iloc[dev, out.columns.get_loc(FOLD)] = _inner_folds(out.iloc[dev], protocol, seed, n_folds, outer)
    return out


def split_name(protocol: str, outer: int) -> str:
    """Name of an outer split in files (``splits_<name>.csv``) and tables: "paper", "honest", "honest_1"."""
    return f"{protocol}_{outer}" if outer else protocol


def outer_splits(protocols: Iterable[str], *, n_splits: int, n_outer: int) -> dict[str, tuple[str, int]]:
    """Name of each split of a run (`split_name`) -> its protocol and number.

    Args:
        protocols: names in ``PROTOCOLS``.
        n_splits: outer splits of the honest protocol; the paper's has one.
        n_outer: outer folds of the honest protocol: so many splits test each group once.

    Raises:
        SplitError: *n_splits* leaves a repetition half done, so that some cells would be tested more often than others.

    >>> list(outer_splits(["paper", "honest"], n_splits=3, n_outer=3))
    ['paper', 'honest', 'honest_1', 'honest_2']
    """
    if n_splits > n_outer and n_splits % n_outer:
        raise SplitError(f"n_splits {n_splits} must be at most n_outer, {n_outer}, or whole repetitions of it")
    numbers = {name: range(n_splits if name == "honest" else 1) for name in protocols}
    return {split_name(name, outer): (name, outer) for name, outers in numbers.items() for outer in outers}


def outer_folds(cells: pd.DataFrame, *, n_outer: int, seed: int, repeat: int = 0, grouped: bool = True) -> np.ndarray:
    """The outer fold, int [N], that tests each cell, in repetition *repeat* of cross-validation.

    Folds hold near to equal shares of every class. *grouped*: groups stay whole, every fold has every class and at
    least ``MIN_TEST_GROUPS`` groups. Not grouped, cells are dealt out one by one, and cells of one smear stand on both
    sides: the comparison that shows what this leaks.

    Raises:
        SplitError: the groups do not allow it, with the remedy.
    """
    entropy = [seed, _OUTER, repeat]
    if grouped:
        return _grouped_folds(cells, n_outer, entropy, what="outer folds", min_groups=MIN_TEST_GROUPS)
    state = int(np.random.SeedSequence(entropy).generate_state(1)[0])
    return _fold_numbers(StratifiedKFold(n_outer, shuffle=True, random_state=state).split(cells, cells[LABEL]))


def smear_folds(cells: pd.DataFrame, *, n_folds: int, seed: int) -> np.ndarray:
    """Folds of whole groups, int [N], for cells too few to ask for every class in every fold; shares are near to equal.

    Raises:
        SplitError: fewer groups than folds.
    """
    entropy = [seed, _INNER]
    return _grouped_folds(cells, n_folds, entropy, what="folds", min_groups=1, every_class=False)


def cell_folds(cells: pd.DataFrame, *, n_folds: int, seed: int) -> np.ndarray:
    """Folds of single cells, int [N]: what can be done with one smear, whose cells are more alike than two smears'."""
    return _fold_numbers(KFold(n_folds, shuffle=True, random_state=seed).split(cells))


def _inner_folds(dev: pd.DataFrame, protocol: str, seed: int, n_folds: int, outer: int) -> np.ndarray:
    if protocol == "honest":
        return _grouped_folds(dev, n_folds, [seed, _INNER, outer], what="folds", min_groups=1)
    if len(dev) < n_folds:
        raise SplitError(f"{len(dev)} cells are left to make {n_folds} folds of; add smears or ask for fewer folds")
    return _fold_numbers(KFold(n_folds, shuffle=True, random_state=seed).split(dev))


def _grouped_folds(
    cells: pd.DataFrame,
    n_folds: int,
    entropy: Sequence[int],
    *,
    what: str,
    min_groups: int,
    every_class: bool = True,
) -> np.ndarray:
    """Stratified folds of whole groups, each with *min_groups* groups and, if asked for, *every_class*.

    Not scikit-learn's ``StratifiedGroupKFold``: its greedy order follows from the groups' class counts and its seed
    breaks ties only, so that its repetitions resemble each other (44 smears in three folds: an adjusted Rand index of
    0.45 between seeds, 0.03 here) and say little that the first one did not.
    """
    n_groups = cells[GROUP].nunique()
    if n_groups < n_folds * min_groups:
        raise SplitError(
            f"only {n_groups} smears (groups): {n_folds} {what} need {n_folds * min_groups}; "
            "add smears, or ask for fewer folds"
        )
    spread = cells.groupby(LABEL)[GROUP].nunique().sort_values()
    if every_class and spread.iloc[0] < n_folds:
        raise SplitError(
            f"{spread.index[0]} stands in {spread.iloc[0]} smears (groups) only: not every one of {n_folds} {what} "
            "can have it; add smears that hold it, or ask for fewer folds"
        )
    group, names = pd.factorize(cells[GROUP])
    counts = pd.crosstab(group, cells[LABEL].to_numpy()).to_numpy(dtype=float)
    rng = np.random.default_rng(entropy)
    best, best_miss = None, math.inf
    for attempt in range(_ATTEMPTS):
        if attempt >= _DRAWS and best is not None:
            break
        dealt = _deal(counts, n_folds, rng)
        held = np.stack([counts[dealt == fold].sum(axis=0) for fold in range(n_folds)])
        if (every_class and held.min() == 0) or np.bincount(dealt, minlength=n_folds).min() < min_groups:
            continue
        if (miss := np.abs(held / counts.sum(axis=0) - 1 / n_folds).max()) < best_miss:
            best, best_miss = dealt, miss
    if best is None:
        raise SplitError(
            f"none of {_ATTEMPTS} ways to deal {len(names)} smears (groups) into {n_folds} {what} leaves every class "
            f"and {min_groups} groups in each; add smears that hold {spread.index[0]}, or ask for fewer folds"
        )
    return best[group]


def _deal(counts: np.ndarray, n_folds: int, rng: np.random.Generator) -> np.ndarray:
    """Groups with class *counts* [G, C] to fold numbers [G]: in random order, each to the fold that lacks it most."""
    total = counts.sum(axis=0)
    held = np.zeros((n_folds, counts.shape[1]))
    dealt = np.empty(len(counts), dtype=int)
    for group in rng.permutation(len(counts)):
        # What the squared distance of the folds' shares from 1 / n_folds grows by, but for a constant.
        cost = ((2 * held + counts[group]) * counts[group] / total**2).sum(axis=1)
        order = rng.permutation(n_folds)  # so that equals are chosen from at random
        dealt[group] = order[np.argmin(cost[order])]
        held[dealt[group]] += counts[group]
    return dealt


def _fold_numbers(parts: Iterable[tuple[np.ndarray, np.ndarray]]) -> np.ndarray:
    """scikit-learn's (rest, held out) pairs to the fold of each row."""
    held_out = [rows for _, rows in parts]
    folds = np.empty(sum(map(len, held_out)), dtype=int)
    for number, rows in enumerate(held_out):
        folds[rows] = number
    return folds


def splits_table(cells: pd.DataFrame) -> pd.DataFrame:
    """The table of a split that is saved, so that nobody splits again by accident: which cell is in which part.

    Args:
        cells: the output of `assign_splits`, with ``crop``.

    Returns:
        ``smear``, ``cell``, ``crop``, ``label``, ``group``, ``split`` and ``fold``.
    """
    return cells[[SMEAR, CELL, CROP, LABEL, GROUP, SPLIT, FOLD]]
