"""Diagrams drawn from tables of facts: the networks (Figs. 2 to 4) and the course of the study (Fig. 9).

No fact is typed here: stages, shapes and parameters come from the real modules (``models.describe_stages`` and
``models.describe_block``), numbers of cells, settings and trials from the study itself.
"""

import re

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch

from rbcnb.columns import readable
from rbcnb.plotting.style import BLUE, GREEN, GREY, ORANGE, PURPLE, SKY, VERMILLION, bare, new_figure, rc

_FILLS = (SKY, ORANGE, GREEN, PURPLE, VERMILLION, BLUE)
_ARROW = {"arrowstyle": "-|>", "color": "#444444", "lw": 1.3, "shrinkA": 0, "shrinkB": 0}


def _canvas(width_in: float, height_in: float) -> tuple[Figure, Axes]:
    """A figure whose axes count inches from the upper left corner, so that boxes can be sized to their text."""
    figure, axes = new_figure(width_in, height_in, layout=None)
    ax = bare(axes[0, 0])
    ax.set_position((0, 0, 1, 1))
    ax.set(xlim=(0, width_in), ylim=(height_in, 0))
    return figure, ax


def _box(ax: Axes, x: float, y: float, width: float, height: float, text: str, colour: str = GREY, **options) -> None:
    """A box with its centre at (x, y), all in inches, and centred text in it."""
    style = "round,pad=0,rounding_size=0.06"
    corner = (x - width / 2, y - height / 2)
    # The colour lies pale under the text, which therefore stays black on light.
    ax.add_patch(FancyBboxPatch(corner, width, height, boxstyle=style, fc=colour, alpha=0.25, lw=0))
    ax.add_patch(FancyBboxPatch(corner, width, height, boxstyle=style, fc="none", ec="#555555", lw=1))
    ax.text(x, y, text, ha="center", va="center", **({"fontsize": 9, "linespacing": 1.35} | options))


def _arrow(ax: Axes, start: tuple[float, float], end: tuple[float, float], **options) -> None:
    ax.annotate("", end, start, arrowprops=_ARROW | options)


def plot_residual_block(blocks: pd.DataFrame) -> Figure:
    """Fig. 2: one residual block, its main branch beside its shortcut, added at the end.

    Args:
        blocks: of `rbcnb.training.describe_block`, in the order of the forward pass: ``layer``, ``shape`` (of the
            output), ``parameters`` and ``branch``, which is "main", "shortcut" or "sum". Without a row "shortcut" the
            shortcut is the identity.

    Raises:
        ValueError: there is no row of the branch "main".
    """
    main, shortcut, total = (blocks[blocks["branch"] == name] for name in ("main", "shortcut", "sum"))
    if main.empty:
        raise ValueError('the table of a residual block needs rows with branch "main"')
    step, top, left, right, width = 0.68, 0.95, 1.7, 4.5, 2.3
    bottom = top + step * len(main)
    with rc():
        figure, ax = _canvas(6.4, bottom + 1.2)
        ax.text(left, 0.28, "input x", ha="center", va="center", weight="bold")
        _arrow(ax, (left, 0.4), (left, top - 0.23))
        _draw_column(ax, main, left, [top + step * i for i in range(len(main))], width, SKY)
        _arrow(ax, (left, bottom - step + 0.23), (left, bottom - 0.16))
        ax.plot([left, right], [0.52, 0.52], color="#444444", lw=1.3)
        middle = (top + bottom - step) / 2
        places = [middle + step * (i - (len(shortcut) - 1) / 2) for i in range(len(shortcut))]
        _draw_column(ax, shortcut, right, places, width, ORANGE)
        ends = [0.52, *(y + side for y in places for side in (-0.23, 0.23)), bottom]
        ax.plot([right, right], [ends[0], ends[1] if places else bottom], color="#444444", lw=1.3)
        if places:
            ax.plot([right, right], [ends[-2], bottom], color="#444444", lw=1.3)
        else:
            ax.text(right + 0.1, middle, "identity", va="center")
        _arrow(ax, (right, bottom), (left + 0.16, bottom))
        ax.plot(left, bottom, "o", ms=22, mfc="white", mec="#444444")
        ax.text(left, bottom, "+", ha="center", va="center", fontsize=15)
        _arrow(ax, (left, bottom + 0.16), (left, bottom + 0.52))
        name = f"{total['layer'].iloc[0]}: {_shape(total['shape'].iloc[0])}" if len(total) else "sum"
        ax.text(left, bottom + 0.72, name, ha="center", va="center", weight="bold")
        n_parameters = int(blocks["parameters"].sum())
        ax.text(right, bottom + 0.72, f"{n_parameters:,} parameters in all", ha="center", va="center")
    return figure


