import json
import os
from itertools import permutations
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest

from rbcnb.columns import BORDER, CELL, RADIUS, X, Y
from rbcnb.segmentation import upscaling, waifu2x
from rbcnb.segmentation.crops import crop_cells
from rbcnb.segmentation.diameter import estimate_diameter
from rbcnb.segmentation.matching import detection_scores, match_cells
from rbcnb.segmentation.segment import FinderSpec, find_cells, segment_smear
from rbcnb.smears.synthetic.render import SmearSpec, render_smear


def table(*circles):
    return pd.DataFrame(circles, columns=[X, Y, RADIUS], dtype=float)


def discs(centres, radius, *, shape=(240, 320)):
    """Anti-aliased dark discs at sub-pixel centres on a bright field, drawn at 8 times the size and averaged."""
    rows, columns = (np.arange(8 * side) / 8 + 1 / 16 - 0.5 for side in shape)
    ink = np.zeros((8 * shape[0], 8 * shape[1]), np.float32)
    for x, y in centres:
        ink[(rows[:, None] - y) ** 2 + (columns[None, :] - x) ** 2 <= radius**2] = 1
    ink = cv2.resize(ink, shape[::-1], interpolation=cv2.INTER_AREA)[..., None]
    return np.rint(225 * (1 - ink) + np.array([200, 120, 140]) * ink).astype(np.uint8)


# Cropping: exact, to the pixel.


def test_small_cell_is_cut_and_zero_padded_on_all_sides():
    image = np.arange(1, 101, dtype=np.uint8).reshape(10, 10, 1).repeat(3, axis=2)
    # Radius 1.5 around the centre of pixel (4, 5): the 3 x 3 pixels 3..5, 4..6, in the middle of 7 x 7.
    crop = crop_cells(image, table((4, 5, 1.5)), 7)[0]
    assert np.array_equal(crop[2:5, 2:5], image[4:7, 3:6])
    crop[2:5, 2:5] = 0
    assert not crop.any()


def test_odd_padding_goes_right_and_below():
    image = np.full((10, 10, 3), 9, np.uint8)
    crop = crop_cells(image, table((4, 4, 1.5)), 6)[0]
    expected = np.zeros((6, 6), np.uint8)
    expected[1:4, 1:4] = 9
    assert np.array_equal(crop[..., 0], expected)


def test_even_square_lies_evenly_around_a_centre_between_pixels():
    image = np.arange(100, dtype=np.uint8).reshape(10, 10, 1).repeat(3, axis=2)
    assert np.array_equal(crop_cells(image, table((4.5, 5.5, 2)), 4)[0], image[4:8, 3:7])


def test_large_cell_keeps_the_centre_of_its_square():
    image = np.random.default_rng(0).integers(0, 256, (40, 40, 3), np.uint8)
    assert np.array_equal(crop_cells(image, table((20, 20, 7.5)), 9)[0], image[16:25, 16:25])


def test_what_lies_outside_the_image_is_zero():
    image = np.full((10, 12, 3), 7, np.uint8)
    crop = crop_cells(image, table((0, 9, 2.5)), 5)[0][..., 0]
    expected = np.zeros((5, 5), np.uint8)
    expected[:3, 2:] = 7
    assert np.array_equal(crop, expected)
    assert not crop_cells(image, table((-30, -30, 2.5)), 5).any()


def test_crops_of_a_magnified_image_show_the_same_place():
    # Every pixel becomes a block of 4 x 4: the block of pixel (3, 2) is what radius 0.5 around its centre encloses.
    image = np.arange(60, dtype=np.uint8).reshape(6, 10, 1).repeat(3, axis=2)
    big = image.repeat(4, axis=0).repeat(4, axis=1)
    crop = crop_cells(big, table((3, 2, 0.5)), 4, scale=4)[0]
    assert np.array_equal(crop, np.full((4, 4, 3), image[2, 3, 0]))


