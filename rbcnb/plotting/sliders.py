"""Widgets that set the arguments of a function in the kernel and show the figure that it returns.

What is plain arithmetic needs no kernel: see `rbcnb.plotting.explorers`.
"""

import base64
import html
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import ipywidgets as widgets
from matplotlib.figure import Figure

from rbcnb.plotting.style import CSS_DPI, png

if TYPE_CHECKING:
    from rbcnb.plotting.explorers import Explorer


class SliderBox(widgets.VBox):
    """A box of sliders over a picture; for pages without a kernel it brings the picture, or what stands in for it."""

    def __init__(
        self,
        controls: dict[str, widgets.Widget],
        image: widgets.Image,
        without_kernel: "Explorer | None" = None,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self._controls, self._image, self._without_kernel = controls, image, without_kernel

    def _repr_mimebundle_(self, **options: Any) -> tuple[dict, dict]:
        settings = ", ".join(f"{name} = {_text(control.value)}" for name, control in self._controls.items())
        words = f"A picture with sliders, drawn at {settings}. Run the notebook to move them."
        data, metadata = with_picture(super()._repr_mimebundle_(**options), self._image.value, words)
        if self._without_kernel is not None:
            data["text/html"] = self._without_kernel.html()
        return data, metadata


def with_picture(
    bundle: tuple[dict, dict] | dict, file: bytes, words: str, *, kind: str = "image/png"
) -> tuple[dict, dict]:
    """What a widget displays, and for a page without a kernel a picture of it and *words*, its alternative text.

    Args:
        bundle: of the widget's own ``_repr_mimebundle_``.
        file: the picture's bytes; none for words alone.
        words: what is there to be seen and what to do.
        kind: MIME type of *file*.
    """
    data, metadata = bundle if isinstance(bundle, tuple) else (bundle, {})
    data = data | {"text/plain": words}
    if file:
        encoded = base64.b64encode(file).decode()
        # As HTML, too: nbconvert's pages take no alternative text from a bare picture.
        picture = f'<img alt="{html.escape(words)}" src="data:{kind};base64,{encoded}">'
        data |= {kind: encoded, "text/html": f"<figure>{picture}<figcaption>{html.escape(words)}</figcaption></figure>"}
    return data, metadata


def explore(
    drawing: Callable[..., Figure], *, without_kernel: "Explorer | None" = None, **controls: widgets.Widget
) -> SliderBox:
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
    children = [widgets.HBox(list(controls.values()), layout=row), image]
    return SliderBox(controls, image, without_kernel, children=children)


def _text(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


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
