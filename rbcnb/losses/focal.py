"""The focal loss of Lin et al. (2020), Eq. (4) of the paper: exact at every probability, and fast.

With ``ce = -log p_t`` and ``q = 1 - p_t`` the loss of a row is ``q^gamma ce`` and its gradient with respect to the
logits is ``c (p_j - d_jt)``, ``c = q^gamma (1 + gamma ce / (e^ce - 1))``. Both are written in ce as the log-softmax
gives it, so that nothing cancels at either end and nothing is clipped.
"""

import math
from collections.abc import Sequence
from numbers import Real
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

IGNORE_INDEX = -100  # torch's own default
REDUCTIONS = ("none", "sum", "mean")
FEW_CLASSES = 16  # below this, torch's CPU softmax over the last dimension leaves its vector registers part empty


def focal_loss(
    logits: Tensor,
    targets: Tensor,
    *,
    alpha: float | Sequence[float] | Tensor = 1.0,
    gamma: float = 2.0,
    ignore_index: int = IGNORE_INDEX,
    label_smoothing: float = 0.0,
    reduction: str = "mean",
) -> Tensor:
    """Focal loss, Eq. (4) of the paper: ``-alpha (1 - p_t)^gamma log p_t``, with p_t the softmax of the target class.

    Soft targets y, and integer targets smoothed to ``y_j = (1 - s) [j = t] + s / C``, give
    ``-sum_j y_j alpha_j (1 - p_j)^gamma log p_j``: linear in y, so that the loss of mixed targets is the mixture of the
    losses (what MixUp assumes), one-hot rows equal integers, and gamma = 0 is `F.cross_entropy` of the same targets.

    Args:
        logits: [N, C] or [N, C, d1, ...] unnormalised scores.
        targets: class indices [N] or [N, d1, ...] of any integer type, or probabilities shaped like *logits*.
        alpha: a scalar scales the whole loss, as in Eq. (4); C weights weigh each cell by its class. Either way it
            stands outside the modulating factor: p_t is never taken from a weighted loss. Positive and finite.
        gamma: focusing parameter, >= 0. At 0 the loss is ``alpha * F.cross_entropy``, bit for bit for a scalar alpha.
        ignore_index: integer targets with this value add neither loss nor count.
        label_smoothing: s in [0, 1].
        reduction: "none", "sum", or "mean": the sum over the number of targets that are not ignored. It is not divided
            by the sum of their weights, unlike ``F.cross_entropy(weight=...)``: alpha and twice alpha differ by two.
            With every target ignored the mean is 0 / 0 = NaN and the sum 0, as in `F.cross_entropy`.

    Returns:
        A scalar, or [N, d1, ...] for "none"; of the dtype that `F.cross_entropy` gives.

    Raises:
        ValueError: shapes do not fit, or a setting is out of its range.
        TypeError: targets are neither integers nor floating-point probabilities.
    """
    targets, soft = _check(logits, targets, gamma, label_smoothing, reduction)
    check_alpha(alpha)
    per_class = not isinstance(alpha, Real) and (not isinstance(alpha, Tensor) or alpha.ndim > 0)
    if per_class:
        alpha = torch.as_tensor(alpha, device=logits.device)
        if alpha.shape != logits.shape[1:2]:
            raise ValueError(f"alpha must be a scalar or {logits.shape[1]} class weights, got {tuple(alpha.shape)}")
    settings = {"label_smoothing": label_smoothing} | ({} if soft else {"ignore_index": ignore_index})
    if gamma == 0 and not per_class:
        loss = F.cross_entropy(logits, targets, reduction=reduction, **settings)
        return loss if isinstance(alpha, Real) and alpha == 1 else alpha * loss
    if gamma == 0:
        loss = F.cross_entropy(logits, targets, weight=alpha.to(logits), reduction="none", **settings)
    elif soft or label_smoothing:
        loss = _soft_focal(logits, targets, alpha if per_class else None, gamma, ignore_index, label_smoothing)
    else:
        logits = as_autocast_does(logits)
        if not torch.compiler.is_compiling() and _transforms_active():
            # Under torch.func (vmap, jvp, hessian) out of plain operations, which it knows how to transform.
            ce = F.cross_entropy(logits, targets, ignore_index=ignore_index, reduction="none")
            loss = _power_of_q(ce, gamma) * ce
        elif isinstance(alpha, Real):
            loss = _HardFocal.apply(logits, targets, float(alpha), float(gamma), ignore_index, reduction)
            return loss if loss.dtype == logits.dtype else loss.to(logits.dtype)
        else:
            loss = _HardFocal.apply(logits, targets, 1.0, float(gamma), ignore_index, "none")
        if per_class:
            loss = alpha.to(loss)[targets.where(targets != ignore_index, 0)] * loss
    scale = 1.0 if per_class else alpha
    if reduction == "none":
        return (scale * loss).to(logits.dtype)
    # Half-precision rows are added up in float32, so that a long batch does not overflow.
    total = scale * loss.sum(dtype=torch.promote_types(loss.dtype, torch.float32))
    if reduction == "mean":
        total = total / (loss.numel() if soft else (targets != ignore_index).sum())
    return total.to(logits.dtype)


