"""Explorers: a drawing of `rbcnb.live` under sliders; the drawing stands alone too, for pages that run nothing."""

from collections.abc import Callable
from typing import Any

import ipywidgets as widgets
from matplotlib.figure import Figure

from rbcnb.live import Drawing, Redrawn
from rbcnb.style import CSS_DPI


def _look() -> dict[str, Any]:
    """Names in full, and a track long enough to be dragged step by step."""
    return {"style": {"description_width": "9em"}, "layout": widgets.Layout(width="30em")}


def explore(drawing: Drawing | Callable[..., Figure], **controls: widgets.Widget) -> widgets.VBox:
    """Sliders over *drawing*: a box of *controls* and the picture drawn from their values, anew when one changes.

    The picture is an image widget: quicker than an output area, and a headless run has no output area to wait for. Keys
    that come faster than frames do not pile up: the page keeps only the newest value while the kernel draws.

    Args:
        drawing: takes the controls' values by name. A function that returns a new figure each time serves as well,
            where computing takes longer than drawing.
        **controls: widgets with a ``value``, by the name of the argument that they set.

    Returns:
        A box to be displayed by the cell that calls this; nothing waits for it, and headless runs pass through.
    """
    live = drawing.live() if isinstance(drawing, Drawing) else Redrawn(drawing)

    def frame() -> bytes:
        return live.png(**{name: control.value for name, control in controls.items()})

    first = frame()
    # As wide as it was drawn, in a page's pixels: else the box would stretch it to its own width.
    width_px = live.figure.get_figwidth() * CSS_DPI
    layout = widgets.Layout(width=f"{width_px:.0f}px", max_width="100%", align_self="flex-start")
    image = widgets.Image(value=first, format="png", layout=layout)

    def redraw(_change: object) -> None:
        image.value = frame()

    for control in controls.values():
        control.observe(redraw, names="value")
    row = widgets.Layout(flex_flow="row wrap", width="100%")
    return widgets.VBox([widgets.HBox(list(controls.values()), layout=row), image])


def slider(
    name: str, value: float, low: float, high: float, step: float, *, whole: bool = False
) -> widgets.FloatSlider | widgets.IntSlider:
    """A slider that redraws while it moves; Tab reaches it, the arrow keys move it by *step*. *whole*: of integers."""
    kind = widgets.IntSlider if whole else widgets.FloatSlider
    return kind(value=value, min=low, max=high, step=step, description=name, **_look())


def choice(name: str, options: list[Any], value: Any) -> widgets.SelectionSlider:
    """A slider over *options*, for values that are not evenly spaced."""
    return widgets.SelectionSlider(options=options, value=value, description=name, **_look())


def toggle(name: str, value: bool = False) -> widgets.Checkbox:
    """A box to tick."""
    return widgets.Checkbox(value=value, description=name, indent=False, layout=widgets.Layout(width="auto"))
