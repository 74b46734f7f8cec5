"""Numbers from predictions: scores, intervals, prior shift, calibration and verdicts.

Everything here starts from a predictions table (target, pred, prob_<class>) and needs no network.

>>> import pandas as pd
>>> from rbcnb.evaluation import confusion_table, score_predictions
>>> table = pd.DataFrame({"target": ["codocyte", "codocyte", "normal"], "pred": ["codocyte", "normal", "normal"]})
>>> table = table.assign(prob_codocyte=[0.9, 0.4, 0.2], prob_normal=[0.1, 0.6, 0.8])
>>> round(score_predictions(table)["macro_f1"], 3)
0.667
>>> confusion_table(table).to_numpy().tolist()  # rows: predicted; columns: target
[[1, 0], [1, 1]]
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)  # its names: __init__.pyi
