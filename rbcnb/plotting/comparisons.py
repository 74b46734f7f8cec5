"""Figures that compare methods: alpha and rho sweeps, Fig. 13, differences and gaps, and the answer in one."""

from collections.abc import Mapping, Sequence
from textwrap import fill

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, NullLocator

from rbcnb.columns import PRIMARY_METHODS, SCORES, readable
from rbcnb.plotting.cells import class_legend, draw_circles, draw_class_strip, show_image
from rbcnb.plotting.style import (
    BLUE,
    CYCLE,
    DASHES,
    GREEN,
    ORANGE,
    THIN,
    VERMILLION,
    colours_of,
    cycle,
    new_figure,
    rc,
    require,
)

_ASIDE = (0.96, 1.0, 1.04)  # of rho, on its log scale
_COLOURS = {"natural": BLUE, "balanced": VERMILLION, "rung": GREEN}
_TEST_SETS = {
    "natural": "natural test set",
    "balanced": "balanced test set",
    "rung": "test set at rung's prior",
}
_NEEDED = ["rho", "architecture", "first", "second", "arm", "prevalence", "mean", "low", "high"]


def plot_alpha_sweep(results: pd.DataFrame, reference: pd.DataFrame) -> Figure:
    """Table 1 as a figure, a panel per architecture: macro F1 of focal loss against alpha, other methods as lines.

    Several rows of one alpha or method (folds, seeds) are averaged; bars then reach from the lowest to the highest.

    Args:
        results: of focal loss: ``architecture``, ``alpha``, ``macro_f1`` (0 to 1).
        reference: of the other methods: ``architecture``, ``method``, ``macro_f1``.

    Raises:
        ValueError: a column is missing, or a table has no rows.
    """
    require(results, ["architecture", "alpha", "macro_f1"], "results")
    require(reference, ["architecture", "method", "macro_f1"], "reference")
    architectures = list(dict.fromkeys(results["architecture"]))
    colours = colours_of(["focal", *reference["method"]])
    in_a_row = 2 * len(architectures)  # of the legend: as many of the longest names as stay on the figure
    legend_in = 0.2 * -(-len(colours) // in_a_row)
    with rc():
        figure, axes = new_figure(
            max(4.8 * len(architectures), 5.6), 3.3 + legend_in, 1, len(architectures), sharey=True
        )
        for ax, architecture in zip(axes.flat, architectures, strict=True):
            compared = reference[reference["architecture"] == architecture]
            others = compared.groupby("method", sort=False)["macro_f1"].mean()
            for (method, value), dash in zip(others.items(), cycle(DASHES, len(others)), strict=True):
                ax.axhline(value, color=colours[method], ls=dash, label=readable(method))
            by_alpha = results[results["architecture"] == architecture].groupby("alpha")["macro_f1"]
            mean = by_alpha.mean()
            reach = np.stack([mean - by_alpha.min(), by_alpha.max() - mean])
            ax.errorbar(
                mean.index,
                mean,
                reach if reach.any() else None,
                fmt="o",
                color=colours["focal"],
                capsize=3,
                label="focal loss",
            )
            ax.set_title(readable(architecture))
            ax.set(xlabel="weight of focal loss α", ylabel="macro F1 (0 to 1)", xticks=mean.index)
            ax.yaxis.set_tick_params(labelleft=True)
        lines, names = axes.flat[0].get_legend_handles_labels()
        figure.legend(lines, names, loc="outside lower center", ncols=min(in_a_row, len(names)))
    return figure


def rho_axis(ax: Axes, rhos: Sequence[float]) -> None:
    """A logarithmic x axis with a tick on each rung."""
    ax.set_xscale("log")
    ax.set_xticks(rhos, [f"{rho:.4g}" for rho in rhos])
    ax.xaxis.set_minor_locator(NullLocator())
    ax.set_xlabel("imbalance ratio ρ (log scale)")


def plot_relative_improvement(
    table: pd.DataFrame,
    published: pd.DataFrame | None = None,
    *,
    title: str = "this run",
    intervals: pd.DataFrame | None = None,
) -> Figure:
    """Fig. 13: relative improvement of focal loss over cross entropy in percent, against rho; published beside ours.

    Args:
        table: of `rbcnb.evaluation.relative_improvement`: ``rho``, ``accuracy``, ``macro_f1``, ``auroc`` in percent.
        published: the paper's, in the same columns; None leaves its panel out.
        title: of *table*'s panel.
        intervals: ``rho``, ``score``, ``low``, ``high`` in percent, drawn as bars on *table*'s panel as far as +-100;
            scores then stand a little beside each other, so that no bar hides another.

    Raises:
        ValueError: a column is missing, or *table* has no rows.
    """
    require(table, ["rho", *SCORES], "table")
    panels = [(title, table, intervals)]
    if published is not None:
        panels.insert(0, ("published", published, None))
    with rc():
        figure, axes = new_figure(max(4.9 * len(panels), 6.2), 4.0, 1, len(panels), sharey=True)
        for ax, (name, values, bars) in zip(axes.flat, panels, strict=True):
            ax.axhline(0, color="#444444", lw=1)
            values = values.sort_values("rho")
            aside = (1, 1, 1) if bars is None else _ASIDE
            for score, shift, colour, dash, marker in zip(SCORES, aside, CYCLE, DASHES, "os^", strict=False):
                at = values["rho"] * shift
                ax.plot(at, values[score], color=colour, ls=dash, marker=marker, label=readable(score))
                if bars is not None:
                    score_bars = bars[bars["score"] == score]
                    # Beyond doubled or gone an interval says no more, and would flatten all else.
                    low, high = score_bars["low"].clip(-100), score_bars["high"].clip(upper=100)
                    ax.vlines(score_bars["rho"] * shift, low, high, color=colour, lw=1.2)
            rho_axis(ax, list(values["rho"]))
            ax.set_title(name)
            ax.set_ylabel("relative improvement (%)")
            ax.yaxis.set_tick_params(labelleft=True)
        figure.legend(*axes.flat[0].get_legend_handles_labels(), loc="outside lower center", ncols=len(SCORES))
    return figure


def plot_scores_by_rho(table3: pd.DataFrame, *, score: str = "macro_f1") -> Figure:
    """Table 3 as a figure: *score* against rho, a panel per architecture and a line per method.

    Repeated draws are averaged. The methods of the primary contrasts have a band from the lowest to the highest (ten
    bands would hide each other); the others' lines are thinner.

    Args:
        table3: ``rho``, ``architecture``, ``method`` and the *score* (0 to 1).
        score: name of the column that is drawn.

    Raises:
        ValueError: a column is missing, or there are no rows.
    """
    require(table3, ["rho", "architecture", "method", score], "table3")
    architectures = list(dict.fromkeys(table3["architecture"]))
    with rc():
        figure, axes = new_figure(max(4.8 * len(architectures), 5.6), 3.8, 1, len(architectures), sharey=True)
        for ax, architecture in zip(axes.flat, architectures, strict=True):
            _draw_scores_by_rho(ax, table3[table3["architecture"] == architecture], score)
            ax.set_title(readable(architecture))
            ax.yaxis.set_tick_params(labelleft=True)
        # Below, where as many methods as there are hide no line.
        lines, names = axes.flat[0].get_legend_handles_labels()
        figure.legend(lines, names, loc="outside lower center", ncols=min(4, len(names)))
    return figure


def _draw_scores_by_rho(ax: Axes, rows: pd.DataFrame, score: str) -> None:
    colours = colours_of(rows["method"])
    n = rows["method"].nunique()
    styles = zip(rows.groupby("method", sort=False), cycle(DASHES, n), cycle("os^vDPX", n), strict=True)
    for (method, method_rows), dash, marker in styles:
        by_rho = method_rows.groupby("rho")[score]
        mean = by_rho.mean()
        asked = method in PRIMARY_METHODS
        size = {} if asked else THIN
        ax.plot(mean.index, mean, color=colours[method], ls=dash, marker=marker, label=readable(method), **size)
        if asked and by_rho.size().max() > 1:
            ax.fill_between(mean.index, by_rho.min(), by_rho.max(), color=colours[method], alpha=0.15, lw=0)
    rho_axis(ax, sorted(rows["rho"].unique()))
    ax.set_ylabel(f"{readable(score)} (0 to 1)")


def plot_differences(rows: pd.DataFrame, margin: float) -> Figure:
    """Forest plot: differences with intervals, a row per contrast, the margin of practical equality shaded.

    Args:
        rows: ``contrast``, ``mean``, ``low``, ``high`` (macro F1), ``verdict``; after
            `rbcnb.evaluation.adjust_for_families` also ``p_deciding`` and ``decided_by``.
        margin: half width of the shaded band, in macro F1.
    """
    with rc():
        figure, axes = new_figure(8.6, 0.5 * len(rows) + 1.4)
        draw_differences(axes[0, 0], rows, margin)
    return figure


def draw_differences(ax: Axes, rows: pd.DataFrame, margin: float) -> None:
    """`plot_differences` on *ax*."""
    require(rows, ["contrast", "mean", "low", "high", "verdict"], "rows")
    colours = colours_of(sorted(rows["verdict"].astype(str).unique()))
    ax.axvspan(-margin, margin, color="#EDEDED", zorder=0)
    ax.axvline(0, color="#444444", lw=1)
    for y, row in enumerate(rows.itertuples()):
        colour = colours[str(row.verdict)]
        ax.plot([row.low, row.high], [y, y], color=colour, lw=2.4, solid_capstyle="butt")
        ax.plot(row.mean, y, "o", color=colour, ms=7)
        ax.annotate(
            f"{row.mean:+.3f} [{row.low:+.3f}, {row.high:+.3f}]\n{_verdict(row)}".replace("-", "−"),
            (1.02, y),
            xycoords=ax.get_yaxis_transform(),
            va="center",
            fontsize=9,
        )
    # A contrast may bring line breaks of its own; only its long lines are broken further.
    names = [
        "\n".join(fill(line, 30, break_on_hyphens=False) for line in str(contrast).splitlines())
        for contrast in rows["contrast"]
    ]
    ax.set_yticks(range(len(rows)), names)
    ax.set_ylim(len(rows) - 0.4, -0.6)
    ax.grid(visible=False, axis="y")
    ax.xaxis.set_major_locator(MaxNLocator(5))
    ax.set_xlabel(f"difference in macro F1 (grey: within ±{margin:g})")


def _verdict(row: tuple) -> str:
    p = getattr(row, "p_deciding", np.nan)
    if np.isnan(p):
        return str(row.verdict)
    return f"{row.verdict}, p " + (f"= {p:.3f}" if p >= 0.001 else "< 0.001") + f" {row.decided_by}"


def plot_class_counts(counts: pd.DataFrame | pd.Series) -> Figure:
    """Cells per class as bars with their numbers.

    Args:
        counts: index = class; one set of bars for each column, such as the splits.

    Raises:
        ValueError: *counts* has no rows.
    """
    table = counts.to_frame(counts.name or "cells") if isinstance(counts, pd.Series) else counts
    if table.empty:
        raise ValueError("counts has no rows, so there is nothing to draw")
    height = 0.8 / table.shape[1]
    with rc():
        figure, axes = new_figure(7.2, 0.42 * table.size + 1.1)
        ax = axes[0, 0]
        for j, (name, column) in enumerate(table.items()):
            places = np.arange(len(table)) + (j - (table.shape[1] - 1) / 2) * height
            bars = ax.barh(places, column, height * 0.9, color=CYCLE[j % len(CYCLE)], label=readable(name))
            ax.bar_label(bars, [f"{value:,.0f}" for value in column], padding=3, fontsize=9)
        ax.set_yticks(range(len(table)), [readable(name) for name in table.index])
        ax.invert_yaxis()
        ax.margins(x=0.12)
        ax.grid(visible=False, axis="y")
        ax.set_xlabel("number of cells")
        if table.shape[1] > 1:
            ax.legend()
    return figure


def plot_summary(
    class_crops: Mapping[str, np.ndarray],
    smear: np.ndarray,
    cells: pd.DataFrame,
    *,
    differences: pd.DataFrame,
    margin: float,
) -> Figure:
    """The README's opening figure: examples of each class, a smear with its cells found, and the answer.

    Args:
        class_crops: class -> crops uint8 [N, S, S, 3], of which the first three are shown.
        smear: uint8 [H, W, 3].
        cells: found on it, in its pixels; coloured by ``label`` where they have one.
        differences: rows of `plot_differences`, the answer.
        margin: of `plot_differences`.
    """
    with rc():
        figure, _ = new_figure(13.5, 4.4)
        figure.clear()
        strip, middle, right = figure.subfigures(1, 3, width_ratios=[2.6, 4.6, 6.3])
        draw_class_strip(strip.subplots(len(class_crops), 3, squeeze=False), class_crops)
        ax = middle.subplots()
        show_image(ax, smear, f"{len(cells)} cells found")
        draw_circles(ax, cells)
        if "label" in cells:
            class_legend(ax, list(class_crops))
        draw_differences(right.subplots(), differences, margin)
    return figure


def plot_gaps_by_rho(rows: pd.DataFrame, slopes: pd.DataFrame, margin: float) -> Figure:
    """The gap between two methods on every rung with its interval, and its slope: a panel per architecture and arm.

    The lines are least-squares lines with these slopes, through rungs that share smears and seeds: the intervals of the
    slopes, not the bars, say how sure a slope is.

    Args:
        rows: of `rbcnb.study.gaps.Gaps.rungs`.
        slopes: of `rbcnb.study.gaps.Gaps.slopes`.
        margin: half width of the shaded band, in macro F1.

    Raises:
        ValueError: a column is missing, or there are no rows.
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
        for ax, ((architecture, arm), panel_rows) in zip(axes.flat, panels, strict=False):
            where = slopes[(slopes["architecture"] == architecture) & (slopes["arm"] == arm)] if len(slopes) else slopes
            draw_gaps(ax, panel_rows, where, margin)
            ax.set_title(f"{readable(architecture)}, {readable(arm)}")
            ax.yaxis.set_tick_params(labelleft=True)
    return figure


def draw_gaps(ax: Axes, rows: pd.DataFrame, slopes: pd.DataFrame, margin: float) -> None:
    """One panel of `plot_gaps_by_rho` on *ax*: a colour per prevalence of the test set."""
    ax.axhspan(-margin, margin, color="#EDEDED", zorder=0)
    ax.axhline(0, color="#444444", lw=1)
    prevalences = list(dict.fromkeys(rows["prevalence"]))
    for i, prevalence in enumerate(prevalences):
        points, colour = rows[rows["prevalence"] == prevalence].sort_values("rho"), _COLOURS[prevalence]
        aside = points["rho"] * 1.05 ** (2 * i - len(prevalences) + 1)  # so that bars do not hide each other
        ax.vlines(aside, points["low"], points["high"], color=colour, lw=1.6)
        label = _TEST_SETS[prevalence]
        for slope in slopes[slopes["prevalence"] == prevalence].itertuples() if len(slopes) else ():
            x = np.log2(points["rho"])
            line = points["mean"].mean() + slope.per_doubling * (x - x.mean())
            ax.plot(points["rho"], line, color=colour, lw=1.2, ls="--")
            change = f"{slope.mean:+.3f} [{slope.low:+.3f}, {slope.high:+.3f}]".replace("-", "−")
            label += f": {change} from ρ {points['rho'].min():.4g} to {points['rho'].max():.4g}"
        ax.plot(aside, points["mean"], "os^"[i], color=colour, label=label)
    rho_axis(ax, rhos := sorted(rows["rho"].unique()))
    if len(rhos) == 1:  # so that points beside each other are seen as one rung
        ax.set_xlim(rhos[0] / 2, rhos[0] * 2)
    first, second = rows[["first", "second"]].iloc[0]
    ax.set_ylabel(f"macro F1: {readable(first)} − {readable(second)}")
    ax.margins(y=0.08)
    ax.legend(loc="upper center", bbox_to_anchor=(0.5, -0.16))


def plot_study_answer(contrasts: pd.DataFrame, *, margin: float) -> Figure:
    """What the study found of focal loss, for a reader who knows none of its words.

    Args:
        contrasts: a row per network: architecture, mean, low, high; focal loss minus cross entropy in macro F1.
        margin: least gain that is worth having.
    """
    require(contrasts, ["architecture", "mean", "low", "high"], "contrasts")
    rows = contrasts.iloc[::-1]
    with rc():
        figure, axes = new_figure(7.4, 2.7)
        ax = axes[0, 0]
        ax.axvline(0, color="#444444", lw=1)
        ax.axvline(margin, color="#555555", ls=":")
        ax.text(margin, len(rows) - 0.42, f" a gain of {margin:g}", color="#555555", size=9, va="center")
        for y, row in enumerate(rows.itertuples()):
            ax.plot([row.low, row.high], [y, y], color=BLUE, lw=2.4, solid_capstyle="butt")
            ax.plot(row.mean, y, "o", color=BLUE, ms=7)
            words = f"{row.mean:+.3f} [{row.low:+.3f}, {row.high:+.3f}]".replace("-", "−")
            ax.text(1.01, y, words, transform=ax.get_yaxis_transform(), va="center", size=9)
        ax.set_yticks(range(len(rows)), [readable(name) for name in rows["architecture"]])
        edge = 1.05 * max(margin, contrasts[["low", "high"]].abs().to_numpy().max())
        ax.set(xlim=(-edge, edge), ylim=(-0.6, len(rows) - 0.1))
        ax.set_xlabel(
            "macro F1 with focal loss minus that with cross entropy, 95 % intervals\n"
            "← focal loss is worse     focal loss is better →"
        )
        ax.grid(axis="y", visible=False)
    return figure


def plot_answer(
    differences: pd.DataFrame, rows: pd.DataFrame, slopes: pd.DataFrame, margin: float, *, title: str = ""
) -> Figure:
    """The answer in one figure of numbers alone: the primary contrasts, and the gap on every rung of the ladder.

    It shows no cell, so that it can be given away where the smears cannot.

    Args:
        differences: adjusted (`rbcnb.evaluation.adjust_for_families`), the primary family.
        rows: `rbcnb.study.gaps.Gaps.rungs`, whose first arm is drawn, of the first architecture; may be empty.
        slopes: `rbcnb.study.gaps.Gaps.slopes`.
        margin: half width of what counts as equal.
        title: of the left panel.
    """
    for name in ("architecture", "arm") if len(rows) else ():
        first = rows[name].iloc[0]
        rows, slopes = rows[rows[name] == first], slopes[slopes[name] == first] if len(slopes) else slopes
    with rc():
        figure, _ = new_figure(13.5 if len(rows) else 8.6, max(3.9, 0.55 * len(differences) + 1.6))
        figure.clear()
        left, right = figure.subfigures(1, 2, width_ratios=[7.6, 5.9]) if len(rows) else (figure, None)
        ax = left.subplots()
        draw_differences(ax, differences, margin)
        ax.set_title(title)
        if right is not None:
            ax = right.subplots()
            draw_gaps(ax, rows, slopes, margin)
            ax.set_title(f"on every rung of the ladder, {readable(rows['architecture'].iloc[0])}")
    return figure


_PANELS = {
    "macro_f1": "classes as rare as in training (ρ {rho:.0f})",
    "balanced_accuracy": "every class counts alike",
}
_LOOKS = {  # is it trained for, or only corrected -> colour, marker
    "trained again": (BLUE, "o"),
    "nothing retrained": (ORANGE, "D"),
}
_WORSE, _BETTER = "#F6E6DC", "#E3EEF6"  # what lies left and right of 0
_BASELINE = "cross_entropy, none"


def plot_imbalance_lesson(table: pd.DataFrame) -> Figure:
    """`rbcnb.study.imbalance_lesson` as differences from cross entropy with their intervals, a panel per score.

    Args:
        table: its rows; those compared with cross entropy of the same training are drawn, the over-confident network's
            last.

    Raises:
        ValueError: a column is missing, or there are no such rows.
    """
    require(table, ["training", "method", "correction", "against", "rho"], "table")
    table = table.assign(against=table["against"].fillna(""))  # as a file gives back what is compared with nothing
    rows = table[table["against"] == _BASELINE]
    require(rows, [f"{score}_{end}" for score in _PANELS for end in ("difference", "low", "high")], "table")
    trainings = list(dict.fromkeys(rows["training"]))
    y = np.arange(len(rows)) + 0.7 * rows["training"].map(trainings.index).to_numpy()  # a gap before another training
    with rc():
        figure, axes = new_figure(11.0, 0.66 * (y[-1] + 1) + 2.2, 1, len(_PANELS), sharex=True, sharey=True)
        ends = rows[[f"{score}_{end}" for score in _PANELS for end in ("low", "high")]]
        reach = 1.12 * float(ends.abs().max(axis=None))
        for ax, (score, where) in zip(axes.flat, _PANELS.items(), strict=True):
            _draw(ax, rows, y, score, reach)
            base = table.loc[(table["against"] == "") & (table["training"] == trainings[0]), score].iloc[0]
            ax.set_title(f"{readable(score)}\n{where.format(rho=rows['rho'].iloc[0])}", fontsize=13)
            ax.set_xlabel(f"difference from cross entropy ({base:.2f})", fontsize=12)
        axes[0, 0].set_yticks(y, [_name(row) for row in rows.itertuples()], fontsize=12)
        axes[0, 0].set_ylim(y[-1] + 0.6, -0.95)
        figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=2, fontsize=12)
    return figure


def _draw(ax: Axes, rows: pd.DataFrame, y: np.ndarray, score: str, reach: float) -> None:
    mean, low, high = (rows[f"{score}_{end}"].to_numpy() for end in ("difference", "low", "high"))
    retrained = (rows["correction"] == "none").to_numpy()
    for label, (colour, marker) in _LOOKS.items():
        drawn = retrained if label == "trained again" else ~retrained
        ax.hlines(y[drawn], low[drawn], high[drawn], color=colour, lw=3)
        ax.plot(mean[drawn], y[drawn], marker, color=colour, ms=9, ls="", label=label)
    ax.axvline(0, color="#222222", lw=1.5)
    ax.axvspan(-reach, 0, color=_WORSE, zorder=0, lw=0)
    ax.axvspan(0, reach, color=_BETTER, zorder=0, lw=0)
    ax.set_xlim(-reach, reach)
    for value, place in zip(mean, y, strict=True):
        ax.annotate(f"{value:+.2f}".replace("-", "−"), (value, place), (0, 7), textcoords="offset points",
                    ha="center", va="bottom", fontsize=11)  # fmt: skip
    for word, side in (("← worse", -1), ("better →", 1)):
        ax.annotate(word, (0, -0.75), (8 * side, 0), textcoords="offset points", ha="left" if side > 0 else "right",
                    va="center", fontsize=12, color="#444444")  # fmt: skip
    ax.grid(visible=False, axis="y")
    ax.xaxis.set_major_locator(MaxNLocator(5))
    ax.tick_params(labelsize=11)


def _name(row: tuple) -> str:
    what = readable(row.method)
    if row.training != "decayed":
        what = f"{row.training}\n{what}"
    return what if row.correction == "none" else f"{what},\n{row.correction}"
