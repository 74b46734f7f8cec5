"""Errors that modules of several folders raise or derive theirs from."""

import errno
import re

# How libraries say that there is no memory: the dynamic loader, threads, PyTorch, OpenCV, C++.
_NO_MEMORY = re.compile(
    r"failed to map segment|cannot allocate memory|can't start new thread|can't allocate memory|insufficient memory"
    r"|out of memory|bad_alloc|cannot create shared memory",
    re.IGNORECASE,
)


class PlainError:
    """A mixin for errors that tell the reader all: a notebook shows their message in place of a traceback.

    What went wrong is the file, the parameter or the machine that the message names, and no line of this package.
    """

    def _render_traceback_(self) -> list[str]:
        """What IPython shows."""
        return [f"{type(self).__name__}: {self}"]


class InputError(PlainError, ValueError):
    """A value that was given cannot be used; the message says which, and what can."""


class MissingFileError(PlainError, FileNotFoundError):
    """A file or folder is not there; the message names it, and how to get it."""


class UnfinishedError(PlainError, RuntimeError):
    """Work could not be done to its end; what is finished is kept. A command ends with exit code 1 and its message."""


class DeadWorkerError(PlainError, RuntimeError):
    """A worker process ended in the middle of its work, most likely because memory ran out."""


class ClusterError(UnfinishedError):
    """The cluster cannot do the work. The message says which part of it, and the remedy."""


class WeightsError(UnfinishedError):
    """A network's pretrained weights cannot be loaded here; the message names the remedy."""


class MissingLibraryError(UnfinishedError, ImportError):
    """A package cannot be loaded, as a system library is missing; the message names it, and how to get it."""


class SmearError(PlainError, ValueError):
    """A smear, or its labels, cannot be read; the message names the file and the remedy."""


class SmearWarning(UserWarning):
    """What was guessed or left out when a smear, or a folder of them, was read; the message names the file."""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether *error*, of whatever library, says that there was not enough memory."""
    if isinstance(error, MemoryError) or getattr(error, "errno", None) == errno.ENOMEM:
        return True
    return bool(_NO_MEMORY.search(str(error)))
