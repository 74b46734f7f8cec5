"""A run: the folder that the six notebooks fill, and what the commands do with it.

`Run` reads and writes the folder, `RunTables` makes its tables; `reproduce` runs the notebooks; `verify_run` makes the
tables again and compares; `publish_run` keeps the numbers.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)  # its names: __init__.pyi
