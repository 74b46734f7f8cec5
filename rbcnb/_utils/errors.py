"""Errors that several modules of this folder raise."""


class DeadWorkerError(RuntimeError):
    """A worker process ended in the middle of its work, most likely for want of memory."""


class ClusterError(RuntimeError):
    """The cluster cannot do the work; what is finished is kept. The message says which part of it, and the remedy."""
