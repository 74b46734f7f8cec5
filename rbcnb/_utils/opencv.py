"""OpenCV, as ``from rbcnb._utils.opencv import cv2``, or a sentence where a library of the system is missing.

Slim machines and containers lack two that its wheel needs, and Python then names a file that nobody asked for.
"""

from rbcnb._utils.errors import MissingLibraryError

try:
    import cv2 as cv2
except ImportError as error:
    if "cannot open shared object file" not in str(error):
        raise
    raise MissingLibraryError(
        f"OpenCV needs a library that this system lacks ({str(error).partition(':')[0]}); "
        "on Debian and Ubuntu get it with: sudo apt-get install libgl1 libglib2.0-0"
    ) from None
