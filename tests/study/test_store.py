"""A store of trials is listed, merged and pruned without losing a result."""

import dataclasses
import json
import os
import random
import shutil

import numpy as np
import pandas as pd
import pytest

from rbcnb.cli import main
from rbcnb.evaluation.inference import repetitions_of
from rbcnb.evaluation.metrics import score_predictions
from rbcnb.study import store_index
from rbcnb.study.ledger import entry_of
from rbcnb.study.store import (
    checkpoint_of,
    fold_predictions,
    is_unsealed,
    lacks,
    load_curves,
    load_predictions,
    load_record,
    pack_trials,
    predictions_by_method,
    results_table,
    store_failure,
    store_result,
    stored_keys,
    unpack_trials,
    write_record,
)
from rbcnb.study.store_index import store_rows
from rbcnb.training.fit import TrialResult
from rbcnb.training.trial import FIT_VERSION, LATER, Trial
from rbcnb.workflow.results import manage_results, merge_stores, prune_store

TRIAL = Trial(epochs=1, precision="float32")
BROKEN = {"0123456789abcdef.parquet", ".0123456789abcdef.77.part.json"}


def result(trial: Trial, macro_f1: float = 0.5) -> TrialResult:
    return TrialResult(
        trial=trial,
        scores={"macro_f1": macro_f1, "accuracy": 0.75},
        curves=pd.DataFrame({"epoch": [1], "train_loss": [0.5]}),
        predictions=pd.DataFrame({"smear": ["a.png"], "target": ["normal"], "pred": ["normal"]}),
        n_train=10,
        seconds=36.0,
        engine="cpu float32",
        part_size=32,
    )


@pytest.fixture
def store(tmp_path):
    """Two folds, one of which diverged, and a final fit."""
    folder = tmp_path / "run" / "trials"
    store_result(result(TRIAL, 0.5), folder, data="d")
    store_result(result(dataclasses.replace(TRIAL, fold=0), 0.25), folder, data="d")
    diverged = dataclasses.replace(TRIAL, fold=1)
    store_failure(diverged, folder, data="d", error="the training loss became nan in epoch 1", retry=False)
    return folder


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_row_per_trial_with_numbers_where_there_are_any(store):
    rows = store_rows(store).set_index("fold").sort_index()
    assert rows["macro_f1"].tolist() == [0.25, pytest.approx(np.nan, nan_ok=True), 0.5]
    assert rows["error"].str.contains("became nan").tolist() == [False, True, False]
    assert rows["alpha"].dtype == float
    assert set(rows["engine"]) == {"cpu float32", ""}
    assert set(rows["processor"]) == {""}
    key = TRIAL.key("d")
    assert results_table(store, [key])["key"].tolist() == [key]


def test_packed_trials_come_back_and_replace_nothing(store, tmp_path):
    probs = pd.DataFrame({"smear": ["a.png"] * 2, "cell": [0, 1], "target": ["normal"] * 2, "pred": ["normal"] * 2})
    probs = probs.assign(prob_codocyte=[0.0, 1e-30], prob_normal=[1.0, 1 - 1e-9])
    other = dataclasses.replace(TRIAL, seed=1)
    store_result(dataclasses.replace(result(other), predictions=probs), store, data="d")
    packed, again = tmp_path / "packed", tmp_path / "again"
    packed.mkdir()
    keys = [other.key("d"), dataclasses.replace(TRIAL, fold=1).key("d")]
    assert pack_trials(store, keys, packed) == ("predictions.parquet", "trials.parquet")
    assert unpack_trials(packed, again) == 2
    assert sorted(stored_keys(again)) == sorted(keys)
    back = load_predictions(again, keys[0])
    pd.testing.assert_frame_equal(back, probs, check_exact=False, rtol=1e-6, check_dtype=False)
    assert back["prob_codocyte"].tolist() == [0.0, pytest.approx(1e-30, rel=1e-5)]
    mine, theirs = (load_record(place, keys[0]) for place in (store, again))
    assert {**theirs, "digest": 0, "seal": 0} == {**mine, "digest": 0, "seal": 0}
    assert load_record(again, keys[1])["error"].startswith("the training loss became nan")
    before = {path.name: path.stat().st_mtime_ns for path in store.iterdir()}
    assert unpack_trials(packed, store) == 0
    assert {path.name: path.stat().st_mtime_ns for path in store.iterdir()} == before
    (again / f"{keys[0]}.json").unlink()
    assert unpack_trials(packed, again) == 1
    with pytest.raises(FileNotFoundError, match=r"no finished trial 0{16}"):
        pack_trials(store, ["0" * 16], packed)
    with pytest.raises(FileNotFoundError, match=r"no predictions.parquet and trials.parquet in it"):
        unpack_trials(store, again)


