"""The paper's claims against this run's intervals: supported, not supported or inconclusive; computed, never typed."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from rbcnb.columns import PRIMARY_CONTRASTS, readable
from rbcnb.evaluation.hypothesis_tests import benjamini_hochberg, d_z, holm, sign_flip, win_share
from rbcnb.evaluation.inference import (
    INCONCLUSIVE,
    NOT_JUDGED,
    NOT_SUPPORTED,
    SUPPORTED,
    Difference,
    judge_alike,
    judge_gain,
    paired_macro_f1,
)
from rbcnb.paper import CLAIMS, load_checks

SIZE = 0.05  # of a family of tests, after adjustment
PRIMARY, REST = "primary", "rest"
# Which p a row's verdict hangs on, in words that follow "p".
OF_NO_DIFFERENCE, OF_TOST = "of no difference", "of TOST"
AGAINST_A_GAIN, AGAINST_ALIKE = "against a gain", "against alike"
Predictions = Mapping[tuple[str, str], Sequence[pd.DataFrame]]  # (architecture, method) -> a table per seed


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
SLOPES = (Comparison("gain_grows_with_rho", "focal", "cross_entropy"),)  # judged by the gap's change along the ladder
ALIKE_CLAIMS = frozenset(one.claim for one in (*BASE, *LADDER, *SLOPES) if one.judge is judge_alike)
PRIMARY_CLAIMS = frozenset(one.claim for one in BASE)


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
            where = "" if rho is None else f", ρ = {rho:g}"
            place = {"architecture": architecture, "protocol": protocol, "rho": rho, "where": where}
            rows.append(difference_row(comparison, difference, margin=margin, **place))
    return pd.DataFrame(rows)


def difference_row(
    comparison: Comparison,
    difference: Difference,
    *,
    margin: float,
    architecture: str,
    protocol: str,
    rho: float | None = None,
    where: str = "",
) -> dict[str, object]:
    """A row of `compare_methods`; *where* ends the words of its ``contrast``."""
    names = f"{readable(comparison.first)} − {readable(comparison.second)}"
    return {
        "claim": comparison.claim,
        "protocol": protocol,
        "rho": math.nan if rho is None else rho,
        "architecture": architecture,
        "first": comparison.first,
        "second": comparison.second,
        "contrast": f"{names}\n{readable(architecture)}, {protocol}{where}",
        **_figures_of(difference, margin, alike=comparison.judge is judge_alike),
        "verdict": comparison.judge(difference, margin=margin),
    }


def _figures_of(difference: Difference, margin: float, *, alike: bool) -> dict[str, object]:
    names = ("mean", "low", "high", "level", "n_seeds", "unit", "n_groups")
    row = {name: getattr(difference, name) for name in names}
    row |= {"p": difference.p_value, "p_tost": difference.p_alike(margin)}
    row["p_against"] = difference.p_apart(margin) if alike else difference.p_short(margin)
    row |= {"p_flip": sign_flip(difference.by_seed), "d_z": d_z(difference.by_seed)}
    return row | dict(zip(("wins", "wins_low", "wins_high"), win_share(difference.by_seed), strict=True))


def adjust_for_families(differences: pd.DataFrame) -> pd.DataFrame:
    """*differences* with ``family``, adjusted p values, and verdicts that allow for many tests.

    Under each protocol there are at most two families: primary, the paper's question on the whole data set (focal loss
    against cross entropy and against over-sampling on every architecture), by Holm; and the rest, every rung of the
    ladder and its slope among it, by Benjamini and Hochberg. A gain whose ``p_adjusted`` is not below 0.05 is
    inconclusive, whatever its own interval says; so is a claim that is not supported, unless twice its ``p_against``,
    adjusted in the same way, is below 0.05. That methods are alike stands by ``p_tost`` alone: all contrasts of a claim
    must pass it, and that needs no adjustment.

    Args:
        differences: all rows of `compare_methods` that one statement is made from: families are those of this table.

    Returns:
        The rows with ``p_adjusted`` and ``against_adjusted``, and with the p that the verdict hangs on, ``p_deciding``,
        in words ``decided_by``. To adjust twice is to adjust once.
    """
    primary = [
        pd.isna(row.rho) and row.claim in PRIMARY_CLAIMS and {row.first, row.second} in PRIMARY_CONTRASTS
        for row in differences.itertuples(index=False)
    ]
    table = differences.assign(family=[PRIMARY if one else REST for one in primary])
    table[["p_adjusted", "against_adjusted"]] = float("nan")
    for (_, family), rows in table.groupby(["protocol", "family"]):
        adjust = holm if family == PRIMARY else benjamini_hochberg
        table.loc[rows.index, "p_adjusted"] = adjust(rows["p"])
        table.loc[rows.index, "against_adjusted"] = adjust((2 * rows["p_against"]).clip(upper=1))
    alike = table["claim"].isin(ALIKE_CLAIMS)
    if "decided_by" not in table:  # else the verdicts are no longer those of the rows by themselves
        held = alike.map({True: OF_TOST, False: OF_NO_DIFFERENCE})
        fell = alike.map({True: AGAINST_ALIKE, False: AGAINST_A_GAIN})
        table["decided_by"] = held.mask(table["verdict"] == NOT_SUPPORTED, fell).mask(table["p"].isna(), "")
    deciding = {OF_NO_DIFFERENCE: "p_adjusted", OF_TOST: "p_tost"}
    names = table["decided_by"].map(lambda told: deciding.get(told, "against_adjusted"))
    table["p_deciding"] = [table.loc[row, name] for row, name in names.items()]
    gain = (table["verdict"] == SUPPORTED) & ~alike
    against = table["verdict"] == NOT_SUPPORTED
    unsure = (gain | against) & ~(table["p_deciding"] < SIZE)
    return table.assign(verdict=table["verdict"].mask(unsure, INCONCLUSIVE))


def combine(verdicts: Sequence[str]) -> str:
    """A claim about several comparisons: supported if all are, not supported if one is not, else inconclusive."""
    if NOT_JUDGED in verdicts:
        return NOT_JUDGED
    if NOT_SUPPORTED in verdicts:
        return NOT_SUPPORTED
    return SUPPORTED if set(verdicts) == {SUPPORTED} else INCONCLUSIVE


def _believed(differences: pd.DataFrame) -> pd.DataFrame:
    """The rows of the honest protocol where it was run, else all, adjusted."""
    honest = differences[differences["protocol"] == "honest"]
    return adjust_for_families((honest if len(honest) else differences).reset_index(drop=True))


def judge_claims(differences: pd.DataFrame, *, margin: float) -> pd.DataFrame:
    """One row per claim that *differences* bear on: the claim, where it stands, its verdict and the evidence.

    Verdicts allow for the number of tests (`adjust_for_families`, of the believed rows; to adjust twice is to adjust
    once). A claim that needs several contrasts needs all of them.

    Args:
        differences: rows of `compare_methods`, of one protocol or several; the honest one is believed if there.
        margin: the one that the rows were judged with; told in the table.
    """
    believed = _believed(differences)
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


def claims_in_print() -> pd.DataFrame:
    """Every claim of the paper that its own print can check: ``place``, ``claim``, ``in_print`` and the ``remark``.

    ``in_print`` counts the checks of `rbcnb.paper.load_checks` that agree; rows that check nothing are left out.
    """
    checks = load_checks().dropna(subset="agrees")
    rows = []
    for claim in CLAIMS:
        own = checks[checks["claim"] == claim.id]
        if len(own):
            agree = int(own["agrees"].sum())
            found = "; ".join(f"{row.number}: {row.recomputed}" for row in own.itertuples())
            told = {"place": claim.place, "claim": claim.quote, "in_print": f"{agree} of {len(own)} checks agree"}
            rows.append(told | {"recomputed": found})
    return pd.DataFrame(rows)


def answer_text(differences: pd.DataFrame, *, margin: float) -> str:
    """The answer in a few sentences: the primary contrasts of the believed protocol, with what is unsure about them.

    After them the change of the gap along the ladder, and what the published protocol makes of the same data, where
    *differences* hold these.

    Args:
        differences: as `judge_claims` takes them.
        margin: the one that the rows were judged with.
    """
    rows = _believed(differences)
    parts = []
    for row in rows[rows["family"] == PRIMARY].itertuples():
        sign = -1 if row.first != "focal" else 1  # always told as focal loss minus its rival
        parts.append(
            f"{_focal_minus(row, sign)} (n = {row.n_seeds} {row.unit}, {row.n_groups} test smears; "
            f"“{'a gain' if sign > 0 else 'alike'}”: {row.verdict})"
        )
    levels = {f"{level:.0%}" for level in rows["level"]}
    told = f"Macro F1, {', '.join(sorted(levels))} intervals, margin ±{margin:g}. " + "; ".join(parts) + "."
    for row in rows[rows["claim"].isin([one.claim for one in SLOPES])].itertuples():
        change = f"{row.mean:+.3f} [{row.low:+.3f}, {row.high:+.3f}] (“grows”: {row.verdict})"
        told += f" {readable(row.architecture)}, {row.contrast.splitlines()[-1]}: the gap changes by {change}."
    published = differences[(differences["protocol"] == "paper") & (differences["claim"] == BASE[0].claim)]
    if set(differences["protocol"]) > {"paper"} and len(published):
        single = "; ".join(_focal_minus(row, 1) for row in published.itertuples())
        told += (
            " The paper's protocol on the same data, one run with alpha chosen on its test set, intervals over smears "
            f"alone: {single}; not judged."
        )
    return told


def _focal_minus(row: tuple, sign: int) -> str:
    """Focal loss minus its rival with the interval; *sign*: -1 turns a row that tells it the other way round."""
    low, high = sorted((sign * row.low, sign * row.high))
    rival = readable(row.second if sign > 0 else row.first)
    return f"{readable(row.architecture)}, focal loss minus {rival}: {sign * row.mean:+.3f} [{low:+.3f}, {high:+.3f}]"


def _evidence(row: tuple) -> str:
    told = f"{row.contrast.replace(chr(10), ', ')}: {row.mean:+.3f} [{row.low:+.3f}, {row.high:+.3f}]"
    if pd.isna(row.p):
        return told
    law = "Holm" if row.family == PRIMARY else "BH"
    told += f", p {row.p:.2g} ({law} {row.p_adjusted:.2g}), d_z {row.d_z:+.1f}, wins {row.wins:.0%}"
    if row.decided_by in (AGAINST_A_GAIN, AGAINST_ALIKE):
        told += f", p {row.decided_by} {2 * row.p_against:.2g} ({law} {row.against_adjusted:.2g})"
    return f"{told}, TOST p {row.p_tost:.2g}" if row.claim in ALIKE_CLAIMS else told
