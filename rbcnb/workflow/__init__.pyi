# The public names of this folder, each loaded when it is first used.
from .final_fits import (
    fit_classical_baseline as fit_classical_baseline,
    fit_final as fit_final,
    fit_ladder as fit_ladder,
    fit_leakage as fit_leakage,
    fit_lesson as fit_lesson,
)
from .model_export import export_model as export_model, fit_networks as fit_networks
from .notebooks import reproduce as reproduce
from .publish import publish_run as publish_run
from .run import Run as Run
from .run_record import begin_notebook as begin_notebook
from .run_tables import RunTables as RunTables
from .verify import verify_run as verify_run
