"""The hierarchical bootstrap against scipy's BCa and a bootstrap written out."""

import numpy as np
import pytest
from scipy import stats
from simulated_fits import Population, bca_limits, hierarchical_bootstrap
from sklearn.metrics import f1_score

from rbcnb.columns import CLASSES
from rbcnb.evaluation.inference import draw_groups

RNG = np.random.default_rng(3)


def jackknife(values: np.ndarray, other: float = 0.0) -> np.ndarray:
    return (values.sum() - values) / (len(values) - 1) - other


def test_bca_limits_are_scipys_for_one_sample_and_for_two():
    x, y = RNG.gamma(1.0, size=15), RNG.gamma(2.0, size=9)
    theirs = stats.bootstrap((x,), np.mean, method="BCa", n_resamples=999, rng=0)
    ours = bca_limits(x.mean(), theirs.bootstrap_distribution, [jackknife(x)])
    assert ours == pytest.approx(tuple(theirs.confidence_interval), rel=1e-9)
    two = stats.bootstrap((x, y), lambda x, y, axis: x.mean(axis) - y.mean(axis), method="BCa", n_resamples=999, rng=0)
    drops = [jackknife(x, y.mean()), x.mean() - jackknife(y)]
    ours = bca_limits(x.mean() - y.mean(), two.bootstrap_distribution, drops)
    assert ours == pytest.approx(tuple(two.confidence_interval), rel=1e-9)


def test_draws_that_do_not_vary_have_no_width():
    assert bca_limits(0.0, np.zeros(10), [np.zeros(4)]) == (0, 0)


def test_percentile_limits_are_of_a_bootstrap_written_out():
    """Every draw as lists of cells of the drawn smears, scored by scikit-learn, then averaged over the drawn seeds."""
    first, second = Population(cells_per_smear=12).draw(np.random.default_rng(0), 4, 3)
    weights = draw_groups(4, seed=7, n_bootstrap=40).astype(int)
    seeds = np.random.default_rng([7, 1]).integers(3, size=(40, 3))

    def macro_f1(stack: np.ndarray, weight: np.ndarray) -> float:
        counts = (stack * weight[:, None, None]).sum(axis=0).astype(int)
        cells = [(CLASSES[t], CLASSES[p]) for t in range(3) for p in range(3) for _ in range(counts[t, p])]
        return f1_score(*zip(*cells, strict=True), average="macro")

    drawn = [
        np.mean([macro_f1(first[s], w) - macro_f1(second[s], w) for s in chosen])
        for w, chosen in zip(weights, seeds, strict=True)
    ]
    limits = hierarchical_bootstrap(first, second, seed=7, n_bootstrap=40, method="percentile")
    assert limits == pytest.approx(tuple(np.quantile(drawn, [0.025, 0.975])), abs=1e-12)


def test_the_rival_against_the_first_is_the_mirror_image():
    first, second = Population(gap=0.5).draw(np.random.default_rng(1), 6, 4)
    low, high = hierarchical_bootstrap(first, second, seed=0, n_bootstrap=300)
    assert hierarchical_bootstrap(second, first, seed=0, n_bootstrap=300) == pytest.approx((-high, -low), abs=1e-12)


def test_one_of_a_kind_cannot_be_drawn_from():
    first, second = Population().draw(np.random.default_rng(0), 5, 1)
    with pytest.raises(ValueError, match="1 seeds and 5 smears"):
        hierarchical_bootstrap(first, second, seed=0)
    with pytest.raises(ValueError, match="percentile or bca"):
        hierarchical_bootstrap(first, second, seed=0, method="basic")
