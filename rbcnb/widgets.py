"""Explorers: each is a plain ``figure(**values)`` with sliders on top, so a page that runs nothing still shows one."""

from collections.abc import Callable

import ipywidgets as widgets
from matplotlib.figure import Figure

from rbcnb.style import CSS_DPI, png


def explore(figure: Callable[..., Figure], **controls: widgets.Widget) -> widgets.VBox:
    """Sliders over *figure*: a box of *controls* and the figure drawn from their values, redrawn when one changes.

    The figure is an image widget: quicker than an output area, and a headless run has no output area to wait for.

    Args:
        figure: takes the controls' values by name and returns a figure; never shows or saves it.
        **controls: widgets with a ``value``, by the name of the argument that they set.

    Returns:
        A box to be displayed by the cell that calls this; nothing waits for it, and headless runs pass through.
    """

    def drawn() -> Figure:
        return figure(**{name: control.value for name, control in controls.items()})

    first = drawn()
    # As wide as it was drawn, in a page's pixels: else the box would stretch it to its own width.
    layout = widgets.Layout(width=f"{first.get_figwidth() * CSS_DPI:.0f}px", max_width="100%", align_self="flex-start")
    image = widgets.Image(value=png(first), format="png", layout=layout)

    def redraw(_change: object) -> None:
        image.value = png(drawn())

    for control in controls.values():
        control.observe(redraw, names="value")
    return widgets.VBox([widgets.HBox(list(controls.values())), image])


def slider(name: str, value: float, low: float, high: float, step: float) -> widgets.FloatSlider:
    """A slider that redraws while it moves."""
    return widgets.FloatSlider(value=value, min=low, max=high, step=step, description=name, continuous_update=True)
