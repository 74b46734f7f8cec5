"""The look of every figure: sizes, colours, the names printed in legends, and a Figure that shows itself.

Nothing here touches matplotlib's global settings or pyplot's list of open figures: ``rc()`` is a context, and
``new_figure`` returns a figure that belongs to whoever holds it.
"""

import base64
import html
import io
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.transforms import Bbox

from rbcnb.columns import CODOCYTE, HYPOCHROMIA, NORMAL

# Okabe and Ito's palette: told apart with every common colour vision. Yellow is left out, too pale for lines on white.
BLUE, VERMILLION, GREEN, PURPLE = "#0072B2", "#D55E00", "#009E73", "#CC79A7"
ORANGE, SKY, BLACK, GREY = "#E69F00", "#56B4E9", "#000000", "#7F7F7F"
CYCLE = (BLUE, VERMILLION, GREEN, PURPLE, ORANGE, SKY, BLACK)
# For names beyond these: of Tol's muted and light colours, and three more.
MORE = ("#882255", "#332288", "#999933", "#44AA99", "#AA4499", "#661100", "#7BB661", "#6A6AD6", "#B8A000", "#7F7F7F")
DASHES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)), (0, (8, 2)), (0, (1, 1)))
THIN = {"lw": 1, "ms": 4}  # lines of methods that stand beside those of the question
VERDICT_COLOURS = {
    "supported": BLUE,
    "not supported": VERMILLION,
    "inconclusive": GREY,
    "one run, not judged": SKY,
    "judged among all tests of the run": "#BBBBBB",
}
METHOD_COLOURS = {
    "focal": BLUE,
    "cross_entropy": VERMILLION,
    "over_sampling": GREEN,
    "over_sampling_equal_steps": "#66C2A5",  # paler: the same method, shorter
    "under_sampling": PURPLE,
    # The rivals: what is left of the palette, and three of Tol's muted colours.
    "weighted_cross_entropy": ORANGE,
    "class_balanced": SKY,
    "ldam": BLACK,
    "ldam_drw": GREY,
    "logit_adjustment": "#882255",
    "balanced_softmax": "#332288",
    "generalised_dice": "#999933",
}
CLASS_COLOURS = {CODOCYTE: VERMILLION, HYPOCHROMIA: BLUE, NORMAL: GREEN}
_RC = {
    "axes.axisbelow": True,
    "axes.edgecolor": "#444444",
    "axes.grid": True,
    "axes.labelsize": 10,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlelocation": "left",
    "axes.titlesize": 11,
    "figure.constrained_layout.h_pad": 0.07,
    "figure.constrained_layout.w_pad": 0.07,
    "figure.facecolor": "white",
    "figure.titlesize": 12,
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 10,
    "grid.color": "#E3E3E3",
    "grid.linewidth": 0.7,
    "legend.fontsize": 9,
    "legend.frameon": False,
    "lines.linewidth": 1.8,
    "lines.markersize": 5.5,
    "savefig.bbox": None,
    "savefig.facecolor": "white",
    "text.parse_math": False,  # names of classes and readers may hold a $, and no text here is a formula
    "text.usetex": False,
    "xtick.labelsize": 9,
    "ytick.labelsize": 9,
}
DPI = 144
CSS_DPI = 96  # pixels of a page to the inch
HEADING_IN = 0.26  # height of the strip above a figure that has a heading


def rc() -> AbstractContextManager:
    """A context in which axes and texts take the house's sizes and colours; the caller's settings return after it."""
    return mpl.rc_context(_RC)