@pytest.mark.parametrize(("spread", "dtype"), [(0.2, "float32"), (1e-7, "float64")])
def test_packing_rounds_only_where_no_score_moves(tmp_path, spread, dtype):
    """A network of hardly any training calls all cells alike but for the eighth digit, and AUROC looks at that."""
    rng = np.random.default_rng(0)
    codocyte = 0.4 + spread * rng.random(60)
    probs = pd.DataFrame({"smear": "a.png", "cell": range(60), "target": ["codocyte", "normal"] * 30, "pred": "normal"})
    probs = probs.assign(prob_codocyte=codocyte, prob_normal=1 - codocyte)
    store_result(dataclasses.replace(result(TRIAL), predictions=probs), tmp_path / "store", data="d")
    (tmp_path / "packed").mkdir()
    pack_trials(tmp_path / "store", [TRIAL.key("d")], tmp_path / "packed")
    assert pd.read_parquet(tmp_path / "packed" / "predictions.parquet")["log_codocyte"].dtype == dtype
    unpack_trials(tmp_path / "packed", tmp_path / "again")
    back = load_predictions(tmp_path / "again", TRIAL.key("d"))
    assert score_predictions(back) == pytest.approx(score_predictions(probs), abs=1e-5, nan_ok=True)


def test_folds_of_a_setting_are_put_together(store):
    base = dataclasses.replace(TRIAL, epochs=5, weight_decay=0.1)
    final = dataclasses.replace(base, epochs=3, seed=7)
    table = result(base).predictions
    folds = []
    for trial, smear, data in (
        (final, "test", "d"),
        (dataclasses.replace(base, fold=1), "one", "d"),
        (dataclasses.replace(base, fold=0), "zero", "d"),
        (dataclasses.replace(base, fold=1, learning_rate=0.5), "another setting", "d"),
        (dataclasses.replace(base, fold=2), "other data", "e"),
    ):
        moved = dataclasses.replace(result(trial), predictions=table.assign(smear=smear))
        folds.append(store_result(moved, store, data=data))
    fit, listed = results_table(store, folds[:1]).iloc[0], results_table(store, folds[1:])
    store_result(result(dataclasses.replace(base, fold=0, epochs=9)), store, data="d")  # of a study that is not listed
    assert fold_predictions(fit, listed, store)["smear"].tolist() == ["zero", "one"]
    with pytest.raises(ValueError, match="no whole set of folds"):
        fold_predictions(fit, listed.assign(error="diverged"), store)
    with pytest.raises(ValueError, match="no whole set of folds"):
        fold_predictions(fit, listed.assign(data="other"), store)


