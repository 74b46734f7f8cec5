"""What a cell looks like in numbers: shape, texture and intensity of its crop, for classifiers that learn no pictures.

The features of the paper's related work (section 2): outlines, grey-level co-occurrence, local binary patterns, colour.
Every one is computed from the crop alone, whatever its size, by scikit-image.
"""

import numpy as np
import pandas as pd
from skimage.color import rgb2gray, rgb2hsv
from skimage.feature import graycomatrix, graycoprops, local_binary_pattern
from skimage.filters import threshold_otsu
from skimage.measure import label, regionprops

GREY_LEVELS = 32  # of the co-occurrence matrix: 8 bits would leave it almost empty in a crop of 48 px
DISTANCES = (1, 2, 4)  # px, of the co-occurrence matrix; over four directions the mean is taken
ANGLES = (0, np.pi / 4, np.pi / 2, 3 * np.pi / 4)
TEXTURES = ("contrast", "dissimilarity", "homogeneity", "energy", "correlation")
N_RINGS = 6  # of equal width from the middle of the crop to its inscribed circle: pallor and target show in them
SHAPES = ("area", "eccentricity", "solidity", "extent", "equivalent_diameter_area")


def cell_features(crops: np.ndarray) -> pd.DataFrame:
    """Features of crops, uint8 [N, S, S, 3]: one row per crop, float64, no value missing."""
    return pd.DataFrame([_features(crop) for crop in crops])


def _features(crop: np.ndarray) -> dict[str, float]:
    grey, size = rgb2gray(crop), crop.shape[0]
    return _shape(grey, size) | _texture(grey) | _intensity(crop, grey)


def _shape(grey: np.ndarray, size: int) -> dict[str, float]:
    """Of the largest piece of what is darker than the field; lengths in sides of the crop."""
    dark = grey <= threshold_otsu(grey) if np.ptp(grey) > 0 else np.ones_like(grey, dtype=bool)
    pieces = regionprops(label(dark))
    cell = max(pieces, key=lambda piece: piece.area)
    values = {name: float(getattr(cell, name)) for name in SHAPES}
    values["area"] /= size**2
    values["equivalent_diameter_area"] /= size
    values["roundness"] = 4 * np.pi * cell.area_filled / max(cell.perimeter, 1.0) ** 2
    values["hole"] = 1 - cell.area / cell.area_filled
    hu = cell.moments_hu
    # Over ten orders of magnitude, and of both signs: the usual logarithm that keeps the sign.
    return values | {f"hu_{i}": float(np.sign(m) * np.log10(1e12 * abs(m) + 1)) for i, m in enumerate(hu)}


def _texture(grey: np.ndarray) -> dict[str, float]:
    levels = np.minimum((grey * GREY_LEVELS).astype(np.uint8), GREY_LEVELS - 1)
    counts = graycomatrix(levels, DISTANCES, ANGLES, levels=GREY_LEVELS, symmetric=True, normed=True)
    values = {
        f"glcm_{name}_{distance}": float(value)
        for name in TEXTURES
        for distance, value in zip(DISTANCES, graycoprops(counts, name).mean(axis=1), strict=True)
    }
    for points, radius in ((8, 1), (16, 2)):
        patterns = local_binary_pattern((grey * 255).astype(np.uint8), points, radius, method="uniform")
        shares = np.bincount(patterns.astype(int).ravel(), minlength=points + 2) / patterns.size
        values |= {f"lbp_{radius}_{i}": float(share) for i, share in enumerate(shares)}
    return values


def _intensity(crop: np.ndarray, grey: np.ndarray) -> dict[str, float]:
    size = len(grey)
    offset = np.arange(size) - (size - 1) / 2
    ring = np.minimum(np.hypot(offset[:, None], offset) / (size / 2) * N_RINGS, N_RINGS).astype(int)
    sums = np.bincount(ring.ravel(), weights=grey.ravel(), minlength=N_RINGS + 1)
    cells = np.bincount(ring.ravel(), minlength=N_RINGS + 1)
    values = {f"ring_{i}": sums[i] / cells[i] for i in range(N_RINGS)}
    for names, image in (("rgb", crop / 255), ("hsv", rgb2hsv(crop))):
        for i, name in enumerate(names):
            values |= {f"{names}_{name}_mean": image[..., i].mean(), f"{names}_{name}_sd": image[..., i].std()}
    quantiles = np.quantile(grey, (0.05, 0.25, 0.5, 0.75, 0.95))
    return values | {f"grey_q{i}": float(value) for i, value in enumerate(quantiles)}
