"""The lesson's drawings that are plain arithmetic: explorers, which a browser computes and draws.

The explorers' formulas are Vega's expressions (`rbcnb.plotting.explorers`). Tests hold them, in a browser, against the
Python functions that their docstrings name.
"""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import altair as alt
import matplotlib as mpl
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from rbcnb.columns import readable
from rbcnb.evaluation.winners_curse import NODES, WEIGHTS
from rbcnb.paper import load_spread
from rbcnb.plotting.explorers import Axis, Control, Curve, Explorer, number, panel, percent, sentence, steps, switch
from rbcnb.plotting.style import BLUE, GREEN, GREY, ORANGE, VERMILLION, colours_of, new_figure, rc, require

# Read from the back of a room: what rc() suits to a page is a third larger here.
_TEXT = 13
_LARGE = {"axes.labelsize": _TEXT, "axes.titlesize": _TEXT, "font.size": _TEXT, "legend.fontsize": 11.5}
_LARGE |= {"lines.linewidth": 2.4}
RATIOS = {"33:33:33": "1 / 3", "10:10:80, the paper's": "0.8", "1:1:98": "0.98"}  # share of the majority
_DASHED, _DOTTED, _MIXED = (8, 4), (2, 3), (8, 3, 2, 3)
_GAMMA = Axis("focusing parameter γ (no unit)", 0, 6)
_GAMMA_AT = "6 * datum.t"


@contextmanager
def panels(columns: int, *, rows: int = 1, height_in: float = 4.0) -> Iterator[tuple[Figure, list[Axes]]]:
    """A new figure and its axes in the lesson's sizes, for what is drawn inside the context."""
    with rc(), mpl.rc_context(_LARGE):
        figure, axes = new_figure(10.0, height_in, rows, columns)
        for ax in axes.flat:
            ax.tick_params(labelsize=11.5)
        yield figure, list(axes.flat)


def _loss(p: str, gamma: str = "gamma") -> str:
    """`rbcnb.losses.focal_curves.focal_curve` at alpha 1."""
    return f"(pow(1 - {p}, {gamma}) * -log({p}))"


def _gradient(p: str, gamma: str = "gamma") -> str:
    """`rbcnb.losses.focal_curves.focal_gradient` at alpha 1."""
    return f"(pow(1 - {p}, {gamma}) * (1 - {p} - {gamma} * {p} * log({p})))"


def loss_terms(*, alpha: float = 1.0, gamma: float = 2.0) -> Explorer:
    """What one cell costs and how hard it pulls, by its p_t, beside cross entropy.

    As `rbcnb.losses.focal_curves` has them: `focal_curve`, `focal_gradient`, `modulating_factor`. Each argument is
    where its slider starts.

    Args:
        alpha: weight of the loss, 0.25 to 1.75.
        gamma: focusing, 0 to 5.
    """
    p = "(datum.t < 0.3 ? 1e-4 * pow(500, datum.t / 0.3) : 0.05 + 0.95 * (datum.t - 0.3) / 0.7)"  # dense near 0

    def scaled(value: str, axis: str) -> str:
        return f"{axis} ? log(max({value}, 1e-9)) / LN10 : {value}"

    def labels(axis: str) -> str:
        return f"{axis} ? format(pow(10, datum.value), '~g') : datum.label"

    x = Axis(
        "p_t of the true class (0 to 1)",
        "log_p_t ? -4 : 0",
        "log_p_t ? 0 : 1",
        values="log_p_t ? [-4, -3, -2, -1, 0] : [0, 0.2, 0.4, 0.6, 0.8, 1]",
        labels=labels("log_p_t"),
    )
    terms = {
        "loss (nats)": (f"alpha * {_loss(p)}", f"-log({p})", 5),
        "gradient (nats per logit)": (f"alpha * {_gradient(p)}", f"1 - {p}", 2.4),
        "factor (1 - p_t)^γ (no unit)": (f"pow(1 - {p}, gamma)", "1", 1.05),
    }
    drawn = []
    for title, (focal, cross_entropy, top) in terms.items():
        curves = [
            Curve("cross entropy", scaled(p, "log_p_t"), scaled(cross_entropy, "log_y"), VERMILLION, _DASHED),
            Curve("focal loss, yours", scaled(p, "log_p_t"), scaled(focal, "log_y"), BLUE),
        ]
        y = Axis(title, "log_y ? -4 : 0", f"log_y ? 1.3 : {top}", labels=labels("log_y"), room_px=54)
        drawn.append(panel(curves, x, y, legend=not drawn))
    easy, hard = (number(f"alpha * {_loss(at)}", 3) for at in ("0.9", "0.4"))
    return Explorer(
        "loss-terms",
        "Loss, gradient and modulating factor against the probability of the true class: focal loss, cross entropy.",
        [
            steps("alpha", "α", alpha, 0.25, 1.75, 0.25),
            steps("gamma", "γ", gamma, 0, 5, 0.1),
            switch("log_p_t", "p_t on a log axis"),
            switch("log_y", "heights on a log axis"),
        ],
        drawn,
        sentence(
            "A cell at p_t = 0.9 costs {easy} nats (cross entropy: 0.105), one at 0.4 costs {hard} (0.916).",
            easy=easy,
            hard=hard,
        ),
    )


