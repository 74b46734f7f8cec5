"""Fits of the toy, many side by side: they share a graph and nothing else, so each is what it would be alone.

All in float64: what differs between two fits is then their settings, not their rounding.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy.special import softmax
from torch import Tensor

from rbcnb.columns import CLASSES
from rbcnb.losses.focal import focal_loss
from rbcnb.losses.focal_curves import focal_gradient
from rbcnb.losses.imbalanced import LOSSES, build_loss
from rbcnb.losses.toy import flip_labels, sample_toy, toy_grid, toy_posterior
from rbcnb.threads import one_thread

Loss = Callable[[Tensor, Tensor], Tensor]

N_CLASSES = len(CLASSES)

TRUTH = "true posterior"  # among the losses of a `ToyFits`: what none of them can know


def quadratic(x: np.ndarray) -> np.ndarray:
    """[N, 2] measurements to [N, 6] terms up to the second degree: a linear model on them can be the true posterior."""
    a, b = x.T
    return np.stack([np.ones(len(x)), a, b, a * a, a * b, b * b], axis=1)


@one_thread()
def fit_losses(
    losses: Mapping[str, Loss],
    x: np.ndarray,
    targets: np.ndarray,
    *,
    steps: int,
    every: int,
    learning_rate: float = 0.1,
) -> dict[str, np.ndarray]:
    """A softmax model on `quadratic` terms under each loss: whole batches, torch's Adam, from zero.

    Args:
        losses: name -> loss of ([N, 3] logits, [N] targets).
        x: [N, 2] measurements.
        targets: [N] class indices.
        steps: of the optimiser.
        every: steps between two states that are kept; the start is one.
        learning_rate: of Adam.

    Returns:
        name -> coefficients [1 + steps // every, 6, 3]; `logits_of` applies them.
    """
    terms, wanted = torch.from_numpy(quadratic(x)), torch.from_numpy(targets)
    weights = torch.zeros(len(losses), terms.shape[1], N_CLASSES, dtype=torch.float64, requires_grad=True)
    optimiser = torch.optim.Adam([weights], lr=learning_rate)
    states = [weights.detach().clone()]
    for step in range(1, steps + 1):
        for loss in losses.values():
            if hasattr(loss, "begin_epoch"):  # deferred re-weighting; a step here is a whole batch, hence an epoch
                loss.begin_epoch(step - 1, steps)
        logits = terms @ weights
        total = sum(loss(loss_logits, wanted) for loss, loss_logits in zip(losses.values(), logits, strict=True))
        optimiser.zero_grad()
        total.backward()
        optimiser.step()
        if step % every == 0:
            states.append(weights.detach().clone())
    kept = torch.stack(states, dim=1).numpy()
    return dict(zip(losses, kept, strict=True))


def registered_losses(class_counts: Sequence[int]) -> dict[str, Loss]:
    """Every loss of `rbcnb.losses.LOSSES`, focal loss at alpha 1 and gamma 2.

    Args:
        class_counts: cells of each class that will be fitted, [C], positive.

    Returns:
        Name -> loss of ([N, C] logits, [N] targets).

    Raises:
        ValueError: a count is not positive.
    """
    return {name: build_loss(name, class_counts=class_counts) for name in LOSSES}


def probabilities(coefficients: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Softmax probabilities [..., N, 3] of models of `fit_losses`.

    Args:
        coefficients: [..., 6, 3], of the terms of `quadratic` for each class.
        x: [N, 2] measurements.
    """
    return softmax(quadratic(x) @ coefficients, axis=-1)


@dataclass(frozen=True)
class ToyFits:
    """The toy at one imbalance under several losses, state by state; grids as `rbcnb.losses.toy.toy_grid`."""

    x: np.ndarray  # [N, 2] measurements that were fitted
    targets: np.ndarray  # [N]
    truth: np.ndarray  # [S, 3] true probabilities over the grid
    maps: dict[str, np.ndarray]  # loss -> [T, S, 3] probabilities over the grid
    scores: dict[str, np.ndarray]  # loss -> [T] macro F1 on new cells at the same imbalance
    balanced: dict[str, np.ndarray]  # loss -> [T] balanced accuracy on them


def fit_toy(
    losses: Callable[[Sequence[int]], Mapping[str, Loss]],
    *,
    majority: float,
    n_cells: int,
    steps: int,
    every: int,
    seed: int,
    side: int = 64,
) -> ToyFits:
    """Samples the toy, fits it under several losses (`fit_losses`), and scores each state on 4000 other cells.

    The true posterior stands among the losses as ``TRUTH``.

    Args:
        losses: from the class counts [3] to name -> loss, such as `registered_losses`.
        majority: share of normal cells, 0 to 1.
        n_cells: cells that are fitted.
        steps: of the optimiser.
        every: steps between two kept states; the first is that before training.
        seed: of the cells; the other cells have the next.
        side: points of the grid on each side.
    """
    x, targets = sample_toy(n_cells, majority=majority, seed=seed)
    new, wanted = sample_toy(4000, majority=majority, seed=seed + 1)
    grid = toy_grid(side)
    fits = fit_losses(losses(np.bincount(targets).tolist()), x, targets, steps=steps, every=every)
    maps = {name: probabilities(states, grid).astype(np.float32) for name, states in fits.items()}
    preds = {name: probabilities(states, new).argmax(axis=-1) for name, states in fits.items()}
    truth, n_states = toy_posterior(grid, majority=majority), 1 + steps // every
    maps[TRUTH] = np.repeat(truth[None].astype(np.float32), n_states, axis=0)
    preds[TRUTH] = np.tile(toy_posterior(new, majority=majority).argmax(axis=-1), (n_states, 1))
    scores = {name: macro_f1_many(wanted, pred) for name, pred in preds.items()}
    balanced = {name: balanced_accuracy_many(wanted, pred) for name, pred in preds.items()}
    return ToyFits(x, targets, truth, maps, scores, balanced)


def fit_noise(
    gammas: Sequence[float], *, noise: float, n_cells: int, steps: int, every: int, seed: int
) -> tuple[dict[float, np.ndarray], dict[float, float]]:
    """The toy with wrong labels under focal loss at each gamma.

    Args:
        gammas: one fit each.
        noise: share of the labels that are wrong, 0 to 1.
        n_cells: cells that are fitted.
        steps: of the optimiser.
        every: steps between two kept states.
        seed: of the cells and of the wrong labels.

    Returns:
        gamma -> share of the gradient that wrongly labelled cells bring at each kept state [T], and gamma -> macro F1
        on 4000 new cells with right labels.
    """
    x, right = sample_toy(n_cells, seed=seed)
    given = flip_labels(right, noise=noise, seed=seed)
    new, wanted = sample_toy(4000, seed=seed + 1)
    losses = {g: (lambda logits, targets, g=g: focal_loss(logits, targets, gamma=g)) for g in gammas}
    shares, scores = {}, {}
    for gamma, states in fit_losses(losses, x, given, steps=steps, every=every).items():
        p_t = probabilities(states, x)[:, np.arange(len(x)), given]
        pull = focal_gradient(p_t, gamma=gamma)
        shares[gamma] = pull[:, given != right].sum(axis=1) / pull.sum(axis=1)
        scores[gamma] = float(macro_f1_many(wanted, probabilities(states[-1], new).argmax(axis=-1)))
    return shares, scores


def macro_f1_many(targets: np.ndarray, preds: np.ndarray) -> np.ndarray:
    """Macro F1 [...] of many predictions [..., N] of the same *targets* [N], classes that none has counted as 0."""
    scores = []
    for k in range(N_CLASSES):
        hit = ((preds == k) & (targets == k)).sum(axis=-1)
        scores.append(2 * hit / np.maximum((preds == k).sum(axis=-1) + (targets == k).sum(), 1))
    return np.mean(scores, axis=0)


def balanced_accuracy_many(targets: np.ndarray, preds: np.ndarray) -> np.ndarray:
    """Balanced accuracy [...], the mean over classes of the share that is found, of predictions [..., N]."""
    return np.mean([(preds[..., targets == k] == k).mean(axis=-1) for k in range(N_CLASSES)], axis=0)


@one_thread()
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
    """Distance of weights to those at alpha = 1, over the norm of these (Euclidean): [T, alphas], mean over seeds.

    Args:
        weights: of `fit_alphas`, [T, alphas, seeds, P].
        alphas: which they are of, in that order; 1 is among them.

    Raises:
        ValueError: 1 is not among *alphas*.
    """
    alone = list(alphas).index(1.0)
    plain = weights[:, [alone]]
    return (np.linalg.norm(weights - plain, axis=-1) / np.linalg.norm(plain, axis=-1)).mean(axis=-1)


def network_scores(weights: np.ndarray, x: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Macro F1 [...] of networks on cells of the toy, a mean over its three classes.

    Args:
        weights: of `fit_alphas`, float64 [..., P].
        x: float64 [N, 2] measurements.
        targets: [N] class indices.
    """
    logits = network_logits(torch.from_numpy(weights), torch.from_numpy(x))
    return macro_f1_many(targets, logits.argmax(dim=-1).numpy())


def network_logits(weights: Tensor, x: Tensor) -> Tensor:
    """Logits [..., N, 3] of networks with flat *weights* [..., P] at *x* [..., N, 2]."""
    hidden = (weights.shape[-1] - N_CLASSES) // (2 + 1 + N_CLASSES)
    first, bias, second, last = weights.split([2 * hidden, hidden, N_CLASSES * hidden, N_CLASSES], dim=-1)
    shape = weights.shape[:-1]
    inner = (x @ first.reshape(*shape, 2, hidden) + bias.unsqueeze(-2)).tanh()
    return inner @ second.reshape(*shape, hidden, N_CLASSES) + last.unsqueeze(-2)
