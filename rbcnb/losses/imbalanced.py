"""The focal loss's rivals for imbalanced classes, and the registry that names them all.

A new loss is one function, one line in ``LOSSES`` and one test. All take logits [N, C] or [N, C, d1, ...], class
indices [N] or [N, d1, ...] (-100 is ignored) and ``reduction``; what they must know of the classes is passed in as
``counts``, the C numbers of training cells n_c, N in all.

Not here: the semi-focal loss that the paper names (Ma et al. 2018, "CHS-NET", PMLR 95:161-175). Its abstract could be
read, its formula could not, and a guess would bear a name that is not ours.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from rbcnb.losses.focal import IGNORE_INDEX, FocalLoss

BETA = 0.9999  # of the effective number, as Cui et al. and Cao et al. have it
MAX_MARGIN = 0.5  # of LDAM, as Cao et al. have it
DEFERRED_FROM = 0.8  # share of the epochs before re-weighting begins: 160 of 200 in Cao et al.
WITHOUT_COUNTS = ("cross_entropy", "focal")


def inverse_frequency_weights(counts: Sequence[float]) -> Tensor:
    """``N / (C n_c)``, float64 [C]: every class has the same say, and the mean weight of a training cell is 1."""
    n = _check_counts(counts)
    return n.sum() / (len(n) * n)


def effective_number_weights(counts: Sequence[float], *, beta: float = BETA) -> Tensor:
    """``(1 - beta) / (1 - beta^n_c)``, scaled to sum to C, float64 [C] (Cui et al. 2019, CVPR).

    beta = 0 weighs every class alike, beta -> 1 by the inverse of its frequency.

    Raises:
        ValueError: beta is not in [0, 1).
    """
    n = _check_counts(counts)
    if not 0 <= beta < 1:
        raise ValueError(f"beta must lie in [0, 1), got {beta}")
    # 1 - beta^n without cancellation; at beta = 0 it is 1.
    weights = 1 / -torch.expm1(n * torch.log(torch.tensor(beta, dtype=n.dtype)))
    return weights * len(n) / weights.sum()


def ldam_margins(counts: Sequence[float], *, max_margin: float = MAX_MARGIN) -> Tensor:
    """Margins ``~ n_c^(-1/4)``, float64 [C], the rarest class's being *max_margin* (Cao et al. 2019, NeurIPS)."""
    margins = _check_counts(counts) ** -0.25
    return margins * (max_margin / margins.max())


def weighted_cross_entropy(
    logits: Tensor, targets: Tensor, *, counts: Sequence[float], reduction: str = "mean"
) -> Tensor:
    """Cross entropy with `inverse_frequency_weights`; the mean is over weights, as torch's own."""
    return F.cross_entropy(logits, targets, weight=inverse_frequency_weights(counts).to(logits), reduction=reduction)


def class_balanced(
    logits: Tensor, targets: Tensor, *, counts: Sequence[float], beta: float = BETA, reduction: str = "mean"
) -> Tensor:
    """Cross entropy with `effective_number_weights` (Cui et al. 2019); the mean is over weights."""
    weights = effective_number_weights(counts, beta=beta).to(logits)
    return F.cross_entropy(logits, targets, weight=weights, reduction=reduction)


def ldam(
    logits: Tensor,
    targets: Tensor,
    *,
    counts: Sequence[float],
    max_margin: float = MAX_MARGIN,
    scale: float = 1.0,
    weights: Tensor | None = None,
    reduction: str = "mean",
) -> Tensor:
    """Label-distribution-aware margin (Cao et al. 2019, NeurIPS): the target's logit must win by its margin.

    Args:
        logits, targets, counts, reduction: as for all losses here.
        max_margin: of the rarest class.
        scale: of the logits after the margin. The paper's experiments have 30, on cosines of a normalised last layer;
            1 is its equation on a network's own logits, which is what a fit uses.
        weights: [C] class weights, for deferred re-weighting.
    """
    margins = ldam_margins(counts, max_margin=max_margin).to(logits)
    index = targets.masked_fill(targets == IGNORE_INDEX, 0).unsqueeze(1)
    own = margins[index]
    shifted = logits.scatter_add(1, index, -own)
    weights = None if weights is None else weights.to(logits)
    return F.cross_entropy(scale * shifted, targets, weight=weights, reduction=reduction)


