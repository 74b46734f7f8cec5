"""Cells as fastai's ``DataLoaders``: what is served, in which order, and what it looks like again."""

import numpy as np
import pytest
import torch
from fastai.torch_core import TensorImage
from fastai.vision.all import PILImage

from rbcnb.columns import CLASSES
from rbcnb.training.dataloaders import CellDataLoaders, cell_dataloaders
from rbcnb.training.normalise import normalise
from rbcnb.training.resampling import training_rows
from rbcnb.training.splits import assign_splits
from rbcnb.training.trial import Trial


def made(n: int) -> tuple[np.ndarray, np.ndarray]:
    """Crops of noise, and classes in turn."""
    return np.random.default_rng(0).integers(0, 256, (n, 16, 16, 3), dtype=np.uint8), np.arange(n) % 3


def loaders(n: int, n_valid: int = 0, *, bs: int = 4, **options) -> CellDataLoaders:
    return CellDataLoaders.from_crops(made(n), made(n_valid), vocab=CLASSES, bs=bs, **options)


@pytest.fixture
def split_data(data):
    cells, crops = data
    return assign_splits(cells, protocol="paper", seed=0), crops


def test_held_out_cells_come_in_order_and_all_of_them():
    crops, targets = made(40)
    batches = list(valid := loaders(4, 40).valid)
    assert [len(y) for _, y in batches] == [16, 16, 8]
    assert len(valid) == 3
    assert torch.equal(torch.cat([images for images, _ in batches]), normalise(torch.from_numpy(crops)))
    assert torch.cat([y for _, y in batches]).tolist() == targets.tolist()


def test_training_order_is_seeded_and_differs_per_epoch():
    def epochs(seed):
        train = loaders(12, seed=seed).train
        return [torch.cat([images.mean(dim=(1, 2, 3)) for images, _ in train]) for _ in range(2)]

    first, second = epochs(0)
    assert not torch.equal(first, second)
    torch.testing.assert_close(first.sort().values, second.sort().values)
    assert all(torch.equal(a, b) for a, b in zip(epochs(0), (first, second), strict=True))
    assert not torch.equal(epochs(1)[0], first)


def test_a_shorter_epoch_serves_other_cells_each_time():
    cells = made(40)[0], np.arange(40)
    train = CellDataLoaders.from_crops(cells, made(0), vocab=range(40), bs=4, epoch_size=10).train
    epochs = [torch.cat([targets for _, targets in train]).tolist() for _ in range(30)]
    assert [len(targets) for _, targets in train] == [4, 4, 2]
    assert all(len(set(epoch)) == 10 for epoch in epochs)
    assert {row for epoch in epochs for row in epoch} == set(range(40))
    assert len(torch.cat([y for _, y in train.new(shuffle=False)])) == 40  # without training nothing is left out


@pytest.mark.parametrize(("n", "sizes"), [(9, [4, 4]), (10, [4, 4, 2]), (1, [1])])
def test_no_training_batch_of_one_is_left_behind_a_full_one(n, sizes):
    assert [len(targets) for _, targets in loaders(n).train] == sizes


def test_incomplete_batches_go_where_fastai_is_told_so():
    assert [len(y) for _, y in loaders(10).train.new(drop_last=True)] == [4, 4]


def test_a_fold_and_the_cells_around_it(split_data):
    cells, _ = split_data
    trial = Trial(fold=1, batch_size=8)
    dls = cell_dataloaders(trial, *split_data)
    train, held_out = training_rows(trial, cells)
    assert (dls.train.n, dls.valid.n) == (len(train), len(held_out))
    assert list(dls.vocab) == list(CLASSES)
    assert dls.c == 3
    names = [dls.vocab[int(target)] for _, targets in dls.valid for target in targets]
    assert names == cells["label"].iloc[held_out].tolist()
    assert dls.one_batch()[0].shape == (8, 3, 16, 16)
    assert cell_dataloaders(Trial(), *split_data).valid.n == 0  # nobody watches the test set


def test_table_and_crops_of_other_lengths_are_refused(split_data):
    cells, crops = split_data
    with pytest.raises(ValueError, match="200 cells but 199 crops"):
        cell_dataloaders(Trial(fold=0), cells, crops[1:])


