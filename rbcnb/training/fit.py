"""One experiment: its settings (`Trial`), how to lay many of them out (`expand_grid`) and how to run one (`run_trial`).

torch and fastai are imported when a trial runs, not when it is described, so that planning a study costs nothing.
"""

import gc
import hashlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from rbcnb.columns import CELL, FOLD, GROUP, LABEL, PRED, SMEAR, SPLIT, TARGET, class_names, prob_columns
from rbcnb.evaluation.metrics import score_predictions
from rbcnb.training.resampling import training_rows
from rbcnb.training.trial import Trial


@dataclass(frozen=True, eq=False)
class TrialResult:
    """The results of one fit."""

    trial: Trial
    scores: dict[str, float]  # `score_predictions` of the held-out cells
    curves: pd.DataFrame  # per epoch, see rbcnb.training.CURVE_COLUMNS
    predictions: pd.DataFrame  # per held-out cell: smear, cell, group, target, pred, prob_<class>
    n_train: int  # cells trained on per epoch, after re-sampling
    seconds: float
    engine: str  # device and precision
    part_size: int  # cells of a batch that were in memory at once: batch_size, unless that was too much
    processor: str = ""  # `rbcnb.training.engine.processor_kind` of what computed


def hash_data(cells: pd.DataFrame, crops: np.ndarray) -> str:
    """Digest of all that a trial reads of its data: labels, groups, split and every pixel; 16 hexadecimal digits.

    Args:
        cells: ``smear``, ``cell``, ``group``, ``label``, ``split`` and ``fold``, in the crops' order, which counts too.
        crops: uint8 [len(cells), S, S, 3].
    """
    digest = hashlib.blake2b(digest_size=8)
    digest.update(cells[[SMEAR, CELL, GROUP, LABEL, SPLIT, FOLD]].to_csv(index=False).encode())
    digest.update(str(crops.shape).encode())
    digest.update(np.ascontiguousarray(crops))
    return digest.hexdigest()


def run_trial(
    trial: Trial,
    cells: pd.DataFrame,
    crops: np.ndarray,
    *,
    device: str | None = None,
    checkpoint: str | Path | None = None,
    keep: Callable[[Any], None] | None = None,
    report: Callable[[int], None] | None = None,
) -> TrialResult:
    """Fits one trial and predicts the cells it holds out: its fold, or where ``fold`` is None the test cells, if any.

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
        report: takes the number of epochs done, before the first one (0, or those of the checkpoint) and after each.

    Returns:
        Scores, curves and predictions. Same trial, data, machine and thread count on a CPU: same numbers.

    Raises:
        ValueError: the table does not fit the crops or the trial.
        FloatingPointError: the loss became NaN or infinite.
        MemoryError: not even two cells at once fit in memory.
    """
    import torch

    from rbcnb.training.checkpoint import CheckpointCallback, ReportCallback, resume
    from rbcnb.training.dataloaders import cell_dataloaders
    from rbcnb.training.engine import bare_model, choose_engine, out_of_memory, processor_kind
    from rbcnb.training.kernels import kept_memory
    from rbcnb.training.learner import build_learner, fit_trial
    from rbcnb.training.predict import probabilities_of

    start = time.perf_counter()
    _, held_out = training_rows(trial, cells)
    engine = choose_engine(device, precision=trial.wanted_precision)

    def fit(part_size: int) -> tuple[np.ndarray, pd.DataFrame, int]:
        """Probabilities of the held-out cells, the curves and the epoch's cells, *part_size* in memory at once."""
        dls = cell_dataloaders(trial, cells, crops, part_size=part_size, device=engine.device)
        devices = [engine.device] if engine.device.type == "cuda" else []
        with torch.random.fork_rng(devices=devices), kept_memory():
            torch.manual_seed(trial.seed)
            learner = build_learner(trial, dls, engine=engine)
            done = 0
            if checkpoint is not None:
                done = resume(learner, checkpoint)
                learner.add_cb(CheckpointCallback(checkpoint))
            if report is not None:
                learner.add_cb(ReportCallback(report, done))
            fit_trial(learner, trial, start_epoch=done)
            # A final fit meets the test cells only now: its learner never saw them.
            probabilities = np.empty((0, len(class_names(cells[LABEL]))))
            if len(held_out):
                scored = dls.valid if trial.fold is not None else dls.test_dl(crops[held_out])
                probabilities = probabilities_of(learner.model, (batch[0] for batch in scored))
            if keep is not None:
                keep(bare_model(learner.model))
            return probabilities, learner.curve.table, dls.train.epoch_size or dls.train.n

    part_size = trial.batch_size
    while True:
        try:
            probabilities, curves, n_train = fit(part_size)
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

    classes = class_names(cells[LABEL])
    names = np.array(classes)
    predictions = cells.iloc[held_out][[SMEAR, CELL, GROUP]].reset_index(drop=True)
    predictions[TARGET] = cells[LABEL].iloc[held_out].to_numpy()
    predictions[PRED] = names[probabilities.argmax(axis=1)]
    predictions[prob_columns(classes)] = probabilities
    return TrialResult(
        trial=trial,
        scores=score_predictions(predictions) if len(predictions) else {},
        curves=curves,
        predictions=predictions,
        n_train=n_train,
        seconds=time.perf_counter() - start,
        engine=str(engine),
        processor=processor_kind(engine.device),
        part_size=part_size,
    )
