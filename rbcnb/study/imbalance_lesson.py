"""What a class can see of imbalance in minutes: four ways with rare classes, on the highest rung of the ladder.

Cross entropy, focal loss, balanced softmax, and cross entropy with its priors divided out, for which nothing is trained
again. By two scores: macro F1 where the classes are as rare as in training, and balanced accuracy. Focal loss's
probabilities with priors divided out, naively and after they were mapped back to a posterior. And the limit: a network
so sure of itself that dividing changes little.

All settings are fixed beforehand and nothing is chosen by what comes out. Every outer split is tested, each smear once,
since the test smears of one are too few to see a loss of macro F1.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from rbcnb.columns import PRED, class_names, classes_of_predictions, prob_columns, readable
from rbcnb.evaluation.inference import confusion_stack, paired_difference, weighted_score
from rbcnb.evaluation.prior_shift import BALANCED, NATURAL, class_shares, shift_predictions
from rbcnb.study.ladder import dev_rungs
from rbcnb.study.ledger import Entry, entry_of
from rbcnb.study.protocols import method_trial
from rbcnb.study.store import load_predictions, predictions_by_method
from rbcnb.training.splits import assign_splits
from rbcnb.training.trial import Trial, expand_grid

LESSON = "imbalance lesson"
NETWORK = "small"
BASELINE = "cross_entropy"
GAMMA = 2.0  # of focal loss; its alpha, one for all classes, is 1
# Small batches: with 17 cells of a rare class a network needs many steps.
SETTINGS = {"learning_rate": 3e-3, "batch_size": 16, "augment": "flips_turns", "schedule": "cosine"}
# The network of the limit: a constant rate and always the same pictures, SURE_FACTOR times as long.
SURE_SETTINGS = SETTINGS | {"augment": "none", "schedule": "constant"}
SURE_FACTOR = 3
SURE_SHARE = 1 / 3  # of the rung's cells that it is trained on
SURE = 0.99  # the probability above which a call counts as sure
DECAYED, OVER_CONFIDENT = "decayed", "over-confident"  # which training
NONE, DIVIDED, MAPPED = "none", "priors divided out", "mapped back, priors divided out"
MACRO_F1, BALANCED_ACCURACY = "macro_f1", "balanced_accuracy"


@dataclass(frozen=True)
class Way:
    """A row of the lesson: which fits, what is done to their probabilities, and what they are compared with."""

    training: str
    method: str
    correction: str = NONE
    against: tuple[str, str] = (BASELINE, NONE)  # method and correction, of the same training


def lesson_splits(cells: pd.DataFrame, *, seed: int, n_outer: int) -> dict[int, pd.DataFrame]:
    """The honest protocol's outer splits of the labelled *cells*, by number; together they test every smear once."""
    how = {"protocol": "honest", "seed": seed, "n_folds": None, "n_outer": n_outer}
    return {outer: assign_splits(cells, outer=outer, **how) for outer in range(n_outer)}


def plan_lesson(
    splits: Mapping[int, pd.DataFrame], rungs: Mapping[float, Mapping[str, int]], values: Mapping[str, Any]
) -> dict[int, list[Trial]]:
    """The lesson's fits per outer split: each method once per seed on the highest rung, and the over-confident network.

    Args:
        splits: of `lesson_splits`.
        rungs: rho -> class -> cells of the rung, out of the whole data set.
        values: parameters of notebook 06 by name: ``imbalance_methods`` (beside cross entropy), ``imbalance_seeds``,
            ``imbalance_epochs`` and ``seed``, the first one.
    """
    seeds = range(values["seed"], values["seed"] + values["imbalance_seeds"])
    methods = dict.fromkeys([BASELINE, *values["imbalance_methods"]])
    plan = {}
    for outer, cells in splits.items():
        counts = dev_rungs(cells, rungs)[max(rungs)]
        base = Trial(NETWORK, protocol="honest", outer=outer, dev_counts=_text(counts), **SETTINGS)
        base = method_trial(base, BASELINE, alpha=1.0, gamma=GAMMA)
        trials = [method_trial(base, method, alpha=1.0, gamma=GAMMA) for method in methods]
        fewer = {name: max(2, round(SURE_SHARE * n)) for name, n in counts.items()}
        epochs = values["imbalance_epochs"]
        plan[outer] = [seeded for trial in trials for seeded in expand_grid(trial, epochs=[epochs], seed=seeds)]
        sure = SURE_SETTINGS | {"dev_counts": _text(fewer), "epochs": SURE_FACTOR * epochs}
        plan[outer] += expand_grid(base, **{name: [value] for name, value in sure.items()}, seed=seeds)
    return plan


def _text(counts: Mapping[str, int]) -> str:
    return "/".join(str(counts[name]) for name in class_names(counts))


def lesson_entry(trial: Trial) -> Entry:
    """What the ledger of test sets says of a fit of the lesson.

    Its method is apart from the study's, which chooses settings of its own for the same test cells; another setting of
    the lesson is a second opening.
    """
    return entry_of(trial)._replace(method=f"{LESSON}, {readable(trial.method)}, {trial.schedule} rate")