def _draw_column(ax: Axes, rows: pd.DataFrame, x: float, places: list[float], width: float, colour: str) -> None:
    for i, (y, row) in enumerate(zip(places, rows.itertuples(), strict=True)):
        parameters = f", {row.parameters:,} parameters" if row.parameters else ""
        _box(ax, x, y, width, 0.46, f"{_shape(row.layer, '×')}\n{_shape(row.shape)}{parameters}", colour)
        if i:
            _arrow(ax, (x, places[i - 1] + 0.23), (x, y - 0.23))


def _shape(text: object, times: str = " × ") -> str:
    """``"64x56x56"`` -> ``"64 × 56 × 56"``."""
    return re.sub(r"(?<=\d)x(?=\d)", times, str(text))


def plot_resnet(stages: pd.DataFrame) -> Figure:
    """Fig. 3: the stages of ResNet-50 with its shortcuts, output shapes and parameters.

    Args:
        stages: of `rbcnb.training.describe_stages`: ``stage``, ``kind``, ``repeat``, ``layers``, ``out_channels``,
            ``out_size_px``, ``parameters``.
    """
    return _plot_stages(stages, "each block adds its input to its output", dense=False)


def plot_densenet(stages: pd.DataFrame) -> Figure:
    """Fig. 4: the stages of DenseNet-121; in a dense block every layer feeds all later ones.

    Args:
        stages: of `rbcnb.training.describe_stages`, columns as of `plot_resnet`.
    """
    return _plot_stages(stages, "each layer receives all earlier ones of its block", dense=True)


def _plot_stages(stages: pd.DataFrame, note: str, *, dense: bool) -> Figure:
    """A row per stage from input to output: connections of its blocks, layers, shape of its output, parameters."""
    heights = [0.66 if repeat > 1 else 0.36 for repeat in stages["repeat"]]
    colours = dict(zip(dict.fromkeys(stages["kind"]), _FILLS * len(stages), strict=False))
    top, gap, links_x, box_x, box_width, shape_x, bar_x = 0.62, 0.1, 1.75, 5.45, 3.7, 7.4, 8.85
    with rc():
        figure, ax = _canvas(11.6, top + sum(heights) + gap * len(stages) + 0.1)
        heads = (
            (links_x, note, "center"),
            (box_x, "stage", "center"),
            (shape_x, "output", "left"),
            (bar_x, "parameters", "left"),
        )
        for x, text, side in heads:
            ax.text(x, 0.3, text, ha=side, va="center", weight="normal" if text == note else "bold", fontsize=9)
        y = top
        for height, row in zip(heights, stages.itertuples(), strict=True):
            middle = y + height / 2
            kind = row.kind.lstrip("_")
            layers = _shape(row.layers.removeprefix(f"{kind.lower()} "), "×")
            text = f"{row.stage}: {kind}" if row.repeat == 1 else f"{row.stage}: {row.repeat} × {kind}\n{layers}"
            if row.repeat == 1 and layers:
                text += f", {layers}"
            _box(ax, box_x, middle, box_width, height, text, colours[row.kind])
            if row.repeat > 1:
                _draw_links(ax, links_x, y + height - 0.08, height - 0.1, row.repeat, dense=dense)
            size = f" × {row.out_size_px} × {row.out_size_px}" if row.out_size_px > 1 else ""
            ax.text(shape_x, middle, f"{row.out_channels}{size}", va="center", fontsize=9)
            length = 1.6 * row.parameters / stages["parameters"].max()
            ax.add_patch(FancyBboxPatch((bar_x, middle - 0.09), length, 0.18, boxstyle="square,pad=0", fc=BLUE, lw=0))
            ax.text(
                bar_x + length + 0.06, middle, f"{row.parameters:,}" if row.parameters else "–", va="center", fontsize=9
            )
            y += height + gap
            if y < top + sum(heights) + gap * (len(stages) - 1):
                _arrow(ax, (box_x, y - gap), (box_x, y), mutation_scale=7)
        total = f"{int(stages['parameters'].sum()):,} in all"
        ax.text(11.45, 0.3, total, ha="right", va="center", fontsize=9)
    return figure


