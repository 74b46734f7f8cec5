"""Drawings that follow sliders: what moves is painted anew over a kept picture of all that does not.

A drawing is one function that both pages and sliders use: called with values it returns a new Figure; held live it
paints the same pixels in milliseconds. Matplotlib's whole draw spends its time on texts, ticks and layout, a frame here
on lines alone.
"""

import base64
import functools
import html
from collections.abc import Callable, Sequence
from typing import Any

import cv2
import ipywidgets as widgets
import numpy as np
from matplotlib.artist import Artist
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from rbcnb.plotting.style import CSS_DPI, DPI, GREY, SelfShowingFigure, png, rc

Build = Callable[[], tuple[Figure, Sequence[Artist], Callable[..., None]]]


class Drawing:
    """A figure as a function of values, from *build*: ``() -> (figure, moving, update)``.

    ``moving`` are the artists that change, ``update(**values)`` sets their data and may change scales and limits of
    axes, which costs one whole draw; everything else must not depend on the values.
    """

    def __init__(self, build: Build) -> None:
        self._build = build
        functools.update_wrapper(self, build)

    def __call__(self, **values: Any) -> Figure:
        """A new figure at *values*."""
        figure, _, update = self._raised()
        update(**values)
        return figure

    def live(self, *, dpi: float = CSS_DPI) -> "LiveFigure":
        """The same figure held open, to be drawn many times; at CSS_DPI a pixel of it is one of the page's."""
        figure, moving, update = self._raised()
        figure.set_dpi(dpi)
        return LiveFigure(figure, moving, update)

    def _raised(self) -> tuple[Figure, Sequence[Artist], Callable[..., None]]:
        figure, moving, update = self._build()
        if figure.get_layout_engine() is not None:
            with rc():  # once: a layout that followed every frame would cost more than the frame
                figure.draw_without_rendering()
            figure.set_layout_engine("none")
        for artist in moving:
            # Above all that stands still, so that painting it last gives the pixels of a whole draw.
            artist.set(animated=True, zorder=artist.get_zorder() + 10)
        place = {artist: i for i, artist in enumerate(figure.findobj())}
        return figure, sorted(moving, key=lambda artist: (artist.get_zorder(), place[artist])), update


class LiveFigure:
    """Frames of one figure; see `Drawing`."""

    def __init__(self, figure: Figure, moving: Sequence[Artist], update: Callable[..., None]) -> None:
        self.figure, self._moving, self._update = figure, moving, update
        self._canvas = FigureCanvasAgg(figure)
        self._still: Any = None
        self._frame: tuple = ()

    def pixels(self, **values: Any) -> np.ndarray:
        """The figure at *values*, [H, W, 4] uint8; a view that the next call overwrites."""
        self._update(**values)
        frame = tuple((ax.get_xscale(), ax.get_yscale(), ax.get_xlim(), ax.get_ylim()) for ax in self.figure.axes)
        if frame != self._frame:
            with rc():
                self._canvas.draw()  # leaves out what is animated
            self._still, self._frame = self._canvas.copy_from_bbox(self.figure.bbox), frame
        self._canvas.restore_region(self._still)
        renderer = self._canvas.get_renderer()
        for artist in self._moving:
            artist.draw(renderer)
        return np.asarray(self._canvas.buffer_rgba())

    def png(self, **values: Any) -> bytes:
        """The figure at *values* as the bytes of a PNG file."""
        return encode_png(self.pixels(**values))


class Redrawn:
    """Frames of a function that returns a new figure each time, with the face of a `LiveFigure`."""

    def __init__(self, function: Callable[..., Figure]) -> None:
        self._function = function
        self.figure: Figure | None = None  # the last one

    def png(self, **values: Any) -> bytes:
        """The figure at *values* as the bytes of a PNG file."""
        self.figure = self._function(**values)
        return png(self.figure)


def encode_png(rgba: np.ndarray) -> bytes:
    """[H, W, 4] uint8 as a PNG file; lightly deflated, for a frame is looked at once.

    With its alpha, opaque as it is: ``benchmarks/sliders.py`` measured 38 to 45 ms from key to picture, and 64 without.
    """
    fast = [cv2.IMWRITE_PNG_COMPRESSION, 1, cv2.IMWRITE_PNG_FILTER, cv2.IMWRITE_PNG_FILTER_NONE]
    return cv2.imencode(".png", cv2.cvtColor(rgba, cv2.COLOR_RGBA2BGRA), fast)[1].tobytes()


def stills(drawing: Drawing, settings: Sequence[dict[str, Any]]) -> Figure:
    """*drawing* at several *settings* in one figure, for pages that run nothing: each under the values it shows."""
    live = drawing.live(dpi=DPI)
    pictures = [live.pixels(**values).copy() for values in settings]
    height, width, _ = pictures[0].shape
    head_px = round(0.3 * DPI)
    size_px = width, len(pictures) * (height + head_px)
    with rc():
        figure = SelfShowingFigure(figsize=(size_px[0] / DPI, size_px[1] / DPI), dpi=DPI)
        for i, (picture, values) in enumerate(zip(pictures, settings, strict=True)):
            top = size_px[1] - i * (height + head_px)
            figure.figimage(picture, 0, top - head_px - height)
            told = ",  ".join(f"{name} = {_told(value)}" for name, value in values.items())
            at = 0.1 * DPI / size_px[0], (top - head_px / 2) / size_px[1]
            figure.text(*at, told, va="center", color=GREY, fontsize=11)
    return figure


def _told(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:g}" if isinstance(value, float) else str(value)


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
    return _Explorer(controls, image, children=[widgets.HBox(list(controls.values()), layout=row), image])


class _Explorer(widgets.VBox):
    """A box of sliders over a picture, which is there without a kernel, too."""

    def __init__(self, controls: dict[str, widgets.Widget], image: widgets.Image, **options: Any) -> None:
        super().__init__(**options)
        self._controls, self._image = controls, image

    def _repr_mimebundle_(self, **options: Any) -> tuple[dict, dict]:
        settings = ", ".join(f"{name} = {_told(control.value)}" for name, control in self._controls.items())
        words = f"A picture with sliders, drawn at {settings}. Run the notebook to move them."
        return with_picture(super()._repr_mimebundle_(**options), self._image.value, words)


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


def slider(
    name: str, value: float, low: float, high: float, step: float, *, whole: bool = False
) -> widgets.FloatSlider | widgets.IntSlider:
    """A slider that redraws while it moves; Tab reaches it, the arrow keys move it by *step*. *whole*: of integers."""
    kind = widgets.IntSlider if whole else widgets.FloatSlider
    return kind(value=value, min=low, max=high, step=step, description=name, **_look())


def choice(name: str, options: list[Any], value: Any) -> widgets.SelectionSlider:
    """A slider over *options*, for values that are not evenly spaced."""
    return widgets.SelectionSlider(options=options, value=value, description=name, **_look())


def toggle(name: str) -> widgets.Checkbox:
    """A box to tick."""
    return widgets.Checkbox(value=False, description=name, indent=False, layout=widgets.Layout(width="auto"))
