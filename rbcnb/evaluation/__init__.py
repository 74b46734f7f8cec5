"""Numbers from predictions: scores, intervals, prior shift, calibration and verdicts.

Everything here starts from a predictions table (target, pred, prob_<class>) and needs no network.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)  # its names: __init__.pyi
