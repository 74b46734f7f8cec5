"""The imbalance ladder as trials: every rung of Table 2, as published or at equal totals, all in one study.

Under the honest protocol a rung is a setting of the trial (`rbcnb.trial.Trial.dev_counts`) and not another cells table,
so that all rungs, draws and methods are one study, and a rung that two arms share is fitted once.
"""

from collections.abc import Mapping, Sequence

import pandas as pd

from rbcnb.columns import DEV, LABEL, SPLIT, class_names
from rbcnb.protocols import chosen_trials
from rbcnb.splits import dev_rungs, equal_totals
from rbcnb.trial import ALL_CELLS, Trial

TABLE2_ARM, EQUAL_TOTAL = "table2", "equal_total"
ARMS = {TABLE2_ARM: dict, EQUAL_TOTAL: equal_totals}  # name -> what is done to the counts of the rungs

Plan = dict[tuple[str, float], list[Trial]]  # (arm, rho) -> its fits


def plan_ladder(
    chosen: pd.DataFrame,
    cells: pd.DataFrame,
    rungs: Mapping[float, Mapping[str, int]],
    *,
    seeds: Mapping[str, Sequence[int]],
    arms: Sequence[str] = (TABLE2_ARM,),
) -> Plan:
    """The fits of the honest ladder: chosen settings on every rung of every arm, once per seed of the method.

    A seed is one draw of training cells together with one initialisation, order and augmentation, the same for every
    method. The test set is that of *cells* throughout.

    Args:
        chosen: one setting per architecture and method, see `rbcnb.protocols.best_settings`.
        cells: the output of `rbcnb.splits.assign_splits` under the honest protocol.
        rungs: rho -> class -> cells of the rung, out of the whole data set.
        seeds: method -> seeds of its draws; methods pair on the seeds that they share.
        arms: names in ``ARMS``.

    Raises:
        ValueError: an arm is not known, or a method has no chosen setting.
    """
    if unknown := set(arms) - set(ARMS):
        raise ValueError(f"unknown arms {', '.join(sorted(unknown))} of the ladder; known: {', '.join(ARMS)}")
    if missing := set(seeds) - set(chosen["method"]):
        raise ValueError(f"no setting of {', '.join(sorted(missing))} was chosen; add it to methods in notebook 04")
    available = cells.loc[cells[SPLIT] == DEV, LABEL].value_counts().to_dict()
    plan: Plan = {}
    for arm in arms:
        for rho, counts in ARMS[arm](dev_rungs(cells, rungs)).items():
            text = "/".join(str(counts[name]) for name in class_names(counts))
            kept = ALL_CELLS if counts == available else text
            plan[arm, rho] = [
                trial
                for method, own in seeds.items()
                for trial in chosen_trials(chosen[chosen["method"] == method], seeds=own, dev_counts=kept)
            ]
    return plan


def all_trials(plan: Plan) -> list[Trial]:
    """The fits of a plan, one after the other."""
    return [trial for trials in plan.values() for trial in trials]


def label_fits(fits: pd.DataFrame, plan: Plan) -> pd.DataFrame:
    """Adds ``arm`` and ``rho`` to the rows that `rbcnb.study.run_study` gave for `all_trials` of *plan*."""
    places = pd.DataFrame([place for place, trials in plan.items() for _ in trials], columns=["arm", "rho"])
    return fits.assign(**{name: places[name].to_numpy() for name in places})