def _shares(cells: str, p_t: tuple[str, str], gamma: str) -> dict[str, str]:
    """Shares of loss and gradient that the first of two groups brings: `rbcnb.losses.focal_curves.group_shares`.

    *cells*: the group's share of the cells; *p_t*: of both groups.
    """
    shares = {}
    for what, of in (("loss", _loss), ("gradient", _gradient)):
        first, second = f"{cells} * {of(p_t[0], gamma)}", f"(1 - {cells}) * {of(p_t[1], gamma)}"
        shares[what] = f"({first} / ({first} + {second}))"
    return shares


def _share_panels(
    lines: Mapping[str, tuple[str, str, Sequence[int]]], p_t: tuple[str, str], whose: str, others: Sequence[Curve] = ()
) -> list[alt.LayerChart]:
    """Against gamma, the shares of loss and gradient that *whose* cells bring; a point on the first line at gamma.

    Args:
        lines: name -> share of the cells, colour, dashes.
        p_t: of these cells and of the others.
        whose: which cells, for the axis.
        others: curves to draw as they are.
    """
    drawn = []
    for what in ("loss", "gradient"):
        curves = [
            Curve(name, _GAMMA_AT, f"100 * {_shares(cells, p_t, f'({_GAMMA_AT})')[what]}", colour, dash)
            for name, (cells, colour, dash) in lines.items()
        ]
        cells, colour, _ = next(iter(lines.values()))
        point = Curve("", "gamma", f"100 * {_shares(cells, p_t, 'gamma')[what]}", colour, mark="point")
        y = Axis(f"share of the {what} (%)", 0, 100)
        drawn.append(panel([*curves, *others, point], _GAMMA, y, legend=not drawn, title=f"{what} from {whose}"))
    return drawn


def loss_budget(*, gamma: float = 2.0, majority: float = 0.8, p_easy: float = 0.9, p_hard: float = 0.4) -> Explorer:
    """A drawing with four sliders: the share of a batch's loss and gradient from the easy majority, against gamma.

    `rbcnb.losses.group_shares` has the same shares. Each argument is where its slider starts.

    Args:
        gamma: focusing.
        majority: share of the batch's cells.
        p_easy, p_hard: p_t of cells of the majority and of rare cells.
    """
    looks = zip(RATIOS.items(), (_DOTTED, _MIXED, _DASHED), strict=True)
    lines = {"yours": ("majority", BLUE, ())} | {name: (cells, GREY, dash) for (name, cells), dash in looks}
    shares = _shares("majority", ("p_easy", "p_hard"), "gamma")
    return Explorer(
        "loss-budget",
        "The share of a batch's loss and gradient that the easy majority brings, against gamma, at four ratios.",
        [
            steps("gamma", "γ", gamma, 0, 6, 0.1),
            steps("majority", "share of majority", majority, 0.34, 0.99, 0.01, percent=True),
            steps("p_easy", "p_t of majority", p_easy, 0.05, 0.99, 0.01),
            steps("p_hard", "p_t of rare cells", p_hard, 0.05, 0.99, 0.01),
        ],
        _share_panels(lines, ("p_easy", "p_hard"), "the easy majority"),
        sentence(
            "The majority is {cells} of the cells and brings {loss} of the loss and {gradient} of the gradient.",
            cells=percent("majority"),
            **{what: percent(share, 1) for what, share in shares.items()},
        ),
    )


