"""Figures: each function takes tables or arrays and returns a Matplotlib Figure; nothing is trained or saved.

Functions named plot_* make the figures of the paper and of the report; the others are drawings that sliders move.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)  # its names: __init__.pyi
