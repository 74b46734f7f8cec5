"""Red blood cells in notebooks: does focal loss help when classes are imbalanced? (Pasupa et al., 2020)."""

__version__ = "0.1.0"
