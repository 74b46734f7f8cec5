"""Figures of the loss: one cell's (Fig. 1), that of training (Fig. 12), and what epochs and settings were chosen by."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from rbcnb.columns import PRIMARY_METHODS, readable
from rbcnb.losses.focal_curves import focal_curve
from rbcnb.plotting.style import CYCLE, DASHES, GREY, THIN, colours_of, cycle, new_figure, rc, require

_PANELS = (("valid_loss", "validation loss"), ("valid_macro_f1", "validation macro F1"))
_LINES = ["line", "method", "fold", "epoch", "chosen_epoch", "valid_loss", "valid_macro_f1"]


def plot_focal_curves(gammas: Sequence[float] = (0, 0.5, 1, 2, 5)) -> Figure:
    """Fig. 1: focal loss against p_t, a curve for each of *gammas*, Eq. (4) at alpha 1; gamma 0 is cross entropy.

    It does not move, and is the first drawing of a lesson: Matplotlib is there long before Altair is.

    Args:
        gammas: focusing of each curve, 0 or more.
    """
    p_t = np.linspace(1e-3, 1, 400)
    dashes = iter(cycle(DASHES[1:], len(gammas)))
    with rc():
        figure, axes = new_figure(3.6, 3.1)  # on a phone its letters are still 12 pixels high
        ax = axes[0, 0]
        ax.axvspan(0.5, 1, color=GREY, alpha=0.12, lw=0)
        for gamma, colour in zip(gammas, cycle(CYCLE[:-1], len(gammas)), strict=True):
            name, style = f"γ = {gamma:g}", "-"  # cross entropy is the solid line, as in the paper
            if gamma == 0:
                name += " (cross entropy)"
            else:
                style = next(dashes)
            ax.plot(p_t, focal_curve(p_t, gamma=gamma), color=colour, ls=style, label=name)
        ax.text(0.52, 0.3, "well-classified\nexamples", size=9, transform=ax.get_xaxis_transform())
        ax.set(xlim=(0, 1), ylim=(0, 5), xlabel="probability of the true class p_t (0 to 1)", ylabel="loss (nats)")
        ax.set_title("focal loss, α = 1")
        ax.legend(loc="upper right")
    return figure


def plot_training_loss(curves: pd.DataFrame) -> Figure:
    """Fig. 12, a row per architecture: each run's own training loss (as printed), and cross entropy of both runs.

    Focal loss with alpha <= 1 is below cross entropy for the same probabilities, so only the right panel compares
    models. Repeated runs of one method are averaged, with a band from the lowest to the highest.

    Args:
        curves: ``architecture``, ``method``, ``epoch``, ``train_loss`` (the loss the run minimises), ``train_ce``
            (cross entropy of the same epoch), in nats.

    Raises:
        ValueError: a column is missing, or there are no rows.
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
            architecture_curves = curves[curves["architecture"] == architecture]
            for ax, (column, title, ylabel) in zip(row, panels, strict=True):
                _draw_curves(ax, architecture_curves, column)
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


def plot_tuning(curves: dict[str, pd.DataFrame]) -> Figure:
    """Validation loss and macro F1 against epoch, a row per protocol: mean and deviation over folds, chosen epoch.

    Deviation as a band is of the methods of the primary contrasts, one for each, as more would hide each other.

    Args:
        curves: name of a split, such as "honest" or "honest_1" -> `chosen_curves` of one architecture.
    """
    with rc():
        figure, axes = new_figure(10.4, 3.5 * len(curves), len(curves), 2, sharex=True)
        for ax in axes[-1]:
            ax.set_xlabel("epoch")
        for row, (protocol, table) in zip(axes, curves.items(), strict=True):
            require(table, _LINES, f"curves of {protocol}")
            for ax, (column, label) in zip(row, _PANELS, strict=True):
                _draw_lines(ax, table, column)
                ax.set_ylabel(label)
                ax.xaxis.set_major_locator(MaxNLocator(integer=True))
            row[0].set_ylim(0, None)
            name, _, outer = protocol.partition("_")  # as `rbcnb.training.outer_splits` names splits
            where = f", outer split {outer}" if outer else ""
            row[0].set_title(f"{readable(name)} protocol{where}, each on its own loss")
            row[1].set_title(f"mean ± sd of {table['fold'].nunique()} folds, circle: chosen epoch")
            row[1].legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
    return figure


def _draw_lines(ax: Axes, table: pd.DataFrame, column: str) -> None:
    colours, seen = colours_of(table["method"]), {}
    for (line, method, epoch), rows in table.groupby(["line", "method", "chosen_epoch"], sort=False):
        nth = seen[method] = seen.get(method, -1) + 1
        # Lines of one method share its colour: from its own to nearly white.
        n_lines = table.loc[table["method"] == method, "line"].nunique()
        colour = _lighter(colours[method], 0.7 * nth / n_lines)
        folds = rows.groupby("epoch")[column]
        mean, sd = folds.mean(), folds.std().fillna(0.0)
        dash = DASHES[list(colours).index(method) % len(DASHES)]
        marker = "." if len(mean) < 3 else None  # a line through one epoch cannot be seen
        asked = method in PRIMARY_METHODS
        size = {} if asked else THIN
        ax.plot(mean.index, mean, color=colour, linestyle=dash, marker=marker, label=line, **size)
        if asked and nth == 0:
            ax.fill_between(mean.index, mean - sd, mean + sd, color=colour, alpha=0.1, linewidth=0)
        ax.plot(epoch, mean[epoch], "o", ms=8, mfc="none", mew=2 if asked else 1, color=colour)


def _lighter(colour: str, share: float) -> tuple[float, ...]:
    return tuple(channel + (1 - channel) * share for channel in to_rgba(colour)[:3])
