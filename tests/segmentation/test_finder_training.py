"""The finder's training: targets from views, a loss that is least for the truth, and going on after a stop."""

from dataclasses import replace

import cv2
import numpy as np
import pandas as pd
import pytest
import torch

from rbcnb.columns import RADIUS, X, Y
from rbcnb.segmentation import finder_training
from rbcnb.segmentation.finder_training import (
    SIGMA,
    UNKNOWN,
    FinderTraining,
    LabelledSmear,
    draw_example,
    finder_loss,
    target_maps,
    train_finder,
)
from rbcnb.segmentation.learned import peaks_of_maps
from rbcnb.smears.synthetic.variety import View

SIDE = 96
SMALL = FinderTraining(steps=3, batch=2, side_px=64)


def view_of(*cells, unclear=None, other=None, red=None):
    nothing = np.zeros((SIDE, SIDE), bool)
    masks = (nothing if mask is None else mask for mask in (red, other, unclear))
    table = pd.DataFrame(cells, columns=[X, Y, RADIUS], dtype=float)
    return View(np.full((SIDE, SIDE, 3), 220, np.uint8), table, *masks, diameter_px=20.0)


def test_targets_peak_at_centres_and_say_the_radius():
    cells = [(20.5, 30.5, 8.0), (60.0, 24.0, 12.0), (40.3, 71.8, 5.0), (0.0, 95.0, 10.0)]
    maps = target_maps(view_of(*cells))
    assert maps.shape == (6, SIDE // 2, SIDE // 2)
    assert maps.dtype == np.float32
    grid = 2 * np.arange(SIDE // 2) + 0.5
    rows, columns = np.meshgrid(grid, grid, indexing="ij")
    for x, y, radius in cells:
        squared = (columns - x) ** 2 + (rows - y) ** 2
        at = np.unravel_index(squared.argmin(), squared.shape)
        # A bell of height 1 at the centre, which lies between pixels of the map.
        assert maps[0][at] == pytest.approx(np.exp(-squared[at] / (2 * (SIGMA * radius) ** 2)))
        near = squared < (0.5 * radius) ** 2
        assert maps[1][near] == pytest.approx(np.log(radius / 10))
    assert maps[0][15, 10] == 1  # the first lies on the grid
    assert maps[0].max() == 1
    far = np.min([np.hypot(columns - x, rows - y) / radius for x, y, radius in cells], axis=0) > 1.5
    assert maps[0][far].max() < 1e-4
    circles, peak = peaks_of_maps(maps)
    found = circles[peak > 0.3]
    assert len(found) == 4
    for x, y, radius in cells[:3]:
        assert np.abs(found - (x, y, radius)).max(axis=1).min() < 0.3
    assert not target_maps(view_of())[0].any()


def test_weights_are_zero_where_nothing_is_clear_and_triple_on_other_things():
    unclear, other, red = np.zeros((3, SIDE, SIDE), bool)
    unclear[:40], other[60:, :50], red[60:, 40:] = True, True, True
    maps = target_maps(view_of((30, 30, 8), (30, 80, 8), unclear=unclear, other=other, red=red))
    assert not maps[4, :20].any()
    assert not maps[5, :20].any()
    assert maps[0, :20].max() > 0.9  # the target itself is there
    assert (maps[4, 30:, :20] == 3).all()
    assert (maps[4, 30:, 20:] == 1).all()  # other things under red cells, and red cells, count as all else
    assert maps[5, 39:41, 14:16].max() > 0.9
    assert (maps[2, 30:, 20:] == 1).all()
    assert (maps[3, 30:, :25] == 1).all()


def as_tensors(*views):
    return torch.from_numpy(np.stack([target_maps(view) for view in views]))


def perfect(targets):
    """The network's output for *targets* if it were without fault."""
    maps = torch.logit(targets[:, :4].double(), eps=1e-12)
    maps[:, 1] = targets[:, 1]
    return maps


@pytest.fixture
def targets():
    other, red = np.zeros((2, SIDE, SIDE), bool)
    other[70:, :30], red[20:40, 20:40] = True, True
    view = view_of((30, 30, 10), (70.3, 64.8, 14), red=red, other=other)
    return as_tensors(view, replace(view, cells=view.cells.iloc[:1])).double()


def test_a_perfect_prediction_has_no_loss(targets):
    loss, parts = finder_loss(perfect(targets), targets)
    assert loss.item() == pytest.approx(0, abs=1e-4)
    assert set(parts) == {"centre", "size", "red", "other"}
    assert all(part == pytest.approx(0, abs=1e-4) for part in parts.values())


@pytest.mark.parametrize(("channel", "part"), [*enumerate(("centre", "size", "red", "other"))])
def test_each_part_falls_as_its_map_improves(channel, part, targets):
    right = perfect(targets).clamp(-20, 20)
    wrong = right.clone()
    wrong[:, channel] = -right[:, channel] + (0.5 if part == "size" else 0.0)
    losses = []
    for share in (0.0, 0.3, 0.6, 0.9, 1.0):
        total, parts = finder_loss(torch.lerp(wrong, right, share), targets)
        losses.append((total.item(), parts[part]))
        assert all(value < 1e-3 for name, value in parts.items() if name != part)
    totals, parts = zip(*losses, strict=True)
    assert np.all(np.diff(totals) < 0)
    assert np.all(np.diff(parts) < 0)


def test_what_is_unclear_or_unknown_has_no_loss(targets):
    maps = perfect(targets).clamp(-20, 20)
    targets[:, 4:, :10] = 0  # unclear
    targets[:, 2:4, :, 40:] = UNKNOWN
    before = finder_loss(maps, targets)[0].item()
    maps[:, :2, :10] += 7
    maps[:, 2:, :, 40:] += 7
    assert finder_loss(maps, targets)[0].item() == pytest.approx(before, abs=1e-9)
    maps[:, 2, :, 39] += 25
    assert finder_loss(maps, targets)[0].item() > before + 1e-3


def test_cells_too_small_or_too_large_have_no_centre():
    off_scale = replace(SMALL, off_scale=0.5)  # half are too large, half too small
    stained = 0
    for number in range(6):
        image, maps = draw_example(off_scale, number)
        assert image.shape == (64, 64, 3)
        assert maps.shape == (6, 32, 32)
        assert not maps[0].any()
        assert not maps[5].any()
        assert maps[4].any()  # that there is none is learned
        stained += maps[2].any()
    assert stained >= 4  # cells they are all the same
    read = [draw_example(replace(SMALL, off_scale=0.0), number)[1][0].max() for number in range(6)]
    assert sum(height > 0.8 for height in read) >= 4


def test_examples_are_drawn_by_their_number():
    first, again = draw_example(SMALL, 3), draw_example(SMALL, 3)
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert not np.array_equal(first[0], draw_example(SMALL, 4)[0])
    assert not np.array_equal(first[0], draw_example(replace(SMALL, seed=1), 3)[0])


def test_examples_of_labelled_smears_keep_centres_on_cells():
    centres = [(60 * i + 31, 60 * j + 27) for i in range(6) for j in range(5)]
    image = np.full((320, 380, 3), 230, np.uint8)
    for centre in centres:
        cv2.circle(image, centre, 18, (190, 90, 120), cv2.FILLED, cv2.LINE_AA)
    smear = LabelledSmear(image, pd.DataFrame([(*centre, 18.0) for centre in centres], columns=[X, Y, RADIUS]))
    cut = replace(SMALL, added_share=1.0, side_px=96)
    n = 0
    for number in range(12):
        image, maps = draw_example(cut, number, [smear])
        assert image.shape == (96, 96, 3)
        assert (maps[2:4] == UNKNOWN).all()
        half = cv2.resize(np.ascontiguousarray(image[..., 1]), None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
        inside = maps[4] == 1
        dark = half[inside & (maps[0] > 0.5)]
        assert (dark < 160).all()
        # A bell falls to 0.4 % at the cell's edge: nothing dark lies beyond, but for cells whose centre is outside.
        middle = np.s_[13:-13, 13:-13]
        assert (half[middle][inside[middle] & (maps[0][middle] < 1e-4)] > 160).all()
        n += dark.size
    assert n > 100


def test_a_training_that_was_stopped_goes_on_as_if_it_had_not_been(tmp_path, monkeypatch):
    monkeypatch.setattr(finder_training, "LOG_EVERY", 1)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        rows = []
        through = train_finder(SMALL, tmp_path / "through.ckpt", workers=0, log=rows.append)
        assert [row["step"] for row in rows] == [1, 2, 3]

        def stop(row):
            if row["step"] == 3:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            train_finder(SMALL, tmp_path / "stopped.ckpt", workers=0, log=stop)
        again = []
        resumed = train_finder(SMALL, tmp_path / "stopped.ckpt", workers=0, log=again.append)
        assert again == rows[2:]
        untrained = train_finder(replace(SMALL, steps=1), tmp_path / "one.ckpt", workers=0, log=rows.append)
    finally:
        torch.set_num_threads(threads)
    assert not through.training
    for name, value in through.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name
    assert any(not torch.equal(v, untrained.state_dict()[name]) for name, v in through.state_dict().items())
