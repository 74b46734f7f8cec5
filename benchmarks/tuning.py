"""Does a finder tuned only on synthetic smears keep its F1 on real ones? python benchmarks/tuning.py [--data DIR]

The main settings of `hybrid` are tuned on synthetic smears alone, coordinate by coordinate from the middle of a coarse
grid, twice around; a setting moves only where it gains. Then the tuned and the default settings meet fresh synthetic
smears and, where --data or RBCNB_CHULA gives it, Chula RBC-12 (rules: benchmarks/segmentation.py). Deterministic.
"""

import argparse
import os
from dataclasses import replace
from pathlib import Path

import cv2
import pandas as pd
from labelled_smears import LabelledImage, halves, labelled, read_chula
from segmentation import score_image

from rbcnb.segmentation.matching import score_counts
from rbcnb.segmentation.segment import FinderSpec, find_cells
from rbcnb.smears.sources import synthetic_smears

GRID = {
    "stain": (0.3, 0.4, 0.5, 0.6),
    "evidence": (0.8, 0.95, 1.1, 1.25),
    "apart": (0.45, 0.55, 0.65),
    "fuse": (1.1, 1.3, 1.5),
    "remnant": (0.3, 0.4, 0.5),
}


def smears(seed: int, n: int) -> list[LabelledImage]:
    """Hard smears: crowded and blurred, as easy ones do not tell settings apart."""
    return [
        labelled(smear.name, smear.image, smear.truth)
        for height in (420, 560)  # the same cells on less and more room
        for smear in synthetic_smears(n, seed=seed, n_cells=110, difficulty=0.9, height_px=height, width_px=640)
    ]


def scores(spec: FinderSpec, chosen: list[LabelledImage]) -> dict[str, float]:
    counts = {"n_truth": 0, "n_hits": 0, "n_false": 0}
    for smear in chosen:
        image = smear.read()
        row = score_image(find_cells(image, spec), smear, image.shape)
        counts = {name: n + row[name] for name, n in counts.items()}
    return score_counts(**counts)


def tune(chosen: list[tuple]) -> FinderSpec:
    middle = {name: values[len(values) // 2] for name, values in GRID.items()}
    spec = FinderSpec(method="hybrid", upscale="none", size_px=8, **middle)
    best = scores(spec, chosen)["f1_score"]
    for _ in range(2):
        for name, values in GRID.items():
            for value in values:
                tried = replace(spec, **{name: value})
                if (gained := scores(tried, chosen)["f1_score"]) > best:
                    spec, best = tried, gained
    return spec


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=os.environ.get("RBCNB_CHULA"), help="folder of Chula RBC-12")
    parser.add_argument("--smears", type=int, default=2, help="synthetic smears of each density (default 2)")
    options = parser.parse_args()
    cv2.setNumThreads(1)
    tuned = tune(smears(11, options.smears))
    print("tuned on synthetic smears:", {name: getattr(tuned, name) for name in GRID})
    tests = {"fresh synthetic": smears(12, 2 * options.smears)}
    if options.data:
        chula = read_chula(Path(options.data))
        tests |= {part.name: part.images for part in (*halves(chula), chula)}
    rows = [
        {"settings": name, "smears": test, **scores(spec, chosen)}
        for name, spec in (("tuned", tuned), ("default", FinderSpec(method="hybrid", upscale="none", size_px=8)))
        for test, chosen in tests.items()
    ]
    print(pd.DataFrame(rows).round(4).to_string(index=False))


if __name__ == "__main__":
    main()
