"""Light through a smear: absorption, focus, lens, lamp, sensor and compression, each a pure function.

Beer and Lambert: what passes is ``10 ** -(absorption x thickness)``, separately in each colour channel; along a ray
densities add. Lengths are micrometres, so that one set of numbers serves every magnification. Absorptions are of the
values that a camera writes, its tone curve included. Arrays are float32: rounding is far below a grey level.
"""

import numpy as np

from rbcnb._utils.opencv import cv2

# Decadic absorption, relative to green, of red, green and blue light. Eosin is what red cells take up.
EOSIN = np.array([0.30, 1.00, 0.68])
AZURE = np.array([0.62, 1.00, 0.40])  # nuclei, platelets, precipitate: purple
NEUTRAL = np.array([0.97, 1.00, 1.00])  # dust
EOSIN_PER_UM = 0.080  # density of green light in 1 um of a dried, stained red cell
# Standard deviation of the blur [um] by 1 um out of focus. Less than the cone of a 1.25 NA objective spreads, since
# the condenser is stopped down for contrast.
DEFOCUS = 0.30
LENS_UM = 0.09  # standard deviation of the point spread of that objective, in focus, with the camera's pixel


def transmit(density: np.ndarray) -> np.ndarray:
    """Beer-Lambert: the fraction of light that passes an optical density (decadic)."""
    return np.exp(np.multiply(density, -np.log(10), dtype=np.result_type(density, np.float32)))


def blur(image: np.ndarray, sd_px: float) -> np.ndarray:
    """Gaussian point spread of standard deviation *sd_px* on [H,W] or [H,W,C] float32; under 0.05 px a no-op.

    The kernel sums to 1, so the total is kept, except near the border, where the image is mirrored.
    """
    if sd_px < 0.05:
        return image
    side = 2 * int(np.ceil(3 * sd_px)) + 1
    return cv2.GaussianBlur(image, (side, side), sd_px, borderType=cv2.BORDER_REFLECT_101)


def focus(
    planes_um: np.ndarray, heights_um: np.ndarray, *, um_per_px: float, contrast: float
) -> tuple[np.ndarray, np.ndarray]:
    """Thickness as the lens shows it, and the neutral density of the fringes, from cells at several heights.

    Args:
        planes_um: float32 [K,H,W], thickness of the cells that lie in each plane.
        heights_um: [K], signed distance of each plane from the plane in focus.
        um_per_px: size of a pixel.
        contrast: refractive index of a cell minus that of what surrounds it.

    Returns:
        Blurred thickness [um] and fringe density, each [H,W]. A cell refracts: out of focus by z its light gathers or
        thins by ``-z x contrast x laplacian(thickness)`` (transport of intensity, Teague 1983), which draws a dark or
        bright line along its edge. Fringes of all the cells sum to zero where no cell is cut by the border.
    """
    path, moment = np.zeros_like(planes_um[0]), np.zeros_like(planes_um[0])
    for plane, height in zip(planes_um, heights_um, strict=True):
        sharp = blur(plane, np.hypot(LENS_UM, DEFOCUS * height) / um_per_px)
        path += sharp
        moment += np.float32(height) * sharp
    laplacian = cv2.Laplacian(moment, cv2.CV_32F, ksize=1) / np.float32(um_per_px**2)
    return path, laplacian * np.float32(contrast / np.log(10))


def halo(light: np.ndarray, *, sd_px: float, strength: float) -> np.ndarray:
    """Light bent at the edges of cells gathers around them: an unsharp mask, which keeps the mean."""
    if strength == 0:
        return light
    return np.float32(1 + strength) * light - np.float32(strength) * blur(light, sd_px)


def lamp(shape: tuple[int, int], *, slope: np.ndarray, vignette: float) -> np.ndarray:
    """Relative brightness [H,W,3] of an uneven field: a plane per channel, *slope* [2,3] (x, y), and a fall-off."""
    rows = np.linspace(-1, 1, shape[0], dtype=np.float32)[:, None, None]
    columns = np.linspace(-1, 1, shape[1], dtype=np.float32)[None, :, None]
    slope = np.asarray(slope, np.float32)
    return 1 + slope[0] * columns + slope[1] * rows - np.float32(vignette / 2) * (columns**2 + rows**2)


def expose(light: np.ndarray, *, noise: float, rng: np.random.Generator) -> np.ndarray:
    """Sensor: light [H,W,3] (1 saturates) to uint8, with shot noise of standard deviation *noise* at saturation."""
    grain = rng.standard_normal(light.shape, dtype=np.float32)
    grain *= np.sqrt(np.maximum(light, np.float32(0.02)))
    grain *= np.float32(255 * noise)
    grain += 255 * light
    return np.clip(np.rint(grain, out=grain), 0, 255, out=grain).astype(np.uint8)


def compress(image: np.ndarray, quality: int) -> np.ndarray:
    """What a JPEG file of *quality* (1 to 100) gives back of an RGB image; colour at half resolution, as cameras do."""
    _, code = cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])
    return np.ascontiguousarray(cv2.imdecode(code, cv2.IMREAD_COLOR)[..., ::-1])
