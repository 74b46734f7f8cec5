"""One function per figure of the paper, and a few more: takes tables or arrays, returns a Figure.

Never trains, saves, shows or reads files, and imports neither torch nor fastai. Figs. 5 to 8 live in
``rbcnb.pictures``, the diagrams (Figs. 2, 3, 4, 9) in ``rbcnb.diagrams``, comparisons of methods (Fig. 13) in
``rbcnb.comparisons``; all are offered here, so that notebooks import from one place.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from rbcnb.columns import LABEL
from rbcnb.comparisons import (
    plot_alpha_sweep,
    plot_class_counts,
    plot_differences,
    plot_relative_improvement,
    plot_scores_by_rho,
    plot_summary,
)
from rbcnb.curves import focal_curve
from rbcnb.diagrams import plot_densenet, plot_process, plot_residual_block, plot_resnet
from rbcnb.pictures import (
    plot_class_examples,
    plot_contact_sheet,
    plot_detections,
    plot_segmentation_steps,
    plot_smears,
    plot_upscaling,
)
from rbcnb.style import (
    BLUE,
    CYCLE,
    DASHES,
    VERMILLION,
    bare,
    colours_of,
    cycle,
    new_figure,
    rc,
    readable,
    require,
)

__all__ = [
    "plot_alpha_sweep",
    "plot_class_counts",
    "plot_class_examples",
    "plot_confusion",
    "plot_contact_sheet",
    "plot_densenet",
    "plot_detections",
    "plot_differences",
    "plot_focal_curves",
    "plot_loss_shares",
    "plot_process",
    "plot_relative_improvement",
    "plot_residual_block",
    "plot_resnet",
    "plot_scores_by_rho",
    "plot_segmentation_steps",
    "plot_smears",
    "plot_summary",
    "plot_training_loss",
    "plot_upscaling",
]


def plot_focal_curves(gammas: Sequence[float] = (0, 0.5, 1, 2, 5), *, alpha: float = 1.0) -> Figure:
    """Fig. 1: focal loss -alpha (1 - p_t)^gamma log p_t, Eq. (4), against p_t; gamma 0 is alpha times cross entropy."""
    p_t = np.linspace(1e-3, 1.0, 1000)
    with rc():
        figure, axes = new_figure(6.4, 4.4)
        ax = axes[0, 0]
        ax.axvspan(0.5, 1.0, color="#F0F0F0", zorder=0)
        ax.text(0.75, 0.985, "well-classified\nexamples", ha="center", va="top", transform=ax.get_xaxis_transform())
        # Cross entropy is the solid line, as in the paper, wherever it stands in the list.
        dashes = iter(cycle(DASHES[1:], len(gammas)))
        for gamma, colour in zip(gammas, cycle(CYCLE, len(gammas)), strict=True):
            dash = DASHES[0] if gamma == 0 else next(dashes)
            label = f"γ = {gamma:g}" + (" (cross entropy)" if gamma == 0 and alpha == 1 else "")
            ax.plot(p_t, focal_curve(p_t, alpha=alpha, gamma=gamma), color=colour, ls=dash, label=label)
        ax.set(xlim=(0, 1), ylim=(0, 5), xlabel="probability of the true class $p_t$", ylabel="loss (nats)")
        ax.set_title(f"focal loss, α = {alpha:g}")
        # Inside the shaded half, where every curve lies low.
        ax.legend(loc="upper right", bbox_to_anchor=(1.0, 0.84))
    return figure


def plot_loss_shares(shares: pd.DataFrame) -> Figure:
    """Which class brings which share of a batch's loss, a bar per gamma.

    *shares*: gamma, label, n_cells, p_t and share, as from ``curves.loss_shares``.
    """
    require(shares, ["gamma", LABEL, "n_cells", "p_t", "share"], "shares")
    gammas = sorted(shares["gamma"].unique())
    with rc():
        figure, axes = new_figure(7.6, 0.5 * len(gammas) + 1.6)
        ax = axes[0, 0]
        left = np.zeros(len(gammas))
        colours = colours_of(shares[LABEL])
        for label, rows in shares.groupby(LABEL, sort=False):
            rows = rows.set_index("gamma").loc[gammas]
            told = f"{label}: {rows['n_cells'].iloc[0]} cells at $p_t$ = {rows['p_t'].iloc[0]:g}"
            bars = ax.barh(
                [f"γ = {gamma:g}" for gamma in gammas], rows["share"], left=left, color=colours[label], label=told
            )
            texts = [f"{share:.0%}" if share > 0.04 else "" for share in rows["share"]]
            ax.bar_label(bars, texts, label_type="center", color="white", fontsize=9)
            left += rows["share"].to_numpy()
        ax.invert_yaxis()
        ax.grid(visible=False, axis="y")
        ax.set(xlim=(0, 1), xlabel="share of the batch's total loss (0 to 1)")
        figure.legend(loc="outside lower center", ncols=len(colours))
    return figure


def plot_confusion(counts: Mapping[str, pd.DataFrame], *, columns: int = 2) -> Figure:
    """Fig. 11: confusion matrices as the paper prints them, one panel per model.

    Each table holds counts, index = predicted ("output") class, columns = target class, same classes on both. Cells
    show the count and its share of all; the margins precision (right), recall (below) and accuracy (corner), each over
    its complement.
    """
    columns = min(columns, len(counts))
    rows = -(-len(counts) // columns)
    classes = max(len(table) for table in counts.values())
    with rc():
        figure, axes = new_figure((1.05 * classes + 2.2) * columns, (0.75 * classes + 1.75) * rows, rows, columns)
        for ax in axes.flat[len(counts) :]:
            ax.set_axis_off()
        for ax, (name, table) in zip(axes.flat, counts.items(), strict=False):
            _draw_confusion(ax, table)
            ax.set_title(readable(name))
    return figure


def _draw_confusion(ax: Axes, table: pd.DataFrame) -> None:
    if list(table.index) != list(table.columns):
        raise ValueError(f"rows and columns differ: {list(table.index)} and {list(table.columns)}")
    matrix, n = table.to_numpy(float), len(table)
    correct, total = np.diag(matrix), matrix.sum()
    with np.errstate(invalid="ignore"):  # a class never predicted has no precision, an empty one no recall
        precision, recall, accuracy = correct / matrix.sum(1), correct / matrix.sum(0), correct.sum() / total
    margins = {(i, n): precision[i] for i in range(n)} | {(n, j): recall[j] for j in range(n)} | {(n, n): accuracy}
    faces = np.empty((n + 1, n + 1, 4))
    faces[:] = to_rgba("#EDEDED")
    for i in range(n):
        for j in range(n):
            share = 0.0 if total == 0 else matrix[i, j] / total
            faces[i, j] = to_rgba(BLUE if i == j else VERMILLION, 0.12 + 0.3 * share if matrix[i, j] else 0.06)
            ax.text(j, i - 0.14, f"{table.iloc[i, j]:g}", ha="center", va="center", weight="bold")
            ax.text(
                j, i + 0.2, _percent(matrix[i, j] / total if total else np.nan), ha="center", va="center", fontsize=9
            )
    faces[n, n] = to_rgba("#D5D5D5")
    for (i, j), value in margins.items():
        ax.text(j, i - 0.16, _percent(value), ha="center", va="center", fontsize=9, color="#00507D", weight="bold")
        ax.text(j, i + 0.18, _percent(1 - value), ha="center", va="center", fontsize=9, color="#A34700")
    bare(ax).imshow(faces, aspect="auto")
    ax.hlines(np.arange(n) + 0.5, -0.5, n + 0.5, color="white")
    ax.vlines(np.arange(n) + 0.5, -0.5, n + 0.5, color="white")
    names = [readable(name) for name in table.index]
    ax.set_xticks(range(n + 1), [*names, "precision"])
    ax.set_yticks(range(n + 1), [*names, "recall"])
    ax.tick_params(length=0)
    ax.set(xlabel="target class", ylabel="output class")


def _percent(share: float) -> str:
    return "–" if np.isnan(share) else f"{100 * share:.1f}%"


def plot_training_loss(curves: pd.DataFrame) -> Figure:
    """Fig. 12, a row per architecture: each run's own training loss (as printed), and cross entropy of both runs.

    *curves*: architecture, method, epoch, train_loss (the loss the run minimises), train_ce (cross entropy of the same
    epoch). Focal loss with alpha <= 1 is below cross entropy for the same probabilities, so only the right panel
    compares models. Repeated runs of one method are averaged, with the lowest to highest as a band.
    """
    require(curves, ["architecture", "method", "epoch", "train_loss", "train_ce"], "curves")
    architectures = list(dict.fromkeys(curves["architecture"]))
    panels = (
        ("train_loss", "own loss (as in the paper)", "training loss"),
        ("train_ce", "cross entropy of each", "cross entropy (nats)"),
    )
    with rc():
        figure, axes = new_figure(9.6, 3.6 * len(architectures), len(architectures), 2, sharey="row", sharex=True)
        for row, architecture in zip(axes, architectures, strict=True):
            own = curves[curves["architecture"] == architecture]
            for ax, (column, title, ylabel) in zip(row, panels, strict=True):
                _draw_curves(ax, own, column)
                ax.set_title(f"{readable(architecture)}: {title}")
                ax.set(ylabel=ylabel, xlabel="epoch")
                ax.yaxis.set_tick_params(labelleft=True)
                ax.legend()
            row[0].set_ylim(bottom=0)  # once both are drawn: the panels share the axis, and setting it ends its growing
    return figure


def _draw_curves(ax: Axes, curves: pd.DataFrame, column: str) -> None:
    """*column* against epoch, a line per method: the mean of its fits, and a band from the lowest to the highest."""
    import seaborn as sns  # here, as it takes longer to import than everything else that draws

    colours = {readable(method): colour for method, colour in colours_of(curves["method"]).items()}
    sns.lineplot(
        curves.assign(method=curves["method"].map(readable)),
        x="epoch",
        y=column,
        hue="method",
        style="method",
        palette=colours,
        errorbar=("pi", 100),
        # A line through one epoch cannot be seen.
        markers=curves["epoch"].nunique() < 3,
        ax=ax,
    )
    ax.legend(title=None)
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
