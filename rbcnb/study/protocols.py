"""The two protocols as lists of trials: what is tried, how a setting is chosen, what is then fitted for the test.

``paper`` (section 4.2 and Table 1): seven alphas of the focal loss, cross entropy alone and on re-sampled cells; the
number of epochs is where the validation loss, averaged over folds, is least; alpha is read off the test set.
``honest``: every method tries equally many settings, its plain one at every learning rate first; the setting is chosen
by macro F1 or likelihood on the inner folds. The rate decays to 0, so that the last epoch is the answer; at a constant
rate the epoch is chosen with the setting.
"""

import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields, replace
from typing import Any

import numpy as np
import pandas as pd

from rbcnb._utils.errors import InputError
from rbcnb._utils.read_files import shown
from rbcnb.training.splits import PROTOCOLS, TEST_FRACTION, split_name
from rbcnb.training.trial import ALL_CELLS, RESAMPLING, SMOOTHED_LOSSES, Trial, expand_grid, setting_fields

METHODS = ("focal", "cross_entropy", "under_sampling", "over_sampling")  # of Table 1
# What the paper did not try. "balanced_softmax" is "logit_adjustment" at the tau of 1 that is fitted here.
RIVALS = (
    "over_sampling_equal_steps",
    "weighted_cross_entropy",
    "class_balanced",
    "ldam",
    "ldam_drw",
    "balanced_softmax",
    "logit_adjustment",
    "generalised_dice",
)
_LOSSES = ("focal", "cross_entropy", *RIVALS[1:])  # of rbcnb.losses.LOSSES, which would bring torch along
# By which a setting and its epoch are chosen on the folds; a loss is no criterion, since each has its own scale.
CRITERIA = {"macro_f1": "valid_macro_f1", "likelihood": "valid_ce"}
# Losses that change in the course of a fit, at a share of its epochs: a fold's earlier epochs are those of another loss
# than a shorter fit would end with, so that only its last one tells what a fit of as many epochs gives.
CHANGING_LOSSES = frozenset({"ldam_drw"})
COMPARED = ["outer", "architecture", "method"]  # within which one setting is chosen
EVALUATION_COST = 1 / 3  # of an image in a forward pass, in units of one that is trained on


def method_trial(base: Trial, method: str, *, alpha: float, gamma: float) -> Trial:
    """*base* with a method's loss and re-sampling; alpha and gamma go to the focal loss alone.

    A method is a row of Table 1, a loss of the registry, or both: "ldam", "over_sampling", "ldam_over_sampling".

    Raises:
        ValueError: no such method.
    """
    loss, resample = method, "none"
    for name, suffix in RESAMPLING.items():
        if suffix and method == suffix:
            loss, resample = "cross_entropy", name
        elif suffix and method.endswith(f"_{suffix}"):
            loss, resample = method.removesuffix(f"_{suffix}"), name
    if loss not in _LOSSES:
        raise InputError(f"unknown method {shown(method)}; known: {', '.join((*METHODS, *RIVALS))}")
    knobs = {"alpha": alpha, "gamma": gamma} if loss == "focal" else {"alpha": None, "gamma": None}
    return replace(base, loss=loss, resample=resample, label_smoothing=0.0, **knobs)


def method_rank(method: str) -> int:
    """Where a method stands in tables: Table 1's in its order, then the rivals, then others."""
    known = (*METHODS, *RIVALS)
    return known.index(method) if method in known else len(known)


def protocol_names(protocol: str) -> tuple[str, ...]:
    """The words "paper", "honest" or "both" to the protocols to run.

    Args:
        protocol: one of these words.

    Raises:
        InputError: it is another.
    """
    if protocol == "both":
        return PROTOCOLS
    if protocol not in PROTOCOLS:
        raise InputError(f"protocol must be one of {', '.join(PROTOCOLS)} or both, got {shown(protocol)}")
    return (protocol,)


