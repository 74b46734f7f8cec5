"""Crops unlike all others: a torn cell, two at once, a platelet, dirt. Told from pixels alone, labels play no part."""

import numpy as np
from sklearn.neighbors import LocalOutlierFactor
from sklearn.preprocessing import RobustScaler

from rbcnb.duplicates import coefficients, squares

NEIGHBOURS = 20


def crop_features(crops: np.ndarray) -> np.ndarray:
    """What a crop looks like whichever way up, as 13 numbers [N, 13].

    Strength of its pattern in eight bands from coarse to fine (of the cosine transform of its square), mean and spread
    of its brightness, its two differences of colour, and its side.

    Args:
        crops: uint8 [N, S, S, 3], zero-padded as by `rbcnb.crops.crop_cells`.
    """
    low = coefficients(squares(crops)) ** 2
    order = np.add.outer(np.arange(low.shape[1]), np.arange(low.shape[2]))
    bands = np.stack([low[:, order == n].sum(axis=1) for n in range(1, 9)], axis=1)
    seen = crops.any(axis=3)
    n_seen = np.maximum(seen.sum(axis=(1, 2)), 1)
    colour = crops.sum(axis=(1, 2)) / n_seen[:, None]
    grey = crops.mean(axis=3)
    mean = grey.sum(axis=(1, 2)) / n_seen
    spread = np.sqrt(np.maximum((grey**2).sum(axis=(1, 2)) / n_seen - mean**2, 0))
    hue = colour[:, [0, 2]] - colour[:, [1]]
    return np.column_stack([np.log(bands + 1e-4), mean, spread, hue, np.sqrt(n_seen)])


def outlier_scores(crops: np.ndarray, *, neighbours: int = NEIGHBOURS) -> np.ndarray:
    """How far each crop stands from its nearest likes, [N]: about 1 within a crowd, the higher the lonelier.

    Local outlier factor (Breunig et al. 2000) on `crop_features`, each scaled by its quartiles. Odd crops that are many
    and alike are each other's likes, and are not told.

    Args:
        crops: uint8 [N, S, S, 3], at least 3.
        neighbours: that a crop is compared with; fewer where there are not so many.
    """
    if len(crops) < 3:
        raise ValueError(f"{len(crops)} crops have no crowd to stand out from; give at least 3")
    scaled = RobustScaler().fit_transform(crop_features(crops))
    found = LocalOutlierFactor(min(neighbours, len(crops) - 1)).fit(scaled)
    return -found.negative_outlier_factor_
