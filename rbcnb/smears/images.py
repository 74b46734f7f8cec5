"""Images on disk: what a smear is, which files of a folder are read and which not, and which hold the same bytes."""

import math
import os
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from rbcnb._utils.errors import SmearError
from rbcnb._utils.files import file_digest
from rbcnb.columns import X, Y
from rbcnb.smears.decode import EXPORT, IMAGE_SUFFIXES, UNREAD_SUFFIXES, decode_image, suffix_by_content
from rbcnb.smears.smear_names import name_fault, shown

COMMON_SUFFIXES = ".png, .jpg or .tif"  # to tell people what to save
MAX_BYTES = 4_000_000_000  # of a file, which is read as a whole
_MOST_NAMED = 10  # folders in a note
_A_BATCH = "cells.csv"  # what a folder holds that `rbcnb segment` or `rbcnb count` filled


@dataclass(frozen=True, eq=False)
class Smear:
    """One source image [H,W,3] uint8 RGB, what is known of its cells, and the group an honest split keeps together."""

    name: str
    image: np.ndarray
    truth: pd.DataFrame | None
    group: str
    cells: pd.DataFrame | None = None  # columns.FOUND and more, where they were found already
    diameter_px: float = math.nan  # of a typical cell, where cells were found already


def read_image(path: str | Path) -> np.ndarray:
    """Read an image file, of whatever kind `IMAGE_SUFFIXES` names, as [H,W,3] uint8 RGB, upright by its orientation.

    Grey, palette, CMYK and 1-bit images become RGB. 16-bit samples keep their 8 highest bits; where none reaches 2**14,
    the file is taken for a camera's 14, 12, 10 or 8 bits, with a warning. Transparent pixels are laid on white. Of a
    TIFF the largest page is read, grey channels together as colours; of other files the first frame. A warning says
    what is left out, or put together.

    Args:
        path: the file.

    Raises:
        SmearError: there is no such file, or it cannot be read as such an image: it is of another kind, too large, all
            transparent, cut short or damaged, be it in the middle of a JPEG, of a PNG, or of a TIFF compressed by JPEG
            or Deflate.
    """
    return decode_image(image_bytes(path), path)


def image_bytes(path: str | Path) -> bytes:
    """The bytes of an image file; raises ``SmearError`` where there are none."""
    path = Path(path)
    if not os.path.isfile(path):
        raise SmearError(f"{path}: no such file; check the path")
    try:
        if (size := path.stat().st_size) > MAX_BYTES:
            raise SmearError(f"{path}: {size / 1e9:.1f} GB are too much for a smear; {EXPORT}")
        data = path.read_bytes()
    except OSError as error:
        raise SmearError(f"{path}: cannot be opened ({error.strerror}); check who may read it") from error
    if not data:
        raise SmearError(f"{path}: the file is empty; copy it again from its source")
    return data


def images_in(folder: Path) -> list[Path]:
    """Image files directly in *folder* (endings in `IMAGE_SUFFIXES`), without hidden ones; 2.jpg before 10.jpg.

    Raises:
        OSError: *folder* cannot be read.
    """
    paths = (path for path in folder.iterdir() if path.suffix.lower() in IMAGE_SUFFIXES and path.name[0] != ".")
    return sorted((path for path in paths if path.is_file()), key=lambda path: _natural(path.name))


def unread_in(folder: Path, *, named: Iterable[Path] = ()) -> list[tuple[str, str]]:
    """(file or folder, message) for what *folder* holds that looks like an image, or holds images, but is not read.

    A file looks like an image by its ending, or else by its first bytes. *named* are other inputs of the command, so
    that a folder within that is named itself is not noted.
    """
    notes, within = [], []
    inputs = {os.path.realpath(path) for path in (folder, *named)}  # unlike resolve, it takes links in a circle
    for path in sorted(folder.iterdir(), key=lambda path: _natural(path.name)):
        suffix = path.suffix.lower()
        if path.name[0] == ".":
            continue
        if path.is_dir():
            if os.path.realpath(path) not in inputs and _holds_images(path):
                within.append(path.name)
        elif not path.is_file():
            if suffix in IMAGE_SUFFIXES and not _dangles(path):
                notes.append((str(path), "is not read: no file of data, but a pipe, a device or the like"))
        elif suffix in UNREAD_SUFFIXES:
            notes.append((str(path), f"is not read: images of this kind cannot be; {UNREAD_SUFFIXES[suffix]}"))
        elif suffix not in IMAGE_SUFFIXES and (meant := suffix_by_content(_first_bytes(path))):
            remedy = UNREAD_SUFFIXES.get(meant, f"give it a name that ends in {meant}")
            notes.append(
                (str(path), f"is not read: it holds an image ({meant}), which its name does not say; {remedy}")
            )
    if within:
        more = f" and {len(within) - _MOST_NAMED} more" if len(within) > _MOST_NAMED else ""
        named_within = ", ".join(within[:_MOST_NAMED]) + more
        notes.append((str(folder), f"folders within it are not looked into: name each of them ({named_within})"))
    return notes


