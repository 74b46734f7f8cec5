# The public names of this folder, each loaded when it is first used.
from .augment import FlipsTurns as FlipsTurns, rotate_flip as rotate_flip
from .dataloaders import CellDataLoaders as CellDataLoaders, cell_dataloaders as cell_dataloaders
from .fit import TrialResult as TrialResult, hash_data as hash_data, run_trial as run_trial
from .gradcam import grad_cam as grad_cam
from .learner import CurveCallback as CurveCallback, EpochCallback as EpochCallback, build_learner as build_learner
from .models import build_model as build_model, describe_block as describe_block, describe_stages as describe_stages
from .predict import predict_crops as predict_crops
from .resampling import draw_counts as draw_counts, oversample as oversample, undersample as undersample
from .splits import (
    PROTOCOLS as PROTOCOLS,
    SplitError as SplitError,
    assign_splits as assign_splits,
    outer_splits as outer_splits,
    splits_table as splits_table,
)
from .trial import (
    FIT_VERSION as FIT_VERSION,
    Trial as Trial,
    expand_grid as expand_grid,
    setting_fields as setting_fields,
)
