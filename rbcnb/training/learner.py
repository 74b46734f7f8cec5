"""Crops to batches to a fastai ``Learner`` with the paper's optimiser, and the curves of a fit.

The crops are one uint8 tensor on the device; a batch is an index look-up, normalised on the device.
"""

import math
from collections.abc import Iterator
from functools import cached_property, partial
from itertools import pairwise
from typing import Any, NamedTuple

import cv2
import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from fastai.callback.core import Callback, CancelBatchException, TrainEvalCallback
from fastai.data.core import DataLoaders
from fastai.learner import Learner
from fastai.optimizer import OptimWrapper
from torch import Tensor

from rbcnb.evaluation.metrics import macro_f1
from rbcnb.losses.imbalanced import build_loss
from rbcnb.paper import SETTINGS
from rbcnb.training.engine import Engine, choose_engine, prepare
from rbcnb.training.kernels import DenseAdam, kept_memory
from rbcnb.training.models import build_model, normalise
from rbcnb.training.trial import Trial

MAX_ROTATION_DEG = SETTINGS["rotation_degrees"]
BATCH_EVENTS = frozenset(
    f"{when}_{what}" for what in ("batch", "backward", "step") for when in ("before", "after_cancel", "after")
) | {"after_pred", "after_loss"}
CURVE_COLUMNS = ("epoch", "train_loss", "train_ce", "valid_loss", "valid_ce", "valid_macro_f1")


def rotate_flip(crops: np.ndarray, *, seed: int) -> np.ndarray:
    """The augmentation of over-sampling (section 4.2): rotation by -15 to 15 degrees, flips left-right and up-down.

    Args:
        crops: uint8 [N, S, S, 3]; what turns in from outside is zero, like the padding of Algorithm 1.
        seed: of angles and flips.

    Returns:
        A new uint8 array of the same shape.
    """
    rng = np.random.default_rng(seed)
    size = crops.shape[1]
    centre = ((size - 1) / 2, (size - 1) / 2)
    angles = rng.uniform(-MAX_ROTATION_DEG, MAX_ROTATION_DEG, len(crops))
    flips = rng.random((len(crops), 2)) < 0.5
    out = np.empty_like(crops)
    for i, (angle, (left_right, up_down)) in enumerate(zip(angles, flips, strict=True)):
        turned = cv2.warpAffine(crops[i], cv2.getRotationMatrix2D(centre, angle, 1.0), (size, size))
        out[i] = turned[:: -1 if up_down else 1, :: -1 if left_right else 1]
    return out


class Part(NamedTuple):
    """Cells that are served at once."""

    rows: slice  # of the epoch's order
    batch: int  # cells of the batch that they belong to
    last: bool  # of that batch


