"""Identities of the focal loss: against its formula in float64, against cross entropy, in gradients and at extremes."""

import copy
import pickle

import mpmath
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.autograd import gradcheck, gradgradcheck
from torch.fx.experimental.proxy_tensor import make_fx

from rbcnb.losses.focal import FEW_CLASSES, FocalLoss, focal_loss
from rbcnb.losses.focal_curves import focal_curve

GAMMAS = [0.0, 0.5, 1.0, 2.0, 5.0]


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
    loss, peer = focal_loss(ours, targets, alpha=alpha, gamma=0.0), alpha * F.cross_entropy(theirs, targets)
    loss.backward()
    peer.backward()
    assert torch.equal(loss, peer)
    assert torch.equal(ours.grad, theirs.grad)


@pytest.mark.parametrize("gamma", GAMMAS)
def test_gradient_is_that_of_the_formula(batch, gamma):
    logits, targets = batch[0][:8], batch[1][:8]
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


def reference(logits, targets, gamma):
    """Row losses [N] and their gradients [N, C] in 60 digits, from the formula with nothing rearranged."""
    values, gradients = [], []
    with mpmath.workdps(60):
        for row, t in zip(logits.double().tolist(), targets.tolist(), strict=True):
            weights = [mpmath.exp(mpmath.mpf(x) - max(row)) for x in row]
            p = [w / mpmath.fsum(weights) for w in weights]
            q = mpmath.fsum(p[:t] + p[t + 1 :])
            ce = -mpmath.log(p[t])
            values.append(float(q**gamma * ce))
            # dFL/dp_t = gamma q^(gamma-1) log p_t - q^gamma / p_t and dp_t/dx_j = p_t (d_jt - p_j)
            c = q**gamma + gamma * q ** (gamma - 1) * p[t] * ce
            gradients.append([float(c * (p[j] - (j == t))) if j != t else float(-c * q) for j in range(len(row))])
    return torch.tensor(values, dtype=torch.float64), torch.tensor(gradients, dtype=torch.float64)


def mixed_batch(n_classes=3):
    """Random, confident, wrong, +-50 and p_t = 1 rows in float32."""
    generator = torch.Generator().manual_seed(1)
    rows = [scale * torch.randn(40, n_classes, generator=generator) for scale in (0.1, 1, 5, 20)]
    logits = torch.cat([*rows, torch.zeros(5 * n_classes, n_classes)])
    targets = torch.randint(n_classes, (len(logits),), generator=generator)
    special = torch.arange(160, len(logits))
    for i, value in zip(special, [8.0, -8.0, 50.0, -50.0, 90.0] * n_classes, strict=True):
        logits[i, targets[i]] = value
    return logits, targets


def assert_exact(logits, targets, gamma):
    values, gradients = reference(logits, targets, gamma)
    x = logits.clone().requires_grad_()
    loss = focal_loss(x, targets, gamma=gamma, reduction="none")
    loss.sum().backward()
    assert (loss.double() - values).abs().max() <= 4e-7 * values.abs().max()
    assert (x.grad.double() - gradients).abs().max() <= 4e-7 * gradients.abs().max()


@pytest.mark.parametrize("n_classes", [2, 3, 20])
@pytest.mark.parametrize("gamma", GAMMAS)
def test_float32_is_within_4e_7_of_sixty_digits(gamma, n_classes):
    logits, targets = mixed_batch(n_classes)
    assert_exact(logits, targets, gamma)


@pytest.mark.parametrize("gamma", GAMMAS)
def test_float32_is_as_exact_at_ten_thousand(gamma):
    logits = torch.tensor([[1e4, -1e4, 0.0], [-1e4, 1e4, 0.0], [0.0, -1e4, 1e4], [-1e4, -1e4, -1e4]])
    targets = torch.zeros(4, dtype=torch.long)
    assert_exact(logits, targets, gamma)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("gamma", [0.0, 0.01, 0.5, 1.0, 2.0, 5.0])
