"""Crops to probabilities, without fastai: what `rbcnb count` needs of a network."""

from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor, nn

from rbcnb.training.engine import bare_model
from rbcnb.training.normalise import normalise

EVALUATION_BATCH = 128  # at most; without gradients, four times a training batch fits as well


def probabilities_of(model: nn.Module, batches: Iterable[Tensor]) -> np.ndarray:
    """Softmax probabilities, float64 [N, C], of *batches* of normalised images; leaves the model in eval mode.

    Always in float32: bfloat16's logits have three digits, and ranks of confident cells would tie.
    """
    model = bare_model(model).eval()
    with torch.inference_mode():
        # float64 before the softmax: rows sum to 1 within 1e-15.
        logits = torch.cat([model(images).double() for images in batches])
    return logits.softmax(dim=1).cpu().numpy()


def predict_crops(model: nn.Module, crops: np.ndarray) -> np.ndarray:
    """Softmax probabilities of crops, float64 [N, C]; see `probabilities_of`.

    Args:
        model: from normalised images [N, 3, S, S] to logits [N, C], on the device that computes; left in eval mode.
        crops: uint8 [N, S, S, 3].

    Raises:
        ValueError: there are no crops.
    """
    if not len(crops):
        raise ValueError("there are no crops to classify")
    device = next(model.parameters()).device
    parts = torch.from_numpy(np.ascontiguousarray(crops)).split(EVALUATION_BATCH)
    return probabilities_of(model, (normalise(part.to(device)) for part in parts))
