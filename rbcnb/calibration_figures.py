"""Do probabilities mean what they say? Apart from ``rbcnb.figures``, which opens quickly for want of scikit-learn."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy import stats

from rbcnb.columns import PRED, TARGET, classes_of_predictions, prob_columns
from rbcnb.metrics import N_BINS, calibration_error, reliability_bins, score_predictions
from rbcnb.style import BLUE, new_figure, rc, readable

_LEVEL = 0.95
_ON_LINES = {"zorder": 5, "bbox": {"facecolor": "white", "alpha": 0.8, "edgecolor": "none", "pad": 1.5}}


def plot_reliability(
    tables: Mapping[str, Sequence[pd.DataFrame]],
    *,
    of_class: str | None = None,
    n_bins: int = N_BINS,
    columns: int = 2,
) -> Figure:
    """Reliability diagrams, a panel per model: what was promised against what happened, and how often.

    Points are bins of equal width, below each the number of cells per bin on a log scale. On the diagonal a probability
    means what it says; under it the model is too sure. Of one fit with Clopper-Pearson 95 % intervals (cells taken as
    independent); of several, the bins of all their predictions together, and each fit's own bins as a thin line. NLL
    and ECE stand in the panel, with their standard deviation over fits.

    Args:
        tables: title -> predictions, a table per fit.
        of_class: the probability of this class against how often a cell was of it; None for the predicted class's
            probability against how often it was right.
        n_bins: bins over 0 to 1.
        columns: panels side by side.
    """
    if not tables:
        raise ValueError("no predictions tables, so there is nothing to draw")
    columns = min(columns, len(tables))
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
            by_fit = [reliability_bins(*promise, n_bins=n_bins) for promise in promises]
            probs, happened = (np.concatenate(part) for part in zip(*promises, strict=True))
            _draw_bins(upper, lower, reliability_bins(probs, happened, n_bins=n_bins), by_fit)
            upper.set_title(readable(name))
            upper.set_ylabel("share right" if of_class is None else f"share that is {what}")
            lower.set(ylabel="cells", xlabel=f"probability of {what}")
            ece = _told([calibration_error(*promise, n_bins=n_bins) for promise in promises])
            nll = _told([score_predictions(table)["nll"] for table in fits])
            seeds = f"\n{len(fits)} fits" if len(fits) > 1 else ""
            upper.text(0.04, 0.96, f"ECE {ece}\nNLL {nll}{seeds}", transform=upper.transAxes, va="top", **_ON_LINES)
    return figure


def _told(values: Sequence[float]) -> str:
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
        for one in by_fit:
            upper.plot(one["prob"], one["rate"], color=BLUE, lw=0.8, alpha=0.35)
    else:
        ranges = [stats.binomtest(row.hits, row.n).proportion_ci(_LEVEL, method="exact") for row in bins.itertuples()]
        upper.vlines(bins["prob"], [ci.low for ci in ranges], [ci.high for ci in ranges], color=BLUE, lw=1.4)
    upper.plot(bins["prob"], bins["rate"], "o", color=BLUE)
    upper.set(xlim=(-0.02, 1.02), ylim=(-0.03, 1.03))
    lower.bar(bins["low"], bins["n"], bins["high"] - bins["low"], align="edge", color=BLUE, alpha=0.6)
    lower.set_yscale("log")
    lower.set_ylim(bottom=0.7)