def lesson_ways(methods: Sequence[str]) -> list[Way]:
    """The rows of the lesson for *methods*, cross entropy first."""
    divided = (BASELINE, DIVIDED)
    ways = [Way(DECAYED, BASELINE)] + [Way(DECAYED, method) for method in methods if method != BASELINE]
    ways.append(Way(DECAYED, *divided))
    if "focal" in methods:
        ways += [Way(DECAYED, "focal", correction) for correction in (DIVIDED, MAPPED)]
        ways.append(Way(DECAYED, "focal", MAPPED, against=("focal", DIVIDED)))
    if "balanced_softmax" in methods:
        ways.append(Way(DECAYED, "balanced_softmax", against=divided))
    return [*ways, Way(OVER_CONFIDENT, BASELINE), Way(OVER_CONFIDENT, *divided)]


def imbalance_lesson(fits: pd.DataFrame, store: str | Path, *, seed: int) -> pd.DataFrame:
    """The lesson's table, from its stored fits.

    Args:
        fits: rows of `rbcnb.study.run_study` for all trials of `plan_lesson`.
        store: that they lie in.
        seed: of the bootstrap over smears.

    Returns:
        One row per way: ``training``, ``method`` and ``correction``; ``against``, what it is compared with, as
        "method, correction"; ``macro_f1``, where classes are as rare as in training, and ``balanced_accuracy``, each of
        a seed's cells of all outer splits together, means over seeds; of both the ``<score>_difference`` with its 95 %
        interval over smears and seeds, ``<score>_low`` and ``<score>_high``; ``sure``, the share of cells whose largest
        probability, as the network gave it, is above 0.99; ``changed``, the share of cells whose call the correction
        changes; ``rho`` of the training cells; ``n_seeds``, ``n_smears``.
    """
    fits = fits.assign(training=fits["schedule"].map({"cosine": DECAYED, "constant": OVER_CONFIDENT}))
    decayed = fits[fits["training"] == DECAYED]
    prior = _pooled_counts(decayed, store)
    rows = []
    for way in lesson_ways(list(dict.fromkeys(decayed["method"]))):
        way_fits = fits[(fits["training"] == way.training) & (fits["method"] == way.method)]
        rivals = fits[(fits["training"] == way.training) & (fits["method"] == way.against[0])]
        plain, tables = (pooled_tables(way_fits, store, correction=what) for what in (NONE, way.correction))
        against = pooled_tables(rivals, store, correction=way.against[1])
        is_baseline = (way.method, way.correction) == way.against
        row = {"training": way.training, "method": way.method, "correction": way.correction}
        row["against"] = "" if is_baseline else ", ".join(way.against)
        for score, classes in ((MACRO_F1, prior), (BALANCED_ACCURACY, None)):
            row[score] = mean_score(tables, score=score, prior=classes)
            gap = paired_difference(tables, against, seed=seed, score=score, prior=classes or NATURAL)
            limits = {"difference": gap.mean, "low": gap.low, "high": gap.high}
            row |= {f"{score}_{name}": np.nan if is_baseline else value for name, value in limits.items()}
        probabilities = pd.concat(plain)[prob_columns(prior)]
        row["sure"] = float((probabilities.max(axis=1) > SURE).mean())
        row["changed"] = float((pd.concat(plain)[PRED] != pd.concat(tables)[PRED]).mean())
        row |= {"rho": max(prior.values()) / min(prior.values()), "n_seeds": gap.n_seeds, "n_smears": gap.n_groups}
        rows.append(row)
    return pd.DataFrame(rows)


def pooled_tables(fits: pd.DataFrame, store: str | Path, *, correction: str = NONE) -> list[pd.DataFrame]:
    """Per seed of *fits* of one method the predictions of all outer splits together, corrected by their own priors.

    Args:
        fits: rows of `rbcnb.study.run_study`, with ``dev_counts``, what each was trained on.
        store: that they lie in.
        correction: "none"; "priors divided out", as if all classes were equally frequent; or the same after focal
            loss's probabilities were mapped back to the posterior that they stand for.
    """
    (tables,) = predictions_by_method(fits, store, change=partial(_corrected, correction=correction)).values()
    return tables


def _corrected(fit: Any, table: pd.DataFrame, *, correction: str) -> pd.DataFrame:
    if correction == NONE:
        return table
    prior = dict(zip(classes_of_predictions(table.columns), _counts(fit.dev_counts), strict=True))
    gamma = fit.gamma if correction == MAPPED else None
    return shift_predictions(table, old_prior=prior, new_prior=BALANCED, gamma=gamma)


def mean_score(tables: Sequence[pd.DataFrame], *, score: str, prior: Mapping[str, float] | None) -> float:
    """A score of each of the predictions *tables*, a mean; cells weighted so that the classes have the shares *prior*.

    Args:
        tables: one per seed, of the same cells.
        score: "macro_f1" or "balanced_accuracy".
        prior: class -> share, counts will do; None leaves cells alike.
    """
    classes = classes_of_predictions(tables[0].columns)
    stack = confusion_stack(tables, classes)
    shares = None if prior is None else class_shares(prior, classes)
    return float(weighted_score(stack, np.ones((1, stack.shape[1])), score=score, shares=shares).mean())


