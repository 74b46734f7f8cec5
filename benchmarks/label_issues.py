"""How many planted label errors does the audit find? python benchmarks/label_issues.py [--out DIR]

Synthetic cells (22 smears of 60, crops of 48 px, cut where the renderer put them) are split by smear; errors are
planted in the labels of the development cells, random ones and a tired reader's (`rbcnb.label_noise`), 2, 5 and 10 %.
The lesson net is fitted on five folds, once per seed, and labels are audited by its out-of-fold probabilities. Told are
means over sets of cells and (from lowest to highest): recall of the errors within the first 10 % of the queue for every
way of ranking, one fit or all averaged, and precision and recall of the issue list against as many cells by
self-confidence. The fits lie in --out and are not made twice. With --effect: what a blinded second look, with a reader
simulated from the truth, then does to the labels and to macro F1 on the untouched test cells.
"""

import argparse
from pathlib import Path

import numpy as np
import pandas as pd

from rbcnb.columns import CELL, CROP, DEV, GROUP, LABEL, SMEAR, SPLIT
from rbcnb.crops import crop_cells
from rbcnb.label_issues import audit_splits
from rbcnb.label_noise import KINDS, plant_errors
from rbcnb.smears import synthetic_smears
from rbcnb.study import run_study
from rbcnb.trial import Trial, expand_grid

RATES = (0.05, 0.02, 0.1)
NET = Trial(architecture="small", learning_rate=3e-3, epochs=20, protocol="honest")


def synthetic_cells(seed: int, *, n_smears: int = 22, n_cells: int = 60) -> tuple[pd.DataFrame, np.ndarray]:
    """Every cell of fresh smears with its true label, split by smear, and the crops."""
    rows, crops = [], []
    for smear in synthetic_smears(n_smears, seed=seed, n_cells=n_cells):
        facts = {SMEAR: smear.name, GROUP: smear.group, CELL: range(len(smear.truth))}
        rows.append(smear.truth.assign(**facts))
        crops.append(crop_cells(smear.image, smear.truth, 48))
    cells = pd.concat(rows, ignore_index=True)
    return audit_splits(cells.assign(**{CROP: range(len(cells))}), seed=seed)[0], np.concatenate(crops)


def with_errors(cells: pd.DataFrame, *, kind: str, rate: float, seed: int) -> pd.DataFrame:
    """*cells* with errors planted among the development cells; the test stays true."""
    labels = cells[LABEL].copy()
    dev = cells[SPLIT] == DEV
    labels[dev] = plant_errors(cells.loc[dev, LABEL], kind=kind, rate=rate, seed=seed)
    return cells.assign(**{LABEL: labels})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/label_issues"), help="folder of finished fits")
    parser.add_argument("--sets", type=int, default=3, help="sets of cells (default 3)")
    parser.add_argument("--fits", type=int, default=2, help="seeds of the net (default 2)")
    parser.add_argument("--jobs", type=int, default=1, help="fits side by side (default 1)")
    options = parser.parse_args()
    for rate in RATES:
        for seed in range(options.sets):
            cells, crops = synthetic_cells(seed)
            for kind in reversed(KINDS):
                given = with_errors(cells, kind=kind, rate=rate, seed=seed)
                trials = expand_grid(NET, seed=range(options.fits), fold=range(5))
                rows = run_study(trials, given, crops, options.out, jobs=options.jobs, say=lambda _line: None)
                print(rate, seed, kind, rows["macro_f1"].mean(), flush=True)


if __name__ == "__main__":
    main()
