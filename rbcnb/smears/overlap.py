"""Which images show some of the same cells: overlapping fields of one slide, or one field taken twice.

A network that learnt a cell in one image is not tested on it in another, so an honest split keeps such images together.
Two images are laid over one another at every shift: one shift must fit far better than all others (a first look, at
small copies), and the pixels must agree there (a second look, at larger ones).
"""

import math
import warnings
from collections import defaultdict
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import TypeVar

import numpy as np
import scipy.fft

from rbcnb._utils.errors import SmearError, SmearWarning
from rbcnb._utils.opencv import cv2
from rbcnb.smears.images import identical_image_groups, read_image

MOST_IMAGES = 1000  # each pair is looked at
LEAST_SHARE = 0.05  # of the image: what overlaps less is not looked for
# Both were chosen on the 189,420 pairs of Chula RBC-12's 616 different images: see benchmarks/overlaps.py.
_LEAST_FIT = 9.0  # of the best shift, in standard deviations over all shifts
_LEAST_AGREEMENT = 0.6  # correlation of the pixels
_LEAST_UNMOVED = 0.9  # the same of two images that are not moved: dust and stops agree there
_LEAST_IN_PART = 0.6  # the same of a quarter of what both show
_LEAST_DETAIL = 0.4  # standard deviations of the image's details that a quarter must have
_FIRST_PX, _SECOND_PX = 128, 512  # long side of the copies that are looked at
_FINE = 1 / 50  # of the long side: what is coarser is light and shade
_BLACK = 15  # grey levels
_CONTRAST = 40.0  # grey levels to a standard deviation, where details are kept as uint8
_FAINT = 5.0  # grey levels: weaker contrasts are noise
_BLOCK = 64  # images that one is compared with at once
_MOST_NAMED = 5  # pairs in a message

Key = TypeVar("Key", bound=Hashable)


@dataclass(frozen=True)
class Overlap:
    """Two images that show some of the same cells."""

    first: str  # names of the images
    second: str
    dx_px: int  # where a cell lies in the second, less where it lies in the first
    dy_px: int
    share: float  # of the image that both show


@dataclass(frozen=True, eq=False)
class _Field:
    """An image as it is compared: its fine details alone, in one contrast all over."""

    name: str
    side_px: int  # the longer one, of the image itself
    small: np.ndarray  # [h, w] float32
    large: np.ndarray  # [H, W] uint8, a quarter of the memory


def find_overlaps(images: Iterable[tuple[str, np.ndarray]]) -> list[Overlap]:
    """The pairs of *images* that show some of the same cells, at least `LEAST_SHARE` of the image.

    Only images of one size are compared, as a microscope's are. What is turned, mirrored or of another magnification is
    not recognised. Of each image small copies are kept, no more.

    Args:
        images: name and [H, W, 3] uint8 RGB. The time grows with the square of their number.
    """
    of_size: dict[tuple[int, ...], list[_Field]] = defaultdict(list)
    for name, image in images:
        grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
        large = np.clip(128 + _CONTRAST * _details(grey, _SECOND_PX), 0, 255).astype(np.uint8)
        of_size[grey.shape].append(_Field(name, max(grey.shape), _details(grey, _FIRST_PX), large))
    overlaps = []
    for fields in of_size.values():
        for i, j, dx, dy in _well_fitting(np.stack([field.small for field in fields])):
            if overlap := _checked(fields[i], fields[j], dx, dy):
                overlaps.append(overlap)
    return overlaps


def overlaps_of_files(files: Mapping[str, Path], *, n: int | None = None) -> tuple[Overlap, ...]:
    """`find_overlaps` of the first *n* image files (None: of all), by name, without those that cannot be read.

    Of more than `MOST_IMAGES` none are found, and a warning says so. A second look at the same files takes no time.

    Raises:
        OSError: a file is gone.
    """
    how_many = len(files) if n is None else min(n, len(files))
    if how_many > MOST_IMAGES:
        warnings.warn(
            f"overlaps were not searched for: there are {how_many} images, more than {MOST_IMAGES}; remove overlapping "
            "images yourself, or networks are tested on cells that they have learnt",
            SmearWarning,
            stacklevel=2,
        )
        return ()
    facts = ((name, path, path.stat()) for name, path in files.items())
    return _overlaps(tuple((name, path, stat.st_size, stat.st_mtime_ns) for name, path, stat in facts), n)


