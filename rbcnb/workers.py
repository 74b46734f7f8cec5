"""Worker processes that end when their parent does."""

import functools
import os
import threading
import time
from collections.abc import Callable
from typing import Any

CHECK_EVERY_S = 1.0


@functools.cache
def die_with_parent() -> None:
    """Ends this process soon after its parent has died; call it in a worker, once or often.

    joblib's workers outlive a parent that was killed: they would train on for hours, and then wait for ever.
    """
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(CHECK_EVERY_S)
        os._exit(1)

    threading.Thread(target=watch, name="die_with_parent", daemon=True).start()


def in_worker(function: Callable[..., Any], *arguments: Any) -> Any:
    """``function(*arguments)`` in a worker process that ends with its parent."""
    die_with_parent()
    return function(*arguments)