def noise_budget(*, gamma: float = 2.0, noise: float = 0.05, p_right: float = 0.9, p_wrong: float = 0.05) -> Explorer:
    """A drawing with four sliders: the share of loss and gradient from wrongly labelled cells, against gamma.

    `rbcnb.losses.group_shares` has the same shares. Each argument is where its slider starts.

    Args:
        gamma: focusing.
        noise: share of the labels that are wrong.
        p_right, p_wrong: p_t of rightly and of wrongly labelled cells.
    """
    flat = Curve("their share of the cells", _GAMMA_AT, "100 * noise", VERMILLION, _DASHED)
    p_t = ("p_wrong", "p_right")
    shares = _shares("noise", p_t, "gamma")
    return Explorer(
        "noise-budget",
        "The share of loss and gradient that wrong labels bring, against gamma, and their share of the cells.",
        [
            steps("gamma", "γ", gamma, 0, 6, 0.1),
            steps("noise", "wrong labels", noise, 0, 0.3, 0.01, percent=True),
            steps("p_right", "p_t if label right", p_right, 0.05, 0.99, 0.01),
            steps("p_wrong", "p_t if label wrong", p_wrong, 0.01, 0.95, 0.01),
        ],
        _share_panels({"their share of loss or gradient": ("noise", BLUE, ())}, p_t, "wrong labels", [flat]),
        sentence(
            "Of the labels {cells} are wrong; they bring {loss} of the loss and {gradient} of the gradient.",
            cells=percent("noise"),
            **{what: percent(share) for what, share in shares.items()},
        ),
    )


def _true(stated: str) -> str:
    """`rbcnb.evaluation.prior_shift.focal_posterior` of two classes, one of which has the probability *stated*."""

    def h(p: str, q: str) -> str:
        return f"({p} * pow({q}, 1 - gamma) / ({q} - gamma * {p} * log({p})))"

    other = f"(1 - {stated})"
    return f"({h(stated, other)} / ({h(stated, other)} + {h(other, stated)}))"


def calibration_map(*, gamma: float = 2.0) -> Explorer:
    """Two classes: what a network that minimises focal loss perfectly says, against the truth (`focal_posterior`).

    Args:
        gamma: focusing, 0 to 6, where the slider starts.
    """
    stated = "(1e-4 + (1 - 2e-4) * datum.t)"
    x = Axis("true probability of the class (0 to 1)", 0, 1)
    truth = Curve("cross entropy: says the truth", "datum.t", "datum.t", VERMILLION, _DASHED)
    heard = Curve("focal loss: sounds less sure", _true(stated), stated, BLUE)
    gap = heard._replace(y=f"{stated} - {_true(stated)}")
    return Explorer(
        "calibration-map",
        "What a network trained with focal loss says against the true probability: nearer to one half for every gamma "
        "above 0.",
        [steps("gamma", "γ", gamma, 0, 6, 0.1)],
        [
            panel([truth, heard], x, Axis("probability it says (0 to 1)", 0, 1)),
            panel([truth._replace(y="0"), gap], x, Axis("said minus true (probability)", -0.4, 0.4), legend=False),
        ],
        sentence(
            "Where the network says 0.8 the truth is {sure}; where it says 0.6 it is {unsure}.",
            sure=number(_true("0.8"), 3),
            unsure=number(_true("0.6"), 3),
        ),
    )


