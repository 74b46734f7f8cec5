"""A Dask cluster on loopback, of real processes: a scheduler, and workers that a test starts and kills."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil

ROOT = Path(__file__).parent.parent
PATH = (ROOT, ROOT / "tests", ROOT / "tests" / "_utils")  # of the package, and of what tests send to workers
START_S = 120.0


@dataclass
class Cluster:
    """Its address, and the processes of its workers, in the order of their start."""

    folder: Path
    path: Sequence[Path]
    address: str = ""
    scheduler: subprocess.Popen | None = None
    workers: list[subprocess.Popen] = field(default_factory=list)
    nannies: list[subprocess.Popen] = field(default_factory=list)  # those of them that start a worker again that died

    def add_worker(self, *options: str, path: Sequence[Path] | None = None, nanny: bool = False) -> None:
        """Starts a worker of one thread, which may import from another *path*; it joins soon."""
        command = ["dask_worker", self.address, "--name", str(len(self.workers)), "--local-directory", str(self.folder)]
        command += ["--no-dashboard", "--memory-limit", "0", "--nanny" if nanny else "--no-nanny"]
        command += options if "--nthreads" in options else ["--nthreads", "1", *options]
        self.workers.append(self.start(command, path=path))
        if nanny:
            self.nannies.append(self.workers[-1])

    def start(self, command: list[str], *, path: Sequence[Path] | None = None) -> subprocess.Popen:
        env = os.environ | {"PYTHONPATH": os.pathsep.join(map(str, path or self.path)), "OMP_NUM_THREADS": "1"}
        log = (self.folder / f"{command[0]}-{len(self.workers)}.log").open("w")
        return subprocess.Popen(
            [sys.executable, "-m", f"distributed.cli.{command[0]}", *command[1:]],
            env=env,
            cwd=self.folder,
            stdout=log,
            stderr=log,
        )

    def wait(self) -> None:
        """Until all workers that live have joined."""
        from distributed import Client

        wanted = {str(name) for name, process in enumerate(self.workers) if process.poll() is None}
        deadline = time.monotonic() + START_S
        with Client(self.address, set_as_default=False) as client:
            while not wanted <= set(client.run_on_scheduler(_names)):
                assert time.monotonic() < deadline, "workers do not join"
                time.sleep(0.1)


def _names(dask_scheduler: object) -> list[str]:
    return [str(worker.name) for worker in dask_scheduler.workers.values()]


@contextmanager
def loopback_cluster(
    folder: Path, *, workers: int = 0, options: Sequence[str] = (), path: Sequence[Path] = PATH
) -> Iterator[Cluster]:
    """A scheduler and its *workers*, all of which import from *path* first."""
    cluster = Cluster(folder, path)
    file = folder / "scheduler.json"
    command = ["dask_scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard", "--scheduler-file", str(file)]
    cluster.scheduler = cluster.start(command)
    try:
        deadline = time.monotonic() + START_S
        while not cluster.address:
            assert time.monotonic() < deadline, "the scheduler does not start"
            time.sleep(0.05)
            if file.exists() and (text := file.read_text()).endswith("}"):
                cluster.address = json.loads(text)["address"]
        for _ in range(workers):
            cluster.add_worker(*options)
        cluster.wait()
        yield cluster
    finally:
        # A nanny ends its own worker while there is a scheduler to say so to. Other workers are killed: asked to end,
        # they would wait for a thread that a test left sleeping.
        for nanny in cluster.nannies:
            nanny.terminate()
        for nanny in cluster.nannies:
            _end(nanny)
        for process in (*cluster.workers, cluster.scheduler):
            process.kill()
            process.wait()


def _end(nanny: subprocess.Popen) -> None:
    offspring = psutil.Process(nanny.pid).children(recursive=True) if nanny.poll() is None else []
    try:
        nanny.wait(timeout=20)
    except subprocess.TimeoutExpired:
        nanny.kill()
        nanny.wait()
    for process in offspring:
        with suppress(psutil.NoSuchProcess):
            process.kill()