def _check(
    logits: Tensor, targets: Tensor, gamma: float, label_smoothing: float, reduction: str
) -> tuple[Tensor, bool]:
    """The targets as int64 or as probabilities of the logits' dtype, and whether they are probabilities."""
    if not (gamma >= 0 and math.isfinite(gamma)):
        raise ValueError(f"gamma must be finite and >= 0, got {gamma}")
    if not 0 <= label_smoothing <= 1:
        raise ValueError(f"label_smoothing must lie in [0, 1], got {label_smoothing}")
    return check_targets(logits, targets, reduction=reduction)


def check_alpha(alpha: float | Sequence[float] | Tensor) -> None:
    """Raises ValueError for a weight that is not positive and finite: the loss would be driven up, or away.

    A tensor is not looked at on another device than the CPU, which would have to be waited for, nor while torch traces.
    `FocalLoss` looks when it is made.
    """
    if not isinstance(alpha, Tensor):
        wrong = not all(0 < weight < math.inf for weight in ([alpha] if isinstance(alpha, Real) else alpha))
    elif alpha.device.type != "cpu" or torch.compiler.is_compiling():
        return
    else:
        try:
            wrong = not bool(((alpha > 0) & torch.isfinite(alpha)).all())
        except RuntimeError:  # under torch.func, make_fx or fake tensors there is no number to read
            return
    if wrong:
        raise ValueError(f"alpha must be positive and finite, got {alpha}; for no weighting leave it at 1")


def check_targets(logits: Tensor, targets: Tensor, *, reduction: str) -> tuple[Tensor, bool]:
    """The targets as int64 or as probabilities of the logits' dtype, and whether they are probabilities.

    Raises:
        ValueError: shapes do not fit each other, or the reduction is unknown.
        TypeError: targets are neither integers nor floating-point probabilities.
    """
    if reduction not in REDUCTIONS:
        raise ValueError(f"reduction must be 'none', 'sum' or 'mean', got {reduction!r}")
    if logits.ndim < 2:
        raise ValueError(f"logits must be [N, C] or [N, C, d1, ...], got shape {tuple(logits.shape)}")
    if targets.dtype == torch.int64 and logits.ndim == 2 and targets.shape == logits.shape[:1]:
        return targets, False  # the usual ones, soon done with
    if targets.dtype == torch.bool or targets.is_complex():
        raise TypeError(f"targets must be class indices or probabilities, got {targets.dtype}")
    soft = targets.is_floating_point()
    wanted = logits.shape if soft else logits.shape[:1] + logits.shape[2:]
    if targets.shape != wanted:
        kind = "probabilities (floating point)" if soft else "class indices (integers)"
        raise ValueError(
            f"targets that are {kind} must have shape {tuple(wanted)} for logits {tuple(logits.shape)}, "
            f"got {tuple(targets.shape)}; {'use .long() for indices' if soft else 'use .float() for one-hot rows'}"
        )
    return (targets.to(logits.dtype) if soft else targets.long()), soft


def as_autocast_does(logits: Tensor) -> Tensor:
    """The logits in float32 where autocast is on, as it gives them to cross entropy; float64 stays."""
    device = logits.device.type
    if device != "meta" and torch.is_autocast_enabled(device) and logits.dtype != torch.float64:
        return logits.float()
    return logits


_TRANSFORMS_ACTIVE = "_are_functorch_transforms_active"  # torch's private name


def _transforms_active() -> bool:
    # No public question asks whether torch.func is at work; a torch without this one answers no.
    return getattr(torch._C, _TRANSFORMS_ACTIVE, bool)()


def _power_of_q(ce: Tensor, gamma: float) -> Tensor:
    """``(1 - e^-ce)^gamma``, with a finite derivative at ce = 0 for every gamma and none where e^-ce is 0."""
    tiny = torch.finfo(ce.dtype).tiny
    return (-torch.expm1(-ce.clamp(max=1e3))).clamp(min=tiny) ** gamma


