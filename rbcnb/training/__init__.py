"""One fit: its settings (`Trial`), how cells are split, the network and its training.

`run_trial` fits one trial and predicts the cells that it holds out. `cell_dataloaders` and `build_learner` give the
fastai ``DataLoaders`` and ``Learner`` through which it does so. Settings alone load no torch.

>>> from rbcnb.training import Trial, build_model, expand_grid
>>> base = Trial(architecture="small", loss="focal", alpha=1.0, gamma=2.0)
>>> trials = expand_grid(base, alpha=(0.5, 1.0), fold=range(5))
>>> len(trials), trials[-1].alpha, trials[-1].fold
(10, 1.0, 4)
>>> build_model(base.architecture, 3)[-1]  # the last layer: a logit for each of three classes
Linear(in_features=64, out_features=3, bias=True)
"""

import warnings

import lazy_loader

# Importing fastai gives this warning, which is about fastai's own code: nothing that a user could do about it.
warnings.filterwarnings("ignore", message="`torch.jit.script`")

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)  # its names: __init__.pyi
