"""The toy's truth, its fits side by side, and what a scalar alpha does to Adam and to SGD."""

import io
from functools import partial

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from scipy.stats import multivariate_normal
from sklearn.metrics import balanced_accuracy_score, f1_score

from rbcnb.columns import CLASSES, NORMAL
from rbcnb.losses.focal import focal_loss
from rbcnb.losses.imbalanced import LOSSES
from rbcnb.losses.toy import BLOBS, flip_labels, sample_toy, toy_grid, toy_posterior, toy_prior
from rbcnb.losses.toy_fits import (
    TRUTH,
    alpha_distances,
    balanced_accuracy_many,
    fit_alphas,
    fit_losses,
    fit_noise,
    fit_toy,
    macro_f1_many,
    network_scores,
    probabilities,
    registered_losses,
)
from rbcnb.plotting.style import CSS_DPI
from rbcnb.plotting.toy import alpha_lecture, calibration_fits, plot_noise_training, toy_boundaries

BALANCED = ("weighted_cross_entropy", "class_balanced", "ldam_drw", "balanced_softmax", "logit_adjustment")
ALPHAS = [0.25, 0.5, 0.75, 1.0, 1.25, 1.5, 1.75]


def test_posterior_is_bayes_rule():
    x = toy_grid(9)
    joint = np.stack(
        [
            prior * multivariate_normal.pdf(x, mean=BLOBS[name][:2], cov=BLOBS[name][2] ** 2)
            for name, prior in zip(CLASSES, toy_prior(0.9), strict=True)
        ],
        axis=1,
    )
    np.testing.assert_allclose(toy_posterior(x, majority=0.9), joint / joint.sum(axis=1, keepdims=True), rtol=1e-10)


def test_samples_have_the_shares_they_are_asked_for():
    _, targets = sample_toy(500, majority=0.8, seed=0)
    assert np.bincount(targets).tolist() == [50, 50, 400]
    assert CLASSES.index(NORMAL) == 2
    assert np.bincount(sample_toy(60, majority=0.98, seed=0)[1]).min() == 2
    flipped = flip_labels(targets, noise=0.1, seed=1)
    assert (flipped != targets).sum() == 50
    assert set(flipped) == {0, 1, 2}


def test_fits_side_by_side_are_what_each_is_alone():
    x, targets = sample_toy(80, seed=0)
    losses = {f"{g:g}": partial(focal_loss, gamma=g) for g in (0.0, 2.0)}
    together = fit_losses(losses, x, targets, steps=30, every=10)
    for name, loss in losses.items():
        alone = fit_losses({name: loss}, x, targets, steps=30, every=10)[name]
        assert alone.shape == (4, 6, 3)
        np.testing.assert_allclose(together[name], alone, rtol=0, atol=1e-12)


def test_a_fit_comes_to_the_truth():
    x, targets = sample_toy(4000, seed=0)
    states = fit_losses({"ce": F.cross_entropy}, x, targets, steps=300, every=300)["ce"]
    new = sample_toy(1000, seed=1)[0]
    start, end = (np.abs(probabilities(state, new) - toy_posterior(new)).mean() for state in states)
    assert start > 0.2
    assert end < 0.02


def test_alpha_is_sgds_learning_rate():
    x, targets = sample_toy(80, seed=0)
    options = {"seeds": [0, 1], "steps": 20, "every": 20, "optimiser": "sgd"}
    halved = fit_alphas(x, targets, alphas=[0.5], learning_rate=0.2, **options)
    np.testing.assert_array_equal(halved, fit_alphas(x, targets, alphas=[1.0], learning_rate=0.1, **options))


def test_alpha_is_adams_eps_and_nothing_else():
    x, targets = sample_toy(80, seed=0)
    options = {"alphas": ALPHAS, "seeds": [0, 1], "steps": 30, "every": 10, "optimiser": "adam", "learning_rate": 0.01}
    small, large = (alpha_distances(fit_alphas(x, targets, eps=eps, **options), ALPHAS)[-1] for eps in (1e-8, 1e-3))
    follows = fit_alphas(x, targets, eps=1e-3, eps_follows_alpha=True, **options)
    assert alpha_distances(follows, ALPHAS).max() < 1e-12
    np.testing.assert_array_equal(follows[:, 0], follows[:, 3])  # alpha 1/4 only moves exponents: equal to the last bit
    others = np.array(ALPHAS) != 1
    assert small[~others] == large[~others] == 0
    assert (small[others] < 1e-4).all()
    assert (large[others] > 100 * small[others]).all()


