"""What `rbcnb count` costs over `rbcnb segment` alone, on the same rendered smears, interleaved; prints the ratio.

    python benchmarks/counting.py [--smears 6] [--rounds 3] [--architecture small] [--upscale none]

The small net on crops of 48 px unless told otherwise; one process, as many threads as torch takes.
"""

import argparse
import statistics
import tempfile
import time
from dataclasses import asdict
from pathlib import Path

from PIL import Image

from rbcnb.columns import CLASSES
from rbcnb.counting.count import count_files
from rbcnb.counting.model_file import ModelCard, save_model
from rbcnb.segmentation.batch import segment_files
from rbcnb.segmentation.segment import FinderSpec
from rbcnb.smears.sources import synthetic_smears
from rbcnb.training.models import ARCHITECTURES, build_model


def main() -> None:
    """Measures and prints one line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--smears", type=int, default=6)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--size", type=int, default=48)
    parser.add_argument("--architecture", default="small", choices=list(ARCHITECTURES))
    parser.add_argument("--upscale", default="none", choices=("waifu2x", "bicubic", "none"))
    options = parser.parse_args()
    spec = FinderSpec(method="learned", upscale=options.upscale, size_px=options.size)
    with tempfile.TemporaryDirectory() as folder:
        smears = Path(folder) / "smears"
        smears.mkdir()
        for smear in synthetic_smears(options.smears, seed=0):
            Image.fromarray(smear.image).save(smears / smear.name)
        card = ModelCard(options.architecture, CLASSES, options.size, asdict(spec))
        model = save_model(build_model(options.architecture, 3), card, Path(folder) / "model.safetensors")
        seconds = {"segment": [], "count": []}
        for number in range(options.rounds + 1):
            start = time.perf_counter()
            report = segment_files([smears], Path(folder) / f"segment{number}", spec=spec)
            middle = time.perf_counter()
            count_files([smears], model, Path(folder) / f"count{number}")
            if number:  # the first round imports torch and warms everything
                seconds["segment"].append(middle - start)
                seconds["count"].append(time.perf_counter() - middle)
    per_smear = {name: statistics.median(values) / options.smears for name, values in seconds.items()}
    what = f"{options.architecture}, {options.size} px, upscale {options.upscale}"
    ratio = per_smear["count"] / per_smear["segment"]
    n_cells = report.n_cells / options.smears
    print(f"{what}, {n_cells:.0f} cells a smear: count {per_smear['count']:.2f} s a smear, {ratio:.2f} times segment")


if __name__ == "__main__":
    main()
