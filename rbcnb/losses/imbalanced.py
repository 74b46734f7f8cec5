"""The focal loss's rivals for imbalanced classes, and the registry that names them all.

A new loss is one function, three lines and one test: docs/add_loss.md says where. All take logits [N, C] or
[N, C, d1, ...], class indices [N] or [N, d1, ...] of any integer type, ``ignore_index`` and ``reduction``; what they
must know of the classes is passed in as ``counts``, the C numbers of training cells n_c, N in all. `ClassLoss` makes a
module of each.

Not here: the semi-focal loss that the paper names (Ma et al. 2018, "CHS-NET", PMLR 95:161-175). Its abstract could be
read, its formula could not, and a guess would bear a name that is not ours.
"""

import math
import warnings
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from rbcnb.losses.focal import IGNORE_INDEX, FocalLoss, as_autocast_does, check_targets

BETA = 0.9999  # of the effective number, as Cui et al. and Cao et al. have it
MAX_MARGIN = 0.5  # of LDAM, as Cao et al. have it
DEFERRED_FROM = 0.8  # share of the epochs before re-weighting begins: 160 of 200 in Cao et al.
WITHOUT_COUNTS = ("cross_entropy", "focal")


def inverse_frequency_weights(counts: Sequence[float]) -> Tensor:
    """``N / (C n_c)``, float64 [C]: every class has the same say, and the mean weight of a training cell is 1."""
    n = _check_counts(counts)
    return _float64([sum(n) / (len(n) * count) for count in n])


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
    weights = [1 / -math.expm1(count * math.log(beta)) if beta else 1.0 for count in n]
    return _float64([weight * len(n) / sum(weights) for weight in weights])


def ldam_margins(counts: Sequence[float], *, max_margin: float = MAX_MARGIN) -> Tensor:
    """Margins ``~ n_c^(-1/4)``, float64 [C], the rarest class's being *max_margin* (Cao et al. 2019, NeurIPS)."""
    margins = [count**-0.25 for count in _check_counts(counts)]
    return _float64([margin * (max_margin / max(margins)) for margin in margins])


def log_priors(counts: Sequence[float], *, tau: float = 1.0) -> Tensor:
    """``tau log(n_c / N)``, float64 [C]."""
    n = _check_counts(counts)
    return _float64([tau * math.log(count / sum(n)) for count in n])


def dice_weights(counts: Sequence[float]) -> Tensor:
    """``1 / n_c^2``, scaled to sum to 1, float64 [C]: the generalised Dice loss is the same at any scale of them."""
    weights = [count**-2.0 for count in _check_counts(counts)]
    return _float64([weight / sum(weights) for weight in weights])


def weighted_cross_entropy(
    logits: Tensor,
    targets: Tensor,
    *,
    counts: Sequence[float],
    ignore_index: int = IGNORE_INDEX,
    reduction: str = "mean",
) -> Tensor:
    """Cross entropy with `inverse_frequency_weights`; the mean is over weights, as torch's own.

    Args:
        logits: [N, C] or [N, C, d...].
        targets: class indices [N] or [N, d...].
        counts: training cells of each class [C].
        ignore_index: target of cells that do not count.
        reduction: "mean", "sum" or "none" (a loss per cell).

    Raises:
        ValueError: a count is not positive, or shapes or *counts* do not fit.
        TypeError: *targets* are probabilities.
    """
    return _weighted(logits, targets, inverse_frequency_weights(counts), ignore_index, reduction)


def class_balanced(
    logits: Tensor,
    targets: Tensor,
    *,
    counts: Sequence[float],
    beta: float = BETA,
    ignore_index: int = IGNORE_INDEX,
    reduction: str = "mean",
) -> Tensor:
    """Cross entropy with `effective_number_weights` (Cui et al. 2019).

    Cui et al. divide a batch's sum by its number of cells. Here the mean is over weights, as torch's own, so that the
    size of a step does not depend on how many rare cells the batch happens to hold.

    Args:
        beta: in [0, 1), see `effective_number_weights`.
        logits, targets, counts, ignore_index, reduction: as of `weighted_cross_entropy`, with its errors.

    Raises:
        ValueError: *beta* is not in [0, 1).
    """
    return _weighted(logits, targets, effective_number_weights(counts, beta=beta), ignore_index, reduction)


