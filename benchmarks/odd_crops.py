"""Copies and odd crops among synthetic cells: how many are found, and how fast? python benchmarks/odd_crops.py

copies    smears are photographed again: darker, noisier or saved as JPEG, and mirrored; the share of cells whose copy
          `rbcnb.labels.odd_crops.near_pairs` finds, and the pairs of different cells that it takes for one
speed     CPU seconds for --cells different cells, against comparing the pixels of all pairs in all eight turns (timed
          on 2,000 cells, times the square of the ratio)
oddities  off-centre, double, half-size and empty crops, one of each to 60 cells: AUROC of the local outlier factor that
          `rbcnb.labels.odd_crops` uses, and of rivals on the same features; mean of three sets, lowest and highest
"""

import argparse
import time
from collections.abc import Callable

import cv2
import numpy as np
import pandas as pd
from sklearn.covariance import MinCovDet
from sklearn.ensemble import IsolationForest
from sklearn.metrics import roc_auc_score
from sklearn.preprocessing import RobustScaler

from rbcnb.columns import RADIUS, X, Y
from rbcnb.labels.odd_crops import MAX_DISTANCE, TURNS, crop_features, near_pairs, outlier_scores, squares, turned
from rbcnb.segmentation.crops import crop_cells
from rbcnb.smears.sources import synthetic_smears

SIZE_PX = 48


def copies_found(seed: int) -> pd.DataFrame:
    """One row per way of copying 8 smears: the share of cells found again, and false pairs."""
    rng = np.random.default_rng(seed)
    smears = list(synthetic_smears(8, seed=seed, n_cells=60))
    crops = np.concatenate([crop_cells(smear.image, smear.truth, SIZE_PX) for smear in smears])

    def jpeg(image: np.ndarray, quality: int) -> np.ndarray:
        return cv2.imdecode(cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])[1], cv2.IMREAD_COLOR)

    ways: dict[str, Callable[[np.ndarray], np.ndarray]] = {
        "mirrored only": lambda image: image,
        "20 % darker": lambda image: (0.8 * image).astype(np.uint8),
        "noise, sd 5": lambda image: np.clip(image + rng.normal(0, 5, image.shape), 0, 255).astype(np.uint8),
        "JPEG, quality 90": lambda image: jpeg(image, 90),
        "JPEG, quality 75": lambda image: jpeg(image, 75),
    }
    rows = []
    for name, way in ways.items():
        # The crops are mirrored, not the smear: a square of even side has no pixel in its middle.
        again = [crop_cells(way(smear.image), smear.truth, SIZE_PX)[:, :, ::-1] for smear in smears]
        pairs = near_pairs(np.concatenate([crops, *again]))
        is_copy = pairs["second"] - pairs["first"] == len(crops)
        rows.append({"copy": name, "found": is_copy.sum() / len(crops), "false_pairs": (~is_copy).sum()})
    return pd.DataFrame(rows)


def speed(n: int, seed: int) -> dict[str, float]:
    """CPU seconds of the tree and of all pairs, and how many pairs of *n* different cells pass for copies."""
    crops = np.concatenate(
        [crop_cells(smear.image, smear.truth, SIZE_PX) for smear in synthetic_smears(-(-n // 154), seed=seed)]
    )[:n]
    start = time.process_time()
    pairs = near_pairs(crops)
    ours = time.process_time() - start
    few = squares(crops[: min(n, 2000)])
    start = time.process_time()
    for turn in TURNS:
        products = turned(few, turn).reshape(len(few), -1) @ few.reshape(len(few), -1).T
        np.argwhere(products >= 1 - MAX_DISTANCE**2 / 2)
    theirs = (time.process_time() - start) * (n / len(few)) ** 2
    return {"cells": n, "tree_s": ours, "all_pairs_s": theirs, "false_pairs": len(pairs)}


def odd_crops(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Crops of 16 smears, four odd ones to each, and which are odd."""
    rng = np.random.default_rng(seed)
    usual, odd = [], []
    for smear in synthetic_smears(16, seed=100 + seed, n_cells=60):
        truth, (height, width) = smear.truth, smear.image.shape[:2]
        usual.append(crop_cells(smear.image, truth, SIZE_PX))
        four = truth.sample(4, random_state=seed).reset_index(drop=True)[[X, Y, RADIUS]]
        angle = rng.uniform(0, 2 * np.pi)
        four.loc[0, [X, Y]] += four.loc[0, RADIUS] * np.array([np.cos(angle), np.sin(angle)])
        four.loc[1, RADIUS] *= 1.7
        four.loc[2, RADIUS] *= 0.45
        places = rng.uniform([0, 0], [width, height], (400, 2))
        gaps = np.linalg.norm(places[:, None] - truth[[X, Y]].to_numpy(), axis=2).min(axis=1)
        four.loc[3, [X, Y]] = places[gaps.argmax()]
        odd.append(crop_cells(smear.image, four, SIZE_PX))
    sizes = sum(map(len, usual)), sum(map(len, odd))
    return np.concatenate(usual + odd), np.repeat([False, True], sizes)


def outliers_found(seed: int) -> dict[str, float]:
    """AUROC per way of finding the odd ones."""
    crops, odd = odd_crops(seed)
    scaled = RobustScaler().fit_transform(crop_features(crops))
    scores = {
        "local outlier factor": outlier_scores(crops),
        "isolation forest": -IsolationForest(n_estimators=200, random_state=0).fit(scaled).score_samples(scaled),
        "robust distance": MinCovDet(random_state=0).fit(scaled).mahalanobis(scaled),
    }
    return {name: roc_auc_score(odd, score) for name, score in scores.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", type=int, default=10_000, help="of the timing (default 10000)")
    options = parser.parse_args()
    print(copies_found(0).round(3).to_string(index=False))
    print(pd.DataFrame([speed(options.cells, 1)]).round(1).to_string(index=False))
    print(pd.DataFrame([outliers_found(seed) for seed in range(3)]).agg(["mean", "min", "max"]).round(3).to_string())


if __name__ == "__main__":
    main()
