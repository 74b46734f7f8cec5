"""Figures: each function takes tables or arrays and returns a Matplotlib Figure; nothing is trained or saved.

Functions named plot_* make the figures of the paper and of the report; the others are drawings that sliders move.

>>> import pandas as pd
>>> from rbcnb.plotting import plot_class_counts, plot_focal_curves
>>> figure = plot_focal_curves([0, 2])
>>> [line.get_label() for line in figure.axes[0].lines]
['γ = 0 (cross entropy)', 'γ = 2']
>>> counts = pd.Series({"codocyte": 345, "hypochromia": 356, "normal": 2691})
>>> [int(bar.get_width()) for bar in plot_class_counts(counts).axes[0].patches]
[345, 356, 2691]
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)  # its names: __init__.pyi
