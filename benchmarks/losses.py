"""Focal loss against `F.cross_entropy` and every softmax focal loss that is installed: time, peak memory, exactness.

    python benchmarks/losses.py [--quick]

Installs nothing: it measures the peers that it finds and names the others. Times are forward plus backward, medians of
runs interleaved with cross entropy's, as a ratio to it, on one thread and on two; *warm* is the second of two calls in
a row, *cold* a call after a convolution has run, as in training. Peak memory is what torch's CPU allocator handed out
beyond logits and targets, as a ratio, too. The last table compares value and gradient in float32 with
float64 on a batch of random, confident, wrong and +-50 rows and says what is amiss.
"""

import argparse
import importlib
import os
import statistics
import time
import warnings
from collections.abc import Callable

os.environ.setdefault("KERAS_BACKEND", "torch")

import torch
import torch.nn.functional as F
from torch import Tensor

from rbcnb.losses.focal import focal_loss

SHAPES = [(32, 3), (4096, 3), (65_536, 3), (1_000_000, 3), (4096, 1000)]
RUNS = {(32, 3): 301, (4096, 3): 101, (65_536, 3): 31, (1_000_000, 3): 7, (4096, 1000): 9}
Loss = Callable[[Tensor, Tensor, float, Tensor | None], Tensor]  # logits, targets, gamma, class weights


def _rbcnb() -> Loss:
    return lambda x, t, g, w: focal_loss(x, t, gamma=g, alpha=1.0 if w is None else w)


def _fastai() -> Loss:
    made = importlib.import_module("fastai.losses").FocalLoss
    return lambda x, t, g, w: made(gamma=g, weight=w)(x, t)


def _kornia() -> Loss:
    made = importlib.import_module("kornia.losses").focal_loss
    # One value per row and class, zero but at the target; its mean is over both.
    return lambda x, t, g, w: made(x, t, alpha=None, gamma=g, weight=w, reduction="mean") * x.shape[1]


def _monai() -> Loss:
    made = importlib.import_module("monai.losses").FocalLoss
    # One value per row and class, zero but at the target; its mean is over both.
    return lambda x, t, g, w: (
        made(gamma=g, weight=w, use_softmax=True, to_onehot_y=True)(x[:, :, None], t[:, None, None]) * x.shape[1]
    )


def _focal_loss_torch() -> Loss:
    made = importlib.import_module("focal_loss.focal_loss").FocalLoss
    return lambda x, t, g, w: made(gamma=g, weights=w)(x.softmax(1), t)


def _keras() -> Loss:
    made = importlib.import_module("keras.losses").CategoricalFocalCrossentropy

    def loss(x: Tensor, t: Tensor, g: float, w: Tensor | None) -> Tensor:
        alpha = 1.0 if w is None else w.tolist()
        return made(alpha=alpha, gamma=g, from_logits=True)(F.one_hot(t, x.shape[1]).to(x), x)

    return loss


PEERS = {
    "rbcnb": _rbcnb,
    "fastai": _fastai,
    "kornia": _kornia,
    "monai": _monai,
    "focal_loss_torch": _focal_loss_torch,
    "keras": _keras,
}
# One sigmoid per class and no softmax: another loss, not to be compared.
SIGMOID = (
    "pytorch_toolbelt",
    "torchvision",
    "fvcore",
    "segmentation_models_pytorch",
    "torchseg",
    "balanced_loss",
    "catalyst",
    "mmdet",
)


def forward_backward(loss: Callable[[Tensor, Tensor], Tensor], logits: Tensor, targets: Tensor) -> Callable[[], None]:
    """A step that leaves the gradient in a leaf of its own."""
    leaf = logits.clone().requires_grad_()

    def step() -> None:
        leaf.grad = None
        loss(leaf, targets).backward()

    return step


KINDS = ("warm", "cold")


def time_steps(steps: dict[str, Callable[[], None]], runs: int, threads: int, kind: str) -> dict[str, float]:
    """Median seconds of each of the *steps*, which take turns."""
    torch.set_num_threads(threads)
    maps, convolution = torch.randn(32, 64, 48, 48), torch.nn.Conv2d(64, 64, 3, padding=1)
    times: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(runs):
        for name, step in steps.items():
            if kind == "warm":
                step()  # for each alike: what ran just before has emptied the caches
            else:
                with torch.no_grad():
                    convolution(maps)
            start = time.perf_counter()
            step()
            times[name].append(time.perf_counter() - start)
    torch.set_num_threads(1)
    return {name: statistics.median(some) for name, some in times.items()}