@lru_cache(maxsize=8)  # a run asks for its smears several times
def _overlaps(files: tuple[tuple[str, Path, int, int], ...], n: int | None) -> tuple[Overlap, ...]:
    return tuple(find_overlaps(islice(_readable(files), n)))


def field_groups(paths: Sequence[Path], *, n: int | None = None) -> dict[Path, str]:
    """The group of each image file, which an honest split keeps together; a warning names what overlaps.

    Files of the same bytes and images that show some of the same cells are one group, named as
    `rbcnb.smears.images.identical_image_groups` does.

    Args:
        paths: of the files.
        n: only the first so many that can be read are looked at; None for all.

    Raises:
        OSError: a file cannot be read.
    """
    groups = identical_image_groups(list(paths))
    overlaps = overlaps_of_files({str(path): path for path in paths}, n=n)
    unlike = [overlap for overlap in overlaps if groups[Path(overlap.first)] != groups[Path(overlap.second)]]
    if unlike:
        warnings.warn(describe_overlaps(unlike), SmearWarning, stacklevel=2)
    return join_groups(groups, [(Path(overlap.first), Path(overlap.second)) for overlap in unlike])


def join_groups(groups: Mapping[Key, str], pairs: Iterable[tuple[Key, Key]]) -> dict[Key, str]:
    """*groups* with those made one that *pairs* connect, under the name that stands first.

    >>> join_groups({"1": "1", "2": "2", "3": "3", "4": "4"}, [("1", "3"), ("2", "3")])
    {'1': '1', '2': '1', '3': '1', '4': '4'}
    """
    order = {name: place for place, name in enumerate(dict.fromkeys(groups.values()))}
    joined = dict(groups)
    for first, second in pairs:
        both = {joined[first], joined[second]}
        stays = min(both, key=order.__getitem__)
        joined = {key: stays if name in both else name for key, name in joined.items()}
    return joined


def describe_overlaps(overlaps: Sequence[Overlap]) -> str:
    """What to tell people of *overlaps*, the largest first."""
    largest = sorted(overlaps, key=lambda overlap: -overlap.share)[:_MOST_NAMED]
    pairs = [f"{Path(o.first).name} and {Path(o.second).name} ({o.share:.0%} of the image)" for o in largest]
    more = f" and {len(overlaps) - _MOST_NAMED} more pairs" if len(overlaps) > _MOST_NAMED else ""
    return f"these images show the same cells, and count as one smear where smears are split: {', '.join(pairs)}{more}"


def _readable(files: Iterable[tuple[str, Path, int, int]]) -> Iterator[tuple[str, np.ndarray]]:
    for name, path, *_ in files:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", SmearWarning)  # who takes the image for its cells hears them
                image = read_image(path)
        except SmearError:
            continue
        yield name, image


def _details(grey: np.ndarray, side_px: int) -> np.ndarray:
    """The fine details [h, w] float32 of *grey*, made as small as *side_px* if it is larger; zero where all is even."""
    scale = min(1.0, side_px / max(grey.shape))
    height, width = (max(1, round(side * scale)) for side in grey.shape)
    small = cv2.resize(grey, (width, height), interpolation=cv2.INTER_AREA).astype(np.float32)
    sigma = _FINE * max(small.shape)
    black = cv2.dilate((small < _BLACK).astype(np.uint8), np.ones((3, 3), np.uint8), iterations=math.ceil(2 * sigma))
    small -= cv2.GaussianBlur(small, (0, 0), sigma)
    small /= np.sqrt(cv2.GaussianBlur(small * small, (0, 0), sigma) + _FAINT**2)
    small[black > 0] = 0  # no cell is black: a stop, a bar or a pointer, which stands in every image
    small -= small.mean()
    return small / max(float(small.std()), 1e-3)


