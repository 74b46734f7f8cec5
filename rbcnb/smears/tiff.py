"""Which picture of a TIFF is the smear: of its pages, thumbnails, pyramid levels, channels, planes and time points.

Samples of any depth, as TIFFs have them, become 8 bits here.

tifffile knows how pages belong together (ImageJ, OME, Aperio, pyramids, SubIFDs) but decodes few compressions; Pillow
decodes most, but reads only the first page of the main chain right. So the page is chosen here, and the file is handed
on with the offset of its first page replaced by that of the chosen one.
"""

import io
import logging
import re
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from PIL import Image

from rbcnb._utils.errors import SmearError
from rbcnb.smears.damage import DamageError, check_jpeg

MAX_PIXELS = 200_000_000  # a decoded smear of this size fills 600 MB
_MAX_SAMPLE_BYTES = 8 * MAX_PIXELS  # of all samples that are decoded at once: 16 bits of four channels
_SMALL = 25_000_000  # pixels that fill no memory to speak of, whatever the file holds
_MOST_PER_BYTE = 500  # pixels of a photograph; a field of one colour has 340 as PNG, a blurred one under 100 as JPEG
_MOST_READ_TWICE = 4  # times the file: the strips of a sound one hardly overlap
_BIG_MM = b"MM\0+"
SIGNATURES = (b"II*\0", b"MM\0*", b"II+\0", _BIG_MM)  # classic and big, in both orders of bytes
_ORIENTATION = 274
_RAW = {32803: "the raw samples of a colour filter", 34892: "undeveloped raw colours"}
_DEFLATE, _JPEG = (8, 32946), 7  # of the tag Compression
_REDUCED, _MASK = 1, 4  # bits of the tag NewSubfileType
_NAMES = {"Z": "z-planes", "T": "time points"}  # of series' axes; the others are pages
_INVERTED = 0  # the tag PhotometricInterpretation where white is 0
_MICROMETRES = ("µm", "\u03bcm", "um", "micron", "\\u00B5m")  # two signs for mu, and ImageJ's escape
_MOST_NAMED = 10  # sizes of other pages
_MOST_PAGES = 10_000  # each is looked at


@dataclass(frozen=True)
class Selection:
    """The picture to read: *samples* [H, W, C] of any type, or without them *data*, the file with its page first."""

    data: bytes
    samples: np.ndarray | None = None
    orientation: int | None = None  # EXIF's; None: as the page itself says


def select_picture(data: bytes, path: Path, notes: list[str]) -> Selection:
    """The full-resolution picture of the TIFF *data*; what is left out, or put together, goes to *notes*.

    The largest page is taken, the first of equals, be it in the main chain or beside a thumbnail (SubIFD). Grey
    channels of one picture are put together as red, green and blue.

    Raises SmearError where the picture is raw data of a camera, or too large, or the pages are too many or never end.
    """
    found: list[str] = []
    with _quiet():
        try:
            with tifffile.TiffFile(io.BytesIO(data)) as tiff:
                picture = _select(tiff, data, path, found)
        except SmearError:
            raise
        except Exception:  # damaged tags raise all kinds; Pillow says what is wrong, or reads the first page
            return Selection(data)
    notes += found
    return picture


def first_page_samples(data: bytes, path: object) -> np.ndarray:
    """The samples [H, W, C] of the first page by tifffile, which knows layouts that Pillow does not.

    Raises ValueError for a compression that is not known, SmearError for more samples than there is room for.
    """
    with _quiet(), tifffile.TiffFile(io.BytesIO(data)) as tiff:
        page = tiff.pages[0]
        check_size(page.imagewidth, page.imagelength, path, len(data))
        _check_samples(page.nbytes, path)
        values = _upright_black(page.asarray(), page)
        if page.planarconfig == 2 and values.ndim == 3:
            values = np.moveaxis(values, 0, -1)
        return values.reshape(page.imagelength, page.imagewidth, -1)


def check_strips(data: bytes) -> None:
    """Raises DamageError where a strip or tile of the first page is damaged in a way that libtiff does not see.

    That is those compressed by Deflate, whose checksum it leaves aside, or by JPEG.
    """
    with _quiet():
        try:
            page = tifffile.TiffFile(io.BytesIO(data)).pages[0]
            places = sorted(set(zip(page.dataoffsets, page.databytecounts, strict=True)))  # equal tiles may share bytes
            compression, tables = page.compression, page.jpegtables or b""
            n_bytes = sum(max(0, min(size, len(data) - at)) for at, size in places)
        except Exception:  # damaged tags: Pillow decodes the strips, or does not
            return
    if n_bytes > _MOST_READ_TWICE * len(data):
        raise DamageError("its strips lie on each other")
    for at, size in places:
        strip = data[at : at + size]  # one at a time: all of them would be the file once more
        if not strip:  # left out by the writer
            continue
        if compression in _DEFLATE:
            _check_deflate(strip)
        elif compression == _JPEG:
            check_jpeg(
                tables[:-2] + strip[2:] if tables else strip
            )  # without the end of the one, the start of the other


