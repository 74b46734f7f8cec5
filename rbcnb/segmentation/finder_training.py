"""How the learned finder's network is trained: on rendered views, each seen once.

Example ``i`` of a training is drawn with the seed ``(seed, i)``, so a training that was stopped goes on as if it had
not been, whatever the number of processes that render.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset

from rbcnb._utils.files import atomic_write
from rbcnb._utils.opencv import cv2
from rbcnb.columns import RADIUS, X, Y
from rbcnb.segmentation.finder_net import RADIUS_UNIT_PX, STRIDE, FinderNet
from rbcnb.smears.synthetic.variety import Variety, View, render_view

SIGMA = 0.3  # of a centre's Gaussian, in radii of its cell
LOG_EVERY = 100  # steps
UNKNOWN = -1.0  # in a target map: nobody knows what is there


@dataclass(frozen=True)
class FinderTraining:
    """One training of the finder."""

    steps: int = 6000
    batch: int = 16
    side_px: int = 192  # of a view
    learning_rate: float = 3e-3  # at its highest: it rises over the first tenth of the steps and falls to 0
    weight_decay: float = 1e-3
    average: float = 0.998  # of the weights that are kept, from step to step
    # Share of views in which cells are too small to be read at this size, and as many in which they are too large:
    # there no centre is wanted, so that the finder can tell from its finds at which size it reads a smear best.
    off_scale: float = 0.06
    too_small_px: tuple[float, float] = (3.0, 7.5)
    too_large_px: tuple[float, float] = (62.0, 170.0)
    seed: int = 0
    variety: Variety = field(default_factory=Variety)
    added_share: float = 0.15  # of the examples that are cut from labelled smears, where some are added


@dataclass(frozen=True, eq=False)
class LabelledSmear:
    """A smear whose every red cell is known, to be added to a training."""

    image: np.ndarray  # [H,W,3] uint8 RGB
    cells: pd.DataFrame  # x_px, y_px, radius_px


def target_maps(view: View) -> np.ndarray:
    """[6,H/2,W/2] float32: centre, log radius, red cell, other, and the weights of the first and of the second."""
    centre, size = _centre_maps(view.cells, view.image.shape[0] // STRIDE)
    red, other, unclear = (_halved(mask) for mask in (view.red, view.other, view.unclear))
    weight = (1 - unclear) * (1 + 2 * other * (1 - red))  # a centre on a white cell is worse than one on plasma
    return np.stack([centre, size, red, other, weight, centre * (1 - unclear)])


def _centre_maps(cells: pd.DataFrame, side: int) -> tuple[np.ndarray, np.ndarray]:
    """A Gaussian at the centre of each cell, and the logarithm of the radius of the nearest: each [side,side]."""
    grid = np.arange(side, dtype=np.float32) * STRIDE + (STRIDE - 1) / 2
    centre = np.zeros((side, side), np.float32)
    size = np.zeros((side, side), np.float32)
    for x, y, radius in cells[[X, Y, RADIUS]].itertuples(index=False):
        reach = 3.5 * SIGMA * radius + STRIDE
        left, right = np.searchsorted(grid, (x - reach, x + reach))
        top, bottom = np.searchsorted(grid, (y - reach, y + reach))
        across = np.exp(-((grid[left:right] - x) ** 2) / (2 * (SIGMA * radius) ** 2))
        down = np.exp(-((grid[top:bottom] - y) ** 2) / (2 * (SIGMA * radius) ** 2))
        bell = down[:, None] * across[None]
        area = centre[top:bottom, left:right]
        closer = bell > area
        size[top:bottom, left:right][closer] = np.log(radius / RADIUS_UNIT_PX)
        np.maximum(area, bell, out=area)
    return centre, size


def _halved(mask: np.ndarray) -> np.ndarray:
    small = cv2.resize(mask.astype(np.float32), None, fx=1 / STRIDE, fy=1 / STRIDE, interpolation=cv2.INTER_AREA)
    return np.clip(small, 0, 1)


def finder_loss(maps: Tensor, targets: Tensor) -> tuple[Tensor, dict[str, float]]:
    """The loss of the network's *maps* [N,4,h,w] for *targets* [N,6,h,w], and its parts."""
    centre, size, red, other, weight, size_weight = targets.unbind(1)
    cells = centre.sum() + 1
    parts = {
        # Entropy that soft targets have of themselves is taken off, so that a perfect network has a loss of 0.
        "centre": (weight * _cross_entropy(maps[:, 0], centre)).sum() / cells,
        "size": (size_weight * F.smooth_l1_loss(maps[:, 1], size, beta=0.1, reduction="none")).sum() / cells,
        "red": _known_mean(_cross_entropy(maps[:, 2], red.clamp(min=0)), red),
        "other": _known_mean(_cross_entropy(maps[:, 3], other.clamp(min=0)), other),
    }
    total = parts["centre"] + 0.7 * parts["size"] + parts["red"] + parts["other"]
    return total, {name: part.item() for name, part in parts.items()}