def peak_bytes(step: Callable[[], None]) -> int:
    """The most memory that torch held at once during *step*, over what it held before."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        step()
    events = [event for event in profile.profiler.kineto_results.events() if event.name() == "[memory]"]
    held = peak = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        held += event.nbytes()
        peak = max(peak, held)
    return peak


def reference(logits: Tensor, targets: Tensor, gamma: float) -> Tensor:
    """The formula in float64 with 1 - p_t as the sum of the other probabilities."""
    p = logits.softmax(1)
    other = torch.ones_like(p).scatter(1, targets[:, None], 0.0)
    q = (p * other).sum(1)
    return (q**gamma * -logits.log_softmax(1).gather(1, targets[:, None])[:, 0]).mean()


def exactness(loss: Loss) -> str:
    """What is amiss with value and gradient; the two errors where nothing is."""
    generator = torch.Generator().manual_seed(0)
    logits = torch.cat([scale * torch.randn(64, 3, generator=generator) for scale in (0.1, 1, 5, 20)])
    targets = torch.randint(3, (len(logits),), generator=generator)
    rows = torch.arange(len(logits))
    logits[rows[:8], targets[:8]], logits[rows[8:16], targets[8:16]] = 50.0, -50.0
    amiss, worst = [], [0.0, 0.0]

    def gradient(x: Tensor, t: Tensor, gamma: float, function: Callable[..., Tensor], *rest: object) -> tuple:
        leaf = x.clone().requires_grad_()
        value = function(leaf, t, gamma, *rest)
        value.backward()
        return value.detach().double(), leaf.grad.double()

    for gamma in (0.5, 1.0, 2.0, 5.0):
        ours, theirs = (
            gradient(logits, targets, gamma, loss, None),
            gradient(logits.double(), targets, gamma, reference),
        )
        if not all(torch.isfinite(part).all() for part in ours):
            amiss.append(f"NaN at gamma {gamma:g}")
            continue
        for i in range(2):
            error = ((ours[i] - theirs[i]).abs().max() / theirs[i].abs().max()).item()
            worst[i] = max(worst[i], error)
    if max(worst) > 4e-7:
        amiss.append("inexact")
    wrong = torch.tensor([[-200.0, 200.0, 0.0]])
    value, slope = gradient(wrong, torch.tensor([0]), 2.0, loss, None)
    if not (abs(value - 400) < 1e-3 and abs(slope[0, 0] + 1) < 1e-3):
        amiss.append(
            f"clips: a hopelessly wrong cell has loss {value:.3g} and gradient {slope[0, 0]:.2g}, not 400 and -1"
        )
    x, t, weights = torch.tensor([[0.3, -0.2, 0.1]]), torch.tensor([0]), torch.tensor([3.0, 1.0, 1.0])
    # Whatever the mean divides by: one row's weight is 3 or cancels.
    ratio = (loss(x, t, 2.0, weights) / loss(x, t, 2.0, None)).item()
    if min(abs(ratio - 3), abs(ratio - 1)) > 1e-4:
        amiss.append(f"p_t of the weighted loss: weight 3 multiplies by {ratio:.2f}")
    errors = f"value {worst[0]:.1e}, gradient {worst[1]:.1e}"
    return f"{errors}; {'; '.join(amiss)}" if amiss else errors


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a fifth of the runs, and not the largest size")
    options = parser.parse_args()
    warnings.filterwarnings("ignore")
    losses: dict[str, Loss] = {}
    for name, make in PEERS.items():
        try:
            losses[name] = make()
        except Exception as error:  # a peer that does not import is named, whatever ails it
            print(f"not found: {name} ({type(error).__name__}: {error})")
    print(f"sigmoid forms, not comparable: {', '.join(SIGMOID)}")

    for shape in SHAPES:
        if options.quick and shape[0] > 100_000:
            continue
        generator = torch.Generator().manual_seed(0)
        logits = 3 * torch.randn(shape, generator=generator)
        targets = torch.randint(shape[1], shape[:1], generator=generator)
        steps = {"cross_entropy": forward_backward(F.cross_entropy, logits, targets)}
        for name, loss in losses.items():
            steps[name] = forward_backward(lambda x, t, loss=loss: loss(x, t, 2.0, None), logits, targets)
            if name == "rbcnb":
                steps["rbcnb, gamma 1.5"] = forward_backward(
                    lambda x, t, loss=loss: loss(x, t, 1.5, None), logits, targets
                )
        peaks = {}
        for name, step in steps.items():
            step()
            peaks[name] = peak_bytes(step)
        runs = max(3, RUNS[shape] // (5 if options.quick else 1))
        columns = {(threads, kind): time_steps(steps, runs, threads, kind) for threads in (1, 2) for kind in KINDS}
        base = ", ".join(f"{1e3 * times['cross_entropy']:.2f}" for times in columns.values())
        print(f"\n{shape}: cross entropy {base} ms, {peaks['cross_entropy'] / 2**20:.2f} MiB")
        print(" " * 21 + "".join(f"{f'{kind}, {threads}':>9}" for threads, kind in columns) + "   memory")
        for name in steps:
            ratios = "".join(f"{times[name] / times['cross_entropy']:9.2f}" for times in columns.values())
            print(f"  {name:<18} {ratios}   {peaks[name] / peaks['cross_entropy']:6.2f}")
    print("\nexactness (float32, largest error over largest reference; at most 4e-7 is asked):")
    for name, loss in losses.items():
        print(f"  {name:<18} {exactness(loss)}")


if __name__ == "__main__":
    main()