def test_outer_splits_of_a_seed_make_one_table_and_repetitions_further_ones(tmp_path):
    """Four outer splits of two folds, cells a and b: twice every cell, by two seeds."""
    for seed in (1, 0):
        for outer, smear in enumerate(["b.png", "a.png", "a.png", "b.png"]):
            fit = result(dataclasses.replace(TRIAL, outer=outer, seed=seed))
            table = fit.predictions.assign(smear=smear, cell=0, pred=f"seed {seed}, split {outer}")
            store_result(dataclasses.replace(fit, predictions=table), tmp_path, data="d")
    rows = store_rows(tmp_path)
    tables = predictions_by_method(rows, tmp_path)["small", "cross_entropy"]
    assert [table["smear"].tolist() for table in tables] == [["a.png", "b.png"]] * 4
    assert [table["pred"].tolist() for table in tables] == [
        [f"seed {seed}, split {first}", f"seed {seed}, split {second}"]
        for seed in (0, 1)
        for first, second in ((1, 0), (2, 3))
    ]
    assert repetitions_of(tables).tolist() == [0, 1, 0, 1]
    once = predictions_by_method(rows[rows["outer"] < 2], tmp_path)["small", "cross_entropy"]
    assert repetitions_of(once).tolist() == [0, 0]
    with pytest.raises(ValueError, match="several settings of one seed"):
        predictions_by_method(pd.concat([rows, rows]), tmp_path)


def test_merging_adds_what_is_lacking_and_prefers_results_to_failures(store, tmp_path):
    other = tmp_path / "other"
    failed_here = dataclasses.replace(TRIAL, fold=0)
    store_failure(failed_here, other, data="d", error="OSError: no disk", retry=True)
    store_result(result(TRIAL, 0.99), other, data="d")
    assert merge_stores([store], other) == 2  # fold 0 in the place of its failure, and fold 1's divergence
    assert load_record(other, failed_here.key("d"))["scores"]["macro_f1"] == 0.25
    assert load_record(other, TRIAL.key("d"))["scores"]["macro_f1"] == 0.99  # its own is kept
    assert merge_stores([store], other) == 0
    assert names(other) == names(store)
    with pytest.raises(FileNotFoundError, match="no such store"):
        merge_stores([tmp_path / "nowhere"], other)


def test_pruning_removes_what_is_named_and_nothing_else(store):
    key = TRIAL.key("d")
    (store / "0123456789abcdef.parquet").write_bytes(b"")  # a half
    (store / ".0123456789abcdef.77.part.json").write_bytes(b"")
    checkpoint_of(store, key).write_bytes(b"")  # of a fit that ended
    checkpoint_of(store, "f" * 16).write_bytes(b"")  # of one that has not
    (store / "notes.txt").write_text("mine")
    theirs = dataclasses.replace(TRIAL, fold=2), dataclasses.replace(TRIAL, fold=3)
    store_result(result(theirs[0]), store, data="d")
    store_failure(theirs[1], store, data="d", error="OSError: no disk", retry=True)
    for path in (store / f"{trial.key('d')}.json" for trial in theirs):  # as the next version may write them
        record = json.loads(path.read_text()) | {"fit_version": "99", "knob": 1}
        del record["seal"]
        write_record(record, store)
    whole = set(names(store)) - BROKEN - {f"{key}.ckpt"}
    assert {path.name for path in prune_store(store, ["torn"])} == {
        *BROKEN,
        f"{key}.ckpt",
    }
    assert set(names(store)) == whole
    with pytest.raises(ValueError, match=f"cannot prune stale; choose from failed, torn, {FIT_VERSION}, 99"):
        prune_store(store, ["stale"])
    assert len(prune_store(store, ["failed"])) == 1
    assert sorted(store_rows(store)["fold"].dropna()) == [0, 2, 3]  # also the failure of the other version
    assert "2 trials have fit version 99" in manage_results([store])
    assert {path.stem for path in prune_store(store, ["99"])} == {trial.key("d") for trial in theirs}
    assert len(prune_store(store, [FIT_VERSION])) == 4
    assert set(names(store)) == {"f" * 16 + ".ckpt", "notes.txt"}


def test_pruning_leaves_every_folder_that_is_no_store_alone(tmp_path):
    mine = {"0123456789abcdef.png", "0123456789abcdef", ".notes.partial", ".a.1f.part.csv", "deadbeef.json"}
    for name in mine:
        (tmp_path / name).write_text("mine")
    (tmp_path / ".parts").mkdir()
    assert prune_store(tmp_path, ["failed", "torn"]) == []
    assert set(names(tmp_path)) == mine | {".parts"}


