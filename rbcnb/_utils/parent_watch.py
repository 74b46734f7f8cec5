"""Ends a process when the one that started it is gone: a worker of joblib, or a server.

``python -m rbcnb._utils.parent_watch MODULE ARGUMENTS...`` runs as ``python -m MODULE`` and ends with its standard
input. Whoever starts it with a pipe there and dies, even killed outright, leaves nothing running: the pipe's end dies
with it.
"""

import functools
import os
import runpy
import signal
import sys
import threading
import time

CHECK_EVERY_S = 1.0


def main() -> None:
    """Runs the module named first, with the arguments after it."""
    threading.Thread(target=_follow, daemon=True).start()
    del sys.argv[0]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)


def _follow() -> None:
    while os.read(sys.stdin.fileno(), 4096):
        pass
    os.kill(os.getpid(), signal.SIGTERM)  # the module's own handler ends what it has started


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


if __name__ == "__main__":
    main()
