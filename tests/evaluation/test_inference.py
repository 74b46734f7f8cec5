"""Intervals against closed cases, an independent computation and simulated coverage; verdicts by their definition."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from conftest import noisy
from scipy import stats
from simulated_fits import Population
from sklearn.metrics import f1_score

from rbcnb.columns import CELL, CLASSES, GROUP, SMEAR
from rbcnb.evaluation.inference import (
    INCONCLUSIVE,
    NOT_JUDGED,
    NOT_SUPPORTED,
    SUPPORTED,
    Difference,
    confusion_stack,
    differences_of_counts,
    draw_groups,
    interval_of,
    judge_alike,
    judge_gain,
    judge_less,
    macro_f1_of_counts,
    paired_difference,
    paired_macro_f1,
)
from rbcnb.evaluation.metrics import score_predictions


def test_macro_f1_of_counts_is_scikit_learns(predictions):
    stack = confusion_stack([predictions], CLASSES)
    assert stack.sum() == len(predictions)
    expected = f1_score(predictions["target"], predictions["pred"], average="macro")
    assert macro_f1_of_counts(stack.sum(axis=1))[0] == pytest.approx(expected, abs=1e-14)


@pytest.mark.filterwarnings("error")
def test_an_absent_class_is_left_out():
    assert macro_f1_of_counts(np.array([[2, 0, 0], [0, 3, 0], [0, 0, 0]])) == 1.0


def test_the_same_predictions_differ_by_exactly_nothing(predictions):
    tables = [predictions, noisy(predictions, 0.5, 3)]
    difference = paired_macro_f1(tables, tables, seed=0)
    assert (difference.mean, difference.low, difference.high) == (0, 0, 0)
    assert (difference.n_seeds, difference.n_groups) == (2, 12)


def test_the_mean_is_the_mean_of_the_seeds_differences(predictions):
    first = [noisy(predictions, 0.9, seed) for seed in range(3)]
    second = [noisy(predictions, 0.5, 10 + seed) for seed in range(3)]
    difference = paired_macro_f1(first, second, seed=0)
    by_seed = [
        f1_score(a["target"], a["pred"], average="macro") - f1_score(b["target"], b["pred"], average="macro")
        for a, b in zip(first, second, strict=True)
    ]
    assert difference.mean == pytest.approx(np.mean(by_seed), abs=1e-14)
    assert difference.low < difference.mean < difference.high
    back = paired_macro_f1(second, first, seed=0)
    assert (back.low, back.high) == pytest.approx((-difference.high, -difference.low), abs=1e-14)


def test_variance_of_smears_equals_a_bootstrap_written_out(predictions):
    """One seed, so that only smears are drawn: rows of drawn smears are put together and scored by scikit-learn."""
    first, second = noisy(predictions, 0.8, 1), noisy(predictions, 0.6, 2)
    rng = np.random.default_rng(5)
    groups = sorted(predictions[GROUP].unique())
    draws = []
    for weights in rng.multinomial(len(groups), np.full(len(groups), 1 / len(groups)), size=60):
        rows = np.concatenate(
            [np.tile(np.flatnonzero(first[GROUP] == g), w) for g, w in zip(groups, weights, strict=True)]
        )
        scores = [f1_score(t["target"].iloc[rows], t["pred"].iloc[rows], average="macro") for t in (first, second)]
        draws.append(scores[0] - scores[1])
    error = np.sqrt(np.var(draws) * len(groups) / (len(groups) - 1))
    ours = paired_macro_f1([first], [second], seed=5, n_bootstrap=60)
    reach = stats.t.ppf(0.975, len(groups) - 1) * error
    assert (ours.low, ours.high) == pytest.approx((ours.mean - reach, ours.mean + reach), abs=1e-12)


def test_seeds_that_agree_on_identical_smears_leave_the_t_interval_of_the_seeds(predictions):
    """Every smear alike, so that the smears' variance is nil: what is left is the textbook t interval over seeds."""
    smear_rows = predictions[predictions[GROUP] == "00.png"]
    copies = [smear_rows.assign(**{SMEAR: name, GROUP: name}) for name in "abcd"]
    table = pd.concat(copies, ignore_index=True)
    right = table.assign(pred=table["target"])
    seeds = [pd.concat([noisy(smear_rows, 0.5, s)] * 4).assign(**{GROUP: table[GROUP].to_numpy()}) for s in range(3)]
    seeds = [t.reset_index(drop=True).assign(**{SMEAR: table[SMEAR], CELL: table[CELL]}) for t in seeds]
    difference = paired_macro_f1([right] * 3, seeds, seed=0)
    by_seed = [1 - f1_score(t["target"], t["pred"], average="macro") for t in seeds]
    low, high = stats.t.interval(0.95, 2, loc=np.mean(by_seed), scale=stats.sem(by_seed))
    assert (difference.low, difference.high) == pytest.approx((low, high), rel=1e-9)


