"""The focal loss, its rivals for imbalanced classes, and a toy problem to learn them on.

Every loss takes logits [N, C] and targets [N], as `torch.nn.functional.cross_entropy` does; `build_loss` makes one by
its name.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)  # its names: __init__.pyi