def expand_inputs(
    paths: Iterable[str | Path],
) -> tuple[list[Path], list[tuple[str, str]], list[tuple[str, str]]]:
    """Files and folders -> image files (each once; a folder's by name), and (path, message) of errors and of notes.

    Errors are what cannot be done, notes what is left alone: files of a folder that look like images but are not read,
    and folders within it. Files that share a name, endings aside and in whatever case, are all left out, with an error:
    their cells could not be told apart. So are files of a name that not every table can hold (`name_fault`).
    """
    files, errors, notes = [], [], []
    paths = [Path(path) for path in paths]
    for path in paths:
        if os.path.isdir(path):  # unlike Path's, it takes names that are too long for any file
            found, wrong, left = _in_folder(path, paths)
            files += found
            errors += wrong
            notes += left
        elif os.path.isfile(path):
            files.append(path)
        elif os.path.exists(path):
            errors.append((str(path), "no file of data, but a pipe, a device or the like; name an image"))
        else:
            errors.append((str(path), "no such file or folder, or a link that leads nowhere; check the path"))
    namesakes: dict[str, dict[Path, Path]] = {}
    for path in files:
        name = unicodedata.normalize("NFC", path.stem).casefold()
        namesakes.setdefault(name, {}).setdefault(path.resolve(), path)
    chosen = []
    for same in namesakes.values():
        first, *others = same.values()
        if others:
            errors += [(str(path), _namesake(path, others[0] if path is first else first)) for path in same.values()]
        elif fault := name_fault(first):
            errors.append((str(first), fault))
        else:
            chosen.append(first)
    return chosen, errors, notes


def identical_image_groups(paths: list[Path]) -> dict[Path, str]:
    """Group of each file: the first name among the files of the same bytes. Only files of equal size are hashed.

    A name that several of *paths* have in different folders names no file, so their whole paths stand in its place.

    Raises:
        OSError: a file cannot be read.
    """
    namesakes = Counter(path.name for path in set(paths))
    sizes: dict[int, list[Path]] = {}
    for path in paths:
        sizes.setdefault(path.stat().st_size, []).append(path)
    groups = {}
    for same_size in sizes.values():
        first: dict[str, str] = {}
        for path in same_size:
            content = file_digest(path) if len(same_size) > 1 else ""
            groups[path] = first.setdefault(content, path.name if namesakes[path.name] == 1 else str(path))
    return groups


def read_smears(
    smears: list[tuple[Path, pd.DataFrame | None]], groups: dict[Path, str], errors: list[SmearError] | None
) -> Iterator[Smear]:
    """Decode images one by one and join them with their truth; a bad one goes to *errors*, or is raised without it."""
    for path, truth in smears:
        try:
            if fault := name_fault(path):
                raise SmearError(f"{shown(path)}: {fault}")
            image = read_image(path)
            if truth is not None:
                _check_inside(path, image, truth)
        except SmearError as error:
            collect_or_raise(error, errors)
        else:
            yield Smear(path.name, image, truth, groups[path])


def collect_or_raise(error: SmearError, errors: list[SmearError] | None) -> None:
    """Raise *error*, or collect it where a list is given."""
    if errors is None:
        raise error
    errors.append(error)


def _first_bytes(path: Path) -> bytes:
    try:
        with path.open("rb") as stream:
            return stream.read(32)
    except OSError:  # not ours to read
        return b""


def _natural(name: str) -> list[tuple[int, int, str]]:
    """A sort key that reads the digits in a name as numbers; the name itself breaks ties such as 1 and 01."""
    parts = re.findall(r"([0-9]+)|([^0-9]+)", name.lower())
    return [(0, int(number), "") if number else (1, 0, text) for number, text in parts] + [(2, 0, name)]


def _in_folder(folder: Path, named: list[Path]) -> tuple[list[Path], list[tuple[str, str]], list[tuple[str, str]]]:
    try:
        inside = images_in(folder)
        broken = [path for path in sorted(folder.iterdir()) if path.suffix.lower() in IMAGE_SUFFIXES and _dangles(path)]
        within = [path.name for path in sorted(folder.iterdir()) if path.is_dir() and path.name[0] != "."]
        unread = unread_in(folder, named=named)
    except OSError as error:
        return [], [(str(folder), f"cannot be listed ({error.strerror}); check who may read it")], []
    errors = [(str(path), "a link that leads nowhere; correct or remove it") for path in broken]
    if not inside and not errors:
        remedy = f"put smears there as {COMMON_SUFFIXES}"
        if within and all(place == str(folder) for place, _ in unread):
            unread = []  # the error says it
            remedy = f"folders within it, such as {within[0]}, are not looked into: name each of them"
        what = "no image that can be read" if unread else "no image"
        errors = [(str(folder), f"{what} in this folder; {remedy}")]
    return inside, errors, unread


def _namesake(path: Path, other: Path) -> str:
    if path.parent == other.parent:
        return (
            f"{other.name} beside it has the same name, so that their cells could not be told apart: if one is a mask, "
            "or a copy in another format, move it to a folder of its own; if both are smears, rename one"
        )
    return f"has the same name as {other}; rename one, or segment them into two folders"


def _holds_images(folder: Path) -> bool:
    """Whether there is an image in *folder*, at any depth; what this package wrote there does not count."""
    for place, folders, files in os.walk(folder):
        if _A_BATCH in files:
            folders.clear()
            continue
        folders[:] = [name for name in folders if name[0] != "."]
        if any(name[0] != "." and Path(place, name).suffix.lower() in IMAGE_SUFFIXES for name in files):
            return True
    return False


def _dangles(path: Path) -> bool:
    return path.is_symlink() and not path.exists()


def _check_inside(path: Path, image: np.ndarray, truth: pd.DataFrame) -> None:
    height, width = image.shape[:2]
    outside = truth[~(truth[X].between(-0.5, width) & truth[Y].between(-0.5, height))]
    if len(outside):
        x, y = outside.iloc[0][[X, Y]]
        raise SmearError(
            f"{path}: its labels put a cell at x {x:g}, y {y:g}, outside of the {width} x {height} image; "
            "correct the label, or the image if it was cut or turned"
        )
