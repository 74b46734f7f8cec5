"""Bytes of an image file -> pixels: which kinds of file are read, and what is to be done with the others."""

import io
import re
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

import numpy as np
from PIL import Image, ImageChops, ImageOps, UnidentifiedImageError

from rbcnb._utils.errors import SmearError, SmearWarning
from rbcnb._utils.opencv import cv2
from rbcnb.smears import damage, tiff
from rbcnb.smears.tiff import check_size, eight_bits

IMAGE_SUFFIXES = (
    *(".png", ".apng", ".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".tif", ".tiff", ".bmp", ".dib", ".webp", ".gif"),
    *(".jp2", ".j2k", ".j2c", ".jpf", ".jpx", ".avif", ".ppm", ".pgm", ".pbm", ".pnm"),
    *(".svs", ".ndpi", ".scn", ".qptiff", ".btf", ".tf8", ".lsm", ".stk", ".dng"),  # kinds of TIFF
)
_FORMATS = ("PNG", "JPEG", "TIFF", "BMP", "DIB", "WEBP", "GIF", "JPEG2000", "AVIF", "PPM")  # Pillow's names
_SAVE = "save it as PNG, JPEG or TIFF"
_DEVELOP = "develop it in the camera's program or a raw converter, and save it as TIFF or PNG"
EXPORT = "export the picture, or the part with the cells, as TIFF or PNG from the program that wrote it"
UNREAD_SUFFIXES = {  # images that are not read here -> what to do
    **dict.fromkeys((".heic", ".heif", ".hif", ".jxl", ".jxr", ".wdp", ".jls", ".psd", ".psb", ".xcf", ".kra"), _SAVE),
    **dict.fromkeys((".tga", ".pcx", ".sgi", ".ras", ".exr", ".hdr", ".pfm", ".pam", ".ico", ".svg", ".eps"), _SAVE),
    **dict.fromkeys((".dcm", ".dicom", ".fits", ".fit", ".nii", ".mrc", ".emf", ".wmf", ".iff", ".flif"), _SAVE),
    **dict.fromkeys((".raw", ".cr2", ".cr3", ".crw", ".nef", ".nrw", ".arw", ".srf", ".sr2", ".orf"), _DEVELOP),
    **dict.fromkeys((".rw2", ".raf", ".pef", ".srw", ".x3f", ".3fr", ".erf", ".kdc", ".mrw", ".rwl"), _DEVELOP),
    **dict.fromkeys((".czi", ".zvi", ".lif", ".lof", ".nd2", ".oib", ".oif", ".oir", ".vsi", ".ets"), EXPORT),
    **dict.fromkeys((".mrxs", ".vms", ".bif", ".svslide", ".isyntax", ".kfb", ".sdpc", ".tmap", ".ims"), EXPORT),
}
_SIGNATURES = {  # of files whose name does not say what they are -> the ending that does
    rb"\x89PNG\r\n": ".png",
    rb"\xff\xd8\xff": ".jpg",
    rb"(II[*+]\0|MM\0[*+])": ".tif",
    rb"GIF8[79]a": ".gif",
    rb"BM.{12}[\x0c\x28\x38\x40\x6c\x7c]\0\0\0": ".bmp",
    rb"RIFF....WEBP": ".webp",
    rb"\0\0\0\x0cjP  ": ".jp2",
    rb"....ftypavi[fs]": ".avif",
    rb"....ftyp(hei[cxms]|hev[cxms]|mif1|msf1)": ".heic",
}
_PILLOW_LIMIT = threading.Lock()
_ORIENTATION = 0x0112  # EXIF's tag
_PIECE = 4_000_000  # pixels that are handed on at once


def decode_image(data: bytes, path: str | Path) -> np.ndarray:
    """The image whose file *path* holds *data*, as `read_image` gives it."""
    path, notes = Path(path), []
    try:
        image = _decode(data, path, notes)
    except (SmearError, MemoryError):
        raise
    except UnidentifiedImageError as error:
        remedy = UNREAD_SUFFIXES.get(suffix_by_content(data) or path.suffix.lower(), _SAVE)
        raise SmearError(f"{path}: not an image that can be read; {remedy}") from error
    except damage.DamageError as error:
        raise SmearError(
            f"{path}: part of the image is damaged ({error}); copy it again from its source, or save it again to use "
            "it as it is"
        ) from error
    except Exception as error:  # damaged bytes make Pillow raise OSError, SyntaxError, struct.error and more
        raise SmearError(f"{path}: damaged or cut short ({error}); copy it again from its source") from error
    for note in notes:
        warnings.warn(f"{path}: {note}", SmearWarning, stacklevel=2)
    return image


def suffix_by_content(data: bytes) -> str:
    """The ending that a file of these first bytes should have; empty where they are no image's."""
    return next((suffix for start, suffix in _SIGNATURES.items() if re.match(start, data[:32], re.DOTALL)), "")


def _decode(data: bytes, path: Path, notes: list[str]) -> np.ndarray:
    is_tiff, samples, orientation = data[:4] in tiff.SIGNATURES, None, None
    if is_tiff:
        picture = tiff.select_picture(data, path, notes)
        data, samples, orientation = picture.data, picture.samples, picture.orientation
        if samples is None and tiff.is_for_tifffile(data):
            samples = _samples(data, path)
    if samples is None:
        try:
            image = _open(data)
        except UnidentifiedImageError:
            if not is_tiff:
                raise
            samples = _samples(data, path)
    if samples is None:
        check_size(image.width, image.height, path, len(data))
        if not is_tiff and (frames := getattr(image, "n_frames", 1)) > 1:
            notes.append(f"has {frames} {'pictures' if image.format == 'MPO' else 'frames'}, only the first is read")
        image, orientation = _whole(data, image, path, notes, orientation)
    else:
        image = _from_samples(samples, path, notes)
    if image.has_transparency_data:
        image = image.convert("RGBA")
        if image.getextrema()[3][1] == 0:
            raise SmearError(f"{path}: every pixel is transparent; save it without an alpha channel")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    if image.mode != "RGB":
        image = image.convert("RGB")
    image.info.clear()  # of all that the file says beside its pixels only this is to be heeded
    image.getexif()[_ORIENTATION] = orientation
    ImageOps.exif_transpose(image, in_place=True)
    return _pixels(image)


def _pixels(image: Image.Image) -> np.ndarray:
    """The pixels [H, W, 3] of an RGB image, piece by piece: Pillow itself would hold them three times meanwhile."""
    image.load()  # now, as nobody is to wait for it at the lock below
    pixels = np.empty((image.height, image.width, 3), np.uint8)
    rows = max(1, _PIECE // max(1, image.width))
    for top in range(0, image.height, rows):
        bottom = min(top + rows, image.height)
        with _no_limit_of_pillow():  # older versions of Pillow apply it to parts, too
            part = image.crop((0, top, image.width, bottom))
        pixels[top:bottom] = np.asarray(part)
    return pixels


def _open(data: bytes) -> Image.Image:
    Image.init()
    formats = [name for name in _FORMATS if name in Image.OPEN]  # AVIF came to Pillow late
    with _no_limit_of_pillow():
        return Image.open(io.BytesIO(data), formats=formats)


@contextmanager
def _no_limit_of_pillow() -> Iterator[None]:
    """Pillow's own limit is one number for all threads, and lower; ours is checked before a pixel is decoded."""
    with _PILLOW_LIMIT:
        before, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            yield
        finally:
            Image.MAX_IMAGE_PIXELS = before


def _whole(
    data: bytes, image: Image.Image, path: Path, notes: list[str], orientation: int | None
) -> tuple[Image.Image, int | None]:
    """All pixels of an opened image, 8 bits deep, checked for what decoders pass over; and its orientation."""
    deep = image.mode in ("RGB", "RGBA", "LA") and any(";16" in str(tile[3]) for tile in image.tile)
    if image.format == "PNG":
        damage.check_png(data)
    elif image.format == "TIFF":
        tiff.check_strips(data)
    with _no_limit_of_pillow() if image.format == "TIFF" else nullcontext():  # it looks at its limit again, of a TIFF
        image.load()
    if image.format in ("JPEG", "MPO") and (doubt := damage.check_jpeg(data)):
        notes.append(f"part of the image may be damaged ({doubt}); look at it, and copy it again from its source")
    orientation = orientation or image.getexif().get(_ORIENTATION)  # a PNG may say it behind its pixels
    if image.mode == "F" or image.mode.startswith("I"):
        values = np.asarray(image)
        if image.mode != "F" and image.mode != "I":  # I;16, maybe of the other order of bytes
            values = values.astype(np.uint16)
        image = Image.fromarray(eight_bits(values, path, notes))
    elif deep:
        image = _deep_colour(data, image, path, notes)
    if image.format == "JPEG" and image.mode == "CMYK" and "adobe" not in image.info:
        image = ImageChops.invert(image)  # Pillow takes ink for upside down, as Adobe writes it, marked or not
    return image, orientation


def _samples(data: bytes, path: Path) -> np.ndarray:
    """The samples [H, W, C] of a TIFF's first page, for layouts that Pillow does not know."""
    try:
        return tiff.first_page_samples(data, path)
    except (SmearError, MemoryError):
        raise
    except Exception as error:  # as for Pillow, damage makes it raise all kinds
        if "imagecodecs" not in str(error):  # the package without which tifffile decodes few compressions
            raise SmearError(
                f"{path}: damaged or cut short (no whole page in it); copy it again from its source"
            ) from error
        raise SmearError(
            f"{path}: its compression ({tiff.compression_of(data)}) cannot be read in this layout; save it as TIFF "
            "without compression, or as PNG"
        ) from error


def _from_samples(values: np.ndarray, path: Path, notes: list[str]) -> Image.Image:
    """An image of samples [H, W, C] of any type: grey, RGB, or RGB with alpha."""
    channels = values.shape[2]
    if channels in (2, 5) or channels > 5:
        used = 1 if channels == 2 else 3
        notes.append(f"has {channels} channels, only the first {'is' if used == 1 else 'three are'} read")
        values = values[..., :used]
    values = eight_bits(values, path, notes)
    return Image.fromarray(np.ascontiguousarray(values[..., 0] if values.shape[2] == 1 else values))


def _deep_colour(data: bytes, image: Image.Image, path: Path, notes: list[str]) -> Image.Image:
    """A 16-bit colour image in 8 bits; Pillow itself drops the low byte, and with it all that a 12-bit camera saw."""
    pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if pixels is None or pixels.dtype != np.uint16 or pixels.shape[:2] != (image.height, image.width):
        return image  # a layout that OpenCV does not know
    if pixels.ndim == 2 or pixels.shape[2] not in (3, 4):
        return image
    colour = eight_bits(np.ascontiguousarray(pixels[..., 2::-1]), path, notes)
    if pixels.shape[2] == 4:
        colour = np.dstack([colour, (pixels[..., 3] >> 8).astype(np.uint8)])
    return Image.fromarray(colour)
