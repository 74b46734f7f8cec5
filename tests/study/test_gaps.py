"""Gaps from stored fits against the functions that they are made of, on a small ladder with known chances."""

from dataclasses import asdict, replace

import numpy as np
import pandas as pd
import pytest
from conftest import make_predictions, noisy

from rbcnb.evaluation.hypothesis_tests import benjamini_hochberg
from rbcnb.evaluation.inference import paired_macro_f1, slope_on_log_rho
from rbcnb.evaluation.metrics import score_predictions
from rbcnb.evaluation.relative_gain import relative_improvement
from rbcnb.evaluation.verdicts import PRIMARY, REST, adjust_for_families, answer_text, claims_in_print, judge_claims
from rbcnb.plotting.comparisons import plot_answer, plot_gaps_by_rho
from rbcnb.study.gaps import Gaps
from rbcnb.training.trial import Trial

RHOS = (2.0, 8.0)
TRIALS = {
    "cross_entropy": Trial(protocol="honest"),
    "focal": Trial(protocol="honest", loss="focal", alpha=1.0, gamma=2.0),
    "over_sampling": Trial(protocol="honest", resample="over"),
}
RIGHT = {"cross_entropy": 0.6, "focal": 0.8, "over_sampling": 0.7}


@pytest.fixture(scope="module")
def gaps(tmp_path_factory):
    """Three methods with three seeds on the whole data set; on the ladder over-sampling has two of them."""
    predictions, store = make_predictions(), tmp_path_factory.mktemp("gaps")

    def fit(method, seed, rho):
        trial = replace(TRIALS[method], seed=seed)
        key = f"{method}-{seed}-{rho}"
        right = RIGHT[method] + (0.1 if method == "focal" and rho == RHOS[1] else 0)
        table = noisy(predictions, right, 100 * seed + int(rho) + len(method))
        blur = np.random.default_rng([seed, int(rho)]).normal(0, 1 - right, len(table))
        table["prob_normal"] = (table["prob_normal"] + blur).clip(0, 1)  # what AUROC ranks by differs, too
        table.to_parquet(store / f"{key}.parquet", index=False)
        return {**asdict(trial), "method": method, "key": key, **score_predictions(table)}

    final = pd.DataFrame([fit(method, seed, 0) for method in TRIALS for seed in range(3)])
    climbed = pd.DataFrame(
        [
            fit(method, seed, rho) | {"arm": "table2", "rho": rho}
            for rho in RHOS
            for method in TRIALS
            for seed in range(2 if method == "over_sampling" else 3)
        ]
    )
    return Gaps(final, climbed, store, margin=0.02, seed=0)


def tables(gaps, method, rho=0, n=3):
    return [pd.read_parquet(gaps.store / f"{method}-{seed}-{rho}.parquet") for seed in range(n)]


def test_whole_data_set_and_rungs_are_paired_differences(gaps):
    base, rungs = gaps.base().set_index("claim"), gaps.rungs(prevalence="balanced").set_index("rho")
    expected = paired_macro_f1(tables(gaps, "focal"), tables(gaps, "cross_entropy"), seed=0)
    assert base.loc["focal_beats_ce", ["mean", "low", "high"]].tolist() == [expected.mean, expected.low, expected.high]
    for rho in RHOS:
        pair = (tables(gaps, name, rho) for name in ("focal", "cross_entropy"))
        assert rungs.loc[rho, "mean"] == paired_macro_f1(*pair, seed=0, balance=True).mean


def test_slope_over_the_ladder_is_that_per_doubling_times_its_doublings(gaps):
    slopes = gaps.slopes().set_index("prevalence")
    ladders = ({rho: tables(gaps, name, rho) for rho in RHOS} for name in ("focal", "cross_entropy"))
    slope = slope_on_log_rho(*ladders, seed=0)
    row = slopes.loc["natural"]
    assert row["doublings"] == 2
    assert row["per_doubling"] == slope.mean
    assert row["mean"] == pytest.approx(2 * slope.mean)
    assert row["high"] - row["low"] == pytest.approx(2 * (slope.high - slope.low))
    assert row["p"] == pytest.approx(slope.p_value)  # another unit, the same evidence
    # With two rungs it is the difference of the rungs' differences.
    rungs = gaps.rungs().set_index("rho")["mean"]
    assert row["mean"] == pytest.approx(rungs[8.0] - rungs[2.0])


