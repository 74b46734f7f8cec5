"""Fits that are scored on a run's test sets: the ledger first, then the study."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from rbcnb.columns import CROP
from rbcnb.study.classical import entry_of_choice, fit_classical, tune_classical
from rbcnb.study.features import cell_features
from rbcnb.study.imbalance_lesson import lesson_entry, lesson_splits, plan_lesson
from rbcnb.study.ladder import Plan, all_trials, label_fits, paper_rung
from rbcnb.study.leakage import leakage_fits, leakage_folds
from rbcnb.study.ledger import HONEST, open_test, record_refits
from rbcnb.study.protocols import chosen_trials
from rbcnb.study.runner import run_study
from rbcnb.study.tables import with_balanced
from rbcnb.training.splits import SplitError
from rbcnb.training.trial import Trial
from rbcnb.workflow.classical_fits import save_classical_fits
from rbcnb.workflow.run import Run
from rbcnb.workflow.run_tables import RunTables

LEAKAGE = "leakage gap: cross-validated over all cells, test cells among them"


def fit_final(
    run: Run, trials: Sequence[Trial], cells: pd.DataFrame, *, reopen: str, preregistration: str = "", **options: Any
) -> pd.DataFrame:
    """Enters final fits of one outer split into the ledger of test sets, then fits what the store lacks.

    Args:
        run: with the crops of *cells*.
        trials: of one protocol and outer split.
        cells: their table, with ``split`` and ``crop``.
        reopen: of `rbcnb.study.open_test`.
        preregistration: its ``plan``.
        **options: of `rbcnb.study.run_study`.

    Returns:
        Rows of `rbcnb.study.run_study`.

    Raises:
        rbcnb.study.TestSetError: the test set was opened before, with something else.
    """
    crops = run.load_crops(cells[CROP])
    open_test(run.folder, trials, cells, crops, reopen=reopen, plan=preregistration)
    return run_study(trials, cells, crops, run.store, **options)


def fit_ladder(tables: RunTables, plans: Mapping[str, Plan], **options: Any) -> pd.DataFrame:
    """`fit_final` of every rung: under the paper's protocol each is a study of its own, under the honest one all are.

    Args:
        tables: of notebook 06.
        plans: of `rbcnb.study.plan_ladder`.
        **options: of `fit_final`.

    Returns:
        Its rows with ``arm``, ``rho`` and ``balanced_macro_f1``.
    """
    fits = []
    for name, plan in plans.items():
        cells = tables.splits[name]
        studies = [(plan, cells)]
        if name == "paper":
            rungs = {rho: paper_rung(cells, counts, seed=tables.value("seed")) for rho, counts in tables.rungs.items()}
            studies = [({(arm, rho): trials}, rungs[rho]) for (arm, rho), trials in plan.items()]
        fits += [label_fits(fit_final(tables.run, all_trials(part), rung, **options), part) for part, rung in studies]
    return with_balanced(pd.concat(fits, ignore_index=True), tables.run.store)


def fit_leakage(tables: RunTables, *, repeats: int, **options: Any) -> pd.DataFrame:
    """Cross-validates cross entropy over all cells, by cell and by smear (`rbcnb.study.leakage`); test cells, too.

    So it comes after the opening of their test set, with settings that were chosen before for the last protocol's first
    outer split, and stands in the ledger.

    Args:
        tables: of notebook 05.
        repeats: of both ways; 0 fits nothing, nor is anything fitted where there are too few smears, which is printed.
        **options: of `rbcnb.study.run_study`.

    Raises:
        rbcnb.study.TestSetError: the test set was not opened with these settings yet.
    """
    run, seed, protocol = tables.run, tables.value("seed"), tables.protocols[-1]
    first = tables.choices.query("protocol == @protocol and outer == 0 and method == 'cross_entropy'")
    trials, cells = chosen_trials(first, seeds=[seed]), tables.splits[protocol]
    crops = run.load_crops(cells[CROP])
    try:
        leakage_folds(cells, n_outer=tables.value("n_outer"), seed=seed)
    except SplitError as error:
        print(f"what a random split leaks is not measured here: {error}")
        repeats = 0
    if repeats:
        record_refits(run.folder, trials, cells, crops, reason=LEAKAGE)
    repeated = {"n_outer": tables.value("n_outer"), "seeds": range(seed, seed + repeats)}
    return leakage_fits(trials, cells, crops, run.store, **repeated, **options)


def fit_lesson(tables: RunTables, values: Mapping[str, Any], *, reopen: str, **options: Any) -> pd.DataFrame:
    """The fits of the lesson on imbalance (`rbcnb.study.imbalance_lesson`), each outer split's entered into the ledger.

    Args:
        tables: of notebook 06.
        values: of `rbcnb.study.imbalance_lesson.plan_lesson`, and ``n_outer``.
        reopen: of `rbcnb.study.open_test`.
        **options: of `rbcnb.study.run_study`.

    Returns:
        Rows of `rbcnb.study.run_study`; none, and a line that says why, without the honest protocol or without seeds.

    Raises:
        rbcnb.study.TestSetError: the lesson opened a test set before, with other settings or other cells.
    """
    if not values["imbalance_seeds"] or HONEST not in tables.protocols:
        why = "needs the honest protocol's splits by smear" if values["imbalance_seeds"] else "has no seeds"
        print(f"The lesson on imbalance is left out: it {why}.")
        return pd.DataFrame()
    run, seed = tables.run, values["seed"]
    labelled = run.load_csv("labelled")
    crops = run.load_crops(labelled[CROP])
    splits = lesson_splits(labelled, seed=seed, n_outer=values["n_outer"])
    fits = []
    for outer, trials in plan_lesson(splits, tables.rungs, values).items():
        open_test(run.folder, [lesson_entry(trial) for trial in trials], splits[outer], crops, reopen=reopen)
        fits.append(run_study(trials, splits[outer], crops, run.store, **options))
    return pd.concat(fits, ignore_index=True)


def fit_classical_baseline(tables: RunTables, *, n_tries: int, jobs: int | None, reopen: str) -> None:
    """The baseline on the last protocol's first outer split: tuned on its folds, entered into the ledger, fitted, kept.

    Args:
        tables: of notebook 06.
        n_tries: settings that each classifier tries with each re-sampling.
        jobs: side by side; None for one per core.
        reopen: of `rbcnb.study.open_test`.

    Raises:
        rbcnb.study.TestSetError: the test set was opened before, with something else.
    """
    run, seed, protocol = tables.run, tables.value("seed"), tables.protocols[-1]
    cells, jobs = tables.splits[protocol], jobs or -1
    crops = run.load_crops(cells[CROP])
    features = cell_features(crops)
    chosen = tune_classical(features, cells, protocol=protocol, seed=seed, n_tries=n_tries, jobs=jobs)
    open_test(run.folder, [entry_of_choice(choice) for choice in chosen], cells, crops, reopen=reopen)
    save_classical_fits(run, fit_classical(features, cells, chosen, seeds=[seed], jobs=jobs))