def settings_of(base: Trial, values: Mapping[str, Any]) -> list[Trial]:
    """What the protocol of *base* tries for its architecture.

    ``paper`` (section 4.2): focal loss once per alpha, each rival once. ``honest``: equally many settings per method at
    the same rates. The learning rate matters to every method, so all go through ``learning_rates`` in turn: first with
    the method's plain setting (focal loss alpha 1 and gamma 2; no label smoothing, no weight decay), then, where there
    are more tries than rates, with settings that are drawn, none twice at a rate: a weight decay, label smoothing for
    the losses that take it (cross entropy and focal loss), alpha and gamma for focal loss. What a method tries does not
    depend on which other methods are tried. Those in ``first_split_methods`` are tried on the first outer split alone.

    Args:
        base: architecture, protocol, outer split, seed (of the draw, too), learning rate and epochs.
        values: parameters of notebook 04 by name: ``methods``, ``alphas``, and ``gamma`` (``paper``) or ``n_tries``,
            ``learning_rates``, ``weight_decays``, ``gammas``, ``label_smoothings``, ``schedule``, ``augment`` and
            ``first_split_methods`` (``honest``).

    Raises:
        ValueError: there are fewer different settings than tries, or ``first_split_methods`` has one that is not tried.
    """
    if base.protocol == "paper":
        return [trial for method in values["methods"] for trial in _paper_tries(base, method, values)]
    if unknown := set(values["first_split_methods"]) - set(values["methods"]):
        raise InputError(
            f"first_split_methods: {', '.join(sorted(unknown))} is not among methods; add it, or take it out"
        )
    base = replace(base, schedule=values["schedule"], augment=values["augment"])
    methods = [method for method in values["methods"] if not base.outer or method not in values["first_split_methods"]]
    return [trial for method in methods for trial in _honest_tries(base, method, values)]


def _paper_tries(base: Trial, method: str, values: Mapping[str, Any]) -> list[Trial]:
    trial = method_trial(base, method, alpha=1.0, gamma=values["gamma"])
    return expand_grid(trial, alpha=values["alphas"]) if trial.loss == "focal" else [trial]


def _honest_tries(base: Trial, method: str, values: Mapping[str, Any]) -> list[Trial]:
    plain = method_trial(base, method, alpha=1.0, gamma=2.0)
    knobs = {"weight_decay": values["weight_decays"]}
    if plain.loss in SMOOTHED_LOSSES:
        knobs["label_smoothing"] = values["label_smoothings"]
    if plain.loss == "focal":
        knobs |= {"alpha": values["alphas"], "gamma": values["gammas"]}
    others = [trial for trial in expand_grid(plain, **knobs) if trial != plain]
    rates, n_tries = values["learning_rates"], values["n_tries"]
    if n_tries > (1 + len(others)) * len(rates):
        raise InputError(
            f"{n_tries} tries per method, but {method} has {(1 + len(others)) * len(rates)} different settings; "
            "lower n_tries or give more values to try"
        )
    rng = np.random.default_rng([base.seed, base.outer, zlib.crc32(method.encode())])
    drawn = [[plain, *(others[i] for i in rng.permutation(len(others)))] for _ in rates]
    tries = []
    for i in range(n_tries):
        place, which = divmod(i, len(rates))
        tries.append(replace(drawn[which][place], learning_rate=rates[which]))
    return tries


def in_folds(trials: Iterable[Trial], n_folds: int) -> list[Trial]:
    """Each trial once per fold."""
    return [in_fold for trial in trials for in_fold in expand_grid(trial, fold=range(n_folds))]


