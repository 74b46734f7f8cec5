"""Adjusted p values against the closed test procedure, the definition, and error rates simulated."""

from itertools import combinations

import numpy as np
import pytest

from rbcnb.evaluation.hypothesis_tests import benjamini_hochberg, holm

P = [0.011, 0.2, 0.004, 0.03, 0.03]


def test_holm_is_the_closed_bonferroni_test():
    """Holm rejects a hypothesis at alpha where every set of hypotheses it is in is rejected by Bonferroni."""
    for i, adjusted in enumerate(holm(P)):
        sets = [s for n in range(1, 6) for s in combinations(range(5), n) if i in s]
        assert adjusted == pytest.approx(min(1, max(len(s) * min(P[j] for j in s) for s in sets)))


def test_benjamini_hochberg_by_hand():
    # Sorted 0.004 0.011 0.03 0.03 0.2, times 5 over rank: 0.02 0.0275 0.05 0.0375 0.2, then the least of what follows.
    assert benjamini_hochberg(P) == pytest.approx([0.0275, 0.2, 0.02, 0.0375, 0.0375])


@pytest.mark.parametrize("adjust", [holm, benjamini_hochberg])
def test_what_was_not_tested_does_not_count(adjust):
    adjusted = adjust([*P, np.nan])
    assert adjusted[:5] == pytest.approx(adjust(P))
    assert np.isnan(adjusted[5])
    assert np.isnan(adjust([np.nan, np.nan])).all()
    assert adjust([0.03]) == [0.03]


def test_error_rates_are_kept():
    """Two true effects of six, 2000 families: Holm's chance of any false rejection, and BH's share of false ones."""
    rng = np.random.default_rng(0)
    p = rng.uniform(size=(2000, 6))
    p[:, :2] *= 0.01
    any_false = np.mean([(holm(row)[2:] < 0.05).any() for row in p])
    found = np.array([benjamini_hochberg(row) < 0.05 for row in p])
    false_share = np.mean(found[:, 2:].sum(axis=1) / np.maximum(1, found.sum(axis=1)))
    slack = 3 * np.sqrt(0.05 * 0.95 / 2000)
    assert any_false <= 0.05 + slack
    # Independent tests: exactly the share of true hypotheses times q on average.
    assert false_share == pytest.approx(0.05 * 4 / 6, abs=slack)
