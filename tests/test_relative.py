"""Relative improvement against arithmetic that can be done by hand."""

import numpy as np
import pytest
from conftest import noisy

from rbcnb.metrics import macro_f1
from rbcnb.relative import relative_gain


def test_a_rival_that_never_varies_leaves_the_seeds_variance_of_the_scores(predictions):
    first = [noisy(predictions, 0.8, seed) for seed in range(4)]
    second = [noisy(predictions, 0.6, 9)] * 4
    gain = relative_gain([(first, second)], score="macro_f1", seed=0, n_bootstrap=100)
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
    gain = relative_gain([(first, second)], score="accuracy", seed=0, n_bootstrap=50)
    a, b = (np.array([(t["pred"] == t["target"]).mean() for t in side]) for side in (first, second))
    step = 1e-6
    for s, value in enumerate(gain.by_seed):
        weights = np.full(3, 1 / 3) * (1 - step)
        weights[s] += step
        moved = 100 * ((weights @ a) / (weights @ b) - 1)
        assert gain.mean + (moved - gain.mean) / step == pytest.approx(value, abs=1e-2)


def test_equal_methods_gain_nothing_for_sure(predictions):
    same = [noisy(predictions, 0.7, seed) for seed in range(3)]
    gain = relative_gain([(same, same)] * 2, score="macro_f1", seed=0, n_bootstrap=50)
    assert (gain.mean, gain.low, gain.high) == pytest.approx((0, 0, 0))


def test_architectures_must_pair(predictions):
    same = [noisy(predictions, 0.7, seed) for seed in range(3)]
    with pytest.raises(ValueError, match="same seeds"):
        relative_gain([(same, same), (same[:2], same[:2])], score="accuracy", seed=0)
