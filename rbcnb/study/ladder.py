"""The imbalance ladder as trials: every rung of Table 2, as published or at equal totals, all in one study.

Under the honest protocol a rung is a setting of the trial (`rbcnb.training.Trial.dev_counts`) and not another cells
table, so that all rungs, draws and methods are one study, and a rung that two arms share is fitted once. The prior that
a fit was trained with follows from its rung, and can be divided out of its predictions.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from rbcnb._utils.errors import InputError
from rbcnb.columns import CLASSES, CODOCYTE, DEV, LABEL, NORMAL, SPLIT, class_names
from rbcnb.evaluation.prior_shift import BALANCED, shift_predictions
from rbcnb.paper import TABLE2
from rbcnb.study.protocols import best_settings, chosen_trials
from rbcnb.study.store import predictions_by_method
from rbcnb.training.resampling import draw_counts
from rbcnb.training.splits import SplitError, assign_splits, split_name
from rbcnb.training.trial import ALL_CELLS, Trial

BASE_RHO = float(TABLE2.loc[TABLE2["total"].idxmax(), "rho"])  # the rung that is the whole data set
TABLE2_ARM, EQUAL_TOTAL = "table2", "equal_total"
Plan = dict[tuple[str, float], list[Trial]]  # (arm, rho) -> its fits
Splits = Mapping[str, pd.DataFrame]  # name of an outer split (`rbcnb.training.outer_splits`) -> its cells


def paper_rung(cells: pd.DataFrame, counts: Mapping[str, int], *, seed: int) -> pd.DataFrame:
    """One rung of Table 2 as in section 5: cells are removed from the whole data set, what is left is split again.

    Every rung has another random test set, then, and no folds, as nothing is tuned there. A rung that keeps every
    cell is *cells* itself.

    Args:
        cells: the output of `assign_splits` under the paper's protocol.
        counts: class -> cells of the rung.
        seed: of removal and split.
    """
    if cells[LABEL].value_counts().to_dict() == dict(counts):
        return cells
    return assign_splits(draw_counts(cells, counts, seed=seed), protocol="paper", seed=seed, n_folds=None)


def with_paper_rungs(
    splits: Mapping[str, pd.DataFrame], rungs: Mapping[float, Mapping[str, int]], *, seed: int
) -> dict[str, pd.DataFrame]:
    """*splits* and, where the paper's protocol is among them, each of its rungs (`paper_rung`) as "paper, ρ <rho>".

    Args:
        splits: name of an outer split -> its cells; "paper" is the split of the paper's protocol.
        rungs: rho -> class -> cells of the rung, out of the whole data set.
        seed: of removal and split.

    Raises:
        SplitError: a rung has fewer than two classes, or a class of one cell.
    """
    if "paper" not in splits:
        return dict(splits)
    cells = {rho: paper_rung(splits["paper"], counts, seed=seed) for rho, counts in rungs.items()}
    return {**splits, **{f"paper, ρ {rho:g}": rung for rho, rung in cells.items()}}


def dev_rungs(cells: pd.DataFrame, rungs: Mapping[float, Mapping[str, int]]) -> dict[float, dict[str, int]]:
    """The ladder of the honest protocol: how many *dev* cells of each class every rung keeps; the test set stays.

    A rung keeps the same share of a class as its counts keep of the largest rung's. Which cells these are, the trial
    draws by its seed (`draw_counts`): nested from rung to rung, the same for every method, others for every seed.

    Args:
        cells: the output of `assign_splits`.
        rungs: rho -> class -> cells of the rung, out of the whole data set.
    """
    available = cells.loc[cells[SPLIT] == DEV, LABEL].value_counts()
    base = max(rungs.values(), key=lambda counts: sum(counts.values()))
    return {
        rho: {name: max(2, round(int(available[name]) * n / base[name])) for name, n in counts.items()}
        for rho, counts in rungs.items()
    }


def equal_totals(rungs: Mapping[float, Mapping[str, int]]) -> dict[float, dict[str, int]]:
    """Each rung at its own proportions, in all as many cells as the smallest rung has; no class falls below 2.

    What changes along these rungs is imbalance alone; along Table 2's, the number of cells changes with it.
    """
    smallest = min(sum(counts.values()) for counts in rungs.values())
    equal = {}
    for rho, counts in rungs.items():
        share = smallest / sum(counts.values())
        equal[rho] = {name: max(2, round(n * share)) for name, n in counts.items()}
        largest = max(counts, key=counts.__getitem__)
        equal[rho][largest] += smallest - sum(equal[rho].values())  # what rounding left over
    return equal


def ladder_counts(available: Mapping[str, int]) -> dict[float, dict[str, int]]:
    """Table 2 for the cells at hand: rho -> class -> cells, shrunk by one factor where there are fewer than published.

    With the paper's three classes and at least its 345, 356 and 2,691 cells the counts are exactly Table 2's. Other
    classes take part by rank: the most frequent one in the place of normal, each other one in that of codocyte.

    Args:
        available: class -> labelled cells.

    Returns:
        One entry per rung; ``BASE_RHO`` names the whole data set, whose counts are the largest. No class falls below 2.

    Raises:
        SplitError: fewer than two classes.
    """
    names = class_names(available)
    if len(names) < 2:
        raise SplitError(f"an imbalance ladder needs two classes, have {dict(available)}; label or add smears")
    majority = NORMAL if NORMAL in names else max(names, key=lambda name: available[name])
    column = {name: NORMAL if name == majority else (name if name in CLASSES else CODOCYTE) for name in names}
    published = TABLE2.set_index("rho")
    whole = {name: int(published.loc[BASE_RHO, column[name]]) for name in names}
    scale = min(1.0, *(available[name] / whole[name] for name in names))
    return {
        float(rho): {name: max(2, round(row[column[name]] * scale)) for name in names}
        for rho, row in published.iterrows()
    }


ARMS = {TABLE2_ARM: dict, EQUAL_TOTAL: equal_totals}  # name -> what is done to the counts of the rungs


def plan_ladder(
    final: Mapping[str, pd.DataFrame],
    splits: Mapping[str, pd.DataFrame],
    rungs: Mapping[float, Mapping[str, int]],
    values: Mapping[str, Any],
) -> dict[str, Plan]:
    """Notebook 06's fits: per outer split the ladder, each method with the setting that did best before.

    Under the paper's protocol once per rung along Table 2 alone, each rung with a test set of its own (`paper_rung`).
    Under the honest one on every rung of every arm, once per seed of the method; the test set stays. A seed is one draw
    of training cells together with one initialisation, order and augmentation, the same for every method.

    Args:
        final: protocol -> final fits of the whole data set.
        splits: name of the outer split (`rbcnb.training.outer_splits`) -> its cells.
        rungs: rho -> class -> cells of the rung, out of the whole data set.
        values: parameters of notebook 06 by name: ``arms`` (names in ``ARMS``), ``rhos`` (the rungs to climb), ``seed``
            (the first one); ``ladder_methods``, with ``n_draws`` seeds each, and ``rival_draws`` of the final fits'
            other methods. Methods are compared on the seeds that they share. ``ladder_splits``: of the honest protocol,
            on how many outer splits the ladder is climbed; 0 for all.

    Raises:
        ValueError: an arm or a rung is not known, or a method has no final fit.
    """
    if unknown := set(values["arms"]) - set(ARMS):
        raise InputError(f"unknown arms {', '.join(sorted(unknown))} of the ladder; known: {', '.join(ARMS)}")
    if unknown := sorted(set(values["rhos"]) - set(rungs)):
        raise InputError(f"unknown rungs {unknown} of the ladder; known: {', '.join(f'{rho:g}' for rho in rungs)}")
    seed, plans = values["seed"], {}
    fits = [(protocol, *part) for protocol, rows in final.items() for part in rows.groupby("outer")]
    for protocol, outer, mine in fits:
        if protocol != "paper" and values["ladder_splits"] and outer >= values["ladder_splits"]:
            continue
        name = split_name(protocol, outer)
        draws = dict.fromkeys(values["ladder_methods"], values["n_draws"])
        if missing := set(draws) - set(mine["method"]):
            raise InputError(f"no setting of {', '.join(sorted(missing))} was chosen; add it to methods in notebook 04")
        draws |= {method: values["rival_draws"] for method in mine["method"].unique() if method not in draws}
        best = best_settings(mine[mine["method"].map(draws) > 0])
        if protocol == "paper":
            plans[name] = {(TABLE2_ARM, rho): chosen_trials(best, seeds=[seed]) for rho in values["rhos"]}
            continue
        cells, plan = splits[name], {}
        available = cells.loc[cells[SPLIT] == DEV, LABEL].value_counts().to_dict()
        for arm in values["arms"]:
            of_arm = ARMS[arm](dev_rungs(cells, rungs))
            for rho, counts in ((rho, of_arm[rho]) for rho in values["rhos"]):
                text = "/".join(str(counts[label]) for label in class_names(counts))
                kept = ALL_CELLS if counts == available else text
                plan[arm, rho] = [
                    trial
                    for method, n in draws.items()
                    for trial in chosen_trials(
                        best[best["method"] == method], seeds=range(seed, seed + n), dev_counts=kept
                    )
                ]
        plans[name] = plan
    return plans


def all_trials(plan: Plan) -> list[Trial]:
    """The fits of a plan, one after the other."""
    return [trial for trials in plan.values() for trial in trials]


def label_fits(fits: pd.DataFrame, plan: Plan) -> pd.DataFrame:
    """Adds ``arm`` and ``rho`` to the rows that `rbcnb.study.run_study` gave for `all_trials` of *plan*."""
    places = pd.DataFrame([place for place, trials in plan.items() for _ in trials], columns=["arm", "rho"])
    return fits.assign(**{name: places[name].to_numpy() for name in places})


def training_counts(protocol: str, outer: int, dev_counts: str, splits: Splits) -> dict[str, int]:
    """Class -> development cells that a fit is trained on, before re-sampling; of the paper's rungs nothing is known.

    Args:
        protocol, outer, dev_counts: of the fit's `rbcnb.training.Trial`.
        splits: with its outer split.
    """
    cells = splits[split_name(protocol, outer)]
    available = cells.loc[cells[SPLIT] == DEV, LABEL].value_counts().to_dict()
    if dev_counts == ALL_CELLS:
        # A class of which chance left no cell to train on has a share all the same, or nothing could be divided by it.
        return {name: max(1, available.get(name, 0)) for name in class_names(cells[LABEL])}
    return dict(zip(class_names(available), map(int, dev_counts.split("/")), strict=True))


def training_prior(fits: pd.DataFrame, splits: Splits) -> dict[str, int]:
    """Class -> cells that *fits* of one rung are trained on, all its outer splits together."""
    places = fits[["protocol", "outer", "dev_counts"]].drop_duplicates().itertuples(index=False)
    return pd.DataFrame([training_counts(*place, splits) for place in places]).sum().to_dict()


def priors_divided_out(
    fits: pd.DataFrame, splits: Splits, store: str | Path
) -> dict[tuple[str, str], list[pd.DataFrame]]:
    """`rbcnb.study.predictions_by_method` of *fits*, each under equal priors: its own training prior is divided out.

    Focal loss's probabilities are first mapped back to the posterior that they stand for
    (`rbcnb.evaluation.focal_posterior`; its one alpha cancels).

    Args:
        fits: rows of `rbcnb.study.run_study` with cross entropy or focal loss, without re-sampling.
        splits: with their outer splits.
        store: where they lie.
    """

    def divided(fit: Any, table: pd.DataFrame) -> pd.DataFrame:
        prior = training_counts(fit.protocol, fit.outer, fit.dev_counts, splits)
        gamma = fit.gamma if fit.loss == "focal" else None
        return shift_predictions(table, old_prior=prior, new_prior=BALANCED, gamma=gamma)

    return predictions_by_method(fits, store, change=divided)
