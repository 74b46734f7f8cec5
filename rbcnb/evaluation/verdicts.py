"""The paper's claims against this run's intervals: supported, not supported or inconclusive; computed, never typed."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from rbcnb.columns import PRIMARY_METHODS, readable
from rbcnb.evaluation.hypothesis_tests import benjamini_hochberg, d_z, holm, sign_flip, win_share
from rbcnb.evaluation.inference import (
    ALIKE,
    GAIN,
    INCONCLUSIVE,
    LESS,
    NOT_JUDGED,
    NOT_SUPPORTED,
    SUPPORTED,
    Difference,
    judge_alike,
    judge_gain,
    judge_less,
    paired_difference,
)
from rbcnb.evaluation.prior_shift import NATURAL, RUNG, Prior
from rbcnb.paper import CLAIMS, load_checks

SIZE = 0.05  # of a family of tests, after adjustment
PRIMARY, REST = "primary", "rest"
LATER = "judged among all tests of the run"  # which are not there yet
JUDGES = {GAIN: judge_gain, ALIKE: judge_alike, LESS: judge_less}
MACRO_F1 = "macro_f1"
# Which p a row's verdict hangs on, in words that follow "p".
OF_NO_DIFFERENCE, OF_TOST = "of no difference", "of TOST"
AGAINST_A_GAIN, AGAINST_ALIKE = "against a gain", "against alike"
Predictions = Mapping[tuple[str, str], Sequence[pd.DataFrame]]  # (architecture, method) -> a table per seed


@dataclass(frozen=True)
class Comparison:
    """What is asked of two methods: *first* minus *second* in a score."""

    claim: str  # an id in rbcnb.paper.CLAIMS; "" for what is shown and judges none
    first: str
    second: str
    question: str = GAIN  # or ALIKE, or LESS of a score that is better where it is lower
    score: str = MACRO_F1

    def margin(self, margin: float) -> float:
        """What the answer is judged by: *margin* in macro F1, which it is declared for, and in other scores 0.

        There a claim names a direction and no size: it is supported by an interval on its side of 0, and not supported
        by one on the other.
        """
        return margin if self.score == MACRO_F1 else 0.0


BASE = (
    Comparison("focal_beats_ce", "focal", "cross_entropy"),
    Comparison("over_sampling_in_line", "over_sampling", "focal", ALIKE),
    Comparison("under_sampling_worst", "cross_entropy", "under_sampling"),
    Comparison("under_sampling_worst", "focal", "under_sampling"),
)
LADDER = (Comparison("f1_at_every_rho", "focal", "cross_entropy"),)
SLOPES = (Comparison("gain_grows_with_rho", "focal", "cross_entropy"),)  # judged by the gap's change along the ladder
PRIMARY_CLAIMS = frozenset(comparison.claim for comparison in BASE)


def compare_methods(
    predictions: Predictions,
    comparisons: Sequence[Comparison],
    *,
    margin: float,
    seed: int,
    prior: Prior = NATURAL,
    **place: object,
) -> pd.DataFrame:
    """Differences with intervals, tests and verdicts, one row per comparison and architecture.

    Args:
        predictions: of the final fits, a table per seed of all cells that are tested; comparisons whose methods are not
            there are left out.
        comparisons: which methods, in which score of `rbcnb.evaluation.inference.OF_COUNTS`, and the claim they bear
            on.
        margin: the smallest difference worth having, in macro F1.
        seed: of the bootstrap.
        prior: prevalence of the classes that cells are weighted to; shares of classes are those of a rung.
        **place: ``protocol``, and where it is one the ``rho`` of a rung of the ladder and its ``arm``.

    Returns:
        Rows of `difference_row`; `adjust_for_families` goes over all rows of a study together.
    """
    rows = []
    prevalence = prior if isinstance(prior, str) else RUNG
    architectures = dict.fromkeys(architecture for architecture, _ in predictions)
    for comparison in comparisons:
        for architecture in architectures:
            first = predictions.get((architecture, comparison.first))
            second = predictions.get((architecture, comparison.second))
            if first is None or second is None:
                continue
            difference = paired_difference(first, second, score=comparison.score, seed=seed, prior=prior)
            where = {"architecture": architecture, "prevalence": prevalence, **place}
            rows.append(difference_row(comparison, difference, margin=margin, **where))
    return pd.DataFrame(rows)


def difference_row(
    comparison: Comparison,
    difference: Difference,
    *,
    margin: float,
    architecture: str,
    protocol: str,
    rho: float | None = None,
    arm: str = "",
    prevalence: str = NATURAL,
    where: str = "",
) -> dict[str, object]:
    """A difference as a row of a table.

    Args:
        comparison: what it is asked for.
        difference: of its first minus its second method.
        margin: in macro F1.
        architecture, protocol, rho, arm, prevalence: stand in the row.
        where: ends the words of its ``contrast``.

    Returns:
        What is compared; ``mean``, ``low``, ``high`` (`Difference`); over smears and seeds: ``p`` of no difference,
        ``p_tost`` of a difference beyond the margin, ``p_against`` (one-sided) of the claim itself, a gain of the
        margin or methods alike; of seeds on these smears: ``p_flip`` (`sign_flip`), ``d_z``, ``wins`` with ``wins_low``
        and ``wins_high`` (`win_share`); and the ``verdict`` of this row by itself. All p are NaN for a single run.
        ``margin`` is the one that the row is judged by (`Comparison.margin`); ``p_tost`` is NaN where it is 0.
    """
    names = f"{readable(comparison.first)} − {readable(comparison.second)}"
    names += "" if comparison.score == MACRO_F1 else f", {score_name(comparison.score)}"
    where = f", ρ = {rho:g}{where}" if rho is not None else where
    where += "" if prevalence == NATURAL else f", {_TEST_SETS[prevalence]}"
    return {
        "claim": comparison.claim,
        "question": comparison.question,
        "score": comparison.score,
        "protocol": protocol,
        "arm": arm,
        "rho": math.nan if rho is None else rho,
        "prevalence": prevalence,
        "architecture": architecture,
        "first": comparison.first,
        "second": comparison.second,
        "contrast": f"{names}\n{', '.join(filter(None, (readable(architecture), protocol)))}{where}",
        **_figures_of(difference, comparison.question, comparison.margin(margin)),
        "verdict": JUDGES[comparison.question](difference, margin=comparison.margin(margin)),
    }


_TEST_SETS = {"balanced": "classes alike", RUNG: "the rung's own prior"}


def score_name(score: str) -> str:
    """The printed form of a score: ``"auroc_codocyte"`` -> ``"AUROC of codocyte"``."""
    name, _, label = score.partition("_")
    return f"{readable(name)} of {readable(label)}" if name in ("auroc", "auprc") and label else readable(score)


def _figures_of(difference: Difference, question: str, margin: float) -> dict[str, object]:
    names = ("mean", "low", "high", "level", "n_seeds", "unit", "n_groups")
    row = {name: getattr(difference, name) for name in names} | {"margin": margin}
    row |= {"p": difference.p_value, "p_tost": difference.p_alike(margin) if margin else math.nan}
    against = {ALIKE: difference.p_apart, GAIN: difference.p_short, LESS: difference.times(-1).p_short}
    row["p_against"] = against[question](margin)
    row |= {"p_flip": sign_flip(difference.by_seed), "d_z": d_z(difference.by_seed)}
    return row | dict(zip(("wins", "wins_low", "wins_high"), win_share(difference.by_seed), strict=True))


def adjust_for_families(differences: pd.DataFrame) -> pd.DataFrame:
    """*differences* with ``family``, adjusted p values, and verdicts that allow for many tests.

    Under each protocol there are at most two families: primary, the paper's question on the whole data set (focal loss
    against cross entropy on every architecture, in macro F1), by Holm; and the rest, whatever else a run shows, by
    Benjamini and Hochberg. A gain whose ``p_adjusted`` is not below 0.05 is inconclusive, whatever
    its own interval says; so is a claim that is not supported, unless twice its ``p_against``, adjusted in the same
    way, is below 0.05. That methods are alike stands by ``p_tost`` alone: all contrasts of a claim must pass it, and
    that needs no adjustment.

    Args:
        differences: rows of `difference_row`, *all* that a run shows: families are those of this table, so that a part
            of it must not be adjusted by itself (`rbcnb.study.gaps.Gaps.rows` has them all).

    Returns:
        The rows with ``p_adjusted``, ``against_adjusted``, ``p_deciding`` and ``decided_by``. ``p_deciding`` is the
        p value that decides the verdict; ``decided_by`` names it. Calling this twice changes nothing.
    """
    primary = [
        pd.isna(row.rho) and row.claim in PRIMARY_CLAIMS and {row.first, row.second} == PRIMARY_METHODS
        for row in differences.itertuples(index=False)
    ]
    table = differences.assign(family=[PRIMARY if asked else REST for asked in primary])
    table[["p_adjusted", "against_adjusted"]] = float("nan")
    for (_, family), rows in table.groupby(["protocol", "family"]):
        adjust = holm if family == PRIMARY else benjamini_hochberg
        table.loc[rows.index, "p_adjusted"] = adjust(rows["p"])
        table.loc[rows.index, "against_adjusted"] = adjust((2 * rows["p_against"]).clip(upper=1))
    alike = table["question"] == ALIKE
    if "decided_by" not in table:  # else the verdicts are no longer those of the rows by themselves
        held = alike.map({True: OF_TOST, False: OF_NO_DIFFERENCE})
        fell = alike.map({True: AGAINST_ALIKE, False: AGAINST_A_GAIN})
        table["decided_by"] = held.mask(table["verdict"] == NOT_SUPPORTED, fell).mask(table["p"].isna(), "")
    deciding = {OF_NO_DIFFERENCE: "p_adjusted", OF_TOST: "p_tost"}
    names = table["decided_by"].map(lambda words: deciding.get(words, "against_adjusted"))
    table["p_deciding"] = [table.loc[row, name] for row, name in names.items()]
    gain = (table["verdict"] == SUPPORTED) & ~alike
    against = table["verdict"] == NOT_SUPPORTED
    unsure = (gain | against) & ~(table["p_deciding"] < SIZE)
    return table.assign(verdict=table["verdict"].mask(unsure, INCONCLUSIVE))


def without_rest(adjusted: pd.DataFrame) -> pd.DataFrame:
    """*adjusted* (`adjust_for_families`) before all tests of the run are there: only the primary family is judged.

    The rest keeps its intervals; its verdicts and adjusted p would be those of a smaller family than it is judged in.
    """
    later = (adjusted["family"] == REST) & (adjusted["verdict"] != NOT_JUDGED)
    table = adjusted.assign(verdict=adjusted["verdict"].mask(later, LATER))
    table["decided_by"] = table["decided_by"].mask(later, "")
    numbers = ["p_adjusted", "against_adjusted", "p_deciding"]
    return table.assign(**{name: table[name].mask(later) for name in numbers})


def hold_to_checks(adjusted: pd.DataFrame, checks: pd.DataFrame) -> pd.DataFrame:
    """*adjusted* with slopes that are supported only where they survive every one of their checks.

    All checks must pass, so that none needs an adjustment. A slope whose own interval is not above 0 needs no check.

    Args:
        adjusted: `adjust_for_families`.
        checks: of slopes, rows of `rbcnb.study.gaps.Gaps.slope_checks`: ``first``, ``second``, ``architecture``,
            ``arm``, ``prevalence``, ``check`` and ``survives``.

    Returns:
        The rows with ``failed_checks``, in words; empty where none failed, or none is asked for.
    """
    by = ["first", "second", "architecture", "arm", "prevalence"]
    failed = {}
    if len(checks):
        failed = checks[~checks["survives"].astype(bool)].groupby(by)["check"].agg("; ".join).to_dict()
    slopes = adjusted["doublings"].notna() if "doublings" in adjusted else pd.Series(False, index=adjusted.index)
    places = adjusted[by].itertuples(index=False, name=None)
    grows = slopes & (adjusted["low"] > 0)
    words = [failed.get(place, "") if asked else "" for place, asked in zip(places, grows, strict=True)]
    table = adjusted.assign(failed_checks=words)
    fell = (table["verdict"] == SUPPORTED) & (table["failed_checks"] != "")
    return table.assign(verdict=table["verdict"].mask(fell, INCONCLUSIVE))


def combine(verdicts: Sequence[str]) -> str:
    """A claim about several comparisons: supported if all are, not supported if one is not, else inconclusive."""
    if NOT_JUDGED in verdicts:
        return NOT_JUDGED
    if NOT_SUPPORTED in verdicts:
        return NOT_SUPPORTED
    return SUPPORTED if set(verdicts) == {SUPPORTED} else INCONCLUSIVE


def _believed(adjusted: pd.DataFrame) -> pd.DataFrame:
    """The rows of the honest protocol where it was run, else all."""
    honest = adjusted[adjusted["protocol"] == "honest"]
    return (honest if len(honest) else adjusted).reset_index(drop=True)


def judge_claims(adjusted: pd.DataFrame) -> pd.DataFrame:
    """One row per claim that a run's differences can judge: the claim, where it stands, its verdict and the evidence.

    A claim that needs several contrasts needs all of them.

    Args:
        adjusted: rows of `adjust_for_families`, of one protocol or several; the honest one is believed if there. Rows
            that are judged later, or bear on no claim, are left out.
    """
    believed = _believed(adjusted)
    believed = believed[believed["claim"].fillna("").ne("") & believed["verdict"].ne(LATER)]
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
                "margin": evidence["margin"].max(),
            }
        )
    return pd.DataFrame(rows)


def claims_in_print() -> pd.DataFrame:
    """Every claim of the paper that its own printed numbers can check: ``place``, ``claim``, ``in_print``, ``remark``.

    ``in_print`` counts the checks of `rbcnb.paper.load_checks` that agree; rows that check nothing are left out.
    """
    checks = load_checks().dropna(subset="agrees")
    rows = []
    for claim in CLAIMS:
        claim_checks = checks[checks["claim"] == claim.id]
        if len(claim_checks):
            agree = int(claim_checks["agrees"].sum())
            found = "; ".join(f"{row.number}: {row.recomputed}" for row in claim_checks.itertuples())
            in_print = f"{agree} of {len(claim_checks)} checks agree"
            rows.append({"place": claim.place, "claim": claim.quote, "in_print": in_print, "recomputed": found})
    return pd.DataFrame(rows)


def answer_text(adjusted: pd.DataFrame, *, margin: float) -> str:
    """The answer in a few sentences: the primary contrasts of the believed protocol, with what is unsure about them.

    Where there are several outer splits, the interval of Nadeau and Bengio over them stands beside each. After them the
    change of the gap along the ladder, and what the published protocol makes of the same data, where *adjusted* holds
    these.

    Args:
        adjusted: as `judge_claims` takes it.
        margin: the one that the rows were judged with.
    """
    rows = _believed(adjusted)
    parts, split = [], False
    for row in rows[rows["family"] == PRIMARY].itertuples():
        beside = ""
        if not pd.isna(getattr(row, "split_low", math.nan)):
            interval = f"[{row.split_low:+.3f}, {row.split_high:+.3f}]"
            beside = f"; over the {row.n_splits:.0f} outer splits, Nadeau and Bengio: {interval}"
            split = True
        parts.append(
            f"{_focal_minus(row)} (n = {row.n_seeds} {row.unit}, {row.n_groups} test smears; “a gain”: "
            f"{row.verdict}{beside})"
        )
    levels = {f"{level:.0%}" for level in rows["level"]}
    text = f"Macro F1, {', '.join(sorted(levels))} intervals, margin ±{margin:g}. " + "; ".join(parts) + "."
    if split:
        text += (
            " The interval over smears and seeds decides; the one over splits lets the division of smears vary, too."
        )
    for row in rows[rows["claim"].isin([slope.claim for slope in SLOPES])].itertuples():
        change = f"{row.mean:+.3f} [{row.low:+.3f}, {row.high:+.3f}] (“grows”: {row.verdict}{_failed(row)})"
        text += f" {readable(row.architecture)}, {row.contrast.splitlines()[-1]}: the gap changes by {change}."
    published = adjusted[(adjusted["protocol"] == "paper") & (adjusted["claim"] == BASE[0].claim)]
    if set(adjusted["protocol"]) > {"paper"} and len(published):
        single = "; ".join(_focal_minus(row) for row in published.itertuples())
        text += (
            " The paper's protocol on the same data, one run with alpha chosen on its test set, intervals over smears "
            f"alone: {single}; not judged."
        )
    return text


def _focal_minus(row: tuple) -> str:
    """Focal loss minus cross entropy with its interval."""
    rival = readable(row.second)
    return f"{readable(row.architecture)}, focal loss minus {rival}: {row.mean:+.3f} [{row.low:+.3f}, {row.high:+.3f}]"


def _failed(row: tuple) -> str:
    """The checks that a slope fails, as the end of a sentence."""
    words = getattr(row, "failed_checks", "")
    return "" if pd.isna(words) or not words else f", does not hold: {words}"


def _evidence(row: tuple) -> str:
    text = f"{row.contrast.replace(chr(10), ', ')}: {row.mean:+.3f} [{row.low:+.3f}, {row.high:+.3f}]"
    if pd.isna(row.p):
        return text + _failed(row)
    law = "Holm" if row.family == PRIMARY else "BH"
    text += "" if row.n_groups else f" over {row.unit} alone"
    text += f", p {row.p:.2g} ({law} {row.p_adjusted:.2g}), d_z {row.d_z:+.1f}, wins {row.wins:.0%}"
    if row.decided_by in (AGAINST_A_GAIN, AGAINST_ALIKE):
        text += f", p {row.decided_by} {2 * row.p_against:.2g} ({law} {row.against_adjusted:.2g})"
    text += f", TOST p {row.p_tost:.2g}" if row.question == ALIKE else ""
    return text + _failed(row)
