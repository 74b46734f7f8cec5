"""How time and memory grow: a store of trials that is listed, a table of labels that is imported.

    python benchmarks/growth.py [--sizes 1000,10000,100000]

Each row is a command of its own: seconds of its processor time and of the clock, and the most memory that it took,
imports (some 0.2 GB) included. A store is listed twice, first without its index. What stands beside it (``--before
CHECKOUT``) is the same by an earlier checkout of this package, whose stores have no seals.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd

from rbcnb._utils.files import bytes_digest
from rbcnb.training.trial import FIT_VERSION, Trial

SMEAR_CELLS = 500
HERE = Path(__file__).parents[1]


def make_store(folder: Path, n: int) -> None:
    """*n* records of finished trials as a study writes them, without predictions, which no list reads."""
    folder.mkdir(parents=True)
    names = ("train_loss", "valid_loss", "macro_f1", "accuracy", "learning_rate")
    curves = {"epoch": list(range(1, 21)), **{name: [0.123456789 + i / 7 for i in range(20)] for name in names}}
    scores = dict.fromkeys(
        ("accuracy", "macro_f1", "precision", "recall", "auroc", "auprc", "ece", "nll"), 0.8123456789
    )
    for seed in range(n):
        trial = Trial(loss="focal", alpha=1.0, gamma=2.0, architecture="resnet18", seed=seed, fold=seed % 5)
        record = {
            "key": trial.key("d"),
            "data": "d",
            "fit_version": FIT_VERSION,
            "trial": trial.settings(),
            "error": "",
        }
        record |= {
            "retry": False,
            "curves": curves,
            "scores": scores,
            "n_train": 1000,
            "seconds": 12.3,
            "engine": "cpu",
        }
        record |= {"processor": "x", "part_size": 0, "digest": "0" * 16}
        text = json.dumps(record, indent=1).removesuffix("\n}")
        path = folder / f"{record['key']}.json"
        path.write_text(f'{text},\n "seal": "{bytes_digest(text.encode())}"\n}}', encoding="utf-8")
        path.with_suffix(".parquet").write_bytes(b"PAR1")


def make_labels(folder: Path, n: int) -> None:
    """Cells of a segmented folder, *n* of them, and a ``labels.csv`` with a label near each."""
    folder.mkdir(parents=True)
    number = np.arange(n)
    cell = number % SMEAR_CELLS
    smears = [f"s{i:05}.png" for i in number // SMEAR_CELLS]
    cells = pd.DataFrame({"smear": smears, "cell": cell, "x_px": cell % 25 * 40.0 + 30, "y_px": cell // 25 * 40.0 + 30})
    cells.assign(radius_px=15.0).to_csv(folder / "cells.csv", index=False)
    labels = cells[["smear", "x_px", "y_px"]].assign(label=np.where(cell % 9, "normal", "codocyte"))
    labels.assign(x_px=labels["x_px"] + 1.25).to_csv(folder / "labels.csv", index=False)


def measure(arguments: list[str], checkout: Path) -> dict[str, float]:
    """Seconds of processor and clock, and GB at most, of one command by the package in *checkout*."""
    command = [sys.executable, "-m", "rbcnb.cli", *arguments]
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    pid = os.posix_spawn(command[0], command, os.environ | {"PYTHONPATH": str(checkout)})
    _, status, usage = os.wait4(pid, 0)
    clock_s = time.perf_counter() - start
    if status:
        raise RuntimeError(f"{' '.join(command)} ended with {os.waitstatus_to_exitcode(status)}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {"cpu_s": cpu_s, "clock_s": clock_s, "peak_gb": usage.ru_maxrss / 1e6}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", default="1000,10000,100000")
    parser.add_argument("--what", default="results,labels")
    parser.add_argument("--before", type=Path, help="an earlier checkout")
    options = parser.parse_args()
    checkouts = {"now": HERE} | ({"before": options.before} if options.before else {})
    rows = []
    with tempfile.TemporaryDirectory() as place:
        for n in map(int, options.sizes.split(",")):
            for name, checkout in checkouts.items():
                if "results" in options.what:
                    store = Path(place) / f"{name}-{n}" / "trials"
                    make_store(store, n)
                    for run in ("list", "list again"):
                        rows.append({"what": run, "n": n, "which": name, **measure(["results", str(store)], checkout)})
                    subprocess.run(["rm", "-rf", str(store)], check=True)
                if "labels" in options.what:
                    folder = Path(place) / f"labels-{name}-{n}"
                    make_labels(folder, n)
                    arguments = ["import-labels", str(folder / "labels.csv"), str(folder), "--reader", "ann"]
                    rows.append({"what": "import", "n": n, "which": name, **measure(arguments, checkout)})
                    subprocess.run(["rm", "-rf", str(folder)], check=True)
    print(pd.DataFrame(rows).round(2).sort_values(["what", "n", "which"]).to_string(index=False))


if __name__ == "__main__":
    main()
