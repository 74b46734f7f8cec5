"""The focal loss, its rivals for imbalanced classes, and a toy problem to learn them on.

Every loss takes logits [N, C] and targets [N], as `torch.nn.functional.cross_entropy` does; `build_loss` makes one by
its name.

>>> import torch
>>> from rbcnb.losses import build_loss, focal_loss
>>> logits, targets = torch.zeros(2, 3), torch.tensor([0, 2])
>>> focal_loss(logits, targets, gamma=2.0)
tensor(0.4883)
>>> build_loss("balanced_softmax", class_counts=[345, 356, 2691])(logits, targets)
tensor(1.2586)
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)  # its names: __init__.pyi
