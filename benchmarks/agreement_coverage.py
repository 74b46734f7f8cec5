"""How often the intervals of agreement hold the truth, with the smear as the unit of chance and with the cell as it.

Two simulated readers err more on some smears than on others (sd 0.10 around 0.12), as stain and focus make them. The
truth is each statistic over 20,000 smears. Prints the share of 95 % intervals that hold it, over 2,000 repetitions:

    python benchmarks/agreement_coverage.py
"""

import argparse

import numpy as np
import pandas as pd

from rbcnb.columns import CELL, CLASSES, LABEL, SMEAR
from rbcnb.labels.agreement import cohen_kappa, jackknife, simulated_readers

SHARES = (0.10, 0.10, 0.80)  # of the classes, as in the paper
ERROR, SPREAD = 0.12, 0.10


def counts_of(n_smears: int, cells_per_smear: int, seed: int) -> np.ndarray:
    """Counts [G, C, C] of two simulated readers on cells drawn by SHARES."""
    n = n_smears * cells_per_smear
    labels = np.random.default_rng(seed).choice(np.array(CLASSES, dtype=object), n, p=SHARES)
    cells = pd.DataFrame({SMEAR: np.repeat(np.arange(n_smears), cells_per_smear), CELL: np.arange(n), LABEL: labels})
    ratings = simulated_readers(cells, error=ERROR, spread=SPREAD, seed=seed + 1)
    counts = np.zeros((n_smears, len(CLASSES), len(CLASSES)))
    first, second = (pd.Categorical(ratings[name], categories=CLASSES).codes for name in ratings)
    np.add.at(counts, (cells[SMEAR].to_numpy(), first, second), 1)
    return counts


def share_agreeing(counts: np.ndarray) -> np.ndarray:
    return np.trace(counts, axis1=-2, axis2=-1) / counts.sum(axis=(-2, -1))


def by_cell(counts: np.ndarray) -> np.ndarray:
    """The same cells, each as a smear of its own."""
    n_classes = counts.shape[-1]
    each = np.repeat(np.arange(n_classes**2), counts.sum(axis=0).ravel().astype(int))
    return np.eye(n_classes**2)[each].reshape(-1, n_classes, n_classes)


def coverage(n_smears: int, cells_per_smear: int, repetitions: int) -> dict[str, float]:
    """Share of intervals that hold the truth, by statistic and unit."""
    statistics = {"kappa": cohen_kappa, "agreement": share_agreeing}
    large = counts_of(20_000, 20, seed=10**6).sum(axis=0)
    held: dict[str, list[bool]] = {}
    for repetition in range(repetitions):
        counts = counts_of(n_smears, cells_per_smear, seed=2 * repetition)
        for unit, sums in (("smear", counts), ("cell", by_cell(counts))):
            for name, statistic in statistics.items():
                _, low, high = jackknife(statistic, sums)
                held.setdefault(f"{name} by {unit}", []).append(low <= statistic(large) <= high)
    return {name: float(np.mean(values)) for name, values in held.items()}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repetitions", type=int, default=2000)
    options = parser.parse_args()
    for n_smears, cells_per_smear in ((6, 20), (15, 8), (22, 60), (60, 40)):
        shares = coverage(n_smears, cells_per_smear, options.repetitions)
        listed = ", ".join(f"{name} {share:.3f}" for name, share in shares.items())
        print(f"{n_smears} smears of {cells_per_smear} cells: {listed}", flush=True)
