"""Are synthetic smears real enough to tune and to train on? Two figures of merit, on Chula RBC-12.

    python benchmarks/synthetic.py --chula DIR [--parts finder classifier] [--seeds 3] [--out DIR]

Finder: the settings of the Hough finder (``method="paper"``, no upscaling, diameter estimated) that are best on
synthetic smears alone, out of a random draw, against those that ``FinderSpec`` holds, which were tuned on Chula.
Scored on Chula's exhaustively labelled images, where DIR lists them in ``exhaustively_labelled.json``: a hit lies
within 0.9 of the median found radius, one to one; cells at least one diameter from the border count. Readers clicked
about 5 px off centre.

Classifier: the lesson net (or ``--architecture resnet18``) at 48 px, trained on synthetic cells only, tested on
Chula's normal, codocyte and hypochromia cells at their natural prevalence. Both sides pass through the pipeline as it
is: cells are found, matched to the truth (`label_cells`) and cropped, so that centres and radii are a finder's and not
the truth's. Chula's images are halved by a hash of the twin group: cells and recipe were chosen on the development
half, ranges of colour, light and sharpness by statistics (`population.describe`) of all images; the other half
reports. Beside it stand the majority class, and the same net with the same number of crops and epochs and the same
augmentation, trained on the development half's real cells.
"""

import argparse
import dataclasses
import hashlib
import json
import time
from collections.abc import Iterator
from pathlib import Path

import fastai.callback.schedule  # noqa: F401, gives Learner its fit_one_cycle
import numpy as np
import pandas as pd
import torch
from population import synthetic

from rbcnb.columns import CLASSES, CROP, GROUP, LABEL
from rbcnb.evaluation.metrics import macro_f1
from rbcnb.labels.assign import detection_table, label_cells
from rbcnb.segmentation.segment import FinderSpec
from rbcnb.segmentation.segment_many import SegmentedSmears, segment_smears
from rbcnb.smears.chula import chula_smears
from rbcnb.smears.images import Smear
from rbcnb.smears.synthetic.render import PAPER_COUNTS
from rbcnb.training.dataloaders import CellDataLoaders
from rbcnb.training.learner import build_learner
from rbcnb.training.predict import predict_crops
from rbcnb.training.trial import Trial

CROP_PX = 48
FINDER = FinderSpec(upscale="none", size_px=CROP_PX)
PARTS = ("finder", "classifier")


def tune_finder(n: int, *, tries: int, seed: int) -> FinderSpec:
    """The best of *tries* random settings of the Hough finder on *n* synthetic smears."""
    smears = list(synthetic(n, seed=seed + 100, ratio=PAPER_COUNTS, n_cells=90))
    rng = np.random.default_rng(seed)
    best, best_score = FINDER, -1.0
    for _ in range(tries):
        spec = dataclasses.replace(
            FINDER,
            clahe_clip=rng.choice([1.0, 2.0, 3.0, 4.0]),
            blur=rng.uniform(0.0, 0.08),
            min_distance=rng.uniform(0.4, 0.9),
            edge=rng.uniform(20, 120),
            votes=rng.uniform(0.15, 0.55),
            radius_min=rng.uniform(0.5, 0.8),
            radius_max=rng.uniform(1.05, 1.4),
        )
        score = finder_f1(segment_smears(smears, spec))
        if score > best_score:
            best, best_score = spec, score
    return best


def finder_f1(found: SegmentedSmears) -> float:
    """F1 over all smears together."""
    table = detection_table(found.cells, found.truth, found.smears, exhaustive=True)
    hits, truth, false = (table[name].sum() for name in ("n_hits", "n_truth", "n_false"))
    return float(2 * hits / (truth + hits + false))


def labelled_crops(smears: Iterator[Smear]) -> tuple[np.ndarray, np.ndarray, pd.Series]:
    """Crops [N,S,S,3], targets [N] in the order of CLASSES, groups [N], of the found cells that have a label."""
    found = segment_smears(smears, FINDER)
    cells = label_cells(found.cells, found.truth)
    cells = cells[cells[LABEL].isin(CLASSES)]
    targets = cells[LABEL].map(CLASSES.index).to_numpy(np.int64)
    return found.crops[cells[CROP]], targets, cells[GROUP]


