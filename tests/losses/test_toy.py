"""The toy's truth, its fits side by side, and what a scalar alpha does to Adam and to SGD."""

import base64
import functools
import io
from functools import partial

import numpy as np
import pandas as pd
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from scipy.stats import multivariate_normal
from sklearn.metrics import balanced_accuracy_score, f1_score

from rbcnb.columns import CLASSES, NORMAL
from rbcnb.evaluation.prior_shift import focal_posterior
from rbcnb.losses.focal import focal_loss
from rbcnb.losses.imbalanced import LOSSES
from rbcnb.losses.toy import BLOBS, flip_labels, sample_toy, toy_grid, toy_posterior, toy_prior
from rbcnb.losses.toy_fits import (
    TRUTH,
    ToyFits,
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
from rbcnb.plotting.toy import (
    alpha_lecture,
    calibration_fits,
    decision_map,
    noise_training,
    toy_boundaries,
    toy_explorer,
    toy_frames,
)

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


def rows_of(panel: dict) -> pd.DataFrame:
    """The table that a panel of an explorer draws."""
    return pd.DataFrame(panel["data"]["values"])


def test_the_lecture_on_alpha_shows_every_fit():
    x, targets = sample_toy(60, seed=0)
    weights = fit_alphas(x, targets, alphas=ALPHAS, seeds=[0, 1], steps=10, every=5, optimiser="sgd", learning_rate=0.5)
    scores, gaps = network_scores(weights, x, targets), alpha_distances(weights, ALPHAS)
    explorer = alpha_lecture({"SGD": scores, "again": scores}, {"SGD": gaps}, ALPHAS, [0, 5, 10])
    left, _, right = map(rows_of, explorer.as_dict()["panels"])
    means, seeds = left[left["name"] == "mean"], left[left["name"] == "one seed"]
    np.testing.assert_allclose(means.pivot_table("y", "step", "x"), scores.mean(axis=2), atol=1e-6)
    for i in (0, 1):
        np.testing.assert_allclose(seeds[seeds["part"] == i].pivot_table("y", "step", "x"), scores[..., i], atol=1e-6)
    others = np.array(ALPHAS) != 1
    wanted = np.log10(np.maximum(gaps[:, others], 2e-17))
    np.testing.assert_allclose(right.pivot_table("y", "step", "x"), wanted, atol=1e-6)
    assert [control.value for control in explorer.controls] == [10]


def test_calibration_is_mean_truth_over_mean_said():
    x, _ = sample_toy(2000, seed=0)
    truth = toy_posterior(x)
    gamma, flat = 2.0, truth**0.5 / (truth**0.5).sum(axis=1, keepdims=True)
    explorer = calibration_fits({0.0: truth, gamma: flat}, truth)
    raw, mapped = map(rows_of, explorer.as_dict()["panels"])
    honest = raw[raw["gamma"] == 0]
    np.testing.assert_allclose(honest["x"], honest["y"], atol=1e-6)
    shy = raw[raw["gamma"] == gamma]
    assert (shy["y"] < shy["x"])[shy["x"] < 0.3].all()
    assert (shy["y"] > shy["x"])[shy["x"] > 0.5].all()
    bold = mapped[mapped["gamma"] == gamma]
    assert np.abs(bold["x"] - bold["y"]).mean() < np.abs(shy["x"] - shy["y"]).mean() / 2
    far = [np.abs(table - truth).mean() for table in (truth, flat, focal_posterior(flat, gamma=gamma))]
    assert f"[0.0, {round(far[1], 4)}]" in explorer.reading
    assert far[2] < far[1]
    assert [control.value for control in explorer.controls] == [gamma]


def two_losses(_counts):
    return {"one": F.cross_entropy, "two": partial(focal_loss, gamma=2.0)}


@functools.cache
def small_fits(majority: float) -> ToyFits:
    return fit_toy(two_losses, majority=majority, n_cells=60, steps=10, every=5, seed=0, side=16)


def test_boundaries_show_decisions_and_scores():
    fits = small_fits(0.5)
    figure = toy_boundaries(fits, ["one", "two"], step=2, columns=2)
    for ax, name in zip(figure.axes, ("one", "two"), strict=True):
        np.testing.assert_array_equal(ax.images[0].get_array(), decision_map(fits.maps[name][2]))
        assert ax.texts[0].get_text() == f"F1 {fits.scores[name][2]:.2f}\nBA {fits.balanced[name][2]:.2f}"


def check_picture(file: bytes, fits: ToyFits, name: str, state: int) -> None:
    """*file* shows the decisions under the loss *name*."""
    picture = np.asarray(Image.open(io.BytesIO(file)).convert("RGB"), dtype=float)
    side = picture.shape[0] // 16
    centres = picture[side // 2 :: side, side // 2 :: side][::-1][:16, :16]  # row 0 is at the bottom
    away = np.abs(centres - decision_map(fits.maps[name][state])).max(axis=2)
    assert np.median(away) < 25  # cells and the truth's edges lie over some of the squares


@pytest.mark.slow
def test_recorded_pictures_are_of_each_majority_and_step():
    explorer = toy_frames(small_fits, ["one", "two"], majorities=[0.5, 0.9], states=[0, 1, 2], every=5)
    assert [control.value for control in explorer.controls] == [0.9, 10]  # the paper's 0.8 or what is nearest to it
    assert explorer.heading == "SIMULATED: toy cells"
    for name, panel in zip(("one", "two"), explorer.as_dict()["panels"], strict=True):
        rows = rows_of(panel)
        places = [(m, s) for m in (0.5, 0.9) for s in (0, 5, 10)]
        assert list(zip(rows["majority"], rows["step"], strict=True)) == places
        assert rows["picture"].nunique() == len(rows)
        for row in rows.itertuples():
            fits, state = small_fits(row.majority), row.step // 5
            assert row.words == f"F1 {fits.scores[name][state]:.2f}, BA {fits.balanced[name][state]:.2f}"
            check_picture(base64.b64decode(row.picture.removeprefix("data:image/webp;base64,")), fits, name, state)


@pytest.mark.slow
def test_the_kernel_draws_the_toy_where_its_sliders_stand():
    widget = toy_explorer(small_fits, ["one", "two"], majorities=[0.5, 0.7, 0.9], recorded=[0.9], every=5)
    assert [control["values"] for control in widget.controls] == [[0.5, 0.7, 0.9], [0, 5, 10]]
    assert widget.heading == "SIMULATED: toy cells"
    assert "Orange-red is codocyte" in widget.reading
    for values in ({"majority": 0.7, "step": 10}, {"majority": 0.9, "step": 5}):
        widget.values = values  # as the page sets them
        fits, state = small_fits(values["majority"]), values["step"] // 5
        assert [picture["title"] for picture in widget.pictures] == ["one", "two"]
        for picture in widget.pictures:
            name = picture["title"]
            assert picture["words"] == f"F1 {fits.scores[name][state]:.2f}, BA {fits.balanced[name][state]:.2f}"
            check_picture(picture["file"], fits, name, state)
    data, _ = widget._repr_mimebundle_()
    assert {"application/vnd.jupyter.widget-view+json", "text/html", "image/png"} <= set(data)
    assert "rbcnb-explorer" in data["text/html"]


def test_noise_panels_show_the_shares():
    explorer = noise_training(
        {0.0: np.array([0.1, 0.3])}, {0.0: [[0.7, 0.8], [0.5, 0.6]]}, steps=[0, 10], noises=[0.0, 0.1]
    )
    left, right = map(rows_of, explorer.as_dict()["panels"])
    np.testing.assert_allclose(left["y"], [10, 30])
    np.testing.assert_allclose(right[["y", "low", "high"]], [[0.75, 0.7, 0.8], [0.55, 0.5, 0.6]])


def test_torch_is_left_as_it_was():
    state = torch.random.get_rng_state()
    fit_alphas(*sample_toy(60, seed=0), alphas=[1.0], seeds=[0], steps=1, every=1, optimiser="adam", learning_rate=0.01)
    assert torch.equal(state, torch.random.get_rng_state())
