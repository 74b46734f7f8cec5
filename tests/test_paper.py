"""The published tables hang together, and the checks of them are told as they are."""

import subprocess
import sys
from pathlib import Path

import pandas as pd

from rbcnb.columns import CLASSES
from rbcnb.paper import CLAIMS, SETTINGS, TABLE1, TABLE2, TABLE3, load_checks


def agreement(claim_id):
    return load_checks().set_index("claim").loc[[claim_id], "agrees"].tolist()


def test_table1_has_every_setting_once_per_architecture():
    for _, rows in TABLE1.groupby("architecture"):
        assert tuple(rows.loc[rows["method"] == "focal", "alpha"]) == SETTINGS["alphas"]
        assert (rows.loc[rows["method"] == "focal", "gamma"] == SETTINGS["gamma"]).all()
        assert sorted(rows.loc[rows["method"] != "focal", "method"]) == [
            "cross_entropy",
            "over_sampling",
            "under_sampling",
        ]
        assert rows.loc[rows["method"] != "focal", "alpha"].isna().all()
    assert TABLE1["epochs"].between(1, SETTINGS["max_epochs"]).all()


def test_accuracies_are_fractions_with_every_printed_digit():
    printed = TABLE1.set_index(["architecture", "method", "alpha"])["accuracy"]
    assert printed["densenet121", "focal", 0.25] == 0.9194
    assert TABLE3["accuracy"].iloc[0] == 0.8979


def test_table2_holds_the_whole_data_set_and_its_own_totals():
    counts = TABLE2[list(CLASSES)]
    assert (counts.sum(axis=1) == TABLE2["total"]).all()
    whole = TABLE2.set_index("rho").loc[7.80]
    assert {name: whole[name] for name in CLASSES} == dict(SETTINGS["class_counts"])


def test_table3_repeats_table1_at_the_ratio_of_the_whole_data_set():
    rung = TABLE3[TABLE3["rho"] == 7.80].set_index(["architecture", "method"])
    best = TABLE1.sort_values("macro_f1").groupby(["architecture", "method"]).last()
    pd.testing.assert_frame_equal(rung[["accuracy", "macro_f1", "auroc"]], best.loc[rung.index, rung.columns[-3:]])


def test_claims_are_named_once_and_checked_rows_name_a_claim():
    ids = [claim.id for claim in CLAIMS]
    assert len(set(ids)) == len(ids)
    rows = load_checks()
    assert set(rows["claim"]) - {""} <= set(ids)
    # Only what stands in a curve's picture alone cannot be recomputed from print.
    assert set(ids) - set(rows["claim"]) == {"auroc_all_classes", "converges_faster"}


def test_importing_the_paper_loads_numpy_and_pandas_only():
    code = "import sys, rbcnb.paper; print(*{'torch', 'fastai', 'scipy', 'sklearn', 'matplotlib'} & set(sys.modules))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == ""


def test_the_readmes_table_is_that_of_the_checks():
    """Every row of its table word for word, and none that does not agree left out."""
    lines = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8").splitlines()
    begin = lines.index("| Place | Number | Published | Recomputed | Agrees |") + 2
    end = next(i for i, line in enumerate(lines[begin:], begin) if not line.startswith("|"))
    checks = load_checks()
    verdicts = checks["agrees"].map({True: "yes", False: "no"}).fillna("–")
    shown = checks[["place", "number", "published", "recomputed"]].assign(agrees=verdicts)
    computed = ["| " + " | ".join(row) + " |" for row in shown.itertuples(index=False, name=None)]
    assert set(lines[begin:end]) <= set(computed)
    assert {line for line in computed if line.endswith("| no |")} <= set(lines[begin:end])
    counts = verdicts.value_counts()
    text = " ".join(lines)
    assert (
        f"{len(checks)} checks, of which {counts['yes']} agree, {counts['no']} do not and {counts['–']} are remarks"
        in text
    )


def test_checks_are_text_beside_a_verdict_that_may_be_missing():
    checks = load_checks()
    assert list(checks) == ["claim", "place", "number", "published", "recomputed", "agrees", "remark"]
    assert checks["agrees"].dtype == "boolean"
    assert checks["agrees"].isna().any()
    for name in checks.columns.drop("agrees"):
        assert all(isinstance(text, str) for text in checks[name]), name  # an empty claim is an empty text


def test_what_adds_up_and_what_does_not():
    assert agreement("accuracy_6_6") == [False]  # codocyte recall, not model accuracy
    assert agreement("codocyte_3_3") == agreement("hypochromia_15_6") == [True]
    assert agreement("cases_densenet121") == [True]
    assert agreement("cases_resnet50") == [False]  # two by accuracy, one by F1
    assert agreement("f1_up_others_down") == [True, False]  # AUROC rises for ResNet-50
    rows = load_checks().set_index("number")
    assert rows.loc["ResNet-50, cross entropy: macro F1", "recomputed"] == "0.844"
