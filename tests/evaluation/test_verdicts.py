"""Verdicts follow from the intervals, and the honest protocol is the one believed."""

import numpy as np
import pandas as pd
import pytest
from conftest import noisy

from rbcnb.evaluation.hypothesis_tests import d_z, sign_flip, win_share
from rbcnb.evaluation.inference import INCONCLUSIVE, LESS, NOT_JUDGED, NOT_SUPPORTED, SUPPORTED, paired_macro_f1
from rbcnb.evaluation.verdicts import (
    BASE,
    LADDER,
    LATER,
    PRIMARY,
    REST,
    SLOPES,
    Comparison,
    adjust_for_families,
    combine,
    compare_methods,
    hold_to_checks,
    judge_claims,
    score_name,
    without_rest,
)
from rbcnb.paper import CLAIMS


@pytest.fixture
def tables(predictions):
    methods = {"focal": 0.95, "cross_entropy": 0.5, "under_sampling": 0.1}
    return {("small", name): [noisy(predictions, p, seed) for seed in range(5)] for name, p in methods.items()}


def test_every_comparison_bears_on_a_claim_of_the_paper():
    ids = {claim.id for claim in CLAIMS}
    assert {comparison.claim for comparison in (*BASE, *LADDER, *SLOPES)} <= ids


def test_methods_that_are_there_are_compared_and_the_others_left_out(tables):
    rows = compare_methods(tables, BASE, margin=0.02, seed=0, protocol="honest")
    assert rows["claim"].tolist() == ["focal_beats_ce", "under_sampling_worst", "under_sampling_worst"]
    assert (rows["low"] > 0).all()
    assert (rows["verdict"] == SUPPORTED).all()
    assert rows["contrast"][0] == "focal loss − cross entropy\nlesson net, honest"
    turned = {
        ("small", "focal"): tables["small", "cross_entropy"],
        ("small", "cross_entropy"): tables["small", "focal"],
    }
    worse = compare_methods(turned, LADDER, margin=0.02, seed=0, protocol="paper", rho=2.03)
    assert worse["verdict"].tolist() == [NOT_SUPPORTED]
    assert worse["mean"][0] == pytest.approx(-rows["mean"][0])


def test_rows_carry_their_tests(tables):
    row = compare_methods(tables, BASE[:1], margin=0.02, seed=0, protocol="honest").iloc[0]
    pair = tables["small", "focal"], tables["small", "cross_entropy"]
    difference = paired_macro_f1(*pair, seed=0)
    assert row["p"] == difference.p_value < 0.05
    assert row["p_tost"] == difference.p_alike(0.02)
    assert row["p_against"] == difference.p_short(0.02)
    assert row["p_flip"] == sign_flip(difference.by_seed) == 2 / 2**5
    assert row["d_z"] == d_z(difference.by_seed)
    assert row[["wins", "wins_low", "wins_high"]].tolist() == list(win_share(difference.by_seed))
    single = {key: some[:1] for key, some in tables.items()}
    alone = compare_methods(single, BASE[:1], margin=0.02, seed=0, protocol="paper").iloc[0]
    assert alone[["p", "p_tost", "p_against", "p_flip", "d_z"]].isna().all()
    assert (row["score"], row["prevalence"], row["arm"], row["margin"]) == ("macro_f1", "natural", "", 0.02)
    for prior, name in (("balanced", "balanced"), ({"codocyte": 1, "hypochromia": 1, "normal": 2}, "rung")):
        other = compare_methods(tables, BASE[:1], margin=0.02, seed=0, protocol="honest", prior=prior).iloc[0]
        assert other["mean"] == paired_macro_f1(*pair, seed=0, prior=prior).mean
        assert other["prevalence"] == name
        assert other["contrast"] != row["contrast"]


def test_other_scores_are_judged_by_their_sign(tables):
    """The margin is one of macro F1; less of what is bad is a gain."""
    asked = [
        Comparison("", "focal", "cross_entropy", score="balanced_accuracy"),
        Comparison("", "cross_entropy", "focal", score="balanced_accuracy"),
        Comparison("less_biased", "focal", "cross_entropy", LESS, "rare_called_majority"),
        Comparison("less_biased", "cross_entropy", "focal", LESS, "rare_called_majority"),
    ]
    rows = compare_methods(tables, asked, margin=0.9, seed=0, protocol="honest")
    assert rows["verdict"].tolist() == [SUPPORTED, NOT_SUPPORTED] * 2
    assert (rows["margin"] == 0).all()
    assert rows["p_tost"].isna().all()
    assert (rows["mean"] > 0).tolist() == [True, False, False, True]
    assert (rows["p_against"] < 0.01).tolist() == [False, True] * 2
    assert rows["p"][2] == pytest.approx(2 * (1 - rows["p_against"][2]))
    assert rows["contrast"][2].startswith("focal loss − cross entropy, share of rare cells called the majority class\n")
    assert score_name("auroc_codocyte") == "AUROC of codocyte"