def _slope(ce: Tensor, factor: Tensor, gamma: float) -> Tensor:
    """The derivative d loss / d ce = ``q^gamma (1 + gamma p_t ce / q)``.

    *factor* is q^gamma, and p_t / q = 1 / (e^ce - 1).
    """
    info = torch.finfo(ce.dtype)
    ce = ce.clamp(info.tiny, info.max)  # ce / (e^ce - 1) has its limits there: 1 at 0, 0 at infinity
    return torch.add(factor, factor * (ce / torch.expm1(ce)), alpha=gamma)


class _HardFocal(torch.autograd.Function):
    """Logits [N, C, ...] and indices [N, ...] to alpha times the rows' losses [N, ...], or to their sum or mean.

    At least float32. The gradient is ready when the loss is: it shares its powers and exponentials, and one product is
    left for the backward pass. Its buffer is that of the log-softmax, so that two buffers of the logits' size are the
    most at any time, where `F.cross_entropy` has three.
    """

    @staticmethod
    def forward(
        ctx: Any, logits: Tensor, targets: Tensor, alpha: float, gamma: float, ignore_index: int, reduction: str
    ) -> Tensor:
        class_major = _class_major(logits)
        axis = 0 if class_major else 1
        log_p = logits.t().contiguous().log_softmax(0) if class_major else logits.log_softmax(1)
        by_row = log_p.t() if class_major else log_p
        log_p_t = -F.nll_loss(by_row, targets, ignore_index=ignore_index, reduction="none")  # 0 in ignored rows
        log_p_t = log_p_t.to(torch.promote_types(log_p_t.dtype, torch.float32))
        # q = 1 - p_t and ce without their signs, which cancel: no copy for a minus.
        minus_q = torch.expm1(log_p_t)
        power = minus_q * minus_q if gamma == 2 else minus_q.neg().pow_(gamma)
        rows = power * log_p_t
        ctx.alpha, ctx.gamma, ctx.ignore_index, ctx.reduction = -alpha, gamma, ignore_index, reduction
        safe, counted = _without_ignored(targets, ignore_index)
        if ctx.needs_input_grad[0]:
            if gamma == 2:
                # From there on p_t log p_t is nothing beside q; unbounded it would be 0 times infinity.
                bounded = log_p_t.clamp(min=-100.0)
                slope = torch.add(power, bounded.exp().mul_(bounded).mul_(minus_q), alpha=2).neg_()
            else:
                slope = _slope(-log_p_t, power, gamma).neg_()
            gradient = log_p.exp_().mul_(slope if class_major else slope.unsqueeze(1))
            gradient.scatter_(axis, safe.unsqueeze(axis), minus_q.mul_(slope).unsqueeze(axis).to(gradient.dtype))
            ctx.save_for_backward(logits, targets, gradient)
        if reduction == "none":
            return rows.mul_(-alpha)
        ctx.counted = counted if reduction == "mean" else 1
        return rows.sum() * -alpha / ctx.counted

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None, None, None]:
        logits, targets, gradient = ctx.saved_tensors
        factor = grad * ctx.alpha
        if ctx.reduction != "none":
            factor = factor / ctx.counted
        if torch.is_grad_enabled():  # somebody differentiates the gradient: out of plain operations, then
            ignored = targets == ctx.ignore_index
            target = targets.masked_fill(ignored, 0).unsqueeze(1)
            ce = F.cross_entropy(logits, targets, ignore_index=ctx.ignore_index, reduction="none").to(grad.dtype)
            c = (-factor * _slope(ce, _power_of_q(ce, ctx.gamma), ctx.gamma)).masked_fill(ignored, 0).unsqueeze(1)
            p = logits.softmax(1)
            of_logits = (c * (p - torch.zeros_like(p).scatter(1, target, 1.0))).to(logits.dtype)
            return of_logits, None, None, None, None, None
        if not _class_major(logits):
            factor = factor if ctx.reduction != "none" else factor.unsqueeze(1)
            return (gradient * factor).to(logits.dtype), None, None, None, None, None
        # The product goes back to the logits' own layout: autograd would copy it there.
        of_logits = torch.mul(gradient, factor.to(gradient.dtype), out=torch.empty_like(logits).t()).t()
        return of_logits, None, None, None, None, None


