"""The baseline of the paper's related work: hand-made features, a classical classifier, re-sampling of features.

Scaling and re-sampling are steps of an imbalanced-learn pipeline, so that they see training cells only, in each fold as
in the final fit. Every classifier with every re-sampling tries equally many settings and is tuned on the same inner
folds, by macro F1, as the networks are. What comes out are predictions tables like those of trials.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import joblib
import numpy as np
import pandas as pd
from imblearn.over_sampling import ADASYN, SMOTE, BorderlineSMOTE, RandomOverSampler
from imblearn.pipeline import Pipeline
from imblearn.under_sampling import RandomUnderSampler
from sklearn.dummy import DummyClassifier
from sklearn.ensemble import RandomForestClassifier
from sklearn.model_selection import ParameterGrid
from sklearn.neighbors import KNeighborsClassifier
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from rbcnb.columns import CELL, DEV, FOLD, GROUP, LABEL, PRED, SMEAR, SPLIT, TARGET, TEST, class_names, prob_columns
from rbcnb.metrics import macro_f1, score_predictions
from rbcnb.workers import in_worker

BARE = "none"
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


@dataclass(frozen=True, eq=False)
class ClassicalFit:
    """A tuned classifier's final fit."""

    classifier: str
    resampling: str
    settings: Mapping[str, Any]  # the chosen ones
    seed: int
    predictions: pd.DataFrame  # of the test cells, as a trial's
    seconds: float  # of the final fit, re-sampling and scaling included
    tuning_s: float  # of all fits on folds


def fit_classical(
    features: pd.DataFrame,
    cells: pd.DataFrame,
    *,
    seeds: Sequence[int],
    n_tries: int,
    classifiers: Sequence[str] = tuple(CLASSIFIERS),
    resamplings: Sequence[str] = tuple(RESAMPLERS),
    jobs: int = 1,
) -> list[ClassicalFit]:
    """Tunes every classifier with every re-sampling on the dev folds and predicts the test cells; the majority first.

    Args:
        features: `rbcnb.cell_features.cell_features` of the cells' crops, in their order.
        cells: the output of `rbcnb.splits.assign_splits`.
        seeds: of re-sampling and forests; each a final fit. Tuning is done once, with the first.
        n_tries: settings that each pair tries, drawn by the first seed.
        classifiers, resamplings: names in ``CLASSIFIERS`` and ``RESAMPLERS``.
        jobs: pairs side by side.

    Raises:
        ValueError: features and cells do not match, or there are fewer settings than tries.
    """
    if len(features) != len(cells):
        raise ValueError(f"{len(features)} rows of features but {len(cells)} cells: one each, in the same order")
    for name in classifiers:
        if (n := len(ParameterGrid(CLASSIFIERS[name].settings))) < n_tries:
            raise ValueError(f"{n_tries} tries, but {name} has {n} different settings; lower n_tries")
    pairs = [(name, resampling) for name in classifiers for resampling in resamplings]
    run_one = partial(_tune_and_fit, seeds=tuple(seeds), n_tries=n_tries)
    run_one = run_one if jobs == 1 else partial(in_worker, run_one)
    values = features.to_numpy(dtype=float)
    done = joblib.Parallel(n_jobs=jobs)(joblib.delayed(run_one)(pair, values, cells) for pair in pairs)
    return [_majority(values, cells, seed) for seed in seeds] + [fit for fits in done for fit in fits]


def predictions_of(fits: Sequence[ClassicalFit]) -> dict[tuple[str, str], list[pd.DataFrame]]:
    """(classifier, re-sampling) -> a predictions table per seed: what `rbcnb.verdicts` and `rbcnb.inference` take."""
    found: dict[tuple[str, str], list[pd.DataFrame]] = {}
    for fit in fits:
        found.setdefault((fit.classifier, fit.resampling), []).append(fit.predictions)
    return found