def prior_shift(*, rare_train: float = 0.1, rare_use: float = 0.3, separation: float = 2.0) -> Explorer:
    """One measurement, two classes: where to cut, when the network was trained at one share and is used at another.

    Args:
        rare_train, rare_use: share of rare cells, where the sliders start.
        separation: of the classes, in standard deviations.
    """
    at = "(-4 + 11 * datum.t)"
    hit, false = f"(1 - cumulativeNormal({at}, separation))", f"(1 - cumulativeNormal({at}))"

    def cut(rare: str) -> str:
        # Log odds of rare at x: separation x - separation^2 / 2 + log(rare / majority); a cut is where they are 0.
        return f"(separation / 2 - log({rare} / (1 - {rare})) / separation)"

    cuts = [
        Curve(name, cut(rare), "0", colour, dash, mark="rule")
        for name, rare, colour, dash in (
            ("cut as trained", "rare_train", VERMILLION, _DASHED),
            ("cut after the shift of the prior", "rare_use", "currentColor", _DOTTED),
            ("cut for equal priors", "0.5", GREEN, _MIXED),
        )
    ]
    densities = [
        Curve("majority", at, f"(1 - rare_use) * densityNormal({at})", GREY),
        Curve("rare", at, f"rare_use * densityNormal({at}, separation)", BLUE),
    ]
    f1 = f"2 * rare_use * {hit} / (rare_use * (1 + {hit}) + (1 - rare_use) * {false})"
    scores = [
        Curve("F1 of the rare class", at, f1, BLUE),
        Curve("balanced accuracy", at, f"({hit} + 1 - {false}) / 2", ORANGE, _MIXED),
    ]
    return Explorer(
        "prior-shift",
        "Left: the densities of two classes and three places to cut between them. Right: the score of every cut.",
        [
            steps("rare_train", "rare in training", rare_train, 0.01, 0.99, 0.01, percent=True),
            steps("rare_use", "rare in use", rare_use, 0.01, 0.99, 0.01, percent=True),
            steps("separation", "separation (SD)", separation, 0.5, 4, 0.1),
        ],
        [
            panel([*densities, *cuts], Axis("measurement (SD)", -4, 7), Axis("density in use (per SD)", 0, 0.42)),
            panel([*scores, *cuts], Axis("cut, rare cells above it (SD)", -4, 7), Axis("score (0 to 1)", 0, 1)),
        ],
        sentence(
            "Trained at {train} rare cells it cuts at {old} SD; where {use} are rare, {new} SD is right most often.",
            train=percent("rare_train"),
            old=number(cut("rare_train"), 2),
            use=percent("rare_use"),
            new=number(cut("rare_use"), 2),
        ),
    )


