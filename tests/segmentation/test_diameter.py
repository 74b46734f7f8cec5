"""The estimated diameter of a typical cell against the truth of synthetic smears, from 12 to 90 pixels."""

import math

import pytest

from rbcnb.columns import RADIUS
from rbcnb.segmentation.diameter import estimate_diameter
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
