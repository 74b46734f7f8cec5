"""Where images come from: rendered smears, a folder of images, and Chula RBC-12.

`load_smears` yields `Smear` objects whatever the source: an image [H, W, 3] uint8 RGB and, where known, its cells.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)  # its names: __init__.pyi
