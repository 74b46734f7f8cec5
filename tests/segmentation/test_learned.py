"""The learned finder: its pieces without weights, and the trained network on smears that look as microscopes differ."""

import json
import math
import os
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings, strategies as st
from safetensors.torch import save_file

from rbcnb._utils.errors import WeightsError
from rbcnb.columns import BORDER, CELL, RADIUS, SCORE, X, Y
from rbcnb.segmentation import learned
from rbcnb.segmentation.finder_net import FORMAT, MULTIPLE, FinderNet, fused_net, load_finder, save_finder
from rbcnb.segmentation.learned import WORKING_PX, find_learned, on_white_cells, peaks_of_maps, read_maps
from rbcnb.segmentation.matching import detection_scores, match_cells
from rbcnb.segmentation.segment import FinderSpec, find_cells, segment_smear
from rbcnb.smears.chula import read_chula_labels
from rbcnb.smears.images import read_image
from rbcnb.smears.sources import synthetic_smears
from rbcnb.smears.synthetic import debris
from rbcnb.smears.synthetic.render import SmearSpec, render_scene

SPEC = FinderSpec(method="learned", upscale="none", size_px=8)
COLUMNS = [CELL, X, Y, RADIUS, BORDER, SCORE]


# Pieces, without weights.


def drawn_maps(*cells, shape=(60, 80)):
    """Maps [4,h,w] with a bell of the given height at each cell (x, y, radius, height), in pixels of the input."""
    maps = np.zeros((4, *shape), np.float32)
    rows, columns = (2 * np.arange(side) + 0.5 for side in shape)
    for x, y, radius, height in cells:
        squared = np.add.outer((rows - y) ** 2, (columns - x) ** 2)
        bell = height * np.exp(-squared / (2 * (0.3 * radius) ** 2))
        maps[1][bell > maps[0]] = math.log(radius / 10)
        maps[0] = np.maximum(maps[0], bell)
    return maps


def test_peaks_become_circles_to_a_tenth_of_a_pixel():
    drawn = [(40.3, 31.8, 12.0, 0.9), (90.0, 80.9, 8.0, 0.7), (120.7, 30.5, 20.0, 0.5), (20.0, 95.2, 10.0, 0.3)]
    circles, peak = peaks_of_maps(drawn_maps(*drawn))
    order = np.argsort(-peak)
    assert circles[order] == pytest.approx(np.array(drawn)[:, :3], abs=0.1)
    assert peak[order] == pytest.approx([0.9, 0.7, 0.5, 0.3], abs=0.04)  # a peak lies between pixels
    assert peaks_of_maps(np.zeros((4, 30, 40), np.float32))[0].shape == (0, 3)
    assert len(peaks_of_maps(drawn_maps((40, 40, 10, 0.9 * learned._LEAST)))[0]) == 0


@pytest.mark.parametrize(
    ("cells", "kept"),
    [
        ([(10, 10, 10, 0.6), (10, 12, 10, 0.9)], [0.9]),  # 4 pixels apart, less than half a radius
        ([(10, 10, 10, 0.6), (10, 13, 10, 0.9)], [0.9, 0.6]),  # 6 pixels apart
        ([(10, 10, 10, 0.6), (10, 13, 14, 0.9)], [0.9]),  # the larger radius counts ...
        ([(10, 10, 14, 0.6), (10, 13, 10, 0.9)], [0.9]),  # ... of the surer cell or of the other
        ([(10, 10, 10, 0.9), (10, 12, 10, 0.8), (10, 14, 10, 0.7)], [0.9, 0.7]),  # what is gone keeps nothing off
        ([(10, 10, 10, 0.7), (10, 12, 10, 0.8), (10, 14, 10, 0.9)], [0.9, 0.7]),
        ([(10, 10, 10, 0.8), (12, 10, 10, 0.9), (30, 50, 10, 0.5)], [0.9, 0.5]),
    ],
)
def test_of_two_close_peaks_the_surer_one_stays(cells, kept, monkeypatch):
    maps = np.zeros((4, 40, 60), np.float32)
    for row, column, radius, height in cells:
        maps[:2, row, column] = height, math.log(radius / 10)
    monkeypatch.setattr(learned, "_forward", lambda *_: maps)
    reading = learned._read(np.zeros((80, 120, 3), np.uint8), 1.0, None)
    assert reading.peak == pytest.approx(kept)


