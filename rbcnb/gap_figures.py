"""Figures of gaps between methods: along the ladder with their slope, and the answer without a picture of a cell."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from rbcnb.comparisons import draw_differences, rho_axis
from rbcnb.style import BLUE, VERMILLION, new_figure, rc, readable, require

_COLOURS = {"natural": BLUE, "balanced": VERMILLION}
_NEEDED = ["rho", "architecture", "first", "second", "arm", "prevalence", "mean", "low", "high"]


def plot_gaps_by_rho(rows: pd.DataFrame, slopes: pd.DataFrame, margin: float) -> Figure:
    """The gap between two methods on every rung with its interval, and its slope: a panel per architecture and arm.

    *rows*: `rbcnb.gaps.Gaps.ladder`; *slopes*: `rbcnb.gaps.Gaps.slopes`; within ±*margin* is shaded. The lines are the
    least-squares ones that the slopes speak of, through rungs that share smears and seeds: their own intervals, not the
    bars, say how sure the slope is.
    """
    require(rows, _NEEDED, "rows")
    panels = list(rows.groupby(["architecture", "arm"], sort=False))
    columns = min(2, len(panels))
    with rc():
        height = 3.9 * -(-len(panels) // columns)
        figure, axes = new_figure(
            5.4 * columns if columns > 1 else 6.4, height, -(-len(panels) // columns), columns, sharey=True
        )
        for ax in axes.flat[len(panels) :]:
            ax.set_axis_off()
        for ax, ((architecture, arm), own) in zip(axes.flat, panels, strict=False):
            where = slopes[(slopes["architecture"] == architecture) & (slopes["arm"] == arm)] if len(slopes) else slopes
            draw_gaps(ax, own, where, margin)
            ax.set_title(f"{readable(architecture)}, {readable(arm)}")
            ax.yaxis.set_tick_params(labelleft=True)
    return figure


def draw_gaps(ax: Axes, rows: pd.DataFrame, slopes: pd.DataFrame, margin: float) -> None:
    """One panel of `plot_gaps_by_rho` on *ax*: a colour per prevalence of the test set."""
    ax.axhspan(-margin, margin, color="#EDEDED", zorder=0)
    ax.axhline(0, color="#444444", lw=1)
    prevalences = list(dict.fromkeys(rows["prevalence"]))
    for i, prevalence in enumerate(prevalences):
        own, colour = rows[rows["prevalence"] == prevalence].sort_values("rho"), _COLOURS[prevalence]
        aside = own["rho"] * 1.05 ** (2 * i - len(prevalences) + 1)  # so that bars do not hide each other
        ax.vlines(aside, own["low"], own["high"], color=colour, lw=1.6)
        label = f"{prevalence} test set"
        for slope in slopes[slopes["prevalence"] == prevalence].itertuples() if len(slopes) else ():
            x = np.log2(own["rho"])
            line = own["mean"].mean() + slope.per_doubling * (x - x.mean())
            ax.plot(own["rho"], line, color=colour, lw=1.2, ls="--")
            change = f"{slope.mean:+.3f} [{slope.low:+.3f}, {slope.high:+.3f}]".replace("-", "−")
            label += f": {change} from ρ {own['rho'].min():.4g} to {own['rho'].max():.4g}"
        ax.plot(aside, own["mean"], "os"[i % 2], color=colour, label=label)
    rho_axis(ax, sorted(rows["rho"].unique()))
    first, second = rows[["first", "second"]].iloc[0]
    ax.set_ylabel(f"macro F1: {readable(first)} − {readable(second)}")
    ax.margins(y=0.08)
    ax.legend(loc="upper center", bbox_to_anchor=(0.5, -0.16))


def plot_answer(
    differences: pd.DataFrame, rows: pd.DataFrame, slopes: pd.DataFrame, margin: float, *, title: str = ""
) -> Figure:
    """The answer in one figure of numbers alone: the primary contrasts, and the gap on every rung of the ladder.

    It shows no cell, so that it can be given away where the smears cannot.

    Args:
        differences: adjusted (`rbcnb.verdicts.adjust_for_families`), the primary family.
        rows: `rbcnb.gaps.Gaps.ladder`, whose first arm is drawn, of the first architecture; may be empty.
        slopes: `rbcnb.gaps.Gaps.slopes`.
        margin: half width of what counts as equal.
        title: of the left panel.
    """
    for name in ("architecture", "arm") if len(rows) else ():
        first = rows[name].iloc[0]
        rows, slopes = rows[rows[name] == first], slopes[slopes[name] == first]
    with rc():
        figure, _ = new_figure(13.5 if len(rows) else 8.6, max(3.9, 0.55 * len(differences) + 1.6))
        figure.clear()
        left, right = figure.subfigures(1, 2, width_ratios=[7.6, 5.9]) if len(rows) else (figure, None)
        ax = left.subplots()
        draw_differences(ax, differences, margin, "macro F1")
        ax.set_title(title)
        if right is not None:
            ax = right.subplots()
            draw_gaps(ax, rows, slopes, margin)
            ax.set_title(f"on every rung of the ladder, {readable(rows['architecture'].iloc[0])}")
    return figure
