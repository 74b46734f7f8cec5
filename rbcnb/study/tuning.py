"""What the folds of a study say about its choices: their curves, and how far the best score flatters itself."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial

import pandas as pd

from rbcnb.columns import readable
from rbcnb.study.protocols import COMPARED, choose_settings, last_epoch_only
from rbcnb.training.trial import Trial, setting_fields


def process_table(trials: Sequence[Trial], chosen: pd.DataFrame) -> pd.DataFrame:
    """Numbers of Fig. 9 for a study: per chosen setting, among how many settings and fold fits it was chosen.

    Args:
        trials: the fold trials of one protocol.
        chosen: the output of `rbcnb.study.choose_settings`. Where a method has several rows (``paper``: one per
            alpha), no choice was made between them on the folds; each keeps its row and counts the trials of its alpha.

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


def settings_at_last_epoch(chosen: pd.DataFrame, tried: Mapping[str, Sequence[Trial]]) -> str:
    """A sentence that names the chosen settings whose best epoch was the last one allowed: more might be better.

    Args:
        chosen: the output of `rbcnb.study.choose_settings`, of all protocols.
        tried: of `rbcnb.study.plan_folds`: how many epochs each network was given.
    """
    free = chosen[~last_epoch_only(chosen)]
    if free.empty:
        return "No epoch was chosen: the learning rate decays to 0, and the last epoch is the answer."
    most = {(trial.protocol, trial.architecture): trial.epochs for trials in tried.values() for trial in trials}
    last = [row.epochs == most[row.protocol, row.architecture] for row in free.itertuples()]
    capped = free[last]
    if capped.empty:
        return "No setting was best at its last epoch."
    names = dict.fromkeys(
        f"{readable(row.method)} ({readable(row.architecture)}, {row.protocol})" for row in capped.itertuples()
    )
    return (
        f"Best at the last epoch allowed, so that more might be better: {', '.join(names)}. "
        "To let them run longer: --set epochs=..., before the test set is opened."
    )


def chosen_curves(curves: pd.DataFrame, chosen: pd.DataFrame) -> pd.DataFrame:
    """Rows of *curves* whose setting is in *chosen*, with ``chosen_epoch`` and ``line`` (legend text).

    All other rows are dropped.

    Args:
        curves: `rbcnb.study.load_curves` of one protocol's fold trials.
        chosen: the output of `rbcnb.study.choose_settings`; a method with several rows (one per alpha under
            ``paper``) has a line for each.
    """
    settings = ["method", *setting_fields(curves)]
    several = chosen["method"].duplicated(keep=False)
    names = chosen["method"].map(readable) + (", α = " + chosen["alpha"].map("{:g}".format)).where(several, "")
    named = _as_in(curves, chosen[settings]).assign(chosen_epoch=chosen["epochs"], line=names)
    return named.merge(curves, on=settings)


def choice_optimism(curves: pd.DataFrame, *, criterion: str) -> pd.DataFrame:
    """The score that the honest choice was made by, and the score of such a choice on folds that it did not use.

    Each fold in turn is left out: setting and epoch are chosen on the others, and scored on it. The difference is what
    choosing the best of many adds by itself (Cawley and Talbot 2010, https://jmlr.org/papers/v11/cawley10a.html).

    Args:
        curves: of one protocol's fold trials, at least three folds.
        criterion: of `rbcnb.study.choose_settings`.

    Returns:
        Per architecture and method: ``on_the_folds``, ``on_folds_left_out`` (means of macro F1), their difference
        ``optimism``, and ``choices``: how many different settings and epochs were chosen, out of one per fold.
    """
    choose = partial(choose_settings, protocol="honest", criterion=criterion)
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
