"""What is stained: from grey levels to optical density over an even field.

Light falls off exponentially in what a cell holds (Beer and Lambert), so the logarithm of background over image, the
optical density, adds where cells overlap and does not change with the lamp. The background is a smooth surface through
the unstained pixels. `rbcnb.segmentation.diameter` reads the density here.
"""

import math
from dataclasses import dataclass

import numpy as np

from rbcnb._utils.opencv import cv2

OPAQUE = 0.9  # in green; no red cell is so dense: what is, is a nucleus, a fibre or the edge of the field of view
_FAINTEST = 0.03  # between stained and background: fainter than a pale cell, stronger than noise
_NUCLEAR = 0.42  # blue over green: haemoglobin and eosin absorb more blue than this, the dyes of nuclei less
_DARKEST_LAMP = 110  # green level; a background lit by a lamp is brighter
_FIT_PX = 160  # longer side, at most, of the reduced image through whose bright pixels the background is laid
_BLOBS_PX = 320  # and of the one in which round blobs are distinguished from gaps
_LOG10 = np.log10(np.arange(256, dtype=np.float32) + 1)


@dataclass(frozen=True, eq=False)
class Field:
    """The optical density of a smear over its background, in green, where haemoglobin and eosin absorb most."""

    density: np.ndarray  # [H, W] float32, smoothed
    level: float  # of a typical stained pixel; 0 where nothing stands out from the background


def upright(image: np.ndarray) -> np.ndarray:
    """*image* [H, W, 3] uint8 with cells darker than the background: inverted where it is a dark field."""
    return 255 - image if is_dark_field(image) else image


def is_dark_field(image: np.ndarray) -> bool:
    """Whether the cells of *image* [H, W, 3] uint8 are brighter than a dark background.

    Both halves of Otsu's split are searched for small round blobs, and the half with more of them holds the cells.
    In doubt, as in a crowd without single cells, the smear is taken for a bright field.
    """
    green = _halved(cv2.extractChannel(image, 1), _BLOBS_PX)
    green = cv2.GaussianBlur(green, (0, 0), 1.0)
    threshold, split = cv2.threshold(green, 0, 255, cv2.THRESH_BINARY | cv2.THRESH_OTSU)
    counts = np.bincount(green.ravel(), minlength=256)
    dark, bright = counts[: int(threshold) + 1], counts[int(threshold) + 1 :]
    if not dark.any() or not bright.any() or np.searchsorted(np.cumsum(dark), dark.sum() / 2) >= _DARKEST_LAMP:
        return False
    return _blob_area(split) > 2 * _blob_area(255 - split)


def measure_field(image: np.ndarray) -> Field:
    """Density of *image* [H, W, 3] uint8 RGB with cells darker than the background."""
    background = _background(image)
    green = cv2.extractChannel(image, 1)
    lamp = cv2.resize(background[..., 1], green.shape[::-1], interpolation=cv2.INTER_LINEAR)
    density = cv2.subtract(lamp, cv2.LUT(cv2.GaussianBlur(green, (0, 0), 1.0), _LOG10))
    blocks = _halved(image, math.ceil(max(image.shape[:2]) / 2))  # colours are averaged over 2 x 2 pixels
    lamp = cv2.resize(background, blocks.shape[1::-1], interpolation=cv2.INTER_LINEAR)
    colours = cv2.subtract(lamp, cv2.LUT(blocks, _LOG10)).reshape(blocks.shape)
    return Field(density, _typical_level(colours, _noise(density)))


