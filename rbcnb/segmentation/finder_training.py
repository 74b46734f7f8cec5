"""How the learned finder's network is trained: on rendered views, each seen once.

Example ``i`` of a training is the view of seed ``(seed, i)``, so a training that was stopped goes on as if it had not
been, whatever the number of processes that render.
"""

import math
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset

from rbcnb.columns import RADIUS, X, Y
from rbcnb.segmentation.finder_net import RADIUS_UNIT_PX, STRIDE, FinderNet
from rbcnb.smears.synthetic.variety import Variety, View, render_view

SIGMA = 0.3  # of a centre's Gaussian, in radii of its cell
_TEST_SEED = 987_654_321  # views that no training sees


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


def target_maps(view: View) -> np.ndarray:
    """[6,H/2,W/2] float32: centre, log radius, red cell, other, and the weights of the first and of the second."""
    side = view.image.shape[0] // STRIDE
    grid = np.arange(side, dtype=np.float32) * STRIDE + (STRIDE - 1) / 2
    centre = np.zeros((side, side), np.float32)
    size = np.zeros((side, side), np.float32)
    for x, y, radius in view.cells[[X, Y, RADIUS]].itertuples(index=False):
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
    red, other, unclear = (_halved(mask) for mask in (view.red, view.other, view.unclear))
    weight = (1 - unclear) * (1 + 2 * other * (1 - red))  # a centre on a white cell is worse than one on plasma
    return np.stack([centre, size, red, other, weight, centre * (1 - unclear)])


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
        "red": _cross_entropy(maps[:, 2], red).mean(),
        "other": _cross_entropy(maps[:, 3], other).mean(),
    }
    total = parts["centre"] + 0.7 * parts["size"] + parts["red"] + parts["other"]
    return total, {name: part.item() for name, part in parts.items()}


def _cross_entropy(logits: Tensor, target: Tensor) -> Tensor:
    itself = torch.special.entr(target) + torch.special.entr(1 - target)
    return F.binary_cross_entropy_with_logits(logits, target, reduction="none") - itself


def draw_example(training: FinderTraining, number: int) -> tuple[np.ndarray, np.ndarray]:
    """Example *number* of a training: image [H,W,3] uint8 and its `target_maps`."""
    seed, side = [training.seed, number], training.side_px
    rng = np.random.default_rng([*seed, 1])
    kind = rng.random()
    if kind < training.off_scale:
        variety = replace(training.variety, diameter_px=training.too_large_px)
        return _without_centres(render_view(variety, side_px=side, seed=seed))
    view = render_view(training.variety, side_px=side, seed=seed)
    if kind < 2 * training.off_scale:
        return _without_centres(_shrunk(view, rng.uniform(*training.too_small_px) / view.diameter_px))
    return view.image, target_maps(view)


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


class _Views(Dataset):
    """Rendered views, each drawn when it is asked for."""

    def __init__(self, training: FinderTraining, first: int, last: int):
        self.training, self.first, self.last = training, first, last

    def __len__(self) -> int:
        return self.last - self.first

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        cv2.setNumThreads(1)
        image, maps = draw_example(self.training, self.first + index)
        return torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1))), torch.from_numpy(maps)


def _rate(step: int, training: FinderTraining) -> float:
    """The share of the highest learning rate at *step*: a rise, then half a cosine."""
    rise = max(1, training.steps // 10)
    if step < rise:
        return (step + 1) / rise
    return 0.5 * (1 + math.cos(math.pi * (step - rise) / max(1, training.steps - rise)))


def train_finder(training: FinderTraining, checkpoint: Path, *, workers: int = 1, log: Any = print) -> FinderNet:
    """Trains the network, or goes on with the training whose state lies in *checkpoint*.

    Returns the network with averaged weights. Every 100 steps a row of the losses is given to *log*.
    """
    torch.manual_seed(training.seed)
    net = FinderNet().to(memory_format=torch.channels_last)
    averaged = FinderNet()
    averaged.load_state_dict(net.state_dict())
    optimiser = torch.optim.AdamW(net.parameters(), lr=training.learning_rate, weight_decay=training.weight_decay)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, partial(_rate, training=training))
    start = 0
    if checkpoint.exists():
        state = torch.load(checkpoint, weights_only=True)
        net.load_state_dict(state["net"])
        averaged.load_state_dict(state["averaged"])
        optimiser.load_state_dict(state["optimiser"])
        schedule.load_state_dict(state["schedule"])
        start = state["step"]
    views = _Views(training, start * training.batch, training.steps * training.batch)
    loader = DataLoader(views, training.batch, num_workers=workers, prefetch_factor=4 if workers else None)
    sums: dict[str, float] = {}
    net.train()
    for step, (images, targets) in enumerate(loader, start=start):
        images = images.float().contiguous(memory_format=torch.channels_last)
        loss, parts = finder_loss(net(images), targets)
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 5.0)
        optimiser.step()
        schedule.step()
        keep = min(training.average, (step + 1) / (step + 10))
        with torch.no_grad():
            for mean, now in zip(averaged.state_dict().values(), net.state_dict().values(), strict=True):
                if mean.dtype.is_floating_point:
                    mean.lerp_(now, 1 - keep)
                else:
                    mean.copy_(now)
        for name, value in parts.items():
            sums[name] = sums.get(name, 0.0) + value
        if (step + 1) % 100 == 0 or step + 1 == training.steps:
            n = (step % 100) + 1
            log({"step": step + 1, **{name: value / n for name, value in sums.items()}})
            sums = {}
            part = checkpoint.with_name(f".{checkpoint.name}.part")
            state = {"net": net.state_dict(), "averaged": averaged.state_dict(), "step": step + 1}
            torch.save(state | {"optimiser": optimiser.state_dict(), "schedule": schedule.state_dict()}, part)
            part.replace(checkpoint)
    return averaged.eval()