def families(**columns) -> pd.DataFrame:
    """Four contrasts: the primary one, two of the rest, and one on the ladder."""
    table = pd.DataFrame(
        {
            "claim": ["focal_beats_ce", "over_sampling_in_line", "under_sampling_worst", "f1_at_every_rho"],
            "protocol": "honest",
            "rho": [np.nan, np.nan, np.nan, 37.9],
            "first": ["focal", "over_sampling", "focal", "focal"],
            "second": ["cross_entropy", "focal", "under_sampling", "cross_entropy"],
            "question": ["gain", "alike", "gain", "gain"],
            "p": [0.03, 0.2, 0.03, 0.04],
            "p_against": [0.9, 0.9, 0.9, 0.9],
            "p_tost": [0.9, 0.01, 0.9, 0.9],
            "verdict": SUPPORTED,
        }
    )
    return table.assign(**columns)


def test_families_are_adjusted_each_by_its_own_law():
    table = adjust_for_families(families())
    assert table["family"].tolist() == [PRIMARY, REST, REST, REST]
    assert table["p_adjusted"].tolist() == pytest.approx([0.03, 0.2, 0.06, 0.06])
    # A gain must pass its family; that two are in line is another question.
    assert table["verdict"].tolist() == [SUPPORTED, SUPPORTED, INCONCLUSIVE, INCONCLUSIVE]
    assert table["decided_by"].tolist() == ["of no difference", "of TOST", "of no difference", "of no difference"]
    assert table["p_deciding"].tolist() == pytest.approx([0.03, 0.01, 0.06, 0.06])
    pd.testing.assert_frame_equal(adjust_for_families(table), table)
    networks = pd.concat([families(), families().iloc[[0]].assign(p=0.04)], ignore_index=True)
    holm = adjust_for_families(networks)
    assert holm["p_adjusted"].tolist() == pytest.approx([0.06, 0.2, 0.06, 0.06, 0.06])
    assert holm["verdict"].tolist() == [INCONCLUSIVE, SUPPORTED, INCONCLUSIVE, INCONCLUSIVE, INCONCLUSIVE]


def test_a_claim_is_not_refuted_by_one_lucky_test_of_many():
    refuted = families(verdict=NOT_SUPPORTED, p_against=[0.02, 0.001, 0.02, 0.9])
    table = adjust_for_families(refuted)
    # Twice 0.02 alone by Holm; twice 0.001, 0.02 and 0.9 by Benjamini and Hochberg are 0.006, 0.06 and 1.
    assert table["against_adjusted"].tolist() == pytest.approx([0.04, 0.006, 0.06, 1.0])
    assert table["verdict"].tolist() == [NOT_SUPPORTED, NOT_SUPPORTED, INCONCLUSIVE, INCONCLUSIVE]
    # What decided is told, also where it did not suffice.
    assert table["decided_by"].tolist() == ["against a gain", "against alike", "against a gain", "against a gain"]
    assert table["p_deciding"].equals(table["against_adjusted"].rename("p_deciding"))
    pd.testing.assert_frame_equal(adjust_for_families(table), table)


def test_protocols_are_families_of_their_own_and_single_runs_are_in_none():
    single = families(protocol="paper", p=np.nan, p_against=np.nan, p_tost=np.nan, verdict=NOT_JUDGED)
    both = pd.concat([families(), single], ignore_index=True)
    table = adjust_for_families(both)
    pd.testing.assert_frame_equal(table[:4], adjust_for_families(families()))
    assert table["p_adjusted"][4:].isna().all()
    assert (table["verdict"][4:] == NOT_JUDGED).all()


def test_what_is_shown_beside_a_claim_is_of_the_same_family_and_judges_none():
    """The paper's contrast at another prevalence is not the primary one, and counts among the rest."""
    shown = families().iloc[[0]].assign(claim="", p=0.02)
    table = adjust_for_families(pd.concat([families(), shown], ignore_index=True))
    assert table["family"].tolist() == [PRIMARY, REST, REST, REST, REST]
    assert table["p_adjusted"].tolist() == pytest.approx([0.03, 0.2, *[0.04 * 4 / 3] * 3])
    more = pd.concat([table.drop(columns="decided_by"), *[shown.assign(p=0.9)] * 3], ignore_index=True)
    assert adjust_for_families(more)["p_adjusted"][2:5].tolist() == pytest.approx([0.04 * 7 / 3] * 3)


