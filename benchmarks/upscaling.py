"""How long crops take when they are upscaled alone, beside the whole-image path that they are cut from in the paper.

    python benchmarks/upscaling.py [--chula DIR] [--cells 30,60,90] [--repeats 3] [--threads 1] [--out FILE.csv]

Peer: `upscaling.waifu2x` of the whole smear, then `crop_cells`. Both cut the same circles (found in the smear at its
own size, so that finding is in neither time) at 224 px from smears of 640 x 480 px with cells of 40 px, by the same
network with as many threads. Runs are interleaved, peer and crops in turn for each smear and each repeat; the ratio is
that of the medians over the repeats. ``cover`` is the share of the smear within the squares of its cells. ``largest``
is the largest difference between the two ways' crops, in grey levels, over all values. CPU seconds are of this process,
and are what a busy machine does not change.

Synthetic smears come from `rbcnb.smears.synthetic.render`, seeded by their number of cells; Chula's are spread evenly
over the names of those that are exhaustively labelled.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
import pandas as pd

from rbcnb.columns import RADIUS, X, Y
from rbcnb.segmentation import upscaling
from rbcnb.segmentation.crops import crop_cells, upscaled_crops
from rbcnb.segmentation.segment import FinderSpec, find_cells
from rbcnb.smears.images import read_image
from rbcnb.smears.synthetic.render import SmearSpec, render_smear

SIZE_PX, DIAMETER_PX = 224, 40.0
SCALE = SIZE_PX / DIAMETER_PX


def smears(cells: list[int], chula: Path | None, n_chula: int) -> Iterator[tuple[str, np.ndarray]]:
    """Names and images."""
    for n in cells:
        spec = SmearSpec(height_px=480, width_px=640, n_cells=n, diameter_px=DIAMETER_PX)
        yield f"synthetic, {n} cells", render_smear(spec, seed=n)[0]
    if chula:
        names = json.loads((chula / "exhaustively_labelled.json").read_text())["exhaustively_labelled"]
        for name in names[:: max(1, len(names) // n_chula)][:n_chula]:
            yield f"chula {name}", read_image(chula / "Dataset" / f"{name}.jpg")


def timed(work: Callable[[], np.ndarray]) -> tuple[np.ndarray, float, float]:
    """What *work* gives, its seconds on the clock and its seconds of CPU."""
    wall, cpu = time.perf_counter(), time.process_time()
    result = work()
    return result, time.perf_counter() - wall, time.process_time() - cpu


def measure(name: str, image: np.ndarray, repeats: int) -> dict[str, object]:
    """One row: medians of both ways over *repeats*."""
    cells = find_cells(image, FinderSpec(upscale="none", diameter_px=DIAMETER_PX))
    whole: list[tuple[float, float]] = []
    alone: list[tuple[float, float]] = []
    for _ in range(repeats):
        expected, *times = timed(
            lambda: crop_cells(upscaling.waifu2x(image, SCALE), cells, SIZE_PX, scale=SCALE),
        )
        whole.append(tuple(times))
        crops, *times = timed(lambda: upscaled_crops(image, cells, SIZE_PX, SCALE, method="waifu2x"))
        alone.append(tuple(times))
    seconds = {
        f"{way}_{kind}_s": statistics.median(run[i] for run in runs)
        for way, runs in (("whole", whole), ("crops", alone))
        for i, kind in enumerate(("wall", "cpu"))
    }
    return {
        "smear": name,
        "cells": len(cells),
        "cover": cover(cells, image.shape),
        "largest": int(np.abs(crops.astype(int) - expected).max(initial=0)),
        **seconds,
        "ratio_wall": seconds["crops_wall_s"] / seconds["whole_wall_s"],
        "ratio_cpu": seconds["crops_cpu_s"] / seconds["whole_cpu_s"],
    }


def cover(cells: pd.DataFrame, shape: tuple[int, ...]) -> float:
    """The share of the smear that lies within the squares around its cells."""
    mask = np.zeros(shape[:2], bool)
    for x, y, radius in cells[[X, Y, RADIUS]].to_numpy():
        top, left = max(0, round(y - radius)), max(0, round(x - radius))
        mask[top : round(y + radius) + 1, left : round(x + radius) + 1] = True
    return float(mask.mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cells", default="30,60,90,150", help="cells per synthetic smear")
    parser.add_argument("--chula", type=Path, metavar="DIR", help="folder of Chula RBC-12")
    parser.add_argument("--n-chula", type=int, default=5, metavar="N", help="of its smears (default 5)")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, metavar="FILE", help="for the table as CSV")
    options = parser.parse_args()
    cv2.setNumThreads(options.threads)
    upscaling.waifu2x(np.zeros((8, 8, 3), np.uint8), 2.0)  # reads the model; raises where it cannot run
    print(f"{options.threads} thread(s)")
    rows = []
    for name, image in smears([int(n) for n in options.cells.split(",") if n], options.chula, options.n_chula):
        rows.append(measure(name, image, options.repeats))
        print(pd.DataFrame(rows[-1:]).round(3).to_string(index=False, header=len(rows) == 1), flush=True)
        if options.out:
            pd.DataFrame(rows).to_csv(options.out, index=False)
    table = pd.DataFrame(rows)
    print(f"median ratio: wall {table['ratio_wall'].median():.3f}, CPU {table['ratio_cpu'].median():.3f}")
    print(f"largest difference: {table['largest'].max()} grey levels")


if __name__ == "__main__":
    main()