@pytest.mark.parametrize("shape", [(1, 1), (20, 30), (100, 90), (486, 648), (3000, 4000), (9000, 200)])
def test_smears_are_read_from_coarse_to_fine(shape):
    scales, longest = list(learned._scales((*shape, 3))), max(shape)
    assert scales[0] * longest <= max(100, longest if longest < 100 else 0)
    assert scales[0] == 1 or scales[0] * longest > 50
    assert np.divide(scales[1:], scales[:-1]) == pytest.approx(2)
    assert 1 in scales
    assert scales[-1] <= learned._LARGEST_ENLARGEMENT
    assert scales[-1] == 1 or scales[-1] * longest <= 2 * learned._TILE_PX


@pytest.fixture(scope="module")
def finder():
    return load_finder()


@pytest.mark.parametrize("shape", [(300, 421), (257, 300), (129, 640)])
def test_tiles_join_without_a_seam(shape, finder, monkeypatch):
    noise = np.random.default_rng(0).integers(0, 256, (*shape, 3), np.uint8)
    image = cv2.GaussianBlur(noise, (0, 0), 1.5)
    calls, forward = [], learned._forward
    monkeypatch.setattr(learned, "_forward", lambda *given: calls.append(given) or forward(*given))
    whole = read_maps(image, diameter_px=WORKING_PX, finder=finder)
    assert set(whole) == {"centre", "red_cell", "other"}
    assert len(calls) == 1
    monkeypatch.setattr(learned, "_TILE_PX", 128)
    for name, tiled in read_maps(image, diameter_px=WORKING_PX, finder=finder).items():
        assert tiled.shape == ((shape[0] + 1) // 2, (shape[1] + 1) // 2)
        assert np.abs(tiled - whole[name]).max() < 1e-4
    assert len(calls) == 1 + math.ceil(shape[0] / 128) * math.ceil(shape[1] / 128)


@pytest.mark.parametrize("factor", [0.25, 1.0, 1.3])
def test_tiles_of_a_resized_smear_find_the_same_cells(factor, smears, monkeypatch):
    image = cv2.resize(smears[0].image, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA)
    spec = replace(SPEC, diameter_px=2 * factor * radius_of(smears[0]))
    whole = find_cells(image, spec).query(f"not {BORDER}")
    monkeypatch.setattr(learned, "_TILE_PX", 128)
    tiled = find_cells(image, spec).query(f"not {BORDER}")
    assert len(whole) == len(tiled) > 60
    off = np.abs(whole[[X, Y, RADIUS]].to_numpy() - tiled[[X, Y, RADIUS]].to_numpy()).max()
    assert off < 0.02 * spec.diameter_px


@pytest.mark.parametrize("shape", [(1, 1), (2, 300), (33, 47), (91, 64)])
def test_fields_of_one_colour_have_no_cells(shape):
    for level in (0, 128, 255):
        image = np.full((*shape, 3), level, np.uint8)
        for diameter in (None, 20.0):
            result = segment_smear(image, FinderSpec(method="learned", diameter_px=diameter, upscale="none", size_px=8))
            assert len(result.cells) == 0
            assert list(result.cells.columns) == COLUMNS
            assert result.crops.shape == (0, 8, 8, 3)


# The network and its file.


@pytest.fixture(scope="module")
def net():
    """A network that nobody trained, with running statistics as after a training."""
    torch.manual_seed(0)
    net = FinderNet()
    for module in net.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.running_mean, -0.5, 0.5)
            torch.nn.init.uniform_(module.running_var, 0.5, 2.0)
            torch.nn.init.uniform_(module.weight, 0.5, 1.5)
            torch.nn.init.uniform_(module.bias, -0.5, 0.5)
    return net.eval()


