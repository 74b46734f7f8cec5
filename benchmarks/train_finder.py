"""Trains the learned finder: python benchmarks/train_finder.py [--out DIR] [--add DATASET] [--calibrate DATASET]

Renders views of smears as any microscope may show them (`rbcnb.smears.synthetic.variety`) and trains the network of
`rbcnb.segmentation.finder_net` on them, each view once; then it measures which share of the finds of a given height
are cells, on rendered views that the training did not see and on the sets of --calibrate, and writes

DIR/finder.safetensors   weights, calibration and card; copied over rbcnb/segmentation/finder.safetensors it is the
                         finder of the package
DIR/finder_log.csv       step, losses (mean of the last hundred steps), seconds
DIR/finder.ckpt          the state; the same command goes on from it when it was stopped

The weights in the package come from `python benchmarks/train_finder.py --calibrate CHULA`, which takes about an hour on
two cores. Sets of --add (in the layouts of benchmarks/labelled_smears.py, every red cell labelled) are mixed into the
training; boxes tell the size of cells, for points it is the typical radius of the set.
"""

import argparse
import csv
import json
import os
import time
from collections.abc import Iterable
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from labelled_smears import Dataset, LabelledImage, labelled, read_dataset
from segmentation import HIT, LEFT_OUT, fates, score_image
from sklearn.isotonic import IsotonicRegression

from rbcnb.columns import RADIUS, SCORE, X, Y
from rbcnb.segmentation.finder_net import Finder, FinderNet, fused_net, load_finder, save_finder
from rbcnb.segmentation.finder_training import FinderTraining, LabelledSmear, train_finder
from rbcnb.segmentation.learned import find_learned
from rbcnb.segmentation.matching import score_counts
from rbcnb.smears.synthetic.variety import Variety, render_view

KNOTS = np.array([0.0, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.45, 0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85])
KNOTS = np.concatenate([KNOTS, [0.9, 0.925, 0.95, 0.975, 1.0]])  # heights at which the calibration is stated
TEST_SEED = 10**6  # views that no training sees
SIZES_PX = (13.0, 60.0)  # of cells in those views


def held_out(n: int, *, first: int) -> list[LabelledImage]:
    """*n* rendered views with cells of all sizes; *first* numbers them."""
    views = []
    for i in range(first, first + n):
        low, high = np.log(SIZES_PX)
        diameter = float(np.exp(low + (high - low) * ((i * 0.618034) % 1)))
        variety = replace(Variety(), diameter_px=(diameter, diameter), empty_chance=0.0)
        view = render_view(variety, side_px=round(max(260, 7 * diameter)), seed=[TEST_SEED, i])
        if len(view.cells):
            views.append(replace(labelled(f"view {i}", view.image, view.cells), radius_px=diameter / 2))
    return views


def found_table(image: np.ndarray, finder: Finder, *, min_score: float = 0.0) -> pd.DataFrame:
    """What *finder* finds in *image*: x_px, y_px, radius_px, score."""
    found = find_learned(image, min_score=min_score, finder=finder)
    return pd.DataFrame(found.circles, columns=[X, Y, RADIUS]).assign(**{SCORE: found.score})


def calibrate(finder: Finder, sources: Iterable[list[LabelledImage]]) -> np.ndarray:
    """The share of finds that are cells at each of ``KNOTS``; every source has the same weight, and so its images."""
    heights, hits, weights = [], [], []
    for images in sources:
        for image in images:
            pixels = image.read()
            found = found_table(pixels, finder)
            fate = fates(found, image.match(found), image, pixels.shape)
            counted = fate != LEFT_OUT
            if counted.any():
                heights.append(found.loc[counted, SCORE])
                hits.append(fate[counted] == HIT)
                weights.append(np.full(counted.sum(), 1 / (len(images) * np.sqrt(counted.sum()))))
    curve = IsotonicRegression(y_min=0.0, y_max=1.0, out_of_bounds="clip")
    curve.fit(np.concatenate(heights), np.concatenate(hits), sample_weight=np.concatenate(weights))
    # Half a knot to each side is averaged: isotonic curves have steps.
    fine = np.linspace(0, 1, 2001)
    value = curve.predict(fine)
    between = (KNOTS[1:] + KNOTS[:-1]) / 2
    part = np.searchsorted(between, fine)
    return np.maximum.accumulate([value[part == k].mean() for k in range(len(KNOTS))])


