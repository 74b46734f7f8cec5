"""What upscaling and larger crops are worth to a lab: seconds to find and cut, and macro F1 of a network trained on it.

    python benchmarks/lab_crops.py --data DIR [--smears 60] [--seeds 1] [--variants bicubic:64 waifu2x:64 ...]

Cells of Chula RBC-12's three classes are found by the learned finder, once; the crops of each variant are cut, and
EfficientNet-Lite0 from ImageNet's weights is trained on them as `rbcnb train` does, on three folds of whole smears.
"""

import argparse
import time
from dataclasses import replace

import numpy as np
import pandas as pd
from architectures import N_FOLDS, TRIALS

from rbcnb.columns import LABEL
from rbcnb.labels.assign import label_cells
from rbcnb.segmentation.segment import FinderSpec
from rbcnb.segmentation.segment_many import segment_smears
from rbcnb.smears.sources import load_smears
from rbcnb.training.fit import run_trial
from rbcnb.training.splits import assign_splits

VARIANTS = ("none:64", "bicubic:64", "waifu2x:64", "bicubic:96", "waifu2x:96")


def main() -> None:
    """Measures and prints a line per variant."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True, metavar="DIR", help="where Chula RBC-12 lies")
    parser.add_argument("--smears", type=int, default=60)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--variants", nargs="+", default=list(VARIANTS), metavar="UPSCALE:PX")
    options = parser.parse_args()
    smears = list(load_smears("chula", data=options.data, n=options.smears, seed=0, errors=[]))
    for variant in options.variants:
        upscale, _, size = variant.partition(":")
        start = time.perf_counter()
        found = segment_smears(smears, FinderSpec(method="learned", upscale=upscale, size_px=int(size)))
        seconds = (time.perf_counter() - start) / len(smears)
        cells = label_cells(found.cells, found.truth).dropna(subset=[LABEL]).reset_index(drop=True)
        crops = found.crops[cells["crop"].to_numpy()]
        trial, _ = TRIALS["efficientnet_lite0"]
        scores = [
            run_trial(replace(trial, seed=seed, outer=outer), _split(cells, outer), crops).scores["macro_f1"]
            for outer in range(N_FOLDS)
            for seed in range(options.seeds)
        ]
        counts = cells[LABEL].value_counts().to_dict()
        print(
            f"{upscale} at {size} px: {seconds:.2f} s a smear to find and cut; macro F1 {np.mean(scores):.3f} "
            f"(folds {' '.join(f'{score:.3f}' for score in scores)}), {len(cells)} cells {counts}",
            flush=True,
        )


def _split(cells: pd.DataFrame, outer: int) -> pd.DataFrame:
    return assign_splits(cells, protocol="honest", seed=0, n_outer=N_FOLDS, outer=outer, n_folds=None)


if __name__ == "__main__":
    main()
