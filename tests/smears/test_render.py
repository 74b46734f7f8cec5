import dataclasses
from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
import pandas as pd
import pytest

from rbcnb.columns import BORDER, CODOCYTE, HYPOCHROMIA, LABEL, NORMAL, RADIUS, X, Y
from rbcnb.smears.synthetic.debris import KINDS, draw_debris
from rbcnb.smears.synthetic.render import (
    KIND,
    OVERLAP,
    PAPER_COUNTS,
    SmearSpec,
    draw_slide,
    largest_remainder,
    render_scene,
    render_smear,
)

SMALL = SmearSpec(height_px=150, width_px=200, n_cells=12, diameter_px=30)


def test_same_spec_and_seed_give_the_same_bytes():
    image, truth = render_smear(SMALL, seed=7)
    again, truth_again = render_smear(SMALL, seed=7)
    assert image.tobytes() == again.tobytes()
    assert truth.equals(truth_again)
    assert not np.array_equal(image, render_smear(SMALL, seed=8)[0])


def test_bytes_do_not_depend_on_threads():
    before = cv2.getNumThreads()
    try:
        images = []
        for threads in (1, 4):
            cv2.setNumThreads(threads)
            images.append(render_smear(SmearSpec(), seed=2)[0])
    finally:
        cv2.setNumThreads(before)
    assert np.array_equal(*images)
    with ThreadPoolExecutor(4) as pool:
        drawn = list(pool.map(lambda seed: render_smear(SMALL, seed=seed)[0], range(8)))
    for seed, image in enumerate(drawn):
        assert np.array_equal(image, render_smear(SMALL, seed=seed)[0])


def test_image_and_truth():
    image, truth = render_smear(SMALL, seed=[3, 1])
    assert image.shape == (150, 200, 3)
    assert image.dtype == np.uint8
    assert len(truth) == 12
    assert truth[X].between(0, 199).all()
    assert truth[Y].between(0, 149).all()
    assert truth[OVERLAP].between(0, 1).all()


def test_border_says_that_the_circle_leaves_the_image():
    crowd = dataclasses.replace(SMALL, n_cells=150, diameter_px=12)
    cells = pd.concat([render_smear(crowd, seed=seed)[1] for seed in range(3)])
    room = np.min([cells[X], cells[Y], 199 - cells[X], 149 - cells[Y]], axis=0) - cells[RADIUS]
    assert (np.abs(room) < 1).sum() > 10  # close calls among them
    np.testing.assert_array_equal(cells[BORDER], room < 0)


def test_truth_lies_where_the_image_is_dark():
    """Green light, which the stain absorbs, is weaker inside of the true circles than outside of all of them."""
    image, truth = render_smear(dataclasses.replace(SMALL, n_cells=6, difficulty=0.2), seed=0)
    rows, columns = np.mgrid[:150, :200]
    distance = np.min([np.hypot(columns - c[X], rows - c[Y]) / c[RADIUS] for _, c in truth.iterrows()], axis=0)
    green = image[..., 1].astype(float)
    background = np.median(green[distance > 1.6])
    for _, cell in truth.iterrows():
        inside = np.hypot(columns - cell[X], rows - cell[Y]) < 0.9 * cell[RADIUS]
        assert green[inside].mean() < 0.93 * background


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


def test_overlap_grows_with_the_crowd():
    crowded = dataclasses.replace(SMALL, n_cells=60, difficulty=1.0)
    assert render_smear(crowded, seed=0)[1][OVERLAP].mean() > 0.3
    alone = render_smear(SmearSpec(height_px=400, width_px=400, n_cells=1), seed=1)[1]
    assert alone[OVERLAP].tolist() == [0.0]


def test_magnification_changes_pixels_and_not_the_smear():
    """The same seed at twice the magnification shows cells of twice the size, in micrometres the same."""
    spec = SmearSpec(height_px=200, width_px=300, n_cells=10, diameter_px=30)
    twice = dataclasses.replace(spec, height_px=400, width_px=600, diameter_px=60)
    small, large = render_scene(spec, seed=4).truth, render_scene(twice, seed=4).truth
    np.testing.assert_allclose(small[RADIUS] * spec.um_per_px, large[RADIUS] * twice.um_per_px)
    assert 2 * np.median(small[RADIUS]) * spec.um_per_px == pytest.approx(7, rel=0.1)


def test_difficulty_spreads_stain_light_and_focus():
    spread = []
    for difficulty in (0.0, 0.5, 1.0):
        slides = [draw_slide(difficulty, np.random.default_rng(seed)) for seed in range(200)]
        assert all((s.stain_per_um > 0).all() and (s.white <= 1).all() and (s.white > 0.2).all() for s in slides)
        assert all(1 <= s.quality <= 100 for s in slides)
        spread.append(
            [
                np.std([f(s) for s in slides])
                for f in (lambda s: s.white[0], lambda s: s.stain_per_um[1], lambda s: s.focus_um)
            ]
        )
    assert (np.diff(spread, axis=0) > 0).all()


@pytest.mark.parametrize("kind", KINDS)
def test_debris_only_absorbs_and_stays_in_its_patch(kind):
    rng = np.random.default_rng(5)
    for diameter_um in KINDS[kind][1]:
        patch = draw_debris(kind, diameter_um / 0.175, um_per_px=0.175, rng=rng)
        assert patch.shape[0] == patch.shape[1]
        assert patch.shape[2] == 3
        assert patch.min() >= 0
        assert patch.any()
        assert patch[[0, -1]].max() < 0.05 * patch.max()


def test_white_cells_are_larger_than_red_ones_and_no_truth_of_theirs():
    spec = SmearSpec(n_cells=150)
    scenes = [render_scene(spec, seed=seed) for seed in range(8)]
    assert all(
        len(scene.truth) == 150 and set(scene.truth[LABEL]) <= {CODOCYTE, HYPOCHROMIA, NORMAL} for scene in scenes
    )
    white = [cell for scene in scenes for cell in scene.debris.itertuples() if cell.kind == "white_cell"]
    assert white
    assert min(cell.radius_px for cell in white) * 2 * spec.um_per_px >= 10
    for scene in scenes:  # a nucleus takes red light, which red cells let through
        for cell in scene.debris[scene.debris[KIND] == "white_cell"].itertuples():
            x, y, r = round(cell.x_px), round(cell.y_px), int(0.6 * cell.radius_px)
            patch = scene.image[max(y - r, 0) : y + r, max(x - r, 0) : x + r, 0]
            assert np.percentile(patch, 5) < 0.6 * np.median(scene.image[..., 0])


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
