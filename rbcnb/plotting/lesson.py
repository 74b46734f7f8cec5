"""The lesson's figures that are plain arithmetic: drawings that move under sliders, and two that stand still.

See `rbcnb.plotting.sliders`: ``loss_terms(alpha=1.0, gamma=2.0, ...)`` is a figure, ``explore(loss_terms, ...)`` moves
it.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter
from scipy.special import ndtr

from rbcnb.columns import LABEL, readable
from rbcnb.evaluation.prior_shift import focal_posterior
from rbcnb.evaluation.winners_curse import chance_of_gain, expected_best_of
from rbcnb.losses.focal_curves import focal_curve, focal_gradient, group_shares, modulating_factor
from rbcnb.paper import load_spread
from rbcnb.plotting.sliders import Drawing
from rbcnb.plotting.style import (
    BLACK,
    BLUE,
    CYCLE,
    DASHES,
    GREEN,
    GREY,
    ORANGE,
    VERMILLION,
    colours_of,
    cycle,
    new_figure,
    rc,
    require,
)

# Read from the back of a room: what rc() suits to a page is a third larger here.
_TEXT = 13
_LARGE = {"axes.labelsize": _TEXT, "axes.titlesize": _TEXT, "font.size": _TEXT, "legend.fontsize": 11.5}
_LARGE |= {"lines.linewidth": 2.4}
P_T = np.concatenate([np.geomspace(1e-4, 0.05, 120, endpoint=False), np.linspace(0.05, 1, 280)])
GAMMAS = np.linspace(0, 6, 121)
P_T_NAME = "$p_t$ of the true class (0 to 1)"
RATIOS = (1 / 3, 0.8, 0.98)  # share of the majority: balanced, the paper's 10:10:80, and worse


@contextmanager
def panels(columns: int, *, rows: int = 1, height_in: float = 4.0) -> Iterator[tuple[Figure, list[Axes]]]:
    """A new figure and its axes in the lesson's sizes, for what is drawn inside the context."""
    with rc(), mpl.rc_context(_LARGE):
        figure, axes = new_figure(10.0, height_in, rows, columns)
        for ax in axes.flat:
            ax.tick_params(labelsize=11.5)
        yield figure, list(axes.flat)


@Drawing
def loss_terms() -> tuple[Figure, list, Callable[..., None]]:
    """Loss, gradient and modulating factor against p_t. Values: alpha, gamma, log_p_t, log_y (axes)."""
    terms = {
        "loss (nats)": focal_curve,
        "gradient |dL/d$x_t$| (nats per logit)": focal_gradient,
        "factor $(1 - p_t)^γ$ (no unit)": lambda p_t, gamma, **_: modulating_factor(p_t, gamma=gamma),
    }
    with panels(3) as (figure, axes):
        lines = []
        for ax, (name, of) in zip(axes, terms.items(), strict=True):
            ax.plot(P_T, of(P_T, alpha=1, gamma=0), color=VERMILLION, ls="--", label="cross entropy")
            lines += ax.plot(P_T, of(P_T, alpha=1, gamma=2), color=BLUE, label="focal loss, yours")
            ax.set(xlabel=P_T_NAME, ylabel=name, xlim=(0, 1))
        figure.legend(*axes[0].get_legend_handles_labels(), loc="outside upper left", ncols=2)
    tops = (5.0, 2.4, 1.05)

    def update(*, alpha: float, gamma: float, log_p_t: bool = False, log_y: bool = False) -> None:
        for ax, line, top, of in zip(axes, lines, tops, terms.values(), strict=True):
            line.set_ydata(of(P_T, alpha=alpha, gamma=gamma))
            if (ax.get_xscale() == "log") != log_p_t:
                ax.set_xscale("log" if log_p_t else "linear")
                ax.set_xlim((1e-4, 1) if log_p_t else (0, 1))
            if (ax.get_yscale() == "log") != log_y:
                ax.set_yscale("log" if log_y else "linear")
            ax.set_ylim((1e-4, 20) if log_y else (0, top))

    return figure, lines, update


