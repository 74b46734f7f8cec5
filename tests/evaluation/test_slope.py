"""The slope on log rho against least squares, and its coverage where rungs share smears."""

import numpy as np
import pytest
from conftest import noisy
from scipy import stats
from simulated_fits import Population

from rbcnb.columns import CELL
from rbcnb.evaluation.inference import (
    contrast_of,
    differences_of_counts,
    draw_groups,
    gaps_on_ladder,
    interval_of,
    paired_macro_f1,
)
from rbcnb.evaluation.metrics import macro_f1, score_predictions


@pytest.fixture
def ladder(predictions):
    rights = {2.03: (0.9, 0.8), 7.8: (0.9, 0.6), 37.9: (0.9, 0.3)}
    return [
        {rho: [noisy(predictions, right[m], 10 * m + seed) for seed in range(3)] for rho, right in rights.items()}
        for m in (0, 1)
    ]


def test_slope_is_least_squares_through_all_seeds_points(ladder):
    first, second = ladder
    points = [
        (np.log2(rho), macro_f1(a["target"], a["pred"]) - macro_f1(b["target"], b["pred"]))
        for rho in first
        for a, b in zip(first[rho], second[rho], strict=True)
    ]
    slope = gaps_on_ladder(first, second, seed=0, n_bootstrap=200).slope()
    assert slope.mean == pytest.approx(stats.linregress(*zip(*points, strict=True)).slope, rel=1e-12)
    assert slope.low > 0
    assert (slope.n_seeds, slope.n_groups) == (3, 12)


def test_two_rungs_are_a_difference_of_differences(ladder):
    """The slope over one doubling is rung 2 minus rung 1, seed by seed: so is its seeds' variance."""
    first, second = ({2.0: side[2.03], 4.0: side[37.9]} for side in ladder)
    slope = gaps_on_ladder(first, second, seed=0, n_bootstrap=50).slope()
    lower, upper = (paired_macro_f1(first[rho], second[rho], seed=0, n_bootstrap=50) for rho in (2.0, 4.0))
    gaps = np.subtract(upper.by_seed, lower.by_seed)
    assert slope.by_seed == pytest.approx(tuple(gaps))
    assert slope.of_seeds == pytest.approx(np.var(gaps, ddof=1) / 3)


def test_without_a_rung_the_slope_is_that_of_the_rungs_left(ladder):
    gaps = gaps_on_ladder(*ladder, seed=3, n_bootstrap=80)
    for rho in gaps.rhos:
        left = ({r: tables for r, tables in side.items() if r != rho} for side in ladder)
        assert gaps.without(rho).slope() == gaps_on_ladder(*left, seed=3, n_bootstrap=80).slope()
    assert gaps.without(2.03).doublings == pytest.approx(np.log2(37.9 / 7.8))


def test_a_slope_at_other_prevalences_is_that_of_weighted_scores(ladder):
    priors = {2.03: {"codocyte": 1, "hypochromia": 1, "normal": 2}, 7.8: "natural", 37.9: "balanced"}
    points = [
        (np.log2(rho), np.subtract(*(score_predictions(table, prior=priors[rho])["macro_f1"] for table in pair)))
        for rho in priors
        for pair in zip(ladder[0][rho], ladder[1][rho], strict=True)
    ]
    slope = gaps_on_ladder(*ladder, seed=0, n_bootstrap=20, priors=priors).slope()
    assert slope.mean == pytest.approx(stats.linregress(*zip(*points, strict=True)).slope, rel=1e-9)


def test_other_rungs_cells_or_seeds_are_refused(ladder, predictions):
    first, second = ladder
    with pytest.raises(ValueError, match="same two or more rungs"):
        gaps_on_ladder(first, {2.03: second[2.03]}, seed=0).slope()
    other_cells = predictions.assign(**{CELL: predictions[CELL] + 1000})
    moved = {rho: [noisy(other_cells, 0.5, 0)] * 3 if rho > 30 else tables for rho, tables in first.items()}
    with pytest.raises(ValueError, match="same cells"):
        gaps_on_ladder(moved, moved, seed=0).slope()
    fewer = {rho: tables[: 2 if rho > 30 else 3] for rho, tables in first.items()}
    with pytest.raises(ValueError, match="number of seeds"):
        gaps_on_ladder(fewer, fewer, seed=0).slope()


def test_coverage_of_the_slope():
    """Four rungs on the same eight smears, five fits each, methods alike on every rung: the slope is 0."""
    population, contrast = Population(cells_per_smear=30, uneven=True), contrast_of([2, 4, 8, 16])
    held = 0
    for i in range(200):
        rng = np.random.default_rng([5, i])
        first, second = (stack.reshape(4, 5, *stack.shape[1:]) for stack in population.draw(rng, 8, 20))

        def slopes(weights, first=first, second=second):
            gaps = [differences_of_counts(a, b, weights) for a, b in zip(first, second, strict=True)]
            return np.tensordot(contrast, np.stack(gaps), axes=1)

        drawn = slopes(draw_groups(8, seed=i, n_bootstrap=150)).mean(axis=1)
        interval = interval_of(slopes(np.ones((1, 8)))[0], drawn, n_groups=8)
        held += interval.low <= 0 <= interval.high
    # 200 draws at 0.95: fewer than 181 come with probability 0.003. Wider than nominal is told, not refused.
    assert held >= 181
