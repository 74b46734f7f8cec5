"""A fastai ``Learner`` over cells with the paper's optimiser, and the callbacks that a trial adds to it."""

import math
from functools import partial
from itertools import accumulate

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from fastai.callback.core import Callback, CancelBatchException
from fastai.callback.schedule import ParamScheduler, SchedCos, combined_cos
from fastai.learner import Learner, ValueMetric
from fastai.optimizer import OptimWrapper
from torch import Tensor, nn

from rbcnb.evaluation.metrics import macro_f1
from rbcnb.losses.imbalanced import build_loss
from rbcnb.training.dataloaders import CellDataLoaders
from rbcnb.training.engine import Engine, choose_engine, prepare
from rbcnb.training.kernels import DenseAdam
from rbcnb.training.models import build_model
from rbcnb.training.trial import Trial

CURVE_COLUMNS = ("epoch", "train_loss", "train_ce", "valid_loss", "valid_ce", "valid_macro_f1")
WARM_UP = 0.25  # share of the steps of a "warm_cosine" fit
METRIC = "macro_f1"  # of the held-out cells, as fastai's callbacks may watch it: SaveModelCallback(monitor="macro_f1")


class CurveCallback(Callback):
    """Records per epoch the trial's own loss and plain cross entropy, in training and on the held-out cells.

    Training values are means over the epoch's cells as they were seen, in training mode, while the weights moved.
    """

    order = 10

    def __init__(self) -> None:
        self.rows: list[dict[str, float]] = []  # of the epochs done; `rbcnb.training.checkpoint.resume` fills it
        self.last_loss = math.nan  # of the last training batch
        self.before_epoch()

    def before_epoch(self) -> None:
        """Begins the sums of an epoch."""
        self.sums = {True: np.zeros(3), False: np.zeros(3)}
        self.before_validate()

    def before_train(self) -> None:
        """Forgets rows of epochs that are trained again."""
        self.rows = [row for row in self.rows if row["epoch"] <= self.learn.epoch]

    def before_validate(self) -> None:
        """Begins the sums of a validation."""
        self.sums[False] = np.zeros(3)
        self.preds: list[Tensor] = []
        self.targets: list[Tensor] = []

    def after_loss(self) -> None:
        """Adds the loss and the cross entropy of a batch."""
        learn = self.learn
        if not len(learn.yb):
            return  # cells that nobody has labelled
        n = len(learn.y)
        cross_entropy = F.cross_entropy(learn.pred.detach(), learn.y)
        loss = learn.loss_grad.detach()
        loss = loss.mean() if loss.ndim else loss  # fastai asks for the loss of each cell, at times
        # Both at once: a GPU is waited for once per batch.
        loss, cross_entropy = torch.stack([loss, cross_entropy]).tolist()
        self.sums[learn.training] += n * loss, n * cross_entropy, n
        if learn.training:
            self.last_loss = loss
        else:
            self.preds.append(learn.pred.argmax(dim=1))
            self.targets.append(learn.y)

    def after_epoch(self) -> None:
        """Adds the row of the epoch."""
        train_loss, train_ce, n_train = self.sums[True].tolist()
        if not n_train:
            return  # nothing was trained: an epoch done before the fit was stopped and resumed, or a mere validation
        valid_loss, valid_ce, n_valid = self.sums[False].tolist()
        row = {"epoch": self.epoch + 1, "train_loss": train_loss / n_train, "train_ce": train_ce / n_train}
        if n_valid:
            row |= {"valid_loss": valid_loss / n_valid, "valid_ce": valid_ce / n_valid, f"valid_{METRIC}": self.score()}
        self.rows.append(row)

    def score(self) -> float | None:
        """Macro F1 of the cells last validated; None if there were none."""
        if not self.preds:
            return None
        return macro_f1(torch.cat(self.targets).cpu().numpy(), torch.cat(self.preds).cpu().numpy())

    @property
    def table(self) -> pd.DataFrame:
        """One row per epoch, ``CURVE_COLUMNS``; the ``valid_*`` are NaN where nothing was held out."""
        return pd.DataFrame(self.rows, columns=list(CURVE_COLUMNS))


class FiniteLossCallback(Callback):
    """Ends a fit whose training loss becomes NaN or infinite, with a `FloatingPointError` that names the epoch."""

    order, run_valid = CurveCallback.order + 1, False

    def after_loss(self) -> None:
        """Ends a fit whose loss is no number."""
        if not math.isfinite(self.learn.curve.last_loss):
            raise FloatingPointError(f"the training loss became {self.learn.curve.last_loss} in epoch {self.epoch + 1}")


