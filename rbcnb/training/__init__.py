"""One fit: its settings (`Trial`), how cells are split, the network and its training.

`run_trial` fits one trial and predicts the cells that it holds out. `cell_dataloaders` and `build_learner` give the
fastai ``DataLoaders`` and ``Learner`` through which it does so. Settings alone load no torch.
"""

import warnings

import lazy_loader

# Importing fastai gives this warning, which is about fastai's own code: nothing that a user could do about it.
warnings.filterwarnings("ignore", message="`torch.jit.script`")

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)  # its names: __init__.pyi
