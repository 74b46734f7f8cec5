"""From called cells to a differential count: shares per smear and of all smears together, with 95 % intervals.

Two kinds stand side by side. Raw: what was called, with a Wilson interval; of several smears the spread between them
widens it, since cells of one smear are alike. Adjusted: the shares that would give these calls, undoing the confusion
that the network showed on cells that it was not trained on, unsure ones among them. A confusion that is known from few
smears is undone in part only. This is right as far as a codocyte here is as often taken for a normal cell as it was
there; the interval covers the chance in both counts, and little more. Where that is in doubt there is no adjusted
share, and the column ``doubt`` says why.
"""

from collections.abc import Collection, Mapping

import numpy as np
import pandas as pd
from scipy import stats

from rbcnb.columns import UNSURE

LEVEL = 0.95
CRITICAL = float(stats.norm.ppf((1 + LEVEL) / 2))
N_DRAWS = 500
POOL = "pooled"
COLUMNS = ("smear", "class", "n_cells", "share", "low", "high", "adjusted", "adjusted_low", "adjusted_high", "doubt")
MOST_WIDE = 0.5  # an adjusted interval wider than this is no answer
# By benchmarks/count_coverage.py, 29 of 35 intervals cover the label file's share so; 31 shares cannot be told. With
# the training smears' shares as the prior, worth 2 cells, and with whole cells it was 11 of 14, and 24.
PRIOR = 0.7  # what the calls as they are count for, in counted cells, over the number of training smears
EFFECTIVE = 0.5  # what a counted cell is worth: a smear's own confusion differs from the mean of the training smears'
_STEPS = 300  # of the likelihood's ascent


