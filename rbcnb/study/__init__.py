"""Many fits: the two protocols, the ladder of imbalance, the store of trials, the ledger of test sets, and tables.

`run_study` fits what the store lacks and returns one row per trial.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)  # its names: __init__.pyi
