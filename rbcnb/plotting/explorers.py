"""Charts that move in the browser: sliders over Vega-Lite charts, with no kernel behind them.

An `Explorer` is written with Altair and shown by a notebook, by Voila and by a page from a USB stick alike: everything
that it needs, Vega's scripts included, is in its HTML. Whatever runs no script shows its picture.
"""

import base64
import gzip
import html
import io
import json
import re
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import altair as alt
import numpy as np
import pandas as pd
import vl_convert
from PIL import Image

from rbcnb.plotting.style import CSS_DPI, DPI, GREY, SelfShowingFigure, png, rc

N_POINTS = 401  # of a line
_VEGA = Path(__file__).with_name("vega.js.gz")  # made by .ci/vega.py, as bundling takes seconds
MIME = "application/vnd.rbcnb.explorer+json"  # of what the scripts are given, in a page
PANEL_PX = (300, 260)  # of a still; in a page a panel is as wide as its place
# "currentColor" is the colour of the text around the chart, so that charts follow a dark page.
_CONFIG = {
    "autosize": {"type": "fit-x", "contains": "padding"},
    "aria": False,  # the explorer says what its charts show, in one sentence
    "background": "transparent",
    "font": "system-ui, sans-serif",
    "view": {"stroke": None},
    "axis": {
        **dict.fromkeys(("labelColor", "titleColor", "domainColor", "tickColor", "gridColor"), "currentColor"),
        "gridOpacity": 0.15,
        "labelFlush": False,  # or labels at the ends would move towards their neighbours
        "labelFontSize": 12,
        "labelSeparation": 6,
        "titleFontSize": 13,
        "titleFontWeight": "normal",
    },
    "legend": {
        "columns": 1,
        "labelColor": "currentColor",
        "labelFontSize": 13,
        "labelLimit": 0,
        "orient": "top",
        "symbolSize": 400,
        "symbolStrokeWidth": 2.4,
        "title": None,
    },
    "line": {"strokeWidth": 2.4},
    "title": {"anchor": "start", "color": "currentColor", "fontSize": 14, "fontWeight": "normal"},
}


@dataclass(frozen=True)
class Control:
    """A slider; a box to tick where *values* are False and True.

    Attributes:
        name: of the charts' parameter that it sets.
        label: what the reader sees.
        values: that it can stand at, low to high.
        value: where it stands first, one of *values*.
        percent: shares, 0 to 1, that are printed as percent.
        names: of the *values*, printed instead of them.
    """

    name: str
    label: str
    values: Sequence[Any]
    value: Any
    percent: bool = False
    names: Sequence[str] = ()

    def text(self, value: Any = None) -> str:
        """*value*, or where it stands, as it is printed."""
        value = self.value if value is None else value
        if self.names:
            return self.names[self.values.index(value)]
        if isinstance(value, bool):
            return "on" if value else "off"
        return f"{100 * value:g} %" if self.percent else f"{value:g}"

    def at(self, value: Any) -> "Control":
        """The same, first at *value* or the nearest to it that it can stand at."""
        return replace(self, value=min(self.values, key=lambda stop: abs(stop - value)))

    def as_dict(self) -> dict[str, Any]:
        """What the page makes a slider of."""
        texts = [self.text(value) for value in self.values]
        return {"name": self.name, "label": self.label, "values": self.values, "texts": texts, "value": self.value}


def steps(name: str, label: str, value: float, low: float, high: float, step: float, **options: bool) -> Control:
    """A `Control` from *low* to *high* in steps of *step*, first at the one nearest to *value*.

    Args:
        name: of the charts' parameter that it sets.
        label: what the reader sees.
        value: where it stands first.
        low: the first of its values.
        high: the last, if *step* divides the range.
        step: from one value to the next, above 0.
        **options: of `Control`, such as ``percent=True`` for shares that are printed as percent.
    """
    values = [round(low + i * step, 9) for i in range(round((high - low) / step) + 1)]
    return Control(name, label, values, low, **options).at(value)


def switch(name: str, label: str) -> Control:
    """A box to tick."""
    return Control(name, label, [False, True], False)


@dataclass(frozen=True)
class Axis:
    """Of a panel; *low*, *high*, *values* (of the ticks) and *labels* may be expressions of the sliders' values.

    Vega makes room for the labels once, when it draws first: *room_px* is that of labels which sliders make longer.
    """

    title: str
    low: float | str
    high: float | str
    values: str = ""
    labels: str = ""
    room_px: int = 0

    def options(self) -> dict[str, Any]:
        """For `altair.X` or `altair.Y`."""
        ends = {"domainMin": self.low, "domainMax": self.high}
        ends = {name: alt.ExprRef(end) if isinstance(end, str) else end for name, end in ends.items()}
        scale = alt.Scale(nice=False, zero=False, **ends)
        ticks = {"values": alt.ExprRef(self.values)} if self.values else {"tickCount": 6}
        labels = {"labelExpr": self.labels} if self.labels else {}
        labels |= {"minExtent": self.room_px} if self.room_px else {}
        return {"type": "quantitative", "title": self.title, "scale": scale, "axis": alt.Axis(**ticks, **labels)}