def _well_fitting(small: np.ndarray) -> Iterator[tuple[int, int, int, int]]:
    """(i, j, dx, dy) of the pairs of *small* [N, h, w] that fit at one shift far better than at all others."""
    height, width = small.shape[1:]
    shape = [scipy.fft.next_fast_len(2 * side, real=True) for side in (height, width)]
    transforms = scipy.fft.rfft2(small, s=shape, workers=-1)
    whole = scipy.fft.rfft2(np.ones((height, width), np.float32), s=shape)
    common = scipy.fft.irfft2(whole.conj() * whole, s=shape).round()  # pixels that both have, at each shift
    looked_at = common >= LEAST_SHARE * height * width
    # A sum over n pixels of noise is about sqrt(n) large: divided by that, all shifts are measured alike.
    weights = np.where(looked_at, 1 / np.sqrt(np.maximum(common, 1)), 0).astype(np.float32)
    for i in range(len(small) - 1):
        for start in range(i + 1, len(small), _BLOCK):
            products = transforms[i].conj() * transforms[start : start + _BLOCK]
            fits = (scipy.fft.irfft2(products, s=shape, workers=-1) * weights).reshape(len(products), -1)
            best = fits.argmax(axis=1)
            spread = fits[:, looked_at.ravel()].std(axis=1)
            top = np.take_along_axis(fits, best[:, None], axis=1)[:, 0]
            for k in np.flatnonzero(top > _LEAST_FIT * np.maximum(spread, 1e-6)):
                dy, dx = divmod(int(best[k]), shape[1])  # shifts to the left and up lie at the far ends
                yield i, start + int(k), dx - shape[1] * (dx >= width), dy - shape[0] * (dy >= height)


def _checked(first: _Field, second: _Field, dx: int, dy: int) -> Overlap | None:
    """The overlap of two fields whose small copies fit at the shift *dx*, *dy*, if their pixels agree there."""
    a, b = first.large, second.large
    scale = max(a.shape) / max(first.small.shape)
    slack = int(2 * scale)  # px, by which the shift may be wrong
    dx, dy = round(dx * scale), round(dy * scale)
    height, width = (side - abs(shift) for side, shift in zip(a.shape, (dy, dx), strict=True))
    if min(height, width) <= 2 * slack:
        return None
    part, among = _shared(a, b, dx, dy)
    agreement = cv2.matchTemplate(among, part[slack : height - slack, slack : width - slack], cv2.TM_CCOEFF_NORMED)
    _, best, _, (x, y) = cv2.minMaxLoc(agreement)
    dx, dy = dx + x - slack, dy + y - slack
    share = (1 - abs(dx) / a.shape[1]) * (1 - abs(dy) / a.shape[0])
    unmoved = max(abs(dx), abs(dy)) <= 1  # as is all that belongs to the camera
    if best < (_LEAST_UNMOVED if unmoved else _LEAST_AGREEMENT) or share < LEAST_SHARE:
        return None
    if not _agree_in_most_parts(*_shared(a, b, dx, dy)):
        return None
    to_px = first.side_px / max(a.shape)
    return Overlap(first.name, second.name, round(dx * to_px), round(dy * to_px), share)


def _shared(a: np.ndarray, b: np.ndarray, dx: int, dy: int) -> tuple[np.ndarray, np.ndarray]:
    """The parts of *a* and *b* [H, W] that lie over one another at the shift *dx*, *dy*."""
    height, width = (side - abs(shift) for side, shift in zip(a.shape, (dy, dx), strict=True))
    return a[max(0, -dy) :, max(0, -dx) :][:height, :width], b[max(0, dy) :, max(0, dx) :][:height, :width]


def _agree_in_most_parts(a: np.ndarray, b: np.ndarray) -> bool:
    """Whether three of four parts of *a* and *b* agree, each with details in it: a cell or two look alike by chance."""
    long, short = (0, 1) if a.shape[0] >= a.shape[1] else (1, 0)
    strips = 4 if a.shape[long] > 3 * a.shape[short] else 2
    parts = [
        block
        for strip in zip(*(np.array_split(side, strips, axis=long) for side in (a, b)), strict=True)
        for block in zip(*(np.array_split(side, 4 // strips, axis=short) for side in strip), strict=True)
    ]
    agree = 0
    for block in parts:
        x, y = (side.astype(np.float32) - side.mean() for side in block)
        spreads = float(x.std()), float(y.std())
        if min(spreads) >= _LEAST_DETAIL * _CONTRAST:
            agree += float((x * y).mean()) >= _LEAST_IN_PART * spreads[0] * spreads[1]
    return agree >= 3