def plan_folds(places: Mapping[str, tuple[str, int]], values: Mapping[str, Any]) -> dict[str, list[Trial]]:
    """Notebook 04's fits on folds: per outer split every setting that its protocol tries, once per fold.

    Args:
        places: of `rbcnb.training.outer_splits`.
        values: parameters of notebook 04 by name.
    """
    shared = {name: values[name] for name in ("learning_rate", "batch_size", "pretrained", "seed", "precision")}
    plan = {}
    for name, (protocol, outer) in places.items():
        settings = []
        for architecture in values["architectures"]:
            epochs = (architecture == "small" and values["small_epochs"]) or values["epochs"]
            base = Trial(architecture=architecture, protocol=protocol, outer=outer, epochs=epochs, **shared)
            settings += settings_of(base, values)
        plan[name] = in_folds(settings, values["n_folds"])
    return plan


def choose_settings(curves: pd.DataFrame, *, protocol: str, criterion: str = "macro_f1") -> pd.DataFrame:
    """Which settings are fitted for the test, and for how many epochs, from the folds' validation curves.

    A setting whose loss (`CHANGING_LOSSES`) or learning rate (any schedule but "constant") changes during a fit is
    judged at its folds' last epoch alone: an earlier one does not show what a shorter fit would give.

    Args:
        curves: `rbcnb.study.load_curves` of one protocol's fold trials.
        protocol: "paper": each setting at its least mean validation loss. "honest": per outer split, architecture and
            method the setting and epoch that are best by *criterion*; of equals the fewest epochs. Losses are never
            compared between methods.
        criterion: of the honest choice, means over folds: the highest "macro_f1", or the highest "likelihood" of the
            labels, which is the least plain cross entropy, whatever loss was trained with.

    Returns:
        One row per chosen setting: ``architecture``, ``method``, the other settings of a `Trial`, ``epochs``, and at
        that epoch the means over folds ``valid_loss``, ``valid_ce`` and ``valid_macro_f1``.

    Raises:
        InputError: *criterion* is unknown, or every setting of a method failed on some fold.
    """
    if criterion not in CRITERIA:
        raise InputError(f"criterion must be one of {', '.join(CRITERIA)}, got {shown(criterion)}")
    settings = ["method", *setting_fields(curves)]
    grouped = curves.groupby([*settings, "epoch"], dropna=False, sort=False)
    means = grouped[["valid_loss", "valid_ce", "valid_macro_f1"]].mean().assign(n_folds=grouped.size()).reset_index()
    # A fit that diverged left no curve: its setting is out, rather than judged by the folds that went well.
    means = means[means["n_folds"] == curves["fold"].nunique()].drop(columns="n_folds")
    compared, left = (set(map(tuple, table[COMPARED].to_numpy())) for table in (curves, means))
    if missing := sorted(
        f"{method} ({architecture}, outer split {outer})" for outer, architecture, method in compared - left
    ):
        raise InputError(f"no setting of {', '.join(missing)} came through on every fold; lower its learning rate")
    means = means.rename(columns={"epoch": "epochs"})
    # Of its own setting: networks are given different numbers of epochs.
    last = means.groupby(settings, dropna=False)["epochs"].transform("max")
    means = means[~last_epoch_only(means) | (means["epochs"] == last)]
    if protocol == "paper":
        best = means.groupby(settings, dropna=False, sort=False)["valid_loss"].idxmin()
    else:
        means = means.sort_values("epochs", kind="stable")
        score = means[CRITERIA[criterion]] * (-1 if criterion == "likelihood" else 1)
        best = score.groupby([means[name] for name in COMPARED], sort=False).idxmax()
    chosen = means.loc[best]
    order = chosen["method"].map(method_rank)
    return (
        chosen.assign(order=order)
        .sort_values(["outer", "architecture", "order", "alpha"], kind="stable")
        .drop(columns="order")
        .reset_index(drop=True)
    )


def last_epoch_only(settings: pd.DataFrame) -> pd.Series:
    """Of which rows of settings the last epoch alone counts, bool; see `choose_settings`."""
    changing = settings["loss"].isin(CHANGING_LOSSES)
    return changing | (settings["schedule"] != "constant") if "schedule" in settings else changing