def test_pixels_and_names_come_back_where_cells_are_shown():
    crops, targets = made(6)
    dls = loaders(6, 6, bs=2)
    batch = dls.valid.one_batch()
    for (image, name), crop, target in zip(dls.valid.decode_batch(batch), crops, targets, strict=True):
        assert isinstance(image, TensorImage)
        np.testing.assert_allclose(image.permute(1, 2, 0).numpy(), crop / 255, atol=1e-6)
        assert name == CLASSES[target]


def test_training_cells_turn_and_held_out_ones_do_not():
    dls = loaders(8, 8, bs=8, augment="flips_turns")
    crops, _ = made(8)
    whole = normalise(torch.from_numpy(crops))
    (images, _), (again, _) = dls.train.one_batch(), dls.train.one_batch()
    plain = dls.train.new(get_idxs=lambda: list(range(8)), shuffle=False)
    assert not torch.equal(plain.one_batch()[0], whole)
    with plain.dataset.set_split_idx(1):
        assert torch.equal(plain.one_batch()[0], whole)
    assert torch.equal(dls.valid.one_batch()[0], whole)
    for levels in (images, again):  # moved, none changed
        torch.testing.assert_close(levels.flatten().sort().values, whole.flatten().sort().values)
    assert not torch.equal(images, again)


def test_new_cells_are_taken_as_arrays_files_and_pairs(tmp_path):
    crops, targets = made(5)
    dls = loaders(6, 6)
    wanted = normalise(torch.from_numpy(crops))
    PILImage.create(crops[1]).save(tmp_path / "cell.png")
    for items in (crops, list(crops), [crops[0], tmp_path / "cell.png", PILImage.create(crops[2]), *crops[3:]]):
        (batch,) = dls.test_dl(items)
        assert len(batch) == 1  # no classes
        assert torch.equal(batch[0], wanted)
    pairs = [(crop, CLASSES[target]) for crop, target in zip(crops, targets, strict=True)]
    ((images, y),) = dls.test_dl(pairs, with_labels=True)
    assert torch.equal(images, wanted)
    assert y.tolist() == targets.tolist()
    with pytest.raises(ValueError, match=r"item 1 is uint8 \[8, 8, 3\].*uint8 crops of \[16, 16, 3\]"):
        dls.test_dl([crops[0], crops[1][:8, :8]])
    with pytest.raises(ValueError, match="item 0 is labelled 'odd'; the classes are codocyte, hypochromia, normal"):
        dls.test_dl([(crops[0], "odd")], with_labels=True)
    with pytest.raises(ValueError, match="item 0 has no label"):
        dls.test_dl(crops, with_labels=True)
    ((images, y),) = dls.test_dl([list(pair) for pair in pairs], with_labels=True)
    assert torch.equal(images, wanted)
    assert y.tolist() == targets.tolist()
    with pytest.raises(ValueError, match="there are no cells to serve"):
        dls.test_dl([])


CROPS, TARGETS = made(6)


@pytest.mark.parametrize(
    ("crops", "targets", "message"),
    [
        (CROPS / 255, TARGETS, r"crops must be uint8 \[N, S, S, 3\], got torch.float64 \[6, 16, 16, 3\]"),
        (CROPS.transpose(0, 3, 1, 2), TARGETS, r"crops must be uint8 \[N, S, S, 3\]"),
        (CROPS[:, :8], TARGETS, r"crops must be uint8 \[N, S, S, 3\]"),
        (CROPS, TARGETS[1:], "6 crops but 5 targets"),
        (CROPS, TARGETS + 1, "targets must be int64 from 0 to 2, the numbers of"),
        (CROPS, np.array(CLASSES)[TARGETS], "targets must be integers"),
        (CROPS, TARGETS.astype(float), "targets must be integers"),
    ],
)
def test_cells_of_another_kind_are_refused_and_not_trained_on_in_silence(crops, targets, message):
    with pytest.raises(ValueError, match=message):
        CellDataLoaders.from_crops((crops, targets), made(0), vocab=CLASSES)


def test_any_integers_will_do_as_targets():
    dls = CellDataLoaders.from_crops((CROPS, TARGETS.astype(np.uint8)), made(0), vocab=CLASSES)
    assert dls.train.dataset.targets.tolist() == TARGETS.tolist()
