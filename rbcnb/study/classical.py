"""The baseline of the paper's related work: hand-made features, a classical classifier, re-sampling of features.

Scaling and re-sampling are steps of an imbalanced-learn pipeline, so that they see training cells only, in each fold as
in the final fit. Every classifier with every re-sampling tries equally many settings and is tuned on the same inner
folds, by macro F1, as the networks are: `tune_classical` sees no test cell. `fit_classical` predicts them, and what
comes out are predictions tables like those of trials; between the two stands the ledger
(`rbcnb.workflow.classical_fits`).
"""

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from imblearn.over_sampling import ADASYN, SMOTE, BorderlineSMOTE, RandomOverSampler
from imblearn.pipeline import Pipeline
from imblearn.under_sampling import RandomUnderSampler
from scipy.special import softmax
from sklearn.dummy import DummyClassifier
from sklearn.ensemble import RandomForestClassifier
from sklearn.model_selection import ParameterGrid
from sklearn.neighbors import KNeighborsClassifier
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from rbcnb._utils.parallel import run_in_order
from rbcnb.columns import CELL, DEV, FOLD, GROUP, LABEL, PRED, PROB, SCORES, SMEAR, SPLIT, TARGET, TEST, class_names
from rbcnb.evaluation.inference import interval_of_macro_f1
from rbcnb.evaluation.metrics import macro_f1, score_predictions
from rbcnb.study.ladder import BASE_RHO
from rbcnb.study.ledger import Entry

BARE = "none"
INTERPOLATING = ("smote", "borderline_smote", "adasyn")  # between a cell and its neighbours of the same class
MAJORITY = "majority"
_NEIGHBOURS = 5  # of SMOTE and its kin, or as many as the rarest class has


@dataclass(frozen=True)
class Classifier:
    """A classifier and the settings that its tries are drawn from."""

    make: Callable[..., Any]  # of a seed and settings
    settings: Mapping[str, Sequence[Any]]


