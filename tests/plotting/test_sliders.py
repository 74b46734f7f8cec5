"""Sliders over a picture, as a page without a kernel has them."""

import base64

import ipywidgets as widgets
from matplotlib.figure import Figure

from rbcnb.plotting.sliders import explore, slider


def drawn(gamma: float, loss: str) -> Figure:
    figure = Figure(figsize=(2 + gamma, 1))
    figure.suptitle(loss)
    return figure


def test_without_a_kernel_sliders_are_their_picture_and_what_it_shows():
    gamma = slider("gamma", 2.0, 0.0, 5.0, 0.1)
    box = explore(drawn, gamma=gamma, loss=widgets.Dropdown(options=["a < b", "c"]))
    assert isinstance(box, widgets.VBox)
    data, _ = box._repr_mimebundle_()
    assert "application/vnd.jupyter.widget-view+json" in data
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
