"""Real smears as another microscope, camera or program would have left them, and whether a finder minds.

Each change keeps the cells where they are (or moves all of them alike), so that what was found before and after can be
compared cell by cell, and each of them scored by the same truth.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import partial

import cv2
import numpy as np
import pandas as pd
from labelled_smears import LabelledImage
from scipy.spatial import cKDTree

from rbcnb.columns import RADIUS, X, Y

CIRCLE = 0.48  # radius of the eyepiece's circle, over the image's height


@dataclass(frozen=True)
class Change:
    """A change of an image, and how to come back from its cells to those of the image before."""

    name: str
    change: Callable[[np.ndarray], np.ndarray]
    scale: float = 1.0  # of the changed image
    shift: tuple[int, int] = (0, 0)  # x, y
    circle: bool = False  # only what lies in the eyepiece's circle is there still


def _circle_distance(shape: tuple[int, ...]) -> np.ndarray:
    """How far inside the circle each pixel lies: [H,W]."""
    rows, columns = np.mgrid[: shape[0], : shape[1]]
    return CIRCLE * shape[0] - np.hypot(columns - shape[1] / 2, rows - shape[0] / 2)


def _circle(image: np.ndarray, level: float, soft_px: float) -> np.ndarray:
    within = np.clip(_circle_distance(image.shape) / soft_px + 0.5, 0, 1)[..., None]
    return np.rint(image * within + level * (1 - within)).astype(np.uint8)


def _vignette(image: np.ndarray) -> np.ndarray:
    height, width = image.shape[:2]
    y, x = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
    return (image * (1 - 0.35 * (x**2 + y**2))[..., None]).astype(np.uint8)


def _margins(image: np.ndarray, level: int) -> np.ndarray:
    return cv2.copyMakeBorder(image, 60, 90, 120, 40, cv2.BORDER_CONSTANT, value=(level,) * 3)


def _bar(image: np.ndarray) -> np.ndarray:
    height = image.shape[0]
    image = cv2.copyMakeBorder(image, 0, 60, 0, 0, cv2.BORDER_CONSTANT, value=(255,) * 3)
    cv2.putText(image, "HV 20kV  100x  10um", (20, height + 40), 0, 1, (0, 0, 0), 2)
    return cv2.rectangle(image, (image.shape[1] - 190, height + 25), (image.shape[1] - 40, height + 35), (0, 0, 0), -1)


def _resize(image: np.ndarray, factor: float) -> np.ndarray:
    how = cv2.INTER_AREA if factor < 1 else cv2.INTER_CUBIC
    return cv2.resize(image, None, fx=factor, fy=factor, interpolation=how)


def _balance(image: np.ndarray, gains: tuple[float, ...]) -> np.ndarray:
    return np.clip(image * np.array(gains), 0, 255).astype(np.uint8)


_GAINS = ((1.4, 1.0, 0.6), (0.6, 1.0, 1.4), (1.4, 1.4, 1.4), (0.6, 0.6, 0.6), (0.6, 1.4, 0.6), (1.4, 0.6, 1.4))
CHANGES = (
    Change("black circle", partial(_circle, level=0, soft_px=1), circle=True),
    Change("white circle", partial(_circle, level=255, soft_px=1), circle=True),
    Change("soft dark circle", partial(_circle, level=20, soft_px=30), circle=True),
    Change("vignette", _vignette),
    Change("black margins", partial(_margins, level=0), shift=(120, 60)),
    Change("white margins", partial(_margins, level=255), shift=(120, 60)),
    Change("data bar", _bar),
    *(Change(f"x {factor:g}", partial(_resize, factor=factor), scale=factor) for factor in (0.33, 0.5, 0.7, 1.5, 2, 4)),
    *(Change(f"channels x {' '.join(map(str, gains))}", partial(_balance, gains=gains)) for gains in _GAINS),
    Change("grey", lambda image: np.repeat(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)[..., None], 3, axis=2)),
    Change("negative", lambda image: 255 - image),
)


def _back(cells: pd.DataFrame, change: Change) -> pd.DataFrame:
    """*cells* of the changed image, in pixels of the image before."""
    cells = cells.copy()
    cells[[X, Y]] = (cells[[X, Y]] - list(change.shift) + 0.5) / change.scale - 0.5
    cells[RADIUS] /= change.scale
    return cells


def _share_found(cells: pd.DataFrame, among: pd.DataFrame) -> tuple[int, int]:
    """How many of *cells* have one of *among* within half their radius, of how many."""
    if not len(cells) or not len(among):
        return 0, len(cells)
    distance, _ = cKDTree(among[[X, Y]]).query(cells[[X, Y]])
    return int((distance < 0.5 * cells[RADIUS]).sum()), len(cells)


def under_changes(
    images: Iterable[LabelledImage],
    find: Callable[[np.ndarray], pd.DataFrame],
    score: Callable[[pd.DataFrame, LabelledImage, tuple[int, ...]], dict[str, float]],
    changes: Iterable[Change] = CHANGES,
) -> pd.DataFrame:
    """One row per change: ``kept`` (share of the cells found before that are found after), ``F1`` before and after.

    Behind a circle only cells wholly inside it count, and ``outside`` says how many were ringed beyond its edge.
    """
    images = list(images)
    before = [find(image.read()) for image in images]
    rows = []
    for change in changes:
        found, counted, outside, counts = 0, 0, 0, {"before": np.zeros(3, int), "after": np.zeros(3, int)}
        for image, cells in zip(images, before, strict=True):
            pixels = image.read()
            after, mine, truth = _back(find(change.change(pixels)), change), cells, image
            if change.circle:
                depth = _circle_distance(pixels.shape)
                outside += int((_depth(after, depth) < 0).sum())
                after, mine = (part[_depth(part, depth) > 1.1 * image.radius_px] for part in (after, cells))
                truth = _within(image, depth)
            n_found, n = _share_found(mine, after)
            found, counted = found + n_found, counted + n
            for name, part in (("before", mine), ("after", after)):
                result = score(part.reset_index(drop=True), truth, pixels.shape)
                counts[name] += [result["n_truth"], result["n_hits"], result["n_false"]]
        f1 = {name: 2 * hits / max(n + hits + false, 1) for name, (n, hits, false) in counts.items()}
        row = {"change": change.name, "kept": found / max(counted, 1), "F1 before": f1["before"], "F1": f1["after"]}
        rows.append(row | {"outside": outside if change.circle else ""})
    return pd.DataFrame(rows)


def _depth(cells: pd.DataFrame, depth: np.ndarray) -> np.ndarray:
    at = cells[[Y, X]].round().astype(int).to_numpy().clip(0, np.subtract(depth.shape, 1))
    return depth[at[:, 0], at[:, 1]]


def _within(image: LabelledImage, depth: np.ndarray) -> LabelledImage:
    truth = image.truth[_depth(image.truth, depth) > 1.1 * image.radius_px]
    return replace(image, truth=truth.reset_index(drop=True))
