"""What is stained: from grey levels to optical density over an even field.

Light falls off exponentially in what a cell holds (Beer and Lambert), so the logarithm of background over image, the
optical density, adds where cells overlap and does not change with the lamp. The background is a smooth surface through
the unstained pixels. Whoever tells cells from background reads the density here.
"""

from dataclasses import dataclass

import cv2
import numpy as np

OPAQUE = 0.9  # in green; no red cell is so dense: what is, is a nucleus, a fibre or the edge of the field of view
FAINTEST = 0.03  # between stained and background: fainter than a pale cell, stronger than noise
NUCLEAR = 0.42  # blue over green: haemoglobin and eosin absorb more blue than this, the dyes of nuclei less
_DARKEST_LAMP = 110  # green level; a background lit by a lamp is brighter
_FIT_PX = 112  # longer side of the reduced image through whose bright pixels the background is laid
_LOG10 = np.log10(np.arange(256, dtype=np.float32) + 1)


@dataclass(frozen=True, eq=False)
class Field:
    """The optical density of a smear; that in green, where haemoglobin and eosin absorb most, tells what is stained."""

    rgb: np.ndarray  # [H, W, 3] float32, density of red, green and blue over the background
    threshold: float  # Otsu's, in green, between background and stained
    level: float  # of a typical stained pixel, in green; 0 where nothing stands out from the background
    hue: tuple[float, float]  # density of red and of blue relative to green, of typical stained pixels

    @property
    def density(self) -> np.ndarray:
        """[H, W] float32 density of green."""
        return self.rgb[..., 1]


def upright(image: np.ndarray) -> np.ndarray:
    """*image* [H, W, 3] uint8 with cells darker than the background: inverted where it is a dark field."""
    return 255 - image if is_dark_field(image) else image


def is_dark_field(image: np.ndarray) -> bool:
    """Whether the cells of *image* [H, W, 3] uint8 are brighter than a dark background.

    Both halves of Otsu's split are searched for small round blobs, and the half with more of them holds the cells.
    In doubt, as in a crowd without single cells, the smear is taken for a bright field.
    """
    green = _reduced(image, 2 * _FIT_PX)[..., 1]
    green = cv2.GaussianBlur(np.ascontiguousarray(green), (0, 0), 1.0)
    threshold, split = cv2.threshold(green, 0, 255, cv2.THRESH_BINARY | cv2.THRESH_OTSU)
    dark, bright = green[split == 0], green[split > 0]
    if not len(dark) or not len(bright) or np.median(dark) >= _DARKEST_LAMP or np.median(bright) < 1.2 * threshold / 2:
        return False
    return _blob_area(split) > 2 * _blob_area(255 - split)


def measure_field(image: np.ndarray, *, sigma_px: float = 1.0) -> Field:
    """Density of *image* [H, W, 3] uint8 RGB with cells darker than the background, smoothed by *sigma_px*."""
    smooth = cv2.GaussianBlur(image, (0, 0), sigma_px) if sigma_px > 0 else image
    background, used = _background(image)
    rgb = cv2.subtract(background, cv2.LUT(smooth, _LOG10)).reshape(image.shape)
    small = _reduced(rgb, _FIT_PX)
    # What shading the surface could not follow: smoothed over the unstained pixels alone.
    weight = (np.abs(small[..., 1]) < 3 * _spread(small[..., 1][used])).astype(np.float32)
    sigma = 0.08 * max(small.shape[:2])
    total = cv2.GaussianBlur(weight, (0, 0), sigma)[..., None] + 1e-3
    rest = cv2.GaussianBlur(small * weight[..., None], (0, 0), sigma).reshape(small.shape) / total
    rgb -= cv2.resize(rest, rgb.shape[1::-1], interpolation=cv2.INTER_LINEAR).reshape(rgb.shape)
    return Field(rgb, *_typical(rgb))