def _background(image: np.ndarray) -> np.ndarray:
    """Logarithm [h, w, 3] float32 of the light without cells, at reduced size.

    A quadratic surface through the logarithm of the brightest pixels, the unstained ones, and what shading it could not
    follow, smoothed over the unstained pixels alone. The surface is fitted again and again, each time to what lies
    within the noise of the brightest peak of the rest, the background's own: noise is what is brighter than it, while
    darker may be cells.
    """
    small = _halved(image, _FIT_PX)
    height, width = small.shape[:2]
    logs = cv2.LUT(small, _LOG10).reshape(-1, 3)
    y, x = (np.linspace(-1, 1, side, dtype=np.float32) for side in (height, width))
    y, x = (axis.ravel() for axis in np.meshgrid(y, x, indexing="ij"))
    terms = np.stack([np.ones_like(x), x, y, x * x, x * y, y * y], axis=-1)
    green = logs[:, 1]
    used = green > np.percentile(green, 95) - 0.10
    for _ in range(6):
        rest = green - terms @ _least_squares(terms[used], green[used])
        rest -= _brightest_peak(rest)
        above = rest[(rest > 0) & (rest < 0.1)]
        noise = max(1.4826 * np.median(above), 0.004) if len(above) else 0.004
        closer = np.abs(rest) < 2.5 * noise
        if closer.sum() < min(50, len(green) / 2):
            break
        used = closer
    surface = terms @ _least_squares(terms[used], logs[used])
    rest = logs - surface
    near = (np.abs(rest[:, 1]) < 3 * _spread(rest[used, 1])).astype(np.float32)
    weighted = np.column_stack([rest * near[:, None], near]).reshape(height, width, 4)
    weighted = _halved(weighted, _FIT_PX // 2)  # it is about to be smoothed anyway
    weighted = cv2.GaussianBlur(weighted, (0, 0), 0.08 * max(weighted.shape[:2]))
    rest = cv2.resize(weighted[..., :3] / (weighted[..., 3:] + 1e-3), (width, height), interpolation=cv2.INTER_LINEAR)
    return surface.reshape(height, width, 3) + rest.reshape(height, width, 3)


def _brightest_peak(rest: np.ndarray) -> float:
    """The brightest value of *rest* [N] about which at least a quarter as many pixels gather as about the commonest."""
    counts = np.bincount(np.clip(rest * 500 + 150, 0, 300).astype(int), minlength=301).astype(np.float32)
    counts = cv2.GaussianBlur(counts[None], (0, 0), 3.0)[0]  # bins of 0.002: about a grey level
    peaks = np.flatnonzero(
        (counts[1:-1] >= counts[:-2]) & (counts[1:-1] > counts[2:]) & (counts[1:-1] > counts.max() / 4)
    )
    return (peaks[-1] + 1.5 - 150) / 500 if len(peaks) else 0.0


def _least_squares(terms: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Coefficients [6] or [6, C] of *terms* [N, 6] for *values* [N] or [N, C], by the normal equations."""
    terms, values = terms.astype(float), values.astype(float)
    solved = np.linalg.lstsq(terms.T @ terms, terms.T @ values, rcond=1e-10)[0]  # rank may lack in tiny images
    return solved.astype(np.float32)


def _typical_level(colours: np.ndarray, noise: float) -> float:
    """Level of `Field`, from the densities *colours* [h, w, 3] of red, green and blue and the noise of green."""
    step = max(1, round((colours.shape[0] * colours.shape[1] / 40_000) ** 0.5))
    colours = colours[::step, ::step].reshape(-1, 3)  # enough for medians
    faintest = max(_FAINTEST, 3 * noise)
    visible = colours[(colours[:, 1] > faintest) & (colours[:, 1] < OPAQUE), 1]
    if not len(visible):
        return 0.0
    # Nuclei may be so dark that Otsu's split would lie between them and everything else.
    colours = colours[colours[:, 1] < min(2.5 * np.median(visible), OPAQUE)]
    green = colours[:, 1]
    levels = np.clip(green * (255 / 0.6), 0, 255).astype(np.uint8)
    threshold = cv2.threshold(levels, 0, 255, cv2.THRESH_BINARY | cv2.THRESH_OTSU)[0] * 0.6 / 255
    stained = green > threshold
    if stained.all() or not stained.any() or green[stained].mean() - green[~stained].mean() < faintest:
        return 0.0
    pixels = colours[stained]
    haemoglobin = pixels[:, 2] >= _NUCLEAR * pixels[:, 1]
    if haemoglobin.mean() > 0.1:  # else there are only nuclei and platelets, and they are what is typical
        pixels = pixels[haemoglobin]
    return float(np.median(pixels[:, 1]))


def _spread(values: np.ndarray) -> float:
    """A standard deviation that outliers do not move, at least that of rounding to whole grey levels."""
    return max(1.4826 * float(np.median(np.abs(values - np.median(values)))), 0.003) if values.size else 0.003


def _noise(density: np.ndarray) -> float:
    """The standard deviation of noise in a smoothed *density* [H, W], from its flattest pixels two columns apart."""
    rows = density[:: max(1, len(density) // 100)]
    steps = np.abs(rows[:, 2:] - rows[:, :-2])
    return float(np.percentile(steps, 30)) / 0.43 if steps.size else 0.0


def _halved(image: np.ndarray, longest_px: int) -> np.ndarray:
    """*image* [H, W] or [H, W, C] averaged over 2 x 2 pixels until its longer side is *longest_px* at most."""
    while max(image.shape[:2]) > longest_px:
        size = tuple((side + 1) // 2 for side in image.shape[1::-1])
        image = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    return image


def _blob_area(mask: np.ndarray) -> float:
    """Total area of the round, whole and small outlines in *mask* [H, W] uint8, holes counted in."""
    contours, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    total = 0.0
    for contour in contours:
        left, top, width, height = cv2.boundingRect(contour)
        whole = left > 0 and top > 0 and left + width < mask.shape[1] and top + height < mask.shape[0]
        area = cv2.contourArea(contour)
        small = min(width, height) >= 5 and max(width, height) <= 0.4 * max(mask.shape)
        if whole and small and area > 0.9 * cv2.contourArea(cv2.convexHull(contour)) and width < 2 * height < 4 * width:
            total += area
    return total
