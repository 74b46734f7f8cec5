"""``python -m rbcnb.guard MODULE ARGUMENTS...``: as ``python -m MODULE``, ended when standard input ends.

Whoever starts it with a pipe there and dies, even killed outright, leaves nothing running: the pipe's end dies with it.
"""

import os
import runpy
import signal
import sys
import threading


def main() -> None:
    """Runs the module named first, with the arguments after it."""
    threading.Thread(target=_follow, daemon=True).start()
    del sys.argv[0]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)


def _follow() -> None:
    while os.read(sys.stdin.fileno(), 4096):
        pass
    os.kill(os.getpid(), signal.SIGTERM)  # the module's own handler ends what it has started


if __name__ == "__main__":
    main()
