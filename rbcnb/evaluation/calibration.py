"""Temperature scaling: one number that makes probabilities mean what they say, fitted where nothing is tested.

Softmax of logits over T is, up to a constant per cell, log-probabilities over T: a predictions table is enough.
"""

import math
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from scipy import optimize
from scipy.special import log_softmax, softmax
from scipy.stats import rankdata

from rbcnb.columns import CELL, PRED, SMEAR, TARGET, classes_of_predictions, prob_columns
from rbcnb.evaluation.metrics import LEAST_PROB, N_BINS, score_predictions

T_RANGE = (0.05, 20.0)
_EQUAL_MASS = "ece_equal_mass"
_MEASURES = ("nll", "brier", "ece", _EQUAL_MASS, "ece_classwise", "auroc", "macro_f1")
_SPREAD = ("nll", "brier", "ece")


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
    is_target = predictions[TARGET].to_numpy()[:, None] == np.array(classes)

    def nll(log_inverse: float) -> float:
        return -float(log_softmax(logs * math.exp(log_inverse), axis=1)[is_target].mean())

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


def equal_mass_error(probs: np.ndarray, happened: np.ndarray, *, n_bins: int = N_BINS) -> float:
    """Expected calibration error over bins of equally many cells: |rate - mean probability|, weighted by cells.

    Bins as of Nguyen and O'Connor (2015, "Posterior calibration ..."), absolute errors averaged as by Nixon et al.
    (2019, "Measuring calibration in deep learning"), whose ACE is the mean of this over all classes. A network that is
    nearly always sure has most cells in one or two bins of equal width; here each bin has its share. Equal
    probabilities stay in one bin, so that the order of cells does not matter.

    Args:
        probs: probabilities [N] of something.
        happened: whether it did, [N] bool.
        n_bins: bins; with fewer cells, one each.
    """
    bins = (rankdata(probs, method="min").astype(int) - 1) * n_bins // len(probs)
    return float(np.abs(np.bincount(bins, weights=happened - probs)).sum() / len(probs))


def calibration_table(forecasts: Mapping[str, Sequence[pd.DataFrame]]) -> pd.DataFrame:
    """Per name: NLL, Brier score (summed over classes), calibration errors, AUROC and macro F1, means over its fits.

    Args:
        forecasts: name of a model -> its predictions tables, one per fit, at least one: ``target``, ``pred`` and one
            ``prob_<class>`` per class.

    Returns:
        One row per name: ``model``, ``n_fits``; ``nll`` in nats, ``brier``, ``ece`` and ``ece_classwise`` (bins of
        equal width), ``auroc`` and ``macro_f1``, as `rbcnb.evaluation.score_predictions` has them; ``ece_equal_mass``,
        `equal_mass_error` of the predicted class; ``nll_sd``, ``brier_sd`` and ``ece_sd``, standard deviations over
        fits, NaN for a single fit.

    Raises:
        ValueError: a table is empty, lacks a column, or speaks of a class that it has no probabilities of.
    """
    rows = {}
    for name, tables in forecasts.items():
        scores = pd.DataFrame([score_predictions(table) | {_EQUAL_MASS: _of_predicted(table)} for table in tables])
        spread = scores[list(_SPREAD)].std(ddof=1).add_suffix("_sd")
        rows[name] = pd.concat([pd.Series({"n_fits": len(tables)}), scores[list(_MEASURES)].mean(), spread])
    return pd.DataFrame(rows).T.astype({"n_fits": int}).rename_axis("model").reset_index()


def _of_predicted(predictions: pd.DataFrame) -> float:
    classes = classes_of_predictions(predictions.columns)
    called = predictions[PRED].to_numpy()[:, None] == np.array(classes)
    probs = predictions[prob_columns(classes)].to_numpy(dtype=float)[called]
    return equal_mass_error(probs, (predictions[PRED] == predictions[TARGET]).to_numpy())


def _logs(predictions: pd.DataFrame) -> np.ndarray:
    """log-probabilities [N, C]; what was rounded to 0 counts as the least that float32 can hold."""
    probs = predictions[prob_columns(classes_of_predictions(predictions.columns))].to_numpy(dtype=float)
    return np.log(np.maximum(probs, LEAST_PROB))
