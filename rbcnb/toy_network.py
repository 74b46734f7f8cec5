"""A small network on the toy, under focal loss at many alphas and from many seeds, by Adam or by SGD, in float64."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from rbcnb.losses import focal_loss
from rbcnb.toy_fit import N_CLASSES, macro_f1_many


def fit_alphas(
    x: np.ndarray,
    targets: np.ndarray,
    *,
    optimiser: str,
    alphas: Sequence[float],
    seeds: Sequence[int],
    steps: int,
    every: int,
    eps: float = 1e-8,
    eps_follows_alpha: bool = False,
    gamma: float = 2.0,
    learning_rate: float,
    batch_size: int = 32,
    hidden: int = 16,
) -> np.ndarray:
    """A small network (2 inputs, *hidden* tanh units, 3 outputs) under focal loss at each alpha, from each seed.

    A seed sets the initial weights and the order of the batches, the same ones at every alpha.

    Args:
        x: [N, 2] measurements.
        targets: [N] class indices.
        optimiser: "adam" or "sgd" (no momentum).
        alphas: scalar weights of the loss, Eq. (4).
        seeds: of weights and batches.
        steps: of the optimiser.
        every: steps between two states that are kept; the start is one.
        eps: Adam's; torch's default is 1e-8.
        eps_follows_alpha: give Adam alpha * eps instead.
        gamma: focusing parameter.
        learning_rate: of the optimiser.
        batch_size: cells per step.
        hidden: units.

    Returns:
        All weights, [1 + steps // every, alphas, seeds, P]; `network_logits` applies them.

    Raises:
        ValueError: the optimiser is unknown.
    """
    if optimiser not in ("adam", "sgd"):
        raise ValueError(f"optimiser must be 'adam' or 'sgd', got {optimiser!r}")
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]
    n_weights = hidden * (2 + 1 + N_CLASSES) + N_CLASSES
    start = torch.stack([0.5 * torch.randn(n_weights, generator=g, dtype=torch.float64) for g in generators])
    # One leaf per alpha, so that Adam can have an eps for each.
    weights = [start.clone().requires_grad_() for _ in alphas]
    if optimiser == "sgd":
        stepper = torch.optim.SGD(weights, lr=learning_rate)
    else:
        groups = [
            {"params": [w], "eps": eps * (a if eps_follows_alpha else 1)} for w, a in zip(weights, alphas, strict=True)
        ]
        stepper = torch.optim.Adam(groups, lr=learning_rate)
    cells, wanted = torch.from_numpy(x), torch.from_numpy(targets)
    scale = torch.tensor(alphas, dtype=torch.float64)[:, None, None]
    states = [torch.stack(weights).detach()]
    for step in range(1, steps + 1):
        rows = torch.stack([torch.randint(len(x), (batch_size,), generator=g) for g in generators])
        logits = network_logits(torch.stack(weights), cells[rows])
        flat = wanted[rows].expand(len(alphas), -1, -1).reshape(-1)
        each = focal_loss(logits.reshape(-1, N_CLASSES), flat, gamma=gamma, reduction="none")
        loss = (scale * each.view(logits.shape[:-1])).mean(dim=-1).sum()
        stepper.zero_grad()
        loss.backward()
        stepper.step()
        if step % every == 0:
            states.append(torch.stack(weights).detach())
    return torch.stack(states).numpy()


def alpha_distances(weights: np.ndarray, alphas: Sequence[float]) -> np.ndarray:
    """Distance of `fit_alphas` weights to those at alpha = 1, over the norm of these: [T, alphas], mean over seeds."""
    alone = list(alphas).index(1.0)
    own = weights[:, [alone]]
    return (np.linalg.norm(weights - own, axis=-1) / np.linalg.norm(own, axis=-1)).mean(axis=-1)


def network_scores(weights: np.ndarray, x: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Macro F1 [...] of the networks with flat *weights* [..., P] on cells *x* [N, 2], *targets* [N]."""
    logits = network_logits(torch.from_numpy(weights), torch.from_numpy(x))
    return macro_f1_many(targets, logits.argmax(dim=-1).numpy())


def network_logits(weights: Tensor, x: Tensor) -> Tensor:
    """Logits [..., N, 3] of networks with flat *weights* [..., P] at *x* [..., N, 2]."""
    hidden = (weights.shape[-1] - N_CLASSES) // (2 + 1 + N_CLASSES)
    first, bias, second, last = weights.split([2 * hidden, hidden, N_CLASSES * hidden, N_CLASSES], dim=-1)
    shape = weights.shape[:-1]
    inner = (x @ first.reshape(*shape, 2, hidden) + bias.unsqueeze(-2)).tanh()
    return inner @ second.reshape(*shape, hidden, N_CLASSES) + last.unsqueeze(-2)
