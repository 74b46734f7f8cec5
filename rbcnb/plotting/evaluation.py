"""Figures of held-out predictions: confusion (Fig. 11), ROC (Fig. 10), and reliability of the probabilities."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from matplotlib.ticker import LogFormatter
from scipy import stats
from sklearn.metrics import auc, roc_curve

from rbcnb.columns import PRED, PROB, TARGET, classes_of_predictions, prob_columns, readable
from rbcnb.evaluation.metrics import calibration_error, reliability_bins, score_predictions
from rbcnb.plotting.style import BLUE, DASHES, GREY, VERMILLION, bare, colours_of, cycle, new_figure, rc, require

_GRID = np.linspace(0, 1, 501)  # false positive rates at which curves of several seeds are averaged
_LEVEL = 0.95
_ON_LINES = {"zorder": 5, "bbox": {"facecolor": "white", "alpha": 0.8, "edgecolor": "none", "pad": 1.5}}


def plot_confusion(counts: Mapping[str, pd.DataFrame]) -> Figure:
    """Fig. 11: confusion matrices as the paper prints them, one panel per model.

    Cells show the count and its share of all; the margins precision (right), recall (below) and accuracy (corner), each
    over its complement.

    Args:
        counts: model -> table of counts (`rbcnb.evaluation.confusion_table`): index = predicted ("output") class,
            columns = target class, the same classes on both.
    """
    columns = min(2, len(counts))
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


def plot_roc(predictions: Mapping[str, Sequence[pd.DataFrame]]) -> Figure:
    """Fig. 10: one panel per model, one ROC per class (one against the rest) with its area in the legend.

    Of one seed the curve itself. Of several the mean of their curves at each false positive rate, a band from the
    lowest to the highest of them, and the mean of their areas +- its standard deviation over seeds.

    Args:
        predictions: model -> a table per seed, each with ``target`` and ``prob_<class>``. A class without cells, or
            alone, has no ROC, and the legend says so.
    """
    columns = min(2, len(predictions))
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


def plot_reliability(tables: Mapping[str, Sequence[pd.DataFrame]], *, of_class: str | None = None) -> Figure:
    """Reliability diagrams, a panel per model: what was promised against what happened, and how often.

    Points are bins of equal width, below each the number of cells per bin on a log scale. On the diagonal a probability
    means what it says; under it the model is too sure. Of one fit with Clopper-Pearson 95 % intervals (cells taken as
    independent); of several, the bins of all their predictions together, and each fit's own bins as a thin line. NLL
    and ECE stand in the panel, with their standard deviation over fits.

    Args:
        tables: title -> predictions, a table per fit.
        of_class: the probability of this class against how often a cell was of it; None for the predicted class's
            probability against how often it was right.
    """
    if not tables:
        raise ValueError("no predictions tables, so there is nothing to draw")
    columns = min(2, len(tables))
    rows = -(-len(tables) // columns)
    what = "the predicted class" if of_class is None else readable(of_class)
    with rc():
        size = max(4.2 * columns, 4.8), 4.4 * rows
        figure, axes = new_figure(*size, 2 * rows, columns, sharex=True, sharey="row", height_ratios=[3.2, 1] * rows)
        for ax in axes.flat:
            ax.set_axis_off()
        for i, (name, fits) in enumerate(tables.items()):
            row, column = divmod(i, columns)
            upper, lower = axes[2 * row : 2 * row + 2, column]
            promises = [_promises(table, of_class) for table in fits]
            by_fit = [reliability_bins(*promise) for promise in promises]
            probs, happened = (np.concatenate(part) for part in zip(*promises, strict=True))
            _draw_bins(upper, lower, reliability_bins(probs, happened), by_fit)
            upper.set_title(readable(name))
            upper.set_ylabel("share right" if of_class is None else f"share that is {what}")
            lower.set(ylabel="cells", xlabel=f"probability of {what}")
            ece = _mean_text([calibration_error(*promise) for promise in promises])
            nll = _mean_text([score_predictions(table)["nll"] for table in fits])
            seeds = f"\n{len(fits)} fits" if len(fits) > 1 else ""
            upper.text(0.04, 0.96, f"ECE {ece}\nNLL {nll}{seeds}", transform=upper.transAxes, va="top", **_ON_LINES)
    return figure


def _mean_text(values: Sequence[float]) -> str:
    spread = f" ± {np.std(values, ddof=1):.3f}" if len(values) > 1 else ""
    return f"{np.mean(values):.3f}{spread}"


def _promises(table: pd.DataFrame, of_class: str | None) -> tuple[np.ndarray, np.ndarray]:
    classes = classes_of_predictions(table.columns)
    probs = table[prob_columns(classes)].to_numpy(dtype=float)
    if of_class is None:
        chosen = table[PRED].to_numpy()[:, None] == np.array(classes)
        return probs[chosen], (table[PRED] == table[TARGET]).to_numpy()
    if of_class not in classes:
        raise ValueError(f"no class {of_class!r} in the predictions; they speak of {', '.join(classes)}")
    return probs[:, classes.index(of_class)], (table[TARGET] == of_class).to_numpy()


def _draw_bins(upper: Axes, lower: Axes, bins: pd.DataFrame, by_fit: Sequence[pd.DataFrame]) -> None:
    for ax in (upper, lower):
        ax.set_axis_on()
        ax.yaxis.set_tick_params(labelleft=True)
    lower.xaxis.set_tick_params(labelbottom=True)
    upper.plot([0, 1], [0, 1], color="#444444", lw=1)
    if len(by_fit) > 1:  # the same cells in each: no interval takes them for independent
        for fit_bins in by_fit:
            upper.plot(fit_bins["prob"], fit_bins["rate"], color=BLUE, lw=0.8, alpha=0.35)
    else:
        ranges = [stats.binomtest(row.hits, row.n).proportion_ci(_LEVEL, method="exact") for row in bins.itertuples()]
        upper.vlines(bins["prob"], [ci.low for ci in ranges], [ci.high for ci in ranges], color=BLUE, lw=1.4)
    upper.plot(bins["prob"], bins["rate"], "o", color=BLUE)
    upper.set(xlim=(-0.02, 1.02), ylim=(-0.03, 1.03))
    lower.bar(bins["low"], bins["n"], bins["high"] - bins["low"], align="edge", color=BLUE, alpha=0.6)
    lower.set_yscale("log")
    lower.yaxis.set_major_formatter(LogFormatter())  # plain numbers, and no formulas
    lower.yaxis.set_minor_formatter(LogFormatter())
    lower.set_ylim(bottom=0.7)
