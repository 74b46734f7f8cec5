"""Which workers of a cluster are let in: those of one thread that run the code and the libraries of this machine.

Others would compute other numbers: torch's random state is one per process, and a result is known by the code that made
it. They are refused before they are given work or, where they joined late, by the first item that they take.
"""

import functools
import sys
from collections.abc import Callable, Mapping
from importlib import metadata
from typing import TYPE_CHECKING, Any

from rbcnb import __version__
from rbcnb.stamps import code_stamp, with_imports

if TYPE_CHECKING:
    from distributed import Client

_LIBRARIES = ("fastai", "numpy", "pandas", "scikit-learn", "torch", "torchvision")  # that numbers depend on


class ClusterError(RuntimeError):
    """The cluster cannot do the work; what is finished is kept. The message says which part of it, and the mend."""


def modules_of(function: Callable[..., Any]) -> tuple[str, ...]:
    """The modules of this package that *function* is made of, by name."""
    package, _, module = function.__module__.partition(".")
    return with_imports(module) if package == __package__ and module else ()


@functools.cache
def worker_facts(modules: tuple[str, ...]) -> dict[str, str]:
    """What the numbers of *modules* depend on, where this is called: versions and the code itself."""
    import cv2

    facts = {"python": f"{sys.version_info.major}.{sys.version_info.minor}", "rbcnb": __version__}
    facts |= {"opencv": cv2.__version__}  # two packages install it
    for name in _LIBRARIES:
        try:
            facts[name] = metadata.version(name).partition("+")[0]  # a build for a GPU is the same version
        except metadata.PackageNotFoundError:
            facts[name] = "not installed"
    return facts | {"rbcnb's code": code_stamp(*modules)}


def _differences(there: Mapping[str, str], here: Mapping[str, str]) -> list[str]:
    if "error" in there:
        return [there["error"]]
    wrong = [f"{name} {there[name]}, not {here[name]}" for name in here if there[name] != here[name]]
    # Python's minor versions parse the same code to different trees.
    return wrong[:1] if wrong and wrong[0].startswith("python") else wrong


def _threads(n: int) -> list[str]:
    return [] if n == 1 else [f"it has {n} threads: start it with --nthreads 1, and --nworkers for several"]


def mend() -> str:
    """What to do about a worker that is refused."""
    return f"install this very version there (rbcnb {__version__}, the same libraries), or stop that worker"


def check_all(client: "Client", modules: tuple[str, ...]) -> None:
    """Has all workers, and the scheduler, tell what they run; raises ClusterError with those that differ."""

    def probe() -> dict[str, str]:  # sent as code: the package that would be imported may not be there
        try:
            from rbcnb.admission import worker_facts
        except ImportError as error:
            return {"error": f"cannot import rbcnb there ({error})"}
        try:
            return worker_facts(modules)
        except OSError as error:  # a version without one of the modules
            return {"error": f"another rbcnb is there ({error})"}

    here = worker_facts(modules)
    threads = client.nthreads()
    answers = client.run(probe, on_error="ignore")  # a worker that dies meanwhile is none
    wrong = {
        f"worker {address}": _differences(there, here) + _threads(threads.get(address, 1))
        for address, there in answers.items()
    }
    # The scheduler computes nothing, but it unpacks what passes through.
    wrong["the scheduler"] = _differences(client.run_on_scheduler(probe), here)
    if told := [f"{who}: {'; '.join(what)}" for who, what in wrong.items() if what]:
        raise ClusterError("\n".join([f"{client.scheduler.address} cannot do this work; {mend()}", *told]))


def check_this(modules: tuple[str, ...], expected: Mapping[str, str]) -> None:
    """Raises ClusterError, in a worker, where it is not what was *expected*: it may have joined after the others."""
    from distributed import get_worker

    worker = get_worker()
    if wrong := _differences(worker_facts(modules), expected) + _threads(worker.state.nthreads):
        raise ClusterError(f"worker {worker.address} joined late and was refused: {'; '.join(wrong)}; {mend()}")