def ldam(
    logits: Tensor,
    targets: Tensor,
    *,
    counts: Sequence[float],
    max_margin: float = MAX_MARGIN,
    scale: float = 1.0,
    weights: Tensor | None = None,
    ignore_index: int = IGNORE_INDEX,
    reduction: str = "mean",
) -> Tensor:
    """Label-distribution-aware margin (Cao et al. 2019, NeurIPS): the target's logit must win by its margin.

    Args:
        logits, targets, counts, ignore_index, reduction: as of `weighted_cross_entropy`, with its errors.
        max_margin: of the rarest class.
        scale: of the logits after the margin. The authors' code has 30, on cosines of a normalised last layer; 1 is
            their equation on a network's own logits, which is what a fit uses.
        weights: [C] class weights, for deferred re-weighting.
    """
    margins = ldam_margins(counts, max_margin=max_margin)
    return _with_margins(logits, targets, margins, ignore_index, reduction, scale=scale, weights=weights)


def logit_adjustment(
    logits: Tensor,
    targets: Tensor,
    *,
    counts: Sequence[float],
    tau: float = 1.0,
    ignore_index: int = IGNORE_INDEX,
    reduction: str = "mean",
) -> Tensor:
    """Cross entropy of ``logits + tau log prior`` (Menon et al. 2021, ICLR); predict from the bare logits.

    Its post-hoc form, for a network trained with cross entropy, is `rbcnb.evaluation.shift_prior` to equal shares (at a
    tau of 1).

    Args:
        tau: strength of the adjustment; 0 is plain cross entropy.
        logits, targets, counts, ignore_index, reduction: as of `weighted_cross_entropy`, with its errors.
    """
    return _shifted(logits, targets, log_priors(counts, tau=tau), ignore_index, reduction)


def balanced_softmax(
    logits: Tensor,
    targets: Tensor,
    *,
    counts: Sequence[float],
    ignore_index: int = IGNORE_INDEX,
    reduction: str = "mean",
) -> Tensor:
    """``-log (n_t e^x_t / sum_j n_j e^x_j)`` (Ren et al. 2020, NeurIPS): `logit_adjustment` with tau = 1.

    Its authors' code also samples the classes evenly (a "meta sampler"); the loss is the same.

    Args:
        logits, targets, counts, ignore_index, reduction: as of `weighted_cross_entropy`, with its errors.
    """
    return _shifted(logits, targets, log_priors(counts), ignore_index, reduction)


def generalised_dice(
    logits: Tensor,
    targets: Tensor,
    *,
    counts: Sequence[float],
    ignore_index: int = IGNORE_INDEX,
    reduction: str = "mean",
) -> Tensor:
    """``1 - 2 sum_c w_c sum_n r p / sum_c w_c sum_n (r + p)``, ``w_c = 1 / n_c^2`` (Sudre et al. 2017, DLMIA).

    r are the one-hot targets and p the softmax. Sudre et al. take n_c from the image that is scored; a batch of cells
    may lack a class, which would make its weight infinite, so n_c is the training count here. For reference: it is a
    loss of a whole batch, with no parts to give back.

    Args:
        logits, targets, counts, ignore_index: as of `weighted_cross_entropy`, with its errors.
        reduction: "mean" alone.

    Raises:
        ValueError: reduction is not "mean".
    """
    return _dice(logits, targets, dice_weights(counts), ignore_index, reduction)


def _weighted(logits: Tensor, targets: Tensor, weights: Tensor, ignore_index: int, reduction: str) -> Tensor:
    logits, targets, weights = _prepared(logits, targets, weights, reduction)
    return F.cross_entropy(logits, targets, weight=weights, ignore_index=ignore_index, reduction=reduction)


