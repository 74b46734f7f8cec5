"""F1 and speed of red-cell finders, side by side: python benchmarks/segmentation.py [--data DIR] [--smears N]

Finders: `hybrid` and `paper` (as it is, nothing upscaled) of rbcnb; Hough circles with the settings of OpenCV's
tutorial (minDist rows / 16, param1 100, param2 30, radius 1 to 30); Hough circles tuned on these smears; scikit-image's
watershed (Otsu's threshold on green, holes filled, peak_local_max of the distance) and its Laplacian of Gaussian blobs,
where scikit-image is installed. The four last are given the diameter that rbcnb estimates; rbcnb's time includes that.

Matching rule: one to one by centre, as many pairs as possible, at most 0.9 radii apart (synthetic: of the true median
radius; Chula RBC-12: 18 px). Interior rule: only truth and cells at least half a diameter (Chula: 20 px) from each edge
count; an interior cell that is paired with a border one is a hit. Click noise: Chula's centres were clicked by hand,
about 5 px off, 7 % of them over half a radius; cells without a click count as false, though many are cells.

Chula RBC-12 is read from --data or the environment variable RBCNB_CHULA: the images that exhaustively_labelled.json
names, split in two halves by the digest of the file (byte-identical twins stay together). Parameters of `hybrid` were
chosen on half 0. "rare" is the recall of codocytes and hypochromic cells over all labelled images (--rare).

--diameters: how often the estimated diameter is within 10 % of the truth, on synthetic smears of 12 to 120 px a cell
that cover 10 to 75 %; and on Chula of twice the median radius of the circles that `hybrid`, told 40 px, pairs with
labels.

Speed is cells found per second of processor time, one thread: the median over interleaved rounds, and its ratio to
`paper`.
"""

import argparse
import hashlib
import json
import os
import statistics
import time
from collections.abc import Callable, Iterable, Iterator
from itertools import chain, product
from pathlib import Path

import cv2
import numpy as np
import pandas as pd

from rbcnb.columns import BORDER, CODOCYTE, HYPOCHROMIA, LABEL, RADIUS, X, Y
from rbcnb.segmentation.diameter import estimate_diameter
from rbcnb.segmentation.matching import detection_scores, match_cells
from rbcnb.segmentation.segment import FinderSpec, find_cells
from rbcnb.smears.chula import read_chula_labels
from rbcnb.smears.images import read_image
from rbcnb.smears.sources import synthetic_smears
from rbcnb.smears.synthetic.render import SmearSpec, render_smear

CHULA_RULE = {"max_distance": 18.0, "margin": 20.0}


def table(centres: np.ndarray) -> pd.DataFrame:
    return pd.DataFrame(np.asarray(centres, float).reshape(-1, 2), columns=[X, Y])


def hough(image: np.ndarray, **settings) -> pd.DataFrame:
    grey = cv2.medianBlur(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), 5)
    found = cv2.HoughCircles(grey, cv2.HOUGH_GRADIENT, dp=1, **settings)
    return table(np.empty((0, 2)) if found is None else found.reshape(-1, found.shape[-1])[:, :2])


def tutorial_hough(image: np.ndarray) -> pd.DataFrame:
    return hough(image, minDist=image.shape[0] / 16, param1=100, param2=30, minRadius=1, maxRadius=30)


def tuned_hough(image: np.ndarray) -> pd.DataFrame:
    diameter = estimate_diameter(image)
    low, high = round(0.3 * diameter), round(0.575 * diameter)
    return hough(
        image, minDist=0.75 * diameter, param1=50, param2=max(1, 0.3 * diameter), minRadius=low, maxRadius=high
    )


def watershed(image: np.ndarray) -> pd.DataFrame:
    from scipy.ndimage import binary_fill_holes, center_of_mass, distance_transform_edt
    from skimage.feature import peak_local_max
    from skimage.filters import gaussian, threshold_otsu
    from skimage.segmentation import watershed as flood

    green = gaussian(image[..., 1], 1)
    mask = binary_fill_holes(green < threshold_otsu(green))
    distance = gaussian(distance_transform_edt(mask), 1)
    peaks = peak_local_max(distance, min_distance=round(0.35 * estimate_diameter(image)), labels=mask.astype(int))
    markers = np.zeros(mask.shape, int)
    markers[tuple(peaks.T)] = np.arange(1, len(peaks) + 1)
    labels = flood(-distance, markers, mask=mask)
    return table(np.array(center_of_mass(mask, labels, np.arange(1, len(peaks) + 1)))[:, ::-1] if len(peaks) else [])


