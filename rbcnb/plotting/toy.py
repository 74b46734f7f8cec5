"""The lesson's pictures of fits of the toy: of what `rbcnb.losses.toy_fits` made; nothing is trained here.

Those of a table of results are explorers (`rbcnb.plotting.explorers`), which need no kernel.
"""

import base64
import io
import json
from collections.abc import Callable, Mapping, Sequence
from itertools import product
from typing import TYPE_CHECKING

import altair as alt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

from rbcnb.columns import CLASSES, TOY_CELLS, readable
from rbcnb.evaluation.prior_shift import focal_posterior
from rbcnb.losses.toy import EXTENT
from rbcnb.plotting.explorers import Axis, Control, Explorer, number, sentence, table_panel
from rbcnb.plotting.kernel_pictures import KernelPictures
from rbcnb.plotting.lesson import panels
from rbcnb.plotting.style import BLACK, BLUE, CLASS_COLOURS, CYCLE, ORANGE, SKY, VERMILLION, Picture, rc

if TYPE_CHECKING:
    from rbcnb.losses.toy_fits import ToyFits

_PAPER_MAJORITY = 0.8
_X, _Y = "toy measurement 1 (SD)", "toy measurement 2 (SD)"


def alpha_lecture(
    scores: Mapping[str, np.ndarray], distances: Mapping[str, np.ndarray], alphas: Sequence[float], steps: Sequence[int]
) -> Explorer:
    """Why a scalar alpha changes next to nothing under Adam; the slider is the step of training.

    Args:
        scores: optimiser -> macro F1 [T, alphas, seeds]; two of them, a panel each.
        distances: name -> [T, alphas] relative distance of the weights to those at alpha = 1.
        alphas: scalar weights of the loss.
        steps: [T] of training.
    """
    x, at = Axis("α (no unit)", 0, max(alphas) + 0.25), "datum.step == step"
    looks = {"mean": ("currentColor", ()), "one seed": (SKY, ())}
    lowest = min(float(table[1:].min()) for table in scores.values())
    y = Axis("macro F1 on new toy cells (0 to 1)", np.floor(lowest * 20) / 20, 0.85)
    drawn = []
    for name, table in scores.items():
        seeds = _rows(table, "one seed", steps, alphas)
        means = _rows(table.mean(axis=2, keepdims=True), "mean", steps, alphas).assign(part=-1)
        drawn.append(table_panel(pd.concat([seeds, means]), looks, x, y, where=at, title=name, legend=not drawn))
    gaps = [
        # The run itself is left out; another that is equal to the last bit lies on the floor of a log axis.
        _rows(np.where(np.asarray(alphas) == 1, np.nan, np.maximum(table, 2e-17))[..., None], name, steps, alphas)
        for name, table in distances.items()
    ]
    rows = pd.concat(gaps).dropna()
    rows["y"] = np.log10(rows["y"])
    looks = dict(zip(distances, zip(CYCLE, ((), (8, 4), (8, 3, 2, 3), (2, 3)), strict=False), strict=False))
    y = Axis("distance (share of the weights' norm)", -17, 1, labels="'1e' + datum.value")
    drawn.append(table_panel(rows, looks, x, y, where=at, title="away from α = 1"))
    control = Control("step", "step of training", list(steps), list(steps)[-1])
    words = (
        "Macro F1 of small networks at seven alphas under SGD and Adam, and how far their weights lie from those at 1."
    )
    spans = {name: np.ptp(table.mean(axis=2), axis=1).round(3).tolist() for name, table in scores.items()}
    parts = " and ".join(f"{{{name}}} under {name}" for name in spans)
    here = {name: number(f"{values}[indexof({list(steps)}, step)]", 2) for name, values in spans.items()}
    reading = sentence(f"From one alpha to another the mean macro F1 differs by up to {parts}.", **here)
    return Explorer("alpha", words, [control], drawn, reading)


def _rows(values: np.ndarray, name: str, steps: Sequence[int], alphas: Sequence[float]) -> pd.DataFrame:
    """[T, alphas, parts] as rows for `table_panel`."""
    index = pd.MultiIndex.from_product([steps, alphas, range(values.shape[2])], names=["step", "x", "part"])
    return pd.DataFrame({"y": values.ravel(), "name": name}, index=index).reset_index()


