"""Many fits: the two protocols, the ladder of imbalance, the store of trials, the ledger of test sets, and tables.

`run_study` fits what the store lacks and returns one row per trial.

>>> from rbcnb.study import BASE_RHO, ladder_counts, protocol_names
>>> protocol_names("both")
('paper', 'honest')
>>> rungs = ladder_counts({"codocyte": 345, "hypochromia": 356, "normal": 2691})  # Table 2: ratio -> class -> cells
>>> [round(rho, 1) for rho in rungs]
[2.0, 3.0, 4.7, 7.8, 11.3, 17.9, 37.9]
>>> rungs[BASE_RHO]
{'codocyte': 345, 'hypochromia': 356, 'normal': 2691}
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)  # its names: __init__.pyi
