"""The paper's claims against this run's intervals: supported, not supported or inconclusive; computed, never typed."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from rbcnb.inference import (
    INCONCLUSIVE,
    NOT_JUDGED,
    NOT_SUPPORTED,
    SUPPORTED,
    Difference,
    judge_alike,
    judge_gain,
    paired_macro_f1,
)
from rbcnb.multiplicity import benjamini_hochberg, holm
from rbcnb.paired_tests import d_z, sign_flip, win_share
from rbcnb.paper import CLAIMS
from rbcnb.style import readable

SIZE = 0.05  # of a family of tests, after adjustment
PRIMARY, REST = "primary", "rest"
# The question of the paper: focal loss against cross entropy and against over-sampling, per architecture.
PRIMARY_CONTRASTS = ({"focal", "cross_entropy"}, {"focal", "over_sampling"})


@dataclass(frozen=True)
class Comparison:
    """A claim that two methods' macro F1 can judge: *first* minus *second*."""

    claim: str  # an id in rbcnb.paper.CLAIMS
    first: str
    second: str
    judge: Callable[..., str] = judge_gain


BASE = (
    Comparison("focal_beats_ce", "focal", "cross_entropy"),
    Comparison("over_sampling_in_line", "over_sampling", "focal", judge_alike),
    Comparison("under_sampling_worst", "cross_entropy", "under_sampling"),
    Comparison("under_sampling_worst", "focal", "under_sampling"),
)
LADDER = (Comparison("f1_at_every_rho", "focal", "cross_entropy"),)
ALIKE_CLAIMS = frozenset(one.claim for one in (*BASE, *LADDER) if one.judge is judge_alike)

Predictions = Mapping[tuple[str, str], Sequence[pd.DataFrame]]  # (architecture, method) -> a table per seed


def compare_methods(
    predictions: Predictions,
    comparisons: Sequence[Comparison],
    *,
    margin: float,
    seed: int,
    protocol: str,
    rho: float | None = None,
    balance: bool = False,
) -> pd.DataFrame:
    """Paired differences in macro F1 with intervals, tests and verdicts, one row per comparison and architecture.

    Args:
        predictions: of the final fits; comparisons whose methods are not there are left out.
        comparisons: which methods, and the claim they bear on.
        margin: the smallest difference worth having, in macro F1.
        seed: of the bootstrap.
        protocol: stands in the rows.
        rho: rung of the ladder; stands in the rows.
        balance: every class weighted alike (`paired_macro_f1`).

    Returns:
        What is compared; ``mean``, ``low``, ``high`` (`Difference`); over smears and seeds: ``p`` of no difference,
        ``p_tost`` of a difference beyond the margin, ``p_against`` (one-sided) of the claim itself, a gain of the
        margin or methods alike; of seeds on these smears: ``p_flip`` (`sign_flip`), ``d_z``, ``wins`` with ``wins_low``
        and ``wins_high`` (`win_share`); and the ``verdict`` of this row by itself. All p are NaN for a single run.
        `adjust_for_families` goes over all rows of a study together.
    """
    rows = []
    architectures = dict.fromkeys(architecture for architecture, _ in predictions)
    for comparison in comparisons:
        for architecture in architectures:
            first = predictions.get((architecture, comparison.first))
            second = predictions.get((architecture, comparison.second))
            if first is None or second is None:
                continue
            difference = paired_macro_f1(first, second, seed=seed, balance=balance)
            rows.append(
                {
                    "claim": comparison.claim,
                    "protocol": protocol,
                    "rho": rho,
                    "architecture": architecture,
                    "first": comparison.first,
                    "second": comparison.second,
                    "contrast": _contrast(comparison, architecture, protocol, rho),
                    **_figures_of(difference, margin, alike=comparison.judge is judge_alike),
                    "verdict": comparison.judge(difference, margin=margin),
                }
            )
    return pd.DataFrame(rows)


def _figures_of(difference: Difference, margin: float, *, alike: bool) -> dict[str, float]:
    names = ("mean", "low", "high", "level", "n_seeds", "n_groups")
    row = {name: getattr(difference, name) for name in names}
    row |= {"p": difference.p_value, "p_tost": difference.p_alike(margin)}
    row["p_against"] = difference.p_apart(margin) if alike else difference.p_short(margin)
    row |= {"p_flip": sign_flip(difference.by_seed), "d_z": d_z(difference.by_seed)}
    return row | dict(zip(("wins", "wins_low", "wins_high"), win_share(difference.by_seed), strict=True))