def best_of(*, k: int = 7, sd: float = 0.11) -> Explorer:
    """One run and the best of k equal ones, and the gain of choosing; published gains marked.

    As `rbcnb.evaluation.winners_curse` has them: `expected_best_of`, `chance_of_gain`. Each argument is where its
    slider starts.

    Args:
        k: runs of which the best is chosen, 1 to 20.
        sd: standard deviation of a run's macro F1, 0.01 to 0.2.
    """
    published = load_spread()
    z, gain = "((datum.t - 0.5) / sd)", "(-0.1 + 0.8 * datum.t)"

    def chance(of: str) -> str:
        terms = (
            f"{w:.12g} * pow(cumulativeNormal({n:.12g} + {of} / sd), k)" for n, w in zip(NODES, WEIGHTS, strict=True)
        )
        return f"(1 - ({' + '.join(terms)}))"

    mean = " + ".join(
        f"{w * n:.12g} * pow(cumulativeNormal({n:.12g}), k - 1)" for n, w in zip(NODES, WEIGHTS, strict=True)
    )
    mean = f"(sd * k * ({mean}))"
    runs = [
        Curve("one run", "datum.t - 0.5", f"exp(-pow({z}, 2) / 2)", GREY),
        Curve("best of k", "datum.t - 0.5", f"k * exp(-pow({z}, 2) / 2) * pow(cumulativeNormal({z}), k - 1)", BLUE),
        Curve("mean of the best", mean, "0", BLUE, _DASHED, mark="rule"),
    ]
    chances = [Curve("chance, all being equal", gain, chance(gain), BLUE)]
    for row, colour in zip(published.itertuples(), (GREEN, VERMILLION), strict=True):
        name = f"published, {readable(row.architecture)}: +{row.gain:.2f}"
        chances.append(Curve(name, f"{row.gain:.12g}", "0", colour, _DOTTED, mark="rule"))
        chances.append(Curve("", f"{row.gain:.12g}", chance(f"{row.gain:.12g}"), colour, mark="point"))
    phrases = [
        f"'+{row.gain:.2f} with chance ' + {number(chance(f'{row.gain:.12g}'), 2)}" for row in published.itertuples()
    ]
    words = " + ', ' + ".join(phrases)
    return Explorer(
        "best-of",
        "Left: scores of one run and of the best of k equal ones. Right: the chance that choosing alone gains as much.",
        [steps("k", "k", k, 1, 20, 1), steps("sd", "SD of a run", sd, 0.01, 0.2, 0.01)],
        [
            panel(
                runs,
                Axis("macro F1 above what every run is worth", -0.5, 0.5),
                Axis("density (one run's peak = 1)", 0, 2.2),
            ),
            panel(chances, Axis("gain in macro F1", -0.1, 0.7), Axis("chance of a gain as large (0 to 1)", 0, 1)),
        ],
        sentence(
            "The best of {k} equal runs gains {mean} on average; {chances}.", k="k", mean=number(mean, 3), chances=words
        ),
    )


def loss_share_bars(counts: Mapping[str, int], p_t: Mapping[str, float], *, gamma: float = 2.0) -> Explorer:
    """Which class brings which share of a batch's cells and of its loss: `rbcnb.losses.focal_curves.loss_shares`.

    Args:
        counts: class -> cells of the batch.
        p_t: class -> probability of the true class that its cells have.
        gamma: where the slider starts.
    """
    names = {label: f"{label}: {n} cells at p_t = {p_t[label]:g}" for label, n in counts.items()}
    colours, n_cells = colours_of(counts), sum(counts.values())
    total = " + ".join(f"{n} * {_loss(f'{p_t[label]:g}')}" for label, n in counts.items())
    rows = [
        {"line": line, "name": names[label], "place": place, "n": n, "p": p_t[label]}
        for line in ("cells", "loss")
        for place, (label, n) in enumerate(counts.items())
    ]
    share = f"datum.line == 'cells' ? datum.n / {n_cells} : datum.n * {_loss('datum.p')} / ({total})"
    scale = alt.Scale(domain=list(names.values()), range=[colours[label] for label in counts])
    x = {"title": "share of the batch (%)", "scale": alt.Scale(domain=[0, 100]), "stack": "zero"}
    x["axis"] = alt.Axis(tickCount=6)
    bars = (
        alt.Chart(alt.Data(values=rows))
        .transform_calculate(share=f"100 * ({share})")
        .encode(
            y=alt.Y("line:N", sort=["cells", "loss"], title=None, axis=alt.Axis(grid=False)),
            order="place:Q",
            detail="name:N",
        )
    )
    colour = alt.Color("name:N", scale=scale, legend=alt.Legend(symbolType="square"))
    words = bars.mark_text(color="white", fontSize=13).encode(
        x=alt.X("share:Q", bandPosition=0.5, **x),
        text=alt.condition("datum.share > 4", alt.Text("share:Q", format=".0f"), alt.value("")),
    )
    chart = bars.mark_bar().encode(x=alt.X("share:Q", **x), color=colour) + words
    most = max(counts, key=counts.__getitem__)
    of_most = f"{counts[most]} * {_loss(f'{p_t[most]:g}')} / ({total})"
    return Explorer(
        "loss-shares",
        "Two bars: the share of a batch's cells, and of its loss, that each class brings.",
        [steps("gamma", "γ", gamma, 0, 5, 0.1)],
        [chart],
        sentence(
            f"The {most} cells are {{cells}} of the batch and pay {{loss}} of its loss.",
            cells=percent(f"{counts[most] / n_cells:g}"),
            loss=percent(f"({of_most})", 1),
        ),
    )


