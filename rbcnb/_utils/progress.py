"""What a command says while it works: lines, a bar where there is a terminal to draw it on, nothing if it is quiet."""

import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TypeVar

from rbcnb._utils.duration import duration

Item = TypeVar("Item")
LINE_EVERY_S = 15.0  # where lines are kept, as in a batch system's log
_quiet: ContextVar[bool] = ContextVar("quiet", default=False)


@contextmanager
def quiet() -> Iterator[None]:
    """Inside, `say` and `progress` print nothing."""
    before = _quiet.set(True)
    try:
        yield
    finally:
        _quiet.reset(before)


def say(line: str) -> None:
    """Prints *line* at once, to standard error: standard output is for results."""
    if not _quiet.get():
        print(line, file=sys.stderr, flush=True)


def progress(items: Iterable[Item], *, total: int, unit: str) -> Iterator[Item]:
    """*items* as they come, and how far they are: a bar on a terminal, else a line now and then.

    Args:
        items: any.
        total: how many there are.
        unit: what one of them is.
    """
    if _quiet.get():
        yield from items
    elif sys.stderr.isatty():
        from tqdm import tqdm

        yield from tqdm(items, total=total, unit=unit)
    else:
        start = last = time.monotonic()
        for done, item in enumerate(items, 1):
            yield item
            now = time.monotonic()
            if now - last >= LINE_EVERY_S and done < total:
                left = duration((now - start) / done * (total - done))
                say(f"{done} of {total} {unit}s; about {left} left")
                last = now
