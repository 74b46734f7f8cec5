"""Widgets that set the arguments of a function in the kernel and show the figure that it returns.

What is plain arithmetic needs no kernel: see `rbcnb.plotting.explorers`.
"""

import base64
from collections.abc import Callable
from typing import Any

import ipywidgets as widgets
from matplotlib.figure import Figure

from rbcnb.plotting.explorers import Explorer
from rbcnb.plotting.style import CSS_DPI, png


class Sliders(widgets.VBox):
    """A box of controls and a picture; where no kernel runs, a page shows the picture, or what stands in for all."""

    def __init__(self, *args: Any, still: dict[str, Any], **options: Any) -> None:
        super().__init__(*args, **options)
        self._still = still

    def _repr_mimebundle_(self, **options: Any) -> dict[str, Any]:
        return {**super()._repr_mimebundle_(**options), **self._still}


def explore(
    drawing: Callable[..., Figure], *, without_kernel: Explorer | None = None, **controls: widgets.Widget
) -> Sliders:
    """Sliders over *drawing*: a box of *controls* and the picture drawn from their values, anew when one changes.

    The picture is an image widget: quicker than an output area, and a headless run has no output area to wait for. Keys
    that come faster than frames do not pile up: the page keeps only the newest value while the kernel draws.

    Args:
        drawing: takes the controls' values by name.
        without_kernel: shown by pages that have no kernel; without it they show the first picture.
        **controls: widgets with a ``value``, by the name of the argument that they set.

    Returns:
        A box to be displayed by the cell that calls this; nothing waits for it, and headless runs pass through.
    """

    def draw() -> Figure:
        return drawing(**{name: control.value for name, control in controls.items()})

    first = draw()
    picture = png(first)
    # As wide as it was drawn, in a page's pixels: else the box would stretch it to its own width.
    width_px = first.get_figwidth() * CSS_DPI
    layout = widgets.Layout(width=f"{width_px:.0f}px", max_width="100%", align_self="flex-start")
    image = widgets.Image(value=picture, format="png", layout=layout)

    def redraw(_change: object) -> None:
        image.value = png(draw())

    for control in controls.values():
        control.observe(redraw, names="value")
    row = widgets.Layout(flex_flow="row wrap", width="100%")
    still = {
        "image/png": base64.b64encode(picture).decode("ascii"),
        "text/plain": f"sliders over a picture: {', '.join(controls)}; they need a kernel",
    }
    if without_kernel is not None:
        still["text/html"] = without_kernel.html()
    return Sliders([widgets.HBox(list(controls.values()), layout=row), image], still=still)


def _look() -> dict[str, Any]:
    """Names in full, and a track long enough to be dragged step by step."""
    return {"style": {"description_width": "9em"}, "layout": widgets.Layout(width="30em")}


def slider(
    name: str, value: float, low: float, high: float, step: float, *, whole: bool = False
) -> widgets.FloatSlider | widgets.IntSlider:
    """A slider that redraws while it moves; Tab reaches it, the arrow keys move it by *step*. *whole*: of integers."""
    kind = widgets.IntSlider if whole else widgets.FloatSlider
    return kind(value=value, min=low, max=high, step=step, description=name, **_look())


def choice(name: str, options: list[Any], value: Any) -> widgets.SelectionSlider:
    """A slider over *options*, for values that are not evenly spaced."""
    return widgets.SelectionSlider(options=options, value=value, description=name, **_look())
