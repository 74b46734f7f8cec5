"""Work on other machines: the workers of a Dask scheduler do what processes of this one do.

It is `rbcnb._utils.parallel.run_all` that gives them work. Results come home to the caller, who keeps them: workers
need no disk in common. What all items share goes to the scheduler once and from worker to worker after that; the
scheduler keeps it, so that a worker that takes it along when it dies loses nothing, and one that joins late gets it.
Only workers that run the same versions and code may work.
"""

import functools
import secrets
import socket
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rbcnb import __version__
from rbcnb._utils.code_digest import code_digest, installed_versions
from rbcnb._utils.errors import ClusterError, DeadWorkerError

if TYPE_CHECKING:
    from distributed import Client, Future

_LIBRARIES = ("fastai", "numpy", "pandas", "scikit-learn", "torch", "torchvision")  # that numbers depend on
CONNECT_S = 5.0
WAIT_S = 0.5
WATCH_EVERY_S = 2.0
AHEAD = 2  # items of an iterator per worker that are under way at once


@functools.cache
def worker_facts() -> dict[str, str]:
    """What numbers depend on, where this is called: versions and the code itself."""
    from rbcnb._utils.opencv import cv2

    facts = {"python": f"{sys.version_info.major}.{sys.version_info.minor}", "rbcnb": __version__}
    facts |= {"opencv": cv2.__version__}  # two packages install it
    for name, version in installed_versions(_LIBRARIES).items():
        facts[name] = version.partition("+")[0]  # a build for a GPU is the same version
    return facts | {"rbcnb's code": code_digest()}


def _differences(there: Mapping[str, str], here: Mapping[str, str]) -> list[str]:
    if "error" in there:
        return [there["error"]]
    return [f"{name} {there[name]}, not {here[name]}" for name in here if there[name] != here[name]]


def _threads(n: int) -> list[str]:
    return [] if n == 1 else [f"it has {n} threads: start it with --nthreads 1, and --nworkers for several"]


def install_hint() -> str:
    """What to do about a worker that is refused."""
    return f"install this very version there (rbcnb {__version__}, the same libraries), or stop that worker"


def check_all(client: "Client") -> None:
    """Asks all workers, and the scheduler, what they run; raises ClusterError with those that differ."""

    def probe() -> dict[str, str]:  # sent as code: the package that would be imported may not be there
        try:
            from rbcnb._utils.dask_cluster import worker_facts as facts
        except ImportError as error:
            return {"error": f"cannot import this rbcnb there ({error})"}
        return facts()

    here = worker_facts()
    threads = client.nthreads()
    answers = client.run(probe, on_error="ignore")  # a worker that dies meanwhile is none
    wrong = {
        f"worker {address}": _differences(there, here) + _threads(threads.get(address, 1))
        for address, there in answers.items()
    }
    # The scheduler computes nothing, but it unpacks what passes through.
    wrong["the scheduler"] = _differences(client.run_on_scheduler(probe), here)
    if lines := [f"{who}: {'; '.join(what)}" for who, what in wrong.items() if what]:
        raise ClusterError("\n".join([f"{client.scheduler.address} cannot do this work; {install_hint()}", *lines]))


def check_this(expected: Mapping[str, str]) -> None:
    """Raises ClusterError, in a worker, where it is not what was *expected*: it may have joined after the others."""
    from distributed import get_worker

    worker = get_worker()
    if wrong := _differences(worker_facts(), expected) + _threads(worker.state.nthreads):
        raise ClusterError(f"worker {worker.address} joined late and was refused: {'; '.join(wrong)}; {install_hint()}")


