"""The number format of a trial that leaves it open: what a ``precision`` of "auto" comes to."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from rbcnb.store import lacks
from rbcnb.trial import PRECISIONS, Trial


def fast_precision() -> str:
    """What "auto" means on this machine."""
    from rbcnb.engine import choose_engine  # torch: only when something is to be done

    return choose_engine().precision


def at_precision(trials: Sequence[Trial], precision: str) -> list[Trial]:
    """*trials*, those with "auto" at *precision*."""
    return [replace(trial, precision=precision) if trial.precision == "auto" else trial for trial in trials]


def stored_trials(trials: Sequence[Trial], store: Path, data: str) -> list[Trial] | None:
    """*trials* as *store* has them all, those with "auto" at the one precision that it has any of them in.

    None where it lacks some, or has some in either precision: then "auto" is for whoever computes to say.
    """

    def is_there(trial: Trial) -> bool:
        return not lacks(store, trial.key(data))

    auto = [trial for trial in trials if trial.precision == "auto"]
    begun = [one for one in PRECISIONS if one != "auto" and any(map(is_there, at_precision(auto, one)))]
    if auto and len(begun) != 1:
        return None
    named = at_precision(trials, *begun) if auto else list(trials)
    return named if all(map(is_there, named)) else None
