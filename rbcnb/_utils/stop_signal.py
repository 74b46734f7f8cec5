"""SIGTERM, a scheduler's "please stop", ends a command as Ctrl-C does: what it has started is closed."""

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

AGAIN_S = 1.0


@contextmanager
def stoppable() -> Iterator[None]:
    """Raises KeyboardInterrupt in the block at a SIGTERM, and again each second until it takes effect.

    An exception that is raised in the middle of an import, a callback or a finaliser may be swallowed there: the
    command would run on as if nothing had been asked of it. While a ``finally`` closes what is open it is left alone.
    """
    ended = threading.Event()

    def insist() -> None:
        if not ended.wait(AGAIN_S) and not _is_stopping():
            os.kill(os.getpid(), signal.SIGTERM)

    def stop(_number: int, _frame: FrameType | None) -> None:
        threading.Thread(target=insist, name="insist on SIGTERM", daemon=True).start()
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        ended.set()
        signal.signal(signal.SIGTERM, before)


def _is_stopping() -> bool:
    """Whether the main thread is on its way out, with a KeyboardInterrupt at hand."""
    error = sys._current_exceptions().get(threading.main_thread().ident)
    error = error[1] if isinstance(error, tuple) else error  # up to Python 3.11 it is what sys.exc_info gives
    while error is not None:
        if isinstance(error, KeyboardInterrupt):
            return True
        error = error.__context__
    return False
