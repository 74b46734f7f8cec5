"""Images on disk: what a smear is, how its file is read, and which files hold the same bytes."""

import hashlib
import re
import threading
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pandas as pd
from PIL import Image, ImageOps, UnidentifiedImageError

from rbcnb.columns import X, Y

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff")
MAX_PIXELS = 200_000_000  # a decoded smear of this size fills 600 MB
_PILLOW_LIMIT = threading.Lock()


class SmearError(ValueError):
    """A smear, or its labels, cannot be read; the message names the file and the mend."""


@dataclass(frozen=True, eq=False)
class Smear:
    """One source image [H,W,3] uint8 RGB, what is known of its cells, and the group an honest split keeps together."""

    name: str
    image: np.ndarray
    truth: pd.DataFrame | None
    group: str


def read_image(path: str | Path) -> np.ndarray:
    """Read a PNG, JPEG, TIFF or BMP as [H,W,3] uint8 RGB, upright by its EXIF orientation.

    Grey, palette, CMYK and 1-bit images become RGB. Of 16-bit samples the high byte is kept, so that 65535 becomes 255
    (a camera's 12 bits in a 16-bit file come out dark: scale such files beforehand). Transparent pixels are laid on
    white. Of a file with several pages the first is read, with a warning. Raises ``SmearError`` for anything else.
    """
    path = Path(path)
    if not path.is_file():
        raise SmearError(f"{path}: no such file; check the path")
    if path.stat().st_size == 0:
        raise SmearError(f"{path}: the file is empty; copy it again from its source")
    try:
        stream = path.open("rb")
    except OSError as error:
        raise SmearError(f"{path}: cannot be opened ({error.strerror}); check who may read it") from error
    with stream:
        try:
            return _decode(stream, path)
        except (SmearError, MemoryError):
            raise
        except UnidentifiedImageError as error:
            raise SmearError(f"{path}: not an image that can be read; save it as PNG, JPEG or TIFF") from error
        except Exception as error:  # damaged bytes make Pillow raise OSError, SyntaxError, struct.error and more
            raise SmearError(f"{path}: damaged or cut short ({error}); copy it again from its source") from error


def _decode(stream: BinaryIO, path: Path) -> np.ndarray:
    with _PILLOW_LIMIT:  # Pillow's own limit is one number for all threads; ours is checked before a pixel is decoded
        before, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            image = Image.open(stream, formats=("PNG", "JPEG", "TIFF", "BMP"))
        finally:
            Image.MAX_IMAGE_PIXELS = before
    if image.width * image.height > MAX_PIXELS:
        raise SmearError(
            f"{path}: {image.width} x {image.height} is over {MAX_PIXELS // 10**6} million pixels; cut it into tiles"
        )
    if (pages := getattr(image, "n_frames", 1)) > 1:
        warnings.warn(f"{path}: has {pages} pages, only the first is read", stacklevel=3)
    image.load()
    image = ImageOps.exif_transpose(image)
    if image.mode == "F" or image.mode.startswith("I"):
        values = np.asarray(image)
        if image.mode == "F" or values.min() < 0 or values.max() > 65535:
            raise SmearError(f"{path}: its samples are not 8 or 16 bit; save it as 8-bit PNG or TIFF")
        return np.repeat((values >> 8).astype(np.uint8)[..., None], 3, axis=-1)
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return np.array(image.convert("RGB"))


def images_in(folder: Path) -> list[Path]:
    """The image files of a folder, hidden ones left out, in natural order: 2.jpg before 10.jpg."""
    paths = (path for path in folder.iterdir() if path.suffix.lower() in IMAGE_SUFFIXES and path.name[0] != ".")
    return sorted((path for path in paths if path.is_file()), key=lambda path: _natural(path.name))


def _natural(name: str) -> list[tuple[int, int, str]]:
    """A sort key that reads the digits in a name as numbers; the name itself breaks ties such as 1 and 01."""
    parts = re.findall(r"([0-9]+)|([^0-9]+)", name.lower())
    return [(0, int(number), "") if number else (1, 0, text) for number, text in parts] + [(2, 0, name)]


def twin_groups(paths: list[Path]) -> dict[Path, str]:
    """Group of each file: the first name among the files of the same bytes. Only files of equal size are hashed."""
    sizes: dict[int, list[Path]] = {}
    for path in paths:
        sizes.setdefault(path.stat().st_size, []).append(path)
    groups = {}
    for same_size in sizes.values():
        first: dict[bytes, str] = {}
        for path in same_size:
            content = hashlib.sha256(path.read_bytes()).digest() if len(same_size) > 1 else b""
            groups[path] = first.setdefault(content, path.name)
    return groups


def read_smears(
    smears: list[tuple[Path, pd.DataFrame | None]], groups: dict[Path, str], errors: list[SmearError] | None
) -> Iterator[Smear]:
    """Decode images one by one and join them with their truth; a bad one goes to *errors*, or is raised without it."""
    for path, truth in smears:
        try:
            image = read_image(path)
            if truth is not None:
                _check_inside(path, image, truth)
        except SmearError as error:
            pass_on(error, errors)
        else:
            yield Smear(path.name, image, truth, groups[path])


def _check_inside(path: Path, image: np.ndarray, truth: pd.DataFrame) -> None:
    height, width = image.shape[:2]
    outside = truth[~(truth[X].between(-0.5, width) & truth[Y].between(-0.5, height))]
    if len(outside):
        x, y = outside.iloc[0][[X, Y]]
        raise SmearError(
            f"{path}: its labels put a cell at x {x:g}, y {y:g}, outside of the {width} x {height} image; "
            "correct the label, or the image if it was cut or turned"
        )


def pass_on(error: SmearError, errors: list[SmearError] | None) -> None:
    """Raise *error*, or collect it where a list is given."""
    if errors is None:
        raise error
    errors.append(error)
