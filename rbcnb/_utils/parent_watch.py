"""Ends a process when the one that started it is gone: a worker of joblib, or Voila's server."""

import functools
import os
import signal
import threading
import time

CHECK_EVERY_S = 1.0


@functools.cache
def die_with_parent(parent: int) -> None:
    """Ends this process soon after its parent has died, even killed outright; call it once or often.

    It ends by SIGTERM, so that a handler of this process can end what it has started itself. joblib's workers would
    outlive a parent that was killed: they would train on for hours, and then wait for ever.

    Args:
        parent: the parent's process number: it may have died before this process could ask for it.
    """

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(CHECK_EVERY_S)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, name="die_with_parent", daemon=True).start()
