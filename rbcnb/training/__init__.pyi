# The public names of this folder, each loaded when it is first used.
from .fit import TrialResult as TrialResult
from .fit import hash_data as hash_data
from .fit import run_trial as run_trial
from .gradcam import grad_cam as grad_cam
from .models import build_model as build_model
from .models import describe_block as describe_block
from .models import describe_stages as describe_stages
from .predict import predict_crops as predict_crops
from .resampling import draw_counts as draw_counts
from .resampling import oversample as oversample
from .resampling import undersample as undersample
from .splits import (
    PROTOCOLS as PROTOCOLS,
)
from .splits import (
    SplitError as SplitError,
)
from .splits import (
    assign_splits as assign_splits,
)
from .splits import (
    outer_splits as outer_splits,
)
from .splits import (
    splits_table as splits_table,
)
from .trial import (
    FIT_VERSION as FIT_VERSION,
)
from .trial import (
    Trial as Trial,
)
from .trial import (
    expand_grid as expand_grid,
)
from .trial import (
    setting_fields as setting_fields,
)