def noise_training(
    shares: Mapping[float, np.ndarray],
    scores: Mapping[float, np.ndarray],
    *,
    steps: Sequence[int],
    noises: Sequence[float],
) -> Explorer:
    """What wrong labels do in real fits.

    Args:
        shares: gamma -> share of the gradient that comes from wrong labels [T].
        scores: gamma -> macro F1 on clean cells [noises, samples].
        steps: [T] of training.
        noises: shares of labels that are wrong.
    """
    names = {gamma: f"γ = {gamma:g}" + (" (cross entropy)" if gamma == 0 else "") for gamma in shares}
    looks = dict(zip(names.values(), zip(CYCLE, ((), (8, 4), (8, 3, 2, 3), (2, 3)), strict=False), strict=False))
    left = pd.concat(
        [
            pd.DataFrame({"x": list(steps), "y": 100 * np.asarray(shares[gamma]), "name": name})
            for gamma, name in names.items()
        ]
    )
    right = []
    for i, (gamma, name) in enumerate(names.items()):
        table = np.asarray(scores[gamma])
        aside = 0.45 * (i - (len(names) - 1) / 2)  # or the bars would hide each other
        places = {"x": 100 * np.asarray(noises) + aside, "y": table.mean(axis=1), "name": name}
        right.append(pd.DataFrame({**places, "low": table.min(axis=1), "high": table.max(axis=1)}))
    right = pd.concat(right)
    n_samples = len(next(iter(scores.values()))[0])
    title = f"mean and range of {n_samples} samples" if n_samples > 1 else "one sample"
    low, high = np.floor(10 * right["low"].min()) / 10, np.ceil(10 * right["high"].max()) / 10
    return Explorer(
        "noise-training",
        "Left: the gradient from wrong labels as training goes. Right: macro F1 by the share of wrong labels.",
        [],
        [
            table_panel(
                left, looks, Axis("training (steps)", 0, max(steps)), Axis("gradient from wrong labels (%)", 0, 100)
            ),
            table_panel(
                right,
                looks,
                Axis("labels that are wrong (%)", -2, 100 * max(noises) + 2),
                Axis("macro F1, clean new toy cells (0 to 1)", low, high),
                legend=False,
                title=title,
            ),
        ],
    )


def calibration_fits(probs: Mapping[float, np.ndarray], truth: np.ndarray) -> Explorer:
    """Fits of the toy against its true posterior, as they are and mapped back; the slider is gamma, a key of *probs*.

    Args:
        probs: gamma -> [N, 3] probabilities of a network trained at that gamma.
        truth: [N, 3] true probabilities of the same cells.
    """
    edges = np.linspace(0, 1, 16)

    def binned(stated: np.ndarray) -> pd.DataFrame:
        """Mean stated and mean true probability of the majority of the bins' cells."""
        bins = np.clip(np.digitize(stated.ravel(), edges) - 1, 0, len(edges) - 2)
        table = pd.DataFrame({"x": stated.ravel(), "y": truth.ravel()}).groupby(bins)
        return table.mean()[table.size() >= 20]

    mapped = {gamma: focal_posterior(stated, gamma=gamma) for gamma, stated in probs.items()}
    x, y = Axis("probability it says (0 to 1)", 0, 1), Axis("true probability (0 to 1)", 0, 1)
    line = pd.DataFrame({"x": [0, 1], "y": [0, 1], "name": "says the truth", "gamma": -1})
    drawn, errors = [], []
    for title, colour, tables in (("as it comes", BLUE, probs), ("mapped back", ORANGE, mapped)):
        rows = pd.concat([binned(table).assign(name=title, gamma=gamma) for gamma, table in tables.items()])
        looks = {"says the truth": (VERMILLION, (8, 4)), title: (colour, ())}
        where = "datum.gamma == gamma || datum.gamma == -1"
        drawn.append(table_panel(pd.concat([line, rows]), looks, x, y, where=where))
        errors.append([round(float(np.abs(table - truth).mean()), 4) for table in tables.values()])
    gammas = list(probs)
    here = [number(f"{values}[indexof({gammas}, gamma)]", 3) for values in errors]
    return Explorer(
        "calibration-fits",
        "What networks say of toy cells against the true probability, as it comes and mapped back.",
        [Control("gamma", "γ", gammas, 2.0 if 2.0 in gammas else gammas[0])],
        drawn,
        sentence("Mean distance from the truth: {raw} as it comes, {mapped} mapped back.", raw=here[0], mapped=here[1]),
    )


