"""What is kept of a run: small, without a picture, and enough to recompute its tables."""

import json
import shutil

import numpy as np
import pandas as pd
import pytest
from small_run import small_run

from rbcnb.classical import beside_networks, fit_classical, tune_classical
from rbcnb.classical_fits import CLASSICAL, entry_of_choice, save_fits
from rbcnb.cli import main
from rbcnb.gaps import Gaps
from rbcnb.openings import open_test
from rbcnb.publish import publish_run, unpacked
from rbcnb.run import MissingResultError
from rbcnb.splits import assign_splits
from rbcnb.store import load_predictions
from rbcnb.tables import table1, table3, with_balanced
from rbcnb.verdicts import adjust_for_families, judge_claims
from rbcnb.verify import verify_run


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """What notebooks 05 and 06 leave behind, with small fits on one rung."""
    here, cells, splits, final = small_run(tmp_path_factory.mktemp("publish") / "run")
    judging = {"margin": 0.02, "seed": 0}
    notebooks = {name: judging | {"run": str(here.folder)} for name in ("05_final_evaluation", "06_imbalance_study")}
    first = {"01_segmentation": {"smears": "chula", "data": "/somewhere/chula", "run": str(here.folder)}}
    crops = here.load_crops()
    for name in ("smear", "figures/summary"):
        here.save_image(crops[0], name)
    climbed = with_balanced(final.assign(arm="table2", rho=7.8), here.store)
    gaps = Gaps(final, climbed, here.store, **judging)
    here.save_csv(climbed, "ladder_trials")
    features = pd.DataFrame({"grey": crops.mean(axis=(1, 2, 3))})
    names = {"classifiers": ["knn", "svm"], "resamplings": ["none", "smote"]}
    folded = assign_splits(cells, protocol="honest", seed=0, n_folds=3)
    chosen = tune_classical(features, folded, protocol="honest", seed=0, n_tries=2, **names)
    open_test(here.folder, [entry_of_choice(choice) for choice in chosen], splits, crops)
    fits = save_fits(here, fit_classical(features, splits, chosen, seeds=[0]))
    here.save_table(beside_networks(fits, climbed), "classical")
    here.save_table(table1({"honest": final}), "table1")
    here.save_table(table3({"honest": climbed}), "table3")
    here.save_table(adjust_for_families(gaps.together()), "differences")
    here.save_table(judge_claims(gaps.together(), margin=0.02), "verdict")
    here.save_record({"parameters": first | notebooks, "seeds": {"seed": 0}, "data_hash": here.data_hash()})
    return here


def test_published_tables_follow_from_published_predictions(run, tmp_path, capsys):
    out = tmp_path / "results" / "run"
    assert main(["publish", str(run.folder), str(out)]) == 0
    assert main(["verify", str(out)]) == 0
    said = capsys.readouterr().out
    assert f"data {run.data_hash()}, seed 0; 4 trials" in said
    report = verify_run(out)
    assert set(report.tables) == {"classical", "table1", "table3", "differences", "verdict"}
    assert not report.findings
    files = {str(path.relative_to(out)) for path in out.rglob("*") if path.is_file()}
    assert not [name for name in files if name.endswith((".png", ".npy", ".jpg"))]  # the only figure shows cells
    told = (out / "README.md").read_text()
    assert "MIT licence" in told
    assert "focal loss minus cross entropy" in told
    assert str(run.folder.parent) not in (out / "run.json").read_text() + told
    assert "/somewhere" not in (out / "run.json").read_text()


def test_a_changed_number_or_prediction_is_found(run, tmp_path):
    out = publish_run(run.folder, tmp_path / "out")
    table = pd.read_csv(out / "tables" / "table1.csv")
    table.loc[table.index[-1], "macro_f1"] += 1e-3
    table.to_csv(out / "tables" / "table1.csv", index=False)
    kept = pd.read_parquet(out / "predictions.parquet")
    kept.assign(pred=kept["target"]).to_parquet(out / "predictions.parquet", index=False)
    found = {finding.table for finding in verify_run(out).findings}
    assert {"table1", "tables/table1.csv", "predictions.parquet"} <= found
    assert any(name.startswith("trials/") for name in found)


@pytest.mark.parametrize("published", [False, True])
def test_a_changed_prediction_of_a_classical_classifier_is_found(run, tmp_path, published):
    out = publish_run(run.folder, tmp_path / "out") if published else shutil.copytree(run.folder, tmp_path / "out")
    assert verify_run(out).same
    kept = pd.read_parquet(out / CLASSICAL).astype({"pred": str, "target": str})
    row = kept.index[(kept["architecture"] == "svm") & (kept["pred"] == kept["target"])][0]
    kept.loc[row, "pred"] = next(name for name in ("normal", "codocyte") if name != kept.loc[row, "target"])
    kept.to_parquet(out / CLASSICAL, index=False)
    findings = [(finding.table, finding.column) for finding in verify_run(out).findings]
    assert {(CLASSICAL, "digest"), ("classical", "accuracy")} <= set(findings)
    assert main(["verify", str(out)]) == 1


def test_a_run_that_stored_no_classical_predictions_is_told_so(run, tmp_path, capsys):
    old = shutil.copytree(run.folder, tmp_path / "old")
    manifest = run.load_manifest()
    del manifest[CLASSICAL]
    (old / "manifest.json").write_text(json.dumps(manifest))
    (old / CLASSICAL).unlink()
    for folder in (old, publish_run(old, tmp_path / "out")):
        assert main(["verify", str(folder)]) == 0
        said = capsys.readouterr().out
        assert "not recomputed: classical: " in said
        assert "stored no predictions of the classical classifiers" in said


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
        publish_run(tmp_path / "nothing", tmp_path / "out")
    assert not (tmp_path / "out").exists()
    assert main(["publish", str(tmp_path / "nothing"), str(tmp_path / "out")]) == 2
    assert "rbcnb publish: " in capsys.readouterr().err


def test_the_record_of_a_run_is_left_as_it_was(run, tmp_path):
    before = (run.folder / "run.json").read_text()
    publish_run(run.folder, tmp_path / "out")
    assert (run.folder / "run.json").read_text() == before
    assert json.loads(before)["parameters"]["01_segmentation"]["data"] == "/somewhere/chula"
