"""Images per second of a training epoch: rbcnb's engine, the bare step that limits it, and fastai's default path.

    python benchmarks/training.py --architecture resnet18 --size 64
    python benchmarks/training.py --architecture resnet50 --size 224 --batches 3 --rounds 3
    python benchmarks/training.py --parts
    python benchmarks/training.py --curves

- *bare step*: forward, backward and Adam on one fixed batch that lies on the device, with the engine's number format,
  memory layout, optimiser and kernels; nothing can train faster with these. Its learning rate is next to nothing: a
  batch that is known by heart has gradients of zero, and takes less time than any in a fit.
- *engine*: one epoch of `rbcnb.training.learner.build_learner` over crops, with its curves.
- *engine, a fit per core*: as many of them side by side as there are cores, of one thread each, as a study runs them.
- *engine, float32*: the first in float32.
- *fastai*: ``ImageDataLoaders.from_folder`` over PNG files of the same crops, and ``vision_learner`` of the same
  architecture without pretrained weights: what one would type otherwise. Its loader keeps its default worker processes.

Each way has processes of its own (the engine changes how a process keeps its memory), with torch's default number of
threads (``OMP_NUM_THREADS`` sets it); they take turns. Medians over rounds, and ratios of medians; beside them the
processor time of an image, loader's workers included, which a busy machine changes less. With ``--parts``: processor
time of the bare step as torch has it, and with each of `rbcnb.training.kernels` in turn. With ``--curves``: the
training curves of bfloat16 and of float32, five seeds each, on synthetic cells.
"""

import argparse
import contextlib
import itertools
import multiprocessing
import os
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable
from dataclasses import replace
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from PIL import Image

warnings.filterwarnings("ignore", message="`torch.jit.script`")

from fastai.vision.all import ImageDataLoaders, vision_learner  # noqa: E402
from torchvision import models as torchvision_models  # noqa: E402

from rbcnb.columns import CLASSES, LABEL  # noqa: E402
from rbcnb.labels.assign import label_cells  # noqa: E402
from rbcnb.segmentation.segment import FinderSpec  # noqa: E402
from rbcnb.segmentation.segment_many import segment_smears  # noqa: E402
from rbcnb.smears.sources import synthetic_smears  # noqa: E402
from rbcnb.training.dataloaders import CellDataLoaders  # noqa: E402
from rbcnb.training.engine import Autocast, Engine, choose_engine, prepare  # noqa: E402
from rbcnb.training.fit import run_trial  # noqa: E402
from rbcnb.training.kernels import DenseAdam, kept_memory, use_small_maps  # noqa: E402
from rbcnb.training.learner import build_learner, fit_trial  # noqa: E402
from rbcnb.training.models import build_model  # noqa: E402
from rbcnb.training.normalise import normalise  # noqa: E402
from rbcnb.training.splits import assign_splits  # noqa: E402
from rbcnb.training.trial import Trial  # noqa: E402

BATCH = 32


