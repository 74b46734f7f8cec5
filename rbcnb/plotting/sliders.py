"""Widgets that set the arguments of a function in the kernel and show the figure that it returns.

What is plain arithmetic needs no kernel: see `rbcnb.plotting.explorers`.
"""

import base64
import html
from collections.abc import Callable
from typing import Any

import ipywidgets as widgets
from matplotlib.figure import Figure

from rbcnb.plotting.style import CSS_DPI, picture_bundle, png


class SliderBox(widgets.VBox):
    """A box of sliders over a picture; for pages without a kernel it brings the picture as it stands."""

    def __init__(self, controls: dict[str, widgets.Widget], figure: Figure, **options: Any) -> None:
        self._controls, self._place = controls, widgets.HTML()
        row = widgets.Layout(flex_flow="row wrap", width="100%")
        super().__init__(children=[widgets.HBox(list(controls.values()), layout=row), self._place], **options)
        self.show(figure)

    def show(self, figure: Figure) -> None:
        """Shows *figure*, as wide as it was drawn, in a page's pixels, and no wider than the page."""
        self._file, self._width_px = png(figure), round(figure.get_figwidth() * CSS_DPI)
        encoded, words = base64.b64encode(self._file).decode(), html.escape(f"A picture, {self._settings()}.")
        self._place.value = (
            f'<img alt="{words}" style="width: {self._width_px}px; max-width: 100%; height: auto" '
            f'src="data:image/png;base64,{encoded}">'
        )

    def _settings(self) -> str:
        return "drawn at " + ", ".join(f"{name} = {_text(control.value)}" for name, control in self._controls.items())

    def _repr_mimebundle_(self, **options: Any) -> tuple[dict, dict]:
        words = f"A picture with sliders, {self._settings()}. Run the notebook to move them."
        return with_picture(super()._repr_mimebundle_(**options), self._file, words)


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
    if not file:
        return data | {"text/plain": words}, metadata
    picture = picture_bundle(file, words, kind=kind)
    picture["text/html"] = f"<figure>{picture['text/html']}<figcaption>{html.escape(words)}</figcaption></figure>"
    return data | picture, metadata


def explore(drawing: Callable[..., Figure], **controls: widgets.Widget) -> SliderBox:
    """Sliders over *drawing*: a box of *controls* and the picture drawn from their values, again when one changes.

    The picture is no output area: that would be slower, and a headless run would wait for it. Keys that come faster
    than frames do not pile up: the page keeps only the newest value while the kernel draws.

    Args:
        drawing: takes the controls' values by name.
        **controls: widgets with a ``value``, by the name of the argument that they set.

    Returns:
        A box to be displayed by the cell that calls this; nothing waits for it, and headless runs pass through.
    """

    def draw() -> Figure:
        return drawing(**{name: control.value for name, control in controls.items()})

    box = SliderBox(controls, draw())
    for control in controls.values():
        control.observe(lambda _change: box.show(draw()), names="value")
    return box


def _text(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
