"""Many fits: the two protocols, the ladder of imbalance, the store of trials, the ledger of test sets, and tables.

`run_study` fits what the store lacks and returns one row per trial.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "classical": ["beside_networks", "entry_of_choice", "fit_classical", "tune_classical"],
        "features": ["cell_features"],
        "gaps": ["Gaps"],
        "label_audit": [
            "apply_corrections",
            "audit_splits",
            "correction_effect",
            "eight_views",
            "load_corrections",
            "out_of_fold",
        ],
        "ladder": [
            "ARMS",
            "BASE_RHO",
            "TABLE2_ARM",
            "all_trials",
            "dev_rungs",
            "label_fits",
            "ladder_counts",
            "paper_rung",
            "plan_ladder",
        ],
        "leakage": ["leakage_fits", "leakage_gap"],
        "ledger": ["entry_of", "open_test", "record_refits"],
        "protocols": ["best_settings", "choose_settings", "chosen_trials", "in_folds", "protocol_names", "settings_of"],
        "runner": ["run_study"],
        "store": ["load_curves", "predictions_by_method"],
        "tables": [
            "absent_classes",
            "beside_published",
            "forecasts_of",
            "majority_baseline",
            "mcnemar_table",
            "resampled_t",
            "table1",
            "table2",
            "table3",
            "with_balanced",
            "with_panel_title",
        ],
        "tuning": ["choice_optimism", "chosen_curves", "process_table", "settings_at_last_epoch"],
    },
)