def _with_margins(
    logits: Tensor,
    targets: Tensor,
    margins: Tensor,
    ignore_index: int,
    reduction: str,
    *,
    scale: float = 1.0,
    weights: Tensor | None = None,
) -> Tensor:
    logits, targets, margins = _prepared(logits, targets, margins, reduction)
    index = targets.masked_fill(targets == ignore_index, 0).unsqueeze(1)
    shifted = logits.scatter_add(1, index, -margins[index])
    weights = None if weights is None else weights.to(logits)
    return F.cross_entropy(scale * shifted, targets, weight=weights, ignore_index=ignore_index, reduction=reduction)


def _shifted(logits: Tensor, targets: Tensor, shift: Tensor, ignore_index: int, reduction: str) -> Tensor:
    logits, targets, shift = _prepared(logits, targets, shift, reduction)
    shift = shift.view(-1, *[1] * (logits.ndim - 2))
    return F.cross_entropy(logits + shift, targets, ignore_index=ignore_index, reduction=reduction)


def _dice(logits: Tensor, targets: Tensor, weights: Tensor, ignore_index: int, reduction: str) -> Tensor:
    if reduction != "mean":
        raise ValueError(f"the generalised Dice loss belongs to a batch: reduction must be 'mean', got {reduction!r}")
    logits, targets, weights = _prepared(logits, targets, weights, reduction)
    counted = (targets != ignore_index).unsqueeze(1)
    # Half-precision cells are added up in float32.
    p = logits.softmax(1, dtype=torch.promote_types(logits.dtype, torch.float32)) * counted
    r = torch.zeros_like(p).scatter(1, targets.unsqueeze(1).where(counted, 0), 1.0) * counted
    over = [dim for dim in range(logits.ndim) if dim != 1]
    weights = weights.to(p)
    # No matrix product: autocast would round it.
    loss = 1 - 2 * (weights * (r * p).sum(over)).sum() / (weights * (r + p).sum(over)).sum()
    return loss.to(logits.dtype)


def _prepared(logits: Tensor, targets: Tensor, per_class: Tensor, reduction: str) -> tuple[Tensor, Tensor, Tensor]:
    """Logits as autocast has them for cross entropy, targets int64, and the classes' numbers of the logits' kind."""
    targets, soft = check_targets(logits, targets, reduction=reduction)
    if soft:
        raise TypeError(
            f"targets must be class indices (integers), got {targets.dtype}: this loss counts cells of each class; "
            "focal loss and cross entropy take probabilities"
        )
    if len(per_class) != logits.shape[1]:
        shape = tuple(logits.shape)
        raise ValueError(f"counts are of {len(per_class)} classes, but logits {shape} of {logits.shape[1]}")
    logits = as_autocast_does(logits)
    alike = per_class.dtype == logits.dtype and per_class.device == logits.device
    return logits, targets, per_class if alike else per_class.to(logits)


def _check_counts(counts: Sequence[float]) -> list[float]:
    n = [float(count) for count in counts]
    if not n or not all(0 < count < math.inf for count in n):
        raise ValueError(f"counts must be the positive number of training cells of each class, got {n}")
    return n


def _float64(values: list[float]) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


class _Form(NamedTuple):
    """A loss in two steps: what is known of the classes before the first batch, and what is done with a batch."""

    per_class: Callable[..., Tensor]  # of counts and of those settings that it names
    of_batch: Callable[..., Tensor]  # of logits, targets, per_class, ignore_index, reduction, and the other settings
    settings: tuple[str, ...] = ()  # of per_class


_FORMS: dict[Callable[..., Tensor], _Form] = {
    weighted_cross_entropy: _Form(inverse_frequency_weights, _weighted),
    class_balanced: _Form(effective_number_weights, _weighted, ("beta",)),
    ldam: _Form(ldam_margins, _with_margins, ("max_margin",)),
    logit_adjustment: _Form(log_priors, _shifted, ("tau",)),
    balanced_softmax: _Form(log_priors, _shifted),
    generalised_dice: _Form(dice_weights, _dice),
}


