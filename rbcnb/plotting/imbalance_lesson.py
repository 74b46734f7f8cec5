"""The figure of the lesson on imbalance: the same calls by two scores."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from rbcnb.columns import readable
from rbcnb.plotting.style import BLUE, ORANGE, new_figure, rc, require

_PANELS = {
    "macro_f1": "classes as rare as in training (ρ {rho:.0f})",
    "balanced_accuracy": "every class counts alike",
}
_LOOKS = {  # is it trained for, or only corrected -> colour, marker
    "trained anew": (BLUE, "o"),
    "nothing retrained": (ORANGE, "D"),
}
_WORSE, _BETTER = "#F6E6DC", "#E3EEF6"  # what lies left and right of 0
_BASELINE = "cross_entropy, none"


def plot_imbalance_lesson(table: pd.DataFrame) -> Figure:
    """`rbcnb.study.imbalance_lesson` as differences from cross entropy with their intervals, a panel per score.

    *table*: its rows; those compared with cross entropy of the same training are drawn, the over-confident network's
    last.
    """
    require(table, ["training", "method", "correction", "against", "rho"], "table")
    rows = table[table["against"] == _BASELINE]
    require(rows, [f"{score}_{end}" for score in _PANELS for end in ("difference", "low", "high")], "table")
    trainings = list(dict.fromkeys(rows["training"]))
    y = np.arange(len(rows)) + 0.7 * rows["training"].map(trainings.index).to_numpy()  # a gap before another training
    with rc():
        figure, axes = new_figure(11.0, 0.66 * (y[-1] + 1) + 1.9, 1, len(_PANELS), sharex=True, sharey=True)
        for ax, (score, where) in zip(axes.flat, _PANELS.items(), strict=True):
            _draw(ax, rows, y, score)
            base = table.loc[(table["against"] == "") & (table["training"] == trainings[0]), score].iloc[0]
            ax.set_title(f"{readable(score)}: {where.format(rho=rows['rho'].iloc[0])}", fontsize=13)
            ax.set_xlabel(f"difference from cross entropy ({base:.2f})", fontsize=12)
        axes[0, 0].set_yticks(y, [_name(row) for row in rows.itertuples()], fontsize=12)
        axes[0, 0].set_ylim(y[-1] + 0.6, -0.95)
        figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=2, fontsize=12)
    return figure


def _draw(ax: Axes, rows: pd.DataFrame, y: np.ndarray, score: str) -> None:
    mean, low, high = (rows[f"{score}_{end}"].to_numpy() for end in ("difference", "low", "high"))
    retrained = (rows["correction"] == "none").to_numpy()
    for label, (colour, marker) in _LOOKS.items():
        own = retrained if label == "trained anew" else ~retrained
        ax.hlines(y[own], low[own], high[own], color=colour, lw=3)
        ax.plot(mean[own], y[own], marker, color=colour, ms=9, ls="", label=label)
    ax.axvline(0, color="#222222", lw=1.5)
    reach = 1.12 * max(abs(low.min()), abs(high.max()), *map(abs, ax.get_xlim()))
    ax.axvspan(-reach, 0, color=_WORSE, zorder=0, lw=0)
    ax.axvspan(0, reach, color=_BETTER, zorder=0, lw=0)
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
