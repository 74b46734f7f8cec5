"""One experiment: its settings (`Trial`), how to lay many of them out (`expand_grid`) and how to run one (`run_trial`).

torch and fastai are imported when a trial runs, not when it is described, so that planning a study costs nothing.
"""

import hashlib
import itertools
import json
import math
import operator
import re
from collections.abc import Container, Iterable
from dataclasses import dataclass, field, fields, replace
from typing import Any

from rbcnb._utils.errors import InputError
from rbcnb._utils.read_files import shown
from rbcnb.columns import FOLD

# A part of every stored trial's name. Raise it when the same settings on the same cells would give other predictions
# (the golden fit in the tests fails then), or when the arithmetic of a fit has other roundings. The first one was
# a digest of source code: 96028228e9a71178.
FIT_VERSION = "3"
# Metadata of a field of Trial that came after the first stored trials: at its default it changes no name or record.
LATER = {"later": True}
# Name in a Trial -> what follows the loss's name in the method's. "over_equal" serves, from the over-sampled cells, as
# many an epoch as there were without: its steps are those of the plain fit, where "over" takes more.
RESAMPLING = {
    "none": "",
    "under": "under_sampling",
    "over": "over_sampling",
    "over_equal": "over_sampling_equal_steps",
}
ALL_CELLS = "all"  # in place of dev_counts
PRECISIONS = ("auto", "float32", "bf16")
SMOOTHED_LOSSES = ("cross_entropy", "focal")  # those that take label smoothing
DEPTHWISE = ("efficientnet_lite0",)  # on a CPU bfloat16 makes their steps 1.8 times as long, see Trial.wanted_precision
SCHEDULES = ("constant", "cosine", "warm_cosine")
AUGMENTS = ("none", "flips_turns")
CHOICES = {"precision": PRECISIONS, "resample": tuple(RESAMPLING), "schedule": SCHEDULES, "augment": AUGMENTS}
_FLOATS = ("alpha", "gamma", "label_smoothing", "learning_rate", "weight_decay")
_INTEGERS = ("batch_size", "epochs", "seed", "fold", "outer")
_TEXTS = ("architecture", "loss", "protocol", "dev_counts")
_LEAST = {"epochs": 1, "batch_size": 1, "seed": 0, "fold": 0, "outer": 0}
_MAY_BE_NONE = ("alpha", "gamma", "fold")
_COUNTS = re.compile(r"[0-9]+(/[0-9]+)+")


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
    label_smoothing: float = 0.0  # of cross entropy and focal loss: share of a target that goes to all classes
    resample: str = "none"  # of the training cells: "under" or "over" as in section 4.2, or "over_equal"
    learning_rate: float = 1e-3
    weight_decay: float = 0.0
    batch_size: int = 32
    epochs: int = 10
    pretrained: bool = False
    seed: int = 0  # of initial weights, order, re-sampling, augmentation and dev_counts: the same for every method
    fold: int | None = None  # held out within dev; None fits on all dev cells and scores the test cells
    protocol: str = "paper"  # which protocol's splits the cells table carries
    outer: int = 0  # which outer split the cells table carries, see rbcnb.training.assign_splits
    dev_counts: str = ALL_CELLS  # or how many dev cells of each class are kept, drawn by the seed: "71/71/2691"
    precision: str = "auto"  # of matrix products: "float32", "bf16", or "auto": what the device is good at
    # "constant" as in the paper; "cosine": from learning_rate down to 0 at the last step; "warm_cosine": first, over a
    # quarter of the steps, up to learning_rate from a 25th of it
    schedule: str = field(default="constant", metadata=LATER)
    # Of every training cell in every batch: "none" as in the paper, or "flips_turns" (rbcnb.training.FlipsTurns)
    augment: str = field(default="none", metadata=LATER)

    def __post_init__(self) -> None:
        # 1, 1.0 and numpy's 1 are equal, and so must their keys be.
        for names, kind, words in ((_FLOATS, float, "a number"), (_INTEGERS, operator.index, "a whole number")):
            for name in names:
                if (value := getattr(self, name)) is None and name in _MAY_BE_NONE:
                    continue
                try:
                    object.__setattr__(self, name, kind(value))
                except (TypeError, ValueError, OverflowError):
                    raise InputError(f"{name} must be {words}, got {shown(value)}") from None
        if self.pretrained not in (True, False):  # the text "false" would count as true
            raise InputError(f"pretrained must be True or False, got {shown(self.pretrained)}")
        object.__setattr__(self, "pretrained", bool(self.pretrained))
        for name in _TEXTS:
            if not isinstance(getattr(self, name), str):
                raise InputError(f"{name} must be a text, got {shown(getattr(self, name))}")
        for name, known in CHOICES.items():
            if getattr(self, name) not in known:
                raise InputError(f"{name} must be one of {known}, got {shown(getattr(self, name))}")
        given = {self.alpha is not None, self.gamma is not None}
        if given != {self.loss == "focal"}:
            raise InputError(
                f"alpha and gamma belong to the focal loss, got {shown(self.loss)}, {self.alpha}, {self.gamma}"
            )
        if self.alpha is not None and not 0 < self.alpha < math.inf:
            raise InputError(f"alpha must be positive and finite, got {self.alpha}; for no weighting take 1")
        if self.gamma is not None and not 0 <= self.gamma < math.inf:
            raise InputError(f"gamma must be finite and at least 0, got {self.gamma}")
        if not 0 <= self.label_smoothing < 1:
            raise InputError(f"label_smoothing must lie in [0, 1), got {self.label_smoothing}")
        if self.label_smoothing and self.loss not in SMOOTHED_LOSSES:
            raise InputError(f"label_smoothing belongs to {' and '.join(SMOOTHED_LOSSES)}, got {shown(self.loss)}")
        if self.dev_counts != ALL_CELLS and not _COUNTS.fullmatch(self.dev_counts):
            raise InputError(f"dev_counts must be numbers like 71/71/2691, one per class, got {shown(self.dev_counts)}")
        for name, least in _LEAST.items():
            if getattr(self, name) is not None and getattr(self, name) < least:
                raise InputError(f"{name} must be at least {least}, got {getattr(self, name)}")
        if not 0 < self.learning_rate < math.inf:
            raise InputError(f"learning_rate must be positive and finite, got {self.learning_rate}")
        if not 0 <= self.weight_decay < math.inf:
            raise InputError(f"weight_decay must be finite and at least 0, got {self.weight_decay}")

    @property
    def method(self) -> str:
        """The row of Table 1 that this trial belongs to, or the name of what the paper did not try.

        `rbcnb.study.protocols.method_trial` reads it back.
        """
        if self.resample == "none":
            return self.loss
        resampling = RESAMPLING[self.resample]
        return resampling if self.loss == "cross_entropy" else f"{self.loss}_{resampling}"

    @property
    def wanted_precision(self) -> str:
        """``precision``, where "auto" leaves no choice: networks of depthwise convolutions stay in float32."""
        return "float32" if self.precision == "auto" and self.architecture in DEPTHWISE else self.precision

    def settings(self) -> dict[str, Any]:
        """Field -> value, without those fields marked as `LATER` that have their default.

        Names, records, the ledger and tables are made of this, so that a new field leaves all of them alone.
        """
        return {
            field.name: value
            for field in fields(self)
            if (value := getattr(self, field.name)) != field.default or not field.metadata.get("later")
        }

    def key(self, data: str, *, fit_version: str = FIT_VERSION) -> str:
        """Name of this trial's result on the data hashed as *data* (`hash_data`): 16 hexadecimal digits.

        Made of *fit_version*, *data* and the settings alone: the same on every machine and version of Python.
        """
        spec = json.dumps([fit_version, data, self.settings()], sort_keys=True)
        return hashlib.blake2b(spec.encode(), digest_size=8).hexdigest()


def expand_grid(base: Trial, **axes: Iterable[Any]) -> list[Trial]:
    """Every combination of the axes' values on top of *base*, the last axis moving fastest.

    Args:
        base: the settings that all have in common.
        **axes: field of `Trial` -> the values that it takes.

    Raises:
        ValueError: an axis is no field of `Trial`, or a value cannot be one of its field.

    >>> len(expand_grid(Trial(loss="focal", alpha=1.0, gamma=2.0), alpha=(0.5, 1.0), fold=range(5)))
    10
    """
    known = {field.name for field in fields(Trial)}
    if unknown := set(axes) - known:
        raise ValueError(f"unknown trial fields {sorted(unknown)}; known: {sorted(known)}")
    return [replace(base, **dict(zip(axes, values, strict=True))) for values in itertools.product(*axes.values())]


def setting_fields(table: Container[str]) -> list[str]:
    """Columns of *table* that make up a trial's setting: all but those of its fold, its number of epochs and its seed.

    A field that every trial of the table has at its default may be missing from it, see `Trial.settings`.

    Args:
        table: a table of trials, or the names of its columns.
    """
    names = (field.name for field in fields(Trial) if field.name not in (FOLD, "epochs", "seed"))
    return [name for name in names if name in table]
