"""A trained model on new smears: differential counts with intervals, and warnings of smears unlike the training ones.

`load_model` reads a model file (no code in it is run); `count_files` counts the cells of images.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)  # its names: __init__.pyi
