"""From cells to labels: readers and their agreement, doubtful labels, the labeller, and files of other tools.

Readings are rows that are only ever added; the labels that stand are computed from them (`current_labels`).

>>> import tempfile
>>> import pandas as pd
>>> from rbcnb.labels import append_readings, current_labels, load_readings
>>> words = [("Ann", "normal"), ("Ben", "codocyte"), ("Cid", "normal")]
>>> readings = pd.DataFrame(words, columns=["reader", "label"]).assign(smear="a.png", cell=0)
>>> with tempfile.TemporaryDirectory() as folder:
...     append_readings(f"{folder}/readings.csv", readings)
...     current_labels(load_readings(f"{folder}/readings.csv"))[["label", "n_readers", "n_agree"]].values.tolist()
[['normal', 3, 2]]
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)  # its names: __init__.pyi
