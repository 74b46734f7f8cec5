"""A command of rbcnb in this process, where starting a new one a hundred times would take too long."""

import contextlib
import io
from collections.abc import Sequence

from rbcnb.cli import main

TRACEBACK = -1


def called(arguments: Sequence[str]) -> tuple[int, str]:
    """Exit code of ``rbcnb`` with *arguments*, and what it printed; `TRACEBACK` and the error where it raised one."""
    text = io.StringIO()
    with contextlib.redirect_stdout(text), contextlib.redirect_stderr(text):
        try:
            code = main(arguments)
        except Exception as error:  # a person would see its traceback
            return TRACEBACK, f"{type(error).__name__}: {error}"
    if code == 130:  # Ctrl-C is for the tests
        raise KeyboardInterrupt
    return code, text.getvalue()
