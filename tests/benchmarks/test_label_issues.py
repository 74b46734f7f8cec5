"""The rankings that the benchmark of label issues compares are cleanlab's."""

import numpy as np
import pytest
from label_issues import DOUBTS


@pytest.mark.parametrize("seed", range(4))
def test_rankings_are_cleanlabs(seed):
    rank = pytest.importorskip("cleanlab.rank")
    rng = np.random.default_rng(seed)
    given, probs = rng.integers(0, 3 + seed, 300), rng.dirichlet(np.ones(3 + seed), 300)
    names = {
        "self_confidence": ("self_confidence", False),
        "normalised_margin": ("normalized_margin", False),
        "adjusted_confidence": ("self_confidence", True),
        "weighted_entropy": ("confidence_weighted_entropy", False),
    }
    assert set(names) == set(DOUBTS)
    for name, (method, adjusted) in names.items():
        quality = rank.get_label_quality_scores(given, probs, method=method, adjust_pred_probs=adjusted)
        assert np.array_equal(np.argsort(DOUBTS[name](given, probs)), np.argsort(-quality)), name
