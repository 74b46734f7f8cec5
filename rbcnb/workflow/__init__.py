"""A run: the folder that the six notebooks fill, and what the commands do with it.

`Run` reads and writes the folder; `reproduce` runs the notebooks; `verify_run` recomputes a run; `publish_run` keeps
its numbers.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "classical_fits": ["save_classical_fits"],
        "model_export": ["choose_trial", "export_model", "fit_networks", "stored_predictions"],
        "notebooks": ["reproduce"],
        "publish": ["publish_run"],
        "run": ["Run"],
        "verify": ["verify_run"],
    },
)
