"""Cells that are there twice are found in every turn, none is missed, and those that stand out are told."""

import os

import cv2
import numpy as np
import pandas as pd
import pytest
from scipy.fft import dctn

from rbcnb.columns import CELL, GROUP, SMEAR, SPLIT
from rbcnb.labels import odd_crops
from rbcnb.labels.odd_crops import (
    LOW,
    SIDE_PX,
    TURNS,
    across_split,
    coefficients,
    crop_features,
    duplicate_cells,
    near_pairs,
    outlier_scores,
    squares,
    turned,
    turned_coefficients,
)


def blobs(n: int, seed: int, *, size: int = 24) -> np.ndarray:
    """Smooth random crops, zero-padded by 3 pixels."""
    rng = np.random.default_rng(seed)
    crops = np.zeros((n, size, size, 3), np.uint8)
    for crop in crops:
        crop[3:-3, 3:-3] = cv2.GaussianBlur(rng.integers(1, 255, (size - 6, size - 6, 3)).astype(np.uint8), (0, 0), 2)
    return np.maximum(crops, (crops > 0).any(axis=3, keepdims=True).astype(np.uint8))


def test_coefficients_are_the_orthonormal_cosine_transform():
    square = squares(blobs(3, 0))
    expected = dctn(square, axes=(1, 2), norm="ortho")[:, :LOW, :LOW]
    assert coefficients(square) == pytest.approx(expected, abs=1e-6)
    assert np.linalg.norm(square, axis=(1, 2)) == pytest.approx(np.ones(3), abs=1e-5)
    assert np.abs(square.mean(axis=(1, 2))).max() < 1e-6


@pytest.mark.parametrize("turn", TURNS)
def test_a_turn_of_the_square_is_a_turn_of_its_coefficients(turn):
    square = squares(blobs(3, 1))
    assert coefficients(turned(square, turn)) == pytest.approx(
        turned_coefficients(coefficients(square), turn), abs=1e-6
    )


def test_the_eight_turns_differ():
    grid = np.arange(9).reshape(1, 3, 3)
    assert len({turned(grid, turn).tobytes() for turn in TURNS}) == 8


def test_padding_size_and_light_do_not_matter():
    crop = blobs(1, 2)[0]
    wide = np.zeros((40, 40, 3), np.uint8)
    wide[8:-8, 8:-8] = crop
    dim = (crop * 0.7).astype(np.uint8)
    square = squares(np.stack([crop, dim]))
    assert squares(wide[None])[0] == pytest.approx(square[0])
    assert np.linalg.norm(square[0] - square[1]) < 0.08  # a dim picture has fewer shades
    assert not squares(np.full((1, 8, 8, 3), 90, np.uint8)).any()
    assert not squares(np.zeros((1, 8, 8, 3), np.uint8)).any()


def brute_force(crops: np.ndarray, max_distance: float) -> set[tuple[int, int]]:
    flat = squares(crops).reshape(len(crops), SIDE_PX, SIDE_PX)
    found = set()
    for turn in TURNS:
        gaps = np.linalg.norm(turned(flat, turn)[:, None] - flat[None], axis=(2, 3))
        found |= {tuple(sorted(pair)) for pair in np.argwhere(gaps <= max_distance).tolist() if pair[0] != pair[1]}
    return found


def test_no_near_pair_is_missed(monkeypatch):
    monkeypatch.setattr(odd_crops, "MAX_HASH_BITS", 64)
    crops = blobs(40, 3)
    rng = np.random.default_rng(0)
    noisy = np.clip(crops[:20] + rng.normal(0, 6, crops[:20].shape), 1, 255).astype(np.uint8)
    noisy = np.stack([turned(crop[None, ..., 0], TURNS[i % 8])[0] for i, crop in enumerate(noisy)])[..., None]
    both = np.concatenate([crops, np.where(noisy > 1, noisy, 0).repeat(3, axis=3)])
    for limit in (0.15, 0.6, 1.0):
        pairs = near_pairs(both, max_distance=limit)
        assert set(zip(pairs["first"], pairs["second"], strict=True)) == brute_force(both, limit)
        assert pairs["distance"].is_monotonic_increasing
    assert len(pairs) > 20
    monkeypatch.setattr(odd_crops, "MAX_HASH_BITS", 10)
    bits = near_pairs(both, max_distance=1.0)
    assert set(bits["first"].to_list()) <= set(pairs["first"])
    assert bits["hash_bits"].max() <= 10 < pairs["hash_bits"].max()


