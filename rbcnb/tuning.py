"""What the folds of a study say about its choices: their curves, and how far the best score flatters itself."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from rbcnb.columns import PRIMARY_METHODS
from rbcnb.protocols import CHANGING_LOSSES, COMPARED
from rbcnb.style import DASHES, THIN, colours_of, new_figure, rc, readable, require
from rbcnb.trial import Trial, setting_fields

_PANELS = (("valid_loss", "validation loss"), ("valid_macro_f1", "validation macro F1"))
_LINES = ["line", "method", "fold", "epoch", "chosen_epoch", "valid_loss", "valid_macro_f1"]


def process_table(trials: Sequence[Trial], chosen: pd.DataFrame) -> pd.DataFrame:
    """What Fig. 9 tells of a study: per chosen setting, how many settings and fold fits it was chosen among.

    Args:
        trials: the fold trials of one protocol.
        chosen: the output of `rbcnb.protocols.choose_settings`; several rows of one method (``paper``: one per alpha)
            were not chosen among on the folds, and stand for themselves.

    Returns:
        ``outer``, ``architecture``, ``method``, ``settings``, ``trials``, ``alpha``, ``epochs``.
    """
    rows = []
    for row in chosen.itertuples():
        rivals = chosen[(chosen[COMPARED] == [row.outer, row.architecture, row.method]).all(axis=1)]
        here = (row.outer, row.architecture, row.method)
        among = [trial for trial in trials if (trial.outer, trial.architecture, trial.method) == here]
        if len(rivals) > 1:
            among = [trial for trial in among if trial.alpha == row.alpha]
        settings = {replace(trial, fold=None) for trial in among}
        facts = {"settings": len(settings), "trials": len(among), "alpha": row.alpha, "epochs": row.epochs}
        rows.append({**dict(zip(COMPARED, here, strict=True)), **facts})
    return pd.DataFrame(rows)


def say_capped(chosen: pd.DataFrame, *, epochs: int) -> str:
    """Of which chosen settings the last epoch allowed was the best, so that more epochs might have been better.

    Args:
        chosen: the output of `rbcnb.protocols.choose_settings`.
        epochs: the most that might be chosen.
    """
    free = chosen[~chosen["loss"].isin(CHANGING_LOSSES)]
    capped = free[free["epochs"] == epochs]
    if capped.empty:
        return f"No setting was best at its last epoch, {epochs}."
    names = dict.fromkeys(
        f"{readable(row.method)} ({readable(row.architecture)}, {row.protocol})" for row in capped.itertuples()
    )
    return (
        f"Best at the last epoch allowed, {epochs}, so that more might be better: {', '.join(names)}. "
        "To let them run longer: --set epochs=..., before the test set is opened."
    )


def chosen_curves(curves: pd.DataFrame, chosen: pd.DataFrame) -> pd.DataFrame:
    """The folds' curves of the chosen settings, each with its ``chosen_epoch`` and the name of its ``line``.

    Args:
        curves: `rbcnb.store.load_curves` of one protocol's fold trials.
        chosen: the output of `rbcnb.protocols.choose_settings`; a method with several rows (one per alpha under
            ``paper``) has a line for each.
    """
    settings = ["method", *setting_fields(curves)]
    several = chosen["method"].duplicated(keep=False)
    names = chosen["method"].map(readable) + (", α = " + chosen["alpha"].map("{:g}".format)).where(several, "")
    named = _as_in(curves, chosen[settings]).assign(chosen_epoch=chosen["epochs"], line=names)
    return named.merge(curves, on=settings)


def choice_optimism(curves: pd.DataFrame, choose: Callable[[pd.DataFrame], pd.DataFrame]) -> pd.DataFrame:
    """The score that a choice was made by, and what the same way of choosing scores on folds that it has not seen.

    Each fold in turn is left out: setting and epoch are chosen on the others, and scored on it. The difference is what
    choosing the best of many adds by itself (Cawley and Talbot 2010, https://jmlr.org/papers/v11/cawley10a.html).

    Args:
        curves: of one protocol's fold trials, at least three folds.
        choose: curves to chosen settings, one per architecture and method.

    Returns:
        Per architecture and method: ``on_the_folds``, ``on_folds_left_out`` (means of macro F1), their difference
        ``optimism``, and ``choices``: how many different settings and epochs were chosen, out of one per fold.
    """
    by, settings = ["architecture", "method"], ["method", *setting_fields(curves)]
    unseen = []
    for fold in sorted(curves["fold"].unique()):
        choice = choose(curves[curves["fold"] != fold]).rename(columns={"epochs": "epoch"})[[*settings, "epoch"]]
        unseen.append(_as_in(curves, choice).merge(curves[curves["fold"] == fold], on=[*settings, "epoch"]))
    unseen = pd.concat(unseen, ignore_index=True)
    table = choose(curves).set_index(by)[["valid_macro_f1"]].rename(columns={"valid_macro_f1": "on_the_folds"})
    table["on_folds_left_out"] = unseen.groupby(by)["valid_macro_f1"].mean()
    table["optimism"] = table["on_the_folds"] - table["on_folds_left_out"]
    table["choices"] = unseen.drop_duplicates([*settings, "epoch"]).groupby(by).size()
    return table.reset_index()


def _as_in(curves: pd.DataFrame, settings: pd.DataFrame) -> pd.DataFrame:
    """*settings* in the types of *curves*: grouping makes a column without any value one of objects."""
    return settings.astype(curves[settings.columns].dtypes)


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
            name, _, outer = protocol.partition("_")  # as `rbcnb.splits.outer_splits` names splits
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