def cells_and_crops(n: int, size_px: int) -> tuple[pd.DataFrame, np.ndarray]:
    """At least *n* labelled cells of synthetic smears and their crops [N, size_px, size_px, 3]."""
    found = segment_smears(
        synthetic_smears(max(8, n // 100), seed=0, n_cells=154), FinderSpec(upscale="none", size_px=size_px)
    )
    cells = label_cells(found.cells, found.truth)
    cells = cells[cells[LABEL].notna()].reset_index(drop=True)
    return cells, found.crops[cells["crop"]]


def bare_step(trial: Trial, crops: np.ndarray, n_batches: int) -> Callable[[], None]:
    engine = choose_engine(precision=trial.wanted_precision)
    model = prepare(build_model(trial.architecture, 3), engine).train()
    step = step_of(model, DenseAdam, crops, engine)

    def epoch() -> None:
        for _ in range(n_batches):
            step()

    return epoch


def step_of(model: torch.nn.Module, adam: type, crops: np.ndarray, engine: Engine) -> Callable[[], None]:
    optimiser = adam(model.parameters(), lr=1e-12, fused=True)
    images = normalise(torch.from_numpy(crops[:BATCH]).to(engine.device))
    targets = (torch.arange(BATCH) % 3).to(engine.device)

    def step() -> None:
        F.cross_entropy(model(images), targets).backward()
        optimiser.step()
        optimiser.zero_grad()

    return step


def engine_epoch(trial: Trial, crops: np.ndarray, n_batches: int) -> Callable[[], None]:
    engine = choose_engine(precision=trial.wanted_precision)
    n = n_batches * BATCH
    cells = crops[:n], np.arange(n) % 3
    none = crops[:0], np.arange(0)
    dls = CellDataLoaders.from_crops(cells, none, vocab=CLASSES, bs=BATCH, augment=trial.augment, device=engine.device)
    learner = build_learner(trial, dls, engine=engine)
    return lambda: fit_trial(learner, replace(trial, epochs=1))


def fastai_epoch(trial: Trial, crops: np.ndarray, n_batches: int) -> Callable[[], None]:
    n = n_batches * BATCH
    folder = Path.cwd()
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


WAYS = {
    "bare step": bare_step,
    "engine": engine_epoch,
    "engine, a fit per core": engine_epoch,
    "engine, float32": lambda trial, *rest: engine_epoch(replace(trial, precision="float32"), *rest),
    "fastai from PNG files": fastai_epoch,
}


def processor_s() -> float:
    """Processor time of this process and of its workers that have ended, seconds."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def serve(pipe: Connection, way: str, trial: Trial, crops: np.ndarray, n_batches: int, start_method: str) -> None:
    """In a process of its own: runs an epoch each time it is asked."""
    # A spawned process would spawn fastai's loader's workers, too, in every epoch; from a shell they are forked.
    multiprocessing.set_start_method(start_method, force=True)
    if way == "engine, a fit per core":
        torch.set_num_threads(1)
    memory = kept_memory() if "engine" in way or way == "bare step" else contextlib.nullcontext()
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder), memory, contextlib.suppress(EOFError):
        epoch = WAYS[way](trial, crops, n_batches)
        while True:
            before = processor_s()
            epoch()
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            pipe.send(processor_s() - before)
            pipe.recv()


def race(architecture: str, size_px: int, *, n_batches: int, rounds: int) -> pd.DataFrame:
    """Median images per second of each way, and their ratios."""
    _, crops = cells_and_crops(n_batches * BATCH, size_px)
    crops = np.concatenate([crops] * (n_batches * BATCH // len(crops) + 1))[: n_batches * BATCH + 1]
    ways = [way for way in WAYS if architecture != "small" or "fastai" not in way]  # no name that one could type there
    if torch.cuda.is_available():
        ways.remove("engine, a fit per core")
    spawn, usual, trial = multiprocessing.get_context("spawn"), multiprocessing.get_start_method(), Trial(architecture)
    pipes: dict[str, list[Connection]] = {}
    for way in ways:
        for _ in range(os.cpu_count() if "per core" in way else 1):
            ours, theirs = spawn.Pipe()
            # No daemons: fastai's loader starts workers of its own. They end with this process's ends of the pipes.
            spawn.Process(target=serve, args=(theirs, way, trial, crops, n_batches, usual)).start()
            pipes.setdefault(way, []).append(ours)
        for pipe in pipes[way]:  # the first epoch allocates
            pipe.recv()
    seconds: dict[str, list[float]] = {way: [] for way in ways}
    busy: dict[str, list[float]] = {way: [] for way in ways}
    for _, way in itertools.product(range(rounds), ways):
        start = time.perf_counter()
        for pipe in pipes[way]:
            pipe.send("go")
        busy[way].append(sum(pipe.recv() for pipe in pipes[way]))
        seconds[way].append(time.perf_counter() - start)
    for pipe in itertools.chain.from_iterable(pipes.values()):
        pipe.close()
    speed = {way: len(pipes[way]) * n_batches * BATCH / statistics.median(times) for way, times in seconds.items()}
    table = pd.DataFrame({"images_per_s": speed})
    for way in ("engine", "engine, a fit per core"):
        if way in speed:
            table[f"{way}, over it"] = speed[way] / table["images_per_s"]
    cost = {way: statistics.median(times) / (len(pipes[way]) * n_batches * BATCH) for way, times in busy.items()}
    table["processor_ms_per_image"] = 1e3 * pd.Series(cost)
    table["its_over_engine"] = table["processor_ms_per_image"] / table["processor_ms_per_image"]["engine"]
    return table.round(3)


def parts(architecture: str, size_px: int, *, rounds: int, precision: str) -> pd.DataFrame:
    """Median processor time of the bare step with each of the kernels, in milliseconds."""
    engine = choose_engine(precision=precision)
    crops = np.random.default_rng(0).integers(0, 256, (BATCH, size_px, size_px, 3), dtype=np.uint8)
    steps = {}
    for small_maps, adam in itertools.product((False, True), (torch.optim.Adam, DenseAdam)):
        model = build_model(architecture, 3).to(engine.device, memory_format=torch.channels_last).train()
        model = use_small_maps(model) if small_maps else model
        model = Autocast(model) if engine.precision == "bf16" else model
        steps[small_maps, adam is DenseAdam] = step_of(model, adam, crops, engine)
    times: dict[tuple, list[float]] = {}
    for keep in (False, True):
        with kept_memory() if keep else contextlib.nullcontext():
            for i, (names, step) in itertools.product(range(rounds + 1), steps.items()):
                start = time.process_time()
                step()
                if i:
                    times.setdefault((keep, *names), []).append(time.process_time() - start)
    table = pd.Series({names: 1e3 * statistics.median(some) for names, some in times.items()}, name="ms").reset_index()
    return table.set_axis(["kept_memory", "small_maps", "DenseAdam", "ms"], axis=1).round(1)


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
    parser.add_argument("--precision", default="auto", help="of --parts: float32, bf16, or auto, the faster one")
    parser.add_argument("--parts", action="store_true", help="time the bare step with and without each kernel")
    options = parser.parse_args()
    if options.curves:
        print(curve_gap().to_string())
        return
    engine = choose_engine(precision=options.precision)
    print(f"{options.architecture} at {options.size} px, {engine}, {torch.get_num_threads()} threads")
    print(f"load before the start: {os.getloadavg()[0]:.1f}")
    if options.parts:
        table = parts(options.architecture, options.size, rounds=options.rounds, precision=options.precision)
        print(table.to_string(index=False))
        return
    print(race(options.architecture, options.size, n_batches=options.batches, rounds=options.rounds).to_string())


if __name__ == "__main__":
    main()
