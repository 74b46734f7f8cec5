"""The paper's claims against this run's intervals: supported, not supported or inconclusive; computed, never typed."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass

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
from rbcnb.paper import CLAIMS
from rbcnb.style import readable


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

Predictions = Mapping[tuple[str, str], Sequence[pd.DataFrame]]  # (architecture, method) -> a table per seed


def compare_methods(
    predictions: Predictions,
    comparisons: Sequence[Comparison],
    *,
    margin: float,
    seed: int,
    protocol: str,
    rho: float | None = None,
) -> pd.DataFrame:
    """Paired differences in macro F1 with intervals and verdicts, one row per comparison and architecture.

    Args:
        predictions: of the final fits; comparisons whose methods are not there are left out.
        comparisons: which methods, and the claim they bear on.
        margin: the smallest difference worth having, in macro F1.
        seed: of the bootstrap.
        protocol: stands in the rows.
        rho: rung of the ladder; stands in the rows.
    """
    rows = []
    architectures = dict.fromkeys(architecture for architecture, _ in predictions)
    for comparison in comparisons:
        for architecture in architectures:
            first = predictions.get((architecture, comparison.first))
            second = predictions.get((architecture, comparison.second))
            if first is None or second is None:
                continue
            difference: Difference = paired_macro_f1(first, second, seed=seed)
            rows.append(
                {
                    "claim": comparison.claim,
                    "protocol": protocol,
                    "rho": rho,
                    "architecture": architecture,
                    "first": comparison.first,
                    "second": comparison.second,
                    "contrast": _contrast(comparison, architecture, protocol, rho),
                    **asdict(difference),
                    "verdict": comparison.judge(difference, margin=margin),
                }
            )
    return pd.DataFrame(rows)


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

    Args:
        differences: rows of `compare_methods`, of one protocol or several; the honest one is believed if there.
        margin: the one that the rows were judged with; told in the evidence.
    """
    honest = differences[differences["protocol"] == "honest"]
    believed = honest if len(honest) else differences
    quotes = {claim.id: claim for claim in CLAIMS}
    rows = []
    for claim, evidence in believed.groupby("claim", sort=False):
        texts = [
            f"{row.contrast.replace(chr(10), ', ')}: {row.mean:+.3f} [{row.low:+.3f}, {row.high:+.3f}]"
            for row in evidence.itertuples()
        ]
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
