import json
import os
from dataclasses import asdict, replace

import numpy as np
import pandas as pd
import pytest
from small_run import METHODS, small_run

from rbcnb._utils.files import file_digest
from rbcnb._utils.manifest import record_files
from rbcnb.cli import main
from rbcnb.counting.model_file import ModelCard, save_model
from rbcnb.evaluation.metrics import confident_mistakes
from rbcnb.evaluation.verdicts import BASE, adjust_for_families, compare_methods, without_rest
from rbcnb.labels.assign import count_classes
from rbcnb.paper import load_checks
from rbcnb.plotting.comparisons import plot_differences
from rbcnb.study.ledger import LEDGER
from rbcnb.study.store import DamagedTrialError, load_predictions, load_record, predictions_by_method, write_record
from rbcnb.study.tables import table1
from rbcnb.training.models import build_model
from rbcnb.workflow.model_export import MODEL, choose_trial, stored_predictions
from rbcnb.workflow.run import Run
from rbcnb.workflow.table_diff import compare_tables
from rbcnb.workflow.verify import VerifyError, verify_run


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """What notebooks 02 and 05 leave behind, with small fits."""
    here, cells, _, final = small_run(tmp_path_factory.mktemp("verify") / "run")
    here.save_record(
        {"parameters": {"05_final_evaluation": {"protocol": "honest", "margin": 0.02, "seed": 0}}, "seeds": {"seed": 0}}
    )
    here.save_csv(cells, "labelled")
    here.save_table(count_classes(cells).reset_index(), "class_counts")
    here.save_table(load_checks(), "recomputation")
    here.save_table(table1({"honest": final}, here.store, seed=0), "table1")
    choices = pd.DataFrame([asdict(trial) for trial in METHODS]).assign(valid_macro_f1=[0.5, 0.6])
    here.save_table(choices, "choices")
    chosen = choose_trial(choices, protocol="honest", seed=0)
    here.save_table(confident_mistakes(stored_predictions(chosen, final, here.store)), "mistakes")
    predictions = predictions_by_method(final, here.store)
    compared = compare_methods(predictions, BASE, margin=0.02, seed=0, protocol="honest")
    differences = without_rest(adjust_for_families(compared))
    here.save_table(differences, "differences_base")
    here.save_figure(plot_differences(differences, 0.02), "differences")
    return here.folder


@pytest.fixture
def folder(made, tmp_path):
    import shutil

    return shutil.copytree(made, tmp_path / "run")


def found(folder):
    return {(finding.table, finding.column) for finding in verify_run(folder).findings}


def test_an_untouched_run_follows_from_its_predictions(folder, capsys):
    report = verify_run(folder)
    assert report.same, report.lines
    assert set(report.tables) == {"class_counts", "recomputation", "table1", "differences_base", "mistakes"}
    assert any(line.startswith("not recomputed: choices") for line in report.notes)
    assert report.complete, report.unchecked
    assert report.n_numbers > 300
    assert main(["verify", str(folder)]) == 0
    printed = capsys.readouterr().out
    assert "seed 0; 4 trials" in printed
    assert "0 differ" in printed


def test_what_is_simulated_is_recomputed_too(folder):
    here = Run.at(folder)
    record = here.load_record()
    record["parameters"]["01_segmentation"] = {"smears": "synthetic"}
    here.save_record(record)
    for path in folder.glob("tables/*.csv"):
        here.save_table(here.load_table(path.stem), path.stem)
    assert set(here.load_table("differences_base")["simulated"]) == {"smears"}
    assert "simulated" not in here.load_table("recomputation")
    report = verify_run(folder)
    assert report.same, report.lines
    here.save_csv(here.load_table("class_counts").drop(columns="simulated"), "tables/class_counts")
    table1 = here.load_table("table1")
    here.save_csv(table1.assign(simulated="smears"), "tables/table1")  # the paper's own numbers are not
    assert found(folder) == {("class_counts", "simulated"), ("table1", "simulated")}


@pytest.mark.parametrize(
    ("table", "column"),
    [("table1", "macro_f1"), ("differences_base", "low"), ("class_counts", "n_cells"), ("mistakes", "probability")],
)
def test_one_changed_number_is_found_and_named(folder, capsys, table, column):
    path = folder / "tables" / f"{table}.csv"
    content = pd.read_csv(path)
    value = content[column].iloc[-1]
    content.loc[content.index[-1], column] = value + (1 if column == "n_cells" else 1e-4)
    content.to_csv(path, index=False)
    findings = verify_run(folder).findings
    assert [(f.table, f.column) for f in findings] == [(f"tables/{table}.csv", "digest"), (table, column)]
    assert (findings[1].stored, findings[1].expected) == pytest.approx((value + findings[1].stored - value, value))
    assert main(["verify", str(folder)]) == 1
    assert f"| {column}: stored " in capsys.readouterr().out


