"""One experiment: its settings (`Trial`), how to lay many of them out (`expand_grid`) and how to run one (`run_trial`).

torch and fastai are imported when a trial runs, not when it is described, so that planning a study costs nothing.
"""

import gc
import hashlib
import itertools
import json
import math
import operator
import time
import warnings
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from rbcnb.columns import CELL, DEV, FOLD, GROUP, LABEL, PRED, SMEAR, SPLIT, TARGET, TEST, class_names, prob_columns
from rbcnb.metrics import score_predictions
from rbcnb.splits import oversample, undersample
from rbcnb.stamps import code_stamp

# The modules that a trial's result depends on: a change of their code, comments aside, makes every trial a new one.
TRIAL_CODE = ("engine", "focal", "learner", "losses", "metrics", "models", "predict", "splits", "trial")

RESAMPLING = ("none", "under", "over")
PRECISIONS = ("auto", "float32", "bf16")
_FLOATS = ("alpha", "gamma", "learning_rate", "weight_decay", "rho")
_INTEGERS = ("batch_size", "epochs", "seed", "fold")


@dataclass(frozen=True)
class Trial:
    """The settings of one fit. A fit is a function of these, the cells table and the crops, and of nothing else.

    To the bit on one machine with one number of threads; another processor, or another version of torch, sums in
    another order.
    """

    architecture: str = "small"
    loss: str = "cross_entropy"
    alpha: float | None = None  # weight of the focal loss, Eq. (4); None for losses without one
    gamma: float | None = None  # focusing parameter of the focal loss
    resample: str = "none"  # of the training cells: "under" or "over" as in section 4.2
    learning_rate: float = 1e-3
    weight_decay: float = 0.0
    batch_size: int = 32
    epochs: int = 10
    pretrained: bool = False
    seed: int = 0  # of initial weights, order and re-sampling
    fold: int | None = None  # held out within dev; None fits on all dev cells and scores the test cells
    protocol: str = "paper"  # which protocol's splits the cells table carries
    rho: float | None = None  # rung of the imbalance ladder that the cells table carries; None for the whole data set
    precision: str = "auto"  # of matrix products: "float32", "bf16", or "auto": what the device is good at

    def __post_init__(self) -> None:
        # 1, 1.0 and numpy's 1 are equal, and so must their keys be.
        for names, kind in ((_FLOATS, float), (_INTEGERS, operator.index)):
            for name in names:
                if getattr(self, name) is not None:
                    object.__setattr__(self, name, kind(getattr(self, name)))
        if self.precision not in PRECISIONS:
            raise ValueError(f"precision must be one of {PRECISIONS}, got {self.precision!r}")
        if self.resample not in RESAMPLING:
            raise ValueError(f"resample must be one of {RESAMPLING}, got {self.resample!r}")
        given = {self.alpha is not None, self.gamma is not None}
        if given != {self.loss == "focal"}:
            raise ValueError(f"alpha and gamma belong to the focal loss, got {self.loss!r}, {self.alpha}, {self.gamma}")
        for name in ("epochs", "batch_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if not 0 < self.learning_rate < math.inf:
            raise ValueError(f"learning_rate must be positive, got {self.learning_rate}")
        if not 0 <= self.weight_decay < math.inf:
            raise ValueError(f"weight_decay must be at least 0, got {self.weight_decay}")

    @property
    def method(self) -> str:
        """The row of Table 1 that this trial belongs to, or the name of what the paper did not try."""
        if self.resample == "none":
            return self.loss
        resampling = {"under": "under_sampling", "over": "over_sampling"}[self.resample]
        return resampling if self.loss == "cross_entropy" else f"{self.loss}_{resampling}"

    def key(self, data: str) -> str:
        """Name of this trial's result on the data hashed as *data* (`hash_data`): 16 hexadecimal digits."""
        spec = json.dumps([code_stamp(*TRIAL_CODE), data, asdict(self)], sort_keys=True)
        return hashlib.blake2b(spec.encode(), digest_size=8).hexdigest()


@dataclass(frozen=True, eq=False)
class TrialResult:
    """What a fit leaves behind."""

    trial: Trial
    scores: dict[str, float]  # `score_predictions` of the held-out cells
    curves: pd.DataFrame  # per epoch, see rbcnb.learner.CURVE_COLUMNS
    predictions: pd.DataFrame  # per held-out cell: smear, cell, group, target, pred, prob_<class>
    n_train: int  # cells trained on per epoch, after re-sampling
    seconds: float
    engine: str  # device and precision
    part_size: int  # cells of a batch that were in memory at once: batch_size, unless that was too much


def expand_grid(base: Trial, **axes: Iterable[Any]) -> list[Trial]:
    """Every combination of the axes' values on top of *base*, the last axis moving fastest.

    >>> len(expand_grid(Trial(loss="focal", alpha=1.0, gamma=2.0), alpha=(0.5, 1.0), fold=range(5)))
    10
    """
    known = {field.name for field in fields(Trial)}
    if unknown := set(axes) - known:
        raise ValueError(f"unknown trial fields {sorted(unknown)}; known: {sorted(known)}")
    return [replace(base, **dict(zip(axes, values, strict=True))) for values in itertools.product(*axes.values())]


def hash_data(cells: pd.DataFrame, crops: np.ndarray) -> str:
    """Digest of all that a trial reads of its data: labels, groups, split and every pixel; 16 hexadecimal digits."""
    digest = hashlib.blake2b(digest_size=8)
    digest.update(cells[[SMEAR, CELL, GROUP, LABEL, SPLIT, FOLD]].to_csv(index=False).encode())
    digest.update(str(crops.shape).encode())
    digest.update(np.ascontiguousarray(crops))
    return digest.hexdigest()


def training_rows(trial: Trial, cells: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """Row numbers of the cells that a trial trains on, before re-sampling, and of those it is scored on."""
    dev = (cells[SPLIT] == DEV).to_numpy()
    if trial.fold is None:
        train, held_out = dev, (cells[SPLIT] == TEST).to_numpy()
    else:
        in_fold = (cells[FOLD] == trial.fold).to_numpy()
        train, held_out = dev & ~in_fold, dev & in_fold
    if not train.any() or not held_out.any():
        raise ValueError(
            f"nothing to {'train on' if not train.any() else 'score'} in fold {trial.fold} of protocol "
            f"{trial.protocol}: the cells table needs splits from assign_splits with at least that many folds"
        )
    return np.flatnonzero(train), np.flatnonzero(held_out)


def run_trial(
    trial: Trial,
    cells: pd.DataFrame,
    crops: np.ndarray,
    *,
    device: str | None = None,
    strict: bool = False,
    checkpoint: str | Path | None = None,
    keep: Callable[[Any], None] | None = None,
) -> TrialResult:
    """Fits one trial and predicts the cells it holds out (its fold, or the test set when ``fold`` is None).

    A batch that does not fit in memory is served in halves, quarters ..., with the gradients added up.

    Args:
        trial: the settings.
        cells: one row per cell with ``label``, ``split`` and ``fold``; its order is the crops' order.
        crops: uint8 [len(cells), S, S, 3].
        device: "cpu", "cuda", ...; None takes a GPU if there is one.
        strict: ask a GPU for the same numbers every time.
        checkpoint: file for the state of a long fit after an epoch. A fit that finds one there goes on from it, on a
            CPU to the same numbers as if it had never stopped.
        keep: takes the fitted network, a torch module in float32, which is else let go; see `rbcnb.export`.

    Returns:
        Scores, curves and predictions. Same trial, data, machine and thread count on a CPU: same numbers.

    Raises:
        ValueError: the table does not fit the crops or the trial.
        FloatingPointError: the loss became NaN or infinite.
        MemoryError: not even two cells at once fit in memory.
    """
    import torch

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="`torch.jit.script`")  # fastai's use of it, not ours to mend
        from rbcnb.checkpoint import CheckpointCallback, resume
        from rbcnb.engine import bare_model, choose_engine, out_of_memory, repeatable
        from rbcnb.learner import CropLoader, build_learner, predict_probabilities, rotate_flip
        from rbcnb.predict import EVALUATION_BATCH

    if len(cells) != len(crops):
        raise ValueError(f"{len(cells)} cells but {len(crops)} crops: they must stand in the same order, one each")
    start = time.perf_counter()
    classes = class_names(cells[LABEL])
    targets = cells[LABEL].map({name: i for i, name in enumerate(classes)}).to_numpy(dtype=np.int64)
    train, held_out = training_rows(trial, cells)
    train_crops, train_targets = crops[train], targets[train]
    if trial.resample == "under":
        kept = undersample(train_targets, seed=trial.seed)
        train_crops, train_targets = train_crops[kept], train_targets[kept]
    elif trial.resample == "over":
        extra = oversample(train_targets, seed=trial.seed)
        train_crops = np.concatenate([train_crops, rotate_flip(train_crops[extra], seed=trial.seed)])
        train_targets = np.concatenate([train_targets, train_targets[extra]])

    engine = choose_engine(device, precision=trial.precision, strict=strict)

    def loader(images: np.ndarray, labels: np.ndarray, batch_size: int, **options: int) -> CropLoader:
        tensors = torch.from_numpy(images), torch.from_numpy(labels)
        return CropLoader(*tensors, batch_size=batch_size, **options).to(engine.device)

    def fit(part_size: int) -> tuple[np.ndarray, pd.DataFrame]:
        """Probabilities of the held-out cells and the curves, with *part_size* cells in memory at once."""
        fitted = loader(train_crops, train_targets, trial.batch_size, seed=trial.seed, part_size=part_size)
        evaluation = min(EVALUATION_BATCH, 4 * part_size)
        scored = loader(crops[held_out], targets[held_out], evaluation)
        # A final fit never looks at the test set before it is over; a fold is watched every epoch, to choose how many.
        watched = scored if trial.fold is not None else loader(crops[held_out[:0]], targets[held_out[:0]], evaluation)
        devices = [engine.device] if engine.device.type == "cuda" else []
        with torch.random.fork_rng(devices=devices), repeatable(engine):
            torch.manual_seed(trial.seed)
            learner = build_learner(trial, fitted, watched, n_classes=len(classes), engine=engine)
            done = 0
            if checkpoint is not None:
                done = resume(learner, checkpoint)
                learner.add_cb(CheckpointCallback(checkpoint))
            learner.fit(trial.epochs, start_epoch=done)
            probabilities = predict_probabilities(learner.model, scored)
            if keep is not None:
                keep(bare_model(learner.model))
            return probabilities, learner.curve.table

    part_size = trial.batch_size
    while True:
        try:
            probabilities, curves = fit(part_size)
            break
        except (RuntimeError, MemoryError) as error:
            if not out_of_memory(error):
                raise
            if part_size <= 2:  # batch norm cannot do with one
                raise MemoryError(f"{engine.device} has no memory for two cells at once: {error}") from error
        part_size = max(2, part_size // 2)
        gc.collect()  # a learner and its callbacks hold each other, and with them the batch that was too much
        if engine.device.type == "cuda":
            torch.cuda.empty_cache()

    names = np.array(classes)
    predictions = cells.iloc[held_out][[SMEAR, CELL, GROUP]].reset_index(drop=True)
    predictions[TARGET] = names[targets[held_out]]
    predictions[PRED] = names[probabilities.argmax(axis=1)]
    predictions[prob_columns(classes)] = probabilities
    return TrialResult(
        trial=trial,
        scores=score_predictions(predictions),
        curves=curves,
        predictions=predictions,
        n_train=len(train_targets),
        seconds=time.perf_counter() - start,
        engine=str(engine),
        part_size=part_size,
    )
