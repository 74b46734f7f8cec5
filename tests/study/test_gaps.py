"""Gaps from stored fits against the functions that they are made of, on a small ladder with known chances."""

from dataclasses import asdict, replace

import numpy as np
import pandas as pd
import pytest
from conftest import make_predictions, noisy
from scipy import stats

from rbcnb.evaluation.hypothesis_tests import benjamini_hochberg, corrected_resampled_t, holm
from rbcnb.evaluation.inference import INCONCLUSIVE, gaps_on_ladder, paired_macro_f1
from rbcnb.evaluation.metrics import score_predictions
from rbcnb.evaluation.prior_shift import shift_predictions
from rbcnb.evaluation.relative_gain import relative_improvement
from rbcnb.evaluation.verdicts import PRIMARY, REST, adjust_for_families, answer_text, claims_in_print, judge_claims
from rbcnb.plotting.comparisons import plot_answer, plot_gaps_by_rho
from rbcnb.study.gaps import Gaps
from rbcnb.study.store import store_result
from rbcnb.training.fit import TrialResult
from rbcnb.training.trial import Trial

RHOS = (2.0, 4.0, 8.0)
TRIALS = {
    "cross_entropy": Trial(protocol="honest", epochs=2),
    "focal": Trial(protocol="honest", loss="focal", alpha=1.0, gamma=2.0, epochs=3),
    "over_sampling": Trial(protocol="honest", resample="over", epochs=2),
}
RIGHT = {"cross_entropy": 0.6, "focal": 0.8, "over_sampling": 0.7}
KEPT = {2.0: "20/20/40", 4.0: "20/20/80", 8.0: "all"}  # of 20, 20 and 160 development cells
SMEARS = [f"{i:02}.png" for i in range(12)]


def split_of(predictions: pd.DataFrame, tested: list[str]) -> pd.DataFrame:
    """A cells table whose test cells are those of *tested*, with 200 development cells of 24 other smears."""
    chosen = predictions[predictions["group"].isin(tested)]
    test = chosen[["group", "target"]].rename(columns={"target": "label"}).assign(split="test")
    dev = pd.DataFrame({"label": ["codocyte"] * 20 + ["hypochromia"] * 20 + ["normal"] * 160, "split": "dev"})
    return pd.concat([test, dev.assign(group=[f"dev{i % 24}" for i in range(200)])], ignore_index=True)


def make_gaps(store, parts):
    """Three methods with three seeds on the whole data set; on the ladder over-sampling has two of them.

    *parts*: the smears that each outer split tests.
    """
    predictions = make_predictions()

    def fit(method, seed, rho, outer, kept="all"):
        trial = replace(TRIALS[method], seed=seed, outer=outer, dev_counts=kept)
        right = RIGHT[method] + (0.1 if method == "focal" and rho == RHOS[-1] else 0)
        table = noisy(predictions, right, 100 * seed + int(rho) + len(method))
        blur = np.random.default_rng([seed, int(rho)]).uniform(0, 1 - right, (len(table), 3))
        probs = [name for name in table if name.startswith("prob_")]
        is_call = np.array([f"prob_{name}" for name in table["pred"]])[:, None] == np.array(probs)
        values = np.where(is_call, 0.5, 0.1) + blur  # what AUROC ranks by differs, too
        table[probs] = values / values.sum(axis=1, keepdims=True)
        table = table[table["group"].isin(parts[outer])].reset_index(drop=True)
        falling = (1.2 if method == "focal" else 1.0) * (1 + 0.1 * seed) / np.arange(1, trial.epochs + 1)
        nothing = {"train_loss": 0.0, "valid_loss": np.nan, "valid_ce": np.nan, "valid_macro_f1": np.nan}
        curves = pd.DataFrame({"epoch": range(1, trial.epochs + 1), "train_ce": falling}).assign(**nothing)
        data = f"{rho}-{outer}"
        result = TrialResult(trial, score_predictions(table), curves, table, 100, 1.0, "cpu", 32)
        key = store_result(result, store, data=data)
        return {**asdict(trial), "method": method, "key": key, "data": data, **result.scores}

    outers = range(len(parts))
    final = [fit(method, seed, 0, outer) for method in TRIALS for seed in range(3) for outer in outers]
    climbed = [
        fit(method, seed, rho, outer, KEPT[rho]) | {"arm": "table2", "rho": rho}
        for rho in RHOS
        for method in TRIALS
        for seed in range(2 if method == "over_sampling" else 3)
        for outer in outers
    ]
    splits = {f"honest_{i}" if i else "honest": split_of(predictions, tested) for i, tested in enumerate(parts)}
    return Gaps(pd.DataFrame(final), pd.DataFrame(climbed), store, splits, margin=0.02, seed=0)


