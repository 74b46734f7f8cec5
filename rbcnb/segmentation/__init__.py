"""From a smear to its cells and their crops: Algorithm 1 of the paper, and a finder for other microscopes.

A `FinderSpec` says how; `segment_smear` does one image, `segment_smears` many, `segment_files` files from a folder.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "batch": ["segment_files"],
        "diameter": ["estimate_diameter"],
        "matching": ["detection_scores", "match_cells"],
        "segment": ["FinderSpec", "METHODS", "find_cells", "segment_smear"],
        "segment_many": ["first_example", "segment_smears"],
        "upscaling": ["upscale", "usable_method"],
    },
)