def _share_axes(axes: list[Axes], whose: str) -> None:
    for ax, what in zip(axes, ("loss", "gradient"), strict=True):
        ax.set(xlim=(GAMMAS[0], GAMMAS[-1]), ylim=(0, 1), xlabel="focusing parameter γ (no unit)")
        ax.set_ylabel(f"share of the total {what} from\n{whose} (%)")
        ax.yaxis.set_major_formatter(PercentFormatter(1, symbol=""))


def _markers(axes: list[Axes]) -> tuple[list, list]:
    """On each axes a point on a curve and the text that reads it off: few letters, for they are what a frame costs."""
    points = [ax.plot(0, 0, "o", color=BLUE, ms=10, clip_on=False)[0] for ax in axes]
    texts = [ax.text(0.97, 0.95, "", transform=ax.transAxes, ha="right", va="top", color=BLUE) for ax in axes]
    return points, texts


@Drawing
def loss_budget() -> tuple[Figure, list, Callable[..., None]]:
    """Share of loss and gradient that easy majority cells bring, against gamma.

    Values: gamma, majority (share of the batch's cells), p_easy and p_hard (p_t of majority and of rare cells).
    """
    with panels(2) as (figure, axes):
        _share_axes(axes, "the easy majority")
        styles = zip(RATIOS, (":", "-.", "--"), ("33:33:33", "10:10:80, the paper's", "1:1:98"), strict=True)
        fixed = [
            [ax.plot(GAMMAS, GAMMAS, ls, color=GREY, lw=1.8, label=name)[0] for ax in axes] for _, ls, name in styles
        ]
        own = [ax.plot(GAMMAS, GAMMAS, color=BLUE, label="yours")[0] for ax in axes]
        points, texts = _markers(axes)
        axes[0].legend(loc="upper right", bbox_to_anchor=(1, 0.82), title="rare : rare : majority")

    def update(*, gamma: float, majority: float, p_easy: float, p_hard: float) -> None:
        p_t = (p_easy, p_hard)
        for lines, share in zip([*fixed, own], (*RATIOS, majority), strict=True):
            for line, shares in zip(lines, group_shares((share, 1 - share), p_t, GAMMAS), strict=True):
                line.set_ydata(shares[:, 0])
        now = group_shares((majority, 1 - majority), p_t, [gamma])
        for point, text, shares in zip(points, texts, now, strict=True):
            point.set_data([gamma], shares[:, 0])
            text.set_text(f"{shares[0, 0]:.1%} from {majority:.0%} of the cells")

    return figure, [*np.ravel(fixed), *own, *points, *texts], update


@Drawing
def noise_budget() -> tuple[Figure, list, Callable[..., None]]:
    """Share of loss and gradient that wrongly labelled cells bring, against gamma.

    Values: gamma, noise (share of labels that are wrong), p_right and p_wrong (p_t where the label is right, or wrong).
    """
    with panels(2) as (figure, axes):
        _share_axes(axes, "wrongly labelled cells")
        own = [ax.plot(GAMMAS, GAMMAS, color=BLUE, label="of loss or gradient")[0] for ax in axes]
        level = [ax.plot(GAMMAS, GAMMAS, "--", color=VERMILLION, label="of cells")[0] for ax in axes]
        points, texts = _markers(axes)
        for text in texts:
            text.set(y=0.3)
        axes[0].legend(loc="center right")

    def update(*, gamma: float, noise: float, p_right: float, p_wrong: float) -> None:
        cells, p_t = (noise, 1 - noise), (p_wrong, p_right)
        for line, flat, shares in zip(own, level, group_shares(cells, p_t, GAMMAS), strict=True):
            line.set_ydata(shares[:, 0])
            flat.set_ydata(np.full_like(GAMMAS, noise))
        for point, text, shares in zip(points, texts, group_shares(cells, p_t, [gamma]), strict=True):
            point.set_data([gamma], shares[:, 0])
            text.set_text(f"{shares[0, 0]:.0%} from {noise:.0%} of the cells")

    return figure, [*own, *level, *points, *texts], update


