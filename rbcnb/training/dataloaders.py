"""Cells as fastai's ``DataLoaders``: all crops lie on the device as one uint8 tensor, a batch is an index look-up."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import islice, pairwise
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from fastai.data.core import DataLoaders, TfmdDL
from fastai.data.transforms import Category, CategoryMap
from fastai.torch_core import TensorImage
from fastai.vision.all import PILImage, TensorCategory, Transform
from torch import Tensor

from rbcnb.columns import LABEL, class_names
from rbcnb.training.augment import FlipsTurns, SeededGenerator, rotate_flip
from rbcnb.training.normalise import normalise, undo_normalise
from rbcnb.training.predict import EVALUATION_BATCH
from rbcnb.training.resampling import oversample, training_rows, undersample
from rbcnb.training.trial import Trial


class CellDataset:
    """Crops and their classes: an item is a crop [3, S, S], uint8, and its class; decoded, an image and a name.

    Args:
        crops: uint8 [N, S, S, 3].
        targets: int64 [N], rows of *vocab*; None for cells whose class nobody knows.
        vocab: names of the classes.
        split_idx: 0 for training cells, which `FlipsTurns` may turn; 1 for others.

    Raises:
        ValueError: crops or targets are of another kind, which would be trained on in silence.
    """

    n_inp = 1

    def __init__(self, crops: Tensor, targets: Tensor | None, vocab: Sequence[str], *, split_idx: int) -> None:
        if crops.dtype != torch.uint8 or crops.ndim != 4 or crops.shape[3] != 3 or crops.shape[1] != crops.shape[2]:
            raise ValueError(f"crops must be uint8 [N, S, S, 3], got {crops.dtype} {list(crops.shape)}")
        if targets is not None:
            if len(crops) != len(targets):
                raise ValueError(f"{len(crops)} crops but {len(targets)} targets: they must stand in the same order")
            if targets.dtype != torch.int64 or (len(targets) and not 0 <= targets.min() <= targets.max() < len(vocab)):
                raise ValueError(f"targets must be int64 from 0 to {len(vocab) - 1}, the numbers of {list(vocab)}")
        self.crops, self.targets, self.split_idx = crops, targets, split_idx
        self.vocab = CategoryMap(vocab, sort=False)  # a list, and names to numbers for fastai's reports

    def __len__(self) -> int:
        return len(self.crops)

    def __getitem__(self, row: int) -> tuple[Tensor, ...]:
        image = TensorImage(self.crops[row].permute(2, 0, 1))
        return (image,) if self.targets is None else (image, TensorCategory(self.targets[row]))

    @property
    def c(self) -> int:
        """Number of classes."""
        return len(self.vocab)

    @property
    def items(self) -> list[tuple]:
        """Per cell its crop, uint8 [S, S, 3], and the name of its class where that is known: what ``test_dl`` takes."""
        crops = self.crops.cpu().numpy()
        if self.targets is None:
            return [(crop,) for crop in crops]
        return [(crop, self.vocab[target]) for crop, target in zip(crops, self.targets.tolist(), strict=True)]

    def decode(self, sample: tuple, full: bool = True) -> tuple:  # noqa: ARG002 fastai names it
        """The sample with its class by name, as fastai shows it."""
        return tuple(Category(self.vocab[int(part)]) if isinstance(part, TensorCategory) else part for part in sample)

    @contextmanager
    def set_split_idx(self, split_idx: int) -> Iterator[None]:
        """For a while these are training cells (0) or not (1); fastai's ``tta`` calls it."""
        before, self.split_idx = self.split_idx, split_idx
        try:
            yield
        finally:
            self.split_idx = before

    def new_empty(self) -> "CellDataset":
        """No cells of the same size and classes: what an exported learner keeps."""
        targets = torch.zeros(0, dtype=torch.int64)
        return CellDataset(self.crops[:0].cpu(), targets, self.vocab, split_idx=self.split_idx)

    def of_items(self, items: Sequence, *, with_labels: bool = False) -> "CellDataset":
        """A data set of other cells with the same classes; see `CellDataLoaders.test_dl`."""
        if not len(items):
            raise ValueError("there are no cells to serve")
        size = self.crops.shape[1]
        images = [item[0] if isinstance(item, tuple | list) else item for item in items]
        crops = np.stack([_crop_of(image, size, row) for row, image in enumerate(images)])
        targets = None
        if with_labels:
            targets = torch.tensor([self._row_of(item, row) for row, item in enumerate(items)], dtype=torch.int64)
        device = self.crops.device
        targets = None if targets is None else targets.to(device)
        return CellDataset(torch.from_numpy(crops).to(device), targets, self.vocab, split_idx=1)

    def _row_of(self, item: Any, row: int) -> int:
        if not isinstance(item, tuple | list) or len(item) != 2:
            raise ValueError(f"item {row} has no label: with_labels=True needs pairs of an image and a class's name")
        if item[1] not in self.vocab:
            raise ValueError(f"item {row} is labelled {item[1]!r}; the classes are {', '.join(self.vocab)}")
        return self.vocab.o2i[item[1]]

    def to(self, device: torch.device) -> None:
        """Moves the cells to *device*."""
        self.crops = self.crops.to(device)
        self.targets = None if self.targets is None else self.targets.to(device)