@pytest.mark.parametrize(
    ("population", "n_groups", "n_seeds"),
    [
        (Population(), 10, 3),
        (Population(gap=0.5), 10, 5),
        (Population(heavy_tails=True, uneven=True), 6, 3),
        (Population(heavy_tails=True, uneven=True), 20, 10),
        (Population(smear_gap_sd=0.8, seed_sd=0.05), 10, 5),
    ],
    ids=["even", "gap", "few, heavy, uneven", "many, heavy, uneven", "smears"],
)
def test_coverage_of_the_interval_and_size_of_its_test(population, n_groups, n_seeds):
    """At least the level, but for what 250 draws let one see; benchmarks/coverage.py has the whole table."""
    truth = population.truth(np.random.default_rng(0), n_groups=1000, n_seeds=500) if population.gap else 0.0
    held = rejected = 0
    for i in range(250):
        first, second = population.draw(np.random.default_rng([7, i]), n_groups, n_seeds)
        drawn = differences_of_counts(first, second, draw_groups(n_groups, seed=i, n_bootstrap=150)).mean(axis=1)
        by_seed = differences_of_counts(first, second, np.ones((1, n_groups)))[0]
        interval = interval_of(by_seed, drawn, n_groups=n_groups)
        held += interval.low <= truth <= interval.high
        assert (interval.p_value < 0.05) == (not interval.low <= 0 <= interval.high)
        rejected += interval.p_value < 0.05
    # An interval that covers 0.95 holds the truth in fewer of the draws than this with probability 0.001.
    assert held >= stats.binom.ppf(0.001, 250, 0.95)
    assert population.gap or rejected <= stats.binom.ppf(0.999, 250, 0.05)


def test_a_repetition_counts_once_however_many_seeds_it_has():
    """Two divisions of five seeds: seeds of a division share what it brings, so its mean is one observation."""
    by_seed = np.array([0.10, 0.11, 0.09, 0.10, 0.10, 0.0, 0.01, -0.01, 0.0, 0.0])
    repetitions, none = np.repeat([0, 1], 5), np.zeros(50)
    ours = interval_of(by_seed, none, n_groups=100, repetitions=repetitions)
    low, high = stats.t.interval(0.95, 1, loc=0.05, scale=stats.sem([0.1, 0.0]))
    assert (ours.low, ours.high) == pytest.approx((low, high))
    assert (ours.n_seeds, ours.unit, ours.by_seed) == (2, "repetitions", pytest.approx((0.1, 0.0)))
    assert interval_of(by_seed, none, n_groups=100, repetitions=np.zeros(10)) == interval_of(
        by_seed, none, n_groups=100
    )

    rng, held = np.random.default_rng(0), {"each": 0, "repetitions": 0}
    for _ in range(400):  # the truth is 0
        drawn = np.repeat(rng.normal(0, 0.03, 2), 5) + rng.normal(0, 0.02, 10)
        for name, by in {"each": None, "repetitions": repetitions}.items():
            interval = interval_of(drawn, none, n_groups=100, repetitions=by)
            held[name] += interval.low <= 0 <= interval.high
    assert held["each"] < 0.75 * 400
    assert held["repetitions"] >= stats.binom.ppf(0.001, 400, 0.95)


