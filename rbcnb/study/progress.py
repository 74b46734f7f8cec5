"""Where a study stands: its line, the epochs of trials under way, and a clock that goes on while no trial ends."""

import math
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from rbcnb.training.trial import Trial

WRITE_EVERY_S = 0.25  # an epoch of a small fit takes less


@dataclass(frozen=True)
class Outcome:
    """What is reported of one trial when it is stored."""

    number: int  # of the trial in the study
    macro_f1: float | None = None  # of its held-out cells
    error: str = ""


@dataclass(frozen=True)
class Epochs:
    """How far a trial under way has come."""

    start: int  # done before it was resumed
    done: int


class EpochFile:
    """Takes a trial's finished epochs and writes them to *path*, for the process that runs the study to read."""

    def __init__(self, path: Path) -> None:
        self.path, self.start, self.written_s = path, -1, -math.inf

    def __call__(self, done: int) -> None:
        """Notes that *done* epochs are finished."""
        if self.start < 0:
            self.start = done  # the first call comes before the first epoch
        elif time.monotonic() - self.written_s < WRITE_EVERY_S:
            return
        with suppress(OSError):  # nobody stops a fit for a line of progress
            self.path.write_text(f"{self.start} {done}", encoding="ascii")
        self.written_s = time.monotonic()


@dataclass
class Course:
    """The course of a study so far; its time left follows from the work that this run has done, whole trials or not."""

    trials: Sequence[Trial]
    costs: Sequence[float]  # of each trial, in any unit
    jobs: int  # trials that run at once
    done: list[Outcome] = field(default_factory=list)
    epochs: dict[int, Epochs] = field(default_factory=dict)  # trial -> how far it was when last looked at
    idle_s: float = 0.0  # until the first trial began: workers start, and that says nothing of their speed

    def look(self, folder: Path, keys: Mapping[str, int], *, spent_s: float) -> None:
        """Reads the `EpochFile`s in *folder*, each named by a key of *keys*."""
        begun = bool(self.epochs or self.done)
        for path in folder.glob("*"):
            with suppress(OSError, ValueError, KeyError, TypeError):  # gone by now, or being written
                self.epochs[keys[path.name]] = Epochs(*map(int, path.read_text(encoding="ascii").split()))
        if self.epochs and not begun:
            self.idle_s = spent_s

    def line(self, *, spent_s: float) -> str:
        """Trials done, running, left, the time left where any work is measured, the best score on a fold so far.

        Scores on the test set are left out: nobody may stop a study because of them.
        """
        trials, done = self.trials, self.done
        left = len(trials) - len(done)
        running = min(self.jobs, left)
        finished = {outcome.number for outcome in done}
        under_way = {number: epochs for number, epochs in self.epochs.items() if number not in finished}
        line = f"study: {len(done)} of {len(trials)} trials done, {running} running"
        if under_way:
            n_done = sum(epochs.done for epochs in under_way.values())
            n_epochs = sum(trials[number].epochs for number in under_way)
            line += f" ({'epoch' if len(under_way) == 1 else 'epochs'} {n_done} of {n_epochs})"
        line += f", {left - running} waiting, {spent_s:.0f} s"
        if (left_s := self._left_s(finished, spent_s)) is not None:
            line += f", about {left_s:.0f} s left"
        if failed := sum(bool(outcome.error) for outcome in done):
            line += f", {failed} failed"
        scored = [fit for fit in done if fit.macro_f1 is not None and trials[fit.number].fold is not None]
        if scored:
            best = max(scored, key=lambda fit: fit.macro_f1)
            line += f", best macro F1 on a fold {best.macro_f1:.3f} ({trials[best.number].method})"
        return line

    def _left_s(self, finished: set[int], spent_s: float) -> float | None:
        """Seconds that the rest will about take at the speed so far; None where nothing is measured yet."""
        worked = left = 0.0
        for number, (trial, cost) in enumerate(zip(self.trials, self.costs, strict=True)):
            epochs = self.epochs.get(number, Epochs(0, 0))
            done = trial.epochs if number in finished else min(epochs.done, trial.epochs)
            worked += cost * (done - epochs.start) / trial.epochs
            left += cost * (trial.epochs - done) / trial.epochs
        return (spent_s - self.idle_s) * left / worked if worked > 0 else None


@contextmanager
def ticking(tick: Callable[[], None], every_s: float) -> Iterator[None]:
    """Calls *tick* every *every_s* seconds, from a thread of its own, while the block runs."""
    over = threading.Event()

    def run() -> None:
        while not over.wait(every_s):
            tick()

    thread = threading.Thread(target=run, name="rbcnb-progress", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
