"""Where images come from: rendered smears, a folder of images, and Chula RBC-12.

`load_smears` yields `Smear` objects whatever the source: an image [H, W, 3] uint8 RGB and, where known, its cells.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "chula": ["chula_smears", "chula_truth", "fetch_chula"],
        "images": ["Smear", "SmearError", "read_image"],
        "sources": ["folder_smears", "load_smears", "synthetic_smears"],
    },
)