def decision_map(probs: np.ndarray) -> np.ndarray:
    """Probabilities [side * side, 3] over `toy_grid` to a picture [side, side, 3] uint8, pale where they are unsure."""
    colours = np.array([to_rgb(CLASS_COLOURS[name]) for name in CLASSES])
    winner = probs.argmax(axis=1)
    strength = 0.15 + 0.45 * (probs.max(axis=1) - 1 / 3) * 1.5
    picture = 1 - strength[:, None] * (1 - colours[winner])
    side = round(len(probs) ** 0.5)
    return (255 * picture).astype(np.uint8).reshape(side, side, 3)


def toy_boundaries(fits: "ToyFits", names: Sequence[str], *, step: int, columns: int = 5) -> Figure:
    """Every loss's decisions over the toy, and where the truth's change.

    In a corner its macro F1 and its balanced accuracy (BA) on new cells.

    Args:
        fits: of the toy.
        names: losses, a panel each.
        step: which state of the training.
        columns: of panels.
    """
    rows = -(-len(names) // columns)
    with panels(columns, rows=rows, height_in=2.75 * rows) as (figure, axes):
        for i, (ax, name) in enumerate(zip(axes, names, strict=False)):
            _draw_toy(ax, fits, name, step)
            ax.set_title(readable(name), fontsize=10.5)
            words = f"F1 {fits.scores[name][step]:.2f}\nBA {fits.balanced[name][step]:.2f}"
            ax.text(0.97, 0.03, words, transform=ax.transAxes, ha="right", fontsize=11)
            ax.set(xlabel=_X if i // columns == rows - 1 else "", ylabel=_Y if i % columns == 0 else "")
            ax.xaxis.label.set_size(10.5)
            ax.yaxis.label.set_size(10.5)
        for ax in axes[len(names) :]:
            ax.set_visible(False)
    return figure


def _draw_toy(ax: Axes, fits: "ToyFits", name: str, step: int) -> None:
    ax.grid(False)
    picture = decision_map(fits.maps[name][step])
    ax.imshow(picture, origin="lower", extent=EXTENT, aspect="auto", interpolation="nearest")
    for k, label in enumerate(CLASSES):
        ax.plot(*fits.x[fits.targets == k].T, ".", color=CLASS_COLOURS[label], ms=6, mec="white", mew=0.4)
    ax.plot(*_edges(fits.truth), ".", color=BLACK, ms=1.4)
    ax.set(xlim=EXTENT[:2], ylim=EXTENT[2:])


def toy_explorer(
    fits: "Callable[[float], ToyFits]",
    names: Sequence[str],
    *,
    majorities: Sequence[float],
    recorded: Sequence[float],
    every: int,
) -> KernelPictures:
    """`toy_boundaries` with sliders for the majority and the step of training; the kernel trains what it has not.

    Pages without a kernel show `toy_frames` of some of it.

    Args:
        fits: majority -> fits of the toy.
        names: losses, a picture each.
        majorities: that the slider can stand at.
        recorded: majorities that `toy_frames` has.
        every: steps of the optimiser between two states of the fits.
    """
    draw = _toy_drawer()

    def drawing(majority: float, step: int) -> list[Picture]:
        fit = fits(majority)
        return [Picture(readable(name), *draw(fit, name, step // every)) for name in names]

    n_states = len(next(iter(fits(_nearest(majorities)).scores.values())))
    states = sorted({0, n_states // 12, n_states // 4, n_states // 2, n_states - 1})
    frames = toy_frames(fits, names, majorities=recorded, states=states, every=every)
    controls = _toy_controls(majorities, [every * state for state in range(n_states)])
    return KernelPictures(drawing, controls, without_kernel=frames)


def toy_frames(
    fits: "Callable[[float], ToyFits]",
    names: Sequence[str],
    *,
    majorities: Sequence[float],
    states: Sequence[int],
    every: int,
) -> Explorer:
    """`toy_boundaries` as recorded pictures, for a page without a kernel.

    Args:
        fits: majority -> fits of the toy.
        names: losses, a panel each.
        majorities, states: that are recorded.
        every: steps of the optimiser between two states.
    """
    drawn, draw = [], _toy_drawer()
    for name in names:
        rows = []
        for majority, state in product(majorities, states):
            words, file = draw(fits(majority), name, state)
            picture = "data:image/webp;base64," + base64.b64encode(file).decode("ascii")
            rows.append({"majority": majority, "step": every * state, "picture": picture, "words": words})
        base = alt.Chart(alt.Data(values=rows)).transform_filter("datum.majority == majority && datum.step == step")
        sides = {side: alt.ExprRef(side) for side in ("width", "height")}
        middle = {place: alt.value({"expr": f"{side} / 2"}) for place, side in (("x", "width"), ("y", "height"))}
        picture = base.mark_image(**sides, aspect=False).encode(url="picture:N", **middle)
        words = base.mark_text(fontSize=13, fill="currentColor", align="left", baseline="bottom", dy=-4)
        words = words.encode(text="words:N", x=alt.value(0), y=alt.value(0))
        drawn.append(alt.layer(picture, words, title=alt.Title(readable(name), offset=20)))
    words = "The decisions of a small model over two measurements of toy cells, a picture for each loss."
    steps = [every * state for state in states]
    best = [_best_losses(fits(majority), names, state) for majority, state in product(majorities, states)]
    place = f"indexof({list(majorities)}, majority) * {len(steps)} + indexof({steps}, step)"
    return Explorer(
        "toy-losses",
        words,
        _toy_controls(majorities, steps),
        drawn,
        f"{json.dumps(best)}[{place}]",
        heading=f"SIMULATED: {TOY_CELLS}",
        caption="Across: toy measurement 1. Up: toy measurement 2. Dots: training cells. Orange-red is codocyte, blue "
        "hypochromia, green normal, and the background is what the model says. Black dots: where the true posterior "
        "changes its mind.",
    )


def _best_losses(fits: "ToyFits", names: Sequence[str], state: int) -> str:
    """Which of the losses *names* has the highest scores at that state of the training, in a sentence."""
    parts = []
    for score, table in (("macro F1", fits.scores), ("balanced accuracy", fits.balanced)):
        best = max(names, key=lambda name: table[name][state])
        parts.append(f"{score}: {readable(best)}, {table[best][state]:.2f}")
    return f"The highest {'; the highest '.join(parts)}."


def _toy_controls(majorities: Sequence[float], steps: Sequence[int]) -> list[Control]:
    return [
        Control("majority", "share of majority", list(majorities), _nearest(majorities), percent=True),
        Control("step", "step of training", list(steps), steps[-1]),
    ]


def _nearest(majorities: Sequence[float]) -> float:
    """The one that is nearest to the paper's."""
    return min(majorities, key=lambda share: abs(share - _PAPER_MAJORITY))


def _toy_drawer(side_px: int = 220) -> "Callable[[ToyFits, str, int], tuple[str, bytes]]":
    """A function of fits, loss and state: the scores in words, and what `toy_boundaries` shows, as a WebP file."""
    with rc():
        figure = Figure(figsize=(side_px / 100, side_px / 100), dpi=100)
        ax = figure.add_axes((0, 0, 1, 1))

    def draw(fit: "ToyFits", name: str, state: int) -> tuple[str, bytes]:
        ax.clear()
        with rc():
            _draw_toy(ax, fit, name, state)
        ax.axis("off")
        stream = io.BytesIO()
        figure.savefig(stream, format="webp", pil_kwargs={"quality": 60})
        return f"F1 {fit.scores[name][state]:.2f}, BA {fit.balanced[name][state]:.2f}", stream.getvalue()

    return draw


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
