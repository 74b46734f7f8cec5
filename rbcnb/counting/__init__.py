"""A trained model on new smears: differential counts with intervals, and warnings of smears unlike the training ones.

`load_model` reads a model file (no code in it is run); `count_files` counts the cells of images.

>>> import pandas as pd
>>> from rbcnb.counting import differential_count
>>> calls = pd.DataFrame({"smear": "a.png", "call": ["normal"] * 15 + ["codocyte"] * 5})
>>> count = differential_count(calls, ("codocyte", "normal"))
>>> count.loc[count["class"] == "codocyte", ["share", "low", "high"]].iloc[0].round(2).tolist()  # 95 % interval
[0.25, 0.11, 0.47]
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)  # its names: __init__.pyi
