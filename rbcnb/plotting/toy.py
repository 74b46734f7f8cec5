"""The lesson's drawings of fits of the toy: functions of what `rbcnb.losses.toy` made; nothing is trained here.

Those that move take their results first and return a `rbcnb.plotting.sliders.Drawing` of the values that sliders set.
"""

from collections.abc import Callable, Mapping, Sequence
from itertools import chain
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

from rbcnb.columns import CLASSES, readable
from rbcnb.evaluation.prior_shift import focal_posterior
from rbcnb.losses.toy import EXTENT
from rbcnb.plotting.lesson import panels
from rbcnb.plotting.sliders import Drawing
from rbcnb.plotting.style import BLACK, BLUE, CLASS_COLOURS, CYCLE, DASHES, ORANGE, VERMILLION

if TYPE_CHECKING:
    from rbcnb.losses.toy_fits import ToyFits

_X, _Y = "toy measurement 1 (SD)", "toy measurement 2 (SD)"


def alpha_lecture(
    scores: Mapping[str, np.ndarray], distances: Mapping[str, np.ndarray], alphas: Sequence[float], steps: Sequence[int]
) -> Drawing:
    """Why a scalar alpha changes next to nothing under Adam. Value: step, one of *steps*.

    Args:
        scores: optimiser -> macro F1 [T, alphas, seeds]; two of them, a panel each.
        distances: name -> [T, alphas] relative distance of the weights to those at alpha = 1.
        alphas: scalar weights of the loss.
        steps: [T] of training.
    """
    alphas = np.asarray(alphas)

    @Drawing
    def drawing() -> tuple[Figure, list, Callable[..., None]]:
        with panels(3, height_in=4.6) as (figure, axes):
            lowest = min(table[1:].min() for table in scores.values())
            runs, means = [], []
            for ax, (name, table) in zip(axes, scores.items(), strict=False):
                runs.append([ax.plot(alphas, alphas, color=BLUE, lw=1, alpha=0.6)[0] for _ in range(table.shape[2])])
                means += ax.plot(alphas, alphas, "o-", color=BLACK, lw=2.4)
                ax.set(xlabel="α (no unit)", ylabel="macro F1 on new toy cells (0 to 1)", title=name)
                ax.set_ylim(np.floor(lowest * 20) / 20, 0.85)
            axes[0].legend([means[0], runs[0][0]], ["mean", "one seed"], loc="lower left")
            gaps = []
            for (name, _), colour, dash in zip(distances.items(), CYCLE, DASHES, strict=False):
                gaps += axes[2].plot(alphas, alphas, color=colour, ls=dash, marker="o", ms=5, label=name)
            axes[2].set(yscale="log", ylim=(1e-17, 10), xlabel="α (no unit)", title="away from α = 1")
            axes[2].set_ylabel("distance of the weights\n(share of their norm)")
            figure.legend(handles=gaps, loc="outside lower right", ncols=len(gaps))

        def update(*, step: int) -> None:
            t = list(steps).index(step)
            for lines, mean, table in zip(runs, means, scores.values(), strict=True):
                mean.set_ydata(table[t].mean(axis=1))
                for line, own in zip(lines, table[t].T, strict=True):
                    line.set_ydata(own)
            for line, gap in zip(gaps, distances.values(), strict=True):
                # The run itself is left out; another that is equal to the last bit lies on the floor of a log axis.
                line.set_ydata(np.where(alphas == 1, np.nan, np.maximum(gap[t], 2e-17)))

        return figure, [*chain.from_iterable(runs), *means, *gaps], update

    return drawing


def plot_noise_training(
    shares: Mapping[float, np.ndarray],
    scores: Mapping[float, np.ndarray],
    *,
    steps: Sequence[int],
    noises: Sequence[float],
) -> Figure:
    """What wrong labels do in real fits.

    Args:
        shares: gamma -> share of the gradient that comes from wrong labels [T].
        scores: gamma -> macro F1 on clean cells [noises, samples].
        steps: [T] of training.
        noises: shares of labels that are wrong.
    """
    with panels(2) as (figure, axes):
        for i, ((gamma, share), colour, dash) in enumerate(zip(shares.items(), CYCLE, DASHES, strict=False)):
            name = f"γ = {gamma:g}" + (" (cross entropy)" if gamma == 0 else "")
            axes[0].plot(steps, 100 * share, color=colour, ls=dash, label=name)
            score = np.asarray(scores[gamma])
            aside = 100 * np.asarray(noises) + 0.45 * (i - (len(shares) - 1) / 2)  # or the bars would hide each other
            mean = score.mean(axis=1)
            ends = [mean - score.min(axis=1), score.max(axis=1) - mean]
            axes[1].errorbar(aside, mean, ends, color=colour, ls=dash, marker="o", elinewidth=1.5, label=name)
        axes[0].set(xlabel="training (steps)", ylabel="share of the gradient from\nwrong labels (%)", ylim=(0, 100))
        axes[1].set(xlabel="labels that are wrong (%)", ylabel="macro F1, clean new toy cells (0 to 1)")
        n_samples = len(next(iter(scores.values()))[0])
        axes[1].set_title(f"mean and range of {n_samples} samples" if n_samples > 1 else "one sample")
        axes[0].legend()
    return figure


