"""Grad-CAM (Selvaraju et al. 2017): which part of a crop speaks for a class.

Grad-CAM weighs the last feature maps by the mean gradient of a class's logit. Every network here ends in these maps,
their mean over positions and a linear layer, so that the gradient is the same everywhere: the layer's weight over the
number of positions. No backward pass is needed, and the map is the logit laid out: its sum over positions is the logit
less its bias. It is as coarse as the maps (a thirty-second of the crop's side in ResNet and DenseNet, an eighth in the
small net), and says where, not what.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from rbcnb._utils.opencv import cv2
from rbcnb.training.engine import bare_model
from rbcnb.training.normalise import normalise

_BATCH = 32


def class_maps(model: nn.Module, crops: np.ndarray, classes: Sequence[int]) -> np.ndarray:
    """What each position of the last feature maps adds to the logit of the class asked for: float32 [N, h, w].

    Args:
        model: a network of `rbcnb.training.build_model`; it is left in eval mode.
        crops: uint8 [N, S, S, 3].
        classes: one output's number per crop.

    Raises:
        ValueError: not one class per crop, or a network whose last feature maps are not known.
    """
    if len(classes) != len(crops):
        raise ValueError(f"one class per crop is needed, got {len(classes)} for {len(crops)} crops")
    model = bare_model(model).eval()
    layer, linear = last_layers(model)
    held: list[Tensor] = []
    # DenseNet rectifies in place after this layer, hence the copy; the others' maps are rectified already.
    handle = layer.register_forward_hook(lambda _module, _inputs, output: held.append(output.relu()))
    found = []
    try:
        with torch.inference_mode():
            for start in range(0, len(crops), _BATCH):
                images = torch.from_numpy(np.ascontiguousarray(crops[start : start + _BATCH])).to(linear.weight.device)
                model(normalise(images))
                maps = held.pop()
                weights = linear.weight[list(classes[start : start + _BATCH])] / (maps.shape[2] * maps.shape[3])
                found.append(torch.einsum("nkhw,nk->nhw", maps, weights).cpu().numpy())
    finally:
        handle.remove()
    return np.concatenate(found) if found else np.empty((0, 0, 0), np.float32)


def grad_cam(model: nn.Module, crops: np.ndarray, classes: Sequence[int]) -> np.ndarray:
    """Grad-CAM's heat [N, S, S] float32: the positive part of `class_maps`, enlarged to the crops, 0 to 1.

    The largest value of each crop is 1; a crop without evidence for the class is 0 throughout.

    Args:
        model: a network of `rbcnb.training.build_model`; it is left in eval mode.
        crops: uint8 [N, S, S, 3].
        classes: one output's number per crop, [N].

    Raises:
        ValueError: not one class per crop, or a network whose last feature maps are not known.
    """
    size = crops.shape[1]
    heat = np.maximum(class_maps(model, crops, classes), 0)
    large = [cv2.resize(heatmap, (size, size), interpolation=cv2.INTER_LINEAR) for heatmap in heat]
    large = np.array(large, np.float32).reshape(-1, size, size)
    peak = large.max(axis=(1, 2), keepdims=True, initial=0)
    return np.divide(large, peak, out=np.zeros_like(large), where=peak > 0)


def last_layers(model: nn.Module) -> tuple[nn.Module, nn.Linear]:
    """The module whose output, rectified, is averaged over positions, and the linear layer that this mean goes into."""
    parts = dict(model.named_children())
    names = [name for name, part in parts.items() if not isinstance(part, nn.Dropout)]
    if "layer4" in parts and "fc" in parts:
        return parts["layer4"], parts["fc"]
    if "features" in parts and isinstance(parts.get("classifier"), nn.Linear):
        return parts["features"], parts["classifier"]
    if len(names) > 3 and [type(parts[name]) for name in names[-3:]] == [nn.AdaptiveAvgPool2d, nn.Flatten, nn.Linear]:
        return parts[names[-4]], parts[names[-1]]
    raise ValueError(
        f"{type(model).__name__}: its last feature maps are not known; name them in rbcnb.training.last_layers"
    )