class ClassLoss(torch.nn.Module):
    """One of the functions above as fastai wants a loss: picklable, with the activation and decoding of its logits.

    What a loss knows of the classes is computed once and kept as a buffer, which moves with ``.to(device)``.

    Args:
        function: a module-level function of ``(logits, targets, *, counts, ignore_index, reduction, ...)``.
        counts: [C] training cells of each class.
        ignore_index: as of the function.
        reduction: as of the function.
        **settings: its other keywords.
    """

    y_int = True  # fastai's MixUp: mix the losses of two integer targets

    def __init__(
        self,
        function: Callable[..., Tensor],
        *,
        counts: Sequence[float],
        ignore_index: int = IGNORE_INDEX,
        reduction: str = "mean",
        **settings: Any,
    ) -> None:
        super().__init__()
        self.function, self.counts, self.settings = function, _check_counts(counts), settings
        self.ignore_index, self.reduction = ignore_index, reduction
        form = _FORMS.get(function)
        if form is None:
            return  # somebody's own function, which is given the counts each time
        chosen = {name: settings[name] for name in form.settings if name in settings}
        exact = form.per_class(self.counts, **chosen)
        self.exact = exact.tolist()
        self.of_batch = {name: value for name, value in settings.items() if name not in form.settings}
        self.register_buffer("per_class", exact.float(), persistent=False)

    def extra_repr(self) -> str:
        """The loss and its settings, as `print` shows them."""
        shown = {"counts": [int(count) if count == int(count) else count for count in self.counts], **self.settings}
        shown["reduction"] = self.reduction
        if self.ignore_index != IGNORE_INDEX:
            shown["ignore_index"] = self.ignore_index
        return ", ".join([self.function.__name__, *(f"{name}={value!r}" for name, value in shown.items())])

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Logits and targets to the loss; shapes as in the function."""
        form = _FORMS.get(self.function)
        if form is None:
            options = {"ignore_index": self.ignore_index, "reduction": self.reduction}
            return self.function(logits, targets, counts=self.counts, **options, **self.settings)
        per_class = self._per_class(logits)
        return form.of_batch(logits, targets, per_class, self.ignore_index, self.reduction, **self.of_batch)

    def _per_class(self, logits: Tensor) -> Tensor:
        # The buffer is rounded to float32, and by ``.half()`` further: then, and in float64, they are computed again.
        wanted = torch.promote_types(logits.dtype, torch.float32)
        if self.per_class.dtype == wanted == torch.float32:
            return self.per_class
        return torch.tensor(self.exact, dtype=wanted, device=logits.device)

    def activation(self, logits: Tensor) -> Tensor:
        """Logits [N, C, ...] to probabilities of the same shape."""
        return logits.softmax(dim=1)

    def decodes(self, logits: Tensor) -> Tensor:
        """Logits or probabilities [N, C, ...] to class indices [N, ...]."""
        return logits.argmax(dim=1)


class DeferredLDAM(ClassLoss):
    """LDAM whose last epochs are weighted by the effective number (Cao et al. 2019).

    It needs each epoch's number, from `begin_epoch`: `rbcnb.training.EpochCallback` calls it in a fastai ``Learner``.
    Trained without, it is plain LDAM, and warns.
    """

    def __init__(self, counts: Sequence[float], *, ignore_index: int = IGNORE_INDEX, reduction: str = "mean") -> None:
        super().__init__(ldam, counts=counts, ignore_index=ignore_index, reduction=reduction)
        self.late: bool | None = None  # nobody has called begin_epoch yet
        self.register_buffer("weights", effective_number_weights(counts).float(), persistent=False)

    def begin_epoch(self, epoch: int, n_epochs: int) -> None:
        """Before epoch *epoch* (from 0) of *n_epochs*."""
        self.late = epoch >= DEFERRED_FROM * n_epochs

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        """As of `ClassLoss`."""
        if self.late is None and logits.requires_grad and not torch.compiler.is_compiling():
            warnings.warn(
                "deferred re-weighting never begins, since nobody tells this loss which epoch it is: call "
                "begin_epoch(epoch, n_epochs), or give the learner the callback rbcnb.training.EpochCallback",
                stacklevel=2,
            )
            self.late = False
        options = {"weights": self.weights if self.late else None}
        per_class = self._per_class(logits)
        return _with_margins(logits, targets, per_class, self.ignore_index, self.reduction, **options)


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
    tensor(1.2586)
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
