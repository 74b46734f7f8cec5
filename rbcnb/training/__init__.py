"""One fit: its settings (`Trial`), how cells are split, the network and its training.

`run_trial` fits one trial and predicts the cells that it holds out. Settings alone load no torch.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "fit": ["TrialResult", "hash_data", "run_trial"],
        "gradcam": ["grad_cam"],
        "models": ["build_model", "describe_block", "describe_stages"],
        "predict": ["predict_crops"],
        "resampling": ["draw_counts", "oversample", "undersample"],
        "splits": ["PROTOCOLS", "SplitError", "assign_splits", "outer_splits", "splits_table"],
        "trial": ["FIT_VERSION", "Trial", "expand_grid", "setting_fields"],
    },
)
