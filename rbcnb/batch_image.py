"""What a batch keeps of one image: its crops, and its cells under a key over the image, the settings and the code."""

import hashlib
import json
import os
import shutil
from dataclasses import asdict, dataclass, replace
from functools import cache, lru_cache
from importlib import metadata
from pathlib import Path

import cv2
import numpy as np
import pandas as pd

from rbcnb import waifu
from rbcnb.segmentation import FinderSpec
from rbcnb.stamps import code_stamp, with_imports

_LIBRARIES = ("ncnn", "numpy", "opencv-python", "opencv-python-headless", "pillow")  # that pixels may depend on


@dataclass(frozen=True, eq=False)
class ImageCells:
    """What came of an image."""

    cells: pd.DataFrame
    notes: list[str]
    resumed: bool
    key: str


def image_key(data: bytes, name: str, spec: FinderSpec, device: str) -> str:
    """Changes when the image's bytes or *name*, the settings, the code or the libraries do."""
    # The network is what its files hold, wherever they lie.
    network = _network_stamp(waifu.model_folder(spec.models)) if spec.upscale == "waifu2x" else ""
    settings = asdict(replace(spec, models=None))
    digest = hashlib.sha256(json.dumps([_stamp(), network, name, settings, device], default=str).encode())
    digest.update(data)
    return digest.hexdigest()


@lru_cache
def _network_stamp(folder: Path) -> str:
    return hashlib.sha256(b"".join(path.read_bytes() for path in waifu.model_files(folder))).hexdigest()


@cache
def _stamp() -> list[str]:
    """What code and which libraries make a table and its crops."""
    versions = []
    for name in _LIBRARIES:
        try:
            versions.append(f"{name} {metadata.version(name)}")
        except metadata.PackageNotFoundError:
            continue
    return [code_stamp("batch", "batch_image", *with_imports("images", "segmentation")), *versions]


def load_finished(part: Path, crops: Path, key: str) -> ImageCells | None:
    """What an earlier run made, if of the same image and settings, and if all its crops are still there."""
    try:
        saved = json.loads(part.read_text(encoding="utf-8"))
        if saved["key"] != key:
            return None
        table, notes = pd.DataFrame(saved["cells"]), list(saved["notes"])
    except (OSError, ValueError, KeyError, TypeError):  # none, or damaged: the image is done again
        return None
    present = {path.name for path in crops.glob("*.png")}
    return ImageCells(table, notes, True, key) if present == {_crop_name(cell) for cell in range(len(table))} else None


def read_crops(out: Path, smear: str, n_cells: int, size_px: int) -> np.ndarray:
    """The crops [N, S, S, 3] uint8 RGB that a batch wrote into *out* for the image file called *smear*."""
    folder = out / "crops" / Path(smear).stem
    crops = np.empty((n_cells, size_px, size_px, 3), np.uint8)
    for cell, crop in enumerate(crops):
        data = np.frombuffer((folder / _crop_name(cell)).read_bytes(), np.uint8)
        cv2.cvtColor(cv2.imdecode(data, cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB, dst=crop)
    return crops


def write_crops(folder: Path, crops: np.ndarray) -> None:
    """Replace *folder* by one with these crops, so that none of an earlier run is left among them."""
    temporary = folder.with_name(f".{folder.name}.part")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    for cell, crop in enumerate(crops):
        _, png = cv2.imencode(".png", cv2.cvtColor(crop, cv2.COLOR_RGB2BGR))
        (temporary / _crop_name(cell)).write_bytes(png)  # OpenCV itself cannot write to every name on Windows
    if folder.exists():
        shutil.rmtree(folder)
    os.replace(temporary, folder)


def _crop_name(cell: int) -> str:
    return f"{cell:04d}.png"
