# The public names of this folder, each loaded when it is first used.
from .classical import (
    beside_networks as beside_networks,
)
from .classical import (
    entry_of_choice as entry_of_choice,
)
from .classical import (
    fit_classical as fit_classical,
)
from .classical import (
    tune_classical as tune_classical,
)
from .features import cell_features as cell_features
from .gaps import Gaps as Gaps
from .label_audit import (
    apply_corrections as apply_corrections,
)
from .label_audit import (
    audit_splits as audit_splits,
)
from .label_audit import (
    correction_effect as correction_effect,
)
from .label_audit import (
    eight_views as eight_views,
)
from .label_audit import (
    load_corrections as load_corrections,
)
from .label_audit import (
    out_of_fold as out_of_fold,
)
from .ladder import (
    ARMS as ARMS,
)
from .ladder import (
    BASE_RHO as BASE_RHO,
)
from .ladder import (
    TABLE2_ARM as TABLE2_ARM,
)
from .ladder import (
    all_trials as all_trials,
)
from .ladder import (
    dev_rungs as dev_rungs,
)
from .ladder import (
    label_fits as label_fits,
)
from .ladder import (
    ladder_counts as ladder_counts,
)
from .ladder import (
    paper_rung as paper_rung,
)
from .ladder import (
    plan_ladder as plan_ladder,
)
from .leakage import leakage_fits as leakage_fits
from .leakage import leakage_gap as leakage_gap
from .ledger import entry_of as entry_of
from .ledger import open_test as open_test
from .ledger import record_refits as record_refits
from .protocols import (
    best_settings as best_settings,
)
from .protocols import (
    choose_settings as choose_settings,
)
from .protocols import (
    chosen_trials as chosen_trials,
)
from .protocols import (
    in_folds as in_folds,
)
from .protocols import (
    protocol_names as protocol_names,
)
from .protocols import (
    settings_of as settings_of,
)
from .runner import run_study as run_study
from .store import load_curves as load_curves
from .store import predictions_by_method as predictions_by_method
from .tables import (
    absent_classes as absent_classes,
)
from .tables import (
    beside_published as beside_published,
)
from .tables import (
    forecasts_of as forecasts_of,
)
from .tables import (
    majority_baseline as majority_baseline,
)
from .tables import (
    mcnemar_table as mcnemar_table,
)
from .tables import (
    resampled_t as resampled_t,
)
from .tables import (
    table1 as table1,
)
from .tables import (
    table2 as table2,
)
from .tables import (
    table3 as table3,
)
from .tables import (
    with_balanced as with_balanced,
)
from .tables import (
    with_panel_title as with_panel_title,
)
from .tuning import (
    choice_optimism as choice_optimism,
)
from .tuning import (
    chosen_curves as chosen_curves,
)
from .tuning import (
    process_table as process_table,
)
from .tuning import (
    settings_at_last_epoch as settings_at_last_epoch,
)