@pytest.fixture(scope="module")
def pixels():
    return torch.randint(0, 256, (2, 3, 3 * MULTIPLE, 5 * MULTIPLE), generator=torch.Generator().manual_seed(0)).float()


def outputs(*nets, pixels):
    with torch.inference_mode():
        return [net(pixels) for net in nets]


def test_the_fused_network_computes_the_same(net, pixels):
    unfused, fused = outputs(net, fused_net(net), pixels=pixels)
    assert unfused.shape == (2, 4, 3 * MULTIPLE // 2, 5 * MULTIPLE // 2)
    assert unfused.std() > 0.01
    assert (unfused - fused).abs().max() < 1e-4
    assert not any(isinstance(module, torch.nn.BatchNorm2d) for module in fused_net(net).modules())


def test_a_saved_network_computes_the_same_in_half_precision(net, pixels, tmp_path):
    path, card = tmp_path / "finder.safetensors", {"views": 7}
    save_finder(net, path, raw=np.array([0.0, 0.5, 1.0]), score=np.array([0.0, 0.25, 0.875]), card=card)
    finder = load_finder(path)
    saved, again = outputs(net, finder.net, pixels=pixels)
    off = (saved - again).abs().max()
    assert 0 < off < 0.01 * saved.std()
    assert (finder.raw.tolist(), finder.score.tolist(), finder.card) == ([0, 0.5, 1], [0, 0.25, 0.875], card)
    again = tmp_path / "again.safetensors"
    save_finder(net, again, raw=finder.raw, score=finder.score, card={"views": 8})
    assert load_finder(again).digest == finder.digest  # of what finds cells, whatever the card says
    save_finder(net, again, raw=finder.raw, score=finder.score / 2, card=card)
    load_finder.cache_clear()
    assert load_finder(again).digest != finder.digest


def test_files_that_hold_no_finder_are_refused(net, tmp_path):
    good = tmp_path / "good.safetensors"
    save_finder(net, good, raw=np.zeros(1), score=np.zeros(1), card={})
    broken = {name: tmp_path / f"{name}.safetensors" for name in ("none", "cut", "text", "foreign", "other_net")}
    broken["cut"].write_bytes(good.read_bytes()[:-100])
    broken["text"].write_text("no weights")
    save_file({"weight": torch.zeros(3)}, broken["foreign"])
    save_file({"weight": torch.zeros(3)}, broken["other_net"], metadata={"format": FORMAT})
    for path in broken.values():
        with pytest.raises(WeightsError) as caught:
            load_finder(path)
        assert str(caught.value).startswith(f"{path}: ")
        assert str(caught.value).endswith("again")


# The trained finder on rendered smears.


@pytest.fixture(scope="module")
def smears():
    return [
        next(synthetic_smears(1, seed=seed, n_cells=100, difficulty=difficulty))
        for seed, difficulty in ((1, 0.2), (2, 0.5), (3, 0.8))
    ]


@pytest.fixture(scope="module")
def found(smears):
    """What is found in each smear as it is."""
    return [find_cells(smear.image, SPEC) for smear in smears]


def radius_of(smear):
    return float(smear.truth[RADIUS].median())


def whole_cells(cells, shape, radius):
    """The cells that keep a radius away from every edge of an image of *shape* (H, W, ...)."""
    inside = cells[X].between(radius, shape[1] - 1 - radius) & cells[Y].between(radius, shape[0] - 1 - radius)
    return cells[inside].reset_index(drop=True)


def agreement(pairs, smears):
    """The share of cells that two tables of each smear have in common, within half a radius."""
    n, same = 0, 0
    for (cells, others), smear in zip(pairs, smears, strict=True):
        n += max(len(cells), len(others))
        same += (match_cells(cells, others, max_distance=0.5 * radius_of(smear)) >= 0).sum()
    return same / n


def test_cells_of_rendered_smears_are_found(smears, found):
    for smear, cells, floor in zip(smears, found, (0.99, 0.98, 0.97), strict=True):
        radius = radius_of(smear)
        rule = {"max_distance": 0.9 * radius, "image_shape": smear.image.shape, "margin": radius}
        assert detection_scores(cells, smear.truth, **rule)["f1_score"] >= floor
        partner = match_cells(cells, smear.truth, max_distance=0.5 * radius)
        ratio = cells[RADIUS].to_numpy()[partner >= 0] / smear.truth[RADIUS].to_numpy()[partner[partner >= 0]]
        assert np.median(ratio) == pytest.approx(1, abs=0.06)
        assert find_learned(smear.image).diameter_px == pytest.approx(2 * radius, rel=0.15)


def test_scores_are_shares_and_sort_cells_out(smears):
    right = []
    for smear in smears:
        every = find_cells(smear.image, FinderSpec(method="learned", upscale="none", min_score=0))
        assert every[SCORE].between(0, 1).all()
        sure = find_cells(smear.image, FinderSpec(method="learned", upscale="none", min_score=0.8))
        keep = every[every[SCORE] >= 0.8].drop(columns=CELL).reset_index(drop=True)
        pd.testing.assert_frame_equal(sure.drop(columns=CELL), keep)
        hit = match_cells(every, smear.truth, max_distance=0.9 * radius_of(smear)) >= 0
        right.append(pd.DataFrame({"score": every[SCORE], "hit": hit}))
    right = pd.concat(right)
    doubtful = right["score"] < 0.4
    assert doubtful.any()
    assert right["hit"][doubtful].mean() < 0.5 < 0.97 < right["hit"][~doubtful].mean()


def test_the_same_smear_gives_the_same_cells_on_any_number_of_threads(smears, found):
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        pd.testing.assert_frame_equal(find_cells(smears[1].image.copy(), SPEC), found[1])
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(threads)


@pytest.mark.parametrize("factors", [(0.6, 0.6, 0.6), (0.6, 1.0, 1.4), (1.4, 0.8, 0.6), (1.4, 1.4, 1.4)])
def test_other_light_shows_the_same_cells(factors, smears, found):
    lit = [find_cells(np.clip(smear.image * np.array(factors), 0, 255).astype(np.uint8), SPEC) for smear in smears]
    assert agreement(zip(lit, found, strict=True), smears) >= 0.96


def test_a_dark_field_shows_the_same_cells(smears, found):
    dark = [find_cells(255 - smear.image, SPEC) for smear in smears]
    assert agreement(zip(dark, found, strict=True), smears) >= 0.96


def test_a_smear_that_is_darker_at_its_edges_shows_the_same_cells(smears, found):
    shaded = []
    for smear in smears:
        rows, columns = (np.linspace(-1, 1, side) for side in smear.image.shape[:2])
        light = 1 - 0.3 * np.add.outer(rows**2, columns**2)
        shaded.append(find_cells(np.rint(smear.image * light[..., None]).astype(np.uint8), SPEC))
    assert agreement(zip(shaded, found, strict=True), smears) >= 0.96


def test_a_turned_smear_has_turned_cells(smears, found):
    turned = []
    for smear in smears:
        cells = find_cells(np.ascontiguousarray(np.rot90(smear.image)), SPEC)
        turned.append(cells.assign(x_px=smear.image.shape[1] - 1 - cells[Y], y_px=cells[X]))
    assert agreement(zip(turned, found, strict=True), smears) >= 0.96


@pytest.mark.parametrize("factor", [0.33, 0.5, 1.5, 2.0, 4.0])
def test_every_magnification_shows_the_same_cells(factor, smears, found):
    scaled = []
    method = cv2.INTER_AREA if factor < 1 else cv2.INTER_CUBIC
    for smear in smears:
        image = cv2.resize(smear.image, None, fx=factor, fy=factor, interpolation=method)
        cells = find_cells(image, SPEC)
        x, y = (image.shape[i] / smear.image.shape[i] for i in (1, 0))
        scaled.append(cells.assign(x_px=(cells[X] + 0.5) / x - 0.5, y_px=(cells[Y] + 0.5) / y - 0.5))
    assert agreement(zip(scaled, found, strict=True), smears) >= 0.96


@pytest.mark.parametrize("level", [0, 3, 255])
def test_an_eyepiece_hides_the_cells_outside_of_it_alone(level, smears, found):
    pairs = []
    for smear, cells in zip(smears, found, strict=True):
        height, width = smear.image.shape[:2]
        radius, edge = radius_of(smear), 0.48 * min(height, width)
        rows, columns = np.mgrid[:height, :width]
        image = smear.image.copy()
        image[np.hypot(columns - width / 2, rows - height / 2) > edge] = level
        seen = find_cells(image, SPEC)
        away = [np.hypot(table[X] - width / 2, table[Y] - height / 2) for table in (seen, cells)]
        assert (away[0] < edge).all()
        whole = [
            table[off < edge - radius].reset_index(drop=True) for table, off in zip((seen, cells), away, strict=True)
        ]
        pairs.append(whole)
    assert sum(len(cells) for _, cells in pairs) > 80
    assert agreement(pairs, smears) >= 0.96


@pytest.mark.parametrize("level", [0, 255])
def test_margins_change_nothing_and_hold_no_cells(level, smears, found):
    pairs = []
    for smear, cells in zip(smears, found, strict=True):
        framed = cv2.copyMakeBorder(smear.image, 60, 90, 120, 30, cv2.BORDER_CONSTANT, value=(level,) * 3)
        seen = find_cells(framed, SPEC)
        seen = seen.assign(x_px=seen[X] - 120, y_px=seen[Y] - 60)
        height, width = smear.image.shape[:2]
        assert (seen[X].between(-2, width + 1) & seen[Y].between(-2, height + 1)).all()
        pairs.append([whole_cells(table, smear.image.shape, radius_of(smear)) for table in (seen, cells)])
    assert agreement(pairs, smears) >= 0.96


@pytest.mark.parametrize(("diameter", "n_cells"), [(12, 80), (200, 20)])
def test_small_and_large_cells_are_found(diameter, n_cells):
    total = np.zeros(3)
    for smear in synthetic_smears(2, seed=5, n_cells=n_cells, diameter_px=diameter):
        radius = radius_of(smear)
        rule = {"max_distance": 0.9 * radius, "image_shape": smear.image.shape, "margin": radius}
        scores = detection_scores(find_cells(smear.image, SPEC), smear.truth, **rule)
        total += [scores[name] for name in ("n_truth", "n_hits", "n_false")]
    assert total[0] >= 15
    assert 2 * total[1] / total.sum() >= 0.95


@pytest.mark.parametrize("name", ["diameter_px", "expected_px"])
def test_a_given_diameter_is_kept_to(name, smears, found):
    diameter = 1.05 * 2 * radius_of(smears[1])
    result = segment_smear(smears[1].image, replace(SPEC, **{name: diameter}))
    assert result.diameter_px == diameter
    assert agreement([(result.cells, found[1])], smears[1:2]) >= 0.96


def test_an_expected_diameter_that_does_not_fit_is_not_kept_to(smears, found):
    diameter = 2 * radius_of(smears[1])
    result = segment_smear(smears[1].image, replace(SPEC, expected_px=3 * diameter))
    assert result.diameter_px == pytest.approx(diameter, rel=0.15)
    assert agreement([(result.cells, found[1])], smears[1:2]) >= 0.96
    assert any("another magnification" in note for note in result.notes)


@pytest.mark.parametrize("shape", [(150, 200), (800, 1000)])
def test_a_few_cells_in_a_large_field_are_found(shape):
    image = np.full((*shape, 3), 225, np.uint8)
    for centre in ((50, 60), (140, 90)):
        cv2.circle(image, centre, 20, (200, 120, 140), cv2.FILLED, cv2.LINE_AA)
    for field in (image, 255 - image):
        result = segment_smear(field, SPEC)
        assert result.cells[[X, Y]].to_numpy() == pytest.approx(np.array([(50, 60), (140, 90)]), abs=3)
        assert result.cells[RADIUS].to_numpy() == pytest.approx(20, rel=0.15)
        assert result.diameter_px == pytest.approx(40, rel=0.15)
        assert result.crops.shape == (2, 8, 8, 3)


@settings(max_examples=15, deadline=None)
@given(
    height=st.integers(1, 70),
    width=st.integers(1, 70),
    kind=st.sampled_from(["noise", "binary", "gradient", "grey"]),
    diameter=st.sampled_from([None, 7.0, 40.0, 300.0]),
    seed=st.integers(0, 1000),
)
def test_any_image_gives_a_table_of_cells_inside_it(height, width, kind, diameter, seed):
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 256, (height, width, 3), np.uint8)
    if kind == "binary":
        image = np.where(image > 127, np.uint8(255), np.uint8(0))
    elif kind == "gradient":
        image[:] = np.linspace(0, 255, width).astype(np.uint8)[:, None]
    elif kind == "grey":
        image = cv2.GaussianBlur(image, (0, 0), 3).reshape(image.shape)[..., :1].repeat(3, axis=2)
    spec = FinderSpec(method="learned", upscale="none", size_px=8, diameter_px=diameter, min_score=0)
    cells = find_cells(image, spec)
    assert list(cells.columns) == COLUMNS
    assert np.isfinite(cells[[X, Y, RADIUS]].to_numpy()).all()
    room = 0.5 + max(1, (diameter or 0) / learned.WORKING_PX)  # a pixel of the image that was read
    assert cells[X].between(-room, width - 1 + room).all()
    assert cells[Y].between(-room, height - 1 + room).all()
    assert (cells[RADIUS] > 0).all()
    assert cells[SCORE].between(0, 1).all()
    out = (cells[X] < cells[RADIUS]) | (cells[Y] < cells[RADIUS])
    out |= (cells[X] + cells[RADIUS] > width - 1) | (cells[Y] + cells[RADIUS] > height - 1)
    assert (cells[BORDER] == out).all()