def log_blobs(image: np.ndarray) -> pd.DataFrame:
    from skimage.feature import blob_log

    sigma = estimate_diameter(image) / 2 / np.sqrt(2)
    blobs = blob_log(255 - image[..., 1], min_sigma=0.6 * sigma, max_sigma=1.15 * sigma, num_sigma=5, threshold=0.05)
    return table(blobs[:, 1::-1])


def finders() -> dict[str, Callable[[np.ndarray], pd.DataFrame]]:
    own = {
        name: lambda image, name=name: find_cells(image, FinderSpec(method=name, upscale="none", size_px=8))
        for name in ("paper", "hybrid")
    }
    peers = {"opencv tutorial hough": tutorial_hough, "opencv tuned hough": tuned_hough}
    try:
        import skimage
    except ImportError:
        print("scikit-image is not installed: its watershed and LoG blobs are skipped")
    else:
        peers |= {f"scikit-image {skimage.__version__} watershed": watershed, "scikit-image LoG": log_blobs}
    return own | peers


def synthetic(n: int) -> Iterator[tuple[str, np.ndarray, pd.DataFrame, dict]]:
    """Smears of three difficulties, with the rule that scores them."""
    for difficulty in (0.2, 0.5, 0.8):
        for smear in synthetic_smears(n, seed=1, difficulty=difficulty):
            radius = smear.truth[RADIUS].median()
            rule = {"max_distance": 0.9 * radius, "margin": radius}
            yield f"synthetic {difficulty}", smear.image, smear.truth, rule


def chula(root: Path) -> Iterator[tuple[str, np.ndarray, pd.DataFrame, dict]]:
    names = json.loads((root / "exhaustively_labelled.json").read_text())["exhaustively_labelled"]
    for name in names:
        path = root / "Dataset" / f"{name}.jpg"
        half = int(hashlib.sha256(path.read_bytes()).hexdigest()[:8], 16) % 2
        yield f"chula half {half}", read_image(path), read_chula_labels(root / "Label" / f"{name}.txt"), CHULA_RULE


def score(cells: pd.DataFrame, smears: list[tuple]) -> dict[str, float]:
    rows = [
        detection_scores(found, truth, image_shape=image.shape, **rule)
        for found, (_, image, truth, rule) in zip(cells, smears, strict=True)
    ]
    n_truth, n_hits, n_false = (sum(row[name] for row in rows) for name in ("n_truth", "n_hits", "n_false"))
    return {
        "cells": n_truth,
        "missed": n_truth - n_hits,
        "false": n_false,
        "precision": n_hits / max(n_hits + n_false, 1),
        "recall": n_hits / n_truth,
        "f1_score": 2 * n_hits / (n_truth + n_hits + n_false),
    }


def compare(smears: list[tuple], *, rounds: int) -> pd.DataFrame:
    """One row per finder and source; speed over all smears of this call."""
    rows, speeds = [], {}
    sources = list(dict.fromkeys(smear[0] for smear in smears))
    methods = finders()
    for _ in range(rounds):
        for name, find in methods.items():
            start = time.process_time()
            cells = [find(smear[1]) for smear in smears]
            speeds.setdefault(name, []).append(sum(map(len, cells)) / (time.process_time() - start))
            if len(speeds[name]) == 1:
                for source in sources:
                    chosen = [i for i, smear in enumerate(smears) if smear[0] == source]
                    scores = score([cells[i] for i in chosen], [smears[i] for i in chosen])
                    rows.append({"finder": name, "smears": source, **scores})
    speed = {name: statistics.median(values) for name, values in speeds.items()}
    result = pd.DataFrame(rows)
    return result.assign(
        cells_per_s=result["finder"].map(speed).round(),
        times_paper=(result["finder"].map(speed) / speed["paper"]).round(2),
    )


