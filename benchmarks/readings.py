"""What one reading costs in a table of 10,000 cells read five times, as a ratio to writing its line and syncing it.

    python benchmarks/readings.py

Peers: ``write+fsync``, the same bytes appended to a file and brought to the disk, with no lock, no check, no revision:
the least that "saved" can cost; ``rewrite``, the table read, grown by a row and written as a whole by pandas, as many
labelling tools do. Medians of interleaved runs.
"""

import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from unittest import mock

import pandas as pd

from rbcnb.labels.consensus import current_labels
from rbcnb.labels.readings import Reading, append_readings, load_readings

N_CELLS, N_TIMES, RUNS, SLOW_RUNS = 10_000, 5, 101, 5


def seconds(act: Callable[[], object]) -> float:
    start = time.perf_counter()
    act()
    return time.perf_counter() - start


def synced(path: Path, line: bytes) -> None:
    with path.open("ab") as file:
        file.write(line)
        file.flush()
        os.fsync(file.fileno())


def unsynced(path: Path, readings: list[Reading]) -> None:
    """All that is done beside the sync: lock, check, revision, write."""
    with mock.patch("os.fsync"):
        append_readings(path, readings)


def rewritten(path: Path) -> None:
    table = pd.read_csv(path)
    pd.concat([table, table.tail(1)]).to_csv(path, index=False)


def main() -> None:
    readings = [
        Reading(
            smear=f"{i % 20:02}.png", cell=i // 20, label="normal", reader="anna", x_px=i / 7, y_px=9.5, radius_px=19.9
        )
        for i in range(N_CELLS)
    ]
    with tempfile.TemporaryDirectory(dir=".") as folder:
        tables = {suffix: Path(folder) / f"readings{suffix}" for suffix in (".csv", ".sqlite")}
        for path in tables.values():
            for _ in range(N_TIMES):
                append_readings(path, readings)
        plain, copy = Path(folder) / "plain.csv", Path(folder) / "copy.csv"
        copy.write_bytes(tables[".csv"].read_bytes())
        line = copy.read_bytes().splitlines(keepends=True)[-1]
        acts: dict[str, Callable[[], object]] = {"write+fsync": lambda: synced(plain, line)}
        acts["unsynced .csv"] = lambda: unsynced(tables[".csv"], readings[:1])
        acts |= {suffix: lambda p=path: append_readings(p, readings[:1]) for suffix, path in tables.items()}
        times: dict[str, list[float]] = {name: [] for name in (*acts, "rewrite")}
        for run in range(RUNS):
            for name, act in acts.items():
                times[name].append(seconds(act))
            if run < SLOW_RUNS:
                times["rewrite"].append(seconds(lambda: rewritten(copy)))
        base = statistics.median(times["write+fsync"])
        for name, took in times.items():
            middle = statistics.median(took)
            slowest = f"slowest {1e3 * max(took):.2f} ms"
            print(f"{name:13} {1e3 * middle:8.2f} ms, {middle / base:7.2f} x write+fsync, {slowest}")
        for name, path in tables.items():
            table = load_readings(path)
            load = statistics.median(seconds(lambda p=path: load_readings(p)) for _ in range(SLOW_RUNS))
            view = statistics.median(seconds(lambda t=table: current_labels(t)) for _ in range(SLOW_RUNS))
            print(f"{name:13} {len(table)} rows loaded in {load:.3f} s, current labels in {view:.3f} s")


if __name__ == "__main__":
    main()
