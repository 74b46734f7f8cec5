"""From scores to statements: differences with intervals, their slope along the ladder, and verdicts.

The unit of chance is the smear (its cells share stain, focus and reader) and the seed: both are resampled. A score is
always that of a seed's pooled cells, all outer folds together, and then a mean over seeds; never a mean over folds.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from rbcnb.columns import CELL, GROUP, PRED, REPETITION, SMEAR, TARGET, classes_of_predictions
from rbcnb.evaluation.prior_shift import NATURAL, Prior, class_shares

N_BOOTSTRAP = 2000
LEVEL = 0.95
EQUIVALENCE_SIZE = 0.05  # of each of the two one-sided tests
SUPPORTED, NOT_SUPPORTED, INCONCLUSIVE = "supported", "not supported", "inconclusive"
NOT_JUDGED = "one run, not judged"  # nobody knows how far another seed would have fallen
SEEDS, REPETITIONS = "seeds", "repetitions"
# What is asked of a difference, the first minus the second: is it a gain, are the two alike, or is there less of it?
GAIN, ALIKE, LESS = "gain", "alike", "less"
Ladder = Mapping[float, Sequence[pd.DataFrame]]  # rho -> a predictions table per seed


@dataclass(frozen=True)
class Difference:
    """A mean difference of scores with its t interval and what it is made of."""

    mean: float
    low: float
    high: float
    level: float
    n_seeds: int
    n_groups: int  # smears; 0 where a score is of no smears, such as a training loss
    of_seeds: float = math.nan  # variance of the mean that the seeds bring; 0 when there is one
    of_groups: float = math.nan  # variance of the mean that the smears bring
    by_seed: tuple[float, ...] = ()  # the differences that the mean is of
    unit: str = SEEDS  # or repetitions of the outer folds: the seeds of one share splits and settings, and count as one

    def times(self, factor: float) -> "Difference":
        """The same *factor* times as large, its p of no difference as before; -1 turns it round."""
        low, high = sorted((factor * self.low, factor * self.high))
        scaled = {name: factor**2 * getattr(self, name) for name in ("of_seeds", "of_groups")}
        by_seed = tuple(factor * value for value in self.by_seed)
        return replace(self, mean=factor * self.mean, low=low, high=high, by_seed=by_seed, **scaled)

    @property
    def error(self) -> float:
        """Standard error of the mean, over smears and seeds."""
        return math.sqrt(self.of_seeds + self.of_groups)

    @property
    def freedom(self) -> float:
        """Degrees of freedom of the error, by Satterthwaite."""
        return freedom(self.of_seeds, self.of_groups, n_seeds=self.n_seeds, n_groups=self.n_groups)

    @property
    def p_value(self) -> float:
        """Two-sided p of no difference: below 1 - level exactly where the interval leaves 0 out. NaN for one seed."""
        return 2 * self._tail(abs(self.mean))

    def p_alike(self, margin: float) -> float:
        """P of the two one-sided t tests (TOST, Schuirmann 1987): small where the difference lies within +-*margin*.

        It is below 0.05 exactly where the 90 % interval lies within the margin. Of methods that differ by the margin
        itself 2.8 to 4.2 % passed at 5 % (benchmarks/coverage.py's gap of 0.075, 500 draws each). NaN for one seed.
        """
        return max(self._tail(self.mean + margin), self._tail(margin - self.mean))

    def p_short(self, margin: float) -> float:
        """One-sided p of a gain of *margin* or more: small where the difference falls short. NaN for one seed."""
        return self._tail(margin - self.mean)

    def p_apart(self, margin: float) -> float:
        """One-sided p of a difference within +-*margin*: small where it lies beyond. NaN for one seed."""
        return self._tail(abs(self.mean) - margin)

    def _tail(self, distance: float) -> float:
        if self.n_seeds < 2:
            return math.nan
        if self.error == 0:
            return 0.5 if distance == 0 else float(distance < 0)
        return float(stats.t.sf(distance / self.error, self.freedom))


def freedom(of_seeds: float, of_groups: float, *, n_seeds: int, n_groups: int) -> float:
    """Satterthwaite's degrees of freedom of a sum of two variances, of means over seeds and over smears."""
    total = (of_seeds + of_groups) ** 2
    parts = of_groups**2 / max(1, n_groups - 1) + of_seeds**2 / max(1, n_seeds - 1)
    return total / parts if total else math.inf


def confusion_stack(predictions: Sequence[pd.DataFrame], classes: Sequence[str]) -> np.ndarray:
    """Confusion counts [S, G, C, C] (seed, group, target, prediction) of S predictions tables of the same cells.

    Raises:
        ValueError: a target or prediction is none of *classes*, or tables have other groups than the first.
    """
    groups = sorted(predictions[0][GROUP].unique())
    stack = np.zeros((len(predictions), len(groups), len(classes), len(classes)))
    for seed, table in enumerate(predictions):
        codes = [
            pd.Index(names).get_indexer(table[column])
            for column, names in ((GROUP, groups), (TARGET, classes), (PRED, classes))
        ]
        for column, code in zip((GROUP, TARGET, PRED), codes, strict=True):
            if (unknown := table[column][code < 0]).size:
                among = "the first table's groups" if column == GROUP else ", ".join(classes)
                raise ValueError(f"{column} {unknown.iloc[0]!r} of {unknown.size} cells is not among {among}")
        np.add.at(stack[seed], tuple(codes), 1)
    return stack


def macro_f1_of_counts(counts: np.ndarray) -> np.ndarray:
    """Macro F1 [...] of confusion counts [..., C, C]; a class neither targeted nor predicted is left out."""
    hits = np.diagonal(counts, axis1=-2, axis2=-1)
    total = counts.sum(axis=-1) + counts.sum(axis=-2)
    with np.errstate(invalid="ignore"):
        return np.nanmean(np.where(total > 0, 2 * hits / np.where(total > 0, total, 1), np.nan), axis=-1)


def accuracy_of_counts(counts: np.ndarray) -> np.ndarray:
    """Accuracy [...] of confusion counts [..., C, C]."""
    return np.trace(counts, axis1=-2, axis2=-1) / counts.sum(axis=(-2, -1))


def balanced_accuracy_of_counts(counts: np.ndarray) -> np.ndarray:
    """Mean recall [...] of confusion counts [..., C, C], over the classes that have cells."""
    cells = counts.sum(axis=-1)
    with np.errstate(invalid="ignore"):
        return np.nanmean(np.diagonal(counts, axis1=-2, axis2=-1) / np.where(cells > 0, cells, np.nan), axis=-1)


def rare_called_majority_of_counts(counts: np.ndarray) -> np.ndarray:
    """Share [...] of the cells outside the class with most cells that are called so; counts [..., C, C].

    Which class that is, is asked of all *counts* together. NaN where there is no other cell.
    """
    majority = int(counts.reshape(-1, *counts.shape[-2:]).sum(axis=(0, 2)).argmax())
    rare = np.delete(counts, majority, axis=-2)
    cells = rare.sum(axis=(-2, -1))
    return rare[..., majority].sum(axis=-1) / np.where(cells > 0, cells, np.nan)


# Scores that confusion counts are enough for.
OF_COUNTS: Mapping[str, Callable[[np.ndarray], np.ndarray]] = {
    "accuracy": accuracy_of_counts,
    "macro_f1": macro_f1_of_counts,
    "balanced_accuracy": balanced_accuracy_of_counts,
    "rare_called_majority": rare_called_majority_of_counts,
}


def require_same_cells(tables: Sequence[pd.DataFrame]) -> None:
    """Raise a ValueError unless all predictions *tables* hold the same cells, labelled alike, in the same order."""
    named = [name for name in (SMEAR, CELL, TARGET) if name in tables[0]]
    where = tables[0][named].astype(object).reset_index(drop=True)
    if not all(table[named].astype(object).reset_index(drop=True).equals(where) for table in tables[1:]):
        raise ValueError("the predictions tables do not hold the same cells with the same labels in the same order")


def require_comparable(first: Sequence[pd.DataFrame], second: Sequence[pd.DataFrame]) -> None:
    """Raise a ValueError unless two methods' predictions can be compared, with an interval over smears.

    That is unless they have as many seeds, and speak of the same cells, of two groups at least.
    """
    if len(first) != len(second) or not first:
        raise ValueError(f"both methods need the same seeds: {len(first)} tables against {len(second)}")
    require_same_cells([*first, *second])
    if first[0][GROUP].nunique() < 2:
        raise ValueError("the held-out cells are of one smear: no interval over smears; add smears")


def paired_counts(first: Sequence[pd.DataFrame], second: Sequence[pd.DataFrame]) -> tuple[np.ndarray, np.ndarray]:
    """Confusion counts [S, G, C, C] of two methods that can be compared (`require_comparable`)."""
    require_comparable(first, second)
    classes = classes_of_predictions(first[0].columns)
    return confusion_stack(first, classes), confusion_stack(second, classes)


def draw_groups(n_groups: int, *, seed: int, n_bootstrap: int) -> np.ndarray:
    """How often each group is drawn in each of *n_bootstrap* bootstraps: [B, G] counts, every row sums to G."""
    rng = np.random.default_rng(seed)
    return rng.multinomial(n_groups, np.full(n_groups, 1 / n_groups), size=n_bootstrap).astype(float)


def whole_and_draws(n_groups: int, *, seed: int, n_bootstrap: int = N_BOOTSTRAP) -> np.ndarray:
    """Weights of groups, [1 + B, G]: every group once, for a score itself, and below it `draw_groups`."""
    return np.vstack([np.ones(n_groups), draw_groups(n_groups, seed=seed, n_bootstrap=n_bootstrap)])


def weighted_score(
    stack: np.ndarray, weights: np.ndarray, *, score: str = "macro_f1", shares: np.ndarray | None = None
) -> np.ndarray:
    """A score [B, S] of confusion counts *stack* [S, G, C, C] on groups weighted by *weights* [B, G].

    Args:
        stack, weights: as above.
        score: a name in `OF_COUNTS`.
        shares: of the classes, [C], which the cells of every draw are weighted to have; None leaves cells alike.
    """
    counts = np.tensordot(weights, stack, axes=(1, 1))
    if shares is not None:
        cells = counts.sum(axis=-1, keepdims=True)
        counts = counts / np.where(cells > 0, cells, 1) * shares[:, None]
    return OF_COUNTS[score](counts)


def differences_of_counts(
    first: np.ndarray,
    second: np.ndarray,
    weights: np.ndarray,
    *,
    score: str = "macro_f1",
    shares: np.ndarray | None = None,
) -> np.ndarray:
    """`weighted_score` of *first* minus that of *second*, [B, S]."""
    return np.subtract(*(weighted_score(stack, weights, score=score, shares=shares) for stack in (first, second)))


def repetitions_of(tables: Sequence[pd.DataFrame]) -> np.ndarray:
    """The repetition of the outer folds that each predictions table is of; 0 where there is one alone."""
    return np.array([table[REPETITION].iloc[0] if REPETITION in table else 0 for table in tables])


def interval_of(
    by_seed: np.ndarray,
    drawn: np.ndarray,
    *,
    n_groups: int,
    level: float = LEVEL,
    repetitions: np.ndarray | None = None,
) -> Difference:
    """The t interval of a mean over seeds, from its value per seed [S] and its bootstraps over smears, [B].

    The variance of the mean has two parts: of smears, that of *drawn* times G / (G - 1); of seeds, the sample variance
    of *by_seed* over S. Degrees of freedom by Satterthwaite.

    Args:
        by_seed, drawn: as above.
        n_groups: smears, G; 0 where no smear has a part in it.
        level: coverage of the interval.
        repetitions: `repetitions_of` the tables, [S]. Of several, each counts once, by the mean of its seeds: these
            share the division into folds and the settings chosen on it, so that they are no independent evidence.
    """
    unit = SEEDS
    if repetitions is not None and len(again := np.unique(repetitions)) > 1:
        by_seed, unit = np.array([by_seed[repetitions == repetition].mean() for repetition in again]), REPETITIONS
    n_seeds = len(by_seed)
    of_groups = float(np.var(drawn)) * n_groups / (n_groups - 1) if n_groups else 0.0
    of_seeds = float(np.var(by_seed, ddof=1)) / n_seeds if n_seeds > 1 else 0.0
    mean = float(np.mean(by_seed))
    made_of = {"n_seeds": n_seeds, "n_groups": n_groups}
    reach = 0.0
    if of_groups + of_seeds:
        quantile = stats.t.ppf((1 + level) / 2, freedom(of_seeds, of_groups, **made_of))
        reach = float(quantile) * math.sqrt(of_seeds + of_groups)
    parts = {"of_seeds": of_seeds, "of_groups": of_groups, "unit": unit}
    parts["by_seed"] = tuple(float(value) for value in by_seed)
    return Difference(mean, mean - reach, mean + reach, level, **made_of, **parts)


def interval_of_draws(
    values: np.ndarray, *, n_groups: int, level: float = LEVEL, repetitions: np.ndarray | None = None
) -> Difference:
    """`interval_of` what was measured under the weights of `whole_and_draws`.

    Args:
        values: [1 + B, S]; a draw in which it is not defined for a seed, such as AUROC of a class without cells, is
            left out.
        n_groups, level, repetitions: of `interval_of`.
    """
    drawn = values[1:].mean(axis=1)
    defined = ~np.isnan(drawn)
    drawn = drawn[defined] if defined.any() else drawn
    return interval_of(values[0], drawn, n_groups=n_groups, level=level, repetitions=repetitions)


def paired_difference(
    first: Sequence[pd.DataFrame],
    second: Sequence[pd.DataFrame],
    *,
    seed: int,
    score: str = "macro_f1",
    prior: Prior = NATURAL,
    level: float = LEVEL,
    n_bootstrap: int = N_BOOTSTRAP,
) -> Difference:
    """A score of *first* minus that of *second* on the same cells, with a t interval over smears and seeds.

    Both methods meet the same smears, so what a hard smear does to both cancels. A seed brings one difference. That
    both methods have the same seeds removes next to nothing, as a seed is not lucky for both (correlations of macro F1
    over seeds were -0.38 to +0.10 in earlier studies). The interval is `interval_of`'s. For a nominal 95 %
    benchmarks/coverage.py measured 94.4 to 99.5 % with 5 to 20 smears and 3 to 10 seeds, heavy tails and uneven smears
    among them: mostly a little too wide, since what chance does to single cells counts in both parts. A hierarchical
    bootstrap fell to 86.7 %, a t interval over seeds alone to 45.6 %, which is why this one is the default. With one
    seed the seeds' part is unknown and the interval covers smears alone; `judge_gain` and `judge_alike` then refuse.

    Args:
        first: predictions tables, one per seed, each of all cells that are tested.
        second: the rival's, in the same order of seeds.
        seed: of the bootstrap over smears.
        score: a name in `OF_COUNTS`.
        prior: prevalence of the classes that cells are weighted to (`rbcnb.evaluation.score_predictions`).
        level: coverage of the interval.
        n_bootstrap: draws.

    Raises:
        ValueError: the tables do not speak of the same cells, the numbers of seeds differ, or there is one group only.
    """
    counts = paired_counts(first, second)
    n_groups = counts[0].shape[1]
    shares = class_shares(prior, classes_of_predictions(first[0].columns))
    weights = whole_and_draws(n_groups, seed=seed, n_bootstrap=n_bootstrap)
    gaps = differences_of_counts(*counts, weights, score=score, shares=shares)
    return interval_of_draws(gaps, n_groups=n_groups, level=level, repetitions=repetitions_of(first))


def paired_macro_f1(first: Sequence[pd.DataFrame], second: Sequence[pd.DataFrame], **options: Any) -> Difference:
    """Macro F1 of *first* minus that of *second*, with a t interval over smears and seeds (`paired_difference`).

    Args:
        first: predictions tables of a method, one per seed, each of all cells that are tested, with ``group``.
        second: those of its rival, in the same order of seeds.
        **options: ``seed`` of the bootstrap over smears, which must be given; ``prior``, ``level``, ``n_bootstrap``.

    Raises:
        ValueError: the tables do not speak of the same cells, the numbers of seeds differ, or there is one group only.
    """
    return paired_difference(first, second, score="macro_f1", **options)


def interval_of_macro_f1(tables: Sequence[pd.DataFrame], *, seed: int) -> Difference:
    """Macro F1 of one method with a 95 % t interval over smears and seeds, as `paired_macro_f1` has it for two.

    It is far wider than that of a difference, in which hard smears cancel: two methods whose intervals overlap may well
    differ. Of one seed it covers smears alone; of one smear it is NaN.

    Args:
        tables: predictions, one per seed, of the same cells.
        seed: of the bootstrap over smears.

    Raises:
        ValueError: there is no table, or they do not speak of the same cells.
    """
    if not tables:
        raise ValueError("no predictions, so no score")
    require_same_cells(tables)
    stack = confusion_stack(tables, classes_of_predictions(tables[0].columns))
    n_seeds, n_groups = stack.shape[:2]
    if n_groups < 2:
        mean = float(macro_f1_of_counts(stack.sum(axis=1)).mean())
        return Difference(mean, math.nan, math.nan, LEVEL, n_seeds, n_groups)
    scores = weighted_score(stack, whole_and_draws(n_groups, seed=seed))
    return interval_of_draws(scores, n_groups=n_groups, repetitions=repetitions_of(tables))


def judge_gain(difference: Difference, *, margin: float) -> str:
    """Whether "the first is better" is supported, not supported, or left open by an interval.

    Supported: the interval lies above 0 and reaches *margin*. Not supported: it excludes a gain of *margin*. Otherwise
    inconclusive: the data allow both a gain worth having and none. A single run is not judged.
    """
    if difference.n_seeds < 2:
        return NOT_JUDGED
    if difference.high < margin:
        return NOT_SUPPORTED
    return SUPPORTED if difference.low > 0 else INCONCLUSIVE


def judge_less(difference: Difference, *, margin: float) -> str:
    """`judge_gain` where less is better: whether "the first has less of it" is supported."""
    return judge_gain(difference.times(-1), margin=margin)


def judge_alike(difference: Difference, *, margin: float) -> str:
    """Whether "the two are in line" is supported: by TOST at 5 %; not: the interval lies wholly outside +-*margin*."""
    if difference.n_seeds < 2:
        return NOT_JUDGED
    if difference.p_alike(margin) < EQUIVALENCE_SIZE:
        return SUPPORTED
    return NOT_SUPPORTED if difference.low > margin or difference.high < -margin else INCONCLUSIVE


@dataclass(frozen=True)
class LadderGaps:
    """The difference in macro F1 on every rung of a ladder, seed by seed and draw by draw of the same smears."""

    rhos: tuple[float, ...]  # ascending, R
    draws: np.ndarray  # under the weights of `whole_and_draws`, [R, 1 + B, S]
    n_groups: int
    repetitions: np.ndarray  # `repetitions_of` the seeds, [S]

    def without(self, rho: float) -> "LadderGaps":
        """The ladder without the rung *rho*."""
        left = np.array(self.rhos) != rho
        rhos = tuple(rung for rung in self.rhos if rung != rho)
        return replace(self, rhos=rhos, draws=self.draws[left])

    @property
    def doublings(self) -> float:
        """How often rho doubles from the first rung to the last."""
        return math.log2(self.rhos[-1] / self.rhos[0])

    def slope(self) -> Difference:
        """Change of the difference in macro F1 per doubling of rho, with its 95 % interval.

        Least squares on log2(rho), one line per seed; the slope is their mean. Chance draws smears and seeds, not
        rungs: a seed brings one slope, not as many points as there are rungs, as points of one seed or smear are no
        independent evidence. The rest is `interval_of`. The slope says whether the gap grows on average on *this*
        ladder; without one rung the gap may stop growing, and `without` checks this.
        """
        slopes = np.tensordot(contrast_of(self.rhos), self.draws, axes=1)
        return interval_of_draws(slopes, n_groups=self.n_groups, repetitions=self.repetitions)


def gaps_on_ladder(
    first: Ladder,
    second: Ladder,
    *,
    seed: int,
    n_bootstrap: int = N_BOOTSTRAP,
    priors: Mapping[float, Prior] | None = None,
) -> LadderGaps:
    """Macro F1 of *first* minus *second* on every rung.

    All rungs are scored on the same test cells, so one bootstrap of smears goes through the whole ladder.

    Args:
        first: rho -> predictions tables, one per seed, the same seeds in the same order on every rung.
        second: the rival's.
        seed: of the bootstrap.
        n_bootstrap: its draws.
        priors: rho -> the prevalence that cells are weighted to on this rung; None for natural on all.

    Raises:
        ValueError: fewer than two rungs, other rungs or numbers of seeds for one of the methods, or rungs that are not
            scored on the same cells, as under the paper's protocol: no interval over smears can be computed there.
    """
    rhos = sorted(first)
    if len(rhos) < 2 or rhos != sorted(second):
        raise ValueError(f"a slope needs the same two or more rungs of both methods: {rhos} against {sorted(second)}")
    counts = {rho: paired_counts(first[rho], second[rho]) for rho in rhos}
    require_same_cells([first[rho][0] for rho in rhos])
    if len({len(of_first) for of_first, _ in counts.values()}) > 1:
        raise ValueError("the rungs do not have the same number of seeds")
    n_groups = counts[rhos[0]][0].shape[1]
    weights = whole_and_draws(n_groups, seed=seed, n_bootstrap=n_bootstrap)
    classes = classes_of_predictions(first[rhos[0]][0].columns)
    values = []
    for rho in rhos:
        shares = class_shares(NATURAL if priors is None else priors[rho], classes)
        values.append(differences_of_counts(*counts[rho], weights, shares=shares))
    return LadderGaps(tuple(rhos), np.stack(values), n_groups, repetitions_of(first[rhos[0]]))


def contrast_of(rhos: Sequence[float]) -> np.ndarray:
    """Weights [R] whose sum with values on the rungs is their least-squares slope per doubling of rho."""
    x = np.log2(rhos)
    return (x - x.mean()) / ((x - x.mean()) ** 2).sum()