def _pooled_counts(fits: pd.DataFrame, store: str | Path) -> dict[str, float]:
    """Class -> cells that the fits of all outer splits were trained on together: the prior of the lesson."""
    first = load_predictions(store, fits["key"].iloc[0])
    counts = np.sum([_counts(text) for text in fits.drop_duplicates("outer")["dev_counts"]], axis=0)
    return dict(zip(classes_of_predictions(first.columns), map(int, counts), strict=True))


def _counts(text: str) -> list[int]:
    return [int(n) for n in text.split("/")]


def lesson_text(table: pd.DataFrame) -> str:
    """The lesson in numbered sentences, computed from its table; in brackets 95 % intervals.

    Args:
        table: of `imbalance_lesson`; rows of focal loss and of balanced softmax may be missing.

    Raises:
        KeyError: a row of cross entropy with its priors divided out is missing.
    """
    rows = {(row.training, row.method, row.correction, row.against): row for row in table.itertuples()}
    plain, naive = f"{BASELINE}, {NONE}", f"focal, {DIVIDED}"
    divided = rows[DECAYED, BASELINE, DIVIDED, plain]
    sentences = []
    if focal := rows.get((DECAYED, "focal", NONE, plain)):
        share = abs(focal.balanced_accuracy_difference / divided.balanced_accuracy_difference)
        sentences.append(
            f"Focal loss moves balanced accuracy by {_change(focal, BALANCED_ACCURACY)} and macro F1 by "
            f"{_change(focal, MACRO_F1)}; of balanced accuracy that is {share:.0%} of what dividing by priors moves."
        )
    moved = (
        "Cross entropy with its priors divided out, nothing retrained, moves balanced accuracy by "
        f"{_change(divided, BALANCED_ACCURACY)} and macro F1 by {_change(divided, MACRO_F1)}"
    )
    if weighted := rows.get((DECAYED, "balanced_softmax", NONE, plain)):
        apart = rows[DECAYED, "balanced_softmax", NONE, f"{BASELINE}, {DIVIDED}"]
        moved += (
            f"; balanced softmax, trained for it, by {_change(weighted, BALANCED_ACCURACY)} and "
            f"{_change(weighted, MACRO_F1)}. Between the two lie {_change(apart, BALANCED_ACCURACY)} and "
            f"{_change(apart, MACRO_F1)}"
        )
    sentences += [f"{moved}.", _agreement([divided, *([weighted] if weighted else [])])]
    if focal:
        rows_of = [rows[DECAYED, "focal", what, plain] for what in (DIVIDED, MAPPED)]
        as_is, mapped = (f"{_change(row, BALANCED_ACCURACY)} and {_change(row, MACRO_F1)}" for row in rows_of)
        apart = rows[DECAYED, "focal", MAPPED, naive]
        sentences.append(
            f"Focal loss's probabilities divided by the priors as they are move the two scores by {as_is}; mapped back "
            f"to a posterior first, by {mapped}. The map makes {_change(apart, BALANCED_ACCURACY)} and "
            f"{_change(apart, MACRO_F1)} of difference."
        )
    sure = rows[OVER_CONFIDENT, BASELINE, DIVIDED, plain]
    sentences.append(
        f"A network trained {SURE_FACTOR} times as long on {SURE_SHARE:.0%} of the cells, at a constant rate, gives a "
        f"probability above {SURE:g} to {sure.sure:.0%} of the cells; the one above, to {divided.sure:.0%}. Dividing "
        f"changes {sure.changed:.0%} of its calls ({divided.changed:.0%} of the other's), and moves its balanced "
        f"accuracy by {_change(sure, BALANCED_ACCURACY)} and its macro F1 by {_change(sure, MACRO_F1)}."
    )
    return "\n".join(f"{number}. {sentence}" for number, sentence in enumerate(sentences, start=1))


def _agreement(rows: Sequence[Any]) -> str:
    """Whether the two scores judge the same corrections alike."""
    verdicts = {(_direction(row, BALANCED_ACCURACY), _direction(row, MACRO_F1)) for row in rows}
    if verdicts == {("a gain", "a loss")}:
        return "The same calls are a gain by balanced accuracy and a loss by macro F1: choose the score first."
    words = " or ".join(f"{first} by balanced accuracy and {second} by macro F1" for first, second in sorted(verdicts))
    return f"The same calls are, by 95 % intervals, {words}."


def _direction(row: Any, score: str) -> str:
    low, high = getattr(row, f"{score}_low"), getattr(row, f"{score}_high")
    return "a gain" if low > 0 else "a loss" if high < 0 else "neither gain nor loss"


def _change(row: Any, score: str) -> str:
    mean, low, high = (getattr(row, f"{score}_{name}") for name in ("difference", "low", "high"))
    return f"{mean:+.3f} [{low:+.3f}, {high:+.3f}]"
