"""The published tables hang together and stand in the paper's text, and what is checked and read is complete."""

import os
import re
import subprocess
import sys
from inspect import signature
from pathlib import Path

import pandas as pd
import paper_numbers
import pytest
from test_references import is_there
from torch.optim import Adam

from rbcnb.columns import CLASSES, SCORES
from rbcnb.paper import CLAIMS, CONFUSION, SETTINGS, TABLE1, TABLE2, TABLE3, TABLES, load_checks, load_readings
from rbcnb.segmentation.segment import FinderSpec
from rbcnb.training.trial import Trial

ROOT = Path(__file__).parents[1]
TEXT = Path(os.environ.get("RBCNB_PAPER", ROOT.parent / "shared" / "paper" / "pasupa-2020.md"))
needs_text = pytest.mark.skipif(not TEXT.is_file(), reason="no text of the paper: name it by RBCNB_PAPER")


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
    pd.testing.assert_frame_equal(rung[list(SCORES)], best.loc[rung.index, list(SCORES)])


def test_claims_are_named_once_and_checked_rows_name_a_claim():
    ids = [claim.id for claim in CLAIMS]
    assert len(set(ids)) == len(ids)
    rows = load_checks()
    assert set(rows["claim"]) - {""} == set(ids)
    # Of these print alone decides nothing: pictures, what is not printed, and sentences that may be read in two ways.
    undecided = set(ids) - set(rows.dropna(subset="agrees")["claim"])
    assert {"auroc_all_classes", "converges_faster", "tuned_by_folds", "alpha_balances"} < undecided


def test_importing_the_paper_loads_numpy_and_pandas_only():
    code = "import sys, rbcnb.paper; print(*{'torch', 'fastai', 'scipy', 'sklearn', 'matplotlib'} & set(sys.modules))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == ""


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
    assert agreement("cases_densenet121") == agreement("cases_resnet50") == [True]  # both by accuracy
    assert agreement("alpha_rises_to_peak") == [True, False, False]  # the peaks, but to neither of them "slightly"
    assert agreement("f1_up_others_down") == [True, False]  # AUROC rises for ResNet-50
    rows = load_checks().set_index("number")
    assert rows.loc["ResNet-50, cross entropy: macro F1", "recomputed"] == "0.844"
    assert rows.loc["accuracies, percent", "agrees"]  # 91.30 for 91.26
    assert pd.isna(rows.loc["codocytes in the test set", "agrees"])  # the paper draws at random
    assert not rows.loc["last class of the sum in its head", "agrees"]


def test_readings_are_whole_and_name_code_that_is_there():
    readings = load_readings()
    assert list(readings) == ["place", "printed", "our_reading", "other_reading", "code"]
    assert readings.map(lambda text: isinstance(text, str) and text == text.strip() != "").all(axis=None)
    assert not readings["our_reading"].duplicated().any()
    assert [name for name in readings["code"] if not is_there(name)] == []


def test_readings_hold_the_numbers_of_the_code():
    spec, trial = FinderSpec(), Trial()
    betas, eps, decay = (signature(Adam).parameters[name].default for name in ("betas", "eps", "weight_decay"))
    assert (decay, trial.weight_decay, trial.schedule, trial.pretrained) == (0, 0, "constant", False)
    assert trial.learning_rate == SETTINGS["learning_rate"]
    assert spec.clahe_tile == 4
    readings = " ".join(load_readings()["our_reading"])
    assert f"clip limit {spec.clahe_clip:g}), in tiles of four cell diameters" in readings
    assert f"reduced to cells of {spec.working_px:g} px" in readings
    assert f"betas {betas[0]} and {betas[1]}, eps {eps:.0e}".replace("e-0", "e-") + ", no weight decay" in readings
    assert f"The learning rate stays {trial.learning_rate}." in readings
    assert f"Of a square larger than {SETTINGS['size_px']} px" in readings