def _cross_entropy(logits: Tensor, target: Tensor) -> Tensor:
    itself = torch.special.entr(target) + torch.special.entr(1 - target)
    return F.binary_cross_entropy_with_logits(logits, target, reduction="none") - itself


def draw_example(
    training: FinderTraining, number: int, added: Sequence[LabelledSmear] = ()
) -> tuple[np.ndarray, np.ndarray]:
    """Example *number* of a training: image [H,W,3] uint8 and its `target_maps`."""
    seed, side = [training.seed, number], training.side_px
    rng = np.random.default_rng([*seed, 1])
    kind = rng.random()
    if added and rng.random() < training.added_share:
        return _cut_example(added[rng.integers(len(added))], training, rng)
    if kind < training.off_scale:
        variety = replace(training.variety, diameter_px=training.too_large_px)
        return _without_centres(render_view(variety, side_px=side, seed=seed))
    view = render_view(training.variety, side_px=side, seed=seed)
    if kind < 2 * training.off_scale:
        return _without_centres(_shrunk(view, rng.uniform(*training.too_small_px) / view.diameter_px))
    return view.image, target_maps(view)


def _cut_example(
    smear: LabelledSmear, training: FinderTraining, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """A square of a labelled smear at a random size, turned or mirrored; where other things lie is not known."""
    low, high = np.log(training.variety.diameter_px)
    diameter = np.exp(rng.uniform(low, high, 2).mean())  # as of a rendered view: the middle is commonest
    scale = diameter / (2 * smear.cells[RADIUS].median())
    side, (height, width) = training.side_px, smear.image.shape[:2]
    left, top = (rng.uniform(0, max(0.0, length - side / scale)) for length in (width, height))
    move = np.array([[scale, 0, -scale * left], [0, scale, -scale * top]])
    if scale < 0.7:  # averaged first, or thin rims would break
        soft = cv2.GaussianBlur(smear.image, (0, 0), 0.35 / scale)
    image = cv2.warpAffine(
        soft if scale < 0.7 else smear.image, move, (side, side), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT
    )
    cells = smear.cells[[X, Y, RADIUS]].astype(float) * scale
    cells[[X, Y]] -= scale * np.array([left, top])
    centre, size = _centre_maps(cells[cells[X].between(0, side) & cells[Y].between(0, side)], side // STRIDE)
    inside = cv2.warpAffine(np.ones((height, width), np.float32), move, (side, side))
    inside = _halved(inside > 0.99)
    unknown = np.full_like(centre, UNKNOWN)
    maps = np.stack([centre, size, unknown, unknown, inside, centre * inside])
    turns, mirrored = int(rng.integers(4)), rng.random() < 0.5
    image, maps = np.rot90(image, turns), np.rot90(maps, turns, axes=(1, 2))
    return (image[:, ::-1], maps[:, :, ::-1].copy()) if mirrored else (image, maps.copy())


def _without_centres(view: View) -> tuple[np.ndarray, np.ndarray]:
    return view.image, target_maps(replace(view, cells=view.cells.iloc[:0]))


def _shrunk(view: View, factor: float) -> View:
    """*view* made smaller, and continued by its mirror images to the size it had."""
    side = view.image.shape[0]

    def shrink(pixels: np.ndarray) -> np.ndarray:
        small = cv2.resize(pixels, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA)
        return np.pad(small, [(0, side - len(small))] * 2 + [(0, 0)] * (small.ndim - 2), mode="symmetric")

    red, other, unclear = (shrink(mask.astype(np.float32)) for mask in (view.red, view.other, view.unclear))
    return View(shrink(view.image), view.cells, red, other, unclear, view.diameter_px * factor)


def _known_mean(loss: Tensor, target: Tensor) -> Tensor:
    known = target != UNKNOWN
    return (loss * known).sum() / known.sum().clamp(min=1)


class _Examples(Dataset):
    """Examples, each drawn when it is asked for."""

    def __init__(self, training: FinderTraining, first: int, last: int, added: Sequence[LabelledSmear]):
        self.training, self.first, self.last, self.added = training, first, last, added

    def __len__(self) -> int:
        return self.last - self.first

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        cv2.setNumThreads(1)
        image, maps = draw_example(self.training, self.first + index, self.added)
        return torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1))), torch.from_numpy(maps)


