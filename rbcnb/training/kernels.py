"""The same arithmetic in less time on a CPU: memory that is kept, Adam without copies, convolutions over small maps.

What each brings: ``benchmarks/training.py --parts``.
"""

import ctypes
import math
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

# Of glibc's malloc.h.
_TRIM_THRESHOLD, _MMAP_THRESHOLD, _MMAP_MAX = -1, -3, -4
_MIB = 2**20
SMALL_MAP = 16  # positions of a convolution's output
BIG_KERNEL = 2**17  # weights of a convolution
_lock = threading.Lock()
_holders = 0  # fits that keep their memory: some may run as threads of one process


@contextmanager
def kept_memory() -> Iterator[None]:
    """What a batch frees stays with the process for the next one, and goes back to the system in the end.

    glibc maps each new block of over 32 MiB and often returns the top of its heap: the system then clears every page
    again. Elsewhere than on Linux with glibc this does nothing.
    """
    libc = ctypes.CDLL(None) if sys.platform == "linux" else None
    if not hasattr(libc, "mallopt"):
        yield
        return
    _hold(libc, 1)
    try:
        yield
    finally:
        _hold(libc, -1)


def _hold(libc: ctypes.CDLL, change: int) -> None:
    global _holders
    with _lock:
        _holders += change
        if _holders:
            libc.mallopt(_MMAP_MAX, 0)
            libc.mallopt(_TRIM_THRESHOLD, 2**31 - 1)
        else:
            # Where glibc's own thresholds go by themselves, once a big block was freed.
            libc.mallopt(_MMAP_MAX, 65536)
            libc.mallopt(_MMAP_THRESHOLD, 32 * _MIB)
            libc.mallopt(_TRIM_THRESHOLD, 64 * _MIB)
            libc.malloc_trim(0)


class DenseAdam(torch.optim.Adam):
    """torch's Adam that sees channels-last weights in the order in which they lie in memory.

    Its fused kernel copies weights, gradients and moments that are not contiguous, there and back, at every step: up to
    7 % of ResNet's (``benchmarks/training.py --parts``). A torch that does not ask ``_init_group`` for them makes this
    plain Adam.
    """

    def _init_group(self, group: dict[str, Any], weights: list[Tensor], *others: list[Tensor]) -> bool:
        is_complex = super()._init_group(group, weights, *others)
        turned = [_is_turned(weight) for weight in weights]
        for tensors in (weights, *others[:3]):  # gradients and both moments; neither the maxima nor the step counts
            tensors[:] = [t.permute(0, 2, 3, 1) if turn else t for t, turn in zip(tensors, turned, strict=True)]
        return is_complex


def _is_turned(weight: Tensor) -> bool:
    return weight.ndim == 4 and weight.is_contiguous(memory_format=torch.channels_last)


class SmallMapConv2d(nn.Conv2d):
    """A convolution as matrix products where its output has few positions.

    oneDNN's gradient of the weights works along rows of pixels. At 2 x 2 px, forward and backward, this takes 0.75 of
    the time in bfloat16 and 0.8 in float32 for a 3 x 3 kernel, half to 0.8 of it for 1 x 1; at 8 x 8 px it would lose.
    """

    def forward(self, images: Tensor) -> Tensor:
        """Images [N, C, H, W] to maps [N, C', H', W']."""
        sizes = zip(images.shape[2:], self.kernel_size, self.padding, self.stride, strict=True)
        positions = math.prod((side + 2 * pad - kernel) // stride + 1 for side, kernel, pad, stride in sizes)
        if positions > SMALL_MAP:
            return super().forward(images)
        if torch.is_autocast_enabled("cpu"):
            images = images.to(torch.get_autocast_dtype("cpu"))
        weight = self.weight.to(images.dtype)
        if self.kernel_size == (1, 1):
            seen = images[:, :, :: self.stride[0], :: self.stride[1]].permute(0, 2, 3, 1)
            # As one matrix: of four axes that are not contiguous, torch would copy the weights once for every row of
            # pixels where no gradient is wanted.
            product = F.linear(seen.reshape(-1, seen.shape[-1]), weight.flatten(1))
            return product.view(*seen.shape[:3], -1).permute(0, 3, 1, 2)
        return _Convolution.apply(images, weight, self.stride, self.padding)


class _Convolution(torch.autograd.Function):
    """``F.conv2d`` whose weights' gradient is one product of matrices."""

    @staticmethod
    def forward(ctx: Any, images: Tensor, weight: Tensor, stride: tuple[int, int], padding: tuple[int, int]) -> Tensor:
        ctx.save_for_backward(images, weight)
        ctx.stride, ctx.padding = stride, padding
        return F.conv2d(images, weight, None, stride, padding)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor, None, None]:
        images, weight = ctx.saved_tensors
        height, width = weight.shape[2:]
        of_images = None
        if ctx.needs_input_grad[0]:
            of_images = torch.nn.grad.conv2d_input(images.shape, weight, gradient, ctx.stride, ctx.padding)
        down, across = ctx.padding
        padded = F.pad(images, (across, across, down, down)).permute(0, 2, 3, 1)
        windows = padded.unfold(1, height, ctx.stride[0]).unfold(2, width, ctx.stride[1])  # [N, H', W', C, h, w]
        columns = windows.permute(0, 1, 2, 4, 5, 3).flatten(3).flatten(0, 2)  # [N H' W', h w C]
        product = gradient.permute(0, 2, 3, 1).flatten(0, 2).T @ columns
        return of_images, product.view(len(weight), height, width, -1).permute(0, 3, 1, 2), None, None


def use_small_maps(model: nn.Module) -> nn.Module:
    """*model*, its big plain convolutions made `SmallMapConv2d` in place; names and weights stay."""
    for module in model.modules():
        if type(module) is nn.Conv2d and module.weight.numel() >= BIG_KERNEL and _is_plain(module):
            module.__class__ = SmallMapConv2d
    return model


def _is_plain(convolution: nn.Conv2d) -> bool:
    unpadded = convolution.padding == (0, 0)
    return (
        convolution.groups == 1
        and convolution.dilation == (1, 1)
        and convolution.bias is None
        and (unpadded or convolution.padding_mode == "zeros")
        and not isinstance(convolution.padding, str)
        and (unpadded or convolution.kernel_size != (1, 1))
    )