def test_enlarged_crops_fill_the_square():
    image = np.full((50, 50, 3), 200, np.uint8)
    assert (crop_cells(image, table((25, 25, 5)), 30, enlarge=3.0)[0] == 200).all()
    assert (crop_cells(image, table((25, 25, 5)), 30, enlarge=2.0)[0] == 200).sum() == 20 * 20 * 3


def test_no_cells_no_crops_and_bad_rows_are_named():
    image = np.zeros((10, 10, 3), np.uint8)
    assert crop_cells(image, table(), 8).shape == (0, 8, 8, 3)
    with pytest.raises(ValueError, match="row 1"):
        crop_cells(image, table((1, 1, 1), (2, 2, np.nan)), 8)
    with pytest.raises(ValueError, match="lacks radius_px"):
        crop_cells(image, table((1, 1, 1)).drop(columns=RADIUS), 8)


# Finding.


@pytest.mark.slow
@pytest.mark.parametrize("diameter", [14, 40, 90])
@pytest.mark.parametrize("upscale", ["bicubic", "none"])
def test_discs_come_back_where_they_were_drawn(diameter, upscale):
    step = 1.5 * diameter
    centres = [(step * (i + 0.7) + 0.3, step * (j + 0.7) - 0.2) for j in range(3) for i in range(4)]
    image = discs(centres, diameter / 2, shape=(round(4.4 * step), round(5.4 * step)))
    cells = find_cells(image, FinderSpec(upscale=upscale, diameter_px=diameter, size_px=64))
    assert len(cells) == 12
    assert list(cells[CELL]) == list(range(12))
    partner = match_cells(cells, pd.DataFrame(centres, columns=[X, Y]), max_distance=diameter)
    off = cells[[X, Y]].to_numpy() - np.array(centres)[partner]
    # The Hough accumulator has cells of 1/40 diameter; a shift common to all discs would be a wrong convention.
    assert np.abs(off).max() < 0.08 * diameter
    assert np.abs(off.mean(axis=0)).max() < 0.02 * diameter
    assert cells[RADIUS].to_numpy() == pytest.approx(diameter / 2, rel=0.08)
    assert not cells[BORDER].any()


def test_border_marks_circles_that_leave_the_image():
    image = discs([(8, 100), (160, 120), (311, 130)], 20)
    cells = find_cells(image, FinderSpec(upscale="none", diameter_px=40)).sort_values(X)
    assert list(cells[BORDER]) == [True, False, True]


@pytest.mark.parametrize("upscale", ["bicubic", "none"])
def test_crops_show_the_disc_in_the_middle(upscale):
    result = segment_smear(discs([(160.4, 119.7)], 20), FinderSpec(upscale=upscale, diameter_px=40, size_px=100))
    assert result.crops.shape == (1, 100, 100, 3)
    ink = (result.crops[0, ..., 1] < 172) & (result.crops[0, ..., 1] > 0)
    rows, columns = np.nonzero(ink)
    assert (columns.mean(), rows.mean()) == pytest.approx((49.5, 49.5), abs=3)
    # The disc's diameter is the crop's side.
    assert ink.sum() == pytest.approx(np.pi * 50**2, rel=0.1)


def test_stages_are_those_of_the_algorithm():
    image = discs([(160, 120)], 20)
    result = segment_smear(image, FinderSpec(upscale="bicubic", diameter_px=40, size_px=80), keep=True)
    assert np.array_equal(result.stages["upscaled"], upscaling.bicubic(image, 2))
    assert np.array_equal(result.stages["grey"], cv2.cvtColor(result.stages["upscaled"], cv2.COLOR_RGB2GRAY))
    assert result.stages["equalised"].std() > result.stages["grey"].std()
    assert segment_smear(image, FinderSpec(upscale="bicubic", diameter_px=40, size_px=80)).stages == {}


def smear_scores(spec, *, diameter, difficulty=0.5, seed=3):
    smear = SmearSpec(
        height_px=10 * diameter, width_px=14 * diameter, n_cells=90, diameter_px=diameter, difficulty=difficulty
    )
    image, truth = render_smear(smear, seed=seed)
    return detection_scores(
        find_cells(image, spec), truth, max_distance=0.45 * diameter, image_shape=image.shape, margin=diameter / 2
    )