@Drawing
def calibration_map() -> tuple[Figure, list, Callable[..., None]]:
    """Two classes: what a network that minimises focal loss perfectly says, against the truth. Value: gamma."""
    said = np.linspace(1e-4, 1 - 1e-4, 400)
    both = np.stack([said, 1 - said], axis=1)
    with panels(2) as (figure, axes):
        for ax in axes:
            ax.set(xlim=(0, 1), xlabel="true probability of the class (0 to 1)")
        axes[0].set(ylim=(0, 1), ylabel="probability it says (0 to 1)")
        axes[1].set(ylim=(-0.4, 0.4), ylabel="said minus true (probability)")
        axes[0].plot([0, 1], [0, 1], "--", color=VERMILLION, label="cross entropy: says the truth")
        axes[1].axhline(0, ls="--", color=VERMILLION)
        own = [ax.plot(said, said, color=BLUE, label="focal loss: says less than it knows")[0] for ax in axes]
        back = [ax.plot([], [], "o", color=ORANGE, ms=7, label="the same, mapped back")[0] for ax in axes]
        axes[0].legend(loc="upper left")

    def update(*, gamma: float) -> None:
        true = focal_posterior(both, gamma=gamma)[:, 0]
        own[0].set_data(true, said)
        own[1].set_data(true, said - true)
        known = np.linspace(0.05, 0.95, 13)  # a network that knows these says `heard`, from which the map finds them
        heard = np.interp(known, true, said)
        mapped = focal_posterior(np.stack([heard, 1 - heard], axis=1), gamma=gamma)[:, 0]
        back[0].set_data(known, mapped)
        back[1].set_data(known, mapped - known)

    return figure, [*own, *back], update


@Drawing
def prior_shift() -> tuple[Figure, list, Callable[..., None]]:
    """One measurement, two classes: where to cut, when the network was trained at one share and is used at another.

    Values: rare_train and rare_use (share of rare cells), separation (of the classes, standard deviations).
    """
    x = np.linspace(-4, 7, 500)
    cuts = np.linspace(-4, 7, 240)

    def normal(at: np.ndarray) -> np.ndarray:
        return np.exp(-(at**2) / 2) / np.sqrt(2 * np.pi)

    names = {"F1 of the rare class": BLUE, "balanced accuracy": ORANGE}
    with panels(2) as (figure, axes):
        axes[0].set(xlim=(-4, 7), ylim=(0, 0.42), ylabel="density where it is used (per SD)")
        axes[1].set(xlim=(-4, 7), ylim=(0, 1), ylabel="score (0 to 1)")
        axes[0].set_xlabel("measurement (standard deviations)")
        axes[1].set_xlabel("cut, rare cells above it (SD)")
        densities = [
            axes[0].plot(x, x, color=colour, ls=dash, label=name)[0]
            for name, colour, dash in (("majority", GREY, "-"), ("rare", BLUE, "-"))
        ]
        scores = [
            axes[1].plot(cuts, cuts, color=colour, ls=dash, label=name)[0]
            for (name, colour), dash in zip(names.items(), ("-", "-."), strict=True)
        ]
        kinds = (
            ("cut as trained", VERMILLION, "--"),
            ("cut after the shift of the prior", BLACK, ":"),
            ("cut for equal priors", GREEN, "-."),
        )
        lines = [[ax.axvline(0, color=c, ls=ls, label=name) for ax in axes] for name, c, ls in kinds]
        figure.legend(handles=[*densities, *(pair[0] for pair in lines), *scores], loc="outside upper left", ncols=4)

    def update(*, rare_train: float, rare_use: float, separation: float) -> None:
        densities[0].set_ydata((1 - rare_use) * normal(x))
        densities[1].set_ydata(rare_use * normal(x - separation))
        # log odds of rare at x: separation * x - separation^2 / 2 + log(rare / majority); each cut is where they are 0.
        for pair, rare in zip(lines, (rare_train, rare_use, 0.5), strict=True):
            cut = separation / 2 - np.log(rare / (1 - rare)) / separation
            for line in pair:
                line.set_xdata([cut, cut])
        hit, false = 1 - ndtr(cuts - separation), 1 - ndtr(cuts)
        scores[0].set_ydata(2 * rare_use * hit / (rare_use * (1 + hit) + (1 - rare_use) * false))
        scores[1].set_ydata((hit + 1 - false) / 2)

    return figure, [*densities, *np.ravel(lines), *scores], update


