"""How a finder fares along each axis of the renderer: F1 where one thing is set and everything else varies.

An axis sets both ends of a range of `rbcnb.smears.synthetic.variety.Variety` to one value after another, some of them
beyond what the learned finder was trained on. The other ranges are half as wide as in its training, around their
middles, so that a fall is the axis's own.
"""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields, replace

import numpy as np
import pandas as pd
from labelled_smears import LabelledImage, labelled

from rbcnb.smears.synthetic.variety import Variety, render_view

LOWEST_F1 = 0.9


@dataclass(frozen=True)
class Axis:
    """One thing that is set, and to what."""

    name: str
    points: tuple[float, ...]
    settings: Callable[[float], dict]  # value -> fields of Variety
    trained: tuple[float, float]  # range of the training; equal ends where it has none


def _range_axis(field: str, *values: float, **also: float) -> Axis:
    trained = getattr(Variety(), field)
    return Axis(field, values, lambda value: {field: (value, value), **also}, trained)


AXES = (
    Axis("diameter_px", (10, 12, 16, 24, 40, 80, 150, 300), lambda v: {"diameter_px": (v, v)}, (9.5, 46.0)),
    _range_axis("red_density", 0.0, 0.2, 0.5, 0.8, 1.0, 1.3),
    _range_axis("blue_density", 0.0, 0.15, 0.5, 0.9, 1.25, 1.6),
    _range_axis("optical_density", 0.03, 0.045, 0.06, 0.1, 0.2, 0.4, 0.6, 1.0),
    _range_axis("exposure", 0.1, 0.2, 0.35, 0.6, 0.9, 1.1, 1.4),
    Axis("white_balance", (-0.6, -0.35, 0.0, 0.35, 0.6), lambda v: {"white_balance": (v, v)}, (-0.35, 0.35)),
    _range_axis("haze", 0.0, 0.25, 0.5, 0.75),
    _range_axis("tone", 0.45, 0.65, 1.0, 1.5, 2.2),
    _range_axis("plasma", 0.0, 0.2, 0.35, 0.6, 1.0),
    _range_axis("fringe", -2.0, -1.0, -0.5, 0.0, 0.5, 1.0, 2.0),
    _range_axis("halo", 0.0, 0.35, 0.7, 1.5),
    _range_axis("chromatic_d", 0.0, 0.03, 0.06, 0.1, 0.15),
    _range_axis("blur_d", 0.0, 0.05, 0.11, 0.16, 0.22),
    _range_axis("noise", 0.003, 0.01, 0.05, 0.1, 0.2),
    _range_axis("jpeg", 5, 10, 20, 40, 70, 98),
    _range_axis("vignette", 0.0, 0.4, 0.75, 1.0),
    Axis("eyepiece's circle", (0.0, 1.0), lambda v: {"circle_chance": v}, (0.12, 0.12)),
    _range_axis("cover", 0.05, 0.2, 0.4, 0.6, 0.8, 0.95, 1.2),
    _range_axis("squeeze", 0.3, 0.45, 0.6, 0.8, 1.0),
    _range_axis("elliptic", 1.0, 1.5, 2.2, 3.0, elliptic_chance=1.0),
    _range_axis("leukocytes", 0.0, 2.0, 6.0, 12.0, leukocyte_chance=1.0),
    _range_axis("dirt", 0.0, 7.0, 15.0, 40.0, dirt_chance=1.0),
)


def middle_half() -> Variety:
    """`Variety` with ranges half as wide, and without what is rare."""
    ranges = Variety()
    narrowed = {}
    for field in fields(ranges):
        value = getattr(ranges, field.name)
        if isinstance(value, tuple):
            quarter = (value[1] - value[0]) / 4
            narrowed[field.name] = (value[0] + quarter, value[1] - quarter)
    narrowed |= {"diameter_px": (24.0, 36.0), "cover": (0.1, 0.5), "fringe": (-0.4, 0.4), "haze": (0.0, 0.1)}
    narrowed |= {
        "optical_density": (0.12, 0.35),
        "exposure": (0.6, 0.95),
        "squeeze": (0.85, 1.0),
        "noise": (0.005, 0.02),
    }
    return replace(ranges, **narrowed, empty_chance=0.0, circle_chance=0.0, margin_chance=0.0)


def views_of(axis: Axis, value: float, n: int, *, seed: int) -> Iterable[LabelledImage]:
    """*n* rendered views with *axis* set to *value*; the seeds are the same for every value."""
    variety = replace(middle_half(), **axis.settings(value))
    for i in range(n):
        diameter = math.sqrt(math.prod(variety.diameter_px))
        view = render_view(variety, side_px=round(max(240, 6.5 * diameter)), seed=[seed, i])
        if len(view.cells):
            yield replace(labelled(f"{axis.name} {value} {i}", view.image, view.cells), radius_px=view.diameter_px / 2)


def along_axes(
    score: Callable[[LabelledImage], dict[str, float]], *, n: int = 12, seed: int = 77, axes: Iterable[Axis] = AXES
) -> pd.DataFrame:
    """One row per axis and value: cells, R, P, F1, whether the training had it, and whether F1 is under 0.9.

    Args:
        score: n_truth, n_hits and n_false of a view.
        n: views of each value.
        seed: of the views.
        axes: which.
    """
    rows = []
    for axis in axes:
        for value in axis.points:
            counts = np.zeros(3)
            for view in views_of(axis, value, n, seed=seed):
                result = score(view)
                counts += [result["n_truth"], result["n_hits"], result["n_false"]]
            n_truth, n_hits, n_false = counts
            f1 = 2 * n_hits / max(n_truth + n_hits + n_false, 1)
            rows.append(
                {
                    "axis": axis.name,
                    "value": value,
                    "trained": "yes" if axis.trained[0] <= value <= axis.trained[1] else "no",
                    "cells": int(n_truth),
                    "R": n_hits / max(n_truth, 1),
                    "P": n_hits / max(n_hits + n_false, 1),
                    "F1": f1,
                    "low": "below 0.9" if f1 < LOWEST_F1 else "",
                }
            )
    return pd.DataFrame(rows)
