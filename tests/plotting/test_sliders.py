"""Sliders over a figure of the kernel: drawn again from their values, with a stand-in where no kernel is."""

import base64
import html
import io
import re

import ipywidgets as widgets
import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from rbcnb.plotting.explorers import Control
from rbcnb.plotting.kernel_pictures import KernelPictures
from rbcnb.plotting.sliders import explore
from rbcnb.plotting.style import CSS_DPI, Picture, new_figure, png


def slider(name: str, value: float, low: float, high: float, step: float) -> widgets.FloatSlider:
    return widgets.FloatSlider(value=value, min=low, max=high, step=step, description=name)


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


def shown(box) -> tuple[str, np.ndarray]:
    """Alternative text and pixels of the picture of *box*."""
    found = re.fullmatch(
        r'<img alt="([^"]*)" style="[^"]*" src="data:image/png;base64,([^"]*)">', box.children[1].value
    )
    return html.unescape(found[1]), decoded(base64.b64decode(found[2]))


def test_the_figure_is_drawn_anew_from_its_controls():
    n = slider("n", 2, 1, 5, 1)
    box = explore(lambda alpha, n: bars(alpha=alpha, n=int(n)), alpha=slider("alpha", 1.0, 0.5, 1.0, 0.5), n=n)
    words, picture = shown(box)
    assert words == "A picture, drawn at alpha = 1, n = 2."
    np.testing.assert_array_equal(picture, decoded(png(bars(alpha=1.0, n=2))))
    n.value = 3
    words, picture = shown(box)
    assert words == "A picture, drawn at alpha = 1, n = 3."
    np.testing.assert_array_equal(picture, decoded(png(bars(alpha=1.0, n=3))))
    assert f"width: {3 * CSS_DPI}px; max-width: 100%" in box.children[1].value


def test_without_a_kernel_sliders_are_their_picture_and_what_it_shows():
    gamma = slider("gamma", 2.0, 0.0, 5.0, 0.1)
    box = explore(drawn, gamma=gamma, loss=widgets.Dropdown(options=["a < b", "c"]))
    assert isinstance(box, widgets.VBox)
    data, _ = box._repr_mimebundle_()
    assert data["application/vnd.jupyter.widget-view+json"]["model_id"] == box.model_id
    np.testing.assert_array_equal(decoded(base64.b64decode(data["image/png"])), shown(box)[1])
    words = "A picture with sliders, drawn at gamma = 2, loss = a < b. Run the notebook to move them."
    assert data["text/plain"] == words
    assert f'<img alt="{words.replace("<", "&lt;")}"' in data["text/html"]
    assert f'src="data:image/png;base64,{data["image/png"]}">' in data["text/html"]
    gamma.value = 3.0
    later, _ = box._repr_mimebundle_()
    assert later["image/png"] != data["image/png"]
    assert "gamma = 3," in later["text/plain"]


def test_without_a_kernel_pictures_are_the_first_of_them_and_its_words():
    height = Control("height", "height of a bar", [1, 2], 2)
    widget = KernelPictures(lambda height: [Picture("bars", f"n = {height}", png(bars(alpha=1.0, n=height)))], [height])
    data, _ = widget._repr_mimebundle_()
    assert data["text/plain"] == "bars. n = 2. Run the notebook to move its sliders."
    np.testing.assert_array_equal(decoded(base64.b64decode(data["image/png"])), decoded(png(bars(alpha=1.0, n=2))))
    widget.values = {"height": 1}  # as the page sets it
    assert [picture["words"] for picture in widget.pictures] == ["n = 1"]