def test_the_mean_of_the_classes_f1_fits_the_matrices_best():
    """As the readings say: more of the four printed scores than the F1 of mean precision and mean recall."""
    best = TABLE1.sort_values("macro_f1").groupby(["architecture", "method"])["macro_f1"].last()
    fits = [
        sum(paper_numbers.fits_print(measure(counts), best[key], 2) is not None for key, counts in CONFUSION.items())
        for measure in (lambda counts: paper_numbers.scores_of_confusion(counts)["macro_f1"], paper_numbers.f1_of_means)
    ]
    assert fits == [3, 2]


def plain(text: str) -> str:
    """Text without LaTeX's and Markdown's marks, its spaces as they are printed."""
    text = re.sub(r"\\text\{(\w+)\}", r"\1", text)
    for mark, sign in {r"\alpha": "α", r"\gamma": "γ", r"\rho": "ρ", r"\times": "×", "F_1": "F1"}.items():
        text = text.replace(mark, sign)
    text = re.sub(r"\s+", " ", re.sub(r"[$*]", "", text))
    return re.sub(r" (?=-[a-z]|,)", "", text)


@needs_text
def test_quotes_are_the_papers_letter_by_letter():
    text = plain(TEXT.read_text(encoding="utf-8"))
    readings = load_readings()
    quotes = [claim.quote for claim in CLAIMS] + readings.loc[readings["place"] != "nowhere", "printed"].tolist()
    assert [quote for quote in [*quotes, paper_numbers.OF_QIN] if quote not in text] == []


def printed_rows(caption: str) -> list[list[str]]:
    """The rows of a table in the paper's text that begin with or hold numbers, as they stand there."""
    lines = TEXT.read_text(encoding="utf-8").split(caption)[1].splitlines()
    begin = next(i for i, line in enumerate(lines) if line.startswith("|"))
    end = next(i for i, line in enumerate(lines[begin:], begin) if not line.startswith("|"))
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[begin:end]]
    return [row for row in rows if re.fullmatch(r"(<b>)?\d+\.\d+(</b>)?", row[-1]) or row[-1].isdigit()]


def scores_and_bold(row: pd.Series) -> list[str]:
    return [f"<b>{row[score]}</b>" if score in row["bold"].split() else row[score] for score in SCORES]


@needs_text
def test_tables_are_the_papers_digit_by_digit_and_in_its_bold_type():
    table1, table2, table3 = (
        pd.read_csv(TABLES / f"table{i}.csv", dtype=str, keep_default_na=False) for i in (1, 2, 3)
    )
    lines = [[row["epochs"], *scores_and_bold(row)] for _, row in table1.iterrows()]
    assert lines == [row[-4:] for row in printed_rows("Table 1: Accuracy")]
    assert table2.to_numpy().tolist() == printed_rows("Table 2: Class distributions")
    order = [(name, method) for name in ("densenet121", "resnet50") for method in ("focal", "cross_entropy")]
    rungs = {rho: rows.set_index(["architecture", "method"]) for rho, rows in table3.groupby("rho", sort=False)}
    lines = [[rho, *(text for key in order for text in scores_and_bold(rows.loc[key]))] for rho, rows in rungs.items()]
    assert lines == printed_rows("Table 3: Comparison")


@needs_text
def test_matrices_are_the_papers():
    text = TEXT.read_text(encoding="utf-8")
    for (name, method), counts in CONFUSION.items():
        percent = paper_numbers.CONFUSION_PERCENT.loc[name, method]
        shares = paper_numbers.CONFUSION_SHARES[name, method]
        title = f"{paper_numbers.ARCHITECTURES[name]} with {'focal' if method == 'focal' else 'cross-entropy'}"
        matrix = text[: text.index(title, text.index("Confusion Matrix"))].split("Confusion Matrix")[-1]
        found = [float(number) for number in re.findall(r"(?<=[ >])\d+(?:\.\d+)?(?=<|%)", matrix)]
        expected = []
        for label, row in zip(CLASSES, shares, strict=True):
            for count, share in zip(counts.loc[label], row, strict=True):
                expected += [float(count), share]
            expected += [percent[f"precision_{label}"], round(100 - percent[f"precision_{label}"], 1)]
        for key in [*(f"recall_{label}" for label in CLASSES), "accuracy"]:
            expected += [percent[key], round(100 - percent[key], 1)]
        assert found == expected