@pytest.mark.parametrize("diameter", [16, 40, 80])
def test_cells_of_synthetic_smears_are_found_at_every_magnification(diameter):
    for given in (float(diameter), None):
        scores = smear_scores(FinderSpec(upscale="none", diameter_px=given), diameter=diameter)
        assert scores["n_truth"] > 50
        assert scores["f1_score"] >= 0.9


@pytest.mark.parametrize(
    ("upscale", "size_px", "diameter"), [("waifu2x", 40, 24), ("bicubic", 40, 24), ("bicubic", 224, 40)]
)
def test_cells_are_found_in_upscaled_smears(upscale, size_px, diameter):
    if upscale == "waifu2x" and waifu2x.find_models() is None:
        pytest.skip("no Waifu2x model files on this machine")
    assert smear_scores(FinderSpec(upscale=upscale, size_px=size_px), diameter=diameter)["f1_score"] >= 0.9


@pytest.mark.parametrize("sigma", [0, 2])
def test_an_empty_field_has_no_cells(sigma):
    noise = np.random.default_rng(0).normal(225, sigma, (200, 300, 3))
    image = np.clip(np.rint(noise), 0, 255).astype(np.uint8)
    for diameter_px in (None, 40.0):
        result = segment_smear(image, FinderSpec(upscale="none", diameter_px=diameter_px))
        assert len(result.cells) == 0
        assert list(result.cells.columns) == [CELL, X, Y, RADIUS, BORDER]
        assert result.crops.shape == (0, 224, 224, 3)
    with pytest.raises(ValueError, match="diameter_px"):
        estimate_diameter(image)


@pytest.mark.parametrize("shape", [(1, 1), (2, 9), (30, 3)])
def test_tiny_images_have_no_cells(shape):
    assert len(find_cells(np.full((*shape, 3), 200, np.uint8), FinderSpec(upscale="bicubic", size_px=32))) == 0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"method": "magic"}, "learned, paper"),
        ({"method": "learned", "upscale_where": "smear"}, "only crops are upscaled"),
        ({"min_score": 1.5}, "min_score"),
        ({"min_score": float("nan")}, "min_score"),
        ({"upscale": "lanczos"}, "waifu2x, bicubic, none"),
        ({"diameter_px": 0}, "diameter_px"),
        ({"diameter_px": float("nan")}, "diameter_px"),
        ({"size_px": 224.5}, "whole number"),
        ({"edge": -1}, "edge"),
        ({"working_px": 2}, "working_px"),
        ({"radius_min": 1.2}, "radius_max"),
    ],
)
def test_bad_specs_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        FinderSpec(**changes)


def test_bad_images_are_refused():
    for image in (np.zeros((9, 9), np.uint8), np.zeros((9, 9, 3)), np.zeros((0, 9, 3), np.uint8)):
        with pytest.raises(ValueError, match="RGB image"):
            find_cells(image)


# The diameter.


@pytest.mark.parametrize("diameter", [12, 25, 60])
def test_diameter_of_discs(diameter):
    step = 1.5 * diameter
    centres = [(step * (i + 1), step * (j + 1)) for j in range(3) for i in range(4)]
    image = discs(centres, diameter / 2, shape=(round(5 * step), round(6 * step)))
    # Blurring and pixels blunt a disc's edge by no more than a pixel.
    assert estimate_diameter(image) == pytest.approx(diameter, abs=1)


@pytest.mark.parametrize("diameter", [20, 40, 100])
def test_diameter_of_synthetic_smears(diameter):
    smear = SmearSpec(height_px=10 * diameter, width_px=14 * diameter, n_cells=70, diameter_px=diameter)
    image, truth = render_smear(smear, seed=1)
    assert estimate_diameter(image) == pytest.approx(2 * truth[RADIUS].median(), rel=0.15)