def _background(image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """[H, W, 3] float32: a quadratic surface through the logarithm of the brightest pixels, the unstained ones; and
    which pixels of the reduced image it was laid through.

    Fitted again and again, each time to what lies within the noise of the surface before: noise is what is brighter
    than the background, while darker may be cells.
    """
    small = _reduced(image, _FIT_PX)
    logs = cv2.LUT(small, _LOG10).reshape(-1, 3)
    y, x = np.meshgrid(*(np.linspace(-1, 1, side) for side in small.shape[:2]), indexing="ij")
    terms = np.stack([np.ones_like(x), x, y, x * x, x * y, y * y], axis=-1).reshape(-1, 6)
    green = logs[:, 1]
    used = green > np.percentile(green, 95) - 0.10
    for tries in range(6):
        surface = terms @ np.linalg.lstsq(terms[used], green[used], rcond=None)[0]
        rest = green - surface
        above = rest[used & (rest > 0)]
        noise = max(1.4826 * np.median(above), 0.004) if len(above) else 0.004
        closer = (rest > -2 * noise) & (rest < 3 * noise) if tries else rest > -noise
        if closer.sum() < min(50, len(green) / 2):
            break
        used = closer
    fitted = terms @ np.linalg.lstsq(terms[used], logs[used], rcond=None)[0]
    fitted = fitted.reshape(*small.shape[:2], 3).astype(np.float32)
    surface = cv2.resize(fitted, image.shape[1::-1], interpolation=cv2.INTER_LINEAR).reshape(image.shape)
    return surface, used.reshape(small.shape[:2])


def _typical(rgb: np.ndarray) -> tuple[float, float, tuple[float, float]]:
    """Threshold, level and hue of `Field`."""
    noise = _noise(rgb[..., 1])
    step = max(1, round((rgb.shape[0] * rgb.shape[1] / 80_000) ** 0.5))
    rgb = rgb[::step, ::step]  # enough for medians
    green = rgb[..., 1]
    lit = green[green < OPAQUE]
    if not len(lit):
        return 0.0, 0.0, (0.0, 0.0)
    levels = np.clip(lit * (255 / 0.6), 0, 255).astype(np.uint8)
    threshold = cv2.threshold(levels, 0, 255, cv2.THRESH_BINARY | cv2.THRESH_OTSU)[0] * 0.6 / 255
    above = lit[lit > threshold]
    below = lit[lit <= threshold]
    if not len(above) or above.mean() - below.mean() < max(FAINTEST, 3 * noise):
        return threshold, 0.0, (0.0, 0.0)
    pixels = rgb[(green < OPAQUE) & (green > threshold)]
    haemoglobin = pixels[:, 2] >= NUCLEAR * pixels[:, 1]
    if haemoglobin.mean() > 0.1:  # else there are only nuclei and platelets, and they are what is typical
        pixels = pixels[haemoglobin]
    level = float(np.median(pixels[:, 1]))
    # Overlaps and dirt are denser, edges and pallor fainter.
    typical = pixels[(pixels[:, 1] > 0.7 * level) & (pixels[:, 1] < 2 * level)]
    hue = np.median(typical[:, (0, 2)] / typical[:, 1:2], axis=0) if len(typical) else np.ones(2)
    return threshold, level, (float(hue[0]), float(hue[1]))


def _spread(values: np.ndarray) -> float:
    """A standard deviation that outliers do not move, at least that of rounding to whole grey levels."""
    return max(1.4826 * float(np.median(np.abs(values - np.median(values)))), 0.003) if values.size else 0.003


def _noise(green: np.ndarray) -> float:
    """The standard deviation of noise in smoothed *green* [H, W], from its flattest pixels two columns apart."""
    steps = np.abs(green[:: max(1, len(green) // 200), 2:] - green[:: max(1, len(green) // 200), :-2])
    return float(np.percentile(steps, 30)) / 0.43 if steps.size else 0.0


def _reduced(image: np.ndarray, longest_px: int) -> np.ndarray:
    """*image* [H, W, 3] reduced by area averaging until its longer side is *longest_px* at most."""
    factor = min(1.0, longest_px / max(image.shape[:2]))
    if factor == 1:
        return image
    size = tuple(max(1, round(factor * side)) for side in image.shape[1::-1])
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA)


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