def _check_deflate(strip: bytes) -> None:
    """Raises DamageError where compressed data do not add up; holds but a piece of what they become."""
    reader = zlib.decompressobj()
    try:
        while strip and not reader.eof:
            reader.decompress(strip, 1 << 20)
            strip = reader.unconsumed_tail
        reader.flush()
    except zlib.error as error:
        raise DamageError(str(error)) from error
    if not reader.eof:
        raise DamageError("incomplete or truncated stream")


def pixel_size_um(path: Path) -> float | None:
    """The width of a pixel in um that a microscope or ImageJ wrote into the TIFF *path*; None where nothing says it.

    Dots per inch, which most images have, say how large to print it and nothing of the microscope.
    """
    with _quiet():
        try:
            with tifffile.TiffFile(path) as tiff:
                words, image_j = tiff.ome_metadata or "", tiff.imagej_metadata or {}
                size = re.search(r'PhysicalSizeX="([^"]+)"', words)
                unit = re.search(r'PhysicalSizeXUnit="([^"]+)"', words)
                if size and (unit is None or unit[1] in _MICROMETRES):
                    return float(size[1])
                if image_j.get("unit") in _MICROMETRES:
                    pixels, um = tiff.pages[0].tags["XResolution"].value
                    return um / pixels
                slide = re.search(r"MPP *= *([\d.]+)", tiff.pages[0].description)  # Aperio's
                return float(slide[1]) if slide else None
        except Exception:  # no TIFF, or damaged tags: nothing is known
            return None


def compression_of(data: bytes) -> str:
    """Name of the first page's compression."""
    with _quiet(), tifffile.TiffFile(io.BytesIO(data)) as tiff:
        return getattr(tiff.pages[0].compression, "name", str(tiff.pages[0].compression))


def is_for_tifffile(data: bytes) -> bool:
    """Whether Pillow and OpenCV read the first page wrong, without a word of it.

    That is colours of over 8 bits in separate planes, and a BigTIFF of which the high bytes come first.
    """
    if data[:4] == _BIG_MM:
        return True
    try:
        with _quiet(), tifffile.TiffFile(io.BytesIO(data)) as tiff:
            page = tiff.pages[0]
            return page.planarconfig == 2 and page.samplesperpixel > 1 and page.bitspersample > 8
    except Exception:  # damaged; Pillow says so
        return False


@dataclass(frozen=True)
class _Page:
    page: Any
    parent: Any = None  # of a SubIFD

    @property
    def size(self) -> tuple[int, int]:
        return self.page.imagewidth, self.page.imagelength

    @property
    def pixels(self) -> int:
        return self.page.imagewidth * self.page.imagelength

    @property
    def reduced(self) -> bool:
        return bool(int(self.page.subfiletype or 0) & (_REDUCED | _MASK))


def _all_pages(tiff: tifffile.TiffFile) -> Iterator[_Page]:
    for page in tiff.pages:
        yield _Page(page)
        for within in page.pages or ():
            yield _Page(within, page)


def _listed_pages(tiff: tifffile.TiffFile, path: Path) -> list[_Page]:
    """All pages; raises SmearError where one of them leads back to an earlier one, or they are too many."""
    pages: dict[int, _Page] = {}
    for page in _all_pages(tiff):
        if page.page.offset in pages:
            raise SmearError(f"{path}: damaged (its pages lead back to an earlier one); copy it again from its source")
        if len(pages) == _MOST_PAGES:
            raise SmearError(f"{path}: has over {_MOST_PAGES} pages; save the one with the cells as a file of its own")
        pages[page.page.offset] = page
    return list(pages.values())