@pytest.fixture(scope="module")
def gaps(tmp_path_factory):
    """One outer split."""
    return make_gaps(tmp_path_factory.mktemp("gaps"), [SMEARS])


@pytest.fixture(scope="module")
def split_gaps(tmp_path_factory):
    """Two outer splits: every smear tested once."""
    return make_gaps(tmp_path_factory.mktemp("gaps"), [SMEARS[:6], SMEARS[6:]])


def tables(gaps, method, rho=0, n=3):
    fits = gaps.climbed[gaps.climbed["rho"] == rho] if rho else gaps.final
    method_fits = fits[fits["method"] == method].sort_values("seed")
    whole = []
    for _, rows in method_fits.groupby("seed"):
        parts = pd.concat([pd.read_parquet(gaps.store / f"{key}.parquet") for key in rows["key"]])
        whole.append(parts.sort_values(["smear", "cell"], ignore_index=True) if len(rows) > 1 else parts)
    return whole[:n]


def pair(gaps, rho=0, n=3, names=("focal", "cross_entropy")):
    return [tables(gaps, name, rho, n) for name in names]


PRIORS = {
    2.0: {"codocyte": 1, "hypochromia": 1, "normal": 2},
    4.0: {"codocyte": 1, "hypochromia": 1, "normal": 4},
    8.0: {"codocyte": 1, "hypochromia": 1, "normal": 8},
}


def test_whole_data_set_and_rungs_are_differences_on_the_same_cells(gaps):
    base, rungs = gaps.base().set_index("claim"), gaps.rungs().set_index(["prevalence", "rho"])
    expected = paired_macro_f1(*pair(gaps), seed=0)
    assert base.loc["focal_beats_ce", ["mean", "low", "high"]].tolist() == [expected.mean, expected.low, expected.high]
    for rho in RHOS:
        for prevalence, prior in (("natural", "natural"), ("balanced", "balanced"), ("rung", PRIORS[rho])):
            expected = paired_macro_f1(*pair(gaps, rho), seed=0, prior=prior)
            assert rungs.loc[(prevalence, rho), "mean"] == pytest.approx(expected.mean, abs=1e-12)
            assert rungs.loc[(prevalence, rho), "low"] == pytest.approx(expected.low, abs=1e-12)
    # The claim is about Table 2's rungs as they are tested.
    assert rungs.loc["natural", "claim"].tolist() == ["f1_at_every_rho"] * 3
    assert set(rungs.loc["balanced", "claim"]) | set(rungs.loc["rung", "claim"]) == {""}


def test_slope_over_the_ladder_is_that_per_doubling_times_its_doublings(gaps):
    slopes = gaps.slopes().set_index("prevalence")
    ladders = [{rho: tables(gaps, name, rho) for rho in RHOS} for name in ("focal", "cross_entropy")]
    slope = gaps_on_ladder(*ladders, seed=0).slope()
    row = slopes.loc["natural"]
    assert row["doublings"] == 2
    assert row["per_doubling"] == slope.mean
    assert row["mean"] == pytest.approx(2 * slope.mean)
    assert row["high"] - row["low"] == pytest.approx(2 * (slope.high - slope.low))
    assert row["p"] == pytest.approx(slope.p_value)  # another unit, the same evidence
    assert slopes.loc["rung", "mean"] == pytest.approx(2 * gaps_on_ladder(*ladders, seed=0, priors=PRIORS).slope().mean)


def test_checks_leave_out_each_rung_and_correct_priors(gaps):
    checks = gaps.slope_checks().set_index(["prevalence", "check"])
    ladders = [{rho: tables(gaps, name, rho) for rho in RHOS} for name in ("focal", "cross_entropy")]
    for rho in RHOS:
        left = gaps_on_ladder(*({r: t for r, t in side.items() if r != rho} for side in ladders), seed=0).slope()
        row = checks.loc[("natural", f"without ρ {rho:g}")]
        assert row[["mean", "low", "high"]].tolist() == pytest.approx([2 * left.mean, 2 * left.low, 2 * left.high])
        assert row["survives"] == (left.low > 0)
        assert row["rungs"] == 2
    assert checks["p_flip_least"].dropna().eq(0.25).all()  # three seeds: two of eight signs
    assert (checks["p_flip"] >= 0.25).all()

    # Corrected in one step, the training prior out and the test's in, focal loss mapped back.
    tested = ladders[0][2.0][0]["target"].value_counts().to_dict()
    corrected = [
        {
            rho: [shift_predictions(t, old_prior=PRIORS[rho], new_prior=tested, gamma=gamma) for t in some]
            for rho, some in side.items()
        }
        for side, gamma in zip(ladders, (2.0, None), strict=True)
    ]
    slope = gaps_on_ladder(*corrected, seed=0).slope()
    row = checks.loc[("natural", "priors corrected")]
    assert row["mean"] == pytest.approx(2 * slope.mean)
    assert row["mean"] != pytest.approx(checks.loc[("natural", "all rungs"), "mean"])
    assert set(checks.index.get_level_values("check")) == {
        "all rungs", "without ρ 2", "without ρ 4", "without ρ 8", "priors corrected"
    }  # fmt: skip


