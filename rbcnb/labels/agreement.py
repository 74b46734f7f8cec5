"""How far readers agree: kappas, agreement on each class, who calls what how; intervals over smears.

Cells of one smear share stain, focus and neighbours, so they are not independent draws: the unit of chance is the
smear (or the group of identical ones). Every statistic here is a function of sums over smears; its standard error is
the delete-one-smear jackknife (Efron & Stein, 1981), its interval Student's with one degree of freedom less than there
are smears. Treating cells as independent gives intervals that are too short; ``benchmarks/agreement_coverage.py``
counts how often either holds the truth.
"""

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import stats

from rbcnb.columns import AGREEMENT_COLUMNS, CELL, GROUP, KIND, LABEL, READER, READERS, SMEAR, class_names
from rbcnb.labels.assign import twin_readings
from rbcnb.labels.consensus import standing_readings
from rbcnb.labels.readings import NAMED

LEVEL = 0.95  # coverage aimed at
AGREEMENT, FLEISS = "agreement", "Fleiss' kappa"


def ratings_of(readings: pd.DataFrame) -> pd.DataFrame:
    """Who called which cell what: index (smear, cell), a column per reader, missing where a reader named no class.

    Args:
        readings: as of `rbcnb.labels.load_readings`; the last word of each reader counts.
    """
    words = standing_readings(readings)
    named = words[words[KIND] == NAMED]
    table = named.pivot_table(index=[SMEAR, CELL], columns=READER, values=LABEL, aggfunc="first")
    return table[list(named[READER].unique())]


def disagreement_counts(ratings: pd.DataFrame) -> pd.DataFrame:
    """Cells by the labels of two readers (index and columns, named after them), those that both named.

    Of more than two readers, the two who named the most cells in common, the first such pair.

    Args:
        ratings: a row per cell, a column per reader, missing where a reader named no class; see `ratings_of`.

    Returns:
        Counts [C, C] of the classes that either of them named among these cells, in the order of
        `rbcnb.columns.class_names`.

    Raises:
        ValueError: there are fewer than two readers.
    """
    given = ratings.notna()
    first, second = max(itertools.combinations(ratings, 2), key=lambda pair: int(given[list(pair)].all(axis=1).sum()))
    both = ratings[[first, second]].dropna()
    names = list(class_names(both.to_numpy().ravel()))
    counts = pd.crosstab(both[first], both[second])
    return counts.reindex(index=names, columns=names, fill_value=0)


def cohen_kappa(counts: np.ndarray) -> np.ndarray:
    """Cohen's kappa [...] of counts [..., C, C] of two readers (Cohen, 1960); NaN where both name one class only."""
    total = counts.sum(axis=(-2, -1))
    with np.errstate(invalid="ignore", divide="ignore"):
        observed = np.trace(counts, axis1=-2, axis2=-1) / total
        expected = np.einsum("...k,...k->...", counts.sum(axis=-1), counts.sum(axis=-2)) / total**2
        return (observed - expected) / (1 - expected)


def jackknife(
    statistic: Callable[[np.ndarray], np.ndarray], sums: np.ndarray, *, least: float = -1.0
) -> tuple[float, float, float]:
    """A statistic and its 95 % interval over smears: (value, low, high); the interval is NaN where it cannot be known.

    It cannot with fewer than two smears, nor where the statistic is the same whichever smear is left out: readers who
    never differed may well differ on the next smear, which no spread within these can tell.

    Args:
        statistic: takes sums [..., P...] to values [...].
        sums: of each smear [G, P...].
        least: what the statistic can be at least, as 0 for a share; at most it is 1.
    """
    total, n_groups = sums.sum(axis=0), len(sums)
    value = float(statistic(total))
    if n_groups < 2:
        return value, math.nan, math.nan
    without = statistic(total - sums)
    error = math.sqrt((n_groups - 1) / n_groups * float(np.sum((without - without.mean()) ** 2)))
    if not error > 0:
        return value, math.nan, math.nan
    reach = float(stats.t.ppf((1 + LEVEL) / 2, n_groups - 1)) * error
    return value, max(least, value - reach), min(1.0, value + reach)