@pytest.mark.parametrize("shape", [(200, 240), (201, 241)])
def test_cells_on_every_edge_of_the_image_are_found(shape):
    image = np.full((*shape, 3), 225, np.uint8)
    right, bottom = shape[1] - 1, shape[0] - 1
    edges = [(120, 0), (0, 100), (right, 100), (120, bottom)]
    for centre in [*edges, (60, 50), (180, 50), (60, 150), (180, 150)]:
        cv2.circle(image, centre, 20, (200, 120, 140), cv2.FILLED, cv2.LINE_AA)
    cells = find_cells(image, replace(SPEC, min_score=0.0))
    partner = match_cells(cells, pd.DataFrame(edges, columns=[X, Y]), max_distance=8)
    assert sorted(partner[partner >= 0]) == [0, 1, 2, 3]


# White cells.


def test_a_drawn_white_cell_is_told_from_red_ones():
    image = np.full((240, 320, 3), (226, 219, 216), np.uint8)
    red = [(50, 60), (50, 180), (260, 60), (260, 180), (160, 40), (160, 205)]
    for centre in red:
        cv2.circle(image, centre, 20, (205, 135, 150), cv2.FILLED, cv2.LINE_AA)
    cv2.circle(image, (155, 120), 38, (205, 190, 215), cv2.FILLED, cv2.LINE_AA)
    for centre in ((145, 110), (168, 118), (150, 132)):
        cv2.circle(image, centre, 15, (95, 55, 140), cv2.FILLED, cv2.LINE_AA)
    circles = np.array([(155, 120, 20), *((x, y, 20) for x, y in red)], float)
    assert on_white_cells(image, circles, diameter_px=40).tolist() == [True] + [False] * 6
    assert on_white_cells(image, circles[:0], diameter_px=40).shape == (0,)


