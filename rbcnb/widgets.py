"""Explorers: each is a plain ``figure(**values)`` with sliders on top, so a page that runs nothing still shows one."""

from collections.abc import Callable

import ipywidgets as widgets
from matplotlib.figure import Figure


def explore(figure: Callable[..., Figure], **controls: widgets.Widget) -> widgets.VBox:
    """Sliders over *figure*: a box of *controls* and the figure drawn from their values, redrawn when one changes.

    Args:
        figure: takes the controls' values by name and returns a figure; never shows or saves it.
        **controls: widgets with a ``value``, by the name of the argument that they set.

    Returns:
        A box to be displayed by the cell that calls this; nothing waits for it, and headless runs pass through.
    """
    output = widgets.interactive_output(figure_png(figure), controls)
    return widgets.VBox([widgets.HBox(list(controls.values())), output])


def figure_png(figure: Callable[..., Figure]) -> Callable[..., None]:
    """*figure* as a callback that displays what it returns."""
    from IPython.display import display

    def draw(**values: object) -> None:
        display(figure(**values))

    return draw


def slider(name: str, value: float, low: float, high: float, step: float) -> widgets.FloatSlider:
    """A slider that redraws while it moves."""
    return widgets.FloatSlider(value=value, min=low, max=high, step=step, description=name, continuous_update=True)