@Drawing
def best_of() -> tuple[Figure, list, Callable[..., None]]:
    """One run and the best of k equal ones, and the gain of choosing; published gains marked. Values: k, sd."""
    x = np.linspace(-0.5, 0.5, 401)
    published = load_spread()
    with rc():
        figure, axes = new_figure(10.4, 4.2, 1, 2)
        left, right = axes[0]
        one = left.fill_between(x, x, color=GREY, alpha=0.35, lw=0)
        (best,) = left.plot(x, x, color=BLUE)
        means = [
            left.axvline(0, ymax=0.8, color=colour, ls=dash, lw=1.4) for colour, dash in ((GREY, "-"), (BLUE, "--"))
        ]
        left.set(xlim=(-0.5, 0.5), ylim=(0, 1.3), yticks=[], title="what a run scores, all equally good")
        left.set(xlabel="macro F1 above what every run is worth", ylabel="density, of its own peak")
        left.legend([one, best, means[1]], ["one run", "best of k", "its mean"], loc="upper left")
        gains = np.linspace(-0.1, 0.7, 161)
        (curve,) = right.plot(gains, gains, color=BLUE)
        marks, colours = [], (BLUE, VERMILLION)
        for (row, colour), height in zip(zip(published.itertuples(), colours, strict=True), (0.93, 0.81), strict=True):
            right.axvline(row.gain, color=colour, lw=1.2, ls=":")
            text = f"published, {readable(row.architecture)}: +{row.gain:.2f}"
            right.text(0.98, height, text, transform=right.transAxes, color=colour, ha="right")
            told = right.text(0.98, height - 0.05, "", transform=right.transAxes, color=colour, ha="right", fontsize=9)
            marks += [(row.gain, told, *right.plot(row.gain, 0, "o", color=colour))]
        right.set(xlim=(-0.1, 0.7), ylim=(0, 1.02), title="best of k against one run of an equal rival")
        right.set(xlabel="gain in macro F1", ylabel="chance of a gain this large or larger")
        said = left.text(0.98, 0.95, "", transform=left.transAxes, ha="right", va="top", color=BLUE)

    def update(*, k: int, sd: float) -> None:
        z = x / sd
        density = np.exp(-(z**2) / 2)
        one.set_data(x, 0, density)
        top = density * ndtr(z) ** (k - 1)
        best.set_ydata(top / top.max())
        gain = expected_best_of(k, sd)
        means[1].set_xdata([gain, gain])
        said.set_text(f"best of {k}: {gain:+.3f} on average")
        curve.set_ydata(chance_of_gain(gains, k, sd))
        for place, told, point in marks:
            chance = float(chance_of_gain(place, k, sd))
            told.set_text(f"equal methods reach it: chance {chance:.2f}")
            point.set_ydata([chance])

    return figure, [one, best, means[1], said, curve, *(part for mark in marks for part in mark[1:])], update


def plot_focal_curves(gammas: Sequence[float] = (0, 0.5, 1, 2, 5)) -> Figure:
    """Fig. 1: focal loss -(1 - p_t)^gamma log p_t, Eq. (4) at alpha 1, against p_t; gamma 0 is cross entropy."""
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
            label = f"γ = {gamma:g}" + (" (cross entropy)" if gamma == 0 else "")
            ax.plot(p_t, focal_curve(p_t, alpha=1.0, gamma=gamma), color=colour, ls=dash, label=label)
        ax.set(xlim=(0, 1), ylim=(0, 5), xlabel="probability of the true class $p_t$", ylabel="loss (nats)")
        ax.set_title("focal loss, α = 1")
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
