"""The state of a fit between two epochs, on disk: a fit that was killed goes on from there to the same numbers.

The file is a digest, a line end, and what torch writes.
"""

import io
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from fastai.callback.core import Callback
from fastai.learner import Learner

from rbcnb._utils.files import atomic_write, bytes_digest
from rbcnb._utils.read_files import read_bytes
from rbcnb.training.learner import CurveCallback

EVERY_S = 30.0  # between two checkpoints: a fit of seconds is sooner done again than written down


class CheckpointCallback(Callback):
    """Writes the fit's state to *path* at the end of an epoch, when the last one is `EVERY_S` old.

    The state: weights, optimiser, what draws the cells' order and positions, torch's generators, the curves so far. One
    that cannot be written is not worth a fit: it warns, and the fit goes on.
    """

    order = CurveCallback.order + 1

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)

    def before_fit(self) -> None:
        """Starts the clock of the next save."""
        self.saved_s = time.monotonic()

    def after_epoch(self) -> None:
        """Saves the fit, if the last save was some time ago."""
        done = self.epoch + 1
        skipped = done < len(self.learn.curve.rows)  # done before the fit was stopped and resumed
        if skipped or done == self.n_epoch or time.monotonic() - self.saved_s < EVERY_S:
            return
        state = {
            "origin": _origin(self.learn),
            "epochs": done,
            "model": self.learn.model.state_dict(),
            "optimiser": _bare_numbers(self.learn.opt.opt.state_dict()),
            "draws": [generator.torch.get_state() for generator in self.dls.train.generators],
            "cpu": torch.get_rng_state(),
            "cuda": torch.cuda.get_rng_state() if torch.cuda.is_available() else None,
            "curves": self.learn.curve.rows,
        }
        try:
            data = io.BytesIO()
            torch.save(state, data)
            with atomic_write(self.path) as part:
                part.write_bytes(_digest(self.path, data.getbuffer()) + b"\n" + data.getbuffer())
        except (OSError, RuntimeError) as error:  # torch makes a full disk a RuntimeError
            warnings.warn(f"{self.path}: no checkpoint could be written ({error}); free some space", stacklevel=2)
        self.saved_s = time.monotonic()


class ReportCallback(Callback):
    """Tells *report* how many epochs are done, before the first one and after each; changes nothing of the fit.

    Args:
        report: takes the number.
        done: epochs of the checkpoint that the fit goes on from.
    """

    order = CheckpointCallback.order + 1

    def __init__(self, report: Callable[[int], None], done: int = 0) -> None:
        self.report, self.done = report, done

    def before_fit(self) -> None:
        """Says how many epochs the checkpoint has."""
        self.report(self.done)

    def after_epoch(self) -> None:
        """Says that one more epoch is done."""
        self.report(max(self.done, self.epoch + 1))  # those of the checkpoint are passed over one by one


def resume(learner: Learner, path: str | Path) -> int:
    """Puts *learner* where the checkpoint at *path* left it; returns the epochs done, 0 where there is none.

    A checkpoint that cannot be read, or that another network, device or torch wrote, is left aside with a warning: the
    fit starts from the beginning.
    """
    if not Path(path).exists():
        return 0
    try:
        digest, _, data = read_bytes(path, remedy="remove it").partition(b"\n")
        if digest != _digest(Path(path), data):  # torch itself reads most damaged files, as other numbers
            raise ValueError("its digest is another")
        # Tensors and numbers only: reading a checkpoint runs no code of its author's.
        state = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
        made_alike = state["origin"] == _origin(learner)
    except Exception as error:  # a torn file makes torch raise a dozen kinds
        warnings.warn(
            f"{path}: no checkpoint that can be read ({error}); the fit starts from the beginning", stacklevel=2
        )
        return 0
    if not made_alike:
        warnings.warn(
            f"{path}: a checkpoint of another network, device or torch; the fit starts from the beginning", stacklevel=2
        )
        return 0
    learner.create_opt()
    learner.model.load_state_dict(state["model"])
    learner.opt.opt.load_state_dict(state["optimiser"])
    for generator, drawn in zip(learner.dls.train.generators, state["draws"], strict=True):
        generator.torch.set_state(drawn)
    torch.set_rng_state(state["cpu"])
    if state["cuda"] is not None and torch.cuda.is_available():
        torch.cuda.set_rng_state(state["cuda"])
    learner.curve.rows = state["curves"]
    return state["epochs"]


def _digest(path: Path, data: bytes | memoryview) -> bytes:
    """Of a checkpoint under the name that it was written for, which is the fit's."""
    return bytes_digest(path.stem.encode(), data).encode()


def _bare_numbers(state: dict) -> dict:
    """An optimiser's state with Python's numbers: a schedule sets numpy's, which `resume` does not read."""
    groups = [
        {name: value.item() if isinstance(value, np.generic) else value for name, value in group.items()}
        for group in state["param_groups"]
    ]
    return state | {"param_groups": groups}


def _origin(learner: Learner) -> list:
    """What the fit that wrote a state and the one that goes on from it must have in common."""
    weights = [[name, list(values.shape)] for name, values in learner.model.state_dict().items()]
    return [str(torch.__version__), learner.dls.device.type, weights]