def _draw_links(ax: Axes, x: float, y: float, height: float, repeat: int, *, dense: bool) -> None:
    """On a line a node for a stage's input and for each of its blocks, and an arc for each connection between them."""
    nodes = x + np.linspace(-1.5, 1.5, repeat + 1) * min(1.0, repeat / 6)
    half_circle = np.linspace(0, np.pi, 25)
    pairs = [(i, j) for i in range(repeat) for j in range(i + 1, repeat + 1) if dense or j == i + 1]
    widest = max(nodes[j] - nodes[i] for i, j in pairs)
    arcs = [
        np.column_stack(
            [
                (nodes[i] + nodes[j]) / 2 - (nodes[j] - nodes[i]) / 2 * np.cos(half_circle),
                y - height * (0.6 if not dense else (nodes[j] - nodes[i]) / widest) * np.sin(half_circle),
            ]
        )
        for i, j in pairs
    ]
    ax.add_collection(
        LineCollection(arcs, colors=BLUE, linewidths=1.2 if not dense else 0.6, alpha=1 if not dense else 0.5)
    )
    ax.plot(nodes, np.full(len(nodes), y), "-o", color="#444444", ms=4, lw=1)


def plot_process(
    methods: pd.DataFrame, *, n_smears: int, n_cells: int, n_dev: int, n_test: int, n_folds: int, protocol: str
) -> Figure:
    """Fig. 9: the course of the study with its own numbers.

    Args:
        methods: of `rbcnb.study.process_table`, a row per architecture and method: ``architecture``, ``method``,
            ``settings`` (candidates tried), ``trials`` (fits made), ``alpha`` (NaN where the method has none) and
            ``epochs`` (both as chosen).
        n_smears, n_cells: of the study.
        n_dev, n_test: cells of development and test.
        n_folds: of the development cells.
        protocol: "paper" or "honest".

    Raises:
        ValueError: *protocol* is unknown.
    """
    wording = {
        "paper": ("cells drawn at random", "α with the best score on the test set"),
        "honest": ("whole smears stay together", "α and epochs from the folds alone"),
    }
    if protocol not in wording:
        raise ValueError(f"unknown protocol {protocol!r}; known: {', '.join(wording)}")
    split, chosen = wording[protocol]
    line, table_top = 0.24, 2.95
    table_height = line * (len(methods) + 1) + 0.2
    bottom = table_top + table_height + 0.85
    with rc():
        figure, ax = _canvas(9.2, bottom + 0.5)
        _box(ax, 1.1, 0.5, 1.7, 0.6, f"{n_smears} smears", SKY)
        _box(ax, 4.0, 0.5, 2.4, 0.6, f"find, crop and label\n{n_cells:,} cells", SKY)
        _box(ax, 7.4, 0.5, 2.6, 0.6, f"split ({protocol} protocol):\n{split}", ORANGE)
        _arrow(ax, (1.95, 0.5), (2.8, 0.5))
        _arrow(ax, (5.2, 0.5), (6.1, 0.5))
        _box(ax, 3.3, 1.75, 3.0, 0.6, f"dev: {n_dev:,} cells\n{n_folds} folds", GREEN)
        _box(ax, 8.1, 1.75, 1.8, 0.6, f"test: {n_test:,} cells", PURPLE)
        ax.plot([6.7, 6.7, 3.3], [0.8, 1.12, 1.12], color="#444444", lw=1.3)
        _arrow(ax, (3.3, 1.12), (3.3, 1.45))
        _arrow(ax, (8.1, 0.8), (8.1, 1.45))
        _arrow(ax, (3.3, 2.05), (3.3, table_top - 0.3))
        if protocol == "paper":
            _arrow(ax, (7.2, 1.9), (5.3, table_top - 0.3), color=VERMILLION, ls="--")
        ax.text(
            3.3, table_top - 0.15, f"cross-validation of every setting; {chosen}", ha="center", va="center", fontsize=9
        )
        _box(ax, 3.6, table_top + table_height / 2, 6.8, table_height, "", GREEN)
        columns = ((0.35, "architecture"), (1.6, "method"), (3.6, "settings"), (4.4, "trials"), (5.15, "chosen"))
        for x, head in columns:
            ax.text(x, table_top + 0.2, head, va="center", fontsize=9, weight="bold")
        for i, row in enumerate(methods.itertuples(), 1):
            alpha = "" if pd.isna(row.alpha) else f"α = {row.alpha:g}, "
            pick = f"{alpha}{row.epochs:g} epochs"
            texts = (readable(row.architecture), readable(row.method), f"{row.settings:,}", f"{row.trials:,}", pick)
            for (x, _), text in zip(columns, texts, strict=True):
                ax.text(x, table_top + 0.2 + line * i, text, va="center", fontsize=9)
        _box(ax, 3.6, bottom, 4.2, 0.6, "train on all dev cells with the chosen setting", GREEN)
        _arrow(ax, (3.6, table_top + table_height), (3.6, bottom - 0.3))
        _box(ax, 8.1, bottom, 1.8, 0.6, "scores", PURPLE)
        _arrow(ax, (5.7, bottom), (7.2, bottom))
        _arrow(ax, (8.1, 2.05), (8.1, bottom - 0.3))
    return figure
