"""Fig. 13 with intervals: relative improvement of one method over another in percent, over smears and seeds."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pandas as pd

from rbcnb.inference import N_BOOTSTRAP, Difference, draw_groups, interval_of, macro_f1_of_counts, paired_counts

Sides = tuple[Sequence[pd.DataFrame], Sequence[pd.DataFrame]]  # predictions of two methods, a table per seed


def accuracy_of_counts(counts: np.ndarray) -> np.ndarray:
    """Accuracy [...] of confusion counts [..., C, C]."""
    return np.trace(counts, axis1=-2, axis2=-1) / counts.sum(axis=(-2, -1))


# Scores that confusion counts tell; the AUROC of Fig. 13 is none of them, and has no interval here.
OF_COUNTS: Mapping[str, Callable[[np.ndarray], np.ndarray]] = {
    "accuracy": accuracy_of_counts,
    "macro_f1": macro_f1_of_counts,
}


def relative_gain(
    pairs: Sequence[Sides], *, score: str, seed: int, level: float = 0.95, n_bootstrap: int = N_BOOTSTRAP
) -> Difference:
    """Improvement of the first of two methods over the second, percent, a mean over architectures, with its interval.

    As in Fig. 13 the ratio is that of means over seeds. Its variance over seeds is that of the ratio's linear part,
    (a_s - (1 + r) b_s) / mean b (the delta method); over smears it is that of a bootstrap that architectures share.

    Args:
        pairs: per architecture the predictions of both methods, the same test cells throughout.
        score: in ``OF_COUNTS``.
        seed: of the bootstrap.
        level: coverage of the interval.
        n_bootstrap: draws.

    Raises:
        ValueError: as `rbcnb.inference.paired_counts`, or architectures have other numbers of seeds.
    """
    measure = OF_COUNTS[score]
    stacks = [paired_counts(*pair) for pair in pairs]
    n_seeds, n_groups = stacks[0][0].shape[:2]
    if any(one.shape[:2] != (n_seeds, n_groups) for one, _ in stacks):
        raise ValueError("architectures do not have the same seeds and smears")
    weights = draw_groups(n_groups, seed=seed, n_bootstrap=n_bootstrap)
    by_seed, drawn = np.zeros(n_seeds), np.zeros(n_bootstrap)
    for pair in stacks:
        a, b = (measure(stack.sum(axis=1)) for stack in pair)
        ratio = a.mean() / b.mean()
        by_seed += 100 * (ratio - 1 + (a - ratio * b) / b.mean()) / len(stacks)
        one, other = (measure(np.tensordot(weights, stack, axes=(1, 1))).mean(axis=1) for stack in pair)
        drawn += 100 * (one / other - 1) / len(stacks)
    return interval_of(by_seed, drawn, n_groups=n_groups, level=level)