def with_new_digest(folder, key):
    """The record of a trial as if it had been written with what lies in the store now."""
    record = json.loads((folder / "trials" / f"{key}.json").read_text()) | {
        "digest": file_digest(folder / "trials" / f"{key}.parquet")
    }
    del record["seal"]
    write_record(record, folder / "trials")


def predictions_file(folder):
    key = pd.read_csv(folder / "final_trials.csv")["key"].iloc[0]
    return key, folder / "trials" / f"{key}.parquet"


def test_one_changed_prediction_is_found(folder):
    key, path = predictions_file(folder)
    table = load_predictions(folder / "trials", key)
    wrong = next(name for name in ("normal", "codocyte") if name != table["pred"].iloc[0])
    table.loc[0, "pred"] = wrong
    table.to_parquet(path, index=False)
    assert (f"trials/{key}", "") in found(folder)
    with pytest.raises(DamagedTrialError, match=rf"{key}.json and .parquet: not as they were written.*run the same"):
        load_predictions(folder / "trials", key)
    with_new_digest(folder, key)
    assert {(f"trials/{key}", "accuracy"), ("table1", "accuracy")} <= found(folder)


def test_a_changed_probability_that_moves_no_score_is_found(folder):
    key, path = predictions_file(folder)
    table = load_predictions(folder / "trials", key)
    table["prob_normal"] = np.nextafter(table["prob_normal"], 1)
    table.to_parquet(path, index=False)
    assert (f"trials/{key}", "") in found(folder)


