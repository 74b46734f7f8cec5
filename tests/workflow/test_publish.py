"""What is kept of a run: small, without a picture, and enough to recompute its tables."""

import json
import os
import shutil
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from small_run import METHODS, small_run

from rbcnb._utils.errors import InputError
from rbcnb._utils.manifest import MANIFEST, record_files, replace_manifest
from rbcnb.cli import main
from rbcnb.evaluation.verdicts import judge_claims
from rbcnb.study.classical import beside_networks, entry_of_choice, fit_classical, tune_classical
from rbcnb.study.gaps import Gaps
from rbcnb.study.ledger import LEDGER, open_test
from rbcnb.study.protocols import in_folds
from rbcnb.study.runner import run_study
from rbcnb.study.store import load_predictions, load_record
from rbcnb.study.tables import table1, table3, with_balanced
from rbcnb.training.splits import assign_splits
from rbcnb.training.trial import Trial
from rbcnb.workflow.classical_fits import CLASSICAL, save_classical_fits
from rbcnb.workflow.notebooks import _resume
from rbcnb.workflow.publish import publish_run, publish_unfinished, unpacked
from rbcnb.workflow.run import MissingResultError, Run
from rbcnb.workflow.run_tables import recomputed
from rbcnb.workflow.verify import verify_run

pytestmark = pytest.mark.slow  # fits, and publishes what they left

# What follows from folds, splits and labels, beside the fits on whole training sets.
FROM_MORE = {
    "calibration": "nll",
    "choices": "valid_macro_f1",
    "class_counts": "n_cells",
    "table2": "normal",
}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """What the notebooks leave behind, with small fits on one rung."""
    here, cells, splits, final = small_run(tmp_path_factory.mktemp("publish") / "run")
    judging = {"margin": 0.02, "seed": 0}
    notebooks = {
        name: judging | {"protocol": "honest", "run": str(here.folder)}
        for name in ("05_final_evaluation", "06_imbalance_study")
    }
    notebooks["06_imbalance_study"] = notebooks["06_imbalance_study"] | {"arms": ["table2"]}
    first = {"01_segmentation": {"smears": "chula", "data": "/somewhere/chula", "run": str(here.folder)}}
    first["04_cv_tuning"] = {"choose_by": "macro_f1"}
    crops = here.load_crops()
    for name in ("smear", "figures/summary"):
        here.save_image(crops[0], name)
    climbed = with_balanced(final.assign(arm="table2", rho=7.8), here.store)
    gaps = Gaps(final, climbed, here.store, {"honest": splits}, **judging)
    here.save_csv(climbed, "ladder_trials")
    here.save_csv(pd.DataFrame(columns=["method", "error", "key"]), "leakage_trials")  # as when no gap was asked for
    here.save_table(gaps.relative("honest"), "fig13")
    features = pd.DataFrame({"grey": crops.mean(axis=(1, 2, 3))})
    names = {"classifiers": ["knn", "svm"], "resamplings": ["none", "smote"]}
    folded = assign_splits(cells, protocol="honest", seed=0, n_folds=3)
    chosen = tune_classical(features, folded, protocol="honest", seed=0, n_tries=2, **names)
    open_test(here.folder, [entry_of_choice(choice) for choice in chosen], splits, crops)
    fits = fit_classical(features, splits, chosen, seeds=[0])
    save_classical_fits(here, fits)
    here.save_table(beside_networks(fits, climbed), "classical")
    here.save_table(table1({"honest": final}, here.store, seed=0), "table1")
    here.save_table(table3({"honest": climbed}, here.store, seed=0, rung_priors=gaps.rung_priors), "table3")
    for name in ("differences", "secondary"):
        here.save_table(gaps.table(name), name)
    here.save_table(judge_claims(gaps.rows), "verdict")
    here.save_csv(run_study(in_folds(METHODS, 2), splits, crops, here.store, jobs=1), "fold_trials")
    here.save_csv(pd.DataFrame([{"rho": 4.0, "codocyte": 20, "hypochromia": 20, "normal": 80}]), "ladder")
    here.save_csv(cells, "labelled")
    here.save_record({"parameters": first | notebooks, "seeds": {"seed": 0}, "data_hash": here.data_hash()})
    for name in FROM_MORE:
        here.save_table(recomputed(here)[name](), name)
    return here


