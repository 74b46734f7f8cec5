"""One fit: its settings (`Trial`), how cells are split, the network and its training.

`run_trial` fits one trial and predicts the cells that it holds out. Settings alone load no torch.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)  # its names: __init__.pyi