def _select(tiff: tifffile.TiffFile, data: bytes, path: Path, notes: list[str]) -> Selection:
    pages = _listed_pages(tiff, path)
    first, chosen = pages[0], max(pages, key=lambda page: (not page.reduced, page.pixels))
    width, height = chosen.size
    if raw := _RAW.get(int(chosen.page.photometric or 0)):
        raise SmearError(
            f"{path}: its full image of {width} x {height} holds {raw}; develop it in the camera's program or a raw "
            "converter, and save it as TIFF or PNG"
        )
    check_size(width, height, path, len(data))
    if chosen is not first:
        notes.append(
            f"its first page is a small picture of {first.size[0]} x {first.size[1]}; "
            f"the full image of {width} x {height} is read"
        )
    its_series = next((group for group in tiff.series if chosen.page.offset in _offsets(group)), None)
    members = {chosen.page.offset} | (_offsets(its_series) if its_series is not None else set())
    _note_other_pages([page for page in pages[1:] if page.page.offset not in members], chosen, notes)
    samples, orientation = None, None
    if its_series is not None:
        channels = _note_axes(tiff, its_series, notes)
        if channels > 1:
            samples = _channels(its_series, data, channels, path)
            samples = samples[..., _colour_order(tiff, samples.shape[-1])]
    if chosen.parent is not None and chosen.page.tags.get(_ORIENTATION) is None:
        orientation = chosen.parent.tags.valueof(_ORIENTATION)
    elif samples is not None:
        orientation = chosen.page.tags.valueof(_ORIENTATION)
    return Selection(_page_first(data, chosen.page.offset), samples, orientation)


def _offsets(series: Any) -> set[int]:
    return {page.offset for page in series.pages if page is not None}


def _note_other_pages(others: list[_Page], chosen: _Page, notes: list[str]) -> None:
    """Notes pages that are neither of the picture nor smaller copies of it."""
    others = [
        page for page in others if not (page.reduced or page.parent is not None or _is_smaller_copy(page, chosen))
    ]
    if not others:
        return
    if all(page.size == chosen.size for page in others):
        notes.append(f"has {len(others) + 1} pages, only the first is read")
        return
    sizes = [f"{page.size[0]} x {page.size[1]}" for page in others]
    more = f" and {len(sizes) - _MOST_NAMED} more" if len(sizes) > _MOST_NAMED else ""
    notes.append(f"other pages are not read: {', '.join(sizes[:_MOST_NAMED])}{more}")


def _is_smaller_copy(page: _Page, full: _Page) -> bool:
    (width, height), (full_width, full_height) = page.size, full.size
    # Sides are rounded when a picture is made smaller, hence the pixel.
    same_shape = abs(width * full_height - height * full_width) <= max(full_width, full_height)
    return same_shape and page.pixels < full.pixels / 2


def _note_axes(tiff: tifffile.TiffFile, series: Any, notes: list[str]) -> int:
    """Notes what of a series is left out; returns how many of its channels are to be put together."""
    channels = 1
    for axis, length in zip(series.axes, series.shape, strict=True):
        if axis in "YXS" or length == 1:
            continue
        if axis == _channel_axis(tiff, series):
            channels = 3 if length >= 3 else 1
            if length == 3:
                notes.append("its 3 grey channels are read as red, green and blue")
            elif length > 3:
                notes.append(f"has {length} channels, only the first three are read, as red, green and blue")
            else:
                notes.append(f"has {length} channels, only the first is read")
        else:
            notes.append(f"has {length} {_NAMES.get(axis, 'pages')}, only the first is read")
    return channels


def _channel_axis(tiff: tifffile.TiffFile, series: Any) -> str:
    """C, or the axis of slices that ImageJ calls Red, Green and Blue; none where each page has colours of its own."""
    if "S" in series.axes:
        return ""
    labels = (tiff.imagej_metadata or {}).get("Labels") or []
    if [str(label).lower() for label in labels] == ["red", "green", "blue"]:
        return next((axis for axis, length in zip(series.axes, series.shape, strict=True) if length == 3), "C")
    return "C"


def _channels(series: Any, data: bytes, count: int, path: object) -> np.ndarray:
    """The first *count* channels [H, W, C] of a series, at the first of its planes and times."""
    outer = [(axis, length) for axis, length in zip(series.axes, series.shape, strict=True) if axis not in "YXS"]
    # Of two axes of several, the channels are C; of one, they are that.
    several = [axis for axis, length in outer if length > 1]
    axis = "C" if "C" in several else several[0]
    where = [axis for axis, _ in outer].index(axis)
    if len(series.pages) < np.prod([length for _, length in outer]):  # many planes behind one page, or within it
        _check_samples(series.nbytes, path)
        values = np.moveaxis(series.asarray(), where, 0)[:count]
        values = values.reshape(count, -1, *values.shape[-2:])[:, 0]
        return np.moveaxis(_upright_black(values, series.keyframe), 0, -1)
    index = [tuple(channel if axis == where else 0 for axis in range(len(outer))) for channel in range(count)]
    numbers = [int(np.ravel_multi_index(at, [length for _, length in outer])) for at in index]
    return np.stack([_grey(series.pages[number], data) for number in numbers], axis=-1)


