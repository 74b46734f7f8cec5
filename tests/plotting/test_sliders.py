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


def drawn(gamma: float, loss: str) -> Figure:
    figure = Figure(figsize=(2 + gamma, 1))
    figure.suptitle(loss)
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


def test_without_a_kernel_sliders_are_their_picture_and_what_it_shows():
    gamma = slider("gamma", 2.0, 0.0, 5.0, 0.1)
    box = explore(drawn, gamma=gamma, loss=widgets.Dropdown(options=["a < b", "c"]))
    assert isinstance(box, widgets.VBox)
    data, _ = box._repr_mimebundle_()
    assert data["application/vnd.jupyter.widget-view+json"]["model_id"] == box.model_id
    assert base64.b64decode(data["image/png"]) == box.children[1].value
    words = "A picture with sliders, drawn at gamma = 2, loss = a < b. Run the notebook to move them."
    assert data["text/plain"] == words
    assert (
        f'<img alt="{words.replace("<", "&lt;")}" src="data:image/png;base64,{data["image/png"]}">' in data["text/html"]
    )
    gamma.value = 3.0
    later, _ = box._repr_mimebundle_()
    assert later["image/png"] != data["image/png"]
    assert "gamma = 3," in later["text/plain"]


def test_a_page_without_a_kernel_shows_the_explorer_that_stands_in():
    stand_in = calibration_map()
    sliders = {"alpha": slider("alpha", 1.0, 0.5, 1.5, 0.5), "n": slider("n", 2, 1, 5, 1, whole=True)}
    data, _ = explore(bars, without_kernel=stand_in, **sliders)._repr_mimebundle_()
    assert "application/vnd.jupyter.widget-view+json" in data
    assert data["text/html"].startswith('<div id="rbcnb-')
    assert stand_in.alt in data["text/html"]
    assert len(decoded(base64.b64decode(data["image/png"])).shape) == 3
