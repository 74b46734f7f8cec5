"""A run: the folder that the six notebooks fill, and what the commands do with it.

`Run` reads and writes the folder, `RunTables` makes its tables; `reproduce` runs the notebooks; `verify_run` makes the
tables again and compares; `publish_run` keeps the numbers.

>>> import tempfile
>>> import pandas as pd
>>> from rbcnb.workflow import Run
>>> with tempfile.TemporaryDirectory() as folder:
...     run = Run.at(folder, seed=0)
...     saved = run.save_csv(pd.DataFrame({"cell": [0, 1], "radius_px": [19.5, 20.0]}), "cells.csv")
...     run.load_csv("cells.csv")["radius_px"].tolist()
[19.5, 20.0]
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)  # its names: __init__.pyi