def test_finite_wherever_cross_entropy_is(gamma, dtype):
    logits = torch.cat([mixed_batch()[0], torch.tensor([[3.0, -np.inf, 0.0], [0.0, -np.inf, -np.inf], [1e4, -1e4, 0]])])
    logits = logits.to(dtype)
    targets = torch.cat([mixed_batch()[1], torch.tensor([0, 0, 1])])
    ours, theirs = logits.clone().requires_grad_(), logits.clone().requires_grad_()
    loss, plain = (
        focal_loss(ours, targets, gamma=gamma, reduction="none"),
        F.cross_entropy(theirs, targets, reduction="none"),
    )
    loss.mean().backward()
    plain.mean().backward()
    assert loss.dtype == plain.dtype
    assert ours.grad.dtype == dtype
    assert (torch.isfinite(loss) | ~torch.isfinite(plain)).all()
    assert (torch.isfinite(ours.grad) | ~torch.isfinite(theirs.grad)).all()
    # The target itself at -inf: the loss is infinite like cross entropy's, the gradient is not.
    x = torch.tensor([[-np.inf, 0.0, 1.0]], dtype=dtype, requires_grad=True)
    focal_loss(x, torch.tensor([0]), gamma=gamma).backward()
    assert torch.isfinite(x.grad).all()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_adds_rows_up_in_float32(dtype):
    logits, targets = torch.zeros(100_000, 3, dtype=dtype), torch.zeros(100_000, dtype=torch.long)
    expected = (2 / 3) ** 2 * np.log(3)
    assert focal_loss(logits, targets).item() == pytest.approx(expected, rel=torch.finfo(dtype).eps)


@pytest.mark.parametrize(
    ("n_classes", "gamma"), [(3, 0.5), (3, 1.0), (3, 2.0), (3, 5.0), (FEW_CLASSES, 1.5)]
)  # both layouts
def test_first_and_second_derivatives(gamma, n_classes):
    generator = torch.Generator().manual_seed(2)
    logits = torch.randn(4, n_classes, generator=generator, dtype=torch.float64).requires_grad_()
    targets = torch.tensor([0, 1, -100, 2])
    soft = torch.rand(4, n_classes, generator=generator, dtype=torch.float64)
    weights = torch.rand(n_classes, generator=generator, dtype=torch.float64)
    kinds = [(targets, 0.0), (targets, 0.1), (soft, 0.0)]
    for given, smoothing in kinds if n_classes == 3 else kinds[:1]:  # only hard targets have two layouts

        def loss(x, given=given, smoothing=smoothing):
            return focal_loss(x, given, alpha=weights, gamma=gamma, label_smoothing=smoothing)

        assert gradcheck(loss, logits)
        assert gradgradcheck(loss, logits)


@pytest.mark.parametrize("shape", [(40, 3), (40, 30), (5, 3, 4), (2, 3, 4, 5)])
@pytest.mark.parametrize("reduction", ["none", "sum", "mean"])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_gamma_zero_is_cross_entropy_for_every_kind_of_target(shape, reduction, smoothing):
    generator = torch.Generator().manual_seed(3)
    logits = torch.randn(shape, generator=generator)
    targets = torch.randint(shape[1], shape[:1] + shape[2:], generator=generator)
    targets[0] = -100
    for given in (targets, torch.rand(shape, generator=generator).softmax(1)):
        ours, theirs = logits.clone().requires_grad_(), logits.clone().requires_grad_()
        loss = focal_loss(ours, given, alpha=0.75, gamma=0.0, label_smoothing=smoothing, reduction=reduction)
        peer = 0.75 * F.cross_entropy(theirs, given, label_smoothing=smoothing, reduction=reduction)
        loss.sum().backward()
        peer.sum().backward()
        assert torch.equal(loss, peer)
        assert torch.equal(ours.grad, theirs.grad)
        # The general formula agrees with that short cut.
        near = focal_loss(logits, given, alpha=0.75, gamma=1e-9, label_smoothing=smoothing, reduction=reduction)
        torch.testing.assert_close(near, peer.detach())


