"""The figures of docs/scale.md: what 10^8 cells and 1,000 GPUs do to each part. python benchmarks/scale.py [PART ...]

Parts: store, split, hash, scheduler. Each is measured on this machine at sizes it can hold, in seconds of processor
time (the machine may have other work), fitted as a power of the size on the largest two, and extrapolated. The
scheduler is a discrete-event simulation fed with a measured overhead.
"""

import argparse
import heapq
import math
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from rbcnb.columns import CELL, CLASSES, GROUP, LABEL, PRED, SMEAR, TARGET, prob_columns
from rbcnb.study.store import store_result
from rbcnb.study.store_index import store_rows
from rbcnb.training.fit import TrialResult, hash_data
from rbcnb.training.splits import assign_splits
from rbcnb.training.trial import Trial

CELLS = 1e8
TEST_CELLS = 0.3 * CELLS
SIZE_PX = 48


def timed(work: Callable[[], object]) -> float:
    start = time.process_time()
    work()
    return time.process_time() - start


def power(sizes: list[float], values: list[float]) -> tuple[float, Callable[[float], float]]:
    """Exponent, and the power law, through the largest two measurements."""
    exponent = math.log(values[-1] / values[-2]) / math.log(sizes[-1] / sizes[-2])
    return exponent, lambda size: values[-1] * (size / sizes[-1]) ** exponent


