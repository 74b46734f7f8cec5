"""The classical classifiers with the settings that they try, and the ways to re-sample features."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from imblearn.over_sampling import ADASYN, SMOTE, BorderlineSMOTE, RandomOverSampler
from imblearn.under_sampling import RandomUnderSampler
from sklearn.ensemble import RandomForestClassifier
from sklearn.neighbors import KNeighborsClassifier
from sklearn.svm import SVC

BARE = "none"


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
INTERPOLATING = ("smote", "borderline_smote", "adasyn")  # between a cell and its neighbours of the same class