def test_the_slope_is_judged_among_the_rest_and_twice_adjusted_is_once(gaps):
    compared = gaps.together()
    once = adjust_for_families(compared)
    families = once.set_index("claim")["family"]
    assert families["gain_grows_with_rho"] == REST
    assert sorted(families[families == PRIMARY].index) == ["focal_beats_ce", "over_sampling_in_line"]
    pd.testing.assert_frame_equal(adjust_for_families(once), once)
    verdicts = judge_claims(compared, margin=0.02)
    assert len(verdicts) == compared["claim"].nunique() == 4
    pd.testing.assert_frame_equal(verdicts, judge_claims(once, margin=0.02))


def test_rivals_pair_on_the_seeds_that_both_have_in_a_family_of_their_own(gaps):
    rivals = gaps.rivals()
    assert set(rivals["second"]) == {"cross_entropy"}
    natural = rivals[rivals["prevalence"] == "natural"]
    assert natural["n_seeds"].tolist() == [3, 2, 2]  # the whole data set, then two rungs
    np.testing.assert_allclose(natural["p_adjusted"], benjamini_hochberg(natural["p"]))
    pair = (tables(gaps, name, 8.0, n=2) for name in ("over_sampling", "cross_entropy"))
    assert natural["mean"].iloc[-1] == paired_macro_f1(*pair, seed=0).mean


def test_relative_improvement_has_its_point_in_its_interval(gaps):
    told = gaps.relative("honest").set_index(["rho", "score"])
    points = relative_improvement(gaps.climbed).set_index("rho")
    assert set(told.index.get_level_values("score")) == {"accuracy", "macro_f1", "auroc"}
    for rho, score in told.index:
        row = told.loc[(rho, score)]
        assert row["mean"] == pytest.approx(points.loc[rho, score])
        assert row["low"] < row["mean"] < row["high"]


def test_plan_names_every_goal_and_says_never(gaps):
    plan = replace(gaps, margin=0.001).plan()
    assert set(plan["goal"]) == {"gain", "alike"}
    assert (plan["told"].str.startswith("never") == plan["seeds"].isna()).all()
    assert plan["seeds"].isna().any()


def test_answer_tells_every_primary_contrast_as_focal_minus_rival(gaps):
    compared = gaps.together()
    said = answer_text(compared, margin=0.02)
    line = compared[compared["claim"] == "over_sampling_in_line"].iloc[0]
    assert f"focal loss minus over-sampling: {-line['mean']:+.3f} [{-line['high']:+.3f}, {-line['low']:+.3f}]" in said
    assert "n = 3 seeds, 12 test smears" in said
    slope = compared[compared["claim"] == "gain_grows_with_rho"].iloc[0]
    assert f"the gap changes by {slope['mean']:+.3f} [{slope['low']:+.3f}, {slope['high']:+.3f}]" in said
    assert "not judged" not in said


def test_answer_tells_what_the_published_protocol_makes_of_the_same_data(gaps):
    compared = gaps.together()
    single = compared[compared["claim"] == "focal_beats_ce"].assign(protocol="paper", mean=0.5, low=0.25, high=0.75)
    said = answer_text(pd.concat([single, compared], ignore_index=True), margin=0.02)
    assert said.endswith("focal loss minus cross entropy: +0.500 [+0.250, +0.750]; not judged.")


def test_claims_in_print_count_checks():
    told = claims_in_print().set_index("claim")["in_print"]
    assert told["This improved the model accuracy by 6.6 %"] == "0 of 1 checks agree"
    assert told["for all ρ, resulting in higher F1-scores"] == "1 of 1 checks agree"


def test_figures_draw_every_rung_and_no_picture(gaps):
    rows, slopes = gaps.ladder(), gaps.slopes()
    figure = plot_gaps_by_rho(rows, slopes, 0.02)
    ax = figure.axes[0]
    lines = [line for line in ax.get_lines() if line.get_linestyle() == "--"]
    rise = [line.get_ydata()[-1] - line.get_ydata()[0] for line in lines]
    assert rise == pytest.approx(slopes["mean"].tolist())
    adjusted = adjust_for_families(gaps.together())
    answer = plot_answer(adjusted[adjusted["family"] == PRIMARY], rows, slopes, 0.02)
    assert not any(ax.images for ax in answer.axes)
    assert len(plot_answer(adjusted[:1], rows[:0], slopes[:0], 0.02).axes) == 1
