"""Images on disk: what a smear is, how its file is read, which files a folder holds, and which hold the same bytes."""

import io
import os
import re
import threading
import unicodedata
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
from PIL import Image, ImageChops, ImageOps, UnidentifiedImageError

from rbcnb._utils.files import file_digest
from rbcnb.columns import X, Y

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".webp")
MAX_PIXELS = 200_000_000  # a decoded smear of this size fills 600 MB
_PILLOW_LIMIT = threading.Lock()
_PLANES, _BITS = 284, 258  # TIFF's tags PlanarConfiguration and BitsPerSample
_ORIENTATION = 0x0112  # EXIF's tag
_LONGEST_NAME = 230  # bytes: file systems allow 255, and temporary names are longer than the file's own


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
    """Read a PNG, JPEG, TIFF, BMP or WebP as [H,W,3] uint8 RGB, upright by its EXIF orientation.

    Grey, palette, CMYK and 1-bit images become RGB. 16-bit samples keep their 8 highest bits; where none reaches 2**14,
    the file is taken for a camera's 14, 12, 10 or 8 bits, with a warning. Transparent pixels are laid on
    white. Of a file with several pages the first is read, with a warning. Raises ``SmearError`` for anything else.
    """
    return decode_image(image_bytes(path), path)


def image_bytes(path: str | Path) -> bytes:
    """The bytes of an image file; raises ``SmearError`` where there are none."""
    path = Path(path)
    if not path.is_file():
        raise SmearError(f"{path}: no such file; check the path")
    try:
        data = path.read_bytes()
    except OSError as error:
        raise SmearError(f"{path}: cannot be opened ({error.strerror}); check who may read it") from error
    if not data:
        raise SmearError(f"{path}: the file is empty; copy it again from its source")
    return data


def decode_image(data: bytes, path: str | Path) -> np.ndarray:
    """The image whose file *path* holds *data*, as `read_image` gives it."""
    path = Path(path)
    try:
        return _decode(data, path)
    except (SmearError, MemoryError):
        raise
    except UnidentifiedImageError as error:
        raise SmearError(f"{path}: not an image that can be read; save it as PNG, JPEG or TIFF") from error
    except Exception as error:  # damaged bytes make Pillow raise OSError, SyntaxError, struct.error and more
        raise SmearError(f"{path}: damaged or cut short ({error}); copy it again from its source") from error


def images_in(folder: Path) -> list[Path]:
    """The image files of a folder, hidden ones left out, in natural order: 2.jpg before 10.jpg."""
    paths = (path for path in folder.iterdir() if path.suffix.lower() in IMAGE_SUFFIXES and path.name[0] != ".")
    return sorted((path for path in paths if path.is_file()), key=lambda path: _natural(path.name))


def expand_inputs(paths: Iterable[str | Path]) -> tuple[list[Path], list[tuple[str, str]]]:
    """Files and folders -> image files (each once; a folder's by name), and (path, message) for what cannot be done.

    Folders within a folder are not looked into. Files that share a name, endings aside and in whatever case, are all
    left out: their cells could not be told apart.
    """
    files, errors = [], []
    for path in map(Path, paths):
        if path.is_dir():
            found, wrong = _in_folder(path)
            files += found
            errors += wrong
        elif path.exists():
            files.append(path)
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
            for path in same.values():
                other = others[0] if path is first else first
                errors.append(
                    (str(path), f"has the same name as {other}; rename one, or segment them into two folders")
                )
        elif len(os.fsencode(first.stem)) > _LONGEST_NAME:
            errors.append((str(first), f"its name is too long for a folder of crops; keep to {_LONGEST_NAME} bytes"))
        else:
            chosen.append(first)
    return chosen, errors


def identical_image_groups(paths: list[Path]) -> dict[Path, str]:
    """Group of each file: the first name among the files of the same bytes. Only files of equal size are hashed."""
    sizes: dict[int, list[Path]] = {}
    for path in paths:
        sizes.setdefault(path.stat().st_size, []).append(path)
    groups = {}
    for same_size in sizes.values():
        first: dict[str, str] = {}
        for path in same_size:
            content = file_digest(path) if len(same_size) > 1 else ""
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
            collect_or_raise(error, errors)
        else:
            yield Smear(path.name, image, truth, groups[path])


def collect_or_raise(error: SmearError, errors: list[SmearError] | None) -> None:
    """Raise *error*, or collect it where a list is given."""
    if errors is None:
        raise error
    errors.append(error)