def test_white_cells_and_platelets_of_rendered_smears_are_no_cells(monkeypatch):
    monkeypatch.setitem(debris.KINDS, "white_cell", (1 / 25, (10.0, 15.0)))
    monkeypatch.setitem(debris.KINDS, "platelet", (1 / 8, (1.2, 3.2)))
    n, taken = dict.fromkeys(("white_cell", "platelet"), 0), dict.fromkeys(("white_cell", "platelet"), 0)
    n_truth = n_hits = n_on_white = n_circles = n_on_red = n_red = 0
    paper = FinderSpec(upscale="none", diameter_px=40)
    for seed in range(5):
        scene = render_scene(SmearSpec(height_px=420, width_px=560, n_cells=60), seed=[77, seed])
        cells = find_cells(scene.image, SPEC)
        partner = match_cells(cells, scene.truth, max_distance=18)
        n_truth, n_hits = n_truth + len(scene.truth), n_hits + (partner >= 0).sum()
        others = cells[partner < 0]
        for thing in scene.debris[scene.debris["kind"].isin(n)].itertuples():
            near = np.hypot(others[X] - thing.x_px, others[Y] - thing.y_px) < max(thing.radius_px, 6)
            n[thing.kind] += 1
            taken[thing.kind] += near.any()
        white = scene.debris.loc[scene.debris["kind"] == "white_cell", ["x_px", "y_px", "radius_px"]].to_numpy()
        n_on_white += on_white_cells(scene.image, white, diameter_px=40).sum()
        # Algorithm 1 without them keeps the rest of its circles as they are.
        every, fewer = (find_cells(scene.image, FinderSpec(**vars(paper) | {"white_cells": w})) for w in (True, False))
        rest = every.merge(fewer[[X, Y, RADIUS]])
        assert len(rest) == len(fewer)
        n_circles += len(every) - len(fewer)
        hits = [(match_cells(table, scene.truth, max_distance=18) >= 0).sum() for table in (every, fewer)]
        n_red, n_on_red = n_red + hits[0], n_on_red + hits[0] - hits[1]
    assert n["white_cell"] >= 8
    assert n["platelet"] >= 25
    assert taken["white_cell"] <= 0.25 * n["white_cell"]
    assert taken["platelet"] <= 0.05 * n["platelet"]
    assert n_hits >= 0.95 * n_truth
    assert n_on_white >= 0.75 * n["white_cell"]
    assert n_circles > 0
    assert n_on_red <= 0.02 * n_red