def test_a_slope_of_two_rungs_cannot_be_checked_and_does_not_survive(gaps):
    two = replace(gaps, climbed=gaps.climbed[gaps.climbed["rho"] != 4.0])
    checks = two.slope_checks().query("prevalence == 'natural'").set_index("check")
    assert checks.loc[["without ρ 2", "without ρ 8"], "mean"].isna().all()
    assert not checks.loc[["without ρ 2", "without ρ 8"], "survives"].any()
    slope = two.slope_rows().query("prevalence == 'natural'").iloc[0]
    if slope["low"] > 0:
        assert "without ρ 2; without ρ 8" in slope["failed_checks"]
        assert slope["verdict"] == INCONCLUSIVE


def test_all_that_is_shown_is_one_family_beside_the_primary_contrasts(gaps):
    rows = gaps.rows
    primary = rows[rows["family"] == PRIMARY]
    assert sorted(primary["claim"]) == ["focal_beats_ce"]
    assert set(primary["prevalence"]) == {"natural"}
    np.testing.assert_allclose(primary["p_adjusted"], holm(primary["p"]))
    rest = rows[rows["family"] == REST]
    assert set(rest["table"]) == {"differences", "rivals", "secondary"}
    assert set(rest["prevalence"]) == {"natural", "balanced", "rung"}
    np.testing.assert_allclose(rest["p_adjusted"], benjamini_hochberg(rest["p"]))
    np.testing.assert_allclose(rest["against_adjusted"], benjamini_hochberg((2 * rest["p_against"]).clip(upper=1)))
    # Every table that tells a verdict or an adjusted p has it from there.
    shown = [gaps.table(name) for name in ("differences", "rivals", "secondary")]
    assert sum(map(len, shown)) == len(rows)
    assert pd.concat(shown)["p_adjusted"].tolist() == rows["p_adjusted"].tolist()
    slopes = gaps.slope_rows()
    assert slopes["p_adjusted"].tolist() == rows.loc[rows["doublings"].notna(), "p_adjusted"].tolist()
    pd.testing.assert_frame_equal(adjust_for_families(rows), rows)


def test_claims_are_judged_from_all_of_it(gaps):
    verdicts = judge_claims(gaps.rows)
    rows = gaps.rows[gaps.rows["claim"] != ""]
    assert len(verdicts) == rows["claim"].nunique()
    assert set(rows["claim"]) == {
        "focal_beats_ce", "over_sampling_in_line", "f1_at_every_rho", "gain_grows_with_rho", "auroc_all_classes",
        "less_biased", "converges_faster", "f1_gains_most", "accuracy_gain_falls",
    }  # fmt: skip
    assert rows.groupby("claim").size()["auroc_all_classes"] == 3


def test_rivals_are_compared_on_the_seeds_that_both_have(gaps):
    rivals = gaps.table("rivals")
    assert set(rivals["second"]) == {"cross_entropy"}
    natural = rivals[rivals["prevalence"] == "natural"]
    assert natural["n_seeds"].tolist() == [3, 2, 2, 2]  # the whole data set, then three rungs
    expected = paired_macro_f1(*pair(gaps, 8.0, 2, ("over_sampling", "cross_entropy")), seed=0)
    assert natural["mean"].iloc[-1] == expected.mean


def test_relative_improvement_has_its_point_in_its_interval(gaps):
    relative = gaps.relative("honest").set_index(["rho", "score"])
    points = relative_improvement(gaps.climbed).set_index("rho")
    assert set(relative.index.get_level_values("score")) == {"accuracy", "macro_f1", "auroc"}
    for rho, score in relative.index:
        row = relative.loc[(rho, score)]
        assert row["mean"] == pytest.approx(points.loc[rho, score])
        assert row["low"] < row["mean"] < row["high"]


