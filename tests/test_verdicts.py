"""Verdicts follow from the intervals, and the honest protocol is the one believed."""

import numpy as np
import pandas as pd
import pytest

from rbcnb.inference import INCONCLUSIVE, NOT_JUDGED, NOT_SUPPORTED, SUPPORTED
from rbcnb.paper import CLAIMS
from rbcnb.verdicts import BASE, LADDER, combine, compare_methods, judge_claims


def noisy(table: pd.DataFrame, right: float, seed: int) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    guess = rng.choice(table["target"].unique(), len(table))
    return table.assign(pred=np.where(rng.random(len(table)) < right, table["target"], guess))


@pytest.fixture
def tables(predictions):
    methods = {"focal": 0.95, "cross_entropy": 0.5, "under_sampling": 0.1}
    return {("small", name): [noisy(predictions, p, seed) for seed in range(2)] for name, p in methods.items()}


def test_every_comparison_bears_on_a_claim_of_the_paper():
    ids = {claim.id for claim in CLAIMS}
    assert {comparison.claim for comparison in (*BASE, *LADDER)} <= ids


def test_methods_that_are_there_are_compared_and_the_others_left_out(tables):
    rows = compare_methods(tables, BASE, margin=0.02, seed=0, protocol="honest")
    assert rows["claim"].tolist() == ["focal_beats_ce", "under_sampling_worst", "under_sampling_worst"]
    assert (rows["low"] > 0).all()
    assert (rows["verdict"] == SUPPORTED).all()
    assert rows["contrast"][0] == "focal loss − cross entropy\nsmall, honest"
    turned = {
        ("small", "focal"): tables["small", "cross_entropy"],
        ("small", "cross_entropy"): tables["small", "focal"],
    }
    worse = compare_methods(turned, LADDER, margin=0.02, seed=0, protocol="paper", rho=2.03)
    assert worse["verdict"].tolist() == [NOT_SUPPORTED]
    assert worse["mean"][0] == pytest.approx(-rows["mean"][0])


def test_the_honest_protocol_is_believed_where_there_is_one(tables):
    honest = compare_methods(tables, BASE[:1], margin=0.02, seed=0, protocol="honest")
    paper = honest.assign(protocol="paper", verdict=NOT_SUPPORTED)
    both = judge_claims(pd.concat([paper, honest]), margin=0.02)
    assert both["verdict"].tolist() == [SUPPORTED]
    assert both["protocol"].tolist() == ["honest"]
    assert judge_claims(paper, margin=0.02)["verdict"].tolist() == [NOT_SUPPORTED]
    quote = next(claim.quote for claim in CLAIMS if claim.id == "focal_beats_ce")
    assert both["claim"].tolist() == [quote]
    assert f"{honest['mean'][0]:+.3f}" in both["evidence"][0]


@pytest.mark.parametrize(
    ("verdicts", "expected"),
    [
        ([SUPPORTED, SUPPORTED], SUPPORTED),
        ([SUPPORTED, INCONCLUSIVE], INCONCLUSIVE),
        ([SUPPORTED, INCONCLUSIVE, NOT_SUPPORTED], NOT_SUPPORTED),
        ([SUPPORTED, NOT_JUDGED], NOT_JUDGED),
    ],
)
def test_a_claim_about_several_needs_all(verdicts, expected):
    assert combine(verdicts) == expected
