"""The estimated diameter of a typical cell against the truth of synthetic smears, and the density it is read from."""

import math

import cv2
import numpy as np
import pytest

from rbcnb.columns import RADIUS
from rbcnb.segmentation.diameter import estimate_diameter
from rbcnb.segmentation.stain import is_dark_field, measure_field, upright
from rbcnb.smears.synthetic.render import SmearSpec, render_smear


@pytest.mark.slow
@pytest.mark.parametrize("difficulty", [0.2, 0.8])
def test_diameter_within_a_tenth_from_small_to_large_and_from_sparse_to_crowded(difficulty):
    errors = []
    for i, diameter in enumerate((12, 20, 40, 90)):
        for j, cover in enumerate((0.1, 0.4, 0.75)):
            n_cells = 15 if diameter == 90 else 40
            height = round(math.sqrt(0.75 * n_cells * math.pi / 4 * diameter**2 / cover))
            spec = SmearSpec(height, round(height / 0.75), n_cells, diameter, difficulty=difficulty)
            image, truth = render_smear(spec, seed=[31, i, j])
            errors.append(estimate_diameter(image) / (2 * truth[RADIUS].median()) - 1)
    assert sum(abs(error) <= 0.1 for error in errors) >= 11
    assert max(map(abs, errors)) < 0.2


def discs() -> np.ndarray:
    """Fifteen dark discs of 40 pixels on a bright field, [240, 320, 3], drawn at four times the size and averaged."""
    image = np.full((960, 1280, 3), (226, 219, 216), np.uint8)
    for i in range(15):
        centre = (round(240 * (i % 5 + 0.7)), round(240 * (i // 5 + 0.7)))
        cv2.circle(image, centre, 80, (200, 120, 150), cv2.FILLED)
    return cv2.resize(image, (320, 240), interpolation=cv2.INTER_AREA)


def test_dark_fields_are_inverted():
    image = discs()
    assert not is_dark_field(image)
    assert is_dark_field(255 - image)
    assert np.array_equal(upright(255 - image), image)
    assert estimate_diameter(255 - image) == estimate_diameter(image) == pytest.approx(40, abs=1)


@pytest.mark.parametrize("seed", range(3))
def test_synthetic_smears_are_told_from_their_negatives(seed):
    for n_cells in (10, 60, 100):
        image, _ = render_smear(SmearSpec(height_px=400, width_px=500, n_cells=n_cells), seed=seed)
        assert not is_dark_field(image)
        assert is_dark_field(255 - image)


def test_density_is_even_under_uneven_light():
    rows, columns = np.mgrid[-1:1:240j, -1:1:320j]
    shaded = np.rint(discs() * (0.85 + 0.1 * columns - 0.05 * rows**2)[..., None]).astype(np.uint8)
    even, uneven = measure_field(discs()), measure_field(shaded)
    assert uneven.level == pytest.approx(even.level, rel=0.05)
    assert np.abs(uneven.density - even.density).mean() < 0.01
