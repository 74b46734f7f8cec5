"""What a trial costs over its own work: ours against bare Dask and bare joblib. python benchmarks/scheduling.py

The same function, the same workers (real processes on loopback), the same data (23 MB of crops): ours through
`rbcnb._utils.parallel.run_all`; bare Dask scatters the crops and calls ``client.submit`` per trial and
``as_completed``; bare joblib is ``Parallel(return_as="generator_unordered")``. Medians of interleaved rounds: wall time
per trial, and processor time of all processes together (caller, scheduler, workers), which holds where the machine has
other work.
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path

import joblib
import numpy as np
import psutil

ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from dask_cluster import loopback_cluster  # noqa: E402
from distributed import Client, as_completed  # noqa: E402

from rbcnb._utils.dask_cluster import connect  # noqa: E402
from rbcnb._utils.parallel import run_all  # noqa: E402

CROPS = np.zeros((3392, 48, 48, 3), np.uint8)  # as many as the paper has, of the size of the course
TRIALS = {0.0: 300, 0.01: 300, 0.1: 60, 1.0: 16}  # seconds of a trial -> how many make a round


def work(item: tuple[int, float], crops: np.ndarray) -> tuple[int, np.ndarray]:
    """A trial that takes *item*'s seconds and gives 1,000 predictions."""
    number, seconds = item
    time.sleep(seconds)
    return number, crops[number % 10, :20, :20].astype(np.float64).reshape(-1)[:1000]


def ours_dask(items: list, client: Client) -> int:
    return sum(1 for _ in run_all(work, items, shared=(CROPS,), client=client))


def bare_dask(items: list, client: Client) -> int:
    crops = client.scatter(CROPS, broadcast=True, hash=False)
    futures = [client.submit(work, item, crops, pure=False) for item in items]
    return sum(1 for _ in as_completed(futures, with_results=True, loop=client.loop))


def ours_joblib(items: list, jobs: int) -> int:
    return sum(1 for _ in run_all(work, items, shared=(CROPS,), jobs=jobs))


def bare_joblib(items: list, jobs: int) -> int:
    tasks = (joblib.delayed(work)(item, CROPS) for item in items)
    return sum(1 for _ in joblib.Parallel(n_jobs=jobs, return_as="generator_unordered")(tasks))


def processor_s() -> float:
    """Processor time so far of this process and all that it started."""
    me = psutil.Process()
    times = [process.cpu_times() for process in (me, *me.children(recursive=True))]
    return sum(spent.user + spent.system for spent in times)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, nargs="+", choices=TRIALS, default=list(TRIALS), help="of a trial")
    options = parser.parse_args()
    path = (ROOT, ROOT / "tests", ROOT / "benchmarks")
    with (
        tempfile.TemporaryDirectory() as folder,
        loopback_cluster(Path(folder), workers=options.workers, path=path) as cluster,
    ):
        import scheduling  # by name, as workers import it

        with connect(cluster.address) as client:
            for seconds in options.seconds:
                n = TRIALS[seconds]
                items = [(i, seconds) for i in range(n)]
                peers = {
                    "ours, dask": lambda items=items: scheduling.ours_dask(items, client),
                    "bare dask": lambda items=items: scheduling.bare_dask(items, client),
                    "ours, joblib": lambda items=items: scheduling.ours_joblib(items, options.workers),
                    "bare joblib": lambda items=items: scheduling.bare_joblib(items, options.workers),
                }
                spent: dict[str, list[np.ndarray]] = {name: [] for name in peers}
                for number in range(options.rounds + 1):
                    for name, run in peers.items():
                        start = np.array([time.perf_counter(), processor_s()])
                        assert run() == n
                        if number:  # the first warms up
                            spent[name].append((np.array([time.perf_counter(), processor_s()]) - start) / n)
                for kind in ("dask", "joblib"):
                    ours, bare = (1e3 * np.median(spent[name], axis=0) for name in (f"ours, {kind}", f"bare {kind}"))
                    print(
                        f"{n} trials of {1e3 * seconds:.0f} ms on {options.workers} workers, {kind}, ms a trial: wall "
                        f"{ours[0]:.2f} to {bare[0]:.2f}, ratio {ours[0] / bare[0]:.2f}; processor {ours[1]:.2f} to "
                        f"{bare[1]:.2f}, ratio {ours[1] / bare[1]:.2f}",
                        flush=True,
                    )


if __name__ == "__main__":
    main()
