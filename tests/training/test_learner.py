"""A trial's learner: its optimiser and schedule, the curves that it leaves, and that fastai adds nothing to the fit."""

from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from rbcnb.columns import CLASSES
from rbcnb.losses.focal import focal_loss
from rbcnb.training.dataloaders import CellDataLoaders
from rbcnb.training.engine import choose_engine
from rbcnb.training.learner import body_and_head, build_learner, fit_trial
from rbcnb.training.models import build_model
from rbcnb.training.normalise import normalise
from rbcnb.training.predict import probabilities_of
from rbcnb.training.trial import Trial

CPU = choose_engine("cpu", precision="float32")


def made(n: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Crops of noise and their classes."""
    crops = np.random.default_rng(seed).integers(0, 256, (n, 16, 16, 3), dtype=np.uint8)
    return crops, np.arange(n) % 3


def loaders(n: int, n_valid: int = 0, *, seed: int = 0, **options) -> CellDataLoaders:
    return CellDataLoaders.from_crops(made(n), made(n_valid), vocab=CLASSES, seed=seed, **{"bs": 4} | options)


def test_optimiser_is_torch_adam_with_the_papers_settings():
    learner = build_learner(Trial(), loaders(12), engine=CPU)
    fit_trial(learner, Trial(epochs=1))
    optimiser = learner.opt.opt
    assert isinstance(optimiser, torch.optim.Adam)
    group = optimiser.param_groups[0]
    assert (group["lr"], group["betas"], group["eps"], group["weight_decay"]) == (1e-3, (0.9, 0.999), 1e-8, 0)


def test_a_fit_equals_a_plain_torch_loop():
    """fastai adds nothing: two epochs give the weights of the loop that anyone would write by hand."""
    trial = Trial(loss="focal", alpha=0.75, gamma=2.0, learning_rate=3e-3)
    torch.manual_seed(0)
    learner = build_learner(trial, loaders(20, 8, seed=5), engine=CPU)
    torch.manual_seed(0)
    model = build_learner(trial, loaders(20, 8, seed=5), engine=CPU).model
    fit_trial(learner, replace(trial, epochs=2))

    optimiser = torch.optim.Adam(model.parameters(), lr=3e-3, fused=True)
    batches = loaders(20, seed=5).train
    means = []
    for _ in range(2):
        model.train()
        losses = []
        for images, targets in batches:
            optimiser.zero_grad()
            loss = focal_loss(model(images), targets, alpha=0.75, gamma=2.0)
            loss.backward()
            optimiser.step()
            losses += [loss.item()] * len(targets)
        means.append(np.mean(losses))
    for ours, theirs in zip(learner.model.parameters(), model.parameters(), strict=True):
        assert torch.equal(ours, theirs)

    curves = learner.curve.table
    np.testing.assert_allclose(curves["train_loss"], means, rtol=1e-6)
    model.eval()
    with torch.no_grad():
        crops, targets = (torch.from_numpy(array) for array in made(8))
        images = normalise(crops)
        logits = model(images)
    assert curves["valid_ce"].iloc[-1] == pytest.approx(F.cross_entropy(logits, targets).item(), rel=1e-5)
    assert curves["valid_loss"].iloc[-1] == pytest.approx(
        focal_loss(logits, targets, alpha=0.75, gamma=2.0).item(), rel=1e-5
    )
    predicted = probabilities_of(learner.model, (batch for batch, _ in loaders(20, 8).valid))
    np.testing.assert_allclose(predicted, logits.double().softmax(dim=1).numpy(), atol=1e-6)


def test_nothing_held_out_leaves_validation_empty():
    learner = build_learner(Trial(), loaders(12), engine=CPU)
    fit_trial(learner, Trial(epochs=1))
    curves = learner.curve.table
    assert curves[["valid_loss", "valid_ce", "valid_macro_f1"]].isna().all(axis=None)
    assert curves["train_loss"].notna().all()


def test_a_loss_that_is_no_number_ends_the_fit_with_its_epoch():
    trial = Trial(learning_rate=1e30, epochs=5)
    with pytest.raises(FloatingPointError, match=r"training loss became .* in epoch"):
        fit_trial(build_learner(trial, loaders(40), engine=CPU), trial)


def test_a_cosine_falls_to_nothing_at_the_last_step():
    trial = Trial(schedule="cosine", learning_rate=4e-3, epochs=5)
    learner = build_learner(trial, loaders(20), engine=CPU)
    rates = []
    step = learner._step
    learner._step = lambda: (rates.append([group["lr"] for group in learner.opt.opt.param_groups]), step())
    fit_trial(learner, trial)
    share = np.arange(25) / 25
    np.testing.assert_allclose(rates, np.repeat(2e-3 * (1 + np.cos(np.pi * share))[:, None], 2, axis=1), rtol=1e-6)


def test_a_warm_cosine_rises_for_a_quarter_of_the_steps_and_falls_to_nothing():
    trial = Trial(schedule="warm_cosine", learning_rate=5e-3, epochs=8)
    learner = build_learner(trial, loaders(20), engine=CPU)
    rates = []
    step = learner._step
    learner._step = lambda: (rates.append([group["lr"] for group in learner.opt.opt.param_groups]), step())
    fit_trial(learner, trial)
    rising, falling = np.arange(10) / 10, np.arange(30) / 30
    expected = np.concatenate(
        [2e-4 + (5e-3 - 2e-4) * (1 - np.cos(np.pi * rising)) / 2, 5e-3 * (1 + np.cos(np.pi * falling)) / 2]
    )
    np.testing.assert_allclose(rates, np.repeat(expected[:, None], 2, axis=1), rtol=1e-5)


@pytest.mark.parametrize("schedule", ["cosine", "warm_cosine"])
def test_batches_in_parts_have_the_schedule_of_whole_ones(schedule):
    rates = {}
    for part_size in (None, 2):
        trial = Trial(schedule=schedule, epochs=2)
        learner = build_learner(trial, loaders(20, part_size=part_size), engine=CPU)
        step, seen = learner._step, rates.setdefault(part_size, [])
        learner._step = lambda fitted=learner, step=step, seen=seen: (seen.append(fitted.opt.hypers[0]["lr"]), step())
        fit_trial(learner, trial)
    assert len(rates[None]) == 10
    assert rates[None] == rates[2]


@pytest.mark.parametrize("architecture", ["small", "resnet18", "densenet121"])
def test_a_networks_last_layer_is_its_head(architecture):
    model = build_model(architecture, 3)
    body, head = body_and_head(model)
    assert [tuple(weight.shape) for weight in head] == [(3, head[0].shape[1]), (3,)]
    assert [id(weight) for weight in body + head] == [id(weight) for weight in model.parameters()]


def test_all_layers_of_a_pretrained_network_learn_at_one_rate_from_the_first_step():
    trial = Trial(architecture="resnet18", epochs=1, learning_rate=1e-2, pretrained=True)
    learner = build_learner(replace(trial, pretrained=False), loaders(8), engine=CPU)  # its weights need a network
    rates = []
    step = learner._step
    learner._step = lambda: (rates.append([group["lr"] for group in learner.opt.opt.param_groups]), step())
    before = learner.model.conv1.weight.detach().clone()
    fit_trial(learner, trial)
    assert not torch.equal(learner.model.conv1.weight, before)
    np.testing.assert_allclose(rates, [[1e-2, 1e-2]] * 2)
