import dataclasses

import numpy as np
import pytest

from rbcnb.columns import BORDER, CLASSES, CODOCYTE, HYPOCHROMIA, LABEL, NORMAL, RADIUS, X, Y
from rbcnb.synthesis import (
    OVERLAP,
    PAPER_COUNTS,
    SmearSpec,
    biconcave_um,
    largest_remainder,
    render_smear,
    thickness_um,
    transmit,
)

SMALL = SmearSpec(height_px=150, width_px=200, n_cells=12, diameter_px=30)
RHO = np.linspace(0, 1, 2001)


def test_no_thickness_lets_all_light_pass():
    np.testing.assert_array_equal(transmit(np.zeros((2, 3))), np.ones((2, 3)))


def test_densities_add_where_cells_overlap():
    a, b = biconcave_um(RHO) * 0.09, biconcave_um(RHO[::-1]) * 0.07
    np.testing.assert_allclose(transmit(a + b), transmit(a) * transmit(b))


def test_evans_fung_disc():
    """Evans and Fung (1972): 0.81 um thick in the middle, 2.57 um at most, 94 um^3 for a radius of 3.91 um."""
    profile = biconcave_um(RHO)
    assert profile[0] == pytest.approx(0.81)
    assert profile[-1] == 0
    assert profile.max() == pytest.approx(2.57, abs=0.02)
    volume = np.trapezoid(profile * 2 * np.pi * RHO, RHO) * 3.91**2
    assert volume == pytest.approx(94, abs=2)


def pallor_diameter(profile: np.ndarray) -> float:
    """Width of the pale middle, as a fraction of the diameter, at half of its depth below the thickest ring."""
    top = int(np.argmax(profile))
    pale = profile[:top] < (profile[:top].min() + profile[top]) / 2
    return float(RHO[:top][pale].max()) if pale.any() else 0.0


@pytest.mark.parametrize("difficulty", [0, 0.5, 1])
def test_pallor_defines_normal_and_hypochromic_cells(difficulty):
    rng = np.random.default_rng(0)
    normal = [pallor_diameter(thickness_um(RHO, NORMAL, difficulty=difficulty, rng=rng)) for _ in range(100)]
    pale = [pallor_diameter(thickness_um(RHO, HYPOCHROMIA, difficulty=difficulty, rng=rng)) for _ in range(100)]
    assert max(normal) < 0.5 < min(pale)


@pytest.mark.parametrize("difficulty", [0, 0.5, 1])
def test_only_codocytes_have_a_mound(difficulty):
    rng = np.random.default_rng(1)
    for label in CLASSES:
        for _ in range(50):
            profile = thickness_um(RHO, label, difficulty=difficulty, rng=rng)
            inner = profile[: int(0.5 * len(RHO))]
            assert (inner[0] > 1.02 * inner.min()) == (label == CODOCYTE)
            assert profile[-1] == pytest.approx(0, abs=1e-9)
            assert profile.min() >= 0


def test_an_unknown_class_is_named():
    with pytest.raises(ValueError, match="acanthocyte"):
        thickness_um(RHO, "acanthocyte", difficulty=0.5, rng=np.random.default_rng(0))


def test_same_spec_and_seed_give_the_same_bytes():
    image, truth = render_smear(SMALL, seed=7)
    again, truth_again = render_smear(SMALL, seed=7)
    assert image.tobytes() == again.tobytes()
    assert truth.equals(truth_again)
    assert not np.array_equal(image, render_smear(SMALL, seed=8)[0])


def test_image_and_truth():
    image, truth = render_smear(SMALL, seed=[3, 1])
    assert image.shape == (150, 200, 3)
    assert image.dtype == np.uint8
    assert len(truth) == 12
    assert truth[X].between(0, 199).all()
    assert truth[Y].between(0, 149).all()
    assert truth[OVERLAP].between(0, 1).all()
    inside = truth[X].between(truth[RADIUS], 199 - truth[RADIUS]) & truth[Y].between(truth[RADIUS], 149 - truth[RADIUS])
    np.testing.assert_array_equal(truth[BORDER], ~inside)


def test_truth_lies_where_the_image_is_dark():
    """Green light, which the stain absorbs, is weaker inside of the true circles than outside of all of them."""
    image, truth = render_smear(dataclasses.replace(SMALL, n_cells=6, difficulty=0.2), seed=0)
    rows, columns = np.mgrid[:150, :200]
    distance = np.min([np.hypot(columns - c[X], rows - c[Y]) / c[RADIUS] for _, c in truth.iterrows()], axis=0)
    green = image[..., 1].astype(float)
    background = np.median(green[distance > 1.6])
    for _, cell in truth.iterrows():
        own = np.hypot(columns - cell[X], rows - cell[Y]) < 0.9 * cell[RADIUS]
        assert green[own].mean() < 0.93 * background


def test_radius_is_that_of_the_area_covered():
    """Dark pixels count to pi r^2, though the outline is no circle."""
    spec = SmearSpec(height_px=201, width_px=201, n_cells=1, diameter_px=80, class_ratio=(0, 0, 1), difficulty=0)
    measured = []
    for seed in range(16):
        image, truth = render_smear(spec, seed=seed)
        radius = truth[RADIUS].item()
        if truth[BORDER].item():
            continue
        rows, columns = np.mgrid[:201, :201]
        near = np.hypot(columns - truth[X].item(), rows - truth[Y].item()) < 1.3 * radius
        green = image[..., 1]
        background = np.median(green[~near])
        measured.append(np.sqrt(np.sum(near & (green < 0.85 * background)) / np.pi) / radius)
    assert len(measured) >= 3
    assert np.median(measured) == pytest.approx(1, abs=0.03)


def test_overlap_counts_what_other_cells_cover():
    crowded = dataclasses.replace(SMALL, n_cells=60, difficulty=1.0)
    assert render_smear(crowded, seed=0)[1][OVERLAP].mean() > 0.3
    alone = render_smear(SmearSpec(height_px=400, width_px=400, n_cells=1), seed=1)[1]
    assert alone[OVERLAP].tolist() == [0.0]


def test_class_counts_follow_the_ratio():
    truth = render_smear(dataclasses.replace(SMALL, class_ratio=(2, 3, 7)), seed=0)[1]
    assert truth[LABEL].value_counts().to_dict() == {CODOCYTE: 2, HYPOCHROMIA: 3, NORMAL: 7}


def test_largest_remainder():
    assert largest_remainder(3392, PAPER_COUNTS).tolist() == list(PAPER_COUNTS)
    assert largest_remainder(0, (1, 2)).tolist() == [0, 0]
    for total in range(1, 50):
        counts = largest_remainder(total, (1, 2, 4))
        assert counts.sum() == total
        assert np.abs(counts - total * np.array([1, 2, 4]) / 7).max() < 1


def test_a_smear_without_cells():
    image, truth = render_smear(dataclasses.replace(SMALL, n_cells=0), seed=0)
    assert image.shape == (150, 200, 3)
    assert len(truth) == 0
    assert {X, Y, RADIUS, LABEL, BORDER, OVERLAP} <= set(truth.columns)


@pytest.mark.parametrize(
    "wrong",
    [
        {"n_cells": -1},
        {"diameter_px": 0},
        {"difficulty": 1.5},
        {"class_ratio": (1, 2)},
        {"class_ratio": (0, 0, 0)},
        {"class_ratio": (-1, 1, 1)},
        {"height_px": 0},
    ],
)
def test_a_wrong_spec_is_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        SmearSpec(**wrong)
