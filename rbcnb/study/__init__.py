"""Many fits: the two protocols, the ladder of imbalance, the store of trials, the ledger of test sets, and tables.

`run_study` fits what the store lacks and returns one row per trial.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "label_audit": [
            "apply_corrections",
            "audit_splits",
            "correction_effect",
            "eight_views",
            "load_corrections",
            "out_of_fold",
        ],
        "ladder": ["BASE_RHO", "ladder_counts", "plan_ladder", "with_paper_rungs"],
        "ledger": ["entry_of", "load_ledger", "open_test"],
        "protocols": ["best_settings", "choose_settings", "plan_final", "plan_folds", "protocol_names"],
        "runner": ["run_study"],
        "store": ["load_curves", "predictions_by_method"],
        "tables": ["absent_classes", "beside_published", "majority_baseline", "with_panel_title"],
        "tuning": ["choice_optimism", "chosen_curves", "process_table", "settings_at_last_epoch"],
    },
)
