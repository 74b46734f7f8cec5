"""What faults are injected into: small smears, a model, a folder of cells, trials, a finished run."""

from dataclasses import asdict
from pathlib import Path

import tiny_run
from kills import run
from PIL import Image
from small_run import small_run

from rbcnb.cli import main
from rbcnb.columns import CLASSES
from rbcnb.smears.sources import synthetic_smears

CONFUSION = [[[8, 0, 1], [0, 8, 1], [1, 1, 50], [1, 1, 8]]] * 4  # of a model that can tell its classes


def make_smears(folder: Path, *, n: int, n_cells: int = 30) -> Path:
    """A folder of *n* rendered smears."""
    folder.mkdir(parents=True, exist_ok=True)
    for smear in synthetic_smears(n, seed=9, n_cells=n_cells):
        Image.fromarray(smear.image).save(folder / smear.name)
    return folder


def make_model(path: Path, *, seed: int = 1) -> Path:
    """A model file that `rbcnb count` takes; its weights are random, but it is said to tell the classes."""
    import torch

    from rbcnb.counting.model_file import ModelCard, save_model
    from rbcnb.segmentation.segment import FinderSpec
    from rbcnb.training.models import build_model

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = build_model("small", len(CLASSES)).eval()
    finder = asdict(FinderSpec(method="learned", upscale="none", size_px=32))
    card = ModelCard("small", CLASSES, 32, finder, 1.3, 0.4, confusion=CONFUSION)
    return save_model(network, card, path)


def make_run(folder: Path) -> Path:
    """The run *folder*/run of every notebook, as small as one can be."""
    out = folder / "run"
    folder.mkdir(parents=True, exist_ok=True)
    done = run(tiny_run.command(out), log=folder / "run.log")
    assert done.code == 0, done.text[-3000:]
    return out


def make_store(folder: Path) -> Path:
    """A store of four finished trials of small fits."""
    small_run(folder)
    return folder / "trials"


def make_cells(folder: Path) -> tuple[Path, list[str]]:
    """A folder of `rbcnb segment` over three smears, and the command that made it, less ``rbcnb``."""
    smears = make_smears(folder / "smears", n=3)
    command = ["segment", str(smears), "--out", str(folder / "cells"), "--method", "paper", "--upscale", "none"]
    command += ["--size", "32"]
    assert main(command) == 0
    return folder / "cells", command


def make_count(folder: Path) -> tuple[Path, list[str]]:
    """A folder of `rbcnb count` over two smears, and the command that made it, less ``rbcnb``."""
    smears, model = make_smears(folder / "smears", n=2), make_model(folder / "model.safetensors")
    command = ["count", str(smears), "--model", str(model), "--out", str(folder / "count")]
    assert main(command) == 0
    return folder / "count", command
