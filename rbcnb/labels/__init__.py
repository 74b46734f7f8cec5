"""From cells to labels: readers and their agreement, doubtful labels, the labeller, and files of other tools.

Readings are rows that are only ever added; the labels that stand are computed from them (`current_labels`).
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)  # its names: __init__.pyi