@pytest.mark.slow
def test_a_damaged_trial_that_no_list_names_is_found(folder):
    run = Run.at(folder)
    listed = run.load_csv("final_trials")
    key = listed["key"].iloc[0]
    spare = "0" * 16
    record = load_record(run.store, key)
    (run.store / f"{spare}.parquet").write_bytes((run.store / f"{key}.parquet").read_bytes())
    write_record({name: value for name, value in record.items() if name != "seal"} | {"key": spare}, run.store)
    assert not verify_run(folder).findings
    data = bytearray((run.store / f"{spare}.parquet").read_bytes())
    data[len(data) // 2] ^= 1
    (run.store / f"{spare}.parquet").write_bytes(data)
    assert (f"trials/{spare}", "") in found(folder)


def test_changed_scores_pictures_labels_and_lost_files_are_found(folder):
    key, path = predictions_file(folder)
    record = json.loads(path.with_suffix(".json").read_text())
    record["scores"]["auroc"] += 0.01
    path.with_suffix(".json").write_text(json.dumps(record))
    assert (f"trials/{key}", "") in found(folder)
    with_new_digest(folder, key)
    assert found(folder) == {(f"trials/{key}", "auroc")}
    path.with_suffix(".json").unlink()
    assert (f"trials/{key}", "") in found(folder)

    picture = folder / "figures" / "differences.png"
    picture.write_bytes(picture.read_bytes() + b"\0")
    (folder / "tables" / "recomputation.csv").unlink()
    assert {("figures/differences.png", "digest"), ("tables/recomputation.csv", "digest")} <= found(folder)


@pytest.mark.slow
def test_a_test_set_that_the_ledger_does_not_know_of_is_found(folder):
    path = folder / LEDGER
    ledger = pd.read_csv(path, dtype=str, keep_default_na=False)
    ledger.assign(smears="", crops="").to_csv(path, index=False)
    assert found(folder) == {(LEDGER, "digest")}
    record_files(folder, {LEDGER: {}})
    assert verify_run(folder).same  # earlier versions did not tell these
    ledger.iloc[:-1].to_csv(path, index=False)
    record_files(folder, {LEDGER: {}})
    (finding,) = verify_run(folder).findings
    assert (finding.table, finding.stored) == (LEDGER, "missing")
    assert finding.row.startswith("honest, 0, small, focal, ")
    path.unlink()
    assert len(verify_run(folder).findings) == 3  # both, and that the file is gone


@pytest.mark.slow
def test_a_model_that_was_changed_or_is_of_other_cells_is_found(folder):
    card = ModelCard("small", ("a", "b", "c"), 16, finder={}, data=pd.read_csv(folder / "final_trials.csv")["data"][0])
    network = build_model("small", 3)
    path = save_model(network, card, folder / MODEL)
    assert not verify_run(folder).complete
    record_files(folder, {MODEL: {}})
    assert verify_run(folder).complete
    whole = bytearray(path.read_bytes())
    whole[-1] ^= 1
    path.write_bytes(whole)
    assert (MODEL, "digest") in found(folder)
    record_files(folder, {MODEL: {}})
    (finding,) = verify_run(folder).findings
    assert finding.table == MODEL
    assert "damaged or edited" in finding.stored
    save_model(network, replace(card, data="0" * 16), path)
    record_files(folder, {MODEL: {}})
    assert found(folder) == {(MODEL, "data")}


def test_other_labels_than_the_fits_had_are_found(folder):
    run = Run.at(folder)
    cells = run.load_csv("splits_honest")
    cells.loc[0, "label"] = "codocyte" if cells["label"].iloc[0] == "normal" else "normal"
    run.save_csv(cells, "splits_honest")  # by the package itself: its digest is in order
    assert found(folder) == {("final_trials", "data")}


def test_a_run_against_another_tells_what_differs_and_by_how_much(folder, made, capsys):
    assert verify_run(folder, against=str(made)).same
    table = pd.read_csv(folder / "tables" / "table1.csv")
    table.loc[table.index[-1], "auroc"] += 0.002
    table.to_csv(folder / "tables" / "table1.csv", index=False)
    report = verify_run(folder, against=str(made))
    assert [(finding.table, finding.column) for finding in report.findings] == [("table1", "auroc")]
    assert "(difference +0.002)" in report.lines[1]
    assert verify_run(folder, against=str(made), tolerance=0.01).same
    assert main(["verify", str(folder), "--against", str(made)]) == 1
    assert main(["verify", str(folder), "--against", str(made), "--tolerance", "0.01"]) == 0
    (folder / "tables" / "class_counts.csv").unlink()
    assert ("class_counts", "") in {(f.table, f.column) for f in verify_run(folder, against=str(made)).findings}
    capsys.readouterr()


def test_tables_are_matched_by_what_names_their_rows():
    table = pd.DataFrame(
        {"method": ["a", "b", "b"], "alpha": [np.nan, 0.5, 1.0], "score": [0.1, 0.2, np.nan], "n": [1, 2, 3]}
    )
    assert compare_tables("t", table, table.iloc[::-1]) == ([], 6)
    changed = table.assign(score=[0.1, 0.2 + 1e-12, 0.3], extra=1).iloc[:3]
    findings, n = compare_tables("t", table, changed)
    assert {(f.row, f.column) for f in findings} == {("", "extra"), ("b, alpha 1", "score")}
    assert n == 6
    near = table.assign(score=table["score"] + 5e-7)
    assert compare_tables("t", table, near)[0]
    assert not compare_tables("t", table, near, tolerance=1e-8, unit=100)[0]
    assert compare_tables("t", table, near, tolerance=1e-9, unit=100)[0]
    fewer, _ = compare_tables("t", table, table.iloc[:2])
    assert [(f.row, f.expected) for f in fewer] == [("b, alpha 1", "missing")]
    assert compare_tables("t", pd.DataFrame(), pd.DataFrame()) == ([], 0)
    assert [f.column for f in compare_tables("t", pd.DataFrame(), table)[0]][:4] == list(table)
    twice = pd.DataFrame({"method": ["a", "a"], "score": [1.0, 2.0]})
    assert [f.row for f in compare_tables("t", twice, twice.assign(score=[1.0, 3.0]))[0]] == ["a #2"]


@pytest.mark.parametrize("tolerance", ["-1", "nan", "inf"])
def test_a_tolerance_that_is_none_is_refused(made, capsys, tolerance):
    for against in ([], ["--against", str(made)]):
        assert main(["verify", str(made), *against, "--tolerance", tolerance]) == 2
        printed = capsys.readouterr()
        assert f"the tolerance must be a number of at least 0, got {float(tolerance)}" in printed.err
        assert not printed.out


def test_a_folder_without_a_run_is_named(tmp_path, capsys):
    with pytest.raises(VerifyError, match="no tables of a run"):
        verify_run(tmp_path)
    assert main(["verify", str(tmp_path)]) == 2
    assert "rbcnb verify:" in capsys.readouterr().err


@pytest.mark.parametrize("kind", ["a folder", "a pipe", "deep"])
def test_what_is_no_file_is_a_damaged_manifest_or_trial(folder, capsys, kind):
    key = Run.at(folder).load_csv("final_trials")["key"][0]
    for path in (folder / "manifest.json", folder / f"trials/{key}.json"):
        path.unlink()
        if kind == "deep":
            path.write_text('{"a":' * 100_000)
        else:
            (os.mkdir if kind == "a folder" else os.mkfifo)(path)
    assert main(["verify", str(folder)]) == 1
    printed = capsys.readouterr().out
    assert "manifest.json: is damaged, and says no more which files are as they were written; put back" in printed
    assert f"trials/{key}: stored missing or damaged" in printed
    assert main(["report", str(folder)]) == 2
    assert "manifest.json: is damaged" in capsys.readouterr().err
