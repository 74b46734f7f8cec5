"""How the arithmetic of a fit is done on a device: number format, memory layout, kernels; never what is computed.

Measured by ``benchmarks/training.py``. Everywhere: channels-last images and torch's fused Adam; on a CPU the kernels of
`rbcnb.training.kernels`. bfloat16 where the processor multiplies it (AVX-512 BF16 or AMX, CUDA from Ampere on), since
its training curves stay within the spread of seeds; elsewhere float32 (on a GPU, as torch has it: convolutions round to
TF32). ``torch.compile`` gained nothing on CPUs and costs most of a minute a fit: it is left out.
"""

import platform
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from rbcnb.training.kernels import use_small_maps
from rbcnb.training.trial import PRECISIONS

# Of a CPU, of CUDA and Apple's Metal, of cuDNN and cuBLAS.
_NO_MEMORY = ("can't allocate memory", "out of memory", "ALLOC_FAILED")


@dataclass(frozen=True)
class Engine:
    """Device and number format of a fit."""

    device: torch.device
    precision: str = "float32"  # or "bf16": matrix products and convolutions in bfloat16, weights and losses in float32

    def __str__(self) -> str:
        return f"{self.device} {self.precision}"


def choose_engine(device: str | None = None, *, precision: str = "auto") -> Engine:
    """The engine for *device* ("cpu", "cuda", "cuda:1"; None: a GPU if there is one).

    Args:
        precision: "float32", "bf16", or "auto" for what the device is good at.

    Raises ValueError for another precision.
    """
    place = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    if precision not in PRECISIONS:
        raise ValueError(f"precision must be one of {', '.join(PRECISIONS)}, got {precision!r}")
    return Engine(place, _fast_precision(place) if precision == "auto" else precision)


def _fast_precision(device: torch.device) -> str:
    if device.type == "cuda":
        fast = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        # No public question yet asks a CPU for bfloat16; a torch without these answers no.
        fast = device.type == "cpu" and any(
            getattr(torch.cpu, name, bool)() for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
        )
    return "bf16" if fast else "float32"


def processor_kind(device: torch.device | str = "cpu") -> str:
    """The kind of processor that computes, such as "AMD EPYC 25/17, AVX512, bfloat16": equal ones give equal numbers.

    Of a CPU its name, family and model where Linux tells them, the instructions that torch uses, and whether it
    multiplies bfloat16; of a GPU its name.
    """
    device = torch.device(device)
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    facts = {}
    with suppress(OSError):  # no such file but on Linux
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
        facts = {name.strip(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    name = facts.get("model name") or platform.processor() or platform.machine()
    if {"cpu family", "model"} <= set(facts):
        name += f" {facts['cpu family']}/{facts['model']}"
    multiplies = ["bfloat16"] * (_fast_precision(device) == "bf16")
    return ", ".join([name, torch.backends.cpu.get_cpu_capability(), *multiplies])


def prepare(model: nn.Module, engine: Engine) -> nn.Module:
    """*model* on the engine's device, its images channels-last, its forward pass in the engine's precision."""
    model = model.to(engine.device, memory_format=torch.channels_last)
    if engine.device.type == "cpu":
        model = use_small_maps(model)
    return Autocast(model) if engine.precision == "bf16" else model


class Autocast(nn.Module):
    """*model* with its forward pass in bfloat16 while training and validating, and its logits [N, C] in float32.

    fastai's ``to_bf16`` autocasts "cuda" only: on a CPU it does nothing.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Tensor:
        """Logits [N, C] in float32, of products in bfloat16."""
        with torch.autocast(images.device.type, torch.bfloat16):
            return self.model(images).float()


def bare_model(model: nn.Module) -> nn.Module:
    """The network itself, in float32, whatever `prepare` put around it."""
    return model.model if isinstance(model, Autocast) else model


def out_of_memory(error: BaseException) -> bool:
    """Whether *error* says that a device has no memory left; torch has a class for its own allocator on GPUs only."""
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or (
        isinstance(error, RuntimeError) and any(words in str(error) for words in _NO_MEMORY)
    )