def cells_table(n: int) -> pd.DataFrame:
    """*n* cells, a hundred a smear, at the paper's 10:10:80."""
    rng = np.random.default_rng(0)
    smears = np.array([f"{i:07}.png" for i in range(n // 100)]).repeat(100)
    labels = np.array(CLASSES)[rng.choice(3, n, p=[0.1, 0.1, 0.8])]
    return pd.DataFrame({SMEAR: smears, CELL: np.tile(np.arange(100), n // 100), LABEL: labels, GROUP: smears})


def predictions(n: int) -> pd.DataFrame:
    table = cells_table(n).rename(columns={LABEL: TARGET})
    table[PRED] = table[TARGET]
    table[prob_columns(CLASSES)] = np.random.default_rng(0).dirichlet([1, 1, 1], n).astype(np.float32)
    return table


def finished(trial: Trial, n: int) -> TrialResult:
    curve = {name: np.random.default_rng(0).random(10) for name in ("train_loss", "valid_loss", "macro_f1")}
    curves = pd.DataFrame({"epoch": range(1, 11), **curve})
    return TrialResult(trial, {"macro_f1": 0.5}, curves, predictions(n), n, 1.0, "cpu", 32)


def measure_store() -> None:
    print("store: one Parquet and one JSON a trial")
    sizes, listings = [500, 1000, 2000], []
    with tempfile.TemporaryDirectory() as folder:
        store, result, kept = Path(folder), finished(Trial(), 500), 0
        for size in sizes:
            new = [replace(result, trial=Trial(seed=seed)) for seed in range(kept, size)]
            write_s = timed(lambda new=new: [store_result(fit, store, data="d") for fit in new]) / len(new)
            kept = size
            listings.append(timed(lambda: store_rows(store)))
        used = sum(path.stat().st_size for path in store.iterdir()) / size
        exponent, at = power(sizes, listings)
        print(f"  500 predictions: {used / 1e3:.0f} kB and {1e3 * write_s:.1f} ms to write a trial")
        print(f"  listing {sizes} trials: {', '.join(f'{s:.2f}' for s in listings)} s, exponent {exponent:.2f}")
        for n in (1e4, 1e5, 1e6):
            print(f"  {n:.0e} trials: {2 * n:.0e} files, {used * n / 1e9:.1f} GB, listed in {at(n):.0f} s")
        rows, bytes_, write = [100_000, 300_000, 1_000_000], [], []
        for n in rows:
            table = predictions(n)
            write.append(timed(lambda table=table: table.to_parquet(store / "p.parquet", index=False)))
            bytes_.append((store / "p.parquet").stat().st_size)
    each = ", ".join(f"{b / n:.1f}" for b, n in zip(bytes_, rows, strict=True))
    memory = table.memory_usage(deep=True).sum() / len(table)
    print(f"  predictions of {rows}: {each} bytes a row in Parquet, {memory:.0f} in memory, {write[-1]:.1f} s to write")
    stored, write_s = (power(rows, values)[1](TEST_CELLS) for values in (bytes_, write))
    print(f"  {TEST_CELLS:.0e} test cells: {stored / 1e9:.1f} GB a trial, {write_s:.0f} s to write, ", end="")
    print(f"{memory * TEST_CELLS / 1e9:.0f} GB in the caller's memory")


def measure_split() -> None:
    sizes = [10_000, 100_000, 400_000]
    tables = [cells_table(n) for n in sizes]
    for protocol in ("paper", "honest"):
        spent = [timed(lambda t=table, p=protocol: assign_splits(t, protocol=p, seed=0)) for table in tables]
        exponent, at = power(sizes, spent)
        print(
            f"split, {protocol}: {sizes} cells in {', '.join(f'{s:.2f}' for s in spent)} s, exponent {exponent:.2f}, "
            f"1e8 cells in {at(CELLS) / 60:.0f} min"
        )
    memory = tables[-1].memory_usage(deep=True).sum() / sizes[-1]
    print(f"  cells table: {memory:.0f} bytes a cell in memory, {memory * CELLS / 1e9:.0f} GB for 1e8")


def measure_hash() -> None:
    rows, crops_of = [30_000, 100_000], np.zeros((100_000, SIZE_PX, SIZE_PX, 3), np.uint8)
    tables = [assign_splits(cells_table(n), protocol="paper", seed=0) for n in rows]
    both = [timed(lambda t=table: hash_data(t, crops_of[: len(t)])) for table in tables]
    alone = [timed(lambda t=table: hash_data(t, crops_of[:0])) for table in tables]
    print(
        f"hash_data: {rows[-1]} cells in {both[-1]:.2f} s, of which the table {alone[-1]:.2f} s; 1e8 cells in "
        f"{power(rows, both)[1](CELLS) / 60:.0f} min, the table {power(rows, alone)[1](CELLS) / 60:.0f} min"
    )
    print(f"crops: {CELLS * SIZE_PX**2 * 3 / 1e9:.0f} GB at {SIZE_PX} px, {CELLS * 224**2 * 3 / 1e12:.1f} TB at 224 px")


def simulate(
    trial_s: float,
    *,
    overhead_s: float,
    n_workers: int = 1000,
    n_trials: int = 20_000,
    mtbf_s: float = 0,
    kept: bool = False,
) -> tuple[float, int]:
    """Share of the workers' time that goes into finished trials, and trials done again.

    Each result passes one server, the scheduler and the client that stores, for *overhead_s*; only then does the worker
    get its next trial. Trial times are log-normal with the mean *trial_s* and sigma 1 (the slowest of 20,000 takes some
    30 times the mean), the longest first. A worker fails after an exponential time of mean *mtbf_s* (0: never), loses
    its trial (*kept*: what it had done of it is in a checkpoint that all see), and is back after five minutes.
    """
    rng = np.random.default_rng(0)
    queue = list(np.sort(rng.lognormal(math.log(trial_s) - 0.5, 1.0, n_trials)))  # popped from the end: longest first
    useful, again, served_s, end_s = sum(queue), 0, 0.0, 0.0
    events = [(0.0, worker, 0.0) for worker in range(n_workers)]  # (time, worker, seconds of the trial that ended)
    while events:
        now, worker, done = heapq.heappop(events)
        if done < 0:  # a worker that failed is back, and its trial waits for whoever is free
            queue.append(-done)
            again += 1
        if done > 0:
            end_s = max(end_s, now)
        if not queue:
            continue
        served_s = max(now, served_s) + overhead_s
        took = queue.pop()
        failed_s = rng.exponential(mtbf_s) if mtbf_s else math.inf
        if failed_s < took:
            heapq.heappush(events, (served_s + failed_s + 300, worker, -(took - failed_s if kept else took)))
        else:
            heapq.heappush(events, (served_s + took, worker, took))
    return useful / (n_workers * end_s), again


def measure_scheduler(overhead_ms: float) -> None:
    print(f"scheduler: 1,000 workers, {overhead_ms} ms a trial in one server; share of the GPU time that is work")
    rows = []
    for trial_s in (0.1, 1, 10, 60, 3600):
        row = {"trial_s": trial_s}
        for name, options in {
            "20,000 trials": {},
            "200,000 trials": {"n_trials": 200_000},
            "failing each 100 h": {"mtbf_s": 360_000},
            "and checkpoints": {"mtbf_s": 360_000, "kept": True},
        }.items():
            share, again = simulate(trial_s, overhead_s=overhead_ms / 1e3, **options)
            row |= {name: f"{100 * share:.0f} %" + (f" ({again} again)" if "mtbf_s" in options else "")}
        rows.append(row)
    print(pd.DataFrame(rows).to_string(index=False))
    share, _ = simulate(3600, overhead_s=overhead_ms / 1e3, n_trials=120)
    print(f"  120 trials (Table 1 with folds) of an hour: {100 * share:.0f} %")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("parts", nargs="*", default=["store", "split", "hash", "scheduler"])
    parser.add_argument("--overhead-ms", type=float, default=5.0, help="per trial, by benchmarks/scheduling.py")
    options = parser.parse_args()
    parts = {"store": measure_store, "split": measure_split, "hash": measure_hash}
    parts["scheduler"] = lambda: measure_scheduler(options.overhead_ms)
    for part in options.parts:
        parts[part]()


if __name__ == "__main__":
    main()
