"""What a random split flatters by: the same fits on folds of cells and on folds of whole smears.

Cells of one smear share stain, focus and reader. Dealt out at random they stand on both sides of a split, and the test
asks for less than a new smear would. Both ways are cross-validated on all cells with equally many trained on, so that
every cell is predicted once by each and the difference is paired cell by cell.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from rbcnb.columns import DEV, FOLD, SPLIT
from rbcnb.evaluation.inference import paired_macro_f1
from rbcnb.evaluation.metrics import score_predictions
from rbcnb.study.protocols import in_folds
from rbcnb.study.runner import run_study
from rbcnb.study.store import predictions_by_method
from rbcnb.training.splits import outer_folds
from rbcnb.training.trial import ALL_CELLS, Trial

_FACTS = ("mean", "low", "high", "level", "n_seeds", "n_groups")
RANDOM, GROUPED = "random", "grouped"  # in place of a protocol's name: these folds belong to neither


def leakage_folds(cells: pd.DataFrame, *, n_outer: int, seed: int) -> dict[str, pd.DataFrame]:
    """Scheme, "random" and "grouped" -> *cells*, all of them dev, in stratified folds of cells and of whole groups."""
    return {
        scheme: cells.assign(
            **{SPLIT: DEV, FOLD: outer_folds(cells, n_outer=n_outer, seed=seed, grouped=scheme == GROUPED)}
        )
        for scheme in (RANDOM, GROUPED)
    }


def leakage_trials(trials: Sequence[Trial], scheme: str, *, n_outer: int, seed: int) -> list[Trial]:
    """The fits of one repetition of one way: the settings of *trials* on every fold of *scheme*."""
    base = [replace(trial, protocol=scheme, outer=0, seed=seed, dev_counts=ALL_CELLS) for trial in trials]
    return in_folds(base, n_outer)


def leakage_fits(
    trials: Sequence[Trial],
    cells: pd.DataFrame,
    crops: np.ndarray,
    store: str | Path,
    *,
    n_outer: int,
    seeds: Sequence[int],
    **options: Any,
) -> pd.DataFrame:
    """Both cross-validations of each trial, once per seed: rows of `rbcnb.study.run_study`.

    Nothing is chosen by it: settings are given, and no fit of a protocol comes out of it.

    Args:
        trials: the settings, one per architecture and method.
        cells: all labelled cells.
        crops: in their order.
        store: of finished trials.
        n_outer: folds.
        seeds: of folds, initialisation and order; each is another repetition of both ways. None: no fits.
        **options: of `rbcnb.study.run_study`.
    """
    parts = [pd.DataFrame(columns=["protocol", "architecture", "method", "seed", "error", "key"])]
    for seed in seeds:
        for scheme, folded in leakage_folds(cells, n_outer=n_outer, seed=seed).items():
            fits = leakage_trials(trials, scheme, n_outer=n_outer, seed=seed)
            parts.append(run_study(fits, folded, crops, store, **options))
    return parts[0] if len(parts) == 1 else pd.concat(parts[1:], ignore_index=True)


def leakage_gap(fits: pd.DataFrame, store: str | Path) -> pd.DataFrame:
    """Macro F1 under random folds minus that under folds of smears, with its interval over smears and seeds.

    Args:
        fits: `leakage_fits`; of a repetition with a fit that diverged nothing is counted, in either way.
        store: that they lie in.

    Returns:
        One row per architecture and method: the macro F1 ``random`` and ``grouped`` of all cells, means over seeds;
        `rbcnb.evaluation.Difference` of the first minus the second, with its p; and under ``error`` which repetitions
        diverged. Where all did, the numbers are missing. No row without fits.
    """
    rows = []
    for (architecture, method), method_fits in fits.groupby(["architecture", "method"], sort=False):
        diverged = sorted(set(method_fits.loc[method_fits["error"].notna() & (method_fits["error"] != ""), "seed"]))
        row = {"architecture": architecture, "method": method, "error": ""}
        if diverged:
            row["error"] = f"diverged with seed {', '.join(map(str, diverged))}"
        if len(whole := method_fits[~method_fits["seed"].isin(diverged)]):
            row |= _gap_of(whole, store)
        rows.append(row)
    return pd.DataFrame(rows, columns=["architecture", "method", RANDOM, GROUPED, *_FACTS, "p", "error"])


def _gap_of(fits: pd.DataFrame, store: str | Path) -> dict[str, float]:
    """The numbers of one architecture and method.

    Raises:
        ValueError: one of both ways to split has no fit.
    """
    if missing := {RANDOM, GROUPED} - set(fits["protocol"]):
        raise ValueError(f"no fit of {' and '.join(sorted(missing))}; make the fits of the leakage gap again")
    tables = {
        scheme: next(iter(predictions_by_method(fits[fits["protocol"] == scheme], store).values()))
        for scheme in (RANDOM, GROUPED)
    }
    scores = {
        scheme: float(np.mean([score_predictions(table)["macro_f1"] for table in some]))
        for scheme, some in tables.items()
    }
    difference = paired_macro_f1(tables[RANDOM], tables[GROUPED], seed=int(fits["seed"].min()))
    return scores | {name: getattr(difference, name) for name in _FACTS} | {"p": difference.p_value}
