# The public names of this folder, each loaded when it is first used.
from .classical_fits import save_classical_fits as save_classical_fits
from .model_export import (
    choose_trial as choose_trial,
)
from .model_export import (
    export_model as export_model,
)
from .model_export import (
    fit_networks as fit_networks,
)
from .model_export import (
    stored_predictions as stored_predictions,
)
from .notebooks import reproduce as reproduce
from .publish import publish_run as publish_run
from .run import Run as Run
from .verify import verify_run as verify_run
