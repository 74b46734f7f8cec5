"""Numbers from predictions: scores, intervals, prior shift, calibration and verdicts.

Everything here starts from a predictions table (target, pred, prob_<class>) and needs no network.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "calibration": ["calibration_table"],
        "inference": ["Difference", "paired_macro_f1"],
        "metrics": ["confusion_table", "macro_f1", "score_predictions"],
        "mistakes": ["confident_mistakes", "examples_by_class"],
        "power": ["plan_seeds"],
        "prior_shift": ["focal_posterior", "shift_prior"],
        "relative_gain": ["relative_improvement"],
        "verdicts": [
            "BASE",
            "adjust_for_families",
            "answer_text",
            "claims_in_print",
            "compare_methods",
            "judge_claims",
        ],
        "winners_curse": ["published_spread"],
    },
)
