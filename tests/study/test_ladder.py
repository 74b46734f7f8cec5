"""The ladder as one study: rungs, arms and draws in the trials, paired across methods."""

import dataclasses

import pandas as pd
import pytest
from conftest import make_cells

from rbcnb.study.ladder import all_trials, label_fits, ladder_counts, plan_ladder
from rbcnb.training.resampling import training_rows
from rbcnb.training.splits import assign_splits
from rbcnb.training.trial import Trial

PAPER = {"codocyte": 345, "hypochromia": 356, "normal": 2691}
VALUES = {
    "ladder_methods": ["focal", "cross_entropy"], "n_draws": 1, "rival_draws": 0, "arms": ["table2"], "seed": 0,
    "rhos": list(ladder_counts(PAPER)), "ladder_splits": 0,
}  # fmt: skip


@pytest.fixture(scope="module")
def split():
    return assign_splits(make_cells(PAPER, n_smears=22)[0], protocol="honest", seed=0)


@pytest.fixture
def chosen():
    focal = Trial(loss="focal", alpha=1.0, gamma=2.0, protocol="honest")
    rows = [{**dataclasses.asdict(trial), "method": trial.method} for trial in (focal, Trial(protocol="honest"))]
    return pd.DataFrame(rows).assign(macro_f1=0.5)


def plan_of(chosen, split, **values):
    """The plan of the first honest split."""
    return plan_ladder({"honest": chosen}, {"honest": split}, ladder_counts(PAPER), VALUES | values)["honest"]


def test_methods_meet_the_same_draws_and_the_arms_share_a_rung(split, chosen):
    plan = plan_of(chosen, split, n_draws=2, arms=["table2", "equal_total"])
    assert len(plan) == 14
    for (arm, rho), trials in plan.items():
        focal, other = ([t for t in trials if t.method == name] for name in ("focal", "cross_entropy"))
        assert [(t.seed, t.dev_counts) for t in focal] == [(t.seed, t.dev_counts) for t in other]
        assert (arm, rho) == ("table2", 7.8) or all(t.dev_counts != "all" for t in trials)
    assert plan["table2", 2.03] == plan["equal_total", 2.03]
    assert all(t.dev_counts == "all" for t in plan["table2", 7.8])  # as in the final fits: nothing is fitted twice
    sizes = {
        sum(map(int, t.dev_counts.split("/"))) for (arm, _), trials in plan.items() if arm != "table2" for t in trials
    }
    assert len(sizes) == 1
    first, second = (set(training_rows(t, split)[0]) for t in plan["table2", 37.9][:2])
    assert len(first) == len(second)
    assert first != second
    with pytest.raises(ValueError, match="unknown arms half"):
        plan_of(chosen, split, arms=["half"])


def test_some_rungs_on_some_splits_alone_are_as_in_the_whole_ladder(split, chosen):
    whole, part = plan_of(chosen, split), plan_of(chosen, split, rhos=[37.9, 7.8])
    assert part == {place: whole[place] for place in (("table2", 37.9), ("table2", 7.8))}
    both = pd.concat([chosen, chosen.assign(outer=1)])
    for n, names in ((0, ["honest", "honest_1"]), (1, ["honest"])):
        values = VALUES | {"ladder_splits": n}
        plans = plan_ladder(
            {"honest": both}, dict.fromkeys(["honest", "honest_1"], split), ladder_counts(PAPER), values
        )
        assert list(plans) == names
    with pytest.raises(ValueError, match=r"unknown rungs \[8.0\] of the ladder; known: 2.03, 3.05"):
        plan_of(chosen, split, rhos=[8.0])


def test_a_rival_may_have_fewer_draws_and_none_is_left_out(split, chosen):
    seeds = {"focal": range(5), "cross_entropy": range(2)}
    for trials in plan_of(chosen, split, ladder_methods=["focal"], n_draws=5, rival_draws=2).values():
        assert [(t.method, t.seed) for t in trials] == [(name, seed) for name in seeds for seed in seeds[name]]
    with pytest.raises(ValueError, match="no setting of ldam was chosen"):
        plan_of(chosen, split, ladder_methods=["ldam"])
    for trials in plan_of(chosen, split, ladder_methods=["focal"], n_draws=2).values():
        assert [trial.method for trial in trials] == ["focal", "focal"]  # no rival is asked for


def test_the_paper_climbs_once_with_the_alpha_that_was_best_on_the_test_set(chosen):
    focal = chosen.iloc[:1].assign(alpha=0.5, macro_f1=0.9)
    final = {"paper": pd.concat([chosen, focal], ignore_index=True).assign(protocol="paper")}
    rungs = ladder_counts(PAPER)
    plan = plan_ladder(final, {}, rungs, VALUES | {"n_draws": 3})["paper"]
    assert list(plan) == [("table2", rho) for rho in rungs]
    for trials in plan.values():
        assert {(trial.method, trial.alpha, trial.seed) for trial in trials} == {
            ("focal", 0.5, 0),
            ("cross_entropy", None, 0),
        }
        assert all(trial.dev_counts == "all" for trial in trials)


def test_fits_are_labelled_in_the_order_of_the_plan(split, chosen):
    plan = plan_of(chosen, split, arms=["table2", "equal_total"])
    fits = pd.DataFrame({"dev_counts": [t.dev_counts for t in all_trials(plan)]})
    labelled = label_fits(fits, plan)
    for (arm, rho), rung_fits in labelled.groupby(["arm", "rho"]):
        assert rung_fits["dev_counts"].tolist() == [t.dev_counts for t in plan[arm, rho]]