def _grey(page: Any, data: bytes) -> np.ndarray:
    try:
        return _upright_black(page.asarray(), page.keyframe)
    except ValueError:  # a compression that Pillow alone knows
        return np.asarray(Image.open(io.BytesIO(_page_first(data, page.offset)), formats=("TIFF",)))


def _upright_black(values: np.ndarray, page: Any) -> np.ndarray:
    """Samples in which 0 is black."""
    if page.photometric != _INVERTED or values.dtype.kind not in "ub":
        return values
    return ~values if values.dtype == bool else np.iinfo(values.dtype).max - values


def _colour_order(tiff: tifffile.TiffFile, count: int) -> list[int]:
    """Which channel is red, which green and which blue: by ImageJ's look-up tables, or else in the order they come."""
    tables = (tiff.imagej_metadata or {}).get("LUTs") or []
    lit = [tuple(np.flatnonzero(np.asarray(table).max(axis=1))) for table in tables[:count]]
    order = [lit.index((colour,)) for colour in range(3) if (colour,) in lit]
    return order if len(order) == 3 else list(range(count))


def _page_first(data: bytes, offset: int) -> bytes:
    """The file with its first page at *offset*."""
    order = "<" if data[:2] == b"II" else ">"
    start, kind = (8, "Q") if data[2:4] in (b"+\0", b"\0+") else (4, "I")
    if struct.unpack_from(order + kind, data, start)[0] == offset:
        return data
    return data[:start] + struct.pack(order + kind, offset) + data[start + struct.calcsize(kind) :]


@contextmanager
def _quiet() -> Iterator[None]:
    """Keeps tifffile from writing what it thinks of odd tags to stderr, where nobody knows the file."""
    logger = logging.getLogger("tifffile")
    before, logger.level = logger.level, logging.CRITICAL + 1
    try:
        yield
    finally:
        logger.level = before


def check_size(width: int, height: int, path: object, n_bytes: int) -> None:
    """Raises SmearError, before a pixel is decoded, for a size that cannot be done or that a file cannot hold.

    Args:
        width, height: in pixels, as the file declares them.
        path: for the message.
        n_bytes: of the file.
    """
    if width * height > MAX_PIXELS:
        raise SmearError(f"{path}: {width} x {height} is over {MAX_PIXELS // 10**6} million pixels; cut it into tiles")
    if width * height > max(_SMALL, _MOST_PER_BYTE * n_bytes):
        raise SmearError(
            f"{path}: damaged or cut short (it declares {width} x {height} pixels and has {n_bytes} bytes); copy it "
            "again from its source"
        )


def _check_samples(n_bytes: int, path: object) -> None:
    if n_bytes > _MAX_SAMPLE_BYTES:
        raise SmearError(
            f"{path}: its channels and planes hold {n_bytes / 1e9:.1f} GB; export the plane with the cells as TIFF"
        )


def eight_bits(values: np.ndarray, path: object, notes: list[str]) -> np.ndarray:
    """Samples of any type and shape as uint8; what had to be guessed goes to *notes*.

    Deep integers keep their highest bits: the highest bit that any sample uses is taken for a depth of 8, 10, 12, 14 or
    16. Floats between 0 and 1 are black to white; other floats must be whole numbers, and are read as those. Raises
    SmearError for NaN, for samples below 0 or above 65535, and for fractions above 1.
    """
    if values.dtype == np.uint8:
        return values
    if values.dtype == bool:
        return values.astype(np.uint8) * 255
    low, high = values.min(), values.max()
    fractions = values.dtype.kind == "f" and not (values == np.rint(values)).all()
    if not (low >= 0 and high <= 65535) or (fractions and high > 1):  # so put that NaN fails, too
        raise SmearError(
            f"{path}: its samples ({values.dtype}, {low:g} to {high:g}) are not 8 or 16 bit; "
            "save it as 8-bit PNG or TIFF, or scaled to 0 to 1"
        )
    if values.dtype.kind == "f" and high <= 1:
        notes.append(f"its {values.dtype} samples lie between 0 and 1, read as black to white")
        return np.rint(values * 255).astype(np.uint8)
    used = int(high).bit_length()
    bits = next(bits for bits in (8, 10, 12, 14, 16) if used <= bits) if used else 16
    if bits < 16:
        notes.append(f"its {8 * values.dtype.itemsize}-bit samples use {used} bits, read as a camera's {bits}")
    return (values.astype(np.uint16) >> (bits - 8)).astype(np.uint8)