def study_answer(contrasts: pd.DataFrame) -> Explorer:
    """What the study found: a method minus cross entropy, for each network, with its 95 % interval.

    Args:
        contrasts: of `rbcnb.study.load_study_answer`: ``architecture``, ``method`` ("focal" or
            "cross_entropy_priors_out"), ``score`` ("macro_f1" or "balanced_accuracy"), ``mean``, ``low`` and ``high``.

    Raises:
        ValueError: a column is missing, there are no rows, or a method or score is another.
    """
    require(contrasts, ["architecture", "method", "score", "mean", "low", "high"], "contrasts")
    scores, methods = ("macro_f1", "balanced_accuracy"), ("focal", "cross_entropy_priors_out")
    rows = contrasts.assign(
        name=contrasts["architecture"].map(readable),
        score=contrasts["score"].map(scores.index),
        method=contrasts["method"].map(methods.index),
    )
    verdicts = []
    for at in ((score, method) for method in (0, 1) for score in (0, 1)):
        some = rows[(rows["score"] == at[0]) & (rows["method"] == at[1])]
        counts = [(some["low"] > 0).sum(), (some["high"] < 0).sum()]
        rest = len(some) - sum(counts)
        verdicts.append(f"Clear gain: {counts[0]} of {len(some)} networks. Clear loss: {counts[1]}. Neither: {rest}.")
    names = list(dict.fromkeys(rows["name"]))
    kept = rows[["name", "score", "method", "mean", "low", "high"]].to_dict("records")
    where = "datum.score == score && datum.method == method"
    base = alt.Chart(alt.Data(values=kept)).transform_filter(where)
    y = alt.Y("name:N", sort=names, title=None, axis=alt.Axis(labelLimit=0, grid=False))
    edge = max(0.04 * math.ceil(abs(value) / 0.04) for value in [*rows["low"], *rows["high"]])
    ticks = [edge * share for share in (-1, -0.5, 0, 0.5, 1)]
    x = {"scale": alt.Scale(domain=[-edge, edge]), "axis": alt.Axis(values=ticks, format="+.2f")}
    line = base.mark_rule(strokeWidth=2.4, color=BLUE)
    line = line.encode(y=y, x=alt.X("low:Q", title="difference in the score (0 to 1)", **x), x2="high")
    point = base.mark_point(filled=True, size=90, opacity=1, color=BLUE).encode(y=y, x=alt.X("mean:Q", **x))
    zero = alt.Chart(alt.Data(values=[{"x": 0}])).mark_rule(color=VERMILLION, strokeDash=list(_DASHED))
    title = (
        "(method ? 'priors divided out' : 'focal loss') + ' minus cross entropy, ' + "
        "(score ? 'balanced accuracy' : 'macro F1')"
    )
    chart = alt.layer(zero.encode(x=alt.X("x:Q", **x)), line, point, title=alt.Title(alt.ExprRef(title)))
    return Explorer(
        "study-answer",
        "The study's differences from plain cross entropy, a network a line, with 95 % intervals and a line at 0.",
        [
            Control("method", "method", [0, 1], 0, names=("focal loss", "priors divided out")),
            Control("score", "score", [0, 1], 0, names=("macro F1", "balanced accuracy")),
        ],
        [chart],
        f"{json.dumps(verdicts)}[score + 2 * method]",
    )