class CropLoader:
    """Batches of (normalised images [B, 3, S, S], targets [B]) from tensors that already live on the device.

    Args:
        crops: uint8 [N, S, S, 3].
        targets: int64 [N], on the same device.
        batch_size: cells per batch.
        seed: of the shuffling, which differs per epoch; None keeps the order and every cell.
        part_size: most cells (at least 2) served at once, where a whole batch does not fit in memory; see
            `AccumulateCallback`.
        epoch_size: cells that an epoch serves, the first of its order; None serves all.
    """

    n_inp = 1  # fastai: the first item of a batch is the input

    def __init__(
        self,
        crops: Tensor,
        targets: Tensor,
        *,
        batch_size: int,
        seed: int | None = None,
        part_size: int | None = None,
        epoch_size: int | None = None,
    ) -> None:
        self.crops, self.targets, self.bs = crops, targets, batch_size
        self.epoch_size = len(targets) if epoch_size is None else epoch_size
        self.part_size = min(part_size or batch_size, batch_size)
        self.generator = None if seed is None else torch.Generator().manual_seed(seed)

    def __len__(self) -> int:
        return len(self.parts)

    @cached_property
    def parts(self) -> list[Part]:
        """What an epoch serves, in its order."""
        n = self.epoch_size
        batches = [range(start, min(start + self.bs, n)) for start in range(0, n, self.bs)]
        # Batch norm cannot normalise a training batch of one cell: such a rest waits for another epoch's order.
        if self.generator is not None and len(batches) > 1 and len(batches[-1]) == 1:
            batches.pop()
        served = []
        for batch in batches:
            # Whose sizes differ by one at most; none is a single cell, if it takes one more than asked for.
            n_parts = max(1, min(-(-len(batch) // self.part_size), len(batch) // 2))
            edges = [batch.start + len(batch) * i // n_parts for i in range(n_parts + 1)]
            served += [Part(slice(*edge), len(batch), edge[1] == batch.stop) for edge in pairwise(edges)]
        return served

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        n = len(self.targets)
        order = torch.arange(n) if self.generator is None else torch.randperm(n, generator=self.generator)
        order = order.to(self.crops.device)
        for part in self.parts:
            rows = order[part.rows]
            # Seventeen times faster on a CPU than self.crops[rows], which is the same.
            yield normalise(self.crops.index_select(0, rows)), self.targets.index_select(0, rows)

    def to(self, device: torch.device) -> "CropLoader":
        """Moves crops and targets to *device*; fastai calls it."""
        self.crops, self.targets = self.crops.to(device), self.targets.to(device)
        return self


class CurveCallback(Callback):
    """Records per epoch the trial's own loss and plain cross entropy, in training and on the held-out fold.

    Training values are means over the epoch's cells as they were seen, in training mode, while the weights moved.
    """

    order = 10

    def __init__(self) -> None:
        self.rows: list[dict[str, float]] = []  # of the epochs done; `rbcnb.training.checkpoint.resume` fills it

    def before_epoch(self) -> None:
        self.sums = {True: np.zeros(3), False: np.zeros(3)}
        self.preds: list[Tensor] = []
        self.targets: list[Tensor] = []

    def after_loss(self) -> None:
        learn, n = self.learn, len(self.learn.y)
        cross_entropy = F.cross_entropy(learn.pred.detach(), learn.y)
        # Both at once: a GPU is waited for once per batch.
        loss, cross_entropy = torch.stack([learn.loss_grad.detach(), cross_entropy]).tolist()
        if learn.training and not math.isfinite(loss):
            raise FloatingPointError(f"the training loss became {loss} in epoch {learn.epoch + 1}")
        self.sums[learn.training] += n * loss, n * cross_entropy, n
        if not learn.training:
            self.preds.append(learn.pred.argmax(dim=1))
            self.targets.append(learn.y)

    def after_epoch(self) -> None:
        train_loss, train_ce, n_train = self.sums[True].tolist()
        if not n_train:
            return  # an epoch that was done before the fit was stopped and resumed
        valid_loss, valid_ce, n_valid = self.sums[False].tolist()
        row = {"epoch": self.epoch + 1, "train_loss": train_loss / n_train, "train_ce": train_ce / n_train}
        if n_valid:
            f1 = macro_f1(torch.cat(self.targets).cpu().numpy(), torch.cat(self.preds).cpu().numpy())
            row |= {"valid_loss": valid_loss / n_valid, "valid_ce": valid_ce / n_valid, "valid_macro_f1": f1}
        self.rows.append(row)

    @property
    def table(self) -> pd.DataFrame:
        """One row per epoch, ``CURVE_COLUMNS``; the ``valid_*`` are NaN where nothing was held out."""
        return pd.DataFrame(self.rows, columns=list(CURVE_COLUMNS))


class AccumulateCallback(Callback):
    """Steps once per batch where it is served in parts: their gradients add up to that of the batch's mean loss.

    Near to it, that is: batch norm normalises each part by itself; means over class weights, and Dice, are the parts'.
    """

    order, run_valid = CurveCallback.order + 1, False

    def after_loss(self) -> None:
        self.learn.loss_grad = self.learn.loss_grad * (len(self.y) / self.dls.train.parts[self.iter].batch)

    def before_step(self) -> None:
        if not self.dls.train.parts[self.iter].last:
            raise CancelBatchException  # neither a step nor gradients set to zero


class EpochCallback(Callback):
    """Tells a loss that changes during the fit (deferred re-weighting) which epoch begins."""

    def before_epoch(self) -> None:
        if hasattr(self.learn.loss_func, "begin_epoch"):
            self.learn.loss_func.begin_epoch(self.epoch, self.n_epoch)


class TrialLearner(Learner):
    """A ``Learner`` that loses less time between two batches, and keeps its memory from one to the next.

    At each of ten events per batch fastai sorts all callbacks and asks every one of them, and it looks through each
    batch for tensors that are not on the device: a fifth of the lesson net's step.
    """

    def fit(self, *arguments: Any, **options: Any) -> None:
        """As of ``Learner``."""
        with kept_memory():
            super().fit(*arguments, **options)

    def _do_fit(self) -> None:
        # No callback comes or goes from here on.
        self.listeners = {name: [cb for cb in self.cbs.sorted("order") if _listens(cb, name)] for name in BATCH_EVENTS}
        super()._do_fit()

    def __call__(self, event_name: str) -> None:
        """Calls the callbacks that have something to do at *event_name*, in their order."""
        if event_name not in BATCH_EVENTS:
            super().__call__(event_name)
            return
        for callback in self.listeners[event_name]:
            callback(event_name)

    def _set_device(self, batch: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return batch  # `CropLoader` serves it where the model is


def _listens(callback: Callback, event_name: str) -> bool:
    # Not hasattr(callback, ...): it asks the learner, too.
    return hasattr(type(callback), event_name) or event_name in vars(callback)


def build_learner(
    trial: Trial, train: CropLoader, valid: CropLoader, *, n_classes: int, engine: Engine | None = None
) -> Learner:
    """A fastai ``Learner`` for one trial: its network, its loss, torch's Adam; its curves are in ``learner.curve``.

    torch's Adam (eps 1e-8, betas 0.9 and 0.999, no decay) is the published optimiser; fastai's own differs in all
    three. The initial weights come from torch's global generator: `rbcnb.training.run_trial` seeds it.

    Args:
        trial: the settings; ``build_loss`` alone unpacks alpha and gamma.
        train: shuffled batches; its class counts are the prior that the loss may need.
        valid: batches in order; may be empty.
        n_classes: outputs of the network.
        engine: how the device computes; None: the trial's precision, where the crops are.
    """
    engine = engine or choose_engine(str(train.crops.device), precision=trial.precision)
    counts = torch.bincount(train.targets, minlength=n_classes).tolist()
    settings = {"alpha": trial.alpha, "gamma": trial.gamma, "label_smoothing": trial.label_smoothing}
    model = build_model(trial.architecture, n_classes, pretrained=trial.pretrained)
    accumulate = [AccumulateCallback()] if train.part_size < train.bs else []
    return TrialLearner(
        DataLoaders(train, valid, device=engine.device),
        prepare(model, engine),
        loss_func=build_loss(trial.loss, **settings, class_counts=counts),
        opt_func=partial(OptimWrapper, opt=partial(DenseAdam, fused=True)),
        lr=trial.learning_rate,
        wd=trial.weight_decay,
        default_cbs=False,
        cbs=[TrainEvalCallback(), EpochCallback(), CurveCallback(), *accumulate],
    )