def test_what_cannot_be_compared_is_refused(predictions):
    other = predictions.assign(target=predictions["target"].iloc[::-1].to_numpy())
    with pytest.raises(ValueError, match="same labels"):
        paired_macro_f1([predictions], [other], seed=0)
    with pytest.raises(ValueError, match="pred 'burr_cell' of 1 cells is not among codocyte"):
        confusion_stack([predictions.assign(pred=["burr_cell", *predictions["pred"].iloc[1:]])], CLASSES)


def test_the_interval_and_its_tests_are_one(predictions):
    """p is 1 - level where 0 is a limit; TOST is 0.05 where the 90 % interval touches the margin."""
    first = [noisy(predictions, 0.9, seed) for seed in range(3)]
    second = [noisy(predictions, 0.6, 10 + seed) for seed in range(3)]
    ours = paired_macro_f1(first, second, seed=0)
    touching = replace(ours, mean=ours.mean - ours.low)
    assert touching.p_value == pytest.approx(0.05)
    ninety = paired_macro_f1(first, second, seed=0, level=0.9)
    assert ours.p_alike(ninety.high) == pytest.approx(0.05)
    margin = abs(ours.mean) * 1.2
    both = [ours.mean + margin, margin - ours.mean]
    expected = max(stats.t.sf(np.array(both) / ours.error, ours.freedom))
    assert ours.p_alike(margin) == pytest.approx(expected)
    # One-sided: 0.025 where a limit of the 95 % interval touches the margin.
    assert ours.p_short(ours.high) == pytest.approx(0.025)
    assert ours.p_apart(ours.low) == pytest.approx(0.025)
    assert np.var(ours.by_seed, ddof=1) / 3 == pytest.approx(ours.of_seeds)


def test_identical_methods_have_p_one_and_are_alike(predictions):
    same = paired_macro_f1([predictions] * 2, [predictions] * 2, seed=0)
    assert (same.p_value, same.p_alike(0.02)) == (1, 0)
    assert judge_alike(same, margin=0.02) == SUPPORTED
    assert np.isnan(paired_macro_f1([predictions], [predictions], seed=0).p_value)


def test_a_balanced_difference_is_that_of_the_balanced_scores(predictions):
    first = [noisy(predictions, 0.9, seed) for seed in range(2)]
    second = [noisy(predictions, 0.5, 10 + seed) for seed in range(2)]
    by_seed = [
        score_predictions(a, prior="balanced")["macro_f1"] - score_predictions(b, prior="balanced")["macro_f1"]
        for a, b in zip(first, second, strict=True)
    ]
    assert paired_macro_f1(first, second, seed=0, prior="balanced").by_seed == pytest.approx(tuple(by_seed))


def test_another_prevalence_is_that_of_weighted_scores_and_of_drawn_cells(predictions):
    """In every bootstrap, too: its classes are weighted to the prior, whatever the drawn smears hold."""
    first, second = noisy(predictions, 0.9, 1), noisy(predictions, 0.5, 2)
    prior = {"codocyte": 1, "hypochromia": 2, "normal": 5}
    ours = paired_macro_f1([first], [second], seed=5, n_bootstrap=20, prior=prior)
    groups, drawn = np.unique(predictions[GROUP]), []
    for row in draw_groups(len(groups), seed=5, n_bootstrap=20).astype(int):
        times = predictions.index.repeat(predictions[GROUP].map(dict(zip(groups, row, strict=True))))
        ours_f1, theirs_f1 = (score_predictions(table.loc[times], prior=prior)["macro_f1"] for table in (first, second))
        drawn.append(ours_f1 - theirs_f1)
    ours_f1, theirs_f1 = (score_predictions(table, prior=prior)["macro_f1"] for table in (first, second))
    assert ours.mean == pytest.approx(ours_f1 - theirs_f1)
    assert ours.of_groups == pytest.approx(np.var(drawn) * 12 / 11)


@pytest.mark.parametrize("score", ["accuracy", "balanced_accuracy"])
def test_scores_of_counts_are_those_of_predictions(predictions, score):
    tables = [noisy(predictions, right, seed) for right, seed in ((0.9, 1), (0.4, 2))]
    high, low = (score_predictions(table)[score] for table in tables)
    assert paired_difference(tables[:1], tables[1:], seed=0, score=score).mean == pytest.approx(high - low)


