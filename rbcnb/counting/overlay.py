"""A smear with its cells ringed in the colours of their calls, and a legend that counts them."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from PIL import ImageColor

from rbcnb.columns import BORDER, UNSURE, readable
from rbcnb.plotting.style import BLACK, colours_of
from rbcnb.segmentation.overlay import PALE, Rings, draw_rings

CALL = "call"


def draw_overlay(
    image: np.ndarray, cells: pd.DataFrame, classes: Sequence[str], *, note: str = "", read: bool = True
) -> np.ndarray:
    """*image* [H, W, 3] uint8 RGB with a ring around each cell and a legend below -> [H', W', 3] uint8 RGB.

    Unsure cells have a broken black ring, cells cut off by the border a thin grey one.

    Args:
        image: the smear.
        cells: ``x_px``, ``y_px``, ``radius_px``, ``border`` and ``call``.
        classes: of the model, for the colours; all are in the legend.
        note: a line above the legend, such as a warning.
        read: False: the smear was not read with confidence, and is not counted; the note is red and all has a red
            frame.
    """
    cut, calls = cells[BORDER].to_numpy(bool), cells[CALL].to_numpy(object)
    rings = []
    for name, colour in {**colours_of(classes), UNSURE: BLACK}.items():
        called = (calls == name) & ~cut
        text = f"{readable(name)} {called.sum()} ({called.sum() / max((~cut).sum(), 1):.0%})"
        rings.append(Rings(text, called, ImageColor.getrgb(colour), broken=name == UNSURE))
    rings.append(Rings(f"cut off, not counted {cut.sum()}", cut, PALE, thin=True))
    return draw_rings(image, cells, rings, note=note, alarm=not read)
