"""The two protocols as lists of trials: what is tried, how a setting is chosen, what is then fitted for good.

``paper`` (section 4.2 and Table 1): seven alphas of the focal loss, cross entropy alone and on re-sampled cells; the
number of epochs is where the validation loss, averaged over folds, is least; alpha is read off the test set.
``honest``: every method tries equally many settings; setting and epoch are both chosen by macro F1 on the inner folds.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields, replace

import pandas as pd

from rbcnb.columns import CLASSES, CODOCYTE, FOLD, NORMAL, class_names
from rbcnb.paper import TABLE2
from rbcnb.splits import PROTOCOLS, TEST_FRACTION, SplitError
from rbcnb.trial import Trial, expand_grid

METHODS = ("focal", "cross_entropy", "under_sampling", "over_sampling")
SETTINGS = tuple(field.name for field in fields(Trial) if field.name not in (FOLD, "epochs", "seed"))
BASE_RHO = float(TABLE2.loc[TABLE2["total"].idxmax(), "rho"])  # the rung that is the whole data set
EVALUATION_COST = 1 / 3  # of an image in a forward pass, in units of one that is trained on


def protocol_names(protocol: str) -> tuple[str, ...]:
    """ "paper", "honest" or "both" to the protocols to run."""
    if protocol == "both":
        return PROTOCOLS
    if protocol not in PROTOCOLS:
        raise ValueError(f"protocol must be one of {', '.join(PROTOCOLS)} or both, got {protocol!r}")
    return (protocol,)


def method_trial(base: Trial, method: str, *, alpha: float, gamma: float) -> Trial:
    """*base* with the loss and re-sampling of one row of Table 1; alpha and gamma go to the focal loss alone."""
    if method == "focal":
        return replace(base, loss="focal", alpha=alpha, gamma=gamma, resample="none")
    resample = {"cross_entropy": "none", "under_sampling": "under", "over_sampling": "over"}[method]
    return replace(base, loss="cross_entropy", alpha=None, gamma=None, resample=resample)


def candidate_settings(
    base: Trial, *, alphas: Sequence[float], gamma: float, learning_rates: Sequence[float]
) -> list[Trial]:
    """The settings that a protocol tries for one architecture.

    Under ``paper``, focal loss gets seven chances (its alphas) and every rival one. Under ``honest`` the rivals get as
    many: each alpha of the focal loss is answered by a learning rate, the knob that they have.

    Args:
        base: architecture, protocol, seed and epochs (the most that may be chosen).
        alphas: of the focal loss.
        gamma: of the focal loss.
        learning_rates: tried by the other methods under ``honest``.

    Raises:
        ValueError: ``honest`` and the budgets differ.
    """
    focal = expand_grid(method_trial(base, "focal", alpha=1.0, gamma=gamma), alpha=alphas)
    rivals = [method_trial(base, method, alpha=1.0, gamma=gamma) for method in METHODS if method != "focal"]
    if base.protocol == "paper":
        return focal + rivals
    if len(learning_rates) != len(alphas):
        raise ValueError(
            f"{len(alphas)} alphas but {len(learning_rates)} learning rates: under the honest protocol every method "
            "tries equally many settings; make the two lists equally long"
        )
    return focal + [trial for rival in rivals for trial in expand_grid(rival, learning_rate=learning_rates)]


def in_folds(trials: Iterable[Trial], n_folds: int) -> list[Trial]:
    """Each trial once per fold."""
    return [trial for one in trials for trial in expand_grid(one, fold=range(n_folds))]


def choose_settings(curves: pd.DataFrame, *, protocol: str) -> pd.DataFrame:
    """Which settings are fitted for good, and for how many epochs, from the folds' validation curves.

    Args:
        curves: `rbcnb.study.load_curves` of one protocol's fold trials.
        protocol: "paper": each setting at its least mean validation loss. "honest": per architecture and method the
            setting and epoch of the highest mean macro F1; of equals the fewest epochs. Losses are never compared
            between methods.

    Returns:
        One row per chosen setting: ``architecture``, ``method``, the other settings of a `Trial`, ``epochs``, and at
        that epoch the means over folds ``valid_loss`` and ``valid_macro_f1``.
    """
    settings = ["method", *SETTINGS]
    means = curves.groupby([*settings, "epoch"], dropna=False, as_index=False, sort=False)[
        ["valid_loss", "valid_macro_f1"]
    ].mean()
    means = means.rename(columns={"epoch": "epochs"})
    if protocol == "paper":
        best = means.groupby(settings, dropna=False, sort=False)["valid_loss"].idxmin()
    else:
        means = means.sort_values("epochs", kind="stable")
        best = means.groupby(["architecture", "method"], sort=False)["valid_macro_f1"].idxmax()
    chosen = means.loc[best]
    order = chosen["method"].map(METHODS.index)
    return (
        chosen.assign(order=order)
        .sort_values(["architecture", "order", "alpha"], kind="stable")
        .drop(columns="order")
        .reset_index(drop=True)
    )


def chosen_trials(chosen: pd.DataFrame, *, seeds: Sequence[int], rho: float | None = None) -> list[Trial]:
    """The final fits (no fold held out) of chosen settings, each once per seed.

    Args:
        chosen: rows with the ``SETTINGS`` of a `Trial` and ``epochs``, as from `choose_settings` or `best_settings`.
        seeds: the same for every setting, so that methods pair.
        rho: rung of the ladder that the fits are for; None for the whole data set.
    """
    trials = []
    for record in chosen[[*SETTINGS, "epochs"]].drop_duplicates().astype(object).to_dict(orient="records"):
        record = {name: None if pd.isna(value) else value for name, value in record.items()}
        record |= {name: int(record[name]) for name in ("epochs", "batch_size")}
        record |= {"pretrained": bool(record["pretrained"]), "rho": rho}
        trials += [Trial(**record, seed=seed, fold=None) for seed in seeds]
    return trials


def best_settings(results: pd.DataFrame) -> pd.DataFrame:
    """Of each architecture and method, the final fits of the setting with the highest macro F1, averaged over seeds.

    Under ``paper`` this is how alpha was found, on the test set ("run with their optimal hyperparameters"). Under
    ``honest`` one setting per method is left, and this keeps them all.

    Args:
        results: final fits of `rbcnb.study.run_study`, of one protocol.
    """
    by = ["architecture", "method", *(name for name in SETTINGS if name != "architecture"), "epochs"]
    means = results.groupby(by, dropna=False, sort=False)["macro_f1"].transform("mean")
    best = results.assign(mean=means).groupby(["architecture", "method"], sort=False)["mean"].transform("max")
    kept = results[means == best]
    # Of settings that tie exactly, the first: one method, one setting.
    first = kept.groupby(["architecture", "method"], sort=False)[["alpha", "learning_rate"]].transform("first")
    same = (kept["alpha"].isna() | (kept["alpha"] == first["alpha"])) & (
        kept["learning_rate"] == first["learning_rate"]
    )
    return kept[same].reset_index(drop=True)


def process_table(trials: Sequence[Trial], chosen: pd.DataFrame) -> pd.DataFrame:
    """What Fig. 9 tells of a study: per chosen setting, how many settings and fold fits it was chosen among.

    Args:
        trials: the fold trials of one protocol.
        chosen: the output of `choose_settings`; several rows of one method (``paper``: one per alpha) were not chosen
            among on the folds, and stand for themselves.

    Returns:
        ``architecture``, ``method``, ``settings``, ``trials``, ``alpha``, ``epochs``.
    """
    rows = []
    for row in chosen.itertuples():
        rivals = chosen[(chosen["architecture"] == row.architecture) & (chosen["method"] == row.method)]
        among = [trial for trial in trials if (trial.architecture, trial.method) == (row.architecture, row.method)]
        if len(rivals) > 1:
            among = [trial for trial in among if trial.alpha == row.alpha]
        settings = {replace(trial, fold=None) for trial in among}
        facts = {"settings": len(settings), "trials": len(among), "alpha": row.alpha, "epochs": row.epochs}
        rows.append({"architecture": row.architecture, "method": row.method, **facts})
    return pd.DataFrame(rows)


def ladder(available: Mapping[str, int]) -> dict[float, dict[str, int]]:
    """Table 2 for the cells at hand: rho -> class -> cells, shrunk by one factor where there are fewer than published.

    With the paper's three classes and at least its 345, 356 and 2,691 cells the counts are exactly Table 2's. Other
    classes take part by rank: the most frequent one in the place of normal, each other one in that of codocyte.

    Args:
        available: class -> labelled cells.

    Returns:
        One entry per rung; ``BASE_RHO`` names the whole data set, whose counts are the largest. No class falls below 2.

    Raises:
        SplitError: fewer than two classes.
    """
    names = class_names(available)
    if len(names) < 2:
        raise SplitError(f"an imbalance ladder needs two classes, have {dict(available)}; label or add smears")
    majority = NORMAL if NORMAL in names else max(names, key=lambda name: available[name])
    column = {name: NORMAL if name == majority else (name if name in CLASSES else CODOCYTE) for name in names}
    published = TABLE2.set_index("rho")
    whole = {name: int(published.loc[BASE_RHO, column[name]]) for name in names}
    scale = min(1.0, *(available[name] / whole[name] for name in names))
    return {
        float(rho): {name: max(2, round(row[column[name]] * scale)) for name in names}
        for rho, row in published.iterrows()
    }


def images_per_fit(trial: Trial, counts: Mapping[str, int], *, n_folds: int) -> float:
    """Images that a trial takes through the network, in units of one trained on; for estimates before any split exists.

    Args:
        trial: its re-sampling, epochs and fold count.
        counts: class -> cells of the whole data set (dev and test).
        n_folds: folds that the dev cells are divided into.
    """
    dev = {name: n * (1 - TEST_FRACTION) for name, n in counts.items()}
    share = 1.0 if trial.fold is None else 1 - 1 / n_folds
    train = {name: n * share for name, n in dev.items()}
    n_train = {
        "none": sum(train.values()),
        "under": min(train.values()) * len(train),
        "over": max(train.values()) * len(train),
    }[trial.resample]
    watched = 0.0 if trial.fold is None else sum(dev.values()) / n_folds
    return trial.epochs * (n_train + EVALUATION_COST * watched)
