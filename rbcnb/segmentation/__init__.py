"""From a smear to its cells and their crops: Algorithm 1 of the paper, and a finder for other microscopes.

A `FinderSpec` says how; `segment_smear` does one image, `segment_smears` many, `segment_files` files from a folder.

>>> from rbcnb.segmentation import FinderSpec, match_cells, segment_smear
>>> from rbcnb.smears import synthetic_smears
>>> smear = next(synthetic_smears(1, seed=0, n_cells=20))
>>> found = segment_smear(smear.image, FinderSpec(size_px=64, upscale="bicubic"))
>>> list(found.cells), found.crops.shape[1:]
(['cell', 'x_px', 'y_px', 'radius_px', 'border'], (64, 64, 3))
>>> bool((match_cells(found.cells, smear.truth, max_distance=10) >= 0).mean() > 0.9)  # found cells that are cells
True
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)  # its names: __init__.pyi
