"""Temperature scaling: one number that makes probabilities mean what they say, fitted where nothing is tested.

Softmax of logits over T is, up to a constant per cell, log-probabilities over T: a predictions table is enough.
"""

import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import optimize
from scipy.special import log_softmax, softmax

from rbcnb.columns import CELL, SMEAR, TARGET, classes_of_predictions, prob_columns
from rbcnb.metrics import LEAST_PROB, score_predictions
from rbcnb.store import fold_predictions, load_predictions
from rbcnb.style import readable

T_RANGE = (0.05, 20.0)
_MEASURES = ("nll", "brier", "ece", "ece_classwise", "auroc", "macro_f1")


def fit_temperature(predictions: pd.DataFrame) -> float:
    """The temperature at which *predictions* have the least NLL; above 1 the model was too sure, below not enough.

    NLL is convex in 1/T, so there is one least value. Where every cell is right it falls for ever as T goes to 0, and
    where nothing but chance is known it falls as T grows: the search then ends at an edge of `T_RANGE`.

    Args:
        predictions: of cells that the model was not fitted on, such as the folds' predictions put together; never of
            the test cells (`calibrate` sees to it).

    Raises:
        ValueError: the table has no rows.
    """
    if predictions.empty:
        raise ValueError("no predictions to fit a temperature on; give those of the folds")
    classes = classes_of_predictions(predictions.columns)
    logs = _logs(predictions)
    own = predictions[TARGET].to_numpy()[:, None] == np.array(classes)

    def nll(log_inverse: float) -> float:
        return -float(log_softmax(logs * math.exp(log_inverse), axis=1)[own].mean())

    bounds = tuple(-math.log(t) for t in reversed(T_RANGE))
    found = optimize.minimize_scalar(nll, bounds=bounds, method="bounded", options={"xatol": 1e-8})
    return math.exp(-found.x)


def apply_temperature(predictions: pd.DataFrame, temperature: float) -> pd.DataFrame:
    """*predictions* with the probabilities of softmax(log p / T), in the order they had.

    Within a cell the order of classes stays, and with it every decision. Between cells the order by one class's
    probability stays for two classes; for three or more it may change, and so may AUROC.

    Raises:
        ValueError: *temperature* is not positive.
    """
    if not 0 < temperature < math.inf:
        raise ValueError(f"a temperature must be positive, got {temperature}")
    columns = prob_columns(classes_of_predictions(predictions.columns))
    scaled = pd.DataFrame(softmax(_logs(predictions) / temperature, axis=1), columns=columns, index=predictions.index)
    return predictions.assign(**{name: scaled[name] for name in columns})


def calibrate(dev: pd.DataFrame, test: pd.DataFrame) -> tuple[pd.DataFrame, float]:
    """*test* under the temperature fitted on *dev*, and that temperature.

    Raises:
        ValueError: a test cell is among *dev*, which would fit the temperature on what it is judged by.
    """
    shared = pd.MultiIndex.from_frame(dev[[SMEAR, CELL]]).intersection(pd.MultiIndex.from_frame(test[[SMEAR, CELL]]))
    if len(shared):
        raise ValueError(f"{len(shared)} test cells, such as {tuple(shared[0])}, are among those to calibrate on")
    temperature = fit_temperature(dev)
    return apply_temperature(test, temperature), temperature


def forecasts_of(fits: pd.DataFrame, store: str | Path) -> dict[str, pd.DataFrame]:
    """Of the first of *fits* per architecture and method: test predictions, and the same under the folds' temperature.

    Args:
        fits: final fits, rows of `rbcnb.study.run_study`.
        store: that they and their folds' fits lie in.

    Returns:
        Name (with T, where scaled) -> predictions table.
    """
    found = {}
    for _, fit in fits.drop_duplicates(["architecture", "method"]).iterrows():
        test = load_predictions(store, fit["key"])
        scaled, temperature = calibrate(fold_predictions(fit, store), test)
        name = f"{readable(fit['architecture'])}, {readable(fit['method'])}"
        found |= {name: test, f"{name}, T = {temperature:.2f}": scaled}
    return found


def calibration_table(forecasts: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """Per name: NLL, Brier score (summed over classes), calibration errors, AUROC and macro F1."""
    scores = {name: score_predictions(table) for name, table in forecasts.items()}
    table = pd.DataFrame.from_dict(scores, orient="index")[list(_MEASURES)]
    return table.rename_axis("model").reset_index()


def _logs(predictions: pd.DataFrame) -> np.ndarray:
    """log-probabilities [N, C]; what was rounded to 0 counts as the least that float32 can hold."""
    probs = predictions[prob_columns(classes_of_predictions(predictions.columns))].to_numpy(dtype=float)
    return np.log(np.maximum(probs, LEAST_PROB))