def rare_recall(root: Path, method: str) -> pd.DataFrame:
    """Recall of the rare classes over every labelled image; recall needs no exhaustive labels."""
    counts = {CODOCYTE: [0, 0], HYPOCHROMIA: [0, 0]}
    for path in sorted((root / "Label").glob("*.txt")):
        truth = read_chula_labels(path)
        if not truth[LABEL].isin(list(counts)).any():
            continue
        image = read_image(root / "Dataset" / f"{path.stem}.jpg")
        partner = match_cells(
            find_cells(image, FinderSpec(method=method, upscale="none", size_px=8)), truth, max_distance=18
        )
        hit = np.isin(np.arange(len(truth)), partner)
        inside = truth[X].between(20, image.shape[1] - 21) & truth[Y].between(20, image.shape[0] - 21)
        for name, count in counts.items():
            chosen = (truth[LABEL] == name) & inside
            count[0] += int(chosen.sum())
            count[1] += int((chosen & hit).sum())
    rows = [{"finder": method, "class": name, "cells": n, "recall": k / n} for name, (n, k) in counts.items()]
    return pd.DataFrame(rows)


def synthetic_diameters() -> Iterator[tuple[str, np.ndarray, float]]:
    """Smears and the diameter of their median cell."""
    settings = product((0.2, 0.5, 0.8), (12, 18, 26, 40, 60, 85, 120), (0.1, 0.4, 0.75))
    for i, (difficulty, diameter, cover) in enumerate(settings):
        n_cells = 14 if diameter > 80 else 45
        height = int((0.75 * n_cells * np.pi / 4 * diameter**2 / cover) ** 0.5)
        spec = SmearSpec(height, int(height / 0.75), n_cells, diameter, difficulty=difficulty)
        image, truth = render_smear(spec, seed=[5, i])
        yield f"synthetic, cover {cover}", image, 2 * truth[RADIUS].median()


def chula_diameters(root: Path) -> Iterator[tuple[str, np.ndarray, float]]:
    spec = FinderSpec(method="hybrid", upscale="none", size_px=8, diameter_px=40.0)
    for source, image, truth, rule in chula(root):
        cells = find_cells(image, spec)
        paired = match_cells(cells, truth, max_distance=rule["max_distance"]) >= 0
        yield source, image, 2 * cells.loc[paired & ~cells[BORDER], RADIUS].median()


def diameter_errors(smears: Iterable[tuple[str, np.ndarray, float]]) -> pd.DataFrame:
    rows = [(source, estimate_diameter(image) / diameter - 1) for source, image, diameter in smears]
    errors = pd.DataFrame(rows, columns=["smears", "error"]).groupby("smears")["error"]
    return errors.agg(
        images="size",
        within_10_percent=lambda e: (e.abs() <= 0.1).mean(),
        median="median",
        largest=lambda e: e.abs().max(),
    ).reset_index()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=os.environ.get("RBCNB_CHULA"), help="folder of Chula RBC-12")
    parser.add_argument("--smears", type=int, default=4, help="synthetic smears per difficulty (default 4)")
    parser.add_argument("--rounds", type=int, default=3, help="rounds of timing (default 3)")
    parser.add_argument("--rare", action="store_true", help="also the recall of rare classes over all of Chula RBC-12")
    parser.add_argument("--diameters", action="store_true", help="only how well the cell diameter is estimated")
    options = parser.parse_args()
    cv2.setNumThreads(1)
    if options.diameters:
        smears = chain(synthetic_diameters(), chula_diameters(Path(options.data)) if options.data else ())
        print(diameter_errors(smears).round(3).to_string(index=False))
        return
    print(compare(list(synthetic(options.smears)), rounds=options.rounds).round(4).to_string(index=False))
    if options.data:
        root = Path(options.data)
        print(compare(list(chula(root)), rounds=1).round(4).to_string(index=False))
        if options.rare:
            print(pd.concat([rare_recall(root, name) for name in ("paper", "hybrid")]).round(4).to_string(index=False))


if __name__ == "__main__":
    main()
