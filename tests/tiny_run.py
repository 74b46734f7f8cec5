"""A reproduction as small as one can be that still runs every notebook, for tests to start."""

import subprocess
import sys
from pathlib import Path

TINY = [
    "--profile", "smoke",
    "--set", "n_smears=6", "--set", "cells_per_smear=30", "--set", "epochs=1", "--set", "size_px=24",
    "--set", "upscale=none", "--set", "n_seeds=1", "--set", "n_folds=2", "--set", "n_draws=2", "--set", "n_outer=2",
    "--set", "imbalance_epochs=1", "--set", "imbalance_seeds=1",
    "--set", "classical_tries=1", "--set", "toy_cells=100", "--set", "lesson_steps=60", "--jobs", "1",
]  # fmt: skip
FIGURES = {f"fig{number:02}.png" for number in range(1, 14) if number != 9} | {"fig09_paper.png", "fig09_honest.png"}


def command(out: Path, *more: str) -> list[str]:
    return [sys.executable, "-m", "rbcnb.cli", "reproduce", *TINY, "--out", str(out), *more]


def reproduce(out: Path, *more: str) -> subprocess.CompletedProcess:
    return subprocess.run(command(out, *more), capture_output=True, text=True, timeout=600, check=False)
