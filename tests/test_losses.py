"""Identities of the focal loss: against its formula in float64, against cross entropy, in gradients and at extremes."""

import pickle

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch.autograd import gradcheck

from rbcnb.curves import focal_curve
from rbcnb.losses import LOSSES, FocalLoss, build_loss, focal_loss
from rbcnb.trial import Trial

GAMMAS = [0.0, 0.5, 1.0, 2.0, 5.0]


@pytest.fixture
def batch():
    generator = torch.Generator().manual_seed(0)
    logits = 3 * torch.randn(64, 3, generator=generator, dtype=torch.float64)
    return logits, torch.randint(3, (64,), generator=generator)


@pytest.mark.parametrize("gamma", GAMMAS)
@pytest.mark.parametrize("alpha", [0.25, 1.0, 1.75])
def test_equals_equation_4(batch, alpha, gamma):
    logits, targets = batch
    p_t = logits.softmax(dim=1)[torch.arange(64), targets].numpy()
    expected = -alpha * (1 - p_t) ** gamma * np.log(p_t)
    loss = focal_loss(logits, targets, alpha=alpha, gamma=gamma, reduction="none")
    np.testing.assert_allclose(loss.numpy(), expected, rtol=1e-9)
    np.testing.assert_allclose(focal_curve(p_t, alpha=alpha, gamma=gamma), expected, rtol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("alpha", [1.0, 0.75])
def test_gamma_zero_is_cross_entropy_bit_for_bit(batch, alpha, dtype):
    logits, targets = batch[0].to(dtype), batch[1]
    ours, theirs = logits.clone().requires_grad_(), logits.clone().requires_grad_()
    one, other = focal_loss(ours, targets, alpha=alpha, gamma=0.0), alpha * F.cross_entropy(theirs, targets)
    one.backward()
    other.backward()
    assert torch.equal(one, other)
    assert torch.equal(ours.grad, theirs.grad)


@pytest.mark.parametrize("gamma", GAMMAS)
def test_gradient_is_that_of_the_formula(batch, gamma):
    logits, targets = batch
    weights = torch.tensor([0.5, 1.0, 2.0], dtype=torch.float64)
    assert gradcheck(lambda x: focal_loss(x, targets, alpha=weights, gamma=gamma), logits.requires_grad_())


def test_class_weights_stand_outside_the_modulating_factor(batch):
    logits, targets = batch
    weights = torch.tensor([0.5, 1.0, 2.0], dtype=torch.float64)
    plain = focal_loss(logits, targets, gamma=2.0, reduction="none")
    weighted = focal_loss(logits, targets, alpha=weights, gamma=2.0, reduction="none")
    torch.testing.assert_close(weighted, weights[targets] * plain, rtol=1e-12, atol=0)


def test_scalar_alpha_scales_the_loss(batch):
    logits, targets = batch
    torch.testing.assert_close(
        focal_loss(logits, targets, alpha=0.25), 0.25 * focal_loss(logits, targets, alpha=1.0), rtol=1e-14, atol=0
    )


@pytest.mark.parametrize("gamma", GAMMAS)
def test_extreme_logits_give_finite_loss_and_gradient(gamma):
    logits = torch.tensor([[1e4, -1e4, 0.0], [-1e4, 1e4, 0.0], [50.0, -50.0, 0.0], [0.0, 0.0, 0.0]], requires_grad=True)
    loss = focal_loss(logits, torch.zeros(4, dtype=torch.long), gamma=gamma, reduction="none")
    loss.sum().backward()
    assert torch.isfinite(loss).all()
    assert torch.isfinite(logits.grad).all()
    # A perfectly classified cell costs nothing; the hopelessly wrong one keeps its full loss and gradient.
    assert loss[0] == 0
    assert loss[1] == 2e4
    torch.testing.assert_close(logits.grad[1], torch.tensor([-1.0, 1.0, 0.0]))


def test_ignored_targets_neither_cost_nor_count(batch):
    logits, targets = batch
    ignored = targets.clone()
    ignored[::2] = -100
    torch.testing.assert_close(focal_loss(logits, ignored), focal_loss(logits[1::2], targets[1::2]))


def test_dense_targets_equal_flat_ones(batch):
    logits, targets = batch
    dense = logits.reshape(4, 16, 3).permute(0, 2, 1)
    torch.testing.assert_close(focal_loss(dense, targets.reshape(4, 16)), focal_loss(logits, targets))


def test_reductions_agree(batch):
    logits, targets = batch
    each = focal_loss(logits, targets, reduction="none")
    torch.testing.assert_close(focal_loss(logits, targets, reduction="sum"), each.sum())
    torch.testing.assert_close(focal_loss(logits, targets), each.mean())


@pytest.mark.parametrize(("wrong", "message"), [({"gamma": -1.0}, "gamma"), ({"reduction": "avg"}, "reduction")])
def test_wrong_settings_are_named(batch, wrong, message):
    with pytest.raises(ValueError, match=message):
        focal_loss(*batch, **wrong)


def test_fastai_form(batch):
    logits, targets = batch
    loss = pickle.loads(pickle.dumps(FocalLoss(alpha=0.5, gamma=1.0)))
    assert torch.equal(loss(logits, targets), focal_loss(logits, targets, alpha=0.5, gamma=1.0))
    torch.testing.assert_close(loss.activation(logits).sum(dim=1), torch.ones(64, dtype=torch.float64))
    assert torch.equal(loss.decodes(logits), logits.argmax(dim=1))


def test_build_loss_unpacks_the_trial(batch):
    logits, targets = batch
    focal = build_loss(Trial(loss="focal", alpha=0.75, gamma=1.5))
    assert torch.equal(focal(logits, targets), focal_loss(logits, targets, alpha=0.75, gamma=1.5))
    assert torch.equal(build_loss(Trial())(logits, targets), F.cross_entropy(logits, targets))
    assert set(LOSSES) == {"cross_entropy", "focal"}
    with pytest.raises(ValueError, match="unknown loss 'hinge'; known: cross_entropy, focal"):
        build_loss(Trial(loss="hinge"))
