"""The same function on many items, side by side: processes of this machine, or the workers of a Dask cluster."""

import os
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import joblib
from joblib.externals.loky.process_executor import BrokenProcessPool

from rbcnb._utils.errors import DeadWorkerError
from rbcnb._utils.parent_watch import die_with_parent

if TYPE_CHECKING:
    from distributed import Client


def run_all(
    function: Callable[..., Any],
    items: Iterable[Any],
    *,
    shared: Sequence[Any] = (),
    jobs: int = 1,
    client: "Client | None" = None,
) -> Iterator[tuple[int, Any]]:
    """Yields an item's number and ``function(item, *shared)``, each as soon as it is done.

    Args:
        function: takes an item and all of *shared*; must be importable where the workers are.
        items: a sequence is begun in its order. An iterator is drawn from as workers get free.
        shared: what every item needs; large arrays go to each worker once.
        jobs: processes of this machine; one at a time is done in this process.
        client: of a Dask cluster (`rbcnb._utils.dask_cluster.connect`), which then does the work in place of processes.

    Raises:
        DeadWorkerError: a process of this machine died, and with it the pool. A cluster goes on without a worker that
            died; an item that killed several has a `DeadWorkerError` in place of its result.
    """
    if client is not None:
        from rbcnb._utils.dask_cluster import run_on_cluster

        yield from run_on_cluster(client, function, items, shared=shared)
        return
    work = (joblib.delayed(_numbered)(function, number, item, *shared) for number, item in enumerate(items))
    # A worker watches this process from its first moment: one that waits for its first item, or is still importing
    # what that needs, would outlive it by minutes.
    watch = {} if jobs == 1 else {"initializer": die_with_parent, "initargs": (os.getpid(),)}
    # One by one: of quick items joblib would make batches, and keep what is done until the last of one is.
    options = {"return_as": "generator_unordered", "batch_size": 1, "max_nbytes": "1M"}
    results = joblib.Parallel(n_jobs=jobs, **options, **watch)(work)
    try:
        for number, result in results:  # noqa: UP028 with "yield from", their end would come before ours and warn
            yield number, result
    except BrokenProcessPool as error:
        raise DeadWorkerError("a worker process died, most likely because memory ran out") from error
    finally:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*tasks which were still being processed")
            results.close()


def run_in_order(
    function: Callable[..., Any], items: Sequence[Any], *, shared: Sequence[Any] = (), jobs: int = 1
) -> list[Any]:
    """``function(item, *shared)`` of all *items*, in their order; arguments and errors as of `run_all`."""
    results = dict(run_all(function, items, shared=shared, jobs=jobs))
    return [results[number] for number in range(len(items))]


def _numbered(function: Callable[..., Any], number: int, item: Any, *shared: Any) -> tuple[int, Any]:
    return number, function(item, *shared)
