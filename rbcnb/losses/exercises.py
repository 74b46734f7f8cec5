"""The lesson's exercises: each takes a student's answer and says whether it is right, and where to look if not.

A check never raises and waits for nothing, so a notebook with its exercises unsolved runs through.
"""

import functools
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from rbcnb.losses.focal_curves import focal_curve, group_shares
from rbcnb.losses.toy import sample_toy, toy_posterior, toy_prior

_TOLERANCE = 1e-6  # an answer computed in float32 is right too
_NO_ANSWER = "there is no answer yet; replace the None. A wrong answer gets a hint."
BUDGET = {"majority": 0.98, "p_easy": 0.9, "p_hard": 0.4, "share": 0.05}  # of exercise 2


@dataclass(frozen=True)
class Verdict:
    """Whether an answer is right; printed as what to do next."""

    passed: bool
    told: str

    def __bool__(self) -> bool:
        return self.passed

    def __repr__(self) -> str:
        return textwrap.fill(f"{'Right' if self.passed else 'Not yet'}: {self.told}", width=90)


def _checked(hint: str) -> Callable[[Callable], Callable[..., Verdict]]:
    """Turns a function that returns what is wrong with an answer (or "") into one that returns a `Verdict`."""

    def decorate(check: Callable) -> Callable[..., Verdict]:
        @functools.wraps(check)
        def verdict(answer: object) -> Verdict:
            try:
                wrong = check(answer)
            except Exception as error:  # the student's code, whatever it does
                wrong = f"your answer ended in {type(error).__name__}: {error}"
            if wrong and wrong != _NO_ANSWER:  # who has not tried yet is not told how
                wrong = f"{wrong} Hint: {hint}"
            return Verdict(not wrong, wrong or "go on.")

        return verdict

    return decorate


def _differs(found: object, wanted: np.ndarray, *, where: str, tolerance: float = _TOLERANCE) -> str:
    """What is wrong with *found*, or nothing."""
    if found is None:
        return _NO_ANSWER
    found = np.asarray(found, dtype=float)
    if found.shape != wanted.shape:
        return f"{where}: the shape is {found.shape}, it should be {wanted.shape}."
    gap = np.abs(found - wanted)
    if not np.all(gap <= tolerance):
        at = np.unravel_index(np.argmax(np.where(np.isnan(gap), np.inf, gap)), gap.shape)
        return f"{where}: got {found[at]:.10g} where {wanted[at]:.10g} is right."
    return ""


@_checked("Eq. (4) has three factors besides its sign: alpha, (1 - p_t) to the power gamma, and log p_t (np.log).")
def check_focal(answer: Callable[..., np.ndarray]) -> str:
    """*answer(p_t, alpha, gamma)* is Eq. (4)."""
    p_t = np.linspace(0.05, 0.95, 19)
    for alpha, gamma in ((1.0, 0.0), (1.0, 2.0), (0.25, 0.5), (1.75, 5.0)):
        where = f"alpha = {alpha:g}, gamma = {gamma:g}"
        if wrong := _differs(answer(p_t, alpha, gamma), focal_curve(p_t, alpha=alpha, gamma=gamma), where=where):
            return wrong
    return ""


def least_gamma(gammas: Sequence[float]) -> float:
    """The least of *gammas* at which the easy majority brings under 5 % of the gradient at 1:1:98."""
    shares = group_shares((BUDGET["majority"], 1 - BUDGET["majority"]), (BUDGET["p_easy"], BUDGET["p_hard"]), gammas)[1]
    return float(np.asarray(gammas)[shares[:, 0] < BUDGET["share"]].min())


@_checked("it is the right panel, the gradient, that counts; set the share of the majority to 0.98 and move gamma.")
def check_gamma(answer: float | None) -> str:
    """*answer* is `least_gamma` to one decimal."""
    return _differs(answer, np.array(least_gamma(np.arange(61) / 10)), where="the least gamma", tolerance=0.05)


@_checked("multiply each column by new prior over old prior, then divide each row by its sum, so that it sums to 1.")
def check_prior(answer: Callable[..., np.ndarray]) -> str:
    """*answer(probs, old_prior, new_prior)* is Bayes' rule: on the toy the truth at the new prior is known."""
    x, _ = sample_toy(200, seed=3)
    for old, new in ((0.8, 0.4), (0.8, 1 / 3), (0.5, 0.95)):
        found = answer(toy_posterior(x, majority=old), toy_prior(old), toy_prior(new))
        where = f"majority {old:.0%} in training, {new:.0%} in use"
        if wrong := _differs(found, toy_posterior(x, majority=new), where=where):
            return wrong
    return ""


@_checked(
    "Adam steps by m / (sqrt(v) + eps). With alpha, m and sqrt(v) are both alpha times as large: divide above and "
    "below by alpha and read off what stands where eps stood."
)
def check_eps(answer: Callable[[float, float], float]) -> str:
    """*answer(alpha, eps)* is the eps at which alpha = 1 trains as alpha does at eps: two networks are trained."""
    from rbcnb.losses.toy_fits import fit_alphas

    x, targets = sample_toy(100, seed=0)
    for alpha, eps in ((0.25, 1e-2), (1.75, 1e-1)):
        mine = answer(alpha, eps)
        if mine is None:
            return _NO_ANSWER
        options = {"optimiser": "adam", "seeds": [0], "steps": 20, "every": 20, "learning_rate": 0.01}
        with_alpha = fit_alphas(x, targets, alphas=[alpha], eps=eps, **options)[-1]
        without = fit_alphas(x, targets, alphas=[1.0], eps=float(mine), **options)[-1]
        if not (gap := np.abs(with_alpha - without).max()) <= _TOLERANCE:  # not >, for a gap may be NaN
            return f"alpha = {alpha:g}, eps = {eps:g}: with your eps the weights end {gap:.1e} apart, and not at 0."
    return ""