def logit_adjustment(
    logits: Tensor, targets: Tensor, *, counts: Sequence[float], tau: float = 1.0, reduction: str = "mean"
) -> Tensor:
    """Cross entropy of ``logits + tau log prior`` (Menon et al. 2021, ICLR); predict from the bare logits.

    Its post-hoc form, for a network trained with cross entropy, is `rbcnb.evaluation.shift_prior` to equal shares (at a
    tau of 1).
    """
    n = _check_counts(counts)
    shift = (tau * torch.log(n / n.sum())).to(logits)
    return F.cross_entropy(logits + shift.view(-1, *[1] * (logits.ndim - 2)), targets, reduction=reduction)


def balanced_softmax(logits: Tensor, targets: Tensor, *, counts: Sequence[float], reduction: str = "mean") -> Tensor:
    """``-log (n_t e^x_t / sum_j n_j e^x_j)`` (Ren et al. 2020, NeurIPS): `logit_adjustment` with tau = 1."""
    return logit_adjustment(logits, targets, counts=counts, tau=1.0, reduction=reduction)


def generalised_dice(logits: Tensor, targets: Tensor, *, counts: Sequence[float], reduction: str = "mean") -> Tensor:
    """``1 - 2 sum_c w_c sum_n r p / sum_c w_c sum_n (r + p)``, ``w_c = 1 / n_c^2`` (Sudre et al. 2017, DLMIA).

    r are the one-hot targets and p the softmax. Sudre et al. take n_c from the image that is scored; a batch of cells
    may lack a class, which would make its weight infinite, so n_c is the training count here. For reference: it is a
    loss of a whole batch, with no parts to give back.

    Raises:
        ValueError: reduction is not "mean".
    """
    if reduction != "mean":
        raise ValueError(f"the generalised Dice loss belongs to a batch: reduction must be 'mean', got {reduction!r}")
    weights = _check_counts(counts).to(logits) ** -2
    weights = weights / weights.sum()
    counted = (targets != IGNORE_INDEX).unsqueeze(1)
    p = logits.softmax(1) * counted
    r = torch.zeros_like(p).scatter(1, targets.unsqueeze(1).where(counted, 0), 1.0) * counted
    over = [dim for dim in range(logits.ndim) if dim != 1]
    return 1 - 2 * (weights @ (r * p).sum(over)) / (weights @ (r + p).sum(over))


def _check_counts(counts: Sequence[float]) -> Tensor:
    n = torch.as_tensor(counts, dtype=torch.float64)
    if n.ndim != 1 or not (n > 0).all():
        raise ValueError(f"counts must be the positive number of training cells of each class, got {n.tolist()}")
    return n


