"""Arithmetic on printed numbers: what a rounded accuracy, a confusion matrix or a table of scores lets one conclude.

``rbcnb.evaluation.recomputation`` applies it to the paper; nothing here knows the paper's scores.
"""

import math
from collections.abc import Mapping, Sequence
from itertools import permutations

import numpy as np
import pandas as pd

from rbcnb.columns import SCORES


def n_test_cells(n_cells: int, test_fraction: float) -> int:
    """Cells in a test set of *test_fraction* of *n_cells*, rounded up as scikit-learn's ``train_test_split`` does."""
    return math.ceil(round(n_cells * test_fraction, 9))  # 10 * 0.3 is a hair over 3 in binary


def count_behind(accuracy: float, n: int) -> tuple[int, int] | None:
    """How many right cells of *n* print as *accuracy* (0 to 1), and to how many decimals of a percent they do.

    Two decimals are tried first, then one where the second is 0 (a figure's 91.3 % can stand as 91.30 in a table; among
    a thousand cells nearly every one-decimal number fits). None if no count does.
    """
    percent, right = 100 * accuracy, round(accuracy * n)
    for decimals in (2, 1):
        exact = abs(round(percent, decimals) - percent) < 1e-9
        if exact and abs(100 * right / n - percent) <= 0.5 * 10.0**-decimals + 1e-9:
            return right, decimals
    return None


def scores_of_confusion(counts: pd.DataFrame) -> dict[str, float]:
    """Of counts [predicted, target]: accuracy, macro_f1 (mean of the classes' F1), recall_ and precision_<class>."""
    matrix = counts.to_numpy(float)
    right, predicted, target = np.diag(matrix), matrix.sum(1), matrix.sum(0)
    scores = {
        "accuracy": float(right.sum() / matrix.sum()),
        "macro_f1": float(np.mean(2 * right / (predicted + target))),
    }
    scores |= {f"recall_{name}": float(value) for name, value in zip(counts.columns, right / target, strict=True)}
    return scores | {f"precision_{name}": float(v) for name, v in zip(counts.index, right / predicted, strict=True)}


def relative_improvement(table3: pd.DataFrame) -> pd.DataFrame:
    """Fig. 13: (focal - cross entropy) / cross entropy in percent, averaged over architectures.

    Args:
        table3: columns rho, architecture, method, accuracy, macro_f1, auroc, as Table 3. Repeated rows (draws, seeds)
            are averaged before the ratio is taken; methods other than focal and cross_entropy are left out.

    Returns:
        rho, accuracy, macro_f1, auroc in percent, one row per rho, ascending. Scores printed to two decimals leave up
        to one point of doubt in it. A score that is missing (AUROC without both sides) stays missing.

    Raises:
        ValueError: one of the two methods is missing for some rho and architecture.
    """
    pair = table3[table3["method"].isin(["focal", "cross_entropy"])]
    if pair.empty or (pair.groupby(["rho", "architecture"])["method"].nunique() < 2).any():
        raise ValueError("every rho and architecture needs rows of both methods, focal and cross_entropy, with scores")
    means = pair.pivot_table(index=["rho", "architecture"], columns="method", values=list(SCORES), dropna=False)
    change = {score: 100 * (means[score, "focal"] / means[score, "cross_entropy"] - 1) for score in SCORES}
    return pd.DataFrame(change).groupby("rho").mean().reset_index()


def rank_correlation(x: Sequence[float], y: Sequence[float]) -> tuple[float, float]:
    """Spearman's coefficient, and its two-sided p over all orders of *y*, exactly; for up to about eight values."""
    x_rank, y_rank = (pd.Series(values).rank().to_numpy() - (len(values) + 1) / 2 for values in (x, y))
    norm = math.sqrt((x_rank @ x_rank) * (y_rank @ y_rank))
    r = float(x_rank @ y_rank / norm)
    orders = np.array(list(permutations(y_rank))) @ x_rank / norm
    return r, float(np.mean(np.abs(orders) >= abs(r) - 1e-12))