class SelfShowingFigure(Figure):
    """A matplotlib Figure that a notebook shows as it is returned, also when nothing has imported pyplot."""

    alt: str = ""  # what it shows, for those who cannot see it; a run's figures take theirs from `captions.yaml`
    _heading: Text | None = None

    def set_heading(self, words: str) -> None:
        """Puts *words* into a strip above the figure, of which its layout knows nothing."""
        if self._heading is None:
            self._heading = self.text(0, 0, "", transform=self.dpi_scale_trans, color=VERMILLION, size=9, weight="bold")
        self._heading.set(text=words, position=(0.08, self.get_figheight() + 0.07))

    def savefig(self, *args, **options):
        """Saves the figure, and its heading with it."""
        if self._heading is not None:
            right = self._heading.get_window_extent().x1 / self.dpi + 0.08  # a picture may be narrower than words
            # A strip of whole pixels, or the figure under it would come to lie between two rows of them.
            height_px = self.bbox.height + round(HEADING_IN * self.dpi) + 1e-6
            whole = Bbox.from_extents(0, 0, max(self.get_figwidth(), right), height_px / self.dpi)
            options = {"bbox_inches": whole} | options
        super().savefig(*args, **options)

    def draw(self, renderer):
        """Draw under the house's settings: ticks are made while drawing and would otherwise take the caller's."""
        with rc():
            super().draw(renderer)

    def _repr_png_(self) -> bytes:
        return png(self)

    def _repr_mimebundle_(self, **_: Any) -> dict[str, str]:
        heads = (ax.get_title("left") or ax.get_title() or ax.get_xlabel() for ax in self.axes)
        words = self.alt or "; ".join(filter(None, heads)) or "A figure"
        if self._heading is not None:
            words = f"{self._heading.get_text()}. {words}"
        return picture_bundle(self._repr_png_(), words)


@dataclass(frozen=True)
class Picture:
    """A file, and the words that stand above it: for pages, where words must not be pixels.

    Attributes:
        title: printed above it; the same at all places of the sliders.
        words: printed below the title.
        file: a WebP or PNG file.
    """

    title: str
    words: str
    file: bytes


def png(figure: Figure) -> bytes:
    """*figure* as the bytes of a PNG file."""
    stream = io.BytesIO()
    figure.savefig(stream, format="png")
    return stream.getvalue()


def picture_bundle(file: bytes, words: str, *, kind: str = "image/png") -> dict[str, str]:
    """What a notebook displays of the picture *file* of MIME type *kind*: the picture, and *words* in its place.

    As HTML, too: nbconvert's pages take no alternative text from a bare picture.
    """
    encoded, alt = base64.b64encode(file).decode("ascii"), html.escape(words)
    page = f'<img alt="{alt}" style="max-width:100%" src="data:{kind};base64,{encoded}">'
    return {kind: encoded, "text/html": page, "text/plain": words}


def show_current_figure(words: str) -> None:
    """Displays pyplot's current figure, which another library drew, and closes it.

    Args:
        words: its alternative text: what it shows.
    """
    from IPython.display import display
    from matplotlib import pyplot

    display(picture_bundle(png(pyplot.gcf()), words), raw=True)
    pyplot.close()


def new_figure(
    width_in: float, height_in: float, rows: int = 1, columns: int = 1, *, layout: str | None = "constrained", **options
) -> tuple[Figure, np.ndarray]:
    """A figure and its axes [rows, columns] (always two-dimensional); call it inside ``rc()``."""
    figure = SelfShowingFigure(figsize=(width_in, height_in), dpi=DPI, layout=layout)
    return figure, figure.subplots(rows, columns, squeeze=False, **options)


def colours_of(names: Iterable[str]) -> dict[str, str]:
    """One colour per name: methods, verdicts and the paper's classes have theirs everywhere.

    Other names take the 17 colours of ``CYCLE`` and ``MORE`` in turn, those left out that a fixed name of this call
    has; where there are more such names than colours, colours repeat. So the colour of such a name depends on the
    other *names*.
    """
    known = METHOD_COLOURS | CLASS_COLOURS | VERDICT_COLOURS
    names = list(dict.fromkeys(names))
    taken = {known[name] for name in names if name in known}
    free = [colour for colour in CYCLE + MORE if colour not in taken]
    strangers = [name for name in names if name not in known]
    return {name: known.get(name) or free[strangers.index(name) % len(free)] for name in names}


def bare(ax: Axes) -> Axes:
    """Take ticks, grid and frame off *ax*, for pictures and diagrams."""
    ax.grid(False)
    ax.set_xticks([])
    ax.set_yticks([])
    ax.spines[:].set_visible(False)
    return ax


def require(table: pd.DataFrame, columns: Sequence[str], what: str) -> None:
    """Raise a ValueError that names what is missing unless *table* has *columns* and at least one row."""
    missing = [column for column in columns if column not in table]
    if missing:
        raise ValueError(f"{what} needs the columns {', '.join(columns)}; missing: {', '.join(missing)}")
    if table.empty:
        raise ValueError(f"{what} has no rows, so there is nothing to draw")


def cycle(values: Sequence, n: int) -> list:
    """The first *n* of *values* repeated without end."""
    return [values[i % len(values)] for i in range(n)]
