"""Grad-CAM (Selvaraju et al. 2017): which part of a crop speaks for a class.

Every network here ends in feature maps, their mean over positions, and a linear layer. For such a network the map of a
class is the class's logit, laid out: the map's sum over positions is the logit less its bias. So with the maps of the
last layer Grad-CAM is exact; what it tells is coarse, as these maps are (a thirty-second of the crop's side in ResNet
and DenseNet, an eighth in the small net), and says where, not what.
"""

from collections.abc import Sequence

import cv2
import numpy as np
import torch
from torch import Tensor, nn

from rbcnb.engine import bare_model
from rbcnb.models import normalise

_BATCH = 32


def class_maps(model: nn.Module, crops: np.ndarray, classes: Sequence[int]) -> np.ndarray:
    """What each position of the last feature maps adds to the logit of the class asked for: float32 [N, h, w].

    Args:
        model: a network of `rbcnb.models.build_model`; it is left in eval mode, its gradients untouched.
        crops: uint8 [N, S, S, 3].
        classes: one output's number per crop.

    Raises:
        ValueError: not one class per crop, or a network whose last feature maps are not known.
    """
    if len(classes) != len(crops):
        raise ValueError(f"one class per crop is needed, got {len(classes)} for {len(crops)} crops")
    model = bare_model(model).eval()
    layer, held = last_maps(model), []

    def hold(_module: nn.Module, _inputs: tuple, output: Tensor) -> Tensor:
        # DenseNet rectifies in place after this layer; on the others, rectified already, it changes nothing.
        held.append(output.relu())
        return held[-1].clone()

    device = next(model.parameters()).device
    found = []
    handle = layer.register_forward_hook(hold)
    try:
        for start in range(0, len(crops), _BATCH):
            images = normalise(torch.from_numpy(np.ascontiguousarray(crops[start : start + _BATCH])).to(device))
            chosen = torch.as_tensor(list(classes[start : start + _BATCH]), device=device)
            with torch.enable_grad():
                logits = model(images.requires_grad_())  # so that gradients flow in a network that is frozen, too
                maps = held.pop()
                (slope,) = torch.autograd.grad(logits.gather(1, chosen[:, None]).sum(), maps)
            weights = slope.mean(dim=(2, 3), keepdim=True)
            found.append((weights * maps).sum(dim=1).detach().cpu().numpy())
    finally:
        handle.remove()
    return np.concatenate(found) if found else np.empty((0, 0, 0), np.float32)


def grad_cam(model: nn.Module, crops: np.ndarray, classes: Sequence[int]) -> np.ndarray:
    """Grad-CAM's heat [N, S, S] float32: `class_maps` without what speaks against, enlarged to the crops, at most 1.

    Each crop's own largest value is 1; a crop where nothing speaks for the class is 0 throughout.
    """
    size = crops.shape[1]
    heat = np.maximum(class_maps(model, crops, classes), 0)
    large = [cv2.resize(one, (size, size), interpolation=cv2.INTER_LINEAR) for one in heat]
    large = np.array(large, np.float32).reshape(-1, size, size)
    peak = large.max(axis=(1, 2), keepdims=True, initial=0)
    return np.divide(large, peak, out=np.zeros_like(large), where=peak > 0)


def last_maps(model: nn.Module) -> nn.Module:
    """The module whose output, rectified, is averaged over positions and goes into the linear layer."""
    if hasattr(model, "layer4"):
        return model.layer4
    if hasattr(model, "features"):
        return model.features
    parts = list(model.children())
    pools = [i for i, part in enumerate(parts) if isinstance(part, nn.AdaptiveAvgPool2d)]
    if isinstance(model, nn.Sequential) and pools and pools[0] > 0:
        return parts[pools[0] - 1]
    raise ValueError(
        f"{type(model).__name__}: its last feature maps are not known; name them in rbcnb.gradcam.last_maps"
    )
