"""Crops to what a network takes, and back."""

import torch
from torch import Tensor

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of red, green and blue over ImageNet, colours from 0 to 1


def normalise(crops: Tensor) -> Tensor:
    """uint8 crops [N, S, S, 3] to float32 [N, 3, S, S], channels last in memory, by ImageNet's means and deviations.

    The constants suit pretrained weights and are harmless without; they hold no information about any data set here.
    """
    # Along whole rows of pixels: torch works through a last dimension of three numbers four times more slowly.
    size = crops.shape[2]
    mean = torch.tensor(MEAN, device=crops.device).repeat(size)
    std = torch.tensor(STD, device=crops.device).repeat(size)
    rows = crops.flatten(2).to(torch.float32).div_(255).sub_(mean).div_(std)
    return rows.view(crops.shape).permute(0, 3, 1, 2)


def undo_normalise(images: Tensor) -> Tensor:
    """Images [N, 3, S, S] as `normalise` gives them to colours from 0 to 1 of the same shape."""
    mean, std = (torch.tensor(values, device=images.device).view(3, 1, 1) for values in (MEAN, STD))
    return (images * std + mean).clamp(0, 1)
