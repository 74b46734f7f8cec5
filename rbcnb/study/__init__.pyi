# The public names of this folder, each loaded when it is first used.
from .imbalance_lesson import imbalance_lesson as imbalance_lesson, lesson_text as lesson_text
from .label_audit import (
    apply_corrections as apply_corrections,
    audit_splits as audit_splits,
    correction_effect as correction_effect,
    eight_views as eight_views,
    load_corrections as load_corrections,
    out_of_fold as out_of_fold,
)
from .ladder import (
    BASE_RHO as BASE_RHO,
    ladder_counts as ladder_counts,
    plan_ladder as plan_ladder,
    with_paper_rungs as with_paper_rungs,
)
from .ledger import entry_of as entry_of, load_ledger as load_ledger, open_test as open_test
from .protocols import (
    best_settings as best_settings,
    choose_settings as choose_settings,
    plan_final as plan_final,
    plan_folds as plan_folds,
    protocol_names as protocol_names,
)
from .runner import run_study as run_study
from .secondary import load_study_answer as load_study_answer
from .store import load_curves as load_curves, predictions_by_method as predictions_by_method
from .tables import (
    absent_classes as absent_classes,
    beside_published as beside_published,
    majority_baseline as majority_baseline,
    with_panel_title as with_panel_title,
)
from .tuning import (
    choice_optimism as choice_optimism,
    chosen_curves as chosen_curves,
    process_table as process_table,
    settings_at_last_epoch as settings_at_last_epoch,
)
