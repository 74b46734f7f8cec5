"""Turned and mirrored cells: the copies of over-sampling, and the positions that are drawn for every batch."""

import itertools
import pickle

import numpy as np
import torch

from rbcnb.training.augment import FlipsTurns, rotate_flip, turn_each


def test_rotation_and_flips_keep_what_they_should():
    crops = np.zeros((64, 33, 33, 3), np.uint8)
    crops[:, 16, 16] = 255  # the centre stays where it is under every rotation and flip
    crops[:, 2, 4] = 255
    turned = rotate_flip(crops, seed=0)
    assert (turned[:, 16, 16] > 200).all()
    assert turned.shape == crops.shape
    assert turned.dtype == np.uint8
    assert np.array_equal(turned, rotate_flip(crops, seed=0))
    assert len({image.tobytes() for image in turned}) == 64
    corners = turned[:, :16, :16].any(axis=(1, 2, 3)), turned[:, 17:, 17:].any(axis=(1, 2, 3))
    # The off-centre dot is left in its own quarter by no flip and sent to the opposite one by both: each in about 1/4.
    assert all(0.1 < corner.mean() < 0.45 for corner in corners)
    # By at most 15 degrees: a dot 14 px above and 12 px left of the centre stays within 15 degrees of its direction.
    for image in turned:
        rows, columns = np.nonzero(image[..., 0] > 60)
        far = np.hypot(rows - 16, columns - 16) > 5
        angle = np.degrees(np.arctan2(np.abs(rows[far] - 16), np.abs(columns[far] - 16)))
        assert (np.abs(angle - np.degrees(np.arctan2(14, 12))) < 15 + 4).all()


def test_the_eight_positions_are_the_turns_and_mirror_images_of_a_square():
    crop = np.arange(5 * 5 * 3, dtype=np.uint8).reshape(5, 5, 3)
    wanted = {np.rot90(position, k).tobytes() for position, k in itertools.product((crop, crop[:, ::-1]), range(4))}
    turned = turn_each(torch.from_numpy(np.stack([crop] * 8)), torch.arange(8)).numpy()
    assert {picture.tobytes() for picture in turned} == wanted
    assert len(wanted) == 8


def test_each_crop_gets_the_position_that_is_its_own():
    crops = torch.randint(0, 256, (50, 6, 6, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    positions = torch.randint(8, (50,), generator=torch.Generator().manual_seed(1))
    together = turn_each(crops, positions)
    alone = torch.cat([turn_each(crops[i : i + 1], positions[i : i + 1]) for i in range(50)])
    assert torch.equal(together, alone)
    assert torch.equal(turn_each(crops, torch.zeros(50, dtype=torch.int64)), crops)


def test_positions_are_even_seeded_and_drawn_anew():
    crop = torch.arange(27, dtype=torch.uint8).reshape(1, 3, 3, 3)
    crops = crop.repeat(4000, 1, 1, 1)
    turns, twin, other = FlipsTurns(0), FlipsTurns(0), FlipsTurns(1)
    first, second = turns.encodes(crops), turns.encodes(crops)
    _, counts = first.flatten(1).unique(dim=0, return_counts=True)
    assert len(counts) == 8
    assert counts.min() > 400  # of 500
    assert not torch.equal(first, second)
    assert torch.equal(twin.encodes(crops), first)
    assert not torch.equal(other.encodes(crops), first)
    assert torch.equal(pickle.loads(pickle.dumps(turns)).encodes(crops), first)  # a copy begins again


def test_targets_and_images_pass():
    targets, images = torch.arange(3), torch.rand(2, 3, 4, 4)
    assert FlipsTurns(0).encodes(targets) is targets
    assert FlipsTurns(0).encodes(images) is images
