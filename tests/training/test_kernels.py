"""The engine's own kernels against torch's."""

import subprocess
import sys

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from rbcnb.training.kernels import SMALL_MAP, DenseAdam, SmallMapConv2d, use_small_maps
from rbcnb.training.models import build_model


def small_step(optimiser_class):
    """A model of channels-last weights, and a step of its fused optimiser."""
    torch.manual_seed(0)
    model = build_model("small", 3).to(memory_format=torch.channels_last)
    optimiser = optimiser_class(model.parameters(), lr=1e-2, weight_decay=0.1, fused=True)
    images = torch.randn(8, 3, 16, 16).to(memory_format=torch.channels_last)

    def step():
        optimiser.zero_grad()
        F.cross_entropy(model(images), torch.arange(8) % 3).backward()
        optimiser.step()

    return model, optimiser, step


def test_adam_without_copies_is_torch_adam():
    ways = [small_step(optimiser_class) for optimiser_class in (torch.optim.Adam, DenseAdam)]
    for _ in range(5):
        for _, _, step in ways:
            step()
    for theirs, ours in zip(ways[0][0].parameters(), ways[1][0].parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-7)
        assert ours.stride() == theirs.stride()
    states = [optimiser.state_dict() for _, optimiser, _ in ways]
    for index in states[0]["state"]:
        for name, value in states[0]["state"][index].items():
            torch.testing.assert_close(states[1]["state"][index][name], value, rtol=1e-4, atol=1e-8)


def test_adam_copies_no_weights():
    """What `DenseAdam` is for; torch's own count says that it still is needed."""
    copies = {}
    for optimiser_class in (torch.optim.Adam, DenseAdam):
        _, optimiser, step = small_step(optimiser_class)
        step()
        activities = [torch.profiler.ProfilerActivity.CPU]
        with torch.profiler.profile(activities=activities, record_shapes=True) as profile:
            optimiser.step()
        shapes = [event.input_shapes[0] for event in profile.events() if event.name == "aten::copy_"]
        copies[optimiser_class] = [shape for shape in shapes if len(shape) == 4]  # the others: the number of steps
    assert copies[DenseAdam] == []
    assert copies[torch.optim.Adam] != []


@pytest.mark.parametrize(
    ("kernel", "stride", "padding", "side"),
    [(3, 1, 1, 2), (3, 2, 1, 4), (1, 1, 0, 4), (1, 2, 0, 7), ((3, 5), (1, 2), (1, 2), (3, 8)), (2, 1, 0, 5)],
)
def test_small_maps_are_convolved_as_torch_convolves_them(kernel, stride, padding, side):
    torch.manual_seed(0)
    height, width = side if isinstance(side, tuple) else (side, side)
    convolution = nn.Conv2d(256, 512, kernel, stride=stride, padding=padding, bias=False)
    images = torch.randn(6, 256, height, width).to(memory_format=torch.channels_last)

    def results(module, dtype):
        given = images.to(dtype).detach().requires_grad_()
        module.weight.grad = None
        with torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):
            out = module(given)
        assert out.shape[2] * out.shape[3] <= SMALL_MAP
        out.float().square().sum().backward()
        return [t.float() for t in (out, given.grad, module.weight.grad)], [out.stride(), module.weight.grad.dtype]

    convolution.to(memory_format=torch.channels_last)
    exact, _ = results(convolution, torch.float32)
    theirs, facts = results(convolution, torch.bfloat16)
    assert type(use_small_maps(convolution)) is SmallMapConv2d
    ours, our_facts = results(convolution, torch.bfloat16)
    assert our_facts == facts

    def error(values):
        return [((a - b).norm() / b.norm()).item() for a, b in zip(values, exact, strict=True)]

    # As far from float32 as torch's own bfloat16 kernels are.
    for our_error, their_error in zip(error(ours), error(theirs), strict=True):
        assert our_error < 1.1 * their_error + 1e-6
        assert our_error < 0.02


@pytest.mark.parametrize("gradient", [True, False])
def test_no_weight_is_copied_once_for_every_row_of_pixels(gradient):
    """Of maps that are strided and need no gradient torch would make a batch of products, each with its own weights."""
    convolution = use_small_maps(nn.Sequential(nn.Conv2d(512, 512, 1, stride=2, bias=False)))
    images = torch.randn(4, 512, 8, 8).to(memory_format=torch.channels_last)
    with torch.set_grad_enabled(gradient), torch.profiler.profile() as profile:
        found = convolution(images)
    calls = {event.key for event in profile.key_averages()}
    assert "aten::bmm" not in calls
    assert "aten::mm" in calls
    torch.testing.assert_close(found, F.conv2d(images, convolution[0].weight, stride=2), rtol=1e-4, atol=1e-5)


def test_only_what_is_asked_for_is_replaced():
    model = nn.Sequential(
        nn.Conv2d(512, 512, 1, bias=True),
        nn.Conv2d(512, 512, 1, padding=1, bias=False),
        nn.Conv2d(1024, 1024, 3, groups=4, bias=False),
        nn.Conv2d(256, 256, 3, dilation=2, bias=False),
        nn.Conv2d(256, 256, 3, padding="same", bias=False),
        nn.Conv2d(256, 256, 3, padding=1, padding_mode="reflect", bias=False),
        nn.Conv2d(16, 16, 3, bias=False),
    )
    assert not any(isinstance(layer, SmallMapConv2d) for layer in use_small_maps(model))
    names = list(build_model("resnet18", 3).state_dict())
    assert list(use_small_maps(build_model("resnet18", 3)).state_dict()) == names


def test_large_maps_are_left_to_torch():
    convolution = use_small_maps(nn.Conv2d(128, 128, 3, padding=1, bias=False))
    for side, of in ((5, "ConvolutionBackward0"), (4, "_ConvolutionBackward")):
        assert convolution(torch.randn(2, 128, side, side)).grad_fn.name() == of


def test_gradients_of_small_maps_are_those_of_finite_differences():
    convolution = use_small_maps(nn.Conv2d(128, 128, 3, stride=2, padding=1, bias=False)).double()
    images = torch.randn(2, 128, 3, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(convolution, images, fast_mode=True)

    def of_weights(weight):
        return torch.func.functional_call(convolution, {"weight": weight}, images)

    assert torch.autograd.gradcheck(of_weights, convolution.weight.detach().requires_grad_(), fast_mode=True)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="glibc's")
def test_memory_is_kept_between_batches():
    """Blocks of 64 MiB, written to and freed: their pages are the system's to clear only once.

    In a process of its own, since what others have freed before is at hand for these blocks. The first few blocks still
    come from new memory, as small ones that were asked for meanwhile cut the freed ones: how many differs from run to
    run (two to nine were seen), so thirty go first.
    """
    code = """
import resource
from contextlib import nullcontext
import torch
from rbcnb.training.kernels import kept_memory

def faults(n_blocks):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(n_blocks):
        torch.empty(16 * 2**20).fill_(1.0)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

for context in (nullcontext, kept_memory):
    with context():
        faults(30)
        print(faults(10))
"""
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, check=True)
    without, kept = map(int, done.stdout.split())
    assert kept < 0.2 * without
