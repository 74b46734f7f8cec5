"""What a reproduction will cost, before it starts: trials counted from parameters, speed measured on this machine."""

import math
import time
from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from rbcnb.columns import CLASSES, LABEL
from rbcnb.protocols import (
    BASE_RHO,
    METHODS,
    candidate_settings,
    images_per_fit,
    in_folds,
    ladder,
    method_trial,
    protocol_names,
)
from rbcnb.smears import SmearError, load_smears
from rbcnb.trial import Trial

_TYPICAL_DIAMETER_PX = 40.0  # of a cell, where it is left to be estimated
_SEGMENT_S = 0.3  # to find and cut the cells of a smear, beside its upscaling
_NOTEBOOK_S = 8.0  # kernel start, imports and figures of a notebook that trains nothing
_WORKER_S = 6.0  # start of the worker processes of a notebook that trains


def measure_throughput(architecture: str, size_px: int, *, batch_size: int = 32, at_least_s: float = 1.0) -> float:
    """Images per second of a training step (forward, backward, Adam) with one thread, or on the GPU if there is one."""
    import torch

    from rbcnb.models import build_model

    device = "cuda" if torch.cuda.is_available() else "cpu"
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.random.fork_rng(devices=[device] if device == "cuda" else []):
            model = build_model(architecture, len(CLASSES)).to(device).train()
        optimiser = torch.optim.Adam(model.parameters())
        images = torch.zeros(batch_size, 3, size_px, size_px, device=device)
        targets = torch.zeros(batch_size, dtype=torch.long, device=device)

        def step() -> None:
            optimiser.zero_grad()
            torch.nn.functional.cross_entropy(model(images), targets).backward()
            optimiser.step()
            if device == "cuda":
                torch.cuda.synchronize()

        if size_px <= 64 or device == "cuda":
            step()  # the first step allocates; at 224 px on a CPU it takes many seconds, and the excess is lost in them
        start, steps = time.perf_counter(), 0
        while (seconds := time.perf_counter() - start) < at_least_s or not steps:
            step()
            steps += 1
        return steps * batch_size / seconds
    finally:
        torch.set_num_threads(threads)


def upscaling_seconds(image_px: float, scale: float, *, method: str) -> float:
    """Seconds to upscale *image_px* pixels by *scale*, from the time that a small patch takes."""
    from rbcnb.superres import upscale

    if scale <= 1:
        return 0.0
    patch = np.full((96, 96, 3), 128, np.uint8)
    start = time.perf_counter()
    upscale(patch, 2.0, method=method)
    per_px = (time.perf_counter() - start) / (patch.shape[0] * patch.shape[1])
    passes = math.ceil(math.log2(scale))
    return per_px * image_px * sum(4**i for i in range(passes))


def study_images(values: Mapping[str, Any], available: Mapping[str, int]) -> dict[str, dict[str, float]]:
    """Images to train on, per notebook and architecture; an upper bound, as chosen epochs are at most those tried.

    Args:
        values: parameters of all notebooks together.
        available: class -> labelled cells expected.
    """
    rungs = ladder(available)
    images = {name: dict.fromkeys(values["architectures"], 0.0) for name in ("04", "05", "06")}
    for protocol in protocol_names(values["protocol"]):
        seeds = 1 if protocol == "paper" else values["n_seeds"]
        for architecture in values["architectures"]:
            trial = Trial(architecture=architecture, protocol=protocol, epochs=values["epochs"])
            candidates = candidate_settings(
                trial, alphas=values["alphas"], gamma=values["gamma"], learning_rates=values["learning_rates"]
            )
            tuned = in_folds(candidates, values["n_folds"])
            finals = candidates if protocol == "paper" else [_of(trial, method) for method in METHODS] * seeds
            climbing = [_of(trial, method) for method in ("focal", "cross_entropy")] * seeds

            def total(trials: list[Trial], counts: Mapping[str, float]) -> float:
                return sum(images_per_fit(one, counts, n_folds=values["n_folds"]) for one in trials)

            images["04"][architecture] += total(tuned, rungs[BASE_RHO])
            images["05"][architecture] += total(finals, rungs[BASE_RHO])
            for rho, counts in rungs.items():
                if rho != BASE_RHO:
                    images["06"][architecture] += total(climbing, counts)
    return images


def _of(trial: Trial, method: str) -> Trial:
    return replace(method_trial(trial, method, alpha=1.0, gamma=2.0), fold=None)


def expected_cells(values: Mapping[str, Any]) -> tuple[dict[str, int], int, float]:
    """Labelled cells per class, number of smears, and pixels per smear that the parameters will bring."""
    smears = load_smears(
        values["smears"],
        data=values["data"] or None,
        n=values["n_smears"] if values["smears"] == "synthetic" else values["max_smears"] or None,
        seed=values["seed"],
        n_cells=values["cells_per_smear"],
        types=values["types"],
        errors=[],
    )
    counts: dict[str, int] = {}
    n_smears, pixels = 0, 0
    for smear in smears:
        n_smears += 1
        pixels += smear.image.shape[0] * smear.image.shape[1]
        if smear.truth is not None:
            for name, n in smear.truth[LABEL].value_counts().items():
                counts[name] = counts.get(name, 0) + int(n)
    return counts, n_smears, pixels / max(1, n_smears)


def estimate(values: Mapping[str, Any], *, notebooks: Collection[str], jobs: int) -> dict[str, float]:
    """Seconds that each of *notebooks* will about take; measures only what these need.

    Args:
        values: parameters of all notebooks together.
        notebooks: numbers, "01" to "06".
        jobs: trials side by side.

    Raises:
        SmearError: a smear source is not there, or has no labels and the notebooks need them.
    """
    seconds = dict.fromkeys(notebooks, _NOTEBOOK_S)
    training = set(notebooks) & {"04", "05", "06"}
    if not set(notebooks) - {"03"}:
        return seconds
    available, n_smears, pixels = expected_cells(values)
    if not available and set(notebooks) - {"01", "03"}:
        raise SmearError(
            f"{values['smears']}: no smear has labelled cells to train on; put a labels.csv with the columns "
            "smear,x_px,y_px,label beside the images, or run --only 01 to find the cells alone"
        )
    if "01" in seconds:
        scale = values["size_px"] / (values["diameter_px"] or _TYPICAL_DIAMETER_PX)
        seconds["01"] += n_smears * (_SEGMENT_S + upscaling_seconds(pixels, scale, method=values["upscale"]))
    if training:
        speed = {name: measure_throughput(name, values["size_px"]) for name in values["architectures"]}
        for notebook, images in study_images(values, available).items():
            if notebook in training:
                seconds[notebook] += _WORKER_S + sum(n / speed[name] for name, n in images.items()) / jobs
    return seconds