def chosen_trials(chosen: pd.DataFrame, *, seeds: Sequence[int], dev_counts: str = ALL_CELLS) -> list[Trial]:
    """The final fits (no fold held out) of chosen settings, each once per seed.

    Args:
        chosen: rows with `rbcnb.training.setting_fields` and ``epochs``, as from `choose_settings` or `best_settings`.
        seeds: the same for every setting, so that methods pair.
        dev_counts: rung of the ladder that the fits are for, see `Trial`.
    """
    trials, defaults = [], {field.name: field.default for field in fields(Trial)}
    for record in (
        chosen[[*setting_fields(chosen), "epochs"]].drop_duplicates().astype(object).to_dict(orient="records")
    ):
        record = {name: defaults[name] if pd.isna(value) else value for name, value in record.items()}
        record |= {name: int(record[name]) for name in ("epochs", "batch_size", "outer")}
        record |= {"pretrained": bool(record["pretrained"]), "dev_counts": dev_counts}
        trials += [Trial(**record, seed=seed, fold=None) for seed in seeds]
    return trials


def plan_final(choices: pd.DataFrame, *, seed: int, n_seeds: int) -> dict[str, list[Trial]]:
    """Notebook 05's final fits: per outer split what was chosen for it, honest ones once per seed, the paper's once.

    Args:
        choices: of `choose_settings`, of all splits.
        seed: the first one.
        n_seeds: of the honest protocol, the same for every setting.

    Returns:
        Name of the outer split (`rbcnb.training.outer_splits`) -> its fits.
    """
    seeds = {"paper": [seed], "honest": range(seed, seed + n_seeds)}
    return {
        split_name(protocol, outer): chosen_trials(rows, seeds=seeds[protocol])
        for (protocol, outer), rows in choices.groupby(["protocol", "outer"], sort=False)
    }


def best_settings(results: pd.DataFrame) -> pd.DataFrame:
    """Of each architecture and method, the final fits of the setting with the highest macro F1, averaged over seeds.

    Under ``paper`` this is how alpha was found, on the test set ("run with their optimal hyperparameters"). Under
    ``honest`` one setting per method and outer split is left, and this keeps them all.

    Args:
        results: final fits of `rbcnb.study.run_study`, of one protocol.
    """
    by = [*COMPARED, *(name for name in setting_fields(results) if name not in COMPARED), "epochs"]
    settings = results.groupby(by, dropna=False, sort=False)
    # Of settings that tie exactly, the first: one method, one setting.
    ranked = results.assign(number=settings.ngroup(), mean=settings["macro_f1"].transform("mean"))
    first = ranked.sort_values(["mean", "number"], ascending=[False, True]).groupby(COMPARED)["number"].first()
    mine = pd.MultiIndex.from_frame(results[COMPARED])
    return results[ranked["number"].to_numpy() == first.loc[mine].to_numpy()].reset_index(drop=True)


def images_per_fit(trial: Trial, counts: Mapping[str, int], *, n_folds: int) -> float:
    """Images that a trial takes through the network, in units of one trained on; for estimates before any split exists.

    Args:
        trial: its re-sampling, rung, epochs and fold count.
        counts: class -> cells of the whole data set (dev and test).
        n_folds: folds that the dev cells are divided into.
    """
    dev = {name: n * (1 - TEST_FRACTION) for name, n in counts.items()}
    if trial.dev_counts != ALL_CELLS:
        dev = dict(enumerate(map(int, trial.dev_counts.split("/"))))
    share = 1.0 if trial.fold is None else 1 - 1 / n_folds
    train = {name: n * share for name, n in dev.items()}
    n_train = {
        "none": sum(train.values()),
        "under": min(train.values()) * len(train),
        "over": max(train.values()) * len(train),
        "over_equal": sum(train.values()),
    }[trial.resample]
    watched = 0.0 if trial.fold is None else sum(dev.values()) / n_folds
    return trial.epochs * (n_train + EVALUATION_COST * watched)
