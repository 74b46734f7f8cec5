import numpy as np
import pandas as pd
import pytest
from scipy.special import softmax

from rbcnb.columns import CLASSES, GROUP, PRED, TARGET, UNSURE, prob_columns
from rbcnb.counting.abstention import call_cells, choose_threshold, confusion_by_group, threshold_curve


def drawn(n=4000, *, seed=0):
    """Predictions whose targets are drawn from the probabilities that are told."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 2.5, (n, 3))
    true = softmax(logits, axis=1)
    targets = (true.cumsum(axis=1) < rng.random((n, 1))).sum(axis=1).clip(0, 2)
    names = np.array(CLASSES)
    table = pd.DataFrame({TARGET: names[targets], PRED: names[logits.argmax(axis=1)]})
    table[GROUP] = [f"{i % 10}.png" for i in range(n)]
    table[prob_columns(CLASSES)] = true
    return table


def test_calls_are_the_largest_probability_or_unsure():
    probabilities = np.array([[0.5, 0.3, 0.2], [0.2, 0.79, 0.01], [0.1, 0.1, 0.8]])
    assert list(call_cells(probabilities, CLASSES, threshold=0.79)) == [UNSURE, "hypochromia", "normal"]
    assert UNSURE not in call_cells(probabilities, CLASSES, threshold=0.0)
    assert len(call_cells(np.empty((0, 3)), CLASSES, threshold=0.5)) == 0


def test_the_curve_is_what_applying_each_threshold_gives():
    table = drawn(300)
    probabilities = table[prob_columns(CLASSES)].to_numpy()
    curve = threshold_curve(table)
    for row in curve.iloc[::50].itertuples():
        calls = call_cells(probabilities, CLASSES, threshold=row.threshold)
        right = [np.mean(table[TARGET][calls == name] == name) for name in CLASSES if (calls == name).any()]
        assert row.precision == pytest.approx(np.mean(right))
        assert row.sure == pytest.approx(np.mean(calls != UNSURE))


def test_the_lowest_threshold_with_the_precision_is_chosen():
    table = drawn()
    threshold, row = choose_threshold(table, precision=0.9)
    curve = threshold_curve(table)
    lower = curve[(curve["threshold"] < threshold) & (curve["least_sure"] >= 0.5)]
    assert row["precision"] >= 0.9 > lower["precision"].max()
    assert 0 < threshold < 1
    # On other cells of the same kind it keeps its word, within the noise of a thousand calls.
    other = drawn(seed=1)
    calls = call_cells(other[prob_columns(CLASSES)].to_numpy(), CLASSES, threshold=threshold)
    precision = np.mean([np.mean(other[TARGET][calls == name] == name) for name in CLASSES])
    assert precision == pytest.approx(0.9, abs=0.02)


def test_nothing_is_unsure_where_all_calls_are_good_enough_and_the_best_is_taken_where_none_is():
    table = drawn()
    assert choose_threshold(table, precision=0.3)[0] == 0.0
    best, row = choose_threshold(table, precision=1.1)
    assert row["asked"] == 1.1
    assert row["precision"] < 1.1
    curve = threshold_curve(table).set_index("threshold")
    assert curve.loc[best, "least_sure"] >= 0.5


def test_confusion_adds_up_and_agrees_with_crosstab():
    table = drawn(500)
    counts = confusion_by_group(table, threshold=0.8)
    assert counts.shape == (10, 4, 3)
    assert counts.sum() == 500
    calls = call_cells(table[prob_columns(CLASSES)].to_numpy(), CLASSES, threshold=0.8)
    expected = pd.crosstab(calls, table[TARGET]).reindex(index=[*CLASSES, UNSURE], columns=CLASSES)
    assert np.array_equal(counts.sum(axis=0), expected.to_numpy())
