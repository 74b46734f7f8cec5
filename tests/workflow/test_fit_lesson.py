"""The lesson on imbalance in a run: fitted once, entered into the ledger, recomputed, published, or left out."""

import shutil

import pandas as pd
import pytest
from small_run import small_run

from rbcnb.evaluation.verdicts import BASE, adjust_for_families, compare_methods
from rbcnb.study.ledger import LEDGER, TestSetError, load_ledger
from rbcnb.study.store import predictions_by_method
from rbcnb.workflow.final_fits import fit_lesson
from rbcnb.workflow.publish import publish_run
from rbcnb.workflow.run import Run
from rbcnb.workflow.run_tables import RunTables
from rbcnb.workflow.verify import verify_run

VALUES = {
    "imbalance_methods": ["focal", "balanced_softmax"], "imbalance_seeds": 2, "imbalance_epochs": 1, "n_outer": 3,
    "seed": 0,
}  # fmt: skip
KNOBS = ["alpha", "gamma", "label_smoothing", "learning_rate", "weight_decay"]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run whose lesson was fitted."""
    here, cells, _, final = small_run(tmp_path_factory.mktemp("lesson") / "run")
    here.save_csv(cells, "labelled")
    ladder = [{"rho": rho, "codocyte": n, "hypochromia": n, "normal": 80} for rho, n in ((4.0, 20), (16.0, 5))]
    here.save_csv(pd.DataFrame(ladder), "ladder")
    here.save_table(final[["protocol", "outer"]].drop_duplicates(), "choices")
    here.save_record({"parameters": {"06_imbalance_study": {"seed": 0}}, "data_hash": here.data_hash()})
    tables = RunTables(here, {"protocol": "honest", "seed": 0})
    fits = fit_lesson(tables, VALUES, reopen="", jobs=1)
    here.save_csv(fits, "lesson_trials")
    tables.save("imbalance_lesson")
    return here


def tables_of(run, protocol="honest"):
    return RunTables(run, {"protocol": protocol, "seed": 0})


def test_it_is_fitted_once_and_recomputed(run, capsys):
    fits = run.load_csv("lesson_trials")
    assert len(fits) == 3 * 2 * 4  # outer splits, seeds, and three methods with the over-confident network
    again = fit_lesson(tables_of(run), VALUES, reopen="", jobs=1)
    assert list(again["key"]) == list(fits["key"])
    assert "8 trials, 0 trained, 8 taken from the store" in capsys.readouterr().out
    report = verify_run(run.folder)
    assert report.same, report.lines
    assert "imbalance_lesson" in report.tables


def test_a_changed_number_or_an_unentered_opening_is_found(run, tmp_path):
    folder = shutil.copytree(run.folder, tmp_path / "run")
    path = folder / "tables" / "imbalance_lesson.csv"
    table = pd.read_csv(path)
    table.loc[0, "balanced_accuracy"] += 0.01
    table.to_csv(path, index=False)
    ledger = load_ledger(folder)
    lesson = ledger["method"].str.startswith("imbalance lesson")
    assert lesson.sum() == 3 * 4
    ledger[~(lesson & (ledger["outer"] == "1"))].to_csv(folder / LEDGER, index=False)
    findings = {(finding.table, finding.column) for finding in verify_run(folder).findings}
    assert ("imbalance_lesson", "balanced_accuracy") in findings
    columns = [finding.column for finding in verify_run(folder).findings if finding.table == LEDGER]
    assert columns == ["digest", "", "", "", ""]


def test_other_settings_are_a_second_opening(run):
    with pytest.raises(TestSetError, match="imbalance lesson, cross entropy, cosine rate was tested with"):
        fit_lesson(tables_of(run), VALUES | {"imbalance_epochs": 2}, reopen="", jobs=1)


def test_what_is_published_of_it_follows_from_published_predictions(run, tmp_path):
    copied = shutil.copytree(run.folder, tmp_path / "run")
    here = Run.at(copied)
    final = here.load_csv("final_trials")
    options = {"margin": 0.02, "seed": 0, "protocol": "honest"}
    differences = adjust_for_families(compare_methods(predictions_by_method(final, here.store), BASE, **options))
    here.save_table(differences, "differences")
    here.save_table(differences[["claim", "verdict"]].assign(place=""), "verdict")
    here.save_table(final[["protocol", "architecture", "method", "outer", "epochs", *KNOBS]], "choices")
    here.save_csv(final.head(0), "ladder_trials")
    out = publish_run(copied, tmp_path / "out")
    report = verify_run(out)
    assert "imbalance_lesson" in report.tables
    assert not [finding for finding in report.findings if finding.table in ("imbalance_lesson", LEDGER)]
    assert "imbalance lesson, focal loss, cosine rate 3" in (out / "README.md").read_text()


@pytest.mark.parametrize(
    ("protocol", "seeds", "why"),
    [("paper", 2, "it needs the honest protocol's splits by smear"), ("honest", 0, "it has no seeds")],
)
def test_it_is_left_out_and_says_why(run, capsys, protocol, seeds, why):
    fits = fit_lesson(tables_of(run, protocol), VALUES | {"imbalance_seeds": seeds}, reopen="", jobs=1)
    assert fits.empty
    assert capsys.readouterr().out == f"The lesson on imbalance is left out: {why}.\n"
