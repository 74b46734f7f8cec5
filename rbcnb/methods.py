"""What is compared: a method is a loss, a way to re-sample, or both, and has one name."""

from dataclasses import replace

from rbcnb.trial import RESAMPLING, Trial

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
        raise ValueError(f"unknown method {method!r}; known: {', '.join((*METHODS, *RIVALS))}")
    own = {"alpha": alpha, "gamma": gamma} if loss == "focal" else {"alpha": None, "gamma": None}
    return replace(base, loss=loss, resample=resample, label_smoothing=0.0, **own)


def method_rank(method: str) -> int:
    """Where a method stands in tables: Table 1's in its order, then the rivals, then others."""
    known = (*METHODS, *RIVALS)
    return known.index(method) if method in known else len(known)