def agreement_table(ratings: pd.DataFrame, smears: Sequence) -> pd.DataFrame:
    """Agreement among readers, one row per statistic: share of agreeing pairs, kappas, and agreement on each class.

    Agreement on a class: of a reader's cells of that class, the share that another reader puts there too (for two
    readers Dice's coefficient, ``2 n_kk / (n_k. + n_.k)``).

    Args:
        ratings: a row per cell, a column per reader; see `ratings_of`.
        smears: of each row, the smear, or the group of identical smears.

    Returns:
        ``AGREEMENT_COLUMNS``: the statistic by name, its value and interval over smears, the cells with two readings at
        least that it speaks of, and their smears.

    Raises:
        ValueError: no cell has two readings.
    """
    names = list(class_names(ratings.to_numpy().ravel()))
    votes = np.stack([(ratings == name).sum(axis=1).to_numpy(float) for name in names], axis=1) if names else None
    twice = votes.sum(axis=1) >= 2 if names else np.zeros(len(ratings), bool)
    if not twice.any():
        raise ValueError("no cell was named by two readers; let a second reader label some of the cells")
    votes, groups = votes[twice], pd.factorize(np.asarray(smears, dtype=object)[twice])[0]
    sums = pd.DataFrame(_pair_sums(votes)).groupby(groups).sum().to_numpy()
    counted = int(twice.sum()), len(sums)
    rows = [(AGREEMENT, *jackknife(lambda s: s[..., 1] / s[..., 0], sums, least=0.0), *counted)]
    rows += _cohen_rows(ratings[twice], groups, names)
    rows.append((FLEISS, *jackknife(_fleiss, sums), *counted))
    agreeing, given = (sums[:, start : start + len(names)] for start in (2 + len(names), 2 + 2 * len(names)))
    for k, name in enumerate(names):
        by_smear = np.stack([agreeing[:, k], given[:, k]], axis=1)[given[:, k] > 0]  # where the class is given
        interval = jackknife(lambda s: s[..., 0] / s[..., 1], by_smear, least=0.0)
        rows.append((f"{AGREEMENT} on {name}", *interval, int((votes[:, k] > 0).sum()), len(by_smear)))
    return pd.DataFrame(rows, columns=list(AGREEMENT_COLUMNS))


def simulated_readers(
    cells: pd.DataFrame, *, error: float, seed: int, spread: float = 0.0, readers: Sequence[str] = ("first", "second")
) -> pd.DataFrame:
    """Ratings by simulated readers, who call each cell by another of the classes with probability *error*.

    Args:
        cells: ``smear``, ``cell`` and the true ``label``.
        error: mean share of wrong calls.
        seed: of the draws.
        spread: standard deviation of that share from smear to smear (beta distributed), the same for all readers.
        readers: their names.

    Returns:
        As of `ratings_of`.

    Raises:
        ValueError: no distribution on 0 to 1 has such a mean and standard deviation.
    """
    if not 0 <= error <= 1 or (spread and not spread**2 < error * (1 - error)):
        raise ValueError(
            f"no reader errs on {error:g} of cells with sd {spread:g} from smear to smear; give less of both"
        )
    rng = np.random.default_rng(seed)
    names = np.array(class_names(cells[LABEL]), dtype=object)
    truth = pd.Categorical(cells[LABEL], categories=names).codes
    smears = pd.factorize(cells[SMEAR])[0]
    rates = np.full(smears.max() + 1, error)
    if spread:
        strength = error * (1 - error) / spread**2 - 1
        rates = rng.beta(error * strength, (1 - error) * strength, len(rates))
    calls = {}
    for reader in readers:
        wrong = rng.random(len(cells)) < rates[smears]
        shift = rng.integers(1, len(names), len(cells)) if len(names) > 1 else 0
        calls[reader] = names[(truth + wrong * shift) % len(names)]
    return pd.DataFrame(calls, index=pd.MultiIndex.from_frame(cells[[SMEAR, CELL]]))


