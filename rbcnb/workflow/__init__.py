"""A run: the folder that the six notebooks fill, and what the commands do with it.

`Run` reads and writes the folder, `RunTables` makes its tables; `reproduce` runs the notebooks; `verify_run` makes the
tables again and compares; `publish_run` keeps the numbers.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "final_fits": ["fit_classical_baseline", "fit_final", "fit_ladder", "fit_leakage"],
        "model_export": ["export_model", "fit_networks"],
        "notebooks": ["reproduce"],
        "publish": ["publish_run"],
        "run": ["Run"],
        "run_tables": ["RunTables"],
        "verify": ["verify_run"],
    },
)
