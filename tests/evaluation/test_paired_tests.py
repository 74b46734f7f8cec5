"""Tests of paired differences against scipy, cases worked by hand, and their size on methods that are equal."""

import itertools
import math

import numpy as np
import pytest
from scipy import stats

from rbcnb.evaluation.hypothesis_tests import (
    N_FLIPS,
    corrected_resampled_t,
    d_z,
    mcnemar,
    mcnemar_p,
    sign_flip,
    win_share,
)

PAIRS = np.array([0.03, -0.01, 0.02, 0.05, 0.01, 0.04, -0.02])


def test_all_signs_are_tried():
    flipped = [abs(np.dot(signs, PAIRS)) for signs in itertools.product((-1, 1), repeat=7)]
    assert sign_flip(PAIRS) == np.mean(np.array(flipped) >= abs(PAIRS.sum()) - 1e-12)


def test_few_pairs_cannot_be_significant():
    assert sign_flip([0.1, 0.2, 0.3]) == 2 / 2**3
    assert sign_flip([0.1] * 5) == 2 / 2**5 > 0.05 > sign_flip([0.1] * 6)
    assert math.isnan(sign_flip([0.1]))
    assert math.isnan(sign_flip([math.nan, 0.1, 0.2]))
    assert sign_flip([0.0, 0.0]) == 1


def test_signs_that_add_up_alike_tie_in_any_order():
    # 0.1 + 0.2 - 0.3 is not 0 in binary: flips whose sums are equal in truth must count as equal.
    assert sign_flip([0.1, 0.2, 0.3, 0.4]) == sign_flip([0.4, 0.3, 0.2, 0.1]) == 2 / 16
    assert sign_flip([0.1, 0.2, -0.3]) == 1


def test_random_signs_are_near_the_exact_p():
    many = np.random.default_rng(0).normal(0.15, 0.4, 17)  # one more than are tried exhaustively
    signs = 1 - 2 * ((np.arange(2**17)[:, None] >> np.arange(17)) & 1)
    exact = np.mean(np.abs(signs @ many) >= abs(many.sum()))
    assert sign_flip(many, seed=1) == pytest.approx(exact, abs=4 * math.sqrt(exact * (1 - exact) / N_FLIPS))


@pytest.mark.slow
def test_sign_flip_keeps_its_size():
    """Heavy tails of equal methods: the exact test's p is below 0.05 in 5 % at most (50 of 1024 signs: 4.9 %)."""
    rng = np.random.default_rng(0)
    rejected = sum(sign_flip(rng.standard_t(2, 10)) < 0.05 for _ in range(600))
    low, high = stats.binom.ppf([0.001, 0.999], 600, 50 / 1024)
    assert low <= rejected <= high


@pytest.mark.parametrize("counts", [(0, 0), (5, 0), (3, 9), (40, 61), (7, 7)])
def test_mcnemar_is_scipys_binomial_test(counts):
    expected = stats.binomtest(counts[0], sum(counts)).pvalue if sum(counts) else 1.0
    assert mcnemar_p(*counts) == pytest.approx(expected, rel=1e-12)


def test_mcnemar_counts_who_alone_is_right(predictions):
    first, second = predictions.head(6), predictions.head(6)
    wrong = {"codocyte": "normal", "normal": "codocyte", "hypochromia": "normal"}
    first = first.assign(pred=first["target"])
    second = second.assign(pred=[wrong[t] if i < 4 else t for i, t in enumerate(second["target"])])
    result = mcnemar(first, second)
    assert (result.first_only, result.second_only) == (4, 0)
    assert result.p_value == 2 / 2**4
    with pytest.raises(ValueError, match="same cells"):
        mcnemar(first, second.iloc[::-1])


def test_effect_sizes_by_hand():
    assert d_z([1.0, 3.0]) == pytest.approx(2 / math.sqrt(2))
    assert d_z(PAIRS) == pytest.approx(stats.ttest_1samp(PAIRS, 0).statistic / math.sqrt(7))
    assert math.isnan(d_z([0.1]))
    assert math.isnan(d_z([0.0, 0.0]))
    assert d_z([-1.0, -1.0]) == -math.inf
    assert d_z([0.1, 0.1, 0.1]) == math.inf  # whose sd in floating point is not quite 0
    share, low, high = win_share([1, 2, 3, 4, 5])
    assert (share, high) == (1, 1)
    assert low == pytest.approx(0.025 ** (1 / 5))  # Clopper and Pearson with all won
    assert win_share([1, -1, 0])[0] == 0.5


def test_share_of_wins_holds_its_level_with_ties():
    """Wins 0.5, ties 0.3: P(A > B) is 0.65, and the interval misses it in 5 % of draws at most, on each side 2.5 %."""
    chances = stats.multinomial(9, [0.5, 0.3, 0.2])
    missed = np.zeros(2)
    for won in range(10):
        for tied in range(10 - won):
            _, low, high = win_share([1] * won + [0] * tied + [-1] * (9 - won - tied))
            missed += chances.pmf([won, tied, 9 - won - tied]) * np.array([low > 0.65, high < 0.65])
    assert (missed <= 0.025).all()
    assert missed.sum() > 0


def test_corrected_t_by_hand():
    """d = 1, 2, 3 on folds with a quarter tested: mean 2, s2 = 1, error sqrt(1/3 + 1/4) = sqrt(7/12)."""
    test = corrected_resampled_t([1, 2, 3], n_train=8, n_test=2)
    assert test.t == pytest.approx(2 / math.sqrt(7 / 12))
    assert test.p_value == pytest.approx(2 * stats.t.sf(2 / math.sqrt(7 / 12), 2))
    low, high = stats.t.interval(0.95, 2, loc=2, scale=math.sqrt(7 / 12))
    assert (test.low, test.high) == pytest.approx((low, high))


def test_corrected_t_without_overlap_is_the_plain_one():
    test, plain = corrected_resampled_t(PAIRS, n_train=1, n_test=0), stats.ttest_1samp(PAIRS, 0)
    assert (test.t, test.p_value) == pytest.approx((plain.statistic, plain.pvalue))
    assert corrected_resampled_t([0.0, 0.0], n_train=4, n_test=1).p_value == 1
    assert math.isnan(corrected_resampled_t([0.1, 0.1, 0.1], n_train=4, n_test=1).p_value)
    with pytest.raises(ValueError, match="two at least"):
        corrected_resampled_t([0.1], n_train=4, n_test=1)


def test_equal_predictions_are_never_told_apart(predictions):
    assert mcnemar(predictions, predictions).p_value == 1
