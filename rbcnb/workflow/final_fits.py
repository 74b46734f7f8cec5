"""Fits that are scored on a run's test sets: the ledger first, then the study."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from rbcnb.columns import CROP
from rbcnb.study.ladder import Plan, all_trials, label_fits, paper_rung
from rbcnb.study.leakage import leakage_fits
from rbcnb.study.ledger import open_test, record_refits
from rbcnb.study.protocols import chosen_trials
from rbcnb.study.runner import run_study
from rbcnb.study.tables import with_balanced
from rbcnb.training.trial import Trial
from rbcnb.workflow.run import Run

LEAKAGE = "leakage gap: cross-validated over all cells, test cells among them"


def fit_final(run: Run, trials: Sequence[Trial], cells: pd.DataFrame, *, reopen: str, **options: Any) -> pd.DataFrame:
    """Enters final fits of one outer split into the ledger of test sets, then fits what the store lacks.

    Args:
        run: with the crops of *cells*.
        trials: of one protocol and outer split.
        cells: their table, with ``split`` and ``crop``.
        reopen: of `rbcnb.study.open_test`.
        **options: of `rbcnb.study.run_study`.

    Returns:
        Rows of `rbcnb.study.run_study`.

    Raises:
        rbcnb.study.TestSetError: the test set was opened before, with something else.
    """
    crops = run.load_crops(cells[CROP])
    open_test(run.folder, trials, cells, crops, reopen=reopen)
    return run_study(trials, cells, crops, run.store, **options)


def fit_ladder(
    run: Run,
    plans: Mapping[str, Plan],
    splits: Mapping[str, pd.DataFrame],
    rungs: Mapping[float, Mapping[str, int]],
    *,
    seed: int,
    **options: Any,
) -> pd.DataFrame:
    """`fit_final` of every rung: under the paper's protocol each is a study of its own, under the honest one all are.

    Args:
        plans, splits, rungs: of `rbcnb.study.plan_ladders`.
        seed: by which the paper's protocol removes cells and splits the rest.
        **options: of `fit_final`.

    Returns:
        Its rows with ``arm``, ``rho`` and ``balanced_macro_f1``.
    """
    fits = []
    for name, plan in plans.items():
        studies = [(plan, splits[name])]
        if name == "paper":
            studies = [
                ({place: trials}, paper_rung(splits[name], rungs[place[1]], seed=seed))
                for place, trials in plan.items()
            ]
        fits += [label_fits(fit_final(run, all_trials(part), cells, **options), part) for part, cells in studies]
    return with_balanced(pd.concat(fits, ignore_index=True), run.store)


def fit_leakage(
    run: Run, choices: pd.DataFrame, cells: pd.DataFrame, *, n_outer: int, seed: int, repeats: int, **options: Any
) -> pd.DataFrame:
    """Cross-validates cross entropy over all *cells*, by cell and by smear (`rbcnb.study.leakage`); test cells, too.

    So it comes after the opening of their test set, with settings that were chosen before, and stands in the ledger.

    Args:
        choices: what notebook 04 chose for the outer split of *cells*.
        cells: of the outer split, all of them labelled.
        n_outer: folds.
        seed: of the first repetition.
        repeats: of both ways; 0 fits nothing.
        **options: of `rbcnb.study.run_study`.

    Raises:
        rbcnb.study.TestSetError: the test set was not opened with these settings yet.
    """
    trials = chosen_trials(choices[choices["method"] == "cross_entropy"], seeds=[seed])
    crops = run.load_crops(cells[CROP])
    if repeats:
        record_refits(run.folder, trials, cells, crops, reason=LEAKAGE)
    seeds = range(seed, seed + repeats)
    return leakage_fits(trials, cells, crops, run.store, n_outer=n_outer, seeds=seeds, **options)