def _without_ignored(targets: Tensor, ignore_index: int) -> tuple[Tensor, Tensor | int]:
    """The targets with another class in place of an ignored one, and the number of those that are not ignored."""
    if ignore_index < 0 and _least(targets) >= 0:  # one look tells both
        return targets, targets.numel()
    ignored = targets == ignore_index
    return targets.masked_fill(ignored, 0), targets.numel() - ignored.sum()


def _least(targets: Tensor) -> int:
    """The smallest of the targets, or -1 where it cannot be read at once."""
    if targets.device.type != "cpu" or torch.compiler.is_compiling() or not targets.numel():
        return -1
    try:
        return int(targets.min())
    except RuntimeError:  # under make_fx or fake tensors there is no number to read
        return -1


def _class_major(logits: Tensor) -> bool:
    """Whether to work on logits [N, C] class by class: on a CPU torch takes few classes row by row, unvectorised.

    What it brings: ``benchmarks/losses.py``. Below some thousand rows the calls themselves outweigh the arithmetic.
    """
    return logits.ndim == 2 and logits.shape[1] < FEW_CLASSES and logits.device.type == "cpu"


def _soft_focal(
    logits: Tensor, targets: Tensor, weights: Tensor | None, gamma: float, ignore_index: int, label_smoothing: float
) -> Tensor:
    """``sum_j y_j alpha_j (1 - p_j)^gamma (-log p_j)`` [N, ...] by plain operations, ignored rows 0."""
    dtype = torch.promote_types(logits.dtype, torch.float32)
    n_classes = logits.shape[1]
    ce = -logits.log_softmax(1).to(dtype)
    terms = _power_of_q(ce, gamma) * ce
    if weights is not None:
        terms = terms * weights.to(terms).view(-1, *[1] * (logits.ndim - 2))
    if targets.is_floating_point():
        smooth = targets.to(dtype) * (1 - label_smoothing) + label_smoothing / n_classes
        # A class that has no share costs nothing, be its logit -inf.
        return torch.where(smooth == 0, 0.0, terms * smooth).sum(1)
    ignored = targets == ignore_index
    target_terms = terms.gather(1, targets.masked_fill(ignored, 0).unsqueeze(1)).squeeze(1)
    return ((1 - label_smoothing) * target_terms + label_smoothing / n_classes * terms.sum(1)).masked_fill(ignored, 0)


class FocalLoss(torch.nn.Module):
    """`focal_loss` as fastai wants a loss: picklable, with the activation and decoding of its logits.

    fastai's own ``BaseLoss`` would cast the logits to float32 first, so this stands on ``nn.Module`` instead.
    """

    y_int = True  # fastai's MixUp: mix the losses of two integer targets, which comes to the same as mixing targets

    def __init__(
        self,
        *,
        alpha: float | Sequence[float] | Tensor = 1.0,
        gamma: float = 2.0,
        ignore_index: int = IGNORE_INDEX,
        label_smoothing: float = 0.0,
        reduction: str = "mean",
    ) -> None:
        super().__init__()
        check_alpha(alpha.detach().cpu() if isinstance(alpha, Tensor) and not alpha.is_meta else alpha)
        # A buffer moves with `.to(device)`; a number stays one, so that gamma = 0 is cross entropy in its own dtype.
        if isinstance(alpha, Tensor):
            self.register_buffer("alpha", alpha, persistent=False)
        else:
            self.alpha = alpha
        self.gamma, self.ignore_index, self.label_smoothing = gamma, ignore_index, label_smoothing
        self.reduction = reduction

    def extra_repr(self) -> str:
        """The settings, as `print` shows them."""
        alpha = self.alpha.tolist() if isinstance(self.alpha, Tensor) and not self.alpha.is_meta else self.alpha
        shown = {"alpha": alpha, "gamma": self.gamma, "reduction": self.reduction}
        if self.label_smoothing:
            shown["label_smoothing"] = self.label_smoothing
        if self.ignore_index != IGNORE_INDEX:
            shown["ignore_index"] = self.ignore_index
        return ", ".join(f"{name}={value!r}" for name, value in shown.items())

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Logits and targets to the loss; shapes as in `focal_loss`."""
        return focal_loss(
            logits,
            targets,
            alpha=self.alpha,
            gamma=self.gamma,
            ignore_index=self.ignore_index,
            label_smoothing=self.label_smoothing,
            reduction=self.reduction,
        )

    def activation(self, logits: Tensor) -> Tensor:
        """Logits [N, C, ...] to probabilities of the same shape."""
        return logits.softmax(dim=1)

    def decodes(self, logits: Tensor) -> Tensor:
        """Logits or probabilities [N, C, ...] to class indices [N, ...]."""
        return logits.argmax(dim=1)