def test_published_tables_follow_from_published_predictions(run, tmp_path, capsys):
    out = tmp_path / "results" / "run"
    assert main(["publish", str(run.folder), str(out)]) == 0
    assert main(["verify", str(out)]) == 0
    printed = capsys.readouterr().out
    assert f"data {run.data_hash()}, seed 0; 8 trials" in printed
    assert "not recomputed" not in printed
    report = verify_run(out)
    tables = {"classical", "table1", "table3", "differences", "secondary", "fig13", "verdict"}
    assert set(report.tables) == {*tables, *FROM_MORE}
    assert not report.findings
    files = {str(path.relative_to(out)) for path in out.rglob("*") if path.is_file()}
    assert not [name for name in files if name.endswith((".png", ".npy", ".jpg"))]  # the only figure shows cells
    page = (out / "README.md").read_text()
    assert "its\ninner folds chose: lesson net, focal loss: alpha 1, gamma 2, learning rate 0.01, epochs 1; " in page
    assert "MIT licence" in page
    assert "looks at the honest protocol's test cells: " in page
    assert "focal loss 1" in page
    assert "classical baseline 5" in page  # two by two, and the majority
    assert "4 fits on whole training sets" in page
    assert "focal loss minus cross entropy" in page
    assert str(run.folder.parent) not in (out / "run.json").read_text() + page
    assert "/somewhere" not in (out / "run.json").read_text()


def test_published_numbers_are_those_of_the_packed_predictions_to_the_last_digit(run, tmp_path):
    """Packed probabilities are rounded; what is divided by a small spread moves by more than a score does."""
    run = Run(shutil.copytree(run.folder, tmp_path / "run"))
    stored = run.load_table("secondary")
    run.save_csv(stored.assign(p=stored["p"] * (1 + 1e-4)), "tables/secondary")
    out = publish_run(run.folder, tmp_path / "out")
    published = pd.read_csv(out / "tables" / "secondary.csv")
    np.testing.assert_allclose(published["p"], stored["p"], rtol=1e-6)
    assert published.drop(columns="p").equals(pd.read_csv(run.folder / "tables" / "secondary.csv").drop(columns="p"))
    assert not verify_run(out).findings


def test_a_table_that_is_further_off_than_rounding_explains_is_not_made_right(run, tmp_path):
    run = Run(shutil.copytree(run.folder, tmp_path / "run"))
    stored = run.load_table("secondary")
    run.save_csv(stored.assign(p=stored["p"] * 1.1), "tables/secondary")
    run.save_csv(run.load_table("table1").iloc[::-1], "tables/table1")  # other rows, or in another order
    out = publish_run(run.folder, tmp_path / "out")
    for name in ("secondary", "table1"):
        assert (out / "tables" / f"{name}.csv").read_bytes() == (run.folder / "tables" / f"{name}.csv").read_bytes()
    assert {finding.column for finding in verify_run(out).findings if finding.table == "secondary"} == {"p"}


def test_a_changed_number_or_prediction_is_found(run, tmp_path):
    out = publish_run(run.folder, tmp_path / "out")
    table = pd.read_csv(out / "tables" / "table1.csv")
    table.loc[table.index[-1], "macro_f1"] += 1e-3
    table.to_csv(out / "tables" / "table1.csv", index=False)
    kept = pd.read_parquet(out / "predictions.parquet")
    kept.assign(pred=kept["target"]).to_parquet(out / "predictions.parquet", index=False)
    found = {finding.table for finding in verify_run(out).findings}
    assert found == {"tables/table1.csv", "predictions.parquet", "trials.parquet"}
    publish_run(run.folder, out)
    table.to_csv(out / "tables" / "table1.csv", index=False)
    assert {finding.table for finding in verify_run(out).findings} == {"table1", "tables/table1.csv"}


def test_numbers_that_were_changed_together_with_their_digests_are_found(run, tmp_path):
    out = publish_run(run.folder, tmp_path / "out")
    changed = FROM_MORE | {"fig13": "mean"}
    whole = ("class_counts", "table2")
    for name, column in changed.items():
        path = out / "tables" / f"{name}.csv"
        table = pd.read_csv(path)
        table.loc[table.index[-1], column] += 1 if name in whole else 1e-2 if name == "fig13" else 1e-3
        table.to_csv(path, index=False)
        record_files(out, {f"tables/{name}.csv": {}})
    assert [(finding.table, finding.column) for finding in verify_run(out).findings] == sorted(changed.items())