def test_before_all_tests_are_there_the_primary_contrasts_alone_are_judged():
    table = without_rest(adjust_for_families(families()))
    assert table["verdict"].tolist() == [SUPPORTED, LATER, LATER, LATER]
    assert table["p_adjusted"].isna().tolist() == [False, True, True, True]
    assert table["p_deciding"].isna().tolist() == [False, True, True, True]
    assert table["p"].equals(families()["p"])
    single = families(p=np.nan, p_against=np.nan, p_tost=np.nan, verdict=NOT_JUDGED)
    assert set(without_rest(adjust_for_families(single))["verdict"]) == {NOT_JUDGED}


def test_a_slope_is_supported_only_where_every_check_survives():
    place = {"first": "focal", "second": "cross_entropy", "prevalence": "natural"}
    slopes = pd.DataFrame([place | {"architecture": name, "arm": "table2", "doublings": 4.2} for name in "abcd"])
    slopes = slopes.assign(low=[0.01, 0.01, -0.01, 0.01], verdict=[SUPPORTED, SUPPORTED, INCONCLUSIVE, SUPPORTED])
    rung = pd.DataFrame([place | {"architecture": "b", "arm": "table2", "low": 0.01, "verdict": SUPPORTED}])
    checks = pd.DataFrame(
        [
            place | {"architecture": name, "arm": arm, "check": check, "survives": survives}
            for name, arm, check, survives in (
                ("a", "table2", "without ρ 2", True),
                ("a", "equal_total", "without ρ 2", False),  # of another arm
                ("b", "table2", "without ρ 2", False),
                ("b", "table2", "without ρ 4", True),
                ("b", "table2", "priors corrected", False),
                ("c", "table2", "without ρ 2", False),
                ("d", "table2", "without ρ 2", True),
            )
        ]
    )
    table = hold_to_checks(pd.concat([slopes, rung], ignore_index=True), checks)
    assert table["verdict"].tolist() == [SUPPORTED, INCONCLUSIVE, INCONCLUSIVE, SUPPORTED, SUPPORTED]
    assert table["failed_checks"].tolist() == ["", "without ρ 2; priors corrected", "", "", ""]
    assert (hold_to_checks(rung, pd.DataFrame())["failed_checks"] == "").all()


def test_claims_are_judged_by_adjusted_p_and_say_so(tables):
    rows = compare_methods(tables, BASE, margin=0.02, seed=0, protocol="honest")
    adjusted = adjust_for_families(rows)
    weak = adjust_for_families(rows.assign(p=[0.04, 0.04, 0.2]))
    verdicts = judge_claims(weak).set_index("place")["verdict"]
    assert judge_claims(adjusted)["verdict"].tolist() == [SUPPORTED, SUPPORTED]
    assert verdicts.tolist() == [SUPPORTED, INCONCLUSIVE]  # two of the rest: 0.04 becomes 0.08
    assert "p 0.04 (Holm 0.04)" in judge_claims(weak)["evidence"][0]
    # What is judged later, or judges no claim, is no evidence.
    assert judge_claims(without_rest(adjusted))["verdict"].tolist() == [SUPPORTED]
    shown = adjust_for_families(pd.concat([rows, rows.assign(claim="")], ignore_index=True))
    assert judge_claims(shown)["evidence"].str.count("d_z").tolist() == [1, 2]
    failed = adjusted.assign(failed_checks=["without ρ 2", "", ""])
    assert judge_claims(failed)["evidence"][0].endswith("does not hold: without ρ 2")


def test_the_honest_protocol_is_believed_where_there_is_one(tables):
    honest = compare_methods(tables, BASE[:1], margin=0.02, seed=0, protocol="honest")
    paper = honest.assign(protocol="paper", verdict=NOT_SUPPORTED, p_against=0.001)
    both = judge_claims(adjust_for_families(pd.concat([paper, honest], ignore_index=True)))
    assert both["verdict"].tolist() == [SUPPORTED]
    assert both["protocol"].tolist() == ["honest"]
    assert both["margin"].tolist() == [0.02]
    assert judge_claims(adjust_for_families(paper))["verdict"].tolist() == [NOT_SUPPORTED]
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
