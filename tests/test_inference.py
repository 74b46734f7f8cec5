"""Intervals against closed cases, an independent computation and simulated coverage; verdicts by their definition."""

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import f1_score

from rbcnb.columns import CELL, CLASSES, GROUP, SMEAR
from rbcnb.inference import (
    INCONCLUSIVE,
    NOT_SUPPORTED,
    SUPPORTED,
    Difference,
    confusion_stack,
    judge_alike,
    judge_gain,
    macro_f1_of_counts,
    paired_macro_f1,
)


def with_predictions(table: pd.DataFrame, right: float, seed: int) -> pd.DataFrame:
    """*table* with predictions that are right with probability *right*, else uniform."""
    rng = np.random.default_rng(seed)
    guess = rng.choice(CLASSES, len(table))
    return table.assign(pred=np.where(rng.random(len(table)) < right, table["target"], guess))


def test_macro_f1_of_counts_is_scikit_learns(predictions):
    stack = confusion_stack([predictions], CLASSES)
    assert stack.sum() == len(predictions)
    expected = f1_score(predictions["target"], predictions["pred"], average="macro")
    assert macro_f1_of_counts(stack.sum(axis=1))[0] == pytest.approx(expected, abs=1e-14)


@pytest.mark.filterwarnings("error")
def test_an_absent_class_is_left_out():
    assert macro_f1_of_counts(np.array([[2, 0, 0], [0, 3, 0], [0, 0, 0]])) == 1.0


def test_the_same_predictions_differ_by_exactly_nothing(predictions):
    tables = [predictions, with_predictions(predictions, 0.5, 3)]
    difference = paired_macro_f1(tables, tables, seed=0)
    assert (difference.mean, difference.low, difference.high) == (0, 0, 0)
    assert (difference.n_seeds, difference.n_groups) == (2, 12)


def test_the_mean_is_the_mean_of_the_seeds_differences(predictions):
    first = [with_predictions(predictions, 0.9, seed) for seed in range(3)]
    second = [with_predictions(predictions, 0.5, 10 + seed) for seed in range(3)]
    difference = paired_macro_f1(first, second, seed=0)
    by_seed = [
        f1_score(a["target"], a["pred"], average="macro") - f1_score(b["target"], b["pred"], average="macro")
        for a, b in zip(first, second, strict=True)
    ]
    assert difference.mean == pytest.approx(np.mean(by_seed), abs=1e-14)
    assert 0 < difference.low < difference.mean < difference.high
    back = paired_macro_f1(second, first, seed=0)
    assert (back.low, back.high) == pytest.approx((-difference.high, -difference.low), abs=1e-14)


def test_interval_equals_a_bootstrap_written_out(predictions):
    """One seed, so that only smears are drawn: rows of drawn smears are put together and scored by scikit-learn."""
    first, second = with_predictions(predictions, 0.8, 1), with_predictions(predictions, 0.6, 2)
    rng = np.random.default_rng(5)
    groups = sorted(predictions[GROUP].unique())
    draws = []
    for weights in rng.multinomial(len(groups), np.full(len(groups), 1 / len(groups)), size=200):
        rows = np.concatenate(
            [np.tile(np.flatnonzero(first[GROUP] == g), w) for g, w in zip(groups, weights, strict=True)]
        )
        scores = [f1_score(t["target"].iloc[rows], t["pred"].iloc[rows], average="macro") for t in (first, second)]
        draws.append(scores[0] - scores[1])
    low, high = np.quantile(draws, [0.025, 0.975])
    ours = paired_macro_f1([first], [second], seed=5, n_bootstrap=200)
    assert (ours.low, ours.high) == pytest.approx((low, high), abs=1e-12)


def test_coverage_of_the_interval_is_near_its_level():
    """Smears differ in difficulty for both methods; the true difference is known from a very large sample."""

    def sample(rng, n_groups):
        rows = []
        for group in range(n_groups):
            hard = rng.uniform(0.3, 0.9)
            target = rng.choice(CLASSES, 30, p=[0.2, 0.2, 0.6])
            guesses = [np.where(rng.random(30) < p, target, rng.choice(CLASSES, 30)) for p in (hard, hard - 0.15)]
            part = pd.DataFrame({SMEAR: f"{group}", CELL: range(30), GROUP: f"{group}", "target": target})
            rows.append(part.assign(one=guesses[0], two=guesses[1], **{f"prob_{name}": 0.0 for name in CLASSES}))
        table = pd.concat(rows, ignore_index=True)
        return [table.assign(pred=table[name]) for name in ("one", "two")]

    rng = np.random.default_rng(0)
    one, two = sample(rng, 3000)
    truth = np.subtract(*(f1_score(t["target"], t["pred"], average="macro") for t in (one, two)))
    hits = 0
    for _ in range(200):
        one, two = sample(rng, 20)
        interval = paired_macro_f1([one], [two], seed=0, n_bootstrap=400)
        hits += interval.low <= truth <= interval.high
    # Percentile intervals over 20 groups fall a little short of 95 %; 0.88 is 4.5 standard errors below it.
    assert 0.88 <= hits / 200 <= 0.995


def test_tables_that_do_not_pair_are_refused(predictions):
    with pytest.raises(ValueError, match="1 tables against 2"):
        paired_macro_f1([predictions], [predictions, predictions], seed=0)
    with pytest.raises(ValueError, match="same cells"):
        paired_macro_f1([predictions], [predictions.iloc[::-1]], seed=0)


def interval(low: float, high: float) -> Difference:
    return Difference((low + high) / 2, low, high, 0.95, 1, 1)


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
    [(-0.01, 0.01, SUPPORTED), (-0.01, 0.03, INCONCLUSIVE), (0.03, 0.05, NOT_SUPPORTED), (-0.05, -0.03, NOT_SUPPORTED)],
)
def test_verdict_of_being_alike(low, high, verdict):
    assert judge_alike(interval(low, high), margin=0.02) == verdict