class AdasynOrSmote(ADASYN):
    """ADASYN, and SMOTE where a class has no neighbour of another: ADASYN then has nothing to adapt to and refuses."""

    def _fit_resample(self, X: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        try:
            return super()._fit_resample(X, y)
        except (RuntimeError, ValueError):
            return SMOTE(k_neighbors=self.n_neighbors, random_state=self.random_state).fit_resample(X, y)


def _forest(seed: int, **settings: Any) -> RandomForestClassifier:
    return RandomForestClassifier(n_estimators=100, random_state=seed, **settings)


CLASSIFIERS: dict[str, Classifier] = {
    "knn": Classifier(
        lambda _seed, **settings: KNeighborsClassifier(**settings),
        {"n_neighbors": (1, 3, 5, 9, 15), "weights": ("uniform", "distance")},
    ),
    "svm": Classifier(
        lambda _seed, **settings: SVC(decision_function_shape="ovr", **settings),
        {"C": (0.3, 1.0, 3.0, 10.0, 30.0), "gamma": ("scale", 0.003, 0.03)},
    ),
    "forest": Classifier(_forest, {"max_features": ("sqrt", 0.2, 0.5), "min_samples_leaf": (1, 2, 5)}),
}
RESAMPLERS: dict[str, Callable[[int, int], Any]] = {  # of a seed and the number of neighbours
    BARE: lambda _seed, _k: "passthrough",
    "random_under_sampling": lambda seed, _k: RandomUnderSampler(random_state=seed),
    "random_over_sampling": lambda seed, _k: RandomOverSampler(random_state=seed),
    "smote": lambda seed, k: SMOTE(k_neighbors=k, random_state=seed),
    "borderline_smote": lambda seed, k: BorderlineSMOTE(k_neighbors=k, random_state=seed),
    "adasyn": lambda seed, k: AdasynOrSmote(n_neighbors=k, random_state=seed),
}


@dataclass(frozen=True)
class ClassicalChoice:
    """The setting that the folds chose for a classifier with a re-sampling."""

    protocol: str
    outer: int  # the outer split that it was tuned for
    classifier: str
    resampling: str
    settings: Mapping[str, Any]
    tuning_s: float  # of all fits on folds

    @property
    def words(self) -> str:
        """The setting in words."""
        return ", ".join(f"{name} {value}" for name, value in self.settings.items())


@dataclass(frozen=True, eq=False)
class ClassicalFit:
    """A tuned classifier's final fit."""

    choice: ClassicalChoice
    seed: int
    predictions: pd.DataFrame  # of the test cells, as a trial's; probabilities float32, as they are stored
    seconds: float  # of the final fit, re-sampling and scaling included


def tune_classical(
    features: pd.DataFrame,
    cells: pd.DataFrame,
    *,
    protocol: str,
    outer: int = 0,
    seed: int,
    n_tries: int,
    classifiers: Sequence[str] = tuple(CLASSIFIERS),
    resamplings: Sequence[str] = tuple(RESAMPLERS),
    jobs: int = 1,
) -> list[ClassicalChoice]:
    """Tunes every classifier with every re-sampling on the dev folds; first comes the majority, with nothing to tune.

    Args:
        features: `rbcnb.study.features.cell_features` of the cells' crops, in their order.
        cells: the output of `rbcnb.training.assign_splits`, of *protocol* and *outer* split.
        seed: of the tries that are drawn, of re-sampling and of forests.
        n_tries: settings that each pair tries.
        classifiers, resamplings: names in ``CLASSIFIERS`` and ``RESAMPLERS``.
        jobs: pairs side by side.

    Raises:
        ValueError: features and cells do not match, or there are fewer settings than tries.
    """
    _require_rows(features, cells)
    for name in classifiers:
        if (n := len(ParameterGrid(CLASSIFIERS[name].settings))) < n_tries:
            raise ValueError(f"{n_tries} tries, but {name} has {n} different settings; lower n_tries")
    pairs = [(name, resampling) for name in classifiers for resampling in resamplings]
    tuned = _side_by_side(partial(_tune, seed=seed, n_tries=n_tries), pairs, features, cells, jobs)
    majority = ClassicalChoice(protocol, outer, MAJORITY, BARE, {}, 0.0)
    return [majority] + [
        ClassicalChoice(protocol, outer, *pair, *found) for pair, found in zip(pairs, tuned, strict=True)
    ]


def fit_classical(
    features: pd.DataFrame,
    cells: pd.DataFrame,
    choices: Sequence[ClassicalChoice],
    *,
    seeds: Sequence[int],
    jobs: int = 1,
) -> list[ClassicalFit]:
    """Fits every choice to the dev cells, once per seed, and predicts the test cells. Open the test set before.

    Args:
        features, cells: as of `tune_classical`.
        choices: what it chose.
        seeds: of re-sampling and forests.
        jobs: choices side by side.

    Raises:
        ValueError: features and cells do not match.
    """
    _require_rows(features, cells)
    fits = _side_by_side(partial(_fit, seeds=tuple(seeds)), choices, features, cells, jobs)
    return [fit for choice_fits in fits for fit in choice_fits]


def classical_table(fits: Sequence[ClassicalFit]) -> pd.DataFrame:
    """One row per fit: ``architecture`` (the classifier), ``method`` (the re-sampling), settings, scores, seconds.

    ``macro_f1_low`` and ``macro_f1_high``: 95 % interval over smears
    (`rbcnb.evaluation.inference.interval_of_macro_f1`).
    """
    rows = []
    for fit in fits:
        choice = fit.choice
        row = {"architecture": choice.classifier, "method": choice.resampling, "settings": choice.words}
        balanced = score_predictions(fit.predictions, prior="balanced")["macro_f1"]
        interval = interval_of_macro_f1([fit.predictions], seed=fit.seed)
        limits = {"macro_f1_low": interval.low, "macro_f1_high": interval.high}
        scores = score_predictions(fit.predictions) | {"balanced_macro_f1": balanced} | limits
        rows.append({**row, "seed": fit.seed, **scores, "seconds": fit.seconds, "tuning_s": choice.tuning_s})
    return pd.DataFrame(rows)


def beside_networks(fits: Sequence[ClassicalFit], networks: pd.DataFrame) -> pd.DataFrame:
    """`classical_table` of *fits*, and below it those of *networks* that were tested on the same cells.

    Args:
        fits: of one outer split.
        networks: rows of the ladder's trials with their scores; those of the whole data set and that split are taken.
            The interval of a network is over its seeds, too, and stands in Table 1.
    """
    outers = {fit.choice.outer for fit in fits}
    networks = networks[(networks["rho"] == BASE_RHO) & networks["outer"].isin(outers)]
    table = pd.concat([classical_table(fits), networks], ignore_index=True)
    scores = [*SCORES, "macro_f1_low", "macro_f1_high", "balanced_macro_f1"]
    return table[["architecture", "method", "settings", "seed", *scores]]  # no seconds: they differ from run to run


def _require_rows(features: pd.DataFrame, cells: pd.DataFrame) -> None:
    if len(features) != len(cells):
        raise ValueError(f"{len(features)} rows of features but {len(cells)} cells: one each, in the same order")


def _side_by_side(
    function: Callable[..., Any], items: Sequence[Any], features: pd.DataFrame, cells: pd.DataFrame, jobs: int
) -> list[Any]:
    return run_in_order(function, items, shared=(features.to_numpy(dtype=float), cells), jobs=jobs)


def _tune(
    pair: tuple[str, str], values: np.ndarray, cells: pd.DataFrame, *, seed: int, n_tries: int
) -> tuple[Mapping[str, Any], float]:
    """The setting with the best macro F1 on the folds, and the seconds it took to find."""
    grid = list(ParameterGrid(CLASSIFIERS[pair[0]].settings))
    # By the classifier alone: with and without re-sampling it tries the same settings.
    rng = np.random.default_rng([seed, sorted(CLASSIFIERS).index(pair[0])])
    tries = [grid[i] for i in rng.permutation(len(grid))[:n_tries]]
    dev = np.flatnonzero(cells[SPLIT] == DEV)
    labels, fold = cells[LABEL].to_numpy(dtype=object), cells[FOLD].to_numpy()
    start = time.perf_counter()
    scores = []
    for settings in tries:
        by_fold = []
        for held_out in np.unique(fold[dev]):
            train, watched = dev[fold[dev] != held_out], dev[fold[dev] == held_out]
            model = _pipeline(pair, settings, labels[train], seed).fit(values[train], labels[train])
            by_fold.append(macro_f1(labels[watched], model.predict(values[watched])))
        scores.append(float(np.mean(by_fold)))
    return tries[int(np.argmax(scores))], time.perf_counter() - start


def _fit(
    choice: ClassicalChoice, values: np.ndarray, cells: pd.DataFrame, *, seeds: tuple[int, ...]
) -> list[ClassicalFit]:
    dev, test = (np.flatnonzero(cells[SPLIT] == part) for part in (DEV, TEST))
    labels = cells[LABEL].to_numpy(dtype=object)
    fits = []
    for seed in seeds:
        start = time.perf_counter()
        if choice.classifier == MAJORITY:
            model = DummyClassifier(strategy="prior")
        else:
            model = _pipeline((choice.classifier, choice.resampling), choice.settings, labels[dev], seed)
        model.fit(values[dev], labels[dev])
        seconds = time.perf_counter() - start
        predictions = _predictions(model, values[test], cells.iloc[test], class_names(labels))
        fits.append(ClassicalFit(choice, seed, predictions, seconds))
    return fits


def _pipeline(pair: tuple[str, str], settings: Mapping[str, Any], labels: np.ndarray, seed: int) -> Pipeline:
    sizes = np.unique(labels, return_counts=True)[1]
    rarest = int(sizes.min())
    # Between a single cell and itself there is nothing to interpolate: it is repeated.
    resampling = "random_over_sampling" if rarest == 1 and pair[1] in INTERPOLATING else pair[1]
    resampler = RESAMPLERS[resampling](seed, max(1, min(_NEIGHBOURS, rarest - 1)))
    if "n_neighbors" in settings:  # of a small run there may be fewer cells
        left = rarest * len(sizes) if resampling == "random_under_sampling" else len(labels)
        settings = {**settings, "n_neighbors": min(settings["n_neighbors"], left)}
    steps = [("scale", StandardScaler()), ("resample", resampler)]
    return Pipeline([*steps, ("classify", CLASSIFIERS[pair[0]].make(seed, **settings))])


def _predictions(model: Any, values: np.ndarray, cells: pd.DataFrame, classes: Sequence[str]) -> pd.DataFrame:
    """A predictions table. An SVM has no probabilities: the softmax of its decision values ranks as they do.

    A class that no training cell was of has the probability 0.
    """
    if hasattr(model, "predict_proba"):
        probs = model.predict_proba(values)
    else:
        decision = model.decision_function(values)
        decision = np.stack([-decision, decision], axis=1) if decision.ndim == 1 else decision
        probs = softmax(decision, axis=1)
    of_class = dict(zip(model.classes_, probs.T.astype(np.float32), strict=True))
    table = cells[[SMEAR, CELL, GROUP]].reset_index(drop=True)
    table[TARGET], table[PRED] = cells[LABEL].to_numpy(), model.predict(values)
    never = np.zeros(len(table), np.float32)
    return table.assign(**{PROB + name: of_class.get(name, never) for name in classes})


def entry_of_choice(choice: ClassicalChoice) -> Entry:
    """What the ledger says of a classifier's choice (`rbcnb.study.open_test`)."""
    names = str(choice.outer), choice.classifier, choice.resampling
    return Entry(choice.protocol, *names, json.dumps(dict(choice.settings), sort_keys=True))
