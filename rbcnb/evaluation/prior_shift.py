"""What to do when the classes are unequal: with predicted probabilities after training, and with a test set's cells.

probabilities are float [N, C] with rows that sum to 1; priors are [C], positive, and are scaled to sum to 1.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from scipy.special import softmax

from rbcnb.columns import PRED, classes_of_predictions, prob_columns

# Prevalence of the classes in a test set: as its cells are, every class alike, or as where the network was trained.
NATURAL, BALANCED, RUNG = "natural", "balanced", "rung"
Prior = str | Mapping[str, float]  # NATURAL, BALANCED, or class -> share; counts will do


def class_shares(prior: Prior, classes: Sequence[str]) -> np.ndarray | None:
    """Shares of the classes, float [C] that sum to 1, in the order of *classes*; None where cells stay as they are.

    Raises:
        ValueError: *prior* is another word, or has other classes, or a share that is not positive.
    """
    if not isinstance(prior, str):
        if set(prior) != set(classes):
            raise ValueError(f"a prior of {', '.join(prior)} for the classes {', '.join(classes)}")
        return _check_prior([prior[name] for name in classes], len(classes))
    if prior not in (NATURAL, BALANCED):
        raise ValueError(f"a prior must be {NATURAL}, {BALANCED} or shares of the classes, got {prior!r}")
    return None if prior == NATURAL else np.full(len(classes), 1 / len(classes))


def shift_predictions(
    predictions: pd.DataFrame, *, old_prior: Prior, new_prior: Prior, gamma: float | None = None
) -> pd.DataFrame:
    """*predictions* under another prior: probabilities by `shift_prior`, and ``pred`` the class most probable then.

    Args:
        predictions: a predictions table.
        old_prior: of the cells that the network was trained on.
        new_prior: of the cells that are predicted; not "natural", as the table's own cells may be some of them only.
        gamma: of a network trained with focal loss and one alpha for all classes; its probabilities are mapped back
            first (`focal_posterior`). What label smoothing did to probabilities is not undone.
    """
    classes = classes_of_predictions(predictions.columns)
    columns = prob_columns(classes)
    probabilities = predictions[columns].to_numpy(dtype=float)
    if gamma is not None:
        probabilities = focal_posterior(probabilities, gamma=gamma)
    old, new = (class_shares(prior, classes) for prior in (old_prior, new_prior))
    if old is None or new is None:
        raise ValueError("to shift predictions both priors must be known; give counts of the classes")
    probabilities = shift_prior(probabilities, old_prior=old, new_prior=new)
    called = np.array(classes)[probabilities.argmax(axis=1)]
    return predictions.assign(**{PRED: called}, **dict(zip(columns, probabilities.T, strict=True)))


def shift_prior(probabilities: np.ndarray, *, old_prior: Sequence[float], new_prior: Sequence[float]) -> np.ndarray:
    """Probabilities under another prior: ``p_j new_j / old_j``, normalised (Saerens et al. 2002).

    Exact where p are the posteriors under *old_prior* and the two populations differ in nothing but their class shares.

    Args:
        probabilities: [N, C].
        old_prior: of the population that was trained on; counts will do.
        new_prior: of the population that is predicted; counts will do.

    Returns:
        float64 [N, C].
    """
    p = _check_probabilities(probabilities)
    shifted = p * (_check_prior(new_prior, p.shape[1]) / _check_prior(old_prior, p.shape[1]))
    return shifted / shifted.sum(axis=1, keepdims=True)


def focal_posterior(probabilities: np.ndarray, *, gamma: float, alpha: float | Sequence[float] = 1.0) -> np.ndarray:
    """The class probabilities that follow from a focal-loss network's softmax, float64 [N, C].

    Focal loss is not proper: where the posterior is eta, the risk ``sum_j eta_j alpha_j (1 - p_j)^gamma (-log p_j)`` is
    least not at p = eta but where its derivatives with respect to p_j are equal (Lagrange), that is at

        eta_j ~ p_j / (alpha_j (1 - p_j)^(gamma - 1) (1 - p_j - gamma p_j log p_j)),

    normalised (Charoenphakdee et al. 2021, CVPR, study alpha = 1). A scalar alpha cancels; gamma = 0 and
    alpha = 1 change nothing. The map keeps the order of the classes of a row when alpha is a scalar.

    Args:
        probabilities: [N, C], softmax of a network trained with `rbcnb.losses.focal_loss`.
        gamma: its focusing parameter, >= 0.
        alpha: its class weights, or a scalar.

    Raises:
        ValueError: gamma is negative, or alpha does not fit.
    """
    if not gamma >= 0:
        raise ValueError(f"gamma must be >= 0, got {gamma}")
    p = _check_probabilities(probabilities)
    log_weights = np.log(_check_prior(np.broadcast_to(alpha, p.shape[1:]), p.shape[1]))
    # 1 - p as the sum of the others: no cancellation next to 1.
    q = p @ (1 - np.eye(p.shape[1]))
    with np.errstate(divide="ignore", invalid="ignore"):
        # p (q^(gamma-1) (q - gamma p log p))^-1 = p q^-gamma / (1 + gamma p ce / q)
        log_eta = np.log(p) - log_weights - gamma * np.log(q) - np.log1p(gamma * np.where(p > 0, -p * np.log(p), 0) / q)
    log_eta = np.where(p == 0, -np.inf, np.where(q == 0, 0.0, log_eta))
    return softmax(log_eta, axis=1)


def _check_probabilities(probabilities: np.ndarray) -> np.ndarray:
    p = np.asarray(probabilities, dtype=float)
    if p.ndim != 2:
        raise ValueError(f"probabilities must be [N, C], got shape {p.shape}")
    return p


def _check_prior(prior: Sequence[float], n_classes: int) -> np.ndarray:
    pi = np.asarray(prior, dtype=float)
    if pi.shape != (n_classes,) or not (pi > 0).all():
        raise ValueError(f"expected {n_classes} positive numbers, one per class, got {pi.tolist()}")
    return pi / pi.sum()