def _crop_of(image: Any, size: int, row: int) -> np.ndarray:
    crop = np.asarray(image if isinstance(image, np.ndarray) else PILImage.create(image))
    if crop.shape != (size, size, 3) or crop.dtype != np.uint8:
        raise ValueError(
            f"item {row} is {crop.dtype} {list(crop.shape)}, but this network was trained on uint8 crops of "
            f"[{size}, {size}, 3]; cut the cell as the others were (rbcnb.segmentation.crop_cells)"
        )
    return crop


class NormaliseCrops(Transform):
    """uint8 crops [N, S, S, 3] to images [N, 3, S, S], and back to colours from 0 to 1 where they are shown."""

    order = 10

    def encodes(self, crops: Tensor) -> Tensor:
        """Crops to images; other tensors pass."""
        return normalise(crops) if crops.dtype == torch.uint8 and crops.ndim == 4 else crops

    def decodes(self, images: TensorImage) -> TensorImage:
        """Images to colours from 0 to 1."""
        return TensorImage(undo_normalise(images.as_subclass(Tensor)))


class Part(NamedTuple):
    """Cells that are served at once."""

    size: int
    batch: int  # cells of the batch that they belong to
    last: bool  # of that batch


class CellDL(TfmdDL):
    """Batches of (images [B, 3, S, S], targets [B]), without worker processes.

    Args:
        dataset: the cells.
        bs: cells a batch.
        shuffle: serve them in an order that is drawn for every epoch.
        order: what draws it.
        part_size: most cells (at least 2) served at once, where a whole batch does not fit in memory; see
            `rbcnb.training.learner.AccumulateCallback`.
        epoch_size: cells that a shuffled epoch serves, the first of its order; None serves all.
        **options: as of fastai's ``TfmdDL``.
    """

    def __init__(
        self,
        dataset: CellDataset,
        bs: int = 32,
        shuffle: bool = False,
        *,
        order: SeededGenerator | None = None,
        part_size: int | None = None,
        epoch_size: int | None = None,
        **options: Any,
    ) -> None:
        self.order = order or SeededGenerator(0)
        self.part_size, self.epoch_size = part_size, epoch_size
        super().__init__(dataset, bs=bs, shuffle=shuffle, **options | {"num_workers": 0})
        self._one_pass()

    def _one_pass(self) -> None:
        # Batches are plain tensors, which a network takes faster than fastai's; these are their types when shown.
        self._n_inp, self._types = 1, {tuple: [TensorImage, TensorCategory]}

    def new(self, dataset: Any = None, cls: type | None = None, **options: Any) -> "CellDL":
        """Another loader of the same cells, or of other ones, with *options* in place of this one's."""
        mine = {"order": self.order, "part_size": self.part_size}
        if dataset is None:
            mine["epoch_size"] = self.epoch_size
        elif not isinstance(dataset, CellDataset):
            dataset = self.dataset.of_items(dataset)
        return super().new(dataset, cls, **mine | options)

    @property
    def generators(self) -> list[SeededGenerator]:
        """What is drawn for every epoch: the order, and the positions of `FlipsTurns`."""
        return [self.order, *(step.generator for step in self.after_batch.fs if isinstance(step, FlipsTurns))]

    @property
    def parts(self) -> list[Part]:
        """What an epoch serves, in its order."""
        n = self.epoch_size if self.shuffle and self.epoch_size is not None else self.n
        batches = [min(self.bs, n - start) for start in range(0, n, self.bs)]
        # Batch norm cannot normalise a training batch of one cell: such a rest waits for another epoch's order.
        too_few = self.bs if self.drop_last else 2 if self.shuffle and len(batches) > 1 else 0
        if batches and batches[-1] < too_few:
            batches.pop()
        served = []
        part_size = min(self.part_size or self.bs, self.bs)
        for batch in batches:
            # Whose sizes differ by one at most; none is a single cell, if it takes one more than asked for.
            n_parts = max(1, min(-(-batch // part_size), batch // 2))
            edges = [batch * i // n_parts for i in range(n_parts + 1)]
            served += [Part(end - start, batch, end == batch) for start, end in pairwise(edges)]
        return served

    def __len__(self) -> int:
        return len(self.parts)

    def get_idxs(self) -> list[int]:
        """Rows in the order in which they are served."""
        if not self.shuffle:
            return list(range(self.n))
        order = torch.randperm(self.n, generator=self.order.torch)
        return order[: self.epoch_size].tolist()

    def create_batches(self, samps: Iterator[int]) -> Iterator[tuple[Tensor, ...]]:
        """Crops and targets of the rows that *samps* gives, part by part, before they are turned and normalised."""
        crops, targets = self.dataset.crops, self.dataset.targets
        samps = iter(samps)
        for part in self.parts:
            rows = torch.tensor(list(islice(samps, part.size)), dtype=torch.int64).to(crops.device)
            # Seventeen times faster on a CPU than crops[rows], which is the same.
            chosen = crops.index_select(0, rows)
            yield (chosen,) if targets is None else (chosen, targets.index_select(0, rows))

    def to(self, device: torch.device) -> None:
        """Moves the cells, and what comes of them, to *device*."""
        super().to(device)
        self.dataset.to(self.device)


class CellDataLoaders(DataLoaders):
    """Training cells and held-out cells; `cell_dataloaders` makes them of a table."""

    @classmethod
    def from_crops(
        cls,
        train: tuple[np.ndarray, np.ndarray],
        valid: tuple[np.ndarray, np.ndarray],
        *,
        vocab: Sequence[str],
        bs: int = 32,
        seed: int = 0,
        augment: str = "none",
        part_size: int | None = None,
        epoch_size: int | None = None,
        device: torch.device | str = "cpu",
    ) -> "CellDataLoaders":
        """Of arrays.

        Args:
            train: uint8 crops [N, S, S, 3] and targets [N], numbers of *vocab*, to train on.
            valid: those that are held out; none at all is fine.
            vocab: names of the classes.
            bs: cells a training batch; held-out cells, whose gradients nobody needs, come four times as many at once.
            seed: of the order of training cells and of the augmentation.
            augment: "none", or "flips_turns" for `FlipsTurns`.
            part_size: see `CellDL`.
            epoch_size: see `CellDL`.
            device: where the cells are to lie.

        Raises:
            ValueError: crops or targets are of another kind.
        """
        turns = [FlipsTurns(seed)] if augment == "flips_turns" else []
        datasets = [
            CellDataset(torch.from_numpy(np.ascontiguousarray(crops)), _numbers(targets), vocab, split_idx=i)
            for i, (crops, targets) in enumerate((train, valid))
        ]
        options = {"after_batch": [*turns, NormaliseCrops()]}
        fitted = CellDL(
            datasets[0],
            bs=bs,
            shuffle=True,
            order=SeededGenerator(seed),
            part_size=part_size,
            epoch_size=epoch_size,
            **options,
        )
        evaluation = min(EVALUATION_BATCH, 4 * min(part_size or bs, bs))
        held_out = CellDL(datasets[1], bs=evaluation, **options)
        return cls(fitted, held_out, device=torch.device(device))

    def test_dl(self, items: Sequence, *, with_labels: bool = False, **options: Any) -> CellDL:
        """A loader of other cells.

        Args:
            items: crops uint8 [N, S, S, 3], or a list of crops, of images (files, PIL's) or of pairs (image, name of
                its class). Every image must have the size of the training crops.
            with_labels: serve the classes too.
            **options: of the loader; what fastai has for other kinds of data changes nothing.

        Raises:
            ValueError: an image has another size, or a label is missing or unknown.
        """
        options = {name: value for name, value in options.items() if name not in ("rm_type_tfms", "process")}
        return self.valid.new(self.valid.dataset.of_items(items, with_labels=with_labels), **options)


def _numbers(targets: np.ndarray) -> Tensor:
    targets = np.asarray(targets)
    if targets.dtype.kind not in "iu":
        raise ValueError(f"targets must be integers, the numbers of the classes, got {targets.dtype}")
    return torch.from_numpy(targets.astype(np.int64))


def cell_dataloaders(
    trial: Trial,
    cells: pd.DataFrame,
    crops: np.ndarray,
    *,
    part_size: int | None = None,
    device: torch.device | str = "cpu",
) -> CellDataLoaders:
    """The cells that *trial* trains on, re-sampled as it says, and those of its fold, as fastai takes them.

    A final trial (``fold=None``) has its test cells neither trained on nor watched: its held-out loader is empty.

    Args:
        trial: the settings.
        cells: one row a cell with ``label``, ``split`` and ``fold`` (`assign_splits`), in the crops' order.
        crops: uint8 [len(cells), S, S, 3].
        part_size: see `CellDL`.
        device: where the cells are to lie.

    Raises:
        ValueError: the table does not fit the crops or the trial.
    """
    if len(cells) != len(crops):
        raise ValueError(f"{len(cells)} cells but {len(crops)} crops: they must stand in the same order, one each")
    vocab, targets = class_names(cells[LABEL]), targets_of(cells)
    train, held_out = training_rows(trial, cells)
    watched = held_out if trial.fold is not None else held_out[:0]
    train_crops, train_targets = crops[train], targets[train]
    if trial.resample == "under":
        kept = undersample(train_targets, seed=trial.seed)
        train_crops, train_targets = train_crops[kept], train_targets[kept]
    elif trial.resample in ("over", "over_equal"):
        extra = oversample(train_targets, seed=trial.seed)
        train_crops = np.concatenate([train_crops, rotate_flip(train_crops[extra], seed=trial.seed)])
        train_targets = np.concatenate([train_targets, train_targets[extra]])
    return CellDataLoaders.from_crops(
        (train_crops, train_targets),
        (crops[watched], targets[watched]),
        vocab=vocab,
        bs=trial.batch_size,
        seed=trial.seed,
        augment=trial.augment,
        part_size=part_size,
        epoch_size=len(train) if trial.resample == "over_equal" else None,
        device=device,
    )


def targets_of(cells: pd.DataFrame) -> np.ndarray:
    """The cells' classes as numbers int64 [N], in the order of `rbcnb.columns.class_names`."""
    numbers = {name: i for i, name in enumerate(class_names(cells[LABEL]))}
    return cells[LABEL].map(numbers).to_numpy(dtype=np.int64)