def _print_line(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


@contextmanager
def connect(scheduler: str | None, *, say: Callable[[str], None] = _print_line) -> Iterator["Client | None"]:
    """Yields a client of the Dask scheduler at *scheduler*; None stands for this machine, and is yielded as such.

    Waits for the first worker, as long as it takes (those of a batch system queue), and says so.

    Args:
        scheduler: its address, such as "tcp://10.0.0.5:8786".
        say: takes a line when it waits.

    Raises:
        ClusterError: there is no scheduler, or a worker does not run what this machine does; names each.
    """
    if not scheduler:
        yield None
        return
    try:
        from distributed import Client
        from distributed.comm import CommClosedError
    except ModuleNotFoundError:
        raise ClusterError("a scheduler needs Dask's distributed: pip install 'rbcnb[cluster]'") from None
    try:
        _knock(scheduler)
        client = Client(scheduler, timeout=CONNECT_S, set_as_default=False, name="rbcnb")
    except (OSError, ValueError, TypeError) as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise ClusterError(
            f"{scheduler}: no Dask scheduler answers there ({reason}); start one (dask scheduler), check the address "
            "and the firewall between, or leave it out to work on this machine"
        ) from None
    try:
        if not client.nthreads():
            say(f"waiting for a worker at {scheduler}; start one there: dask worker {scheduler} --nthreads 1")
            while not client.nthreads():
                time.sleep(WAIT_S)
        check_all(client)
        yield client
    except CommClosedError:
        raise _gone(client) from None
    finally:
        with suppress(OSError, TimeoutError):
            client.close(timeout=CONNECT_S)


def _knock(scheduler: str) -> None:
    """Raises OSError where nothing listens: a client that finds nobody leaves its thread and its event loop behind."""
    from distributed.comm.addressing import get_address_host_port

    with suppress(NotImplementedError):  # an address without a port, such as one within this process
        socket.create_connection(get_address_host_port(scheduler), timeout=CONNECT_S).close()


def ask_all_workers(client: "Client | None", function: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
    """``function(*arguments, **options)`` as all workers answer it: what depends on the machine, who works decides.

    Without a client this machine is the one that works, and answers.

    Raises:
        ClusterError: they answer differently.
    """
    if client is None:
        return function(*arguments, **options)
    answers = client.run(function, *arguments, **options)
    by_answer = {repr(answer): worker for worker, answer in answers.items()}
    if len(by_answer) > 1:
        kinds = ", ".join(f"{worker} says {answer}" for answer, worker in by_answer.items())
        raise ClusterError(
            f"the workers are of several kinds: for {function.__name__}{arguments} {kinds}; use one kind at a time, or "
            "name the choice yourself"
        )
    return next(iter(answers.values()))


@contextmanager
def shared_folder_probe(folder: Path) -> Iterator[Path]:
    """Yields a file in *folder* by which a worker can tell whether its folder of that name is the same one."""
    # Named as what a killed process leaves half written, so that it is cleared away with that.
    mark = folder / f".{secrets.token_hex(8)}.{secrets.token_hex(4)}.part.json"
    mark.touch()
    try:
        yield mark
    finally:
        mark.unlink(missing_ok=True)


def count_workers(client: "Client") -> int:
    """Items that the cluster works on at once."""
    return len(client.nthreads())


def run_on_cluster(
    client: "Client", function: Callable[..., Any], items: Iterable[Any], *, shared: Sequence[Any] = ()
) -> Iterator[tuple[int, Any]]:
    """`rbcnb._utils.parallel.run_all` on *client*'s workers. Dask does the items of a worker that died again on others.

    A caller that is interrupted is still given what had arrived; what has not begun is cancelled. What a worker is at
    cannot be stopped: it is computed to the end and dropped.

    Raises:
        ClusterError: the scheduler is gone, or a worker that joined late cannot do the work.
    """
    import dask
    from distributed import as_completed

    name = f"{function.__name__.strip('_')}-{secrets.token_hex(4)}"
    numbers: dict[Future, int] = {}
    source, everything = enumerate(items), isinstance(items, Sequence)
    with dask.config.set({"distributed.admin.large-graph-warning-threshold": "1 TB"}):  # once is what it takes
        held = client.submit(_hold, function, worker_facts(), *shared, key=f"shared-{name}")
    arrivals = as_completed([], with_results=True, raise_errors=False, loop=client.loop)

    def submit(count: int | None) -> None:
        """Sends as many items as are wanted, or all that there are."""
        if not (new := list(islice(source, count))):
            return
        # In one graph and of one group: the scheduler hands such items out as workers get free, late ones too; sent one
        # by one, the first would all go to the worker that has what they share.
        keys = [(name, number) for number, _ in new]
        futures = client.map(_guarded, [item for _, item in new], key=keys, held=held, pure=False)
        numbers.update(zip(futures, (number for number, _ in new), strict=True))
        arrivals.update(futures)

    def arrived() -> Iterator[tuple[int, Any]]:
        while arrivals.has_ready():  # one by one: what is not taken yet can still be fetched after an interruption
            future, value = next(arrivals)
            yield numbers.pop(future), _outcome(client, future, value, held)

    watched_s, workers = time.monotonic(), count_workers(client)
    try:
        submit(None if everything else AHEAD * workers)
        while numbers:
            with arrivals.thread_condition:  # each arrival notifies it, and no interrupt waits longer than this
                if not arrivals.has_ready():
                    arrivals.thread_condition.wait(WAIT_S)
            yield from arrived()
            if time.monotonic() - watched_s > WATCH_EVERY_S:
                watched_s, workers = time.monotonic(), _watch(client, workers)
            if not everything and (room := AHEAD * max(1, workers) - len(numbers)) > 0:
                submit(room)
    except KeyboardInterrupt:
        yield from arrived()
        raise
    finally:
        with suppress(OSError, TimeoutError, RuntimeError):
            client.cancel([*numbers, held])


def _watch(client: "Client", before: int) -> int:
    """The workers there are now; says when the last one goes, since a study without any would wait in silence."""
    try:
        workers = count_workers(client)
    except (OSError, RuntimeError, TimeoutError):
        raise _gone(client) from None
    if before and not workers:
        _print_line(f"no worker is left at {client.scheduler.address}; waiting for one")
    return workers


def _outcome(client: "Client", future: "Future", value: Any, held: "Future") -> Any:
    from distributed import KilledWorker

    if future.status == "finished":
        return value
    if future.status == "cancelled":
        if held.status == "error":  # what all items wait for did not come into being
            raise ClusterError(f"{client.scheduler.address} cannot unpack the work, its log says why; {install_hint()}")
        raise _gone(client)
    error = future.exception()
    if isinstance(error, KilledWorker):
        return DeadWorkerError(
            f"KilledWorker: {1 + error.allowed_failures} workers died while at it, most likely because memory ran out"
        )
    if isinstance(error, ImportError | AttributeError):  # the item could not even be unpacked
        raise ClusterError(f"a worker cannot run this package ({error}); {install_hint()}") from error
    raise error


def _gone(client: "Client") -> ClusterError:
    return ClusterError(
        f"{client.scheduler.address}: the scheduler is gone, or it dropped the work; what is finished is kept: start "
        "it and run the same again"
    )


def _hold(*shared: Any) -> tuple:
    """The identity, as a task: unlike scattered data, a task's result that dies with its worker is made again."""
    return shared


def _guarded(item: Any, held: tuple) -> Any:
    """``function(item, *shared)``, unless this worker is not what it must be: it may have come after the check."""
    function, expected, *shared = held
    check_this(expected)
    return function(item, *shared)
