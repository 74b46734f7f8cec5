"""Chula RBC-12 (Naruenatthanaset et al., 2021): 640 x 480 smears of human blood with a labelled point in each cell.

`fetch_chula` downloads it, `chula_smears` reads its smears, and `chula_truth` all its labels.
"""

import logging
import math
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

import numpy as np
import pandas as pd
import pooch

from rbcnb._utils.errors import UnfinishedError
from rbcnb._utils.progress import progress
from rbcnb._utils.read_files import cause_of, read_bytes, shown, system_fault
from rbcnb.columns import CODOCYTE, GROUP, HYPOCHROMIA, LABEL, NORMAL, RADIUS, SMEAR, X, Y
from rbcnb.smears.images import Smear, SmearError, collect_or_raise, identical_image_groups, images_in, read_smears

# The numbers in the label files of Chula RBC-12, from its README; the paper's three classes have our names.
CHULA_TYPES = {
    0: NORMAL,
    1: "macrocyte",
    2: "microcyte",
    3: "spherocyte",
    4: CODOCYTE,
    5: "stomatocyte",
    6: "ovalocyte",
    7: "teardrop",
    8: "burr_cell",
    9: "schistocyte",
    10: "uncategorised",
    11: HYPOCHROMIA,
    12: "elliptocyte",
}
REPOSITORY = "Chula-PIC-Lab/Chula-RBC-12-Dataset"
COMMIT = "fa130f48135d79bbd69f8e540b533511017d6896"  # after the label corrections and the elliptocytes of 2021
BASE_URL = f"https://raw.githubusercontent.com/{REPOSITORY}/{COMMIT}/"
REGISTRY = Path(__file__).with_name("chula_sha256.txt")
_GIVE_UP = 20  # this many failures before a first success: the server is out of reach, so the rest is not asked for


def chula_smears(
    root: str | Path,
    *,
    types: str | Iterable[str] = (NORMAL, CODOCYTE, HYPOCHROMIA),
    n: int | None = None,
    seed: int = 0,
    errors: list[SmearError] | None = None,
) -> Iterator[Smear]:
    """Reads Chula RBC-12 in its published layout: ``root/Dataset/N.jpg``, ``root/Label/N.txt`` (lines ``x y type``).

    Radii are not given (NaN). Images without a label file are left out. Identical images share a group.

    Args:
        root: the data set's folder.
        types: names out of ``CHULA_TYPES``, or "all". The truth holds the cells of these types only: other cells are in
            the image and not in the truth, as are cells that the dataset's readers left unlabelled; so a found cell
            without truth is no error of the finder. Smears without a cell of these types are left out.
        n: smears to draw; None for all. They are drawn in turn over the types, each time the next smear of a seeded
            order that holds the type, so that every type is represented where *n* allows and a smaller *n* gives the
            first smears of a larger. They are chosen from the label files, before any image is decoded.
        seed: of the draw.
        errors: takes what is wrong with a smear, and the others follow; None raises it.

    Raises:
        SmearError: *root* is not the data set, no smear holds a cell of *types*, or, without *errors*, a file cannot be
            used.
    """
    root = Path(root)
    images, labels = root / "Dataset", root / "Label"
    if not images.is_dir() or not labels.is_dir():
        raise SmearError(
            f"{root}: not the Chula RBC-12 dataset (it has the folders Dataset and Label); "
            f"give its folder, or get it with: rbcnb fetch chula --out {root}"
        )
    wanted = _wanted_types(types)
    truths: dict[Path, pd.DataFrame] = {}
    paths = images_in(images)
    for path in paths:
        label_file = labels / f"{path.stem}.txt"
        if not label_file.exists():
            continue
        try:
            truth = read_chula_labels(label_file)
        except SmearError as error:
            collect_or_raise(error, errors)
            continue
        truth = truth[truth[LABEL].isin(wanted)].reset_index(drop=True)
        if len(truth):
            truths[path] = truth
    if not truths:
        raise SmearError(f"{root}: no labelled smear holds a cell of {', '.join(wanted)}; ask for other types")
    chosen = list(truths) if n is None else _draw(truths, wanted, n, seed)
    # Not `field_groups`: the published study was dealt out so. `benchmarks/overlaps.py` says what that means for it.
    yield from read_smears([(path, truths[path]) for path in chosen], identical_image_groups(paths), errors)


def chula_truth(root: str | Path) -> pd.DataFrame:
    """Every label of Chula RBC-12, of every type, without decoding an image.

    Needed where readings are compared: of the asked-for types alone, a cell that one reader calls normal and the other
    macrocyte would look as if nobody had doubted it.

    Args:
        root: the data set's folder.

    Returns:
        One row per label: ``smear``, ``group`` (shared by identical images), ``x_px``, ``y_px``, ``radius_px`` (NaN)
        and ``label``.

    Raises:
        SmearError: a label file is damaged.
        FileNotFoundError: *root* has no folder ``Dataset``.
        ValueError: no image has a label file.
    """
    root = Path(root)
    groups = identical_image_groups(images_in(root / "Dataset"))
    tables = [
        read_chula_labels(label_file).assign(**{SMEAR: path.name, GROUP: group})
        for path, group in groups.items()
        if (label_file := root / "Label" / f"{path.stem}.txt").exists()
    ]
    return pd.concat(tables, ignore_index=True)[[SMEAR, GROUP, X, Y, RADIUS, LABEL]]


