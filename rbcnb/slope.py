"""Does the difference between two methods grow with imbalance? Its slope against log rho, with an interval."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from rbcnb.inference import (
    N_BOOTSTRAP,
    Difference,
    differences_of_counts,
    draw_groups,
    interval_of,
    paired_counts,
    repetitions_of,
    require_same_cells,
)

Ladder = Mapping[float, Sequence[pd.DataFrame]]  # rho -> a predictions table per seed


def slope_on_log_rho(
    first: Ladder,
    second: Ladder,
    *,
    seed: int,
    level: float = 0.95,
    n_bootstrap: int = N_BOOTSTRAP,
    balance: bool = False,
) -> Difference:
    """Change of the difference in macro F1 (*first* minus *second*) per doubling of rho, with its interval.

    Least squares on log2(rho), one line per seed; the slope is their mean. Smears and seeds are what chance draws, not
    rungs: all rungs are scored on the same test cells, so one bootstrap of smears goes through the whole ladder, and a
    seed brings one slope, not as many points as there are rungs (points of one seed or smear are no independent
    evidence). The rest is `rbcnb.inference.interval_of`. It asks whether the gap widens on *this* ladder on average,
    not whether it widens evenly.

    Args:
        first: rho -> predictions tables, one per seed, the same seeds in the same order on every rung.
        second: the rival's.
        seed: of the bootstrap.
        level: coverage of the interval.
        n_bootstrap: draws.
        balance: every class weighted alike.

    Returns:
        The slope in macro F1 per doubling of rho, in the shape of a difference.

    Raises:
        ValueError: fewer than two rungs, other rungs or numbers of seeds for one of the methods, or rungs that are not
            scored on the same cells, as under the paper's protocol: there no interval over smears is to be had.
    """
    rhos = sorted(first)
    if len(rhos) < 2 or rhos != sorted(second):
        raise ValueError(f"a slope needs the same two or more rungs of both methods: {rhos} against {sorted(second)}")
    pairs = {rho: paired_counts(first[rho], second[rho]) for rho in rhos}
    require_same_cells([first[rho][0] for rho in rhos])
    if len({len(one) for one, _ in pairs.values()}) > 1:
        raise ValueError("the rungs do not have the same number of seeds")
    n_groups = pairs[rhos[0]][0].shape[1]
    weights = draw_groups(n_groups, seed=seed, n_bootstrap=n_bootstrap)
    contrast = contrast_of(rhos)

    def slopes(weights: np.ndarray) -> np.ndarray:
        gaps = [differences_of_counts(*pairs[rho], weights, balance=balance) for rho in rhos]
        return np.tensordot(contrast, np.stack(gaps), axes=1)

    by_seed = slopes(np.ones((1, n_groups)))[0]
    options = {"n_groups": n_groups, "level": level, "repetitions": repetitions_of(first[rhos[0]])}
    return interval_of(by_seed, slopes(weights).mean(axis=1), **options)


def contrast_of(rhos: Sequence[float]) -> np.ndarray:
    """Weights [R] whose sum with values on the rungs is their least-squares slope per doubling of rho."""
    x = np.log2(rhos)
    return (x - x.mean()) / ((x - x.mean()) ** 2).sum()
