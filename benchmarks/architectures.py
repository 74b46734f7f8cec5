"""Macro F1 of the networks on real cells: Chula RBC-12, cut at its labelled points, three folds of whole smears.

    python benchmarks/architectures.py --data DIR [--architecture small resnet18 ...] [--seeds 1]

The paper's counts (345, 356 and 2691 cells) are drawn once. A square of 80 px around each labelled point, about two
cells wide, is resized to the size that the network takes. Every fit has cosine decay, flips and turns, and cross
entropy; its last epoch is scored on the fold that it never saw. Printed: mean over folds and seeds, and minutes a fit.
"""

import argparse
import time
from dataclasses import replace

import cv2
import numpy as np
import pandas as pd

from rbcnb.columns import CELL, GROUP, LABEL, RADIUS, SMEAR
from rbcnb.paper import SETTINGS
from rbcnb.segmentation.crops import crop_cells
from rbcnb.smears.chula import chula_smears
from rbcnb.training.fit import run_trial
from rbcnb.training.resampling import draw_counts
from rbcnb.training.splits import assign_splits
from rbcnb.training.trial import Trial

WIDTH_PX = 80  # of the square in the smear
N_FOLDS = 3
BASE = Trial(protocol="honest", schedule="cosine", augment="flips_turns", learning_rate=1e-3)
TRIALS = {  # with the size of its crops, pixels
    "small": (replace(BASE, architecture="small", epochs=30), 48),
    "resnet18": (replace(BASE, architecture="resnet18", epochs=15), 48),
    "efficientnet_lite0": (
        replace(BASE, architecture="efficientnet_lite0", pretrained=True, epochs=5, learning_rate=3e-3),
        64,
    ),
}


def labelled_cells(data: str) -> tuple[pd.DataFrame, np.ndarray]:
    """The paper's counts of cells, and squares [N, WIDTH_PX, WIDTH_PX, 3] around their points."""
    tables, squares = [], []
    for smear in chula_smears(data):
        points = smear.truth.assign(**{RADIUS: WIDTH_PX / 2, SMEAR: smear.name, GROUP: smear.group})
        tables.append(points.assign(**{CELL: range(len(points))}))
        squares.append(crop_cells(smear.image, points, WIDTH_PX))
    cells = pd.concat(tables, ignore_index=True)
    kept = draw_counts(cells, SETTINGS["class_counts"], seed=0).index.to_numpy()
    return cells.loc[kept].reset_index(drop=True), np.concatenate(squares)[kept]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True, metavar="DIR", help="where Chula RBC-12 lies")
    parser.add_argument("--architecture", nargs="+", default=list(TRIALS), choices=list(TRIALS))
    parser.add_argument("--seeds", type=int, default=1)
    options = parser.parse_args()
    cells, squares = labelled_cells(options.data)
    print(f"{len(cells)} cells of {cells[SMEAR].nunique()} smears: {cells[LABEL].value_counts().to_dict()}", flush=True)
    for name in options.architecture:
        trial, size = TRIALS[name]
        crops = np.stack([cv2.resize(square, (size, size), interpolation=cv2.INTER_AREA) for square in squares])
        rows = []
        for outer in range(N_FOLDS):
            split = assign_splits(cells, protocol="honest", seed=0, n_outer=N_FOLDS, outer=outer)
            for seed in range(options.seeds):
                start = time.perf_counter()
                result = run_trial(replace(trial, seed=seed, outer=outer), split, crops)
                minutes = (time.perf_counter() - start) / 60
                rows.append({"outer": outer, "seed": seed, "minutes": minutes, **result.scores})
                print(name, {key: round(value, 3) for key, value in rows[-1].items()}, flush=True)
        mean = pd.DataFrame(rows).mean()
        print(f"{name} at {size} px, {trial.epochs} epochs: macro F1 {mean['macro_f1']:.3f}, {mean['minutes']:.1f} min")


if __name__ == "__main__":
    main()