def _decode(data: bytes, path: Path) -> np.ndarray:
    with _PILLOW_LIMIT:  # Pillow's own limit is one number for all threads; ours is checked before a pixel is decoded
        before, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            image = Image.open(io.BytesIO(data), formats=("PNG", "JPEG", "TIFF", "BMP", "WEBP"))
        finally:
            Image.MAX_IMAGE_PIXELS = before
    if image.width * image.height > MAX_PIXELS:
        raise SmearError(
            f"{path}: {image.width} x {image.height} is over {MAX_PIXELS // 10**6} million pixels; cut it into tiles"
        )
    if (pages := getattr(image, "n_frames", 1)) > 1:
        warnings.warn(f"{path}: has {pages} pages, only the first is read", stacklevel=4)
    tags = getattr(image, "tag_v2", {})
    if tags.get(_PLANES) == 2 and max(tags.get(_BITS, (8,))) > 8:  # Pillow and OpenCV both give wrong pixels
        raise SmearError(f"{path}: its 16-bit colours lie in separate planes; save it interleaved, or as 8-bit PNG")
    deep = image.mode in ("RGB", "RGBA", "LA") and any(";16" in str(tile[3]) for tile in image.tile)
    image.load()
    orientation = image.getexif().get(_ORIENTATION)
    if image.mode == "F" or image.mode.startswith("I"):
        values = np.asarray(image)
        if image.mode == "F" or values.min() < 0 or values.max() > 65535:
            raise SmearError(f"{path}: its samples are not 8 or 16 bit; save it as 8-bit PNG or TIFF")
        image = Image.fromarray(_eight_bits(values.astype(np.uint16), path))
    elif deep:
        image = _deep_colour(data, image, path)
    if image.format == "JPEG" and image.mode == "CMYK" and "adobe" not in image.info:
        image = ImageChops.invert(image)  # Pillow takes ink for upside down, as Adobe writes it, marked or not
    if image.has_transparency_data:
        image = image.convert("RGBA")
        if image.getextrema()[3][1] == 0:
            raise SmearError(f"{path}: every pixel is transparent; save it without an alpha channel")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    image = image.convert("RGB")
    image.info.clear()  # of all that the file says beside its pixels only this is to be heeded
    image.getexif()[_ORIENTATION] = orientation
    ImageOps.exif_transpose(image, in_place=True)
    return np.array(image)


def _deep_colour(data: bytes, image: Image.Image, path: Path) -> Image.Image:
    """A 16-bit colour image in 8 bits; Pillow itself drops the low byte, and with it all that a 12-bit camera saw."""
    pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if pixels is None or pixels.dtype != np.uint16 or pixels.shape[:2] != (image.height, image.width):
        return image  # a layout that OpenCV does not know
    if pixels.ndim == 2 or pixels.shape[2] not in (3, 4):
        return image
    colour = _eight_bits(np.ascontiguousarray(pixels[..., 2::-1]), path)
    if pixels.shape[2] == 4:
        colour = np.dstack([colour, (pixels[..., 3] >> 8).astype(np.uint8)])
    return Image.fromarray(colour)


def _eight_bits(values: np.ndarray, path: Path) -> np.ndarray:
    """uint16 samples -> uint8 by the highest bit that any of them uses, taken for a depth of 8, 10, 12, 14 or 16."""
    used = int(values.max()).bit_length()
    bits = next(bits for bits in (8, 10, 12, 14, 16) if used <= bits) if used else 16
    if bits < 16:
        warnings.warn(f"{path}: its 16-bit samples use {used} bits, read as a camera's {bits}", stacklevel=5)
    return (values >> (bits - 8)).astype(np.uint8)


def _natural(name: str) -> list[tuple[int, int, str]]:
    """A sort key that reads the digits in a name as numbers; the name itself breaks ties such as 1 and 01."""
    parts = re.findall(r"([0-9]+)|([^0-9]+)", name.lower())
    return [(0, int(number), "") if number else (1, 0, text) for number, text in parts] + [(2, 0, name)]


def _in_folder(folder: Path) -> tuple[list[Path], list[tuple[str, str]]]:
    try:
        inside = images_in(folder)
        broken = [path for path in sorted(folder.iterdir()) if path.suffix.lower() in IMAGE_SUFFIXES and _dangles(path)]
        within = [path.name for path in sorted(folder.iterdir()) if path.is_dir() and path.name[0] != "."]
    except OSError as error:
        return [], [(str(folder), f"cannot be listed ({error.strerror}); check who may read it")]
    errors = [(str(path), "a link that leads nowhere; mend or remove it") for path in broken]
    if not inside and not errors:
        mend = f"put smears there as {', '.join(IMAGE_SUFFIXES)}"
        if within:
            mend = f"folders within it, such as {within[0]}, are not looked into: name each of them"
        errors = [(str(folder), f"no image in this folder; {mend}")]
    return inside, errors


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