@pytest.mark.parametrize("gamma", GAMMAS)
def test_one_hot_rows_equal_indices_and_mixtures_mix(batch, gamma):
    logits, targets = batch
    weights = torch.tensor([0.5, 1.0, 2.0])
    one_hot, other = F.one_hot(targets).double(), F.one_hot(targets.roll(1)).double()
    settings = {"alpha": weights, "gamma": gamma, "reduction": "none"}
    first = focal_loss(logits, targets, **settings)
    torch.testing.assert_close(focal_loss(logits, one_hot, **settings), first)
    mixed = focal_loss(logits, 0.3 * one_hot + 0.7 * other, **settings)
    torch.testing.assert_close(mixed, 0.3 * first + 0.7 * focal_loss(logits, targets.roll(1), **settings))
    smoothed = focal_loss(logits, targets, label_smoothing=0.1, **settings)
    torch.testing.assert_close(smoothed, focal_loss(logits, 0.9 * one_hot + 0.1 / 3, **settings))


def test_with_everything_ignored_it_does_as_cross_entropy():
    logits, targets = torch.randn(4, 3, requires_grad=True), torch.full((4,), -100)
    for gamma in (0.0, 2.0):
        assert focal_loss(logits, targets, gamma=gamma).isnan()
        assert focal_loss(logits, targets, gamma=gamma, reduction="sum") == 0
        assert torch.equal(focal_loss(logits, targets, gamma=gamma, reduction="none"), torch.zeros(4))
    assert focal_loss(logits[:0], targets[:0]).isnan()
    (gradient,) = torch.autograd.grad(focal_loss(logits, targets, reduction="sum"), logits)
    assert torch.equal(gradient, torch.zeros(4, 3))


def test_a_valid_class_can_be_the_ignored_one(batch):
    logits, targets = batch
    kept = targets != 1
    for smoothing in (0.0, 0.1):
        loss = focal_loss(logits, targets, ignore_index=1, label_smoothing=smoothing)
        torch.testing.assert_close(loss, focal_loss(logits[kept], targets[kept], label_smoothing=smoothing))


def test_any_integer_type_will_do(batch):
    logits, targets = batch
    for dtype in (torch.uint8, torch.int32):
        assert torch.equal(focal_loss(logits, targets.to(dtype)), focal_loss(logits, targets))


@pytest.mark.parametrize(
    ("targets", "settings", "error", "message"),
    [
        (torch.zeros(4, 1, dtype=torch.long), {}, ValueError, r"indices .* must have shape \(4,\)"),
        (torch.zeros(4, 3, dtype=torch.long), {}, ValueError, r"use .float\(\) for one-hot rows"),
        (torch.zeros(4), {}, ValueError, r"use .long\(\) for indices"),
        (torch.zeros(4, dtype=torch.bool), {}, TypeError, "torch.bool"),
        (torch.zeros(4, dtype=torch.long), {"alpha": torch.ones(2)}, ValueError, "3 class weights"),
        (torch.zeros(4, dtype=torch.long), {"label_smoothing": 1.5}, ValueError, "label_smoothing"),
        (torch.zeros(4, dtype=torch.long), {"gamma": float("nan")}, ValueError, "gamma"),
        (torch.full((4,), 3), {}, IndexError, "out of bounds"),
    ],
)
def test_wrong_targets_and_settings_say_how_to_mend_them(targets, settings, error, message):
    with pytest.raises(error, match=message):
        focal_loss(torch.zeros(4, 3), targets, **settings)


def test_gradient_can_be_taken_twice_over_the_same_graph(batch):
    logits = batch[0].float().requires_grad_()
    loss = focal_loss(logits, batch[1])
    (first,) = torch.autograd.grad(loss, logits, retain_graph=True)
    (second,) = torch.autograd.grad(loss, logits, create_graph=True)
    torch.testing.assert_close(first, second)
    assert torch.equal(first, torch.autograd.grad(loss, logits)[0])


def test_per_sample_gradients_by_vmap(batch):
    logits, targets = batch
    each = torch.func.vmap(torch.func.grad(lambda x, t: focal_loss(x[None], t[None])))(logits, targets)
    x = logits.clone().requires_grad_()
    focal_loss(x, targets, reduction="sum").backward()
    torch.testing.assert_close(each, x.grad)


def test_forward_mode_and_hessian(batch):
    logits, targets = batch[0][:2], batch[1][:2]

    def loss(x):
        return focal_loss(x, targets)

    x = logits.clone().requires_grad_()
    direction = torch.ones_like(logits).cumsum(1)
    (gradient,) = torch.autograd.grad(loss(x), x)
    torch.testing.assert_close(torch.func.jvp(loss, (logits,), (direction,))[1], (gradient * direction).sum())
    torch.testing.assert_close(torch.func.hessian(loss)(logits), torch.autograd.functional.hessian(loss, logits))


