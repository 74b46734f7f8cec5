"""Masks of cells: every pixel to the right cell, and the files that hold them."""

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from rbcnb.cli import main
from rbcnb.columns import RADIUS, X, Y
from rbcnb.segmentation.masks import cell_masks, save_masks
from rbcnb.smears.sources import synthetic_smears


def ellipse(shape, x, y, long, short):
    rows, columns = np.ogrid[: shape[0], : shape[1]]
    return ((columns - x) / long) ** 2 + ((rows - y) / short) ** 2 < 1


def table(*rows):
    return pd.DataFrame(rows, columns=[X, Y, RADIUS], dtype=float)


def test_a_long_cell_is_covered_whole_and_its_circle_is_not():
    red = ellipse((80, 120), 60, 40, 40, 16)
    masks = cell_masks(table((60, 40, np.sqrt(40 * 16))), red.astype(float), red.shape)
    assert (masks > 0).sum() == pytest.approx(red.sum(), rel=0.01)
    assert masks[40, 22] == 1
    assert masks[40 - 20, 60] == 0  # in the circle, but not stained


def test_touching_cells_part_midway_and_what_is_apart_belongs_to_nobody():
    red = ellipse((80, 160), 40, 40, 20, 20) | ellipse((80, 160), 79, 40, 20, 20) | ellipse((80, 160), 110, 20, 6, 6)
    masks = cell_masks(table((40, 40, 20), (79, 40, 20)), red.astype(float), red.shape)
    assert masks[40, 50] == 1
    assert masks[40, 70] == 2
    assert abs((masks == 1).sum() - (masks == 2).sum()) < 40
    assert masks[20, 110] == 0


def test_a_cell_too_pale_for_the_map_keeps_its_circle():
    masks = cell_masks(table((40, 40, 20)), np.zeros((40, 40)), (80, 80))
    assert (masks == 1).sum() == pytest.approx(np.pi * 400, rel=0.03)


def test_more_cells_than_a_16_bit_file_can_number_are_refused(tmp_path):
    with pytest.raises(ValueError, match="70000 cells"):
        save_masks(tmp_path / "a.png", np.full((2, 2), 70_000, np.int32))


def test_the_command_writes_masks_that_lie_on_the_cells(tmp_path, capsys):
    smear = next(synthetic_smears(1, seed=1, n_cells=25, difficulty=0.2))
    (tmp_path / "in").mkdir()
    Image.fromarray(smear.image).save(tmp_path / "in" / "a.png")
    arguments = ["segment", str(tmp_path / "in"), "--out", str(tmp_path / "out"), "--upscale", "none", "--size", "32"]
    assert main([*arguments, "--masks"]) == 0
    path = tmp_path / "out" / "masks" / "a.png"
    masks, cells = np.array(Image.open(path)), pd.read_csv(tmp_path / "out" / "cells.csv")
    assert masks.shape == smear.image.shape[:2]
    assert masks.dtype == np.uint16
    whole = cells[~cells["border"]]
    middles = masks[whole[Y].round().astype(int), whole[X].round().astype(int)]
    assert (middles == whole["cell"] + 1).mean() > 0.95
    areas = np.bincount(masks.ravel(), minlength=len(cells) + 1)[whole["cell"] + 1]
    assert np.median(areas / (np.pi * whole[RADIUS] ** 2)) == pytest.approx(1, abs=0.15)
    written = path.stat().st_mtime_ns
    assert main([*arguments, "--masks"]) == 0  # of the same cells: they stay
    assert path.stat().st_mtime_ns == written
    path.unlink()
    assert main([*arguments, "--masks"]) == 0
    assert np.array_equal(np.array(Image.open(path)), masks)
    assert main([*arguments, "--masks", "--method", "paper"]) == 2
    assert "learned finder" in capsys.readouterr().err


def test_cells_that_no_mask_can_number_stay_in_the_table(tmp_path, monkeypatch, capsys):
    smear = next(synthetic_smears(1, seed=1, n_cells=25, difficulty=0.2))
    Image.fromarray(smear.image).save(tmp_path / "a.png")

    def refuse(*_):
        raise ValueError("70000 cells are more than a 16-bit mask can number")

    monkeypatch.setattr("rbcnb.segmentation.batch.save_masks", refuse)
    where = ["--out", str(tmp_path / "out"), "--upscale", "none", "--size", "32", "--masks"]
    assert main(["segment", str(tmp_path / "a.png"), *where]) == 0
    assert "its masks are not written: 70000 cells" in capsys.readouterr().err
    assert len(pd.read_csv(tmp_path / "out" / "cells.csv")) > 20