def _pair_sums(votes: np.ndarray) -> np.ndarray:
    """What agreement is made of, per cell [N, 2 + 3 C], of votes [N, C], at least two for each cell.

    One, the agreeing share of pairs, the shares of the classes, and per class what agreement on it is a ratio of:
    expected agreeing others, and votes.
    """
    n = votes.sum(axis=1, keepdims=True)
    agreeing = votes * (votes - 1) / (n - 1)
    return np.hstack([np.ones_like(n), (agreeing / n).sum(axis=1, keepdims=True), votes / n, agreeing, votes])


def _fleiss(sums: np.ndarray) -> np.ndarray:
    """Fleiss' kappa [...] (1971), for two readers Scott's pi, of sums [..., 2 + 3 C] of `_pair_sums`.

    Readers may be missing: a cell counts as one cell however many read it, its agreement is the share of agreeing pairs
    among those who did (Gwet, 2014). This presumes that whether a reader named a cell has nothing to do with its class.
    """
    n_classes = (sums.shape[-1] - 2) // 3
    cells = sums[..., 0]
    with np.errstate(invalid="ignore", divide="ignore"):
        observed = sums[..., 1] / cells
        expected = ((sums[..., 2 : 2 + n_classes] / cells[..., None]) ** 2).sum(axis=-1)
        return (observed - expected) / (1 - expected)


def _cohen_rows(ratings: pd.DataFrame, groups: np.ndarray, names: list[str]) -> list[tuple]:
    codes = {reader: pd.Categorical(ratings[reader], categories=names).codes for reader in ratings}
    rows = []
    for first, second in itertools.combinations(codes, 2):
        both = (codes[first] >= 0) & (codes[second] >= 0)
        if not both.any():
            continue
        group_codes = pd.factorize(groups[both])[0]
        counts = np.zeros((group_codes.max() + 1, len(names), len(names)))
        np.add.at(counts, (group_codes, codes[first][both], codes[second][both]), 1)
        title = "Cohen's kappa" + (f", {first} and {second}" if len(codes) > 2 else "")
        rows.append((title, *jackknife(cohen_kappa, counts), int(both.sum()), len(counts)))
    return rows


@dataclass(frozen=True, eq=False)
class Compared:
    """Ratings to be compared, and whose they are."""

    source: str  # a sentence's subject, such as "readers anna and bo"
    simulated: str  # ``columns.READERS`` where no person gave them, else ""
    ratings: pd.DataFrame  # a row per cell, a column per reader
    smears: np.ndarray  # of each row, the smear, or the group of identical ones


def compared_readers(
    readings: pd.DataFrame, truth: pd.DataFrame, cells: pd.DataFrame, *, error: float, seed: int
) -> Compared:
    """The best evidence of agreement that these smears have.

    It is from the readers of the label table, else from identical images that were labelled twice, else from two
    simulated readers, who are called so.

    Args:
        readings: as of `rbcnb.labels.load_readings`.
        truth: labels that came with the smears, of every type, with ``group``.
        cells: labelled cells with ``smear``, ``cell``, ``label`` and ``group``, for simulated readers to misread.
        error: mean share of wrong calls of a simulated reader, and its standard deviation from smear to smear.
        seed: of simulated readers.
    """
    ratings = ratings_of(readings)
    if (ratings.notna().sum(axis=1) >= 2).any():
        group_of = cells.drop_duplicates(SMEAR).set_index(SMEAR)[GROUP]
        smears = ratings.index.get_level_values(SMEAR).to_series()
        source = "the readers " + " and ".join(map(str, ratings.columns))
        return Compared(source, "", ratings, smears.map(group_of).fillna(smears).to_numpy())
    twins = twin_readings(truth)
    if len(twins):
        pairs = twins[["first", "second"]].rename(columns="{} reading".format)
        source = f"two readings of {twins[GROUP].nunique()} images, which lie in the data twice"
        return Compared(source, "", pairs, twins[GROUP].to_numpy())
    ratings = simulated_readers(cells, error=error, spread=error, seed=seed, readers=("simulated 1", "simulated 2"))
    source = f"two SIMULATED readers, wrong on {error:.0%} of cells (sd from smear to smear {error:.0%})"
    return Compared(source, READERS, ratings, cells[GROUP].to_numpy())
