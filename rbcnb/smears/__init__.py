"""Where images come from: rendered smears, a folder of images, and Chula RBC-12.

`load_smears` yields `Smear` objects whatever the source: an image [H, W, 3] uint8 RGB and, where known, its cells.

>>> from rbcnb.smears import load_smears, synthetic_smears
>>> smear = next(synthetic_smears(1, seed=0, n_cells=12))
>>> smear.name, smear.image.shape
('synthetic_00.png', (168, 224, 3))
>>> list(smear.truth)
['x_px', 'y_px', 'radius_px', 'label', 'border', 'overlap']
>>> [(smear.name, len(smear.truth)) for smear in load_smears("synthetic", n=2, n_cells=5, seed=0)]
[('synthetic_00.png', 5), ('synthetic_01.png', 5)]
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)  # its names: __init__.pyi
