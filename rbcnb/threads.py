"""How many threads torch works with."""

from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def one_thread() -> Iterator[None]:
    """A context, or a decorator, in which torch uses one thread: the same bits on any number of cores.

    Small tensors are also sooner done by one, above all where other processes want the cores.
    """
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
