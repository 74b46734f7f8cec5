"""What choosing the best of several runs does by itself, when all of them are equally good.

The best of k runs is lucky on average, and its luck is reported as if it were skill. The gain grows with the spread of
the runs and with k, and needs no method that is better than another. On new cells, or with a new seed, it is gone.
"""

import numpy as np
import pandas as pd
from scipy.special import ndtr

from rbcnb.paper import TABLE1

# Gauss and Hermite's rule for means over a standard normal: within 1e-8 of adaptive quadrature up to k = 20.
_NODES, _WEIGHTS = np.polynomial.hermite_e.hermegauss(80)
_WEIGHTS = _WEIGHTS / _WEIGHTS.sum()


def expected_best_of(k: int, sd: float = 1.0) -> float:
    """Expected gain of the best of *k* equal normal runs over one, exactly: sd times the mean of the largest of k."""
    return sd * float(k * _WEIGHTS @ (_NODES * ndtr(_NODES) ** (k - 1)))


def chance_of_gain(gain: float | np.ndarray, k: int, sd: float) -> float | np.ndarray:
    """Chance that the best of *k* equal normal runs is at least *gain* (a number or [N]) above one run of a rival.

    At 0 it is k / (k + 1), for any distribution without ties: the rival must be the best of k + 1.
    """
    return 1 - ndtr(_NODES + np.asarray(gain)[..., None] / sd) ** k @ _WEIGHTS


def published_spread() -> pd.DataFrame:
    """What the spread of Table 1's alphas implies for the best of them, per architecture, in macro F1.

    Returns:
        ``architecture``; ``runs``, ``mean``, ``sd`` (n - 1) and ``best`` of the alphas; ``cross_entropy``, its one run;
        ``gain`` of the best over it; ``expected_gain`` if all runs were equally good with this sd; ``chance``, then, of
        a gain at least as large, and ``best_chance`` of a best at least as high around this mean (an sd of seven runs
        is itself uncertain by a third either way); ``beaten_by``, how many alphas lie above cross entropy; ``ties``.
    """
    rows = []
    for architecture, table in TABLE1.groupby("architecture", sort=False):
        alphas = table.loc[table["method"] == "focal", "macro_f1"]
        rival = float(table.loc[table["method"] == "cross_entropy", "macro_f1"].iloc[0])
        k, sd, gain = len(alphas), float(alphas.std(ddof=1)), float(alphas.max() - rival)
        rows.append(
            {
                "architecture": architecture,
                "runs": k,
                "mean": float(alphas.mean()),
                "sd": sd,
                "best": float(alphas.max()),
                "cross_entropy": rival,
                "gain": gain,
                "expected_gain": expected_best_of(k, sd),
                "chance": float(chance_of_gain(gain, k, sd)),
                "best_chance": float(1 - ndtr((alphas.max() - alphas.mean()) / sd) ** k),
                "beaten_by": int((alphas > rival).sum()),
                "ties": int((alphas == rival).sum()),
            }
        )
    return pd.DataFrame(rows)