def scores(finder: Finder, images: Iterable[LabelledImage], *, min_score: float) -> dict[str, float]:
    """Recall, precision and F1 over *images*."""
    counts = np.zeros(3, int)
    for image in images:
        pixels = image.read()
        row = score_image(found_table(pixels, finder, min_score=min_score), image, pixels.shape)
        counts += [row["n_truth"], row["n_hits"], row["n_false"]]
    return {name: round(value, 4) for name, value in score_counts(*counts.tolist()).items()}


def labelled_smears(dataset: Dataset) -> list[LabelledSmear]:
    """The images of a data set for `train_finder`."""
    smears = []
    for image in dataset.images:
        cells = image.truth.copy()
        if RADIUS not in cells or cells[RADIUS].isna().any():
            cells[RADIUS] = image.radius_px
        if len(cells):
            smears.append(LabelledSmear(image.read(), cells[[X, Y, RADIUS]]))
    return smears


def uncalibrated(net: FinderNet) -> Finder:
    """A finder whose scores are the heights of the centre map's peaks."""
    whole = np.array([0.0, 1.0])
    return Finder(fused_net(net).to(memory_format=torch.channels_last), whole, whole, {}, "")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("finder"), metavar="DIR", help="default: finder")
    parser.add_argument("--steps", type=int, default=FinderTraining.steps, help=f"default {FinderTraining.steps}")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--add", type=Path, action="append", default=[], metavar="DATASET", help="train on it as well")
    parser.add_argument(
        "--calibrate", type=Path, action="append", default=[], metavar="DATASET", help="calibrate the scores on it, too"
    )
    parser.add_argument("--views", type=int, default=300, help="rendered views for calibration and test (default 300)")
    cores = os.cpu_count() or 1
    parser.add_argument("--jobs", type=int, default=cores, help=f"processes that render (default {cores}); 0: this one")
    options = parser.parse_args()
    torch.set_num_threads(1)
    options.out.mkdir(parents=True, exist_ok=True)
    sets = [read_dataset(place) for place in options.calibrate]
    added = [smear for place in options.add for smear in labelled_smears(read_dataset(place))]
    training = FinderTraining(steps=options.steps, seed=options.seed)
    start, log = time.monotonic(), options.out / "finder_log.csv"

    def note(row: dict[str, float]) -> None:
        row = {name: round(value, 4) for name, value in row.items()} | {"seconds": round(time.monotonic() - start)}
        with log.open("a", newline="") as file:
            writer = csv.DictWriter(file, list(row))
            if not file.tell():
                writer.writeheader()
            writer.writerow(row)
        print(row, flush=True)

    net = train_finder(training, options.out / "finder.ckpt", added=added, workers=options.jobs, log=note)
    finder = uncalibrated(net)
    curve = calibrate(finder, [held_out(options.views, first=0), *(dataset.images for dataset in sets)])
    path = options.out / "finder.safetensors"
    card = {
        "training": asdict(training),
        "added": [place.name for place in options.add],
        "calibrated_on": ["rendered views", *(dataset.name for dataset in sets)],
        "test": scores(
            replace(finder, raw=KNOTS, score=curve), held_out(options.views, first=options.views), min_score=0.4
        ),
    }
    save_finder(net, path, raw=KNOTS, score=curve, card=card)
    print(json.dumps(load_finder(path).card["test"]), path, f"{path.stat().st_size} bytes")


if __name__ == "__main__":
    main()