def classical_table(fits: Sequence[ClassicalFit]) -> pd.DataFrame:
    """One row per fit: ``architecture`` (the classifier), ``method`` (the re-sampling), settings, scores, seconds."""
    rows = []
    for fit in fits:
        told = ", ".join(f"{name} {value}" for name, value in fit.settings.items())
        row = {"architecture": fit.classifier, "method": fit.resampling, "settings": told, "seed": fit.seed}
        balanced = score_predictions(fit.predictions, balance=True)["macro_f1"]
        scores = score_predictions(fit.predictions) | {"balanced_macro_f1": balanced}
        rows.append({**row, **scores, "seconds": fit.seconds, "tuning_s": fit.tuning_s})
    return pd.DataFrame(rows)


def _tune_and_fit(
    pair: tuple[str, str], values: np.ndarray, cells: pd.DataFrame, *, seeds: tuple[int, ...], n_tries: int
) -> list[ClassicalFit]:
    grid = list(ParameterGrid(CLASSIFIERS[pair[0]].settings))
    # By the classifier alone: with and without re-sampling it tries the same settings.
    rng = np.random.default_rng([seeds[0], sorted(CLASSIFIERS).index(pair[0])])
    tries = [grid[i] for i in rng.permutation(len(grid))[:n_tries]]
    dev, test = (np.flatnonzero(cells[SPLIT] == part) for part in (DEV, TEST))
    labels, fold = cells[LABEL].to_numpy(dtype=object), cells[FOLD].to_numpy()
    start = time.perf_counter()
    scores = []
    for settings in tries:
        by_fold = []
        for held_out in np.unique(fold[dev]):
            train, watched = dev[fold[dev] != held_out], dev[fold[dev] == held_out]
            model = _pipeline(pair, settings, labels[train], seeds[0]).fit(values[train], labels[train])
            by_fold.append(macro_f1(labels[watched], model.predict(values[watched])))
        scores.append(float(np.mean(by_fold)))
    tuning_s = time.perf_counter() - start
    chosen = tries[int(np.argmax(scores))]
    fits = []
    for seed in seeds:
        start = time.perf_counter()
        model = _pipeline(pair, chosen, labels[dev], seed).fit(values[dev], labels[dev])
        seconds = time.perf_counter() - start
        predictions = _predictions(model, values[test], cells.iloc[test], class_names(labels))
        fits.append(ClassicalFit(*pair, chosen, seed, predictions, seconds, tuning_s))
    return fits


def _pipeline(pair: tuple[str, str], settings: Mapping[str, Any], labels: np.ndarray, seed: int) -> Pipeline:
    rarest = int(np.unique(labels, return_counts=True)[1].min())
    resampler = RESAMPLERS[pair[1]](seed, max(1, min(_NEIGHBOURS, rarest - 1)))
    steps = [("scale", StandardScaler()), ("resample", resampler)]
    return Pipeline([*steps, ("classify", CLASSIFIERS[pair[0]].make(seed, **settings))])


def _majority(values: np.ndarray, cells: pd.DataFrame, seed: int) -> ClassicalFit:
    dev, test = (np.flatnonzero(cells[SPLIT] == part) for part in (DEV, TEST))
    labels = cells[LABEL].to_numpy(dtype=object)
    start = time.perf_counter()
    model = DummyClassifier(strategy="prior").fit(values[dev], labels[dev])
    seconds = time.perf_counter() - start
    predictions = _predictions(model, values[test], cells.iloc[test], class_names(labels))
    return ClassicalFit(MAJORITY, BARE, {}, seed, predictions, seconds, 0.0)


def _predictions(model: Any, values: np.ndarray, cells: pd.DataFrame, classes: Sequence[str]) -> pd.DataFrame:
    """A predictions table. An SVM has no probabilities: the softmax of its decision values ranks as they do."""
    if hasattr(model, "predict_proba"):
        probs = model.predict_proba(values)
    else:
        decision = model.decision_function(values)
        decision = np.stack([-decision, decision], axis=1) if decision.ndim == 1 else decision
        probs = np.exp(decision - decision.max(axis=1, keepdims=True))
        probs /= probs.sum(axis=1, keepdims=True)
    order = [list(model.classes_).index(name) for name in classes]
    table = cells[[SMEAR, CELL, GROUP]].reset_index(drop=True)
    table[TARGET], table[PRED] = cells[LABEL].to_numpy(), model.predict(values)
    table[prob_columns(classes)] = probs[:, order]
    return table
