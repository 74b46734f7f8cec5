"""Loss functions for imbalanced classes, and the one place where a trial's loss settings are unpacked.

A new loss is one function, one line in ``LOSSES`` and one test.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

if TYPE_CHECKING:
    from rbcnb.trial import Trial

IGNORE_INDEX = -100  # torch's own default


def focal_loss(
    logits: Tensor,
    targets: Tensor,
    *,
    alpha: float | Tensor = 1.0,
    gamma: float = 2.0,
    ignore_index: int = IGNORE_INDEX,
    reduction: str = "mean",
) -> Tensor:
    """Focal loss, Eq. (4) of the paper: ``-alpha (1 - p_t)^gamma log p_t``, with p_t the softmax of the target class.

    Args:
        logits: [N, C] or [N, C, d1, ...] unnormalised scores.
        targets: [N] or [N, d1, ...] class indices.
        alpha: a scalar scales the whole loss, as in Eq. (4); a [C] tensor weighs each cell by its class. Either way it
            stands outside the modulating factor: p_t is never taken from a weighted loss.
        gamma: focusing parameter, >= 0. At 0 the loss is ``alpha * F.cross_entropy``, bit for bit for a scalar alpha.
        ignore_index: targets with this value add neither loss nor count.
        reduction: "none", "sum", or "mean" over the counted targets (not over weights, unlike ``F.cross_entropy``).

    Returns:
        A scalar, or a tensor shaped like *targets* for "none".

    Raises:
        ValueError: gamma is negative, or reduction is unknown.
    """
    if gamma < 0:
        raise ValueError(f"gamma must be >= 0, got {gamma}")
    if reduction not in ("none", "sum", "mean"):
        raise ValueError(f"reduction must be 'none', 'sum' or 'mean', got {reduction!r}")
    per_class = isinstance(alpha, Tensor) and alpha.ndim > 0
    if gamma == 0 and not per_class:
        return alpha * F.cross_entropy(logits, targets, ignore_index=ignore_index, reduction=reduction)

    cross_entropy = F.cross_entropy(logits, targets, ignore_index=ignore_index, reduction="none")
    loss = cross_entropy
    if gamma > 0:
        # 1 - p_t without the cancellation of 1 - exp(-ce) near p_t = 1.
        one_minus_pt = -torch.expm1(-cross_entropy)
        if gamma < 1:
            # d/dq q^gamma is infinite at q = 0: keep inf * 0 = nan out of the gradient of perfectly classified cells.
            one_minus_pt = one_minus_pt.clamp_min(torch.finfo(logits.dtype).tiny)
        loss = one_minus_pt**gamma * cross_entropy
    counted = targets != ignore_index
    weight = alpha.to(loss)[targets.where(counted, torch.zeros_like(targets))] if per_class else alpha
    loss = weight * loss
    if reduction == "none":
        return loss
    return loss.sum() if reduction == "sum" else loss.sum() / counted.sum()


class FocalLoss(torch.nn.Module):
    """`focal_loss` as fastai wants a loss: picklable, with the activation and decoding of its logits.

    fastai's own ``BaseLoss`` would cast the logits to float32 first, so this stands on ``nn.Module`` instead.
    """

    def __init__(self, *, alpha: float | Tensor = 1.0, gamma: float = 2.0, reduction: str = "mean") -> None:
        super().__init__()
        self.alpha, self.gamma, self.reduction = alpha, gamma, reduction

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        """[N, C] logits and [N] targets to the loss; see `focal_loss`."""
        return focal_loss(logits, targets, alpha=self.alpha, gamma=self.gamma, reduction=self.reduction)

    def activation(self, logits: Tensor) -> Tensor:
        """Logits [N, C] to probabilities [N, C]."""
        return logits.softmax(dim=1)

    def decodes(self, logits: Tensor) -> Tensor:
        """Logits [N, C] to class indices [N]."""
        return logits.argmax(dim=1)


def _focal(trial: "Trial") -> Callable[[Tensor, Tensor], Tensor]:
    return FocalLoss(alpha=trial.alpha, gamma=trial.gamma)


def _cross_entropy(_trial: "Trial") -> Callable[[Tensor, Tensor], Tensor]:
    # gamma = 0 returns F.cross_entropy itself, with the activation and decoding that fastai asks of a loss.
    return FocalLoss(alpha=1.0, gamma=0.0)


LOSSES: dict[str, Callable[["Trial"], Callable[[Tensor, Tensor], Tensor]]] = {
    "cross_entropy": _cross_entropy,
    "focal": _focal,
}


def build_loss(trial: "Trial") -> Callable[[Tensor, Tensor], Tensor]:
    """The loss function of a trial, from its ``loss``, ``alpha`` and ``gamma``.

    Raises:
        ValueError: the trial names a loss that is not registered.
    """
    try:
        build = LOSSES[trial.loss]
    except KeyError:
        raise ValueError(f"unknown loss {trial.loss!r}; known: {', '.join(LOSSES)}") from None
    return build(trial)
