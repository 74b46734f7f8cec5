# The public names of this folder, each loaded when it is first used.
from .calibration import calibration_table as calibration_table
from .inference import Difference as Difference, paired_macro_f1 as paired_macro_f1
from .metrics import (
    confident_mistakes as confident_mistakes,
    confusion_table as confusion_table,
    examples_by_class as examples_by_class,
    macro_f1 as macro_f1,
    score_predictions as score_predictions,
)
from .power import plan_seeds as plan_seeds
from .prior_shift import (
    focal_posterior as focal_posterior,
    shift_predictions as shift_predictions,
    shift_prior as shift_prior,
)
from .relative_gain import relative_improvement as relative_improvement
from .verdicts import (
    BASE as BASE,
    adjust_for_families as adjust_for_families,
    answer_text as answer_text,
    claims_in_print as claims_in_print,
    compare_methods as compare_methods,
    judge_claims as judge_claims,
)
