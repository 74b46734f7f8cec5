"""The lesson's drawings that are plain arithmetic: each is a figure of its values, and moves under sliders.

See `rbcnb.live.Drawing`: ``loss_terms(alpha=1.0, gamma=2.0, ...)`` is a figure, ``explore(loss_terms, ...)`` moves it.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter
from scipy.special import ndtr

from rbcnb.curves import focal_curve, focal_gradient, group_shares, modulating_factor
from rbcnb.live import Drawing
from rbcnb.priors import focal_posterior
from rbcnb.style import BLACK, BLUE, GREEN, GREY, ORANGE, VERMILLION, new_figure, rc

# Read from the back of a room: what rc() suits to a page is a third larger here.
_TEXT = 13
_LARGE = {"axes.labelsize": _TEXT, "axes.titlesize": _TEXT, "font.size": _TEXT, "legend.fontsize": 11.5}
_LARGE |= {"lines.linewidth": 2.4}
P_T = np.concatenate([np.geomspace(1e-4, 0.05, 120, endpoint=False), np.linspace(0.05, 1, 280)])
GAMMAS = np.linspace(0, 6, 121)
P_T_NAME = "$p_t$ of the true class (0 to 1)"
RATIOS = (1 / 3, 0.8, 0.98)  # share of the majority: balanced, the paper's 10:10:80, and worse


@contextmanager
def panels(
    columns: int, *, rows: int = 1, height_in: float = 4.0, width_in: float = 10.0
) -> Iterator[tuple[Figure, list[Axes]]]:
    """A new figure and its axes in the lesson's sizes, for what is drawn inside the context."""
    with rc(), mpl.rc_context(_LARGE):
        figure, axes = new_figure(width_in, height_in, rows, columns)
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