def test_share_of_rare_cells_called_the_majority_is_counted(predictions):
    tables = [noisy(predictions, right, seed) for right, seed in ((0.9, 1), (0.4, 2))]
    careful, careless = ((table.loc[table["target"] != "normal", "pred"] == "normal").mean() for table in tables)
    found = paired_difference(tables[:1], tables[1:], seed=0, score="rare_called_majority")
    assert found.mean == pytest.approx(careful - careless)
    assert careful < careless
    renamed = [table.replace({"normal": "codocyte", "codocyte": "normal"}) for table in tables]
    again = paired_difference(renamed[:1], renamed[1:], seed=0, score="rare_called_majority")
    assert again.mean == pytest.approx(careful - careless)  # whichever class has most cells


def test_less_is_a_gain_turned_round(predictions):
    tables = [noisy(predictions, 0.9, seed) for seed in range(3)], [noisy(predictions, 0.5, seed) for seed in range(3)]
    gain, back = paired_macro_f1(*tables, seed=0), paired_macro_f1(*tables[::-1], seed=0)
    turned = gain.times(-1)
    for name in ("mean", "low", "high", "of_seeds", "of_groups", "by_seed", "p_value"):
        assert getattr(turned, name) == pytest.approx(getattr(back, name)), name
    assert judge_less(back, margin=0.02) == judge_gain(gain, margin=0.02) == SUPPORTED
    assert judge_less(gain, margin=0.02) == NOT_SUPPORTED


def test_without_smears_the_interval_is_students_over_seeds():
    by_seed = np.array([0.1, 0.3, 0.2, 0.5])
    ours = interval_of(by_seed, np.zeros(1), n_groups=0)
    low, high = stats.t.interval(0.95, 3, loc=by_seed.mean(), scale=stats.sem(by_seed))
    assert (ours.low, ours.high) == pytest.approx((low, high))
    assert ours.p_value == pytest.approx(stats.ttest_1samp(by_seed, 0).pvalue)


def test_tables_that_do_not_pair_are_refused(predictions):
    with pytest.raises(ValueError, match="1 tables against 2"):
        paired_macro_f1([predictions], [predictions, predictions], seed=0)
    with pytest.raises(ValueError, match="same cells"):
        paired_macro_f1([predictions], [predictions.iloc[::-1]], seed=0)


def interval(low: float, high: float, *, n_seeds: int = 3) -> Difference:
    """A 95 % interval from low to high with the variance that it must have, all of it of smears."""
    error = (high - low) / 2 / stats.t.ppf(0.975, 9)
    return Difference((low + high) / 2, low, high, 0.95, n_seeds, 10, 0.0, error**2)


def test_a_single_run_is_not_judged(predictions):
    sure = paired_macro_f1([predictions.assign(pred=predictions["target"])], [predictions], seed=0)
    assert sure.low > 0.02
    assert judge_gain(sure, margin=0.02) == judge_alike(sure, margin=0.02) == NOT_JUDGED
    assert judge_gain(interval(0.1, 0.2, n_seeds=1), margin=0.02) == NOT_JUDGED


def test_one_smear_gives_no_interval(predictions):
    smear_rows = predictions[predictions[GROUP] == "00.png"]
    with pytest.raises(ValueError, match="of one smear"):
        paired_macro_f1([smear_rows], [smear_rows], seed=0)


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [
        (0.01, 0.05, SUPPORTED),
        (-0.01, 0.05, INCONCLUSIVE),
        (-0.05, 0.01, NOT_SUPPORTED),
        (0.001, 0.01, NOT_SUPPORTED),  # better, but not by anything worth having
        (-0.05, -0.03, NOT_SUPPORTED),
    ],
)
def test_verdict_of_a_gain(low, high, verdict):
    assert judge_gain(interval(low, high), margin=0.02) == verdict


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [
        (-0.01, 0.01, SUPPORTED),
        (-0.01, 0.0205, SUPPORTED),  # its 90 % interval ends at 0.0177
        (-0.01, 0.03, INCONCLUSIVE),
        (0.03, 0.05, NOT_SUPPORTED),
        (-0.05, -0.03, NOT_SUPPORTED),
    ],
)
def test_verdict_of_being_alike(low, high, verdict):
    assert judge_alike(interval(low, high), margin=0.02) == verdict
