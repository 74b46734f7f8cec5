"""Errors that modules of several folders raise or derive theirs from."""


class UnfinishedError(RuntimeError):
    """Work could not be done to its end; what is finished is kept. A command ends with exit code 1 and its message."""


class DeadWorkerError(RuntimeError):
    """A worker process ended in the middle of its work, most likely for want of memory."""


class ClusterError(UnfinishedError):
    """The cluster cannot do the work. The message says which part of it, and the remedy."""


class WeightsError(UnfinishedError):
    """A network's pretrained weights cannot be had here; the message names the remedy."""


class SmearError(ValueError):
    """A smear, or its labels, cannot be read; the message names the file and the mend."""


class SmearWarning(UserWarning):
    """What was guessed or left out when a smear, or a folder of them, was read; the message names the file."""
