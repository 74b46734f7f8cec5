"""Images per second of a training epoch: rbcnb's engine, the bare step that limits it, and fastai's default path.

    python benchmarks/training.py --architecture resnet18 --size 64
    python benchmarks/training.py --architecture resnet50 --size 224 --batches 3 --rounds 3
    python benchmarks/training.py --curves

- *bare step*: forward, backward and Adam on one fixed batch that lies on the device, with the engine's number format,
  memory layout and optimiser; nothing can train faster with these.
- *engine*: one epoch of `rbcnb.learner.build_learner` over crops, with its curves.
- *float32*: the same in float32.
- *fastai*: ``ImageDataLoaders.from_folder`` over PNG files of the same crops, and ``vision_learner`` of the same
  architecture without pretrained weights: what one would type otherwise. Its loader keeps its default worker processes.

All take turns in one process, with torch's default number of threads; medians over rounds, and ratios of medians. With
``--curves``: the training curves of bfloat16 and of float32, five seeds each, on synthetic cells.
"""

import argparse
import contextlib
import itertools
import os
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from PIL import Image

warnings.filterwarnings("ignore", message="`torch.jit.script`")

from fastai.vision.all import ImageDataLoaders, vision_learner  # noqa: E402
from torchvision import models as torchvision_models  # noqa: E402

from rbcnb.columns import LABEL  # noqa: E402
from rbcnb.engine import choose_engine, prepare  # noqa: E402
from rbcnb.harvest import harvest  # noqa: E402
from rbcnb.labels import label_cells  # noqa: E402
from rbcnb.learner import CropLoader, build_learner  # noqa: E402
from rbcnb.models import build_model, normalise  # noqa: E402
from rbcnb.segmentation import FinderSpec  # noqa: E402
from rbcnb.smears import synthetic_smears  # noqa: E402
from rbcnb.splits import assign_splits  # noqa: E402
from rbcnb.trial import Trial, run_trial  # noqa: E402

BATCH = 32


def cells_and_crops(n: int, size_px: int) -> tuple[pd.DataFrame, np.ndarray]:
    """At least *n* labelled cells of synthetic smears and their crops [N, size_px, size_px, 3]."""
    found = harvest(
        synthetic_smears(max(8, n // 100), seed=0, n_cells=154), FinderSpec(upscale="none", size_px=size_px)
    )
    cells = label_cells(found.cells, found.truth)
    cells = cells[cells[LABEL].notna()].reset_index(drop=True)
    return cells, found.crops[cells["crop"]]


def bare_step(trial: Trial, crops: np.ndarray, n_batches: int) -> Callable[[], None]:
    engine = choose_engine(precision=trial.precision)
    model = prepare(build_model(trial.architecture, 3), engine).train()
    optimiser = torch.optim.Adam(model.parameters(), fused=True)
    images = normalise(torch.from_numpy(crops[:BATCH]).to(engine.device))
    targets = (torch.arange(BATCH) % 3).to(engine.device)

    def epoch() -> None:
        for _ in range(n_batches):
            F.cross_entropy(model(images), targets).backward()
            optimiser.step()
            optimiser.zero_grad()

    return epoch


def engine_epoch(trial: Trial, crops: np.ndarray, n_batches: int) -> Callable[[], None]:
    engine = choose_engine(precision=trial.precision)
    n = n_batches * BATCH
    train, none = (
        CropLoader(torch.from_numpy(crops[rows]), torch.arange(n)[rows] % 3, batch_size=BATCH, seed=0).to(engine.device)
        for rows in (slice(n), slice(0))
    )
    learner = build_learner(trial, train, none, n_classes=3, engine=engine)
    return lambda: learner.fit(1)


def fastai_epoch(trial: Trial, crops: np.ndarray, n_batches: int, folder: Path) -> Callable[[], None]:
    n = n_batches * BATCH
    for i, crop in enumerate(crops[: n + 1]):
        path = folder / f"class{i % 3}" / f"{i}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(crop).save(path)
    dls = ImageDataLoaders.from_folder(folder, valid_pct=1.5 / (n + 1), bs=BATCH)  # one image: none at all it cannot do
    learner = vision_learner(dls, getattr(torchvision_models, trial.architecture), pretrained=False)

    def epoch() -> None:
        with learner.no_bar(), learner.no_logging(), contextlib.redirect_stdout(None):
            learner.fit(1)

    return epoch


def race(architecture: str, size_px: int, *, n_batches: int, rounds: int) -> pd.DataFrame:
    """Median images per second of each way, and their ratios."""
    _, crops = cells_and_crops(n_batches * BATCH, size_px)
    crops = np.concatenate([crops] * (n_batches * BATCH // len(crops) + 1))
    trial = Trial(architecture=architecture)
    exact = replace(trial, precision="float32")
    with tempfile.TemporaryDirectory() as folder:
        ways = {
            "bare step": bare_step(trial, crops, n_batches),
            "engine": engine_epoch(trial, crops, n_batches),
            "engine, float32": engine_epoch(exact, crops, n_batches),
        }
        if architecture != "small":  # no name that a user of fastai could type
            ways["fastai from PNG files"] = fastai_epoch(trial, crops, n_batches, Path(folder))
        seconds: dict[str, list[float]] = {name: [] for name in ways}
        for _, (name, epoch) in itertools.product(range(rounds + 1), ways.items()):
            start = time.perf_counter()
            epoch()
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            seconds[name].append(time.perf_counter() - start)
    # The first round allocates.
    speed = {name: n_batches * BATCH / statistics.median(times[1:]) for name, times in seconds.items()}
    table = pd.DataFrame({"images_per_s": speed})
    table["engine_over_it"] = speed["engine"] / table["images_per_s"]
    return table.round(3)


def curve_gap(*, size_px: int = 48, epochs: int = 8, seeds: int = 5) -> pd.DataFrame:
    """Per epoch and precision: mean and spread over seeds of cross entropy and of macro F1 on a fold."""
    cells, crops = cells_and_crops(800, size_px)
    cells = assign_splits(cells, protocol="honest", seed=0)
    base = Trial(architecture="small", epochs=epochs, fold=0)
    rows = [
        run_trial(replace(base, precision=precision, seed=seed), cells, crops).curves.assign(precision=precision)
        for precision in ("float32", "bf16")
        for seed in range(seeds)
    ]
    columns = ["train_ce", "valid_ce", "valid_macro_f1"]
    return pd.concat(rows).groupby(["epoch", "precision"])[columns].agg(["mean", "std"]).round(4)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--architecture", default="resnet18")
    parser.add_argument("--size", type=int, default=64, help="side of a crop, pixels")
    parser.add_argument("--batches", type=int, default=16, help="per epoch, of 32 images")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--curves", action="store_true", help="compare training curves instead of speed")
    options = parser.parse_args()
    if options.curves:
        print(curve_gap().to_string())
        return
    print(f"{options.architecture} at {options.size} px, {choose_engine()}, {torch.get_num_threads()} threads")
    print(f"load before the start: {os.getloadavg()[0]:.1f}")
    print(race(options.architecture, options.size, n_batches=options.batches, rounds=options.rounds).to_string())


if __name__ == "__main__":
    main()