def test_a_copy_is_found_in_each_turn_and_its_turn_is_told():
    crops = blobs(8, 4)
    spun = np.stack(
        [
            np.stack([turned(crop[None, ..., c], turn)[0] for c in range(3)], -1)
            for crop, turn in zip(crops, TURNS, strict=True)
        ]
    )
    pairs = near_pairs(np.concatenate([crops, spun])).sort_values("first")
    assert pairs["first"].tolist() == list(range(8))
    assert (pairs["second"] - pairs["first"] == 8).all()
    assert pairs["turn"].tolist() == list(range(8))
    assert pairs["distance"].max() < 1e-3
    assert (pairs["hash_bits"] == 0).all()


def test_none_or_few_crops_have_no_pairs():
    for crops in (blobs(1, 0), np.zeros((5, 8, 8, 3), np.uint8), blobs(6, 5)):
        pairs = near_pairs(crops)
        assert len(pairs) == 0
        assert list(pairs.columns) == ["first", "second", "distance", "hash_bits", "turn"]


def test_copies_across_the_split_are_named():
    crops = blobs(4, 6)
    crops = np.concatenate([crops, crops[:3]])
    cells = pd.DataFrame({SMEAR: list("aaaabcc"), CELL: [0, 1, 2, 3, 0, 0, 1], GROUP: list("aaaaacc")})
    pairs = duplicate_cells(cells, crops).sort_values("first")
    assert pairs["identical"].all()
    assert pairs["same_group"].tolist() == [True, False, False]
    split = cells.assign(**{SPLIT: ["dev"] * 4 + ["dev", "test", "unused"]})
    assert across_split(pairs, split).tolist() == [False, True, False]
    assert pairs[["smear", "cell", "other_smear", "other_cell"]].to_numpy().tolist()[1] == ["a", 1, "c", 0]
    with pytest.raises(ValueError, match="same order"):
        duplicate_cells(cells.head(3), crops)


def test_features_do_not_care_which_way_up():
    crops = blobs(5, 7)
    assert crop_features(crops[:, ::-1]) == pytest.approx(crop_features(crops), abs=1e-3)
    assert crop_features(crops.transpose(0, 2, 1, 3)) == pytest.approx(crop_features(crops), abs=1e-3)


def test_an_odd_crop_stands_out():
    crops = blobs(60, 8)
    crops[7, 3:-3, 3:-3] = 250
    crops[7, 8:12, 8:12] = 5
    assert outlier_scores(crops).argmax() == 7
    with pytest.raises(ValueError, match="at least 3"):
        outlier_scores(crops[:2])


@pytest.mark.slow
@pytest.mark.skipif("RBCNB_CHULA" not in os.environ, reason="set RBCNB_CHULA to a folder with Chula RBC-12 to run it")
def test_all_of_chulas_identical_images_are_found():
    from rbcnb.segmentation.crops import crop_cells
    from rbcnb.smears.chula import chula_smears

    rows, crops, seen = [], [], {}
    for smear in chula_smears(os.environ["RBCNB_CHULA"], types="all"):
        seen.setdefault(smear.group, []).append((smear, smear.truth))
    twins = {group: pages for group, pages in seen.items() if len(pages) > 1}
    alone = [pages[0] for group, pages in seen.items() if group not in twins][:20]
    assert twins
    for smear, _ in [page for pages in twins.values() for page in pages] + alone:
        first = seen[smear.group][0][1].assign(radius_px=35.0)  # the same places in both images
        rows.append(first.assign(smear=smear.name, group=smear.group, cell=range(len(first))))
        crops.append(crop_cells(smear.image, first, 80))
    cells = pd.concat(rows, ignore_index=True)
    pairs = duplicate_cells(cells, np.concatenate(crops))
    assert pairs["identical"].sum() == sum(len(pages[0][1]) for pages in twins.values())
    assert pairs.loc[pairs["identical"], "same_group"].all()
