"""Red blood cells in notebooks: does focal loss help when classes are imbalanced? (Pasupa et al., 2020).

Folders, in the order in which data walks through them:

- `rbcnb.smears`: where images come from
- `rbcnb.segmentation`: from a smear to cells and crops
- `rbcnb.labels`: from cells to labels
- `rbcnb.losses`: the focal loss and its rivals
- `rbcnb.training`: one fit
- `rbcnb.study`: many fits
- `rbcnb.evaluation`: numbers from predictions
- `rbcnb.plotting`: figures from tables
- `rbcnb.counting`: a model on new smears
- `rbcnb.workflow`: a run's folder and what the commands do with it
"""

import lazy_loader

__version__ = "0.1.0"

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)  # its folders: __init__.pyi