def test_diameter_in_a_crowd_and_under_a_round_field_of_view():
    # Touching rows have no single cell to measure.
    crowd = discs([(30 * i + 15, 40 * j + 20) for i in range(10) for j in range(5)], 15.5, shape=(200, 300))
    assert estimate_diameter(crowd) == pytest.approx(31, rel=0.15)
    image, truth = render_smear(SmearSpec(), seed=1)
    rows, columns = np.mgrid[: image.shape[0], : image.shape[1]]
    image[(rows - 300) ** 2 + (columns - 400) ** 2 > 300**2] = 3
    assert estimate_diameter(image) == pytest.approx(2 * truth[RADIUS].median(), rel=0.15)


# Matching.


def best_pairing(found, true, limit):
    """By trying every pairing: the most pairs, then the smallest sum of distances."""
    distance = np.linalg.norm(found[:, None] - true[None], axis=2)
    slots = list(range(len(true))) + [-1] * len(found)
    best = (0, 0.0)
    for choice in set(permutations(slots, len(found))):
        pairs = [distance[i, j] for i, j in enumerate(choice) if j >= 0]
        if all(d <= limit for d in pairs):
            best = min(best, (-len(pairs), sum(pairs)))
    return best


@pytest.mark.parametrize("seed", range(6))
def test_matching_is_the_best_of_all_pairings(seed):
    rng = np.random.default_rng(seed)
    found, true = rng.uniform(0, 10, (4, 2)), rng.uniform(0, 10, (4, 2))
    partner = match_cells(
        pd.DataFrame(found, columns=[X, Y]), pd.DataFrame(true, columns=[X, Y], index=[7, 7, 8, 9]), max_distance=4
    )
    hit = partner >= 0
    assert len(set(partner[hit])) == hit.sum()
    total = np.linalg.norm(found[hit] - true[partner[hit]], axis=1).sum()
    assert (-hit.sum(), total) == pytest.approx(best_pairing(found, true, 4))


def test_matching_nothing():
    assert list(match_cells(table(), table((1, 1, 1)), max_distance=5)) == []
    assert list(match_cells(table((1, 1, 1)), table(), max_distance=5)) == [-1]
    assert list(match_cells(table((1, 1, 1)), table((9, 9, 1)), max_distance=5)) == [-1]
    assert list(match_cells(table((1, 1, 1)), table((1, 1, 1)), max_distance=5)) == [0]


def test_scores_count_the_interior_only():
    truth = table((50, 50, 5), (80, 50, 5), (2, 50, 5))
    cells = table((52, 50, 5), (3, 50, 5), (30, 30, 5), (1, 1, 5))
    scores = detection_scores(cells, truth, max_distance=5, image_shape=(100, 100, 3), margin=10)
    # Hit: (50, 50). Missed: (80, 50). False: (30, 30). At the border nothing counts.
    assert (scores["n_truth"], scores["n_hits"], scores["n_false"]) == (2, 1, 1)
    assert (scores["precision"], scores["recall"], scores["f1_score"]) == (0.5, 0.5, 0.5)
    nothing = detection_scores(table(), table(), max_distance=5, image_shape=(100, 100), margin=10)
    assert np.isnan(nothing["f1_score"])


def test_cells_of_real_smears_are_found():
    root = os.environ.get("RBCNB_CHULA")
    if not root:
        pytest.skip("set RBCNB_CHULA to the folder of Chula RBC-12 to test on real smears")
    names = json.loads((Path(root) / "exhaustively_labelled.json").read_text())["exhaustively_labelled"][::12]
    total = pd.Series(0, index=["n_truth", "n_hits", "n_false"])
    for name in names:
        image = cv2.imread(str(Path(root, "Dataset", f"{name}.jpg")))[..., ::-1].copy()
        truth = pd.read_csv(Path(root, "Label", f"{name}.txt"), sep=r"\s+", header=None, names=[X, Y, "type"])
        cells = find_cells(image, FinderSpec(upscale="none"))
        total += pd.Series(detection_scores(cells, truth, max_distance=18, image_shape=image.shape, margin=20))[
            total.index
        ]
    assert 2 * total["n_hits"] / (total["n_truth"] + total["n_hits"] + total["n_false"]) >= 0.9