def test_what_an_older_folder_lacks_is_said_in_words_that_fit_it(run, tmp_path):
    out = publish_run(run.folder, tmp_path / "out")
    manifest = Run.at(out).load_manifest()
    for name in ("fold_trials.csv", "labelled.parquet", "splits_honest.csv"):
        (out / name).unlink()
        del manifest[name]
    kept = pd.read_parquet(out / "predictions.parquet")
    folds = set(run.load_csv("fold_trials")["key"])
    kept[~kept["key"].isin(folds)].to_parquet(out / "predictions.parquet", index=False)
    replace_manifest(out, manifest)
    report = verify_run(out)
    assert report.same
    assert report.complete
    # Of the whole data set and of rungs, priors of the training cells are asked for.
    needing = {*FROM_MORE, "differences", "fig13", "secondary", "table3", "verdict"}
    for name, line in zip(sorted(needing), report.notes, strict=True):
        assert line.startswith(f"not recomputed: {name}: needs ")
        assert "which this folder does not hold" in line
        assert "notebook" not in line


def test_what_was_published_before_and_is_no_more_goes(run, tmp_path):
    out = publish_run(run.folder, tmp_path / "out")
    (out / "notes.txt").write_text("ours")
    (out / "tuning_trials.csv").write_text("key")
    manifest = Run.at(out).load_manifest()
    (tmp_path / "beside.txt").write_text("not published")
    gone = {name: {"digest": ""} for name in ("tuning_trials.csv", "../beside.txt")}
    (out / "manifest.json").write_text(json.dumps(manifest | gone))
    publish_run(run.folder, out)
    assert not (out / "tuning_trials.csv").exists()
    assert (out / "notes.txt").exists()
    assert (tmp_path / "beside.txt").exists()
    assert verify_run(out).same


@pytest.mark.parametrize("published", [False, True])
def test_a_changed_prediction_of_a_classical_classifier_is_found(run, tmp_path, published):
    out = publish_run(run.folder, tmp_path / "out") if published else shutil.copytree(run.folder, tmp_path / "out")
    if not published:  # what is published is verified above
        assert verify_run(out).same
    kept = pd.read_parquet(out / CLASSICAL).astype({"pred": str, "target": str})
    row = kept.index[(kept["architecture"] == "svm") & (kept["pred"] == kept["target"])][0]
    kept.loc[row, "pred"] = next(name for name in ("normal", "codocyte") if name != kept.loc[row, "target"])
    kept.to_parquet(out / CLASSICAL, index=False)
    findings = [(finding.table, finding.column) for finding in verify_run(out).findings]
    assert {(CLASSICAL, "digest"), ("classical", "accuracy")} <= set(findings)
    if published:
        assert main(["verify", str(out)]) == 1


def test_a_run_that_stored_no_classical_predictions_is_told_so(run, tmp_path, capsys):
    old = shutil.copytree(run.folder, tmp_path / "old")
    manifest = run.load_manifest()
    del manifest[CLASSICAL]
    (old / CLASSICAL).unlink()
    replace_manifest(old, manifest)
    for folder in (old, publish_run(old, tmp_path / "out")):
        assert main(["verify", str(folder)]) == 0
        printed = capsys.readouterr().out
        assert "not recomputed: classical: " in printed
        needs = (
            "the run stored no predictions" if folder == old else f"needs {CLASSICAL}, which this folder does not hold"
        )
        assert needs in printed


def test_probabilities_come_back_in_order_and_nearly_the_same(run, tmp_path):
    out = publish_run(run.folder, tmp_path / "out")
    with unpacked(out) as whole:
        for key in run.load_csv("final_trials")["key"]:
            before, after = (load_predictions(store, key) for store in (run.store, whole.store))
            probs = [name for name in before if name.startswith("prob_")]
            logs = np.log(before[probs].to_numpy())  # single precision has 24 bits
            assert (np.abs(np.log(after[probs].to_numpy()) - logs) <= np.abs(logs) * 2.0**-22).all()
            pd.testing.assert_frame_equal(after.drop(columns=probs), before.drop(columns=probs), check_dtype=False)