# Real smears.


@pytest.fixture(scope="module")
def chula():
    root = os.environ.get("RBCNB_CHULA")
    if not root:
        pytest.skip("set RBCNB_CHULA to the folder of Chula RBC-12 to test on real smears")
    return Path(root)


def test_cells_of_real_smears_are_found(chula):
    total = np.zeros(3)
    for name in json.loads((chula / "exhaustively_labelled.json").read_text())["exhaustively_labelled"][::12]:
        image, truth = read_image(chula / f"Dataset/{name}.jpg"), read_chula_labels(chula / f"Label/{name}.txt")
        scores = detection_scores(find_cells(image, SPEC), truth, max_distance=18, image_shape=image.shape, margin=20)
        total += [scores[key] for key in ("n_truth", "n_hits", "n_false")]
    assert 2 * total[1] / total.sum() >= 0.96


def test_algorithm_1_finds_what_it_found_before_there_was_another_finder(chula):
    counts = {"1": 107, "228": 87, "364": 127, "484": 68, "606": 132, "73": 106}
    spec = FinderSpec(method="paper", upscale="none")
    found = {name: len(find_cells(read_image(chula / f"Dataset/{name}.jpg"), spec)) for name in counts}
    assert found == pytest.approx(counts, abs=1)  # another OpenCV may round otherwise
