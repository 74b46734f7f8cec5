"""Maps of predicted probabilities: against Bayes' rule and against numerically minimised risks."""

import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from scipy.optimize import minimize

from rbcnb.evaluation.metrics import score_predictions
from rbcnb.evaluation.prior_shift import focal_posterior, shift_predictions, shift_prior

PRIOR = [0.1, 0.1, 0.8]


@pytest.fixture
def probabilities():
    return np.random.default_rng(0).dirichlet([0.5, 0.5, 1.0], size=50)


def test_prior_shift_is_bayes_rule():
    """Gaussian classes: the posterior under one prior becomes exactly the posterior under the other."""
    x = np.linspace(-4, 6, 101)[:, None]
    density = np.exp(-0.5 * (x - np.array([0.0, 1.0, 3.0])) ** 2)

    def posterior(prior):
        joint = density * prior
        return joint / joint.sum(axis=1, keepdims=True)

    new = np.array([0.5, 0.3, 0.2])
    shifted = shift_prior(posterior(PRIOR), old_prior=PRIOR, new_prior=new)
    np.testing.assert_allclose(shifted, posterior(new), rtol=1e-12)


def test_counts_are_as_good_as_shares(probabilities):
    counts = {"old_prior": [10, 10, 80], "new_prior": [3, 3, 3]}
    shares = {"old_prior": PRIOR, "new_prior": [1 / 3] * 3}
    np.testing.assert_allclose(shift_prior(probabilities, **counts), shift_prior(probabilities, **shares), rtol=1e-12)


def minimiser(eta, gamma, alpha):
    """Softmax that minimises the conditional risk, by an optimiser that knows nothing of the closed form."""

    def risk(logits):
        log_p = logits - np.logaddexp.reduce(logits)
        return np.sum(eta * alpha * (-np.expm1(log_p)) ** gamma * -log_p)

    best = minimize(risk, np.log(eta), method="Nelder-Mead", options={"xatol": 1e-7, "fatol": 1e-15})
    p = np.exp(best.x - best.x.max())
    return p / p.sum()


@pytest.mark.parametrize("gamma", [0.0, 0.5, 1.0, 2.0, 5.0])
@pytest.mark.parametrize("alpha", [1.0, (0.5, 1.0, 2.0)])
@pytest.mark.parametrize("eta", [(0.1, 0.1, 0.8), (0.3, 0.3, 0.4), (0.02, 0.28, 0.7)])
def test_focal_posterior_inverts_the_risk_minimiser(eta, alpha, gamma):
    p = minimiser(np.array(eta), gamma, np.asarray(alpha))
    np.testing.assert_allclose(focal_posterior(p[None], gamma=gamma, alpha=alpha)[0], eta, atol=1e-5)
    if gamma == 2 and alpha == 1:
        assert p.max() < max(eta) - 0.01  # focal loss is under-confident: the map sharpens


def test_focal_posterior_at_its_ends(probabilities):
    np.testing.assert_allclose(focal_posterior(probabilities, gamma=0.0), probabilities, rtol=1e-12)
    np.testing.assert_allclose(
        focal_posterior(probabilities, gamma=2.0, alpha=3.0), focal_posterior(probabilities, gamma=2.0), rtol=1e-12
    )
    corners = np.vstack([np.eye(3), np.full(3, 1 / 3), [0.0, 0.5, 0.5]])
    for gamma in (0.5, 1.0, 2.0, 5.0):
        np.testing.assert_allclose(focal_posterior(corners, gamma=gamma), corners, atol=1e-15)
        near = focal_posterior(np.array([[1e-300, 1e-18, 1.0]]), gamma=gamma)
        assert np.isfinite(near).all()
        assert near[0, 2] == 1
        mapped = focal_posterior(probabilities, gamma=gamma)
        assert (mapped.argsort(axis=1) == probabilities.argsort(axis=1)).all()


def test_shifted_predictions_are_those_of_a_network_of_the_other_prior():
    """Gaussian classes: predictions made under one prior, shifted, are those made under the other."""
    rng = np.random.default_rng(0)
    names = np.array(["a", "b", "c"])
    targets = rng.integers(0, 3, 600)
    x = rng.normal(np.array([0.0, 1.0, 3.0])[targets])[:, None]

    def predicted(prior, n=600, gamma=None):
        joint = np.exp(-0.5 * (x[:n] - np.array([0.0, 1.0, 3.0])) ** 2) * list(prior.values())
        probs = joint / joint.sum(axis=1, keepdims=True)
        if gamma is not None:  # what focal loss says of this posterior
            probs = np.array([minimiser(eta, gamma, 1.0) for eta in probs])
        table = pd.DataFrame({"target": names[targets[:n]], "pred": names[probs.argmax(axis=1)]})
        return table.assign(**{f"prob_{name}": p for name, p in zip(names, probs.T, strict=True)})

    trained, tested = {"a": 25, "b": 25, "c": 50}, {"c": 0.8, "b": 0.1, "a": 0.1}
    shifted = shift_predictions(predicted(trained), old_prior=trained, new_prior=tested)
    pd.testing.assert_frame_equal(shifted, predicted(dict(sorted(tested.items()))))
    equal = shift_predictions(predicted(trained), old_prior=trained, new_prior="balanced")
    assert score_predictions(equal)["balanced_accuracy"] > score_predictions(shifted)["balanced_accuracy"]
    few = predicted(trained, 20, gamma=2.0)
    mapped = shift_predictions(few, old_prior=trained, new_prior=trained, gamma=2.0)
    pd.testing.assert_frame_equal(mapped, predicted(trained, 20), atol=1e-4)
    with pytest.raises(ValueError, match="both priors must be known"):
        shift_predictions(few, old_prior=trained, new_prior="natural")


@pytest.mark.parametrize("prior", [[0.5, 0.5], [0.5, 0.5, 0.0], [1.0, np.nan, 1.0]])
def test_wrong_priors_are_named(probabilities, prior):
    with pytest.raises(ValueError, match="3 positive numbers"):
        shift_prior(probabilities, old_prior=prior, new_prior=PRIOR)
    with pytest.raises(ValueError, match="gamma"):
        focal_posterior(probabilities, gamma=-1.0)


def test_needs_no_torch():
    code = "import sys, rbcnb.evaluation.prior_shift; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