def test_unknown_optimiser_is_named():
    with pytest.raises(ValueError, match="'adam' or 'sgd', got 'lion'"):
        fit_alphas(
            *sample_toy(60, seed=0), alphas=[1.0], seeds=[0], steps=1, every=1, optimiser="lion", learning_rate=1
        )


def test_scores_are_scikit_learns():
    rng = np.random.default_rng(0)
    targets, preds = rng.integers(0, 3, 50), rng.integers(0, 2, (4, 5, 50))
    ours = macro_f1_many(targets, preds)
    theirs = [[f1_score(targets, p, average="macro", zero_division=0) for p in row] for row in preds]
    np.testing.assert_allclose(ours, theirs)
    theirs = [[balanced_accuracy_score(targets, p) for p in row] for row in preds]
    np.testing.assert_allclose(balanced_accuracy_many(targets, preds), theirs)


def test_noise_pulls_harder_the_larger_gamma():
    shares, scores = fit_noise([0.0, 5.0], noise=0.1, n_cells=300, steps=60, every=60, seed=0)
    assert shares[0.0][0] == pytest.approx(0.1, abs=0.01)  # at the start every cell is as hard
    assert shares[5.0][-1] > shares[0.0][-1] > 0.1
    assert all(0.4 < score <= 1 for score in scores.values())


def test_every_registered_loss_fits_the_toy():
    fits = fit_toy(registered_losses, majority=0.8, n_cells=200, steps=60, every=30, seed=0, side=8)
    assert set(fits.maps) == {*LOSSES, TRUTH}
    for name, scores in fits.scores.items():
        assert scores[-1] > 0.5, name
        if name in BALANCED:  # as the lesson says
            assert fits.balanced[name][-1] > fits.balanced["cross_entropy"][-1] + 0.05, name
            assert fits.balanced[name][-1] > fits.balanced[TRUTH][-1] + 0.05, name
            assert scores[-1] < fits.scores["cross_entropy"][-1] - 0.02, name
        np.testing.assert_allclose(fits.maps[name].sum(axis=-1), 1, rtol=1e-5)


def lecture():
    x, targets = sample_toy(60, seed=0)
    weights = fit_alphas(x, targets, alphas=ALPHAS, seeds=[0, 1], steps=10, every=5, optimiser="sgd", learning_rate=0.5)
    scores = network_scores(weights, x, targets)
    gaps = {"SGD": alpha_distances(weights, ALPHAS)}
    return alpha_lecture({"SGD": scores, "again": scores}, gaps, ALPHAS, [0, 5, 10])


def reliability():
    x, _ = sample_toy(400, seed=0)
    truth = toy_posterior(x)
    return calibration_fits({0.0: truth, 2.0: truth**0.5 / (truth**0.5).sum(axis=1, keepdims=True)}, truth)


def boundaries():
    def losses(_counts):
        return {"one": F.cross_entropy, "two": partial(focal_loss, gamma=2.0)}

    fits = {m: fit_toy(losses, majority=m, n_cells=60, steps=10, every=5, seed=0, side=16) for m in (0.5, 0.9)}
    return toy_boundaries(fits.__getitem__, ["one", "two"], columns=2)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("make", "settings"),
    [
        (lecture, [{"step": 10}, {"step": 5}]),
        (reliability, [{"gamma": 0.0}, {"gamma": 2.0}]),
        (boundaries, [{"majority": 0.5, "step": 2}, {"majority": 0.9, "step": 1}]),
    ],
)
def test_a_live_frame_is_the_whole_draw_to_the_pixel(make, settings):
    drawing = make()
    live = drawing.live()
    pictures = []
    for values in [*settings, settings[0]]:
        whole = io.BytesIO()
        drawing(**values).savefig(whole, dpi=CSS_DPI)
        pictures.append(live.pixels(**values).copy())
        np.testing.assert_array_equal(pictures[-1], np.asarray(Image.open(whole)))
    assert not np.array_equal(*pictures[:2])


def test_noise_figure_shows_the_shares():
    figure = plot_noise_training(
        {0.0: np.array([0.1, 0.3])}, {0.0: [[0.7, 0.8], [0.5, 0.6]]}, steps=[0, 10], noises=[0.0, 0.1]
    )
    np.testing.assert_allclose(figure.axes[0].lines[0].get_ydata(), [10, 30])
    np.testing.assert_allclose(figure.axes[1].lines[0].get_ydata(), [0.75, 0.55])


def test_torch_is_left_as_it_was():
    state = torch.random.get_rng_state()
    fit_alphas(*sample_toy(60, seed=0), alphas=[1.0], seeds=[0], steps=1, every=1, optimiser="adam", learning_rate=0.01)
    assert torch.equal(state, torch.random.get_rng_state())