def test_a_failure_never_takes_the_place_of_a_result(store):
    store_failure(TRIAL, store, data="d", error="OSError: no disk", retry=True)
    assert load_record(store, TRIAL.key("d"))["scores"]["macro_f1"] == 0.5


def test_predictions_cut_short_are_no_result_and_not_merged(store, tmp_path):
    key = TRIAL.key("d")
    whole = (store / f"{key}.parquet").read_bytes()
    for n in (0, 3, len(whole) // 2, len(whole) - 1):
        (store / f"{key}.parquet").write_bytes(whole[:n])
        assert load_record(store, key) is None
    assert merge_stores([store], tmp_path / "other") == 2  # the other two
    assert {path.name for path in prune_store(store, ["torn"])} == {f"{key}.json", f"{key}.parquet"}


def damages(data, other, rng):
    """Ways in which the bytes of a file come to be others."""
    place = rng.randrange(len(data))
    flipped = bytearray(data)
    flipped[place] ^= 1 << rng.randrange(8)
    return [bytes(flipped), data[:place], b"", other, data + data[-20:], data[:place] + data[place + 1 :]]


def test_no_damage_to_a_trials_files_is_read_as_other_numbers(store):
    """Flipped, cut, emptied, swapped, lengthened or shortened: of 402 none gives other predictions or scores."""
    seed = 20
    rng, key, other = random.Random(seed), TRIAL.key("d"), dataclasses.replace(TRIAL, seed=9)
    store_result(dataclasses.replace(result(other, 0.9), curves=result(TRIAL).curves * 2), store, data="d")
    predictions, record = load_predictions(store, key), load_record(store, key)
    n_refused = 0
    for suffix in (".json", ".parquet"):
        path = store / f"{key}{suffix}"
        whole, theirs = path.read_bytes(), (store / f"{other.key('d')}{suffix}").read_bytes()
        for damaged in (damaged for _ in range(67) for damaged in damages(whole, theirs, rng)):
            path.write_bytes(damaged)
            try:
                pd.testing.assert_frame_equal(load_predictions(store, key), predictions)
                assert load_record(store, key) == record, f"seed {seed}"
            except (ValueError, FileNotFoundError):
                n_refused += lacks(store, key)  # it is fitted again
        path.write_bytes(whole)
    assert n_refused >= 335  # where the other trial has the same predictions, swapping them changes nothing
    assert load_record(store, key) == record


def test_trials_of_an_earlier_version_are_sealed_once_and_never_fitted_again(store, capsys):
    good, changed, failed = (
        TRIAL.key("d"),
        dataclasses.replace(TRIAL, seed=3).key("d"),
        dataclasses.replace(TRIAL, fold=1),
    )
    for trial in (TRIAL, dataclasses.replace(TRIAL, seed=3)):
        table = pd.DataFrame({"target": ["normal", "codocyte"] * 4, "pred": ["normal"] * 8, "smear": "a.png"})
        table = table.assign(prob_codocyte=np.linspace(0.1, 0.4, 8), prob_normal=np.linspace(0.9, 0.6, 8))
        fit = dataclasses.replace(result(trial), predictions=table, scores=score_predictions(table))
        store_result(fit, store, data="d")
    before = results_table(store, [good])
    for suffix in (".json", ".parquet"):  # its scores are invented
        (store / f"{dataclasses.replace(TRIAL, fold=0).key('d')}{suffix}").unlink()
    for key in stored_keys(store):
        record = json.loads((store / f"{key}.json").read_text())
        del record["seal"]
        if key == changed:
            record["scores"]["macro_f1"] += 0.1
        (store / f"{key}.json").write_text(json.dumps(record))
    assert is_unsealed(store, good)
    with pytest.raises(ValueError, match=r"run once: rbcnb results .* --seal"):
        load_predictions(store, good)
    assert prune_store(store, ["torn", "failed"]) == []
    assert main(["results", str(store)]) == 0
    assert (
        "3 trials of an earlier version have no digests, and are not read: run --seal once" in capsys.readouterr().out
    )
    assert main(["results", str(store), "--seal"]) == 0
    assert f"2 trials of {store} were given digests; damaged, to be fitted again: {changed}" in capsys.readouterr().out
    pd.testing.assert_frame_equal(results_table(store, [good]), before)
    assert load_record(store, failed.key("d"))["error"]
    record = json.loads((store / f"{good}.json").read_text())
    (store / f"{good}.json").write_text(
        json.dumps({name.replace("seal", "seam"): value for name, value in record.items()})
    )
    assert not is_unsealed(store, good), "a damaged seal makes no earlier version"
    assert lacks(store, good)


@pytest.mark.parametrize("key", ["../x", "/tmp/x", "0123456789abcdeg", "", "0123456789abcdef0"])
def test_a_key_that_is_none_never_becomes_a_path(store, key):
    for read in (load_record, load_predictions, is_unsealed, lacks):
        with pytest.raises(ValueError, match="is not the key of a trial"):
            read(store, key)


def test_a_large_store_is_read_from_its_index_until_a_record_changes(store, monkeypatch):
    monkeypatch.setattr(store_index, "_KEPT_FROM", 2)
    first = store_rows(store)
    (index,) = store.glob(".index.*.parquet")
    monkeypatch.setattr(store_index, "_read_chunk", None)  # nothing is to be read
    pd.testing.assert_frame_equal(store_rows(store), first)
    monkeypatch.undo()
    monkeypatch.setattr(store_index, "_KEPT_FROM", 2)
    store_result(result(TRIAL, 0.125), store, data="d")
    store_result(result(dataclasses.replace(TRIAL, seed=11), 0.75), store, data="d")
    second = store_rows(store)
    assert set(second["macro_f1"].dropna()) - set(first["macro_f1"]) == {0.125, 0.75}
    (index,) = store.glob(".index.*.parquet")
    whole = bytearray(index.read_bytes())
    whole[len(whole) // 2] ^= 1
    index.write_bytes(whole)
    pd.testing.assert_frame_equal(store_rows(store), second)


def test_damaged_and_foreign_records_are_passed_over(store):
    (store / "0123456789abcdef.json").write_text("{")
    record = json.loads((store / f"{TRIAL.key('d')}.json").read_text())
    record["trial"]["knob_of_next_year"] = 1
    (store / "fedcba9876543210.json").write_text(json.dumps(record))
    shutil.copyfile(store / f"{TRIAL.key('d')}.parquet", store / "fedcba9876543210.parquet")
    for i, text in enumerate(('{"error": "no settings"}', "[]", "null", '{"error": "x", "trial": {"epochs": 0}}')):
        (store / f"{i:016x}.json").write_text(text)
    assert len(store_rows(store)) == 3


def test_what_cannot_be_compared_is_not_averaged(store, tmp_path, capsys):
    folder = tmp_path / "more"
    for i, other in enumerate(({"precision": "bf16"}, {"dev_counts": "3/4/9"}, {})):
        store_result(result(dataclasses.replace(TRIAL, **other), 0.1 * i), folder, data="other" if not other else "d")
    assert main(["results", str(store), str(folder)]) == 0
    words = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert words[0][3:6] == ["data", "dev_counts", "precision"]
    finals = {tuple(line[3:6]): (line[7], line[9]) for line in words[1:] if line[6] == "final"}
    assert finals == {
        ("d", "3/4/9", "float32"): ("1", "0.10"),
        ("d", "all", "bf16"): ("1", "0.00"),
        ("d", "all", "float32"): ("1", "0.50"),
        ("other", "all", "float32"): ("1", "0.20"),
    }


def test_copies_of_a_trial_count_once(store, tmp_path):
    other = tmp_path / "copy"
    store_failure(TRIAL, other, data="d", error="OSError: no disk", retry=True)
    merge_stores([store], other)
    assert main(["results", str(store), str(other), "--export", str(tmp_path / "all.csv")]) == 0
    assert len(pd.read_csv(tmp_path / "all.csv")) == 3


def test_a_runs_folder_is_merged_into_where_its_trials_lie(store, tmp_path):
    run = tmp_path / "mine"
    (run / "trials").mkdir(parents=True)
    assert main(["results", str(store), "--merge-into", str(run)]) == 0
    assert names(run / "trials") == names(store)
    assert names(run) == ["trials"]


def test_command_lists_exports_merges_and_prunes(store, tmp_path, capsys):
    assert main(["results", str(store.parent)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == [
        "architecture", "protocol", "method", "fit", "trials", "failed", "macro_f1_mean", "macro_f1_best", "hours",
    ]  # fmt: skip
    assert lines[1].split() == ["small", "paper", "cross_entropy", "final", "1", "0", "0.50", "0.50", "0.01"]
    assert lines[2].split() == ["small", "paper", "cross_entropy", "fold", "2", "1", "0.25", "0.25", "0.01"]
    out = tmp_path / "all.csv"
    assert main(["results", str(store), "--merge-into", str(tmp_path / "one"), "--export", str(out)]) == 0
    assert "3 trials copied" in capsys.readouterr().out
    assert len(pd.read_csv(out)) == 3
    assert main(["results", str(store), "--prune", "failed"]) == 0
    assert "1 files removed" in capsys.readouterr().out
    assert main(["results", str(tmp_path / "nowhere")]) == 2
    assert "no such folder" in capsys.readouterr().err
    assert main(["results", str(store), "--export", "all.xlsx"]) == 2
    assert main(["results", str(store), "--export", str(out)]) == 0  # the same table, as it is now
    for name, text in (("readings.csv", b"smear,cell,label\na.png,1,normal\n"), ("a.parquet", b"no table")):
        (tmp_path / name).write_bytes(text)
        assert main(["results", str(store), "--export", str(tmp_path / name)]) == 2
        assert "is there already, and is no table of trials" in capsys.readouterr().err
        assert (tmp_path / name).read_bytes() == text


@dataclasses.dataclass(frozen=True)
class TrialOfNextYear(Trial):
    """As `Trial` will be once it has another setting."""

    schedule: str = dataclasses.field(default="constant", metadata=LATER)


def test_a_new_setting_leaves_names_records_and_ledger_of_older_trials_alone(store, monkeypatch):
    plain, other = TrialOfNextYear(**TRIAL.settings()), TrialOfNextYear(**TRIAL.settings(), schedule="cosine")
    assert plain.settings() == TRIAL.settings()
    assert other.settings() == TRIAL.settings() | {"schedule": "cosine"}
    assert plain.key("d") == TRIAL.key("d") != other.key("d")
    assert entry_of(plain) == entry_of(TRIAL) != entry_of(other)
    before = store_rows(store)
    monkeypatch.setattr("rbcnb.study.store.Trial", TrialOfNextYear)
    pd.testing.assert_frame_equal(store_rows(store), before)
    store_result(result(other), store, data="d")
    assert store_rows(store)["schedule"].value_counts().to_dict() == {"constant": 3, "cosine": 1}
    curves = load_curves(store, [TRIAL.key("d"), other.key("d")])
    assert curves["schedule"].tolist() == ["constant", "cosine"]


@pytest.mark.parametrize("kind", ["a pipe", "a folder", "deep"])
def test_what_is_no_record_is_a_damaged_one(store, kind):
    key = next(stored_keys(store))
    path = store / f"{key}.json"
    path.unlink()
    if kind == "deep":
        path.write_text('{"a":' * 100_000)
    else:
        (os.mkfifo if kind == "a pipe" else os.mkdir)(path)
    os.mkfifo(store / ".index.0123456789abcdef.parquet")
    assert load_record(store, key) is None
    assert not is_unsealed(store, key)
    assert key not in store_rows(store)["key"].tolist()
    with pytest.raises(ValueError, match="not as they were written"):
        load_predictions(store, key)
