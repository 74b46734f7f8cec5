"""From a smear to its cells and their crops: Algorithm 1 of the paper, and a finder for other microscopes.

A `FinderSpec` says how; `segment_smear` does one image, `segment_smears` many, `segment_files` files from a folder.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)  # its names: __init__.pyi
