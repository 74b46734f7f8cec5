"""Fig. 10, with the band of its seeds. Apart from ``rbcnb.figures``, which opens quickly for want of scikit-learn."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from sklearn.metrics import auc, roc_curve

from rbcnb.columns import PROB, TARGET, classes_of_predictions
from rbcnb.style import DASHES, GREY, colours_of, cycle, new_figure, rc, readable, require

_GRID = np.linspace(0, 1, 501)  # false positive rates at which curves of several seeds are averaged


def plot_roc(predictions: Mapping[str, Sequence[pd.DataFrame]], *, columns: int = 2) -> Figure:
    """Fig. 10: one panel per model, one ROC per class (one against the rest) with its area in the legend.

    Of one seed the curve itself. Of several the mean of their curves at each false positive rate, a band from the
    lowest to the highest of them, and the mean of their areas +- its standard deviation over seeds.

    Args:
        predictions: model -> a table per seed, each with ``target`` and ``prob_<class>``. A class without cells, or
            alone, has no ROC, and the legend says so.
        columns: of panels, at most.
    """
    columns = min(columns, len(predictions))
    rows = -(-len(predictions) // columns)
    with rc():
        figure, axes = new_figure(max(4.3 * columns, 4.8), 4.2 * rows, rows, columns)
        for ax in axes.flat[len(predictions) :]:
            ax.set_axis_off()
        for ax, (name, tables) in zip(axes.flat, predictions.items(), strict=False):
            classes = classes_of_predictions(tables[0].columns)
            for table in tables:
                require(table, [TARGET, *(PROB + c for c in classes or ("<class>",))], f"predictions of {name}")
            colours = colours_of(classes)
            ax.plot([0, 1], [0, 1], color=GREY, lw=1, ls=":")
            for class_name, dash in zip(classes, cycle(DASHES, len(classes)), strict=True):
                style = {"color": colours[class_name], "ls": dash}
                n_cells = sum(int((table[TARGET] == class_name).sum()) for table in tables)
                if n_cells in (0, sum(map(len, tables))):
                    ax.plot([], [], **style, label=f"{class_name}: no ROC ({n_cells} cells)")
                    continue
                fpr, tpr, areas = _curves(tables, class_name)
                spread = f" ± {np.std(areas, ddof=1):.3f}" if len(areas) > 1 else ""
                ax.plot(fpr, tpr.mean(axis=0), **style, label=f"{class_name}: {np.mean(areas):.3f}{spread}")
                if len(tpr) > 1:
                    ax.fill_between(fpr, tpr.min(axis=0), tpr.max(axis=0), color=colours[class_name], alpha=0.15, lw=0)
            ax.set(xlim=(-0.015, 1.015), ylim=(-0.015, 1.015), aspect="equal")
            ax.set(xlabel="false positive rate", ylabel="true positive rate")
            seeds = f", {len(tables)} seeds" if len(tables) > 1 else ""
            ax.set_title(readable(name) + seeds)
            title = "AUROC" if len(tables) == 1 else "AUROC, mean ± sd of seeds"
            ax.legend(loc="lower right", title=title, title_fontsize=9, alignment="left")
    return figure


def _curves(tables: Sequence[pd.DataFrame], class_name: str) -> tuple[np.ndarray, np.ndarray, list[float]]:
    """False positive rates [K], true positive rates [S, K] and areas [S] of one class; K is a common grid if S > 1."""
    curves = [roc_curve(table[TARGET] == class_name, table[PROB + class_name])[:2] for table in tables]
    areas = [float(auc(*curve)) for curve in curves]
    if len(curves) == 1:
        fpr, tpr = curves[0]
        return fpr, tpr[None], areas
    # A curve that starts with a vertical step starts at its top on the grid; (0, 0) is put before.
    grid = np.concatenate([[0.0], _GRID])
    levels = np.array([np.concatenate([[0.0], np.interp(_GRID, *curve)]) for curve in curves])
    return grid, levels, areas
