"""What a plain recipe of training is worth on the study's own development cells: schedule, turned cells, cut, warm-up.

    python benchmarks/recipe.py --data DIR [--architecture resnet18] [--seeds 1] [--jobs 2]

docs/study.md took its recipe from this table: macro F1 and AUPRC of cross entropy on three inner folds of the
development cells of the first outer fold (Chula RBC-12, the paper's counts). No test cell of that outer fold is read;
those of the other two are among the development cells, as in any cross-validation. "context" is a square of 80 px,
about two cells wide, in place of Algorithm 1's square around the circle, both at 48 px.
"""

import argparse
import itertools

import cv2
import joblib
import numpy as np
import pandas as pd

from rbcnb.columns import RADIUS, SMEAR, X, Y
from rbcnb.labels.assign import label_cells
from rbcnb.segmentation.crops import crop_cells
from rbcnb.segmentation.segment import FinderSpec
from rbcnb.segmentation.segment_many import segment_smears
from rbcnb.smears.sources import load_smears
from rbcnb.study.ladder import BASE_RHO, ladder_counts
from rbcnb.training.fit import run_trial
from rbcnb.training.resampling import draw_counts
from rbcnb.training.splits import assign_splits
from rbcnb.training.trial import Trial

SIZE_PX, CONTEXT_PX, N_FOLDS = 48, 80, 3
BASES = {
    "small": Trial(architecture="small", protocol="honest", epochs=30, learning_rate=3e-3, precision="float32"),
    "resnet18": Trial(architecture="resnet18", protocol="honest", epochs=15, learning_rate=1e-3, precision="bf16"),
}
RECIPES = {  # name -> cut, schedule, augment
    "as in the earlier studies": ("circle", "constant", "none"),
    "cosine decay": ("circle", "cosine", "none"),
    "cosine decay, flips and turns": ("circle", "cosine", "flips_turns"),
    "cosine decay, flips and turns, context": ("context", "cosine", "flips_turns"),
    "cosine decay after a warm-up, flips and turns": ("circle", "warm_cosine", "flips_turns"),
}


def study_cells(data: str) -> tuple[pd.DataFrame, dict[str, np.ndarray]]:
    """The study's cells in their folds, and crops [N, 48, 48, 3] of both cuts."""
    smears = list(load_smears("chula", data=data, seed=0, errors=[]))
    spec = FinderSpec(method="paper", upscale="none", size_px=SIZE_PX)
    found = segment_smears(smears, spec, jobs=2)
    cells = label_cells(found.cells, found.truth).dropna(subset=["label"])
    cells = draw_counts(cells, ladder_counts(cells["label"].value_counts().to_dict())[BASE_RHO], seed=0)
    images = {smear.name: smear.image for smear in smears}
    context = []
    for row in cells.to_dict("records"):
        square = pd.DataFrame([{X: row[X], Y: row[Y], RADIUS: CONTEXT_PX / 2}])
        (crop,) = crop_cells(images[row[SMEAR]], square, CONTEXT_PX)
        context.append(cv2.resize(crop, (SIZE_PX, SIZE_PX), interpolation=cv2.INTER_AREA))
    crops = {"circle": found.crops[cells["crop"].to_numpy()], "context": np.stack(context)}
    return assign_splits(cells, protocol="honest", seed=0, n_folds=N_FOLDS), crops


def fit(trial: Trial, cells: pd.DataFrame, crops: np.ndarray) -> dict[str, float]:
    """Scores of one fit's held-out fold, one thread."""
    import torch

    torch.set_num_threads(1)
    return run_trial(trial, cells, crops).scores


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True, metavar="DIR", help="where Chula RBC-12 lies")
    parser.add_argument("--architecture", default="resnet18", choices=list(BASES))
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=2)
    options = parser.parse_args()
    cells, crops = study_cells(options.data)
    rows, todo = [], []
    for (name, (cut, schedule, augment)), fold, seed in itertools.product(
        RECIPES.items(), range(N_FOLDS), range(options.seeds)
    ):
        settings = {"schedule": schedule, "augment": augment, "fold": fold, "seed": seed}
        rows.append({"recipe": name, "fold": fold, "seed": seed})
        todo.append(joblib.delayed(fit)(Trial(**BASES[options.architecture].settings() | settings), cells, crops[cut]))
    scores = joblib.Parallel(n_jobs=options.jobs)(todo)
    table = pd.DataFrame(
        [row | {name: fit[name] for name in ("macro_f1", "auprc")} for row, fit in zip(rows, scores, strict=True)]
    )
    print(f"{options.architecture}, {N_FOLDS} folds, {options.seeds} seeds, cross entropy")
    print(table.groupby("recipe", sort=False)[["macro_f1", "auprc"]].mean().round(3).to_string())


if __name__ == "__main__":
    main()
