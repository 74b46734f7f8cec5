"""Sliders over a figure of the kernel: drawn anew from their values, with a stand-in where no kernel is."""

import base64
import io

import ipywidgets as widgets
import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from rbcnb.plotting.lesson import calibration_map
from rbcnb.plotting.sliders import choice, explore, slider
from rbcnb.plotting.style import CSS_DPI, new_figure, png


def bars(*, alpha: float, n: int) -> Figure:
    """A figure that shows both values."""
    figure, axes = new_figure(3.0, 2.0)
    axes[0, 0].bar(range(n), alpha)
    axes[0, 0].set_ylim(0, 2)
    return figure


def decoded(file: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(file)).convert("RGB"))


def test_the_figure_is_drawn_anew_from_its_controls():
    n = slider("n", 2, 1, 5, 1, whole=True)
    box = explore(bars, alpha=choice("alpha", [0.5, 1.0], 1.0), n=n)
    image = box.children[1]
    assert isinstance(image, widgets.Image)
    np.testing.assert_array_equal(decoded(image.value), decoded(png(bars(alpha=1.0, n=2))))
    n.value = 3
    np.testing.assert_array_equal(decoded(image.value), decoded(png(bars(alpha=1.0, n=3))))
    assert image.layout.width == f"{3 * CSS_DPI}px"


def test_a_page_without_a_kernel_shows_the_first_picture():
    box = explore(bars, alpha=slider("alpha", 1.0, 0.5, 1.5, 0.5), n=slider("n", 2, 1, 5, 1, whole=True))
    bundle = box._repr_mimebundle_()
    assert bundle["application/vnd.jupyter.widget-view+json"]["model_id"] == box.model_id
    picture = decoded(base64.b64decode(bundle["image/png"]))
    np.testing.assert_array_equal(picture, decoded(png(bars(alpha=1.0, n=2))))
    assert "alpha, n" in bundle["text/plain"]
    assert "text/html" not in bundle


def test_a_page_without_a_kernel_shows_the_explorer_that_stands_in():
    stand_in = calibration_map()
    bundle = explore(
        bars, without_kernel=stand_in, alpha=slider("alpha", 1.0, 0.5, 1.5, 0.5), n=slider("n", 2, 1, 5, 1, whole=True)
    )._repr_mimebundle_()
    assert "application/vnd.jupyter.widget-view+json" in bundle
    assert bundle["text/html"].startswith('<div id="rbcnb-')
    assert stand_in.alt in bundle["text/html"]
    assert len(decoded(base64.b64decode(bundle["image/png"])).shape) == 3