def restain(crops: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Crops under another stain and lamp (densities scaled and shifted, per crop and channel), flipped and turned."""
    out = np.empty_like(crops)
    for rows in np.array_split(np.arange(len(crops)), max(1, len(crops) // 512)):
        part, n = crops[rows], len(rows)
        density = -np.log10((part.astype(np.float32) + 1) / 256)
        white = np.quantile(density.reshape(n, -1, 3), 0.03, axis=1)[:, None, None]
        scale = np.exp(rng.normal(0, 0.3, (n, 1, 1, 1)) + rng.normal(0, 0.15, (n, 1, 1, 3)))
        shift = rng.normal(0, 0.12, (n, 1, 1, 1)) + rng.normal(0, 0.08, (n, 1, 1, 3))
        light = 256 * 10 ** -((density - white) * scale + white + shift) - 1
        padding = part.max(axis=-1, keepdims=True) == 0
        out[rows] = np.where(padding, 0, np.clip(light, 0, 255))
    turns = rng.integers(0, 4, len(out))
    for turn in range(1, 4):
        out[turns == turn] = np.rot90(out[turns == turn], turn, axes=(1, 2))
    rows = rng.random(len(out)) < 0.5
    out[rows] = out[rows, ::-1]
    return out


def fit(
    crops: np.ndarray, targets: np.ndarray, *, architecture: str, n: int, epochs: int, seed: int
) -> torch.nn.Module:
    """The net after *epochs* over *n* restained crops (the given ones, repeated as needed)."""
    rng = np.random.default_rng(seed)
    rows = np.concatenate([rng.permutation(len(crops)) for _ in range(-(-n // len(crops)))])[:n]
    torch.manual_seed(seed)
    train, empty = (restain(crops[rows], rng), targets[rows]), (crops[:0], targets[:0])
    dls = CellDataLoaders.from_crops(train, empty, vocab=CLASSES, bs=64, seed=seed)
    trial = Trial(architecture=architecture, learning_rate=2e-3, epochs=epochs)
    learner = build_learner(trial, dls)
    with learner.no_bar(), learner.no_logging():
        learner.fit_one_cycle(epochs, trial.learning_rate)
    return learner.model


def scores(model: torch.nn.Module, crops: np.ndarray, targets: np.ndarray) -> dict[str, float]:
    predicted = predict_crops(model, crops).argmax(axis=1)
    recalls = {f"recall_{name}": np.mean(predicted[targets == k] == k) for k, name in enumerate(CLASSES)}
    return {"macro_f1": macro_f1(targets, predicted), **recalls}


def classifier(root: Path, *, architecture: str, n_smears: int, n: int, epochs: int, seeds: int) -> pd.DataFrame:
    """One row per seed, training set and half of Chula."""
    crops, targets, groups = labelled_crops(chula_smears(root))
    dev = groups.map(lambda name: hashlib.sha256(name.encode()).digest()[0] % 2 == 0).to_numpy()
    rows = []
    for half, mask in (("development", dev), ("report", ~dev)):
        majority = np.full(mask.sum(), np.bincount(targets[mask]).argmax())
        rows.append({"trained_on": "majority", "half": half, "seed": 0, "macro_f1": macro_f1(targets[mask], majority)})
    for seed in range(seeds):
        ours, ours_targets, _ = labelled_crops(synthetic(n_smears, seed=seed, ratio=(1, 1, 1.6), n_cells=24))
        options = {"architecture": architecture, "n": n, "epochs": epochs, "seed": seed}
        model = fit(ours, ours_targets, **options)
        for half, mask in (("development", dev), ("report", ~dev)):
            rows.append(
                {"trained_on": "synthetic", "half": half, "seed": seed, **scores(model, crops[mask], targets[mask])}
            )
        model = fit(crops[dev], targets[dev], **options)
        rows.append(
            {"trained_on": "Chula", "half": "report", "seed": seed, **scores(model, crops[~dev], targets[~dev])}
        )
        print(pd.DataFrame(rows).tail(3).round(3).to_string(header=False), flush=True)
    return pd.DataFrame(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--chula", type=Path, required=True, help="folder of Chula RBC-12 (rbcnb fetch chula)")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--architecture", default="small")
    parser.add_argument("--smears", type=int, default=400, help="to train the classifier on, of 24 cells each")
    parser.add_argument("--crops", type=int, default=15000, help="in an epoch")
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--tries", type=int, default=40, help="settings of the finder to try")
    parser.add_argument("--out", type=Path, help="folder for the tables")
    args = parser.parse_args()

    tables, start = {}, time.perf_counter()
    if "finder" in args.parts:
        listed = args.chula / "exhaustively_labelled.json"
        names = set(json.loads(listed.read_text())["exhaustively_labelled"]) if listed.exists() else None
        real = [s for s in chula_smears(args.chula, types="all") if names is None or Path(s.name).stem in names]
        rows = [{"tuned_on": "Chula (FinderSpec)", "seed": 0, "f1_score": finder_f1(segment_smears(real, FINDER))}]
        for seed in range(args.seeds):
            spec = tune_finder(16, tries=args.tries, seed=seed)
            rows.append({"tuned_on": "synthetic", "seed": seed, "f1_score": finder_f1(segment_smears(real, spec))})
            print(spec, flush=True)
        tables["finder"] = pd.DataFrame(rows)
    if "classifier" in args.parts:
        table = classifier(
            args.chula,
            architecture=args.architecture,
            n_smears=args.smears,
            n=args.crops,
            epochs=args.epochs,
            seeds=args.seeds,
        )
        tables["classifier_runs"] = table
        grouped = table.drop(columns="seed").groupby(["trained_on", "half"])
        tables["classifier"] = grouped.agg(["mean", "min", "max"])
    for name, table in tables.items():
        print(f"\n{name}\n{table.round(3).to_string()}")
        if args.out:
            args.out.mkdir(parents=True, exist_ok=True)
            table.to_csv(args.out / f"{name}.csv")
    print(f"\n{time.perf_counter() - start:.0f} s")


if __name__ == "__main__":
    main()
