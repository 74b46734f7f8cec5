"""One experiment: its settings (`Trial`), how to lay many of them out (`expand_grid`) and how to run one (`run_trial`).

torch and fastai are imported when a trial runs, not when it is described, so that planning a study costs nothing.
"""

import gc
import hashlib
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from rbcnb.columns import CELL, DEV, FOLD, GROUP, LABEL, PRED, SMEAR, SPLIT, TARGET, TEST, class_names, prob_columns
from rbcnb.evaluation.metrics import score_predictions
from rbcnb.training.resampling import draw_counts, oversample, undersample
from rbcnb.training.trial import ALL_CELLS, Trial


@dataclass(frozen=True, eq=False)
class TrialResult:
    """What a fit leaves behind."""

    trial: Trial
    scores: dict[str, float]  # `score_predictions` of the held-out cells
    curves: pd.DataFrame  # per epoch, see rbcnb.training.CURVE_COLUMNS
    predictions: pd.DataFrame  # per held-out cell: smear, cell, group, target, pred, prob_<class>
    n_train: int  # cells trained on per epoch, after re-sampling
    seconds: float
    engine: str  # device and precision
    part_size: int  # cells of a batch that were in memory at once: batch_size, unless that was too much


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
    if trial.dev_counts != ALL_CELLS:
        kept = _draw_dev(trial, cells[dev].reset_index(drop=True))
        dev = np.isin(np.arange(len(cells)), np.flatnonzero(dev)[kept])
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


def _draw_dev(trial: Trial, dev: pd.DataFrame) -> np.ndarray:
    """Row numbers of the dev cells that a rung of the ladder keeps."""
    classes = class_names(dev[LABEL])
    counts, available = [int(n) for n in trial.dev_counts.split("/")], dev[LABEL].value_counts()
    if len(counts) != len(classes) or any(n > available[name] for name, n in zip(classes, counts, strict=True)):
        there = ", ".join(f"{available[name]} {name}" for name in classes)
        raise ValueError(f"dev_counts {trial.dev_counts} cannot be drawn from the dev cells, {there}")
    return draw_counts(dev, dict(zip(classes, counts, strict=True)), seed=trial.seed).index.to_numpy()


def run_trial(
    trial: Trial,
    cells: pd.DataFrame,
    crops: np.ndarray,
    *,
    device: str | None = None,
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
        checkpoint: file for the state of a long fit after an epoch. A fit that finds one there goes on from it, on a
            CPU to the same numbers as if it had never stopped.
        keep: takes the fitted network, a torch module in float32, which is else let go; see
        `rbcnb.workflow.export_model`.

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
        from rbcnb.training.checkpoint import CheckpointCallback, resume
        from rbcnb.training.engine import bare_model, choose_engine, out_of_memory
        from rbcnb.training.learner import CropLoader, build_learner, rotate_flip
        from rbcnb.training.predict import EVALUATION_BATCH, probabilities_of

    if len(cells) != len(crops):
        raise ValueError(f"{len(cells)} cells but {len(crops)} crops: they must stand in the same order, one each")
    start = time.perf_counter()
    classes = class_names(cells[LABEL])
    targets = cells[LABEL].map({name: i for i, name in enumerate(classes)}).to_numpy(dtype=np.int64)
    train, held_out = training_rows(trial, cells)
    train_crops, train_targets = crops[train], targets[train]
    epoch_size = None  # all of them
    if trial.resample == "under":
        kept = undersample(train_targets, seed=trial.seed)
        train_crops, train_targets = train_crops[kept], train_targets[kept]
    elif trial.resample in ("over", "over_equal"):
        extra = oversample(train_targets, seed=trial.seed)
        train_crops = np.concatenate([train_crops, rotate_flip(train_crops[extra], seed=trial.seed)])
        train_targets = np.concatenate([train_targets, train_targets[extra]])
        epoch_size = len(train) if trial.resample == "over_equal" else None

    engine = choose_engine(device, precision=trial.precision)

    def loader(images: np.ndarray, labels: np.ndarray, batch_size: int, **options: int | None) -> CropLoader:
        tensors = torch.from_numpy(images), torch.from_numpy(labels)
        return CropLoader(*tensors, batch_size=batch_size, **options).to(engine.device)

    def fit(part_size: int) -> tuple[np.ndarray, pd.DataFrame]:
        """Probabilities of the held-out cells and the curves, with *part_size* cells in memory at once."""
        options = {"seed": trial.seed, "part_size": part_size, "epoch_size": epoch_size}
        fitted = loader(train_crops, train_targets, trial.batch_size, **options)
        evaluation = min(EVALUATION_BATCH, 4 * part_size)
        scored = loader(crops[held_out], targets[held_out], evaluation)
        # A final fit never looks at the test set before it is over; a fold is watched every epoch, to choose how many.
        watched = scored if trial.fold is not None else loader(crops[held_out[:0]], targets[held_out[:0]], evaluation)
        devices = [engine.device] if engine.device.type == "cuda" else []
        with torch.random.fork_rng(devices=devices):
            torch.manual_seed(trial.seed)
            learner = build_learner(trial, fitted, watched, n_classes=len(classes), engine=engine)
            done = 0
            if checkpoint is not None:
                done = resume(learner, checkpoint)
                learner.add_cb(CheckpointCallback(checkpoint))
            learner.fit(trial.epochs, start_epoch=done)
            probabilities = probabilities_of(learner.model, (images for images, _ in scored))
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
        n_train=epoch_size or len(train_targets),
        seconds=time.perf_counter() - start,
        engine=str(engine),
        part_size=part_size,
    )