@pytest.mark.slow
def test_compiled_equals_eager(batch):
    logits, targets = batch[0].float(), batch[1]
    compiled = torch.compile(lambda x, t: focal_loss(x, t, gamma=1.5), backend="aot_eager")
    ours, theirs = logits.clone().requires_grad_(), logits.clone().requires_grad_()
    compiled_loss, eager_loss = compiled(ours, targets), focal_loss(theirs, targets, gamma=1.5)
    compiled_loss.backward()
    eager_loss.backward()
    torch.testing.assert_close(compiled_loss, eager_loss)
    torch.testing.assert_close(ours.grad, theirs.grad)


@pytest.mark.parametrize("gamma", [0.0, 2.0])
def test_autocast_gives_the_dtype_of_cross_entropy(gamma):
    layer, x, targets = torch.nn.Linear(4, 3), torch.randn(8, 4), torch.arange(8) % 3
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits = layer(x)
        loss, plain = focal_loss(logits, targets, gamma=gamma), F.cross_entropy(logits, targets)
    assert logits.dtype == torch.bfloat16
    assert loss.dtype == plain.dtype
    loss.backward()
    assert torch.isfinite(layer.weight.grad).all()


def test_class_weights_travel_with_the_module():
    loss = FocalLoss(alpha=torch.tensor([1.0, 2.0, 3.0]), label_smoothing=0.1, ignore_index=2)
    for copied in (copy.deepcopy(loss), pickle.loads(pickle.dumps(loss))):
        logits, targets = torch.randn(8, 3), torch.arange(8) % 3
        assert torch.equal(copied(logits, targets), loss(logits, targets))
    assert loss.to(torch.float64).alpha.dtype == torch.float64
    assert "gamma=2.0" in repr(loss)


@pytest.mark.parametrize(
    "alpha", [-1, 0.0, float("nan"), float("inf"), [0.5, -1.0, 1.0], torch.tensor([1.0, 0.0, 1.0])]
)
def test_a_weight_that_would_train_upwards_is_refused(batch, alpha):
    """-1 means "no weights" in some libraries."""
    with pytest.raises(ValueError, match="alpha must be positive and finite"):
        focal_loss(*batch, alpha=alpha)
    with pytest.raises(ValueError, match="alpha must be positive and finite"):
        FocalLoss(alpha=alpha)


def test_a_loss_says_all_its_settings():
    assert repr(FocalLoss()) == "FocalLoss(alpha=1.0, gamma=2.0, reduction='mean')"
    text = repr(FocalLoss(alpha=torch.tensor([1.0, 2.0]), gamma=0.5, label_smoothing=0.1, ignore_index=255))
    assert text == "FocalLoss(alpha=[1.0, 2.0], gamma=0.5, reduction='mean', label_smoothing=0.1, ignore_index=255)"


@pytest.mark.parametrize("alpha", [0.5, torch.tensor([0.5, 1.0, 2.0])])
def test_fake_tensors_and_traces_have_no_numbers_to_read(batch, alpha):
    logits, targets = batch
    with FakeTensorMode() as mode:
        fake = mode.from_tensor(logits).requires_grad_()
        weights = mode.from_tensor(alpha) if isinstance(alpha, torch.Tensor) else alpha
        focal_loss(fake, mode.from_tensor(targets), alpha=weights).backward()
        assert fake.grad.shape == logits.shape
    traced = make_fx(lambda x, t: focal_loss(x, t, alpha=alpha))(logits, targets)
    changed = targets.clone()
    changed[:7] = -100
    torch.testing.assert_close(traced(logits, changed), focal_loss(logits, changed, alpha=alpha))


def test_without_torchs_private_name_the_loss_is_the_same(batch, monkeypatch):
    expected = focal_loss(*batch)
    monkeypatch.setattr("rbcnb.losses.focal._TRANSFORMS_ACTIVE", "a_name_that_is_gone")
    assert torch.equal(focal_loss(*batch), expected)