def test_claims_of_figure_13_follow_from_its_points(gaps):
    points = relative_improvement(gaps.climbed).set_index("rho") / 100
    rows = gaps.table("secondary")
    most = rows[rows["claim"] == "f1_gains_most"].set_index("second")
    for other in ("accuracy", "auroc"):
        assert most.loc[other, "mean"] == pytest.approx((points["macro_f1"] - points[other]).mean())
        assert most.loc[other, "first"] == "macro_f1"
    falls = rows[rows["claim"] == "accuracy_gain_falls"].iloc[0]
    assert falls["question"] == "less"
    assert falls["mean"] == pytest.approx(2 * stats.linregress(np.log2(RHOS), points["accuracy"]).slope)


def test_plan_names_every_goal_and_says_never(gaps):
    plan = replace(gaps, margin=0.001).plan()
    assert set(plan["goal"]) == {"gain", "alike"}
    assert (plan["in_words"].str.startswith("never") == plan["seeds"].isna()).all()
    assert plan["seeds"].isna().any()


def test_outer_splits_are_pooled_and_the_interval_over_them_stands_beside(gaps, split_gaps):
    """The same predictions, dealt out to two outer splits: the same cells, the same differences."""
    whole, pooled = (fits_of.base().set_index("claim") for fits_of in (gaps, split_gaps))
    numbers = ["mean", "low", "high", "p"]
    pd.testing.assert_frame_equal(whole[numbers], pooled[numbers])
    assert "split_low" not in whole
    fits = split_gaps.final
    means = fits.pivot_table("macro_f1", index="method", columns="outer")
    expected = corrected_resampled_t(means.loc["focal"] - means.loc["cross_entropy"], n_train=24, n_test=6)
    row = pooled.loc["focal_beats_ce"]
    assert row[["split_mean", "split_low", "split_high"]].tolist() == pytest.approx(
        [expected.mean, expected.low, expected.high]
    )
    assert row["n_splits"] == 2
    text = answer_text(split_gaps.table("differences"), margin=0.02)
    assert f"over the 2 outer splits, Nadeau and Bengio: [{expected.low:+.3f}, {expected.high:+.3f}])" in text
    assert "The interval over smears and seeds decides" in text
    assert "outer splits" not in answer_text(gaps.table("differences"), margin=0.02)


def test_answer_tells_every_primary_contrast(gaps):
    compared = gaps.table("differences")
    text = answer_text(compared, margin=0.02)
    line = compared[compared["claim"] == "focal_beats_ce"].iloc[0]
    assert f"focal loss minus cross entropy: {line['mean']:+.3f} [{line['low']:+.3f}, {line['high']:+.3f}]" in text
    assert "over-sampling" not in text
    assert "n = 3 seeds, 12 test smears" in text
    slope = compared[compared["claim"] == "gain_grows_with_rho"].iloc[0]
    assert f"the gap changes by {slope['mean']:+.3f} [{slope['low']:+.3f}, {slope['high']:+.3f}]" in text
    assert text.count("the gap changes") == 1
    assert "not judged" not in text


def test_answer_is_the_same_from_a_table_that_was_saved(gaps, tmp_path):
    gaps.table("differences").to_csv(tmp_path / "differences.csv", index=False)
    saved = pd.read_csv(tmp_path / "differences.csv")
    assert answer_text(saved, margin=0.02) == answer_text(gaps.table("differences"), margin=0.02)


def test_answer_tells_what_the_published_protocol_makes_of_the_same_data(gaps):
    compared = gaps.table("differences")
    single = compared[compared["claim"] == "focal_beats_ce"].assign(protocol="paper", mean=0.5, low=0.25, high=0.75)
    text = answer_text(pd.concat([single, compared], ignore_index=True), margin=0.02)
    assert text.endswith("focal loss minus cross entropy: +0.500 [+0.250, +0.750]; not judged.")


def test_claims_in_print_count_checks():
    in_print = claims_in_print().set_index("claim")["in_print"]
    assert in_print["This improved the model accuracy by 6.6 %"] == "0 of 1 checks agree"
    assert in_print["for all ρ, resulting in higher F1-scores"] == "1 of 1 checks agree"


def test_figures_draw_every_rung_and_no_picture(gaps):
    rows, slopes = gaps.rungs(), gaps.slope_rows()
    figure = plot_gaps_by_rho(rows, slopes, 0.02)
    ax = figure.axes[0]
    lines = [line for line in ax.get_lines() if line.get_linestyle() == "--"]
    rise = [line.get_ydata()[-1] - line.get_ydata()[0] for line in lines]
    assert rise == pytest.approx(slopes["mean"].tolist())
    adjusted = gaps.table("differences")
    answer = plot_answer(adjusted[adjusted["family"] == PRIMARY], rows, slopes, 0.02)
    assert not any(ax.images for ax in answer.axes)
    assert len(plot_answer(adjusted[:1], rows[:0], slopes[:0], 0.02).axes) == 1