class Curve(NamedTuple):
    """One curve of a panel.

    Attributes:
        name: in the legend; a curve without one is not there.
        x, y: Vega expressions of the sliders' values and of ``datum.t``, which runs from 0 to 1.
        colour, dash: of the line; no dashes draw it through.
        mark: "line", or "point" or "rule" (a vertical line) at *x*.
    """

    name: str
    x: str
    y: str
    colour: str
    dash: Sequence[int] = ()
    mark: str = "line"


def panel(curves: Sequence[Curve], x: Axis, y: Axis, *, legend: bool = True, title: str = "") -> alt.LayerChart:
    """A chart of *curves*."""
    named = [curve for curve in curves if curve.name]
    names = [curve.name for curve in named]
    colours = alt.Scale(domain=names, range=[curve.colour for curve in named])
    dashes = alt.Scale(domain=names, range=[list(curve.dash) or [1, 0] for curve in named])
    key = alt.Legend(symbolType="stroke") if legend else None
    layers = []
    for curve in curves:
        n_points = N_POINTS if curve.mark == "line" else 1
        chart = (
            alt.Chart(alt.sequence(0, n_points, as_="i"))
            .transform_calculate(t=f"datum.i / {N_POINTS - 1}", name=json.dumps(curve.name))
            .transform_calculate(x=curve.x, y=curve.y)
        )
        if curve.mark == "point":
            chart = chart.mark_point(filled=True, size=120, opacity=1, clip=True)
        elif curve.mark == "rule":
            chart = chart.mark_rule(strokeWidth=2, clip=True)
        else:
            chart = chart.mark_line(clip=True)
        places = {"x": alt.X("x", **x.options())}
        if curve.mark != "rule":  # it goes from the bottom to the top
            places["y"] = alt.Y("y", **y.options())
        look = (
            {
                "color": alt.Color("name:N", scale=colours, legend=key),
                "strokeDash": alt.StrokeDash("name:N", scale=dashes, legend=key),
            }
            if curve.name
            else {"color": alt.value(curve.colour)}
        )
        layers.append(chart.encode(**places, **look))
    return alt.layer(*layers, **({"title": title} if title else {}))


def table_panel(
    rows: pd.DataFrame,
    looks: Mapping[str, tuple[str, Sequence[int]]],
    x: Axis,
    y: Axis,
    *,
    where: str = "true",
    legend: bool = True,
    title: str = "",
) -> alt.LayerChart:
    """A chart of lines through the points of a table.

    Args:
        rows: ``x``, ``y`` and ``name`` of the line. A column ``part`` parts a name into several lines; ``low`` and
            ``high`` are the ends of a bar.
        looks: name -> colour and dashes, in the legend's order.
        x, y: axes.
        where: expression of ``datum`` and the sliders: which rows are drawn.
        legend, title: of the chart.
    """
    colours = alt.Scale(domain=list(looks), range=[colour for colour, _ in looks.values()])
    dashes = alt.Scale(domain=list(looks), range=[list(dash) or [1, 0] for _, dash in looks.values()])
    key = alt.Legend(symbolType="stroke") if legend else None
    records = json.loads(rows.to_json(orient="records", double_precision=6))
    base = alt.Chart(alt.Data(values=records)).transform_filter(where).encode(x=alt.X("x", **x.options()))
    colour = alt.Color("name:N", scale=colours, legend=key)
    lines = base.mark_line(clip=True, point={"filled": True, "size": 45}).encode(
        y=alt.Y("y", **y.options()), color=colour, strokeDash=alt.StrokeDash("name:N", scale=dashes, legend=key)
    )
    layers = [lines.encode(detail="part:N") if "part" in rows else lines]
    if "low" in rows:
        bars = base.mark_rule(strokeWidth=1.5, clip=True)
        layers.append(bars.encode(y=alt.Y("low", **y.options()), y2="high", color=colour))
    return alt.layer(*layers, **({"title": title} if title else {}))


def sentence(template: str, **parts: str) -> str:
    """The expression of the sentence *template*, in which ``{name}`` stands for the expression of that name."""
    pieces = re.split(r"\{([^{}]+)\}", template)
    return " + ".join(parts[piece] if i % 2 else json.dumps(piece) for i, piece in enumerate(pieces))


def number(value: str, digits: int) -> str:
    """The expression that prints the expression *value*."""
    return f"format({value}, '.{digits}f')"


def percent(share: str, digits: int = 0) -> str:
    """The expression that prints the expression *share*, 0 to 1, as percent."""
    return f"format(100 * {share}, '.{digits}f') + ' %'"


