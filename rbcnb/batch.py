"""Algorithm 1 on many files: crops and one table of cells in a folder. Stopped or run again, it carries on.

DIR/cells.csv            one row per cell of the images of this run
DIR/crops/<smear>/0000.png    the crop of cell 0 of <smear> (file name without ending), and so on
DIR/errors.csv           file, message: what could not be segmented; absent if all went well
DIR/parts/<smear>.json   the cells of one finished image and a key over its bytes and settings
"""

import hashlib
import json
import os
import shutil
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path

import cv2
import joblib
import numpy as np
import pandas as pd
from tqdm import tqdm

from rbcnb import __version__, superres
from rbcnb.columns import BORDER, FOUND, SMEAR
from rbcnb.files import write_whole
from rbcnb.images import IMAGE_SUFFIXES, images_in, read_image
from rbcnb.segmentation import FinderSpec, segment_smear
from rbcnb.workers import in_worker

CROP_SCALE = "crop_scale"  # pixels of the crop per pixel of the smear
COLUMNS = (*FOUND, BORDER, CROP_SCALE)


@dataclass(frozen=True)
class BatchReport:
    """What ``segment_files`` did."""

    n_images: int  # segmented, now or by an earlier run
    n_resumed: int  # of these, taken from an earlier run
    n_cells: int
    errors: tuple[tuple[str, str], ...]  # (file, message)
    cells_csv: Path


def segment_files(
    paths: Iterable[str | Path],
    out: str | Path,
    *,
    spec: FinderSpec | None = None,
    jobs: int = 1,
    progress: bool = True,
) -> BatchReport:
    """Find and crop the cells of image files and of the images in folders; see the module for what *out* then holds.

    A file that fails is reported and never stops the others. An image that an earlier run finished with the same bytes,
    the same settings and this version of the package is not done again. ``cells.csv`` speaks of the images of this run
    alone; name all inputs again to add some.

    paths : images, or folders whose PNG, JPEG and TIFF files are taken (not those of folders within).
    jobs : images worked on at once, each in a process of its own.

    Raises ValueError, before any work, when two different inputs share a name: their crops would share a folder.
    """
    if jobs < 1:
        raise ValueError(f"jobs must be at least 1, not {jobs}")
    spec = spec or FinderSpec()
    if spec.upscale in superres.METHODS:  # here, so that the fallback is said once and is part of each image's key
        spec = replace(spec, upscale=superres.usable_method(spec.upscale, models=spec.models))
    out = Path(out)
    images, errors = expand_inputs(paths)
    out.mkdir(parents=True, exist_ok=True)

    # Processes share the cores among them instead of each taking all.
    jobs = min(jobs, max(1, len(images)))
    threads = max(1, (os.cpu_count() or 1) // jobs) if jobs > 1 else None
    try_one = _try_image if jobs == 1 else partial(in_worker, _try_image)
    parallel = joblib.Parallel(n_jobs=jobs, return_as="generator")
    outcomes = parallel(joblib.delayed(try_one)(path, out, spec, threads) for path in images)
    tables, n_resumed = [], 0
    for path, outcome in zip(
        images, tqdm(outcomes, total=len(images), unit="image", disable=not progress), strict=True
    ):
        if isinstance(outcome, str):
            errors.append((str(path), outcome))
        else:
            table, resumed = outcome
            tables.append(table)
            n_resumed += resumed

    full = [table for table in tables if len(table)]
    cells = pd.concat(full, ignore_index=True) if full else pd.DataFrame(columns=list(COLUMNS))
    with write_whole(out / "cells.csv") as part:
        cells.to_csv(part, index=False, float_format="%.4f")
    if errors:
        with write_whole(out / "errors.csv") as part:
            pd.DataFrame(errors, columns=["file", "message"]).to_csv(part, index=False)
    else:
        (out / "errors.csv").unlink(missing_ok=True)
    return BatchReport(len(tables), n_resumed, len(cells), tuple(errors), out / "cells.csv")


def expand_inputs(paths: Iterable[str | Path]) -> tuple[list[Path], list[tuple[str, str]]]:
    """Files and folders -> image files (each once; a folder's by name), and (path, message) for what holds no image.

    Raises ValueError when two files share a name, endings aside and in whatever case.
    """
    files, errors = [], []
    for path in map(Path, paths):
        if path.is_dir():
            inside = images_in(path)
            if not inside:
                errors.append((str(path), f"no image in this folder; put smears there as {', '.join(IMAGE_SUFFIXES)}"))
            files += inside
        elif path.exists():
            files.append(path)
        else:
            errors.append((str(path), "no such file or folder; check the path"))
    chosen: dict[str, Path] = {}
    for path in files:
        first = chosen.setdefault(path.stem.casefold(), path)
        if first.resolve() != path.resolve():
            raise ValueError(
                f"{first} and {path} have the same name, so their cells could not be told apart: "
                "rename one, or segment them into two folders"
            )
    return list(chosen.values()), errors


def _try_image(path: Path, out: Path, spec: FinderSpec, threads: int | None) -> tuple[pd.DataFrame, bool] | str:
    """The table of one image and whether an earlier run made it, or the message of what went wrong."""
    if threads is not None:
        cv2.setNumThreads(threads)
    try:
        return _segment_image(path, out, spec)
    except Exception as error:  # whatever ails one file, the others are still to be done
        return str(error) or type(error).__name__


def _segment_image(path: Path, out: Path, spec: FinderSpec) -> tuple[pd.DataFrame, bool]:
    part, crops = out / "parts" / f"{path.stem}.json", out / "crops" / path.stem
    key = _key(path, spec)
    if (table := _finished(part, crops, key)) is not None:
        return table, True

    found = segment_smear(read_image(path), spec)
    table = found.cells.assign(**{SMEAR: path.name, CROP_SCALE: spec.size_px / found.diameter_px})[list(COLUMNS)]
    # The part says "finished", so it goes first and comes last.
    part.unlink(missing_ok=True)
    _write_crops(crops, found.crops)
    with write_whole(part) as temporary:
        temporary.write_text(json.dumps({"key": key, "cells": table.to_dict("list")}), encoding="utf-8")
    return table, False


def _key(path: Path, spec: FinderSpec) -> str:
    digest = hashlib.sha256(json.dumps([__version__, path.name, asdict(spec)], default=str).encode())
    if path.is_file():
        digest.update(path.read_bytes())
    return digest.hexdigest()


def _finished(part: Path, crops: Path, key: str) -> pd.DataFrame | None:
    """The table of an earlier run, if it is of the same image and settings and all its crops are still there."""
    try:
        saved = json.loads(part.read_text(encoding="utf-8"))
        if saved["key"] != key:
            return None
        table = pd.DataFrame(saved["cells"], columns=list(COLUMNS))
    except (OSError, ValueError, KeyError, TypeError):  # none, or damaged: the image is done again
        return None
    present = {path.name for path in crops.glob("*.png")}
    return table if present == {_crop_name(cell) for cell in range(len(table))} else None


def _write_crops(folder: Path, crops: np.ndarray) -> None:
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