def _rate(step: int, training: FinderTraining) -> float:
    """The share of the highest learning rate at *step*: a rise, then half a cosine."""
    rise = max(1, training.steps // 10)
    if step < rise:
        return (step + 1) / rise
    return 0.5 * (1 + math.cos(math.pi * (step - rise) / max(1, training.steps - rise)))


def train_finder(
    training: FinderTraining,
    checkpoint: Path,
    *,
    added: Sequence[LabelledSmear] = (),
    workers: int = 1,
    log: Callable[[dict[str, float]], None] = print,
) -> FinderNet:
    """Trains the network, or goes on with the training whose state lies in *checkpoint*.

    Args:
        training: its settings.
        checkpoint: file that the state is written to every ``LOG_EVERY`` steps.
        added: labelled smears, of which ``training.added_share`` of the examples are cut.
        workers: processes that render, beside this one.
        log: is given a row with the step and the mean losses every ``LOG_EVERY`` steps.

    Returns:
        The network with averaged weights, in eval mode.
    """
    torch.manual_seed(training.seed)
    net = FinderNet().to(memory_format=torch.channels_last)
    averaged = FinderNet()
    averaged.load_state_dict(net.state_dict())
    optimiser = torch.optim.AdamW(net.parameters(), lr=training.learning_rate, weight_decay=training.weight_decay)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, partial(_rate, training=training))
    parts = {"net": net, "averaged": averaged, "optimiser": optimiser, "schedule": schedule}
    first, sums = 0, dict.fromkeys(("centre", "size", "red", "other"), 0.0)
    if checkpoint.exists():
        state = torch.load(checkpoint, weights_only=True)
        for name, part in parts.items():
            part.load_state_dict(state[name])
        first = state["step"]
    examples = _Examples(training, first * training.batch, training.steps * training.batch, added)
    loader = DataLoader(examples, training.batch, num_workers=workers, prefetch_factor=4 if workers else None)
    net.train()
    for step, (images, targets) in enumerate(loader, start=first + 1):
        images = images.float().contiguous(memory_format=torch.channels_last)
        loss, losses = finder_loss(net(images), targets)
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 5.0)
        optimiser.step()
        schedule.step()
        _average(averaged, net, min(training.average, step / (step + 9)))
        sums = {name: sums[name] + value for name, value in losses.items()}
        if step % LOG_EVERY == 0 or step == training.steps:
            n = (step - 1) % LOG_EVERY + 1
            log({"step": step} | {name: value / n for name, value in sums.items()})
            sums = dict.fromkeys(sums, 0.0)
            with atomic_write(checkpoint) as part:
                state = {name: module.state_dict() for name, module in parts.items()}
                torch.save(state | {"step": step}, part)
    return averaged.eval()


def _average(averaged: FinderNet, net: FinderNet, keep: float) -> None:
    """Moves *averaged* towards *net*, of which it keeps the share *keep* of itself."""
    with torch.no_grad():
        for mean, now in zip(averaged.state_dict().values(), net.state_dict().values(), strict=True):
            if mean.dtype.is_floating_point:
                mean.lerp_(now, 1 - keep)
            else:
                mean.copy_(now)
