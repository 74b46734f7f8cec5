"""What finding cells will cost on this machine, before it starts."""

import math
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from rbcnb._utils.duration import duration
from rbcnb._utils.errors import WeightsError
from rbcnb.segmentation.segment import FinderSpec, segment_smear
from rbcnb.segmentation.upscaling import upscale
from rbcnb.smears.images import SmearError, read_image

_PATCH_PX = 256  # side of the piece of an image that is timed


def segmentation_cost(images: Sequence[Path], spec: FinderSpec, *, jobs: int = 1) -> str:
    """How long *images* will about take, in words; "" where none of the first ones can be read, or no network."""
    try:
        seconds, (width, height) = segmentation_seconds(images, spec, jobs=jobs)
    except (SmearError, WeightsError):  # the batch says which file, and why
        return ""
    n_images = f"{len(images)} image{'s' * (len(images) != 1)}"
    return f"{n_images}, {width} x {height} or so: about {duration(max(1.0, seconds))} if none is done"


def segmentation_seconds(images: Sequence[Path], spec: FinderSpec, *, jobs: int = 1) -> tuple[float, tuple[int, int]]:
    """Seconds that *images* will about take, and width and height of the one that was measured.

    A piece of the first image that can be read is segmented, and the others are taken to be as large as that image.

    Raises:
        SmearError: none of the first images can be read.
    """
    for path in images[:5]:
        try:
            image = read_image(path)
        except (SmearError, OSError):
            continue
        height, width = image.shape[:2]
        top, left = max(0, (height - _PATCH_PX) // 2), max(0, (width - _PATCH_PX) // 2)
        patch = np.ascontiguousarray(image[top : top + _PATCH_PX, left : left + _PATCH_PX])
        segment_smear(patch, replace(spec, upscale="none"))  # the first one loads networks
        start = time.perf_counter()
        segment_smear(patch, spec)
        per_px = (time.perf_counter() - start) / (patch.shape[0] * patch.shape[1])
        return per_px * width * height * len(images) / max(1, min(jobs, len(images))), (width, height)
    raise SmearError("none of the first images can be read; the message of each says why")


def upscaling_seconds(image_px: float, scale: float, *, method: str) -> float:
    """Seconds to upscale *image_px* pixels by *scale*, from the time that a small patch takes."""
    if scale <= 1 or method == "none":
        return 0.0
    patch = np.full((96, 96, 3), 128, np.uint8)
    start = time.perf_counter()
    upscale(patch, 2.0, method=method)
    per_px = (time.perf_counter() - start) / (patch.shape[0] * patch.shape[1])
    passes = math.ceil(math.log2(scale))
    return per_px * image_px * sum(4**i for i in range(passes))