class ClassLoss(torch.nn.Module):
    """One of the functions above as fastai wants a loss: picklable, with the activation and decoding of its logits.

    Args:
        function: a module-level function of (logits, targets, *, reduction, ...).
        reduction: as of the function.
        **settings: its other keywords.
    """

    y_int = True  # fastai's MixUp: mix the losses of two integer targets

    def __init__(self, function: Callable[..., Tensor], *, reduction: str = "mean", **settings: Any) -> None:
        super().__init__()
        self.function, self.reduction, self.settings = function, reduction, settings

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Logits and targets to the loss; shapes as in the function."""
        return self.function(logits, targets, reduction=self.reduction, **self.settings)

    def activation(self, logits: Tensor) -> Tensor:
        """Logits [N, C, ...] to probabilities of the same shape."""
        return logits.softmax(dim=1)

    def decodes(self, logits: Tensor) -> Tensor:
        """Logits or probabilities [N, C, ...] to class indices [N, ...]."""
        return logits.argmax(dim=1)


class DeferredLDAM(ClassLoss):
    """LDAM whose last epochs are weighted by the effective number (Cao et al. 2019).

    `rbcnb.training.learner.EpochCallback` tells it the epoch.
    """

    def __init__(self, counts: Sequence[float]) -> None:
        super().__init__(ldam, counts=counts, weights=None)

    def begin_epoch(self, epoch: int, n_epochs: int) -> None:
        """Before epoch *epoch* (from 0) of *n_epochs*."""
        late = epoch >= DEFERRED_FROM * n_epochs
        self.settings["weights"] = effective_number_weights(self.settings["counts"]) if late else None


class LossSettings(NamedTuple):
    """What `build_loss` was given, for the builders in `LOSSES`."""

    alpha: float | None
    gamma: float | None
    label_smoothing: float
    class_counts: Sequence[float] | None


def _focal(settings: LossSettings) -> FocalLoss:
    given = {"alpha": settings.alpha, "gamma": settings.gamma}
    chosen = {name: value for name, value in given.items() if value is not None}
    return FocalLoss(**chosen, label_smoothing=settings.label_smoothing)


def _from_counts(function: Callable[..., Tensor]) -> "Builder":
    return lambda settings: ClassLoss(function, counts=settings.class_counts)


Builder = Callable[[LossSettings], torch.nn.Module]
LOSSES: dict[str, Builder] = {
    # gamma = 0 returns F.cross_entropy itself, with the activation and decoding that fastai asks of a loss.
    "cross_entropy": lambda settings: FocalLoss(gamma=0.0, label_smoothing=settings.label_smoothing),
    "focal": _focal,
    "weighted_cross_entropy": _from_counts(weighted_cross_entropy),
    "class_balanced": _from_counts(class_balanced),
    "ldam": _from_counts(ldam),
    "ldam_drw": lambda settings: DeferredLDAM(settings.class_counts),
    "balanced_softmax": _from_counts(balanced_softmax),
    "logit_adjustment": _from_counts(logit_adjustment),
    "generalised_dice": _from_counts(generalised_dice),
}


def build_loss(
    name: str,
    *,
    alpha: float | None = None,
    gamma: float | None = None,
    label_smoothing: float = 0.0,
    class_counts: Sequence[float] | None = None,
) -> torch.nn.Module:
    """The loss function that is registered as *name* in `LOSSES`.

    Args:
        name: such as "focal"; see `LOSSES`.
        alpha: weight of the focal loss; None is 1.
        gamma: focusing parameter of the focal loss; None is 2.
        label_smoothing: of cross entropy and focal loss, the share of a target that goes to all classes, in [0, 1).
        class_counts: [C] training cells of each class, after re-sampling; every loss needs them but those in
            ``WITHOUT_COUNTS``.

    Raises:
        ValueError: *name* is not registered; the loss has no such setting; the counts are missing or not positive.

    >>> build_loss("balanced_softmax", class_counts=[345, 356, 2691])(torch.zeros(2, 3), torch.tensor([0, 2]))
    tensor(1.2576)
    """
    if name not in LOSSES:
        raise ValueError(f"unknown loss {name!r}; known: {', '.join(LOSSES)}")
    if name != "focal" and (alpha is not None or gamma is not None):
        raise ValueError(f"alpha and gamma belong to the focal loss, not to {name!r}")
    if name not in WITHOUT_COUNTS:
        if label_smoothing:
            raise ValueError(f"label_smoothing belongs to cross_entropy and focal, not to {name!r}")
        if class_counts is None:
            raise ValueError(f"the loss {name!r} needs class_counts, the training cells of each class")
        _check_counts(class_counts)
    return LOSSES[name](LossSettings(alpha, gamma, label_smoothing, class_counts))
