"""Relative improvement against arithmetic that can be done by hand."""

import numpy as np
import pandas as pd
import pytest
from conftest import noisy, ranked
from sklearn.metrics import roc_auc_score

from rbcnb.columns import CLASSES
from rbcnb.evaluation.inference import draw_groups
from rbcnb.evaluation.metrics import macro_f1, score_predictions
from rbcnb.evaluation.relative_gain import interval_of_gains, relative_gain, relative_improvement


def gain_of(pairs, **options):
    """The improvement with its interval."""
    return relative_gain(pairs, **options).interval()


def table3_of(**scores):
    """A table of one rho whose rows are (architecture, method) -> the same value for every score."""
    rows = [
        {"rho": 2.0, "architecture": name.split("__")[0], "method": name.split("__")[1]}
        | dict.fromkeys(("accuracy", "macro_f1", "auroc"), value)
        for name, values in scores.items()
        for value in values
    ]
    return pd.DataFrame(rows)


def test_relative_improvement_averages_the_architectures_ratios():
    # +10 % and +30 %: a ratio of means would give 0.8 + ... = +18 %, not the mean of the two.
    table = table3_of(a__focal=[0.66], a__cross_entropy=[0.60], b__focal=[0.52], b__cross_entropy=[0.40])
    row = relative_improvement(table).iloc[0]
    assert row[["accuracy", "macro_f1", "auroc"]].tolist() == pytest.approx([20.0] * 3)


def test_relative_improvement_averages_draws_first():
    table = table3_of(a__focal=[0.5, 0.7], a__cross_entropy=[0.4, 0.6], a__over_sampling=[0.9])
    assert relative_improvement(table)["macro_f1"].tolist() == pytest.approx([100 * (0.6 / 0.5 - 1)])


def test_relative_improvement_wants_both_methods_everywhere():
    table = table3_of(a__focal=[0.5], a__cross_entropy=[0.4], b__focal=[0.6])
    with pytest.raises(ValueError, match="both methods"):
        relative_improvement(table)
    with pytest.raises(ValueError, match="both methods"):
        relative_improvement(table[table["method"] == "focal"])


def test_a_rival_that_never_varies_leaves_the_seeds_variance_of_the_scores(predictions):
    first = [noisy(predictions, 0.8, seed) for seed in range(4)]
    second = [noisy(predictions, 0.6, 9)] * 4
    gain = gain_of([(first, second)], score="macro_f1", seed=0, n_bootstrap=100)
    ratios = [
        macro_f1(a["target"], a["pred"]) / macro_f1(b["target"], b["pred"]) for a, b in zip(first, second, strict=True)
    ]
    assert gain.mean == pytest.approx(100 * (np.mean(ratios) - 1))
    assert gain.of_seeds == pytest.approx(np.var(100 * np.array(ratios), ddof=1) / 4)


def test_the_linear_part_is_the_delta_method(predictions):
    """Against a numerical derivative: each seed's weight moved a little, the ratio of weighted means follows."""
    first, second = (
        [noisy(predictions, right, seed) for seed in seeds] for right, seeds in ((0.8, (0, 1, 2)), (0.5, (3, 4, 5)))
    )
    gain = gain_of([(first, second)], score="accuracy", seed=0, n_bootstrap=50)
    a, b = (np.array([(t["pred"] == t["target"]).mean() for t in side]) for side in (first, second))
    step = 1e-6
    for s, value in enumerate(gain.by_seed):
        weights = np.full(3, 1 / 3) * (1 - step)
        weights[s] += step
        moved = 100 * ((weights @ a) / (weights @ b) - 1)
        assert gain.mean + (moved - gain.mean) / step == pytest.approx(value, abs=1e-2)


def test_equal_methods_gain_nothing_for_sure(predictions):
    same = [noisy(predictions, 0.7, seed) for seed in range(3)]
    gain = gain_of([(same, same)] * 2, score="macro_f1", seed=0, n_bootstrap=50)
    assert (gain.mean, gain.low, gain.high) == pytest.approx((0, 0, 0))