def chance_of_at_least(k: int, n_class: int, n_all: int, n_drawn: int) -> float:
    """Exact probability of at least *k* of *n_class* among *n_drawn* of *n_all* cells drawn without replacement."""
    rest = n_all - n_class
    ways = sum(math.comb(n_class, i) * math.comb(rest, n_drawn - i) for i in range(k, min(n_class, n_drawn) + 1))
    return ways / math.comb(n_all, n_drawn)


def chance_of_classes(drawn: Mapping[str, int], total: Mapping[str, int]) -> float:
    """Exact probability that a random draw without replacement from *total* holds exactly *drawn* of each class."""
    ways = math.prod(math.comb(int(total[name]), int(drawn[name])) for name in total)
    return ways / math.comb(int(sum(total.values())), int(sum(drawn[name] for name in total)))


def classes_drawn_by_seed(total: Mapping[str, int], test_fraction: float, *, seed: int) -> dict[str, int]:
    """Cells per class in the test set that scikit-learn's ``train_test_split(..., random_state=seed)`` draws.

    The cells stand in the order of their classes in *total*, as when read from one folder per class.
    """
    labels = np.repeat(list(total), list(total.values()))
    # The legacy generator and this order of steps are scikit-learn's own.
    shuffled = labels[np.random.RandomState(seed).permutation(len(labels))]
    test = shuffled[: n_test_cells(len(labels), test_fraction)]
    return {name: int((test == name).sum()) for name in total}


def mcnemar_p(first_only: int, second_only: int) -> float:
    """Exact two-sided McNemar p: how unequal a fair coin would share out the cells that only one of two has right."""
    n, fewer = first_only + second_only, min(first_only, second_only)
    ways = sum(math.comb(n, i) for i in range(fewer + 1))
    return min(1.0, 2 * ways / 2**n)


def mcnemar_range(first: pd.DataFrame, second: pd.DataFrame) -> tuple[int, float, float]:
    """What two confusion matrices [predicted, target] of the same cells tell of their pairing.

    Returns:
        Cells that *second* has right beyond *first*, and the least and greatest exact McNemar p of all pairings that
        the matrices allow: class by class as few, and as many, cells as can be that *first* alone has right.
    """
    right, also = (np.diag(counts.to_numpy()).astype(int) for counts in (first, second))
    wrong_also = second.to_numpy().sum(axis=0) - also
    net = int((also - right).sum())
    fewest, most = int(np.maximum(0, right - also).sum()), int(np.minimum(right, wrong_also).sum())
    return net, mcnemar_p(fewest, fewest + net), mcnemar_p(most, most + net)


def resnet_parameters(n_classes: int, *, blocks: tuple[int, ...] = (3, 4, 6, 3)) -> int:
    """Weights of a bottleneck ResNet, ResNet-50 unless told, by its layers (He et al. 2016, Fig. 3 of the paper)."""
    total, channels = 3 * 49 * 64 + 2 * 64, 64
    for stage, repeats in enumerate(blocks):
        width = 64 * 2**stage
        for block in range(repeats):
            total += channels * width + 9 * width**2 + 4 * width**2 + 2 * width + 2 * width + 8 * width
            total += channels * 4 * width + 8 * width if block == 0 else 0  # the shortcut's own convolution
            channels = 4 * width
    return total + channels * n_classes + n_classes


def densenet_parameters(n_classes: int, *, blocks: tuple[int, ...] = (6, 12, 24, 16), growth: int = 32) -> int:
    """Weights of a DenseNet-BC, DenseNet-121 unless told, by its layers (Huang et al. 2017, Fig. 4 of the paper)."""
    total, channels = 3 * 49 * 2 * growth + 4 * growth, 2 * growth
    for i, layers in enumerate(blocks):
        for _ in range(layers):
            total += 2 * channels + channels * 4 * growth + 8 * growth + 9 * 4 * growth * growth
            channels += growth
        if i < len(blocks) - 1:
            total += 2 * channels + channels * (channels // 2)
            channels //= 2
    return total + 2 * channels + channels * n_classes + n_classes
