"""Upscaling before segmentation: the Waifu2x network (run by ncnn) and bicubic interpolation.

Line 3 of Algorithm 1 upscales a smear so that one cell fills the network's input; Fig. 6 compares the two ways.
Coordinates are measured from the image's top left corner, so a point at x stands at scale * x afterwards.
`rbcnb.segmentation.upscaled_windows` gives parts of the upscaled image without the whole.
"""

import math
import warnings
from functools import lru_cache

import numpy as np

from rbcnb._utils.opencv import cv2
from rbcnb.segmentation.waifu2x import Waifu2xUnavailable, double, network

METHODS = ("waifu2x", "bicubic")


def waifu2x(image: np.ndarray, scale: float) -> np.ndarray:
    """Upscale *image* with Waifu2x (Dong et al., 2015; paper section 4.1, Fig. 6b).

    The network doubles an image, so it runs ceil(log2(scale)) times and the result is reduced (area averaging) to
    exactly round(scale * height) x round(scale * width). For scale <= 1 no network runs.

    Large images are cut in tiles of 128 px that see 7 px of their neighbours, all that the network can see: there are
    no seams and, apart from the image itself, memory does not grow with image size. Two calls give identical bytes.

    Args:
        image: [H, W, 3] uint8 RGB.
        scale: output pixels per input pixel, > 0.

    Raises:
        Waifu2xUnavailable: ncnn or the model files are missing.
    """
    size = output_size(image, scale)
    if scale <= 1:
        return _resize(image, size, cv2.INTER_AREA)
    net = network()
    for _ in range(doublings(scale)):
        image = double(net, image)
    return _resize(image, size, cv2.INTER_AREA)


def bicubic(image: np.ndarray, scale: float) -> np.ndarray:
    """Upscale *image* bicubically (the paper's "conventional up-scale method", Fig. 6a); area averaging if scale <= 1.

    Args:
        image: [H, W, 3] or [H, W] uint8; returns round(scale * H) x round(scale * W).
    """
    return _resize(image, output_size(image, scale), cv2.INTER_CUBIC if scale > 1 else cv2.INTER_AREA)


def upscale(image: np.ndarray, scale: float, *, method: str) -> np.ndarray:
    """Upscale by *method*, "waifu2x" or "bicubic". Where Waifu2x cannot run it warns, and upscales bicubically.

    Args:
        image: [H, W, 3] uint8 RGB; returns round(scale * H) x round(scale * W).
    """
    if usable_method(method) == "waifu2x":
        return waifu2x(image, scale)
    return bicubic(image, scale)


def usable_method(method: str) -> str:
    """*method*, or "bicubic" (with a warning, once) where that is "waifu2x" and Waifu2x cannot run.

    Args:
        method: "waifu2x" or "bicubic".

    Raises:
        ValueError: *method* is another.
    """
    if method not in METHODS:
        raise ValueError(f"unknown upscaling method {method!r}: choose one of {', '.join(METHODS)}")
    if method == "waifu2x":
        try:
            network()
        except Waifu2xUnavailable as error:
            _warn_once(f"{error} Upscaling bicubically instead.")
            return "bicubic"
    return method


def doublings(scale: float) -> int:
    """How often the network runs for *scale* > 1."""
    return math.ceil(math.log2(scale) - 1e-9)


def output_size(image: np.ndarray, scale: float) -> tuple[int, int]:
    """(height, width) after scaling; refuses what cannot be scaled."""
    if not (math.isfinite(scale) and scale > 0):
        raise ValueError(f"scale must be a positive number, not {scale!r}")
    if image.dtype != np.uint8 or image.ndim not in (2, 3) or 0 in image.shape[:2]:
        raise ValueError(f"expected a non-empty uint8 image [H, W, 3], got {image.dtype} {image.shape}")
    return max(1, round(scale * image.shape[0])), max(1, round(scale * image.shape[1]))


def _resize(image: np.ndarray, size: tuple[int, int], interpolation: int) -> np.ndarray:
    if image.shape[:2] == size:
        return image.copy()
    return cv2.resize(image, (size[1], size[0]), interpolation=interpolation)


@lru_cache
def _warn_once(message: str) -> None:
    # Python's own "once per place" filter is reset by pytest and by notebooks; each message is shown once a process.
    warnings.warn(message, RuntimeWarning, stacklevel=3)