class AccumulateCallback(Callback):
    """Steps once per batch where it is served in parts: their gradients add up to that of the batch's mean loss.

    Only approximately: batch norm, means weighted by class, and Dice are computed per part.
    """

    order, run_valid = CurveCallback.order + 1, False

    def before_train(self) -> None:
        """Looks up how the batches are cut into parts."""
        self.parts = self.dls.train.parts

    def after_loss(self) -> None:
        """Weights the gradient of a part by its share of the batch."""
        self.learn.loss_grad = self.learn.loss_grad * (len(self.y) / self.parts[self.iter].batch)

    def before_step(self) -> None:
        """Steps after the last part of a batch alone."""
        if not self.parts[self.iter].last:
            raise CancelBatchException  # neither a step nor gradients set to zero


class EpochCallback(Callback):
    """Tells a loss that changes during the fit (deferred re-weighting) which epoch begins."""

    def before_train(self) -> None:
        """Tells the loss which epoch begins."""
        if hasattr(self.learn.loss_func, "begin_epoch"):
            self.learn.loss_func.begin_epoch(self.epoch, self.n_epoch)


class CosineDecay(ParamScheduler):
    """The learning rate, of every group of weights, falls along a cosine from what the fit was given to 0.

    Args:
        warm_up: share of the steps over which it rises first, along a cosine, from a 25th of that (as fastai's
            ``fit_one_cycle``, which moves the momentum as well).
    """

    def __init__(self, *, warm_up: float = 0.0) -> None:
        super().__init__({})
        self.warm_up = warm_up

    def before_fit(self) -> None:
        """Plans the rates of the whole fit."""
        rates = np.array([group["lr"] for group in self.opt.hypers])
        falling = SchedCos(rates, 0 * rates)
        self.scheds = {"lr": combined_cos(self.warm_up, rates / 25, rates, 0 * rates) if self.warm_up else falling}
        super().before_fit()

    def before_train(self) -> None:
        """Counts the steps before each part."""
        self.steps = [0, *accumulate(part.last for part in self.dls.train.parts)]  # taken before each part

    def before_batch(self) -> None:
        """Sets the rate by the share of the steps that are taken."""
        # Not fastai's share, which counts what is served: the same steps for batches that are served in parts.
        self._update_val((self.epoch + self.steps[self.iter] / self.steps[-1]) / self.n_epoch)


def body_and_head(model: nn.Module) -> list[list[nn.Parameter]]:
    """The weights of all layers but the last, and those of the last: two groups, for ``freeze`` and ``fine_tune``."""
    head = [module for module in model.modules() if isinstance(module, nn.Linear)][-1]
    last = {id(weight) for weight in head.parameters()}
    return [[weight for weight in model.parameters() if id(weight) not in last], [*head.parameters()]]


def build_learner(trial: Trial, dls: CellDataLoaders, *, engine: Engine | None = None) -> Learner:
    """A fastai ``Learner`` for one trial: its network, its loss, torch's Adam; its curves are in ``learner.curve``.

    torch's Adam (eps 1e-8, betas 0.9 and 0.999, no decay) is the published optimiser; fastai's own differs in all
    three. The initial weights come from torch's global generator: `rbcnb.training.run_trial` seeds it.

    Args:
        trial: the settings; ``build_loss`` alone unpacks alpha and gamma.
        dls: the cells, see `rbcnb.training.cell_dataloaders`; the training cells' counts are the prior that the loss
            may need.
        engine: how the device computes; None: the trial's precision, where the cells are.
    """
    engine = engine or choose_engine(str(dls.device), precision=trial.wanted_precision)
    counts = torch.bincount(dls.train.dataset.targets, minlength=dls.c).tolist()
    settings = {"alpha": trial.alpha, "gamma": trial.gamma, "label_smoothing": trial.label_smoothing}
    model = build_model(trial.architecture, dls.c, pretrained=trial.pretrained)
    curve = CurveCallback()
    callbacks: list[Callback] = [EpochCallback(), curve]
    if dls.train.part_size is not None and dls.train.part_size < dls.train.bs:
        callbacks.append(AccumulateCallback())
    return Learner(
        dls,
        prepare(model, engine),
        loss_func=build_loss(trial.loss, **settings, class_counts=counts),
        opt_func=partial(OptimWrapper, opt=partial(DenseAdam, fused=True)),
        splitter=body_and_head,
        lr=trial.learning_rate,
        wd=trial.weight_decay,
        metrics=[ValueMetric(curve.score, METRIC)],
        cbs=callbacks,
    )


def fit_trial(learner: Learner, trial: Trial, *, start_epoch: int = 0) -> None:
    """Fits *learner* as *trial* says: epochs, learning rate and its schedule, the same for all layers.

    Args:
        learner: of `build_learner`.
        trial: the settings.
        start_epoch: epochs done before.

    Raises:
        FloatingPointError: the loss became NaN or infinite.
    """
    callbacks: list[Callback] = [FiniteLossCallback()]
    if trial.schedule != "constant":
        callbacks.append(CosineDecay(warm_up=WARM_UP if trial.schedule == "warm_cosine" else 0.0))
    with learner.no_bar(), learner.no_logging():
        learner.fit(trial.epochs, lr=trial.learning_rate, cbs=callbacks, start_epoch=start_epoch)