def read_chula_labels(path: str | Path) -> pd.DataFrame:
    """Read one label file of Chula RBC-12 (lines ``x y type``): truth with every type by name, radii NaN."""
    path = Path(path)
    rows = []
    text = read_bytes(path, remedy="fetch it again: rbcnb fetch chula", error=SmearError).decode("utf-8-sig", "replace")
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.split():
            continue
        try:
            x, y, kind = chula_label(line)
        except ValueError as error:
            raise SmearError(f"{path}: line {number} is {error}") from error
        rows.append((x, y, math.nan, kind))
    return pd.DataFrame(rows, columns=[X, Y, RADIUS, LABEL]).astype({X: float, Y: float, RADIUS: float, LABEL: object})


def chula_label(line: str) -> tuple[float, float, str]:
    """The x and y in pixels and the type by name of a *line* ``x y type``; raises ValueError where it is none."""
    try:
        x, y, kind = line.split()
        place = float(x), float(y)
        if all(map(math.isfinite, place)):
            return *place, CHULA_TYPES[int(kind)]
    except (ValueError, KeyError):
        pass
    raise ValueError(f"{shown(line.strip())}; it must be `x y type`, two numbers and a type 0..12")


def _wanted_types(types: str | Iterable[str]) -> tuple[str, ...]:
    """Names of Chula types, checked; "all" is every one; a comma-separated string is a list."""
    known = tuple(CHULA_TYPES.values())
    wanted = known if types == "all" else tuple(types.split(",") if isinstance(types, str) else types)
    wanted = tuple(dict.fromkeys(name.strip() for name in wanted))
    if unknown := [name for name in wanted if name not in known]:
        raise SmearError(f"Chula RBC-12 has no type {', '.join(unknown)}; its types are {', '.join(known)}, or all")
    if not wanted:
        raise SmearError(f"no type asked for; choose from {', '.join(known)}, or all")
    return wanted


def _draw(truths: dict[Path, pd.DataFrame], wanted: tuple[str, ...], n: int, seed: int) -> list[Path]:
    """Draw *n* smears, round-robin over the types: each time the next smear of a seeded order that holds the type."""
    order = [list(truths)[i] for i in np.random.default_rng(seed).permutation(len(truths))]
    chosen: dict[Path, None] = {}
    while len(chosen) < min(n, len(truths)):
        for name in wanted:
            holder = next((p for p in order if p not in chosen and (truths[p][LABEL] == name).any()), None)
            if holder is not None and len(chosen) < n:
                chosen[holder] = None
    return list(chosen)


class FetchError(UnfinishedError):
    """Some files could not be fetched; the message has a line for each. What was fetched is kept."""


def fetch_chula(
    out: str | Path,
    *,
    base_url: str = BASE_URL,
    registry: Mapping[str, str] | None = None,
    retries: int = 3,
) -> Path:
    """Downloads a data set into *out* and returns *out*.

    Files that are there with the right hash are not asked for again, so a stopped download carries on where it stopped;
    a file takes its name only once it is complete and its hash is right. Four downloads run at once.

    Args:
        out: folder of the data set.
        base_url: address of its files.
        registry: name of each file -> its SHA-256; None for Chula RBC-12.
        retries: further tries of a file that failed.

    Raises:
        FetchError: files failed; the message names each, after all others were downloaded.
    """
    out = Path(out)
    store = pooch.create(path=out, base_url=base_url, registry=registry, retry_if_failed=retries)
    if registry is None:
        store.load_registry(REGISTRY)
    names = store.registry_files
    try:
        for folder in {(out / name).parent for name in names} | {out}:  # before the threads race to make them
            folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FetchError(f"{out}: cannot be made a folder ({cause_of(error)}); choose another") from error
    # pooch logs a line for every file; the bar says it shorter.
    logger = pooch.get_logger()
    level = logger.level
    logger.setLevel(logging.ERROR)
    download = pooch.HTTPDownloader(timeout=30)
    failed: dict[str, str] = {}
    fetched = 0
    try:
        with ThreadPoolExecutor(4) as pool:
            waiting = {pool.submit(store.fetch, name, downloader=download): name for name in names}
            try:
                for done in progress(as_completed(waiting), total=len(names), unit="file"):
                    try:
                        done.result()
                        fetched += 1
                    except (OSError, ValueError) as error:  # requests' errors are OSErrors, a wrong hash a ValueError
                        failed[waiting[done]] = _reason(error)
                    if not fetched and len(failed) >= _GIVE_UP:
                        break
            finally:
                pool.shutdown(cancel_futures=True)
    finally:
        logger.setLevel(level)
    if failed:
        lines = "".join(f"\n  {name}: {reason}" for name, reason in sorted(failed.items()))
        raise FetchError(
            f"{len(failed)} of {len(names)} files could not be fetched from {base_url} into {out}; {fetched} are there "
            f"and are kept. Run the same command again to fetch the rest.{lines}"
        )
    return out


def _reason(error: Exception) -> str:
    if isinstance(error, ValueError) and "hash" in str(error).lower():
        return "its SHA-256 is not the registry's: damaged on the way, or changed at the source"
    return system_fault(error) if isinstance(error, OSError) else cause_of(error)