def test_what_cannot_be_published_says_why(run, tmp_path, capsys):
    with pytest.raises(ValueError, match="another folder"):
        publish_run(run.folder, run.folder)
    with pytest.raises(MissingResultError, match="06_imbalance_study"):
        publish_run(tmp_path, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    assert main(["publish", str(tmp_path / "nothing"), str(tmp_path / "out")]) == 2
    assert "rbcnb publish: " in capsys.readouterr().err


@pytest.mark.parametrize("name", ["tables/fig13.csv", "fold_trials.csv"])
def test_a_file_that_was_changed_after_the_run_gets_no_digest_that_vouches_for_it(run, tmp_path, name):
    copy = shutil.copytree(run.folder, tmp_path / "run")
    (copy / name).write_bytes((copy / name).read_bytes().replace(b"0", b"1", 1))
    with pytest.raises(InputError, match=rf"{name}: not as the run wrote it .* rbcnb reproduce again"):
        publish_run(copy, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_the_record_of_a_run_is_left_as_it_was(run, tmp_path):
    before = (run.folder / "run.json").read_text()
    publish_run(run.folder, tmp_path / "out")
    assert (run.folder / "run.json").read_text() == before
    assert json.loads(before)["parameters"]["01_segmentation"]["data"] == "/somewhere/chula"


def test_a_study_at_work_is_kept_and_goes_on_elsewhere(run, tmp_path, capsys):
    """Nothing that was finished is trained again, the test sets stay opened once, and a finished stage stays whole."""
    out, elsewhere = tmp_path / "results", Run.at(tmp_path / "elsewhere")
    assert main(["publish", str(run.folder), str(out), "--unfinished"]) == 0
    assert "reproduce --resume-from" in capsys.readouterr().out
    assert "is not finished" in (out / "README.md").read_text()
    final = run.load_csv("final_trials")
    splits = run.load_csv("splits_honest")
    trials = [Trial(**load_record(run.store, key)["trial"]) for key in final["key"]]
    assert _resume(elsewhere, out) == len(list(run.store.glob("*.json")))
    assert _resume(elsewhere, out) == 0
    assert (elsewhere.folder / LEDGER).read_text() == (run.folder / LEDGER).read_text()
    lines = []
    again = run_study(trials, splits, run.load_crops(), elsewhere.store, jobs=1, say=lines.append)
    assert f"{len(trials)} trials, 0 trained" in lines[-1]
    assert again["key"].tolist() == final["key"].tolist()
    publish_run(run.folder, out)
    more = run_study([replace(trials[0], seed=77)], splits, run.load_crops(), run.store, jobs=1)["key"].tolist()
    before = (out / "tables" / "verdict.csv").read_text()
    publish_unfinished(run.folder, out)
    keys = pd.read_parquet(out / "trials.parquet")["key"].tolist()
    assert more[0] in keys
    assert json.loads((out / "manifest.json").read_text())["trials.parquet"]["fits"] == {"small": len(keys)}
    assert (out / "tables" / "verdict.csv").read_text() == before
    assert not verify_run(out).findings
    with pytest.raises(ValueError, match="another folder than the run's own"):
        publish_unfinished(run.folder, run.folder)
    with pytest.raises(FileNotFoundError, match="no finished fit in it yet"):
        publish_unfinished(tmp_path, out)


@pytest.mark.parametrize("key", ["OUTSIDE/x", "../../x", "0123456789ABCDEF"])
def test_a_strangers_folder_writes_nothing_anywhere(run, tmp_path, capsys, key):
    """A row of trials.parquet with a path for a key, its digest in order, once wrote a file of his choice."""
    out = publish_run(run.folder, tmp_path / "out")
    outside = tmp_path / "outside"
    outside.mkdir()
    key = key.replace("OUTSIDE", str(outside))
    records = pd.read_parquet(out / "trials.parquet")
    row = pd.DataFrame({"key": [key], "record": [json.dumps({"key": key, "error": "", "mine": "text"})]})
    pd.concat([records, row]).to_parquet(out / "trials.parquet", index=False)
    record_files(out, {"trials.parquet": {}})
    before = files_under(tmp_path)
    assert main(["verify", str(out)]) == 1
    assert "is not the key of a trial; do not trust this folder" in capsys.readouterr().out
    with pytest.raises(InputError, match="is not the key of a trial"):
        _resume(Run.at(tmp_path / "mine"), out)
    assert files_under(tmp_path) - before == set()


@pytest.mark.parametrize("name", ["/dev/zero", "../secret.txt", "pipe", "link.csv"])
def test_only_regular_files_within_a_strangers_folder_are_read(run, tmp_path, capsys, name):
    out = publish_run(run.folder, tmp_path / "out")
    (tmp_path / "secret.txt").write_text("not published")
    (out / "tables" / "table1.csv").unlink()
    (out / "tables" / "table1.csv").symlink_to(tmp_path / "secret.txt")
    (out / "link.csv").symlink_to("/dev/zero")
    os.mkfifo(out / "pipe")
    manifest = json.loads((out / MANIFEST).read_text()) | {name: {"digest": "0" * 16}}
    del manifest[MANIFEST]
    (out / MANIFEST).write_text(json.dumps(manifest))
    assert main(["verify", str(out)]) == 1
    lines = capsys.readouterr().out
    assert f"{name} | digest: stored missing" in lines
    assert "tables/table1.csv | digest: stored missing" in lines
    assert "not published" not in lines


def test_what_could_not_be_checked_is_no_success(run, tmp_path, capsys):
    """A record cut in half, an emptied manifest and a changed verdict were once "0 differ"."""
    out = publish_run(run.folder, tmp_path / "out")
    (out / "run.json").write_bytes((out / "run.json").read_bytes()[:200])
    (out / MANIFEST).write_text("{}\n")
    verdict = out / "tables" / "verdict.csv"
    verdict.write_text(verdict.read_text().replace("inconclusive", "supported"))
    assert main(["verify", str(out)]) == 1
    lines = capsys.readouterr().out
    assert "run.json: InputError: run.json: cannot be read as JSON" in lines
    assert "not checked: tables/verdict.csv: the manifest has no digest of it" in lines
    publish_run(run.folder, out)
    (out / "notes.txt").write_text("3.14")
    assert main(["verify", str(out)]) == 1
    assert "not checked: notes.txt: the manifest has no digest of it" in capsys.readouterr().out
    assert main(["verify", str(out), "--partial"]) == 0


UNFINISHED = pytest.mark.parametrize("options", [[], ["--unfinished"]])


@UNFINISHED
@pytest.mark.parametrize("kind", ["notes", "file", "other run", "around", "within"])
def test_a_folder_that_publish_did_not_fill_is_left_as_it_is(run, tmp_path, capsys, kind, options):
    copy = shutil.copytree(run.folder, tmp_path / "around" / "run")
    out = {"around": copy.parent, "within": copy / "out"}.get(kind, tmp_path / "out")
    if kind == "notes":
        out.mkdir()
        (out / "README.md").write_text("mine")
    elif kind == "file":
        out.write_text("mine")
    elif kind == "other run":
        shutil.copytree(publish_run(run.folder, out), out / "trials")
    before = contents(tmp_path)
    assert main(["publish", str(copy), str(out), *options]) == 2
    assert "name an empty folder, or one that rbcnb publish filled" in capsys.readouterr().err
    assert contents(tmp_path) == before


def test_a_folder_with_hidden_files_alone_is_empty(run, tmp_path):
    (tmp_path / "out" / ".git").mkdir(parents=True)
    (tmp_path / "out" / ".lock").touch()
    publish_unfinished(run.folder, tmp_path / "out")
    assert (tmp_path / "out" / ".git").is_dir()


@pytest.mark.parametrize("publish", [publish_run, publish_unfinished])
def test_a_publication_that_was_stopped_halfway_can_be_made_again(run, tmp_path, monkeypatch, publish):
    out, replace_file, moved = tmp_path / "out", os.replace, []

    def stop(source, target):
        if ".publish-" in str(source) and ".publish-" not in str(target):
            if len(moved) == 2:
                raise KeyboardInterrupt
            moved.append(target)
        replace_file(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", stop)
        with pytest.raises(KeyboardInterrupt):
            publish(run.folder, out)
    assert {path.name for path in files_under(out) if path.is_file()} == {path.name for path in moved}
    assert not [path for path in out.iterdir() if path.is_dir() and path.name.startswith(".")]
    assert publish(run.folder, out) == out
    assert verify_run(publish_run(run.folder, out)).same


def test_a_publication_that_fails_leaves_the_earlier_one_as_it_was(run, tmp_path, monkeypatch, capsys):
    out = publish_run(run.folder, tmp_path / "out")
    before = contents(tmp_path)

    def fail():
        raise ValueError("not among the results: small, focal")

    monkeypatch.setattr("rbcnb.workflow.publish.recomputed", lambda _: {"table1": fail})
    for folder in (out, tmp_path / "new"):
        assert main(["publish", str(run.folder), str(folder)]) == 2
        printed = capsys.readouterr().err
        assert f"{run.folder}/tables/table1.csv: cannot be made from the run's fits (not among the results" in printed
        assert "run the same rbcnb reproduce again" in printed
        assert contents(tmp_path) == before


@pytest.mark.parametrize(
    ("name", "options"),
    [("README.md", []), ("tables", []), (".manifest.json.lock", []), ("predictions.parquet", ["--unfinished"])],
)
def test_nothing_is_written_through_a_link(run, tmp_path, capsys, name, options):
    out = publish_run(run.folder, tmp_path / "out")
    (out / name).rename(tmp_path / "elsewhere")
    (out / name).symlink_to(tmp_path / "elsewhere")
    before = contents(tmp_path)
    assert main(["publish", str(run.folder), str(out), *options]) == 2
    assert f"{out / name}: is a link" in capsys.readouterr().err
    assert contents(tmp_path) == before


@UNFINISHED
@pytest.mark.parametrize("name", ["run.json", LEDGER, "splits_honest.csv"])
def test_an_altered_file_is_refused_and_so_is_one_without_a_digest(run, tmp_path, capsys, name, options):
    copy = shutil.copytree(run.folder, tmp_path / "run")
    (copy / name).write_bytes((copy / name).read_bytes().replace(b"0", b"1", 1))
    command = ["publish", str(copy), str(tmp_path / "out"), *options]
    assert main(command) == 2
    assert f"{copy / name}: not as the run wrote it (its digest tells); " in capsys.readouterr().err
    replace_manifest(copy, {file: entry for file, entry in run.load_manifest().items() if file != name})
    assert main(command) == 2
    assert f"{copy / name}: {MANIFEST} has no digest of it; " in capsys.readouterr().err
    (copy / MANIFEST).unlink()
    assert main(command) == 2
    printed = capsys.readouterr().err
    assert f"{copy / MANIFEST}: not there" in printed
    assert "run the same rbcnb reproduce again" in printed
    assert not (tmp_path / "out").exists()


def test_an_earlier_stage_that_was_altered_gets_no_new_digest(run, tmp_path):
    out = publish_run(run.folder, tmp_path / "out")
    path = out / "tables" / "choices.csv"
    path.write_bytes(path.read_bytes().replace(b"0", b"1", 1))
    publish_unfinished(run.folder, out)
    assert ("tables/choices.csv", "digest") in {(finding.table, finding.column) for finding in verify_run(out).findings}


def test_what_the_record_tells_stands_as_words_in_the_page(run, tmp_path):
    here = Run(shutil.copytree(run.folder, tmp_path / "run"))
    bad = "<img src=x>|$x$"
    record = here.load_record() | {"data_hash": bad, "seeds": {bad: bad}, "versions": {"python": bad}, "machine": bad}
    here.save_record(record | {"profile": bad})
    page = (publish_run(here.folder, tmp_path / "out") / "README.md").read_text()
    assert page.count("img src&#61;x") == 6
    assert "<img" not in page


def contents(folder):
    """Of every file below *folder*, links not followed; what a lock leaves is none."""
    return {
        path: path.read_bytes() if path.is_file() else b""
        for path in folder.rglob("*")
        if not path.name.endswith(".lock") or path.is_symlink()
    }


def files_under(folder):
    return {path for path in folder.rglob("*") if not path.name.startswith(".")}