def adjust_for_families(differences: pd.DataFrame) -> pd.DataFrame:
    """*differences* with ``family``, ``p_adjusted`` and ``against_adjusted``, and verdicts that allow for many tests.

    Under each protocol there are at most two families: primary, the paper's question on the whole data set (focal loss
    against cross entropy and against over-sampling on every architecture), by Holm; and the rest, every rung of the
    ladder among it, by Benjamini and Hochberg. A gain whose ``p_adjusted`` is not below 0.05 is inconclusive, whatever
    its own interval says; so is a claim that is not supported, unless twice its ``p_against``, adjusted in the same
    way, is below 0.05. That methods are alike stands by ``p_tost`` alone: all contrasts of a claim must pass it, and
    that needs no adjustment.

    Args:
        differences: all rows of `compare_methods` that one statement is made from: families are those of this table.
    """
    primary = [
        pd.isna(row.rho) and {row.first, row.second} in PRIMARY_CONTRASTS for row in differences.itertuples(index=False)
    ]
    table = differences.assign(family=[PRIMARY if one else REST for one in primary])
    table[["p_adjusted", "against_adjusted"]] = float("nan")
    for (_, family), rows in table.groupby(["protocol", "family"]):
        adjust = holm if family == PRIMARY else benjamini_hochberg
        table.loc[rows.index, "p_adjusted"] = adjust(rows["p"])
        table.loc[rows.index, "against_adjusted"] = adjust((2 * rows["p_against"]).clip(upper=1))
    gain = (table["verdict"] == SUPPORTED) & ~table["claim"].isin(ALIKE_CLAIMS)
    against = table["verdict"] == NOT_SUPPORTED
    unsure = (gain & ~(table["p_adjusted"] < SIZE)) | (against & ~(table["against_adjusted"] < SIZE))
    return table.assign(verdict=table["verdict"].mask(unsure, INCONCLUSIVE))


def _contrast(comparison: Comparison, architecture: str, protocol: str, rho: float | None) -> str:
    where = f"{readable(architecture)}, {protocol}" + ("" if rho is None else f", ρ = {rho:g}")
    return f"{readable(comparison.first)} − {readable(comparison.second)}\n{where}"


def combine(verdicts: Sequence[str]) -> str:
    """A claim about several comparisons: supported if all are, not supported if one is not, else inconclusive."""
    if NOT_JUDGED in verdicts:
        return NOT_JUDGED
    if NOT_SUPPORTED in verdicts:
        return NOT_SUPPORTED
    return SUPPORTED if set(verdicts) == {SUPPORTED} else INCONCLUSIVE


def judge_claims(differences: pd.DataFrame, *, margin: float) -> pd.DataFrame:
    """One row per claim that *differences* bear on: the claim, where it stands, its verdict and the evidence.

    Verdicts allow for the number of tests (`adjust_for_families`, of the believed rows). A claim that needs several
    contrasts needs all of them.

    Args:
        differences: rows of `compare_methods`, of one protocol or several; the honest one is believed if there.
        margin: the one that the rows were judged with; told in the table.
    """
    honest = differences[differences["protocol"] == "honest"]
    believed = adjust_for_families((honest if len(honest) else differences).reset_index(drop=True))
    quotes = {claim.id: claim for claim in CLAIMS}
    rows = []
    for claim, evidence in believed.groupby("claim", sort=False):
        texts = [_evidence(row) for row in evidence.itertuples()]
        rows.append(
            {
                "claim": quotes[claim].quote,
                "place": quotes[claim].place,
                "verdict": combine(list(evidence["verdict"])),
                "evidence": "; ".join(texts),
                "protocol": ", ".join(dict.fromkeys(evidence["protocol"])),
                "margin": margin,
            }
        )
    return pd.DataFrame(rows)


def _evidence(row: tuple) -> str:
    told = f"{row.contrast.replace(chr(10), ', ')}: {row.mean:+.3f} [{row.low:+.3f}, {row.high:+.3f}]"
    if pd.isna(row.p):
        return told
    law = "Holm" if row.family == PRIMARY else "BH"
    told += f", p {row.p:.2g} ({law} {row.p_adjusted:.2g}), d_z {row.d_z:+.1f}, wins {row.wins:.0%}"
    return f"{told}, TOST p {row.p_tost:.2g}" if row.claim in ALIKE_CLAIMS else told