def calibration_fits(probs: Mapping[float, np.ndarray], truth: np.ndarray) -> Drawing:
    """Fits of the toy against its true posterior, as they are and mapped back. Value: gamma, a key of *probs*.

    Args:
        probs: gamma -> [N, 3] probabilities of a network trained at that gamma.
        truth: [N, 3] true probabilities of the same cells.
    """
    edges = np.linspace(0, 1, 16)

    def binned(said: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Mean said and mean true probability of the majority of the bins' cells."""
        bins = np.clip(np.digitize(said.ravel(), edges) - 1, 0, len(edges) - 2)
        n = np.bincount(bins, minlength=len(edges) - 1)
        keep = n >= 20
        sums = (np.bincount(bins, values.ravel(), minlength=len(edges) - 1)[keep] for values in (said, truth))
        return tuple(total / n[keep] for total in sums)

    @Drawing
    def drawing() -> tuple[Figure, list, Callable[..., None]]:
        with panels(2) as (figure, axes):
            points, texts = [], []
            for ax, title, colour in zip(axes, ("as it comes", "mapped back"), (BLUE, ORANGE), strict=True):
                ax.plot([0, 1], [0, 1], "--", color=VERMILLION)
                points += ax.plot([], [], "o-", color=colour, ms=7)
                texts.append(ax.text(0.03, 0.95, "", transform=ax.transAxes, va="top", color=colour))
                ax.set(xlim=(0, 1), ylim=(0, 1), xlabel="probability that the network says (0 to 1)", title=title)
                ax.set_ylabel("true probability of toy cells (0 to 1)")

        def update(*, gamma: float) -> None:
            for point, text, said in zip(
                points, texts, (probs[gamma], focal_posterior(probs[gamma], gamma=gamma)), strict=True
            ):
                point.set_data(*binned(said))
                text.set_text(f"γ = {gamma:g}\nmean error {np.abs(said - truth).mean():.3f}")

        return figure, [*points, *texts], update

    return drawing


def decision_map(probs: np.ndarray) -> np.ndarray:
    """Probabilities [side * side, 3] over `toy_grid` to a picture [side, side, 3] uint8, pale where they are unsure."""
    colours = np.array([to_rgb(CLASS_COLOURS[name]) for name in CLASSES])
    winner = probs.argmax(axis=1)
    strength = 0.15 + 0.45 * (probs.max(axis=1) - 1 / 3) * 1.5
    picture = 1 - strength[:, None] * (1 - colours[winner])
    side = round(len(probs) ** 0.5)
    return (255 * picture).astype(np.uint8).reshape(side, side, 3)


def toy_boundaries(fits: "Callable[[float], ToyFits]", names: Sequence[str], *, columns: int = 5) -> Drawing:
    """Every loss's decisions over the toy, and where the truth's change. Values: majority (a share), step (a state).

    In a corner its macro F1 and its balanced accuracy (BA) on new cells.

    Args:
        fits: majority -> `rbcnb.losses.toy_fits.ToyFits`. Called whenever a slider moves, so it had better remember.
        names: losses, a panel each.
        columns: of panels.
    """
    rows = -(-len(names) // columns)

    @Drawing
    def drawing() -> tuple[Figure, list, Callable[..., None]]:
        with panels(columns, rows=rows, height_in=2.75 * rows) as (figure, axes):
            images, points, edges, texts = [], [], [], []
            for i, (ax, name) in enumerate(zip(axes, names, strict=False)):
                ax.set_title(readable(name), fontsize=10.5)
                ax.grid(False)
                ax.set(xlim=EXTENT[:2], ylim=EXTENT[2:])
                blank = np.zeros((2, 2, 3), np.uint8)
                images.append(ax.imshow(blank, origin="lower", extent=EXTENT, aspect="auto", interpolation="nearest"))
                points.append(
                    [ax.plot([], [], ".", color=CLASS_COLOURS[c], ms=6, mec="white", mew=0.4)[0] for c in CLASSES]
                )
                edges += ax.plot([], [], ".", color=BLACK, ms=1.4)
                texts.append(ax.text(0.97, 0.03, "", transform=ax.transAxes, ha="right", fontsize=11))
                ax.set(xlabel=_X if i // columns == rows - 1 else "", ylabel=_Y if i % columns == 0 else "")
                ax.xaxis.label.set_size(10.5)
                ax.yaxis.label.set_size(10.5)
            for ax in axes[len(names) :]:
                ax.set_visible(False)

        def update(*, majority: float, step: int) -> None:
            fit = fits(majority)
            edge = _edges(fit.truth)
            for i, name in enumerate(names):
                images[i].set_data(decision_map(fit.maps[name][step]))
                for k, line in enumerate(points[i]):
                    line.set_data(*fit.x[fit.targets == k].T)
                edges[i].set_data(*edge)
                texts[i].set_text(f"F1 {fit.scores[name][step]:.2f}\nBA {fit.balanced[name][step]:.2f}")

        return figure, [*images, *chain.from_iterable(points), *edges, *texts], update

    return drawing


def _edges(truth: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where the winner of [S, 3] probabilities over `toy_grid` changes, as points."""
    side = round(len(truth) ** 0.5)
    winner = truth.argmax(axis=1).reshape(side, side)
    change = np.zeros_like(winner, dtype=bool)
    change[:, 1:] |= winner[:, 1:] != winner[:, :-1]
    change[1:] |= winner[1:] != winner[:-1]
    row, column = np.nonzero(change)
    left, right, bottom, top = EXTENT
    return left + (right - left) * column / (side - 1), bottom + (top - bottom) * row / (side - 1)