@dataclass(frozen=True)
class Explorer:
    """Sliders and the charts that follow them.

    Attributes:
        name: of the subject, for a page's anchors.
        alt: what the charts show, in a sentence or two.
        controls: each is a parameter of every chart, by its name.
        panels: charts, beside each other, or below each other on a phone.
        reading: a Vega expression of the same parameters, a sentence that is printed below the charts.
        heading: printed above all, of what is simulated.
        caption: printed last, the same wherever the sliders stand.
    """

    name: str
    alt: str
    controls: Sequence[Control]
    panels: Sequence[alt.Chart | alt.LayerChart]
    reading: str = "''"
    heading: str = ""
    caption: str = ""

    def as_dict(self) -> dict[str, Any]:
        """What ``explorer.js`` shows; JSON can hold it."""
        given = [{"name": control.name, "value": control.value} for control in self.controls]
        given.append({"name": "reading", "expr": self.reading})
        panels = [panel.properties(width="container", height=PANEL_PX[1]).to_dict() for panel in self.panels]
        panels = [{**panel, "config": _CONFIG, "params": given + panel.get("params", [])} for panel in panels]
        for panel in panels:
            panel.pop("$schema")  # a page without a network names no address
        controls = [control.as_dict() for control in self.controls]
        texts = {"name": self.name, "alt": self.alt, "heading": self.heading, "caption": self.caption}
        return {**texts, "controls": controls, "panels": panels}

    def at(self, **values: Any) -> "Explorer":
        """The same, its sliders first at *values*, each the nearest that the slider can stand at."""
        return replace(self, controls=[c.at(values[c.name]) if c.name in values else c for c in self.controls])

    @cached_property
    def _still_panels(self) -> list[np.ndarray]:
        """Each chart as a picture [H, W, 3] uint8; a run's file and a notebook's picture share it."""
        panels = [{**panel, "width": PANEL_PX[0], "background": "white"} for panel in self.as_dict()["panels"]]
        files = [vl_convert.vegalite_to_png(panel, scale=DPI / CSS_DPI) for panel in panels]
        return [np.asarray(Image.open(io.BytesIO(file)).convert("RGB")) for file in files]

    def still(self) -> SelfShowingFigure:
        """The charts as a figure, three to a row, under the values of the sliders."""
        rows = [self._still_panels[i : i + 3] for i in range(0, len(self.panels), 3)]
        head_px = round(0.3 * DPI) if self.controls else 0
        width_px = max(sum(picture.shape[1] for picture in row) for row in rows)
        height_px = head_px + sum(max(map(len, row)) for row in rows)
        with rc():
            figure = SelfShowingFigure(figsize=(width_px / DPI, height_px / DPI), dpi=DPI)
            bottom = height_px - head_px
            for row in rows:
                bottom, left = bottom - max(map(len, row)), 0
                for picture in row:
                    figure.figimage(picture, left, bottom)  # axes of a row stand on one line, as in a page
                    left += picture.shape[1]
            words = ",  ".join(f"{control.label} = {control.text()}" for control in self.controls)
            figure.text(0.1 * DPI / width_px, 1 - head_px / 2 / height_px, words, va="center", color=GREY)
        return figure

    def html(self) -> str:
        """A piece of a page that needs nothing else; a picture where no script may run."""
        place = f"rbcnb-{uuid.uuid4().hex[:12]}"
        load_vega = _LOAD_VEGA % base64.b64encode(_VEGA.read_bytes()).decode("ascii")
        data = json.dumps(self.as_dict()).replace("<", "\\u003c")  # no text of a chart ends the script
        return (
            f'<div id="{place}" class="rbcnb-explorer"><img alt="{html.escape(self.alt)}" '
            f'style="max-width:100%" src="data:image/png;base64,{self.picture}"></div>'
            f'<script type="{MIME}" id="{place}-data">{data}</script><style>{asset("explorer.css")}</style>'
            f"<script>(async () => {{\n{asset('explorer.js')}\n{load_vega}\n"
            f"const [root, data] = ['{place}', '{place}-data'].map((id) => document.getElementById(id));\n"
            "showExplorer(root, JSON.parse(data.textContent), window.rbcnbVega);\n})();</script>"
        )

    @cached_property
    def picture(self) -> str:
        """`still` as a PNG file of few colours, as base64."""
        stream = io.BytesIO()
        Image.open(io.BytesIO(png(self.still()))).convert("RGB").quantize(128).save(stream, "PNG", optimize=True)
        return base64.b64encode(stream.getvalue()).decode("ascii")

    def _repr_mimebundle_(self, **_: Any) -> dict[str, Any]:
        return {
            "text/html": self.html(),
            "image/png": self.picture,
            "text/plain": f"{self.alt} (It moves in JupyterLab, in Voila and in a browser.)",
        }


# A page of many charts unpacks Vega once: those that come while it is unpacked wait for it, too.
_LOAD_VEGA = """
await (window.rbcnbVegaUnpacked ??= (async () => {
  const packed = Uint8Array.from(atob("%s"), (letter) => letter.charCodeAt(0));
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
  new Function(await new Response(stream).text())();
})());"""


def vega() -> str:
    """Vega, Vega-Lite and vega-embed as one script, which sets ``window.rbcnbVega`` to vega-embed's function."""
    return gzip.decompress(_VEGA.read_bytes()).decode("utf-8")


def asset(name: str) -> str:
    """The text of a file beside this module."""
    return Path(__file__).with_name(name).read_text(encoding="utf-8")