def test_architectures_must_pair(predictions):
    same = [noisy(predictions, 0.7, seed) for seed in range(3)]
    with pytest.raises(ValueError, match="same seeds"):
        relative_gain([(same, same), (same[:2], same[:2])], score="accuracy", seed=0)


def macro_auroc(table) -> float:
    """By scikit-learn."""
    return np.mean([roc_auc_score(table["target"] == name, table[f"prob_{name}"]) for name in CLASSES])


def test_a_draw_without_the_ranking_of_a_class_is_left_out(predictions):
    lacking = predictions[(predictions["group"] != "00.png") | (predictions["target"] == "normal")].reset_index(
        drop=True
    )
    gain = gain_of([([lacking] * 2, [ranked(lacking, 0.5, seed) for seed in (1, 2)])], score="auroc", seed=0)
    assert np.isfinite([gain.mean, gain.low, gain.high]).all()


def test_auroc_has_the_interval_of_the_bootstrap_done_slowly(predictions):
    first, second = ([ranked(predictions, right, seed) for seed in (1, 2, 3)] for right in (1.2, 0.9))
    gain = gain_of([(first, second)], score="auroc", seed=5, n_bootstrap=15)
    groups = np.unique(predictions["group"])
    slow = []
    for row in draw_groups(12, seed=5, n_bootstrap=15).astype(int):
        drawn = predictions.index.repeat(predictions["group"].map(dict(zip(groups, row, strict=True))))
        a, b = (np.mean([macro_auroc(t.loc[drawn]) for t in side]) for side in (first, second))
        slow.append(100 * (a / b - 1))
    a, b = (np.mean([score_predictions(t)["auroc"] for t in side]) for side in (first, second))
    assert gain.mean == pytest.approx(100 * (a / b - 1))
    assert gain.of_groups == pytest.approx(np.var(slow) * 12 / 11)
    with pytest.raises(ValueError, match="no relative improvement of 'mcc'"):
        relative_gain([(first, second)], score="mcc", seed=0)


def test_a_sum_of_gains_is_that_of_their_seeds_and_draws(predictions):
    """F1's gain minus accuracy's, against the bootstrap done slowly."""
    first, second = (
        [noisy(predictions, right, seed + add) for seed in range(3)] for right, add in ((0.8, 0), (0.6, 9))
    )
    gains = [
        relative_gain([(first, second)], score=score, seed=5, n_bootstrap=15) for score in ("macro_f1", "accuracy")
    ]
    both = interval_of_gains([(0.5, gains[0]), (-2.0, gains[1])])

    def summed(tables):
        scores = [
            np.mean([[score_predictions(t)[s] for s in ("macro_f1", "accuracy")] for t in side], axis=0)
            for side in tables
        ]
        return 100 * (scores[0] / scores[1] - 1) @ [0.5, -2.0]

    groups, slow = np.unique(predictions["group"]), []
    for row in draw_groups(12, seed=5, n_bootstrap=15).astype(int):
        drawn = predictions.index.repeat(predictions["group"].map(dict(zip(groups, row, strict=True))))
        slow.append(summed([[t.loc[drawn] for t in side] for side in (first, second)]))
    assert both.mean == pytest.approx(summed([first, second]))
    assert both.of_groups == pytest.approx(np.var(slow) * 12 / 11)
    by_seed = 0.5 * np.array(gains[0].interval().by_seed) - 2 * np.array(gains[1].interval().by_seed)
    assert both.by_seed == pytest.approx(tuple(by_seed))
    fewer = relative_gain([(first[:2], second[:2])], score="accuracy", seed=5, n_bootstrap=15)
    with pytest.raises(ValueError, match="same seeds"):
        interval_of_gains([(1.0, gains[0]), (-1.0, fewer)])
