"""The network of the learned finder: where cells' centres are, how large they are, and what is no red cell.

Its weights lie beside this file, with a card that says what they were trained on.
"""

import copy
import hashlib
import json
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.fusion import fuse_conv_bn_eval

from rbcnb._utils.errors import WeightsError
from rbcnb._utils.files import atomic_write
from rbcnb._utils.read_files import parse_json

MAPS = ("centre", "log_radius", "red_cell", "other")  # the channels of the output
CHANNELS = (32, 64, 80, 96)  # of the levels, from half the size of the input to a sixteenth
STRIDE = 2  # of the output
MULTIPLE = 16  # sides of the input are multiples of it
RADIUS_UNIT_PX = 10.0  # a log_radius of 0
WEIGHTS = Path(__file__).with_name("finder.safetensors")
FORMAT = "rbcnb-finder-1"


class FinderNet(nn.Module):
    """A small U-Net that adds where others concatenate.

    Input [N,3,H,W] float, RGB from 0 to 255, H and W multiples of ``MULTIPLE``. Output [N,4,H/2,W/2]: logits of a
    centre, the logarithm of the radius over ``RADIUS_UNIT_PX``, logits of red cells and of other things (``MAPS``).
    *fused*: without batch normalisation, whose scale and shift are in the convolutions (`fused_net`).
    """

    def __init__(self, *, fused: bool = False):
        super().__init__()
        block = _fused_block if fused else _block
        first, steps = CHANNELS[0], list(pairwise(CHANNELS))
        self.stem = nn.Sequential(block(3 * STRIDE**2, first), block(first, first))
        self.down = nn.ModuleList(nn.Sequential(block(a, b), block(b, b)) for a, b in steps)
        self.narrow = nn.ModuleList(nn.Conv2d(b, a, 1) for a, b in steps)
        self.up = nn.ModuleList(block(a, a) for a in CHANNELS[:-1])
        self.head = nn.Conv2d(first, len(MAPS), 1)
        nn.init.constant_(self.head.bias, -2.0)
        with torch.no_grad():
            self.head.bias[MAPS.index("log_radius")] = 0.0

    def forward(self, images: Tensor) -> Tensor:
        """Images [N, 3, H, W], 0 to 255, to the maps that `LearnedFinder` reads."""
        skips = [self.stem(F.pixel_unshuffle(images / 127.5 - 1, STRIDE))]
        for down in self.down:
            skips.append(down(F.max_pool2d(skips[-1], 2)))
        x = skips.pop()
        for narrow, up in zip(reversed(self.narrow), reversed(self.up), strict=True):
            x = up(skips.pop() + F.interpolate(narrow(x), scale_factor=2, mode="nearest"))
        return self.head(x)


def _block(into: int, out: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(into, out, 3, padding=1, bias=False), nn.BatchNorm2d(out), nn.ReLU(inplace=True))


def _fused_block(into: int, out: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(into, out, 3, padding=1), nn.ReLU(inplace=True))


def fused_net(net: FinderNet) -> FinderNet:
    """A copy of the trained *net* that computes the same with fewer steps."""
    fused = FinderNet(fused=True)
    new = dict(fused.named_modules())
    for name, module in copy.deepcopy(net).eval().named_modules():
        if isinstance(module, nn.Sequential) and len(module) == 3 and isinstance(module[1], nn.BatchNorm2d):
            new[name][0].load_state_dict(fuse_conv_bn_eval(module[0], module[1]).state_dict())
        elif isinstance(module, nn.Conv2d) and module.bias is not None:
            new[name].load_state_dict(module.state_dict())
    return fused.eval()


@dataclass(frozen=True, eq=False)
class Finder:
    """A trained network ready to find cells, and what its file says of it."""

    net: FinderNet  # fused, in eval mode, channels last
    raw: np.ndarray  # [K], rising: values of the centre map at a cell's peak ...
    score: np.ndarray  # ... and [K], rising: the share of such peaks that are cells
    card: dict[str, Any]  # what the weights were trained on
    digest: str  # of weights and calibration


def save_finder(net: FinderNet, path: Path, *, raw: np.ndarray, score: np.ndarray, card: dict[str, Any]) -> None:
    """Writes the trained *net* with the calibration of its scores to *path*, in half precision."""
    weights = {name: value.half().contiguous() for name, value in fused_net(net).state_dict().items()}
    calibration = {"raw": np.round(raw, 5).tolist(), "score": np.round(score, 5).tolist()}
    facts = {"format": FORMAT, "card": json.dumps(card, sort_keys=True), "calibration": json.dumps(calibration)}
    with atomic_write(path) as part:
        part.write_bytes(save(weights, metadata=facts))


@cache
def load_finder(path: Path = WEIGHTS) -> Finder:
    """The finder of a file that `save_finder` wrote; by default the one that comes with the package.

    Raises:
        WeightsError: no such file, or not of this version.
    """
    try:
        with safe_open(path, framework="pt") as file:
            facts = file.metadata() or {}
            weights = {name: file.get_tensor(name).float() for name in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise WeightsError(
            f"{path}: the finder's weights cannot be read ({error}); install the package again"
        ) from None
    if facts.get("format") != FORMAT:
        raise WeightsError(f"{path}: not the weights of a finder of this version; install the package again")
    net = FinderNet(fused=True)
    try:
        net.load_state_dict(weights)
    except RuntimeError as error:
        raise WeightsError(f"{path}: not the weights of this version's finder ({error}); train it again") from None
    try:
        calibration, card = parse_json(facts["calibration"]), parse_json(facts["card"])
        raw, score = (np.array(calibration[name], float) for name in ("raw", "score"))
    except (KeyError, ValueError, TypeError) as error:
        raise WeightsError(f"{path}: its calibration or card cannot be read ({error!r}); train it again") from None
    net = net.eval().to(memory_format=torch.channels_last)
    return Finder(net, raw, score, card, _digest(weights, facts["calibration"]))


def _digest(weights: dict[str, Tensor], calibration: str) -> str:
    """Of what finds cells, whatever else the file says and in whatever order."""
    digest = hashlib.sha256(calibration.encode())
    for name in sorted(weights):
        digest.update(f"{name} {tuple(weights[name].shape)}".encode())
        digest.update(weights[name].numpy().tobytes())
    return digest.hexdigest()