def wilson(hits: np.ndarray, n: np.ndarray, *, critical: float | np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Wilson's interval of a share: *hits* of *n* (any may be fractions), *critical* of the normal or t distribution.

    Without cells it is all of 0 to 1.
    """
    hits, n, z2 = np.asarray(hits, float), np.asarray(n, float), np.square(critical)
    with np.errstate(invalid="ignore", divide="ignore"):
        centre = (hits + z2 / 2) / (n + z2)
        reach = critical / (n + z2) * np.sqrt(hits * (n - hits) / n + z2 / 4)
    low, high = np.where(n > 0, centre - reach, 0.0), np.where(n > 0, centre + reach, 1.0)
    return np.where(hits <= 0, 0.0, low), np.where(hits >= n, 1.0, high)


def pooled_interval(counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """95 % interval of pooled shares of *counts* [S, K] (smear, outcome), with the spread between smears: low, high.

    The variance of the ratio of totals over smears gives an effective number of cells, at most the actual one, for
    Wilson's interval with a t of S - 1 degrees of freedom. Of one smear it is Wilson's plain interval.
    """
    counts = np.asarray(counts, float)
    n_by_smear, hits = counts.sum(axis=1), counts.sum(axis=0)
    n, n_smears = n_by_smear.sum(), int((n_by_smear > 0).sum())
    if n_smears < 2:
        return wilson(hits, n, critical=CRITICAL)
    share = hits / n
    rest = counts - n_by_smear[:, None] * share
    between = (rest**2).sum(axis=0) * n_smears / (n_smears - 1) / n**2
    binomial = share * (1 - share) / n
    with np.errstate(invalid="ignore", divide="ignore"):
        effective = n * np.where(between > binomial, binomial / between, 1.0)
    return wilson(share * effective, effective, critical=stats.t.ppf((1 + LEVEL) / 2, n_smears - 1))


def unmix(outcomes: np.ndarray, confusion: np.ndarray, *, prior_cells: float) -> np.ndarray:
    """Shares [..., C] of the true classes that explain *outcomes* [..., K] best, each at least 0, summing to 1.

    The maximum of the posterior of outcomes drawn from ``confusion @ shares``, by expectation and maximisation. The
    prior holds to the calls as they are: undoing a confusion that is known from few cells does more harm than good.

    Args:
        outcomes: [..., K] counts; the first C are calls of the classes.
        confusion: [..., K, C] counts of outcome by true class. Each class gets one more cell, spread over the
            outcomes, so that what was not seen in a few dozen cells is not taken for impossible.
        prior_cells: what the prior is worth, in cells.
    """
    n_outcomes, n_classes = confusion.shape[-2:]
    smooth = confusion + 1 / n_outcomes
    rates = smooth / smooth.sum(axis=-2, keepdims=True)
    outcomes = np.asarray(outcomes, float)
    total = outcomes.sum(axis=-1, keepdims=True)
    calls = outcomes[..., :n_classes] + 1 / n_classes
    prior = calls / calls.sum(axis=-1, keepdims=True)
    shares = np.broadcast_to(prior, (*np.broadcast_shapes(outcomes.shape[:-1], rates.shape[:-2]), n_classes))
    for _ in range(_STEPS):
        expected = (rates @ shares[..., None])[..., 0]
        of_class = shares * (np.swapaxes(rates, -1, -2) @ (outcomes / expected)[..., None])[..., 0]
        shares = (of_class + prior_cells * prior) / (total + prior_cells)
    return shares


def adjusted_interval(
    counts: np.ndarray, confusion: np.ndarray, *, seed: int, n_draws: int = N_DRAWS
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Adjusted shares [C] of *counts* [S, K], and their 95 % interval: shares, low, high.

    Each draw takes: the training smears that the confusion was counted on; of one smear the shares of its calls (from
    a Dirichlet distribution, its cells worth `EFFECTIVE` each); of several the smears' weights, with the spread widened
    as a t of S - 1 degrees of freedom is wider than a normal distribution.

    Args:
        confusion: [G, K, C] counts per group of training smears.
    """
    counts = np.asarray(counts, float)
    counts = counts[counts.sum(axis=1) > 0]
    n_smears, n_outcomes = len(counts), counts.shape[1]
    prior_cells = PRIOR / len(confusion) * counts.sum()
    rng = np.random.default_rng(seed)
    groups = rng.multinomial(len(confusion), np.full(len(confusion), 1 / len(confusion)), size=n_draws)
    confusions = np.einsum("bg,gkc->bkc", groups, confusion)
    estimate = unmix(counts.sum(axis=0), confusion.sum(axis=0), prior_cells=prior_cells)
    if n_smears == 1:
        alpha = EFFECTIVE * (counts[0] + 1 / n_outcomes)
        drawn, factor = counts.sum() * rng.dirichlet(alpha, size=n_draws), 1.0
    else:
        drawn = n_smears * rng.dirichlet(np.ones(n_smears), size=n_draws) @ counts
        t = stats.t.ppf((1 + LEVEL) / 2, n_smears - 1)
        factor = t / CRITICAL * np.sqrt((n_smears + 1) / (n_smears - 1))
    shares = estimate + factor * (unmix(drawn, confusions, prior_cells=prior_cells) - estimate)
    low, high = np.quantile(shares, [(1 - LEVEL) / 2, (1 + LEVEL) / 2], axis=0).clip(0, 1)
    return estimate, np.minimum(low, estimate), np.maximum(high, estimate)


def differential_count(
    calls: pd.DataFrame,
    classes: tuple[str, ...],
    *,
    confusion: np.ndarray | None = None,
    pool: Collection[str] | None = None,
    class_doubts: Mapping[str, str] | None = None,
    smear_doubts: Mapping[str, str] | None = None,
    seed: int = 0,
) -> pd.DataFrame:
    """The differential count of every smear, and under ``pooled`` of several together: ``COLUMNS``.

    Args:
        calls: one row per counted cell: ``smear`` and ``call``, one of *classes* or "unsure".
        classes: of the model, in its order.
        confusion: out-of-fold confusion [G, C + 1, C]; None leaves the adjusted columns empty.
        pool: smears to pool; None for all.
        class_doubts: class -> why the model cannot tell it (`rbcnb.counting.class_doubts`); empty where it can.
        smear_doubts: smear -> why no adjusted count of it is to be trusted; also under ``pooled``.
        seed: of the draws for the adjusted intervals.

    Returns:
        One row per smear and outcome; ``share`` is of all counted cells, unsure ones included; ``adjusted`` of all
        cells by their true class, and so has no row of unsure ones. Where ``doubt`` gives a reason, it is missing.
    """
    outcomes = [*classes, UNSURE]
    smears = list(dict.fromkeys(calls["smear"]))
    table = pd.crosstab(calls["smear"], calls["call"].astype(str)).reindex(index=smears, columns=outcomes, fill_value=0)
    rows = [
        _rows(smear, counts[None], outcomes, confusion, seed)
        for smear, counts in zip(table.index, table.to_numpy(), strict=True)
    ]
    pooled = table if pool is None else table[table.index.isin(pool)]
    if len(pooled):
        rows.append(_rows(POOL, pooled.to_numpy(), outcomes, confusion, seed))
    if not rows:
        return pd.DataFrame(columns=list(COLUMNS))
    return _with_doubts(pd.concat(rows, ignore_index=True), class_doubts or {}, smear_doubts or {})


def _with_doubts(table: pd.DataFrame, class_doubts: Mapping[str, str], smear_doubts: Mapping[str, str]) -> pd.DataFrame:
    """*table* with ``doubt``, and without the adjusted shares that it speaks of."""
    adjusted = table["adjusted"].notna()
    wide = table["adjusted_high"] - table["adjusted_low"] > MOST_WIDE
    reasons = [
        table["smear"].map(smear_doubts),
        table["class"].map(class_doubts),
        pd.Series("the model confuses too much", index=table.index).where(wide),
    ]
    doubt = pd.Series("", index=table.index)
    for reason in reversed(reasons):  # the first one stands
        reason = reason.astype(object).fillna("")
        doubt = reason.where(reason.ne(""), doubt)
    doubt = doubt.where(adjusted, "")
    table.loc[doubt != "", ["adjusted", "adjusted_low", "adjusted_high"]] = np.nan
    return table.assign(doubt=doubt.where(doubt == "", "cannot be told: " + doubt))


def _rows(smear: str, counts: np.ndarray, outcomes: list[str], confusion: np.ndarray | None, seed: int) -> pd.DataFrame:
    totals = counts.sum(axis=0)
    low, high = pooled_interval(counts)
    facts = {
        "smear": smear,
        "class": outcomes,
        "n_cells": totals,
        "share": totals / totals.sum(),
        "low": low,
        "high": high,
    }
    adjusted = np.full((3, len(outcomes)), np.nan)
    if confusion is not None and len(confusion):
        adjusted[:, :-1] = adjusted_interval(counts, confusion, seed=seed)
    return pd.DataFrame({**facts, "adjusted": adjusted[0], "adjusted_low": adjusted[1], "adjusted_high": adjusted[2]})
