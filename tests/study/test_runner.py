"""A study trains what its store lacks, keeps what it has, and says what failed."""

import dataclasses
import errno
import os

import numpy as np
import pandas as pd
import pytest

from rbcnb.evaluation.metrics import score_predictions
from rbcnb.study import runner
from rbcnb.study.runner import StudyError, mixed_blocks, run_study
from rbcnb.study.store import load_curves, load_predictions, predictions_by_method
from rbcnb.study.store_index import store_rows
from rbcnb.training.splits import assign_splits
from rbcnb.training.trial import Trial, expand_grid

FAST = Trial(epochs=2)


@pytest.fixture
def split_data(data):
    cells, crops = data
    return assign_splits(cells, protocol="paper", seed=0), crops


def run(trials, split_data, store, *, jobs=1):
    lines = []
    return run_study(trials, *split_data, store, jobs=jobs, say=lines.append), lines


def test_a_second_study_trains_nothing_and_returns_the_same(split_data, tmp_path):
    trials = expand_grid(FAST, fold=range(2))
    first, lines = run(trials, split_data, tmp_path)
    assert lines[-1] == "study: 2 trials, 2 trained, 0 taken from the store"
    written = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    second, lines = run([*trials, trials[0]], split_data, tmp_path)
    assert lines[-1] == "study: 2 trials, 0 trained, 2 taken from the store"
    assert written == {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    pd.testing.assert_frame_equal(first, second.iloc[:2])
    assert second["key"].tolist() == [*first["key"], first["key"][0]]


def test_other_data_is_another_trial(split_data, tmp_path):
    cells, crops = split_data
    run([FAST], split_data, tmp_path)
    _, lines = run([FAST], (cells, 255 - crops), tmp_path)
    assert lines[-1].startswith("study: 1 trials, 1 trained")


@pytest.mark.slow
def test_results_do_not_depend_on_how_many_run_side_by_side(split_data, tmp_path):
    trials = expand_grid(FAST, fold=range(3))
    alone, _ = run(trials, split_data, tmp_path / "one", jobs=1)
    together, _ = run(trials, split_data, tmp_path / "two", jobs=2)
    pd.testing.assert_frame_equal(alone.drop(columns="seconds"), together.drop(columns="seconds"), check_exact=True)
    for key in alone["key"]:
        ours, theirs = (load_predictions(tmp_path / name, key) for name in ("one", "two"))
        pd.testing.assert_frame_equal(ours, theirs, check_exact=True)


def test_rows_can_be_recomputed_from_the_stored_predictions(split_data, tmp_path):
    rows, _ = run([dataclasses.replace(FAST, fold=0)], split_data, tmp_path)
    row = rows.iloc[0]
    scores = score_predictions(load_predictions(tmp_path, row["key"]))
    assert {name: row[name] for name in scores} == pytest.approx(scores, nan_ok=True)


def test_curves_carry_the_settings(split_data, tmp_path):
    focal = Trial(loss="focal", alpha=0.5, gamma=2.0, epochs=2)
    rows, _ = run([dataclasses.replace(FAST, fold=0), dataclasses.replace(focal, fold=0)], split_data, tmp_path)
    curves = load_curves(tmp_path, list(rows["key"]))
    assert curves.groupby("method", sort=False)["epoch"].apply(list).to_dict() == {
        "cross_entropy": [1, 2],
        "focal": [1, 2],
    }
    assert curves.loc[curves["method"] == "focal", "alpha"].tolist() == [0.5, 0.5]
    assert curves["alpha"].dtype == float
    with pytest.raises(FileNotFoundError, match="no finished trial beefbeefbeefbeef"):
        load_curves(tmp_path, ["beefbeefbeefbeef"])


def test_what_a_killed_study_left_behind_is_made_again(split_data, tmp_path):
    trials = expand_grid(FAST, fold=range(2))
    first, _ = run(trials, split_data, tmp_path)
    lost, torn = first["key"]
    os.remove(tmp_path / f"{lost}.parquet")
    record = tmp_path / f"{torn}.json"
    record.write_text(record.read_text()[:40])  # a disk that lied
    second, lines = run(trials, split_data, tmp_path)
    assert lines[-1] == "study: 2 trials, 2 trained, 0 taken from the store"
    pd.testing.assert_frame_equal(first.drop(columns="seconds"), second.drop(columns="seconds"), check_exact=True)


def test_a_failing_trial_is_a_row_and_the_others_are_kept(split_data, tmp_path, monkeypatch):
    flaky = dataclasses.replace(FAST, fold=0)
    fit = runner.run_trial

    def fails_on_folds(trial, *data, **options):
        if trial.fold is not None:
            raise OSError("the disk is away")
        return fit(trial, *data, **options)

    monkeypatch.setattr(runner, "run_trial", fails_on_folds)
    with pytest.raises(StudyError, match=r"1 of 2 trials failed(.|\n)*fold=0(.|\n)*OSError: the disk is away"):
        run([flaky, FAST], split_data, tmp_path)
    rows = store_rows(tmp_path).sort_values("fold")
    assert rows["error"].tolist() == ["OSError: the disk is away", ""]
    _, lines = run([FAST], split_data, tmp_path)
    assert lines[-1] == "study: 1 trials, 0 trained, 1 taken from the store"
    # Unlike a fit that diverged, one that failed by chance is tried again.
    monkeypatch.setattr(runner, "run_trial", fit)
    rows, lines = run([flaky, FAST], split_data, tmp_path)
    assert lines[-1] == "study: 2 trials, 1 trained, 1 taken from the store"
    assert rows["error"].tolist() == ["", ""]


def test_a_result_of_another_study_is_not_lost_to_a_failure(split_data, tmp_path, monkeypatch):
    fit, scores = runner.run_trial, []

    def beaten(*_data, **_options):
        monkeypatch.setattr(runner, "run_trial", fit)
        rows, _ = run([FAST], split_data, tmp_path)  # another study, of the same store, is done first
        scores.append(rows["macro_f1"][0])
        raise OSError("no memory for the two of us")

    monkeypatch.setattr(runner, "run_trial", beaten)
    with pytest.raises(StudyError, match="no memory for the two of us"):
        run([FAST], split_data, tmp_path)
    rows, lines = run([FAST], split_data, tmp_path)
    assert lines[-1].endswith("0 trained, 1 taken from the store")
    assert rows["macro_f1"].tolist() == scores


def test_a_store_that_cannot_be_written_to_is_said_before_anything_is_trained(split_data, tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setattr(runner, "run_trial", lambda *_, **__: pytest.fail("trained in vain"))
    with pytest.raises(StudyError, match=r"file/trials: cannot be written to \(Not a directory\); .* another store"):
        run([FAST], split_data, tmp_path / "file" / "trials")


def test_a_disk_that_fills_up_stops_nothing_and_is_told(split_data, tmp_path, monkeypatch):
    def full(*_, **__):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(runner, "store_result", full)
    monkeypatch.setattr(runner, "store_failure", full)
    with pytest.raises(StudyError, match=r"2 of 2 trials failed(.|\n)*No space left(.|\n)*cannot be written to"):
        run(expand_grid(FAST, fold=range(2)), split_data, tmp_path)


@pytest.mark.slow
def test_a_worker_that_dies_ends_the_study_with_a_mend(split_data, tmp_path, monkeypatch):
    monkeypatch.setattr(runner, "_work", lambda *_: os._exit(9))
    with pytest.raises(StudyError, match=r"worker process died.* fewer jobs than 2"):
        run(expand_grid(FAST, fold=range(2)), split_data, tmp_path, jobs=2)


def test_a_fit_that_diverges_on_a_fold_is_a_result_and_a_final_one_an_error(split_data, tmp_path):
    wild = dataclasses.replace(FAST, learning_rate=1e30, fold=0)
    rows, lines = run([wild, dataclasses.replace(FAST, fold=0)], split_data, tmp_path)
    assert "became" in rows["error"][0]
    assert rows["error"][1] == ""
    assert rows["macro_f1"].isna().tolist() == [True, False]
    assert lines[-1] == "study: 1 of 2 fits diverged; their settings are out"
    assert load_curves(tmp_path, list(rows["key"]))["key"].unique().tolist() == [rows["key"][1]]
    _, lines = run([wild], split_data, tmp_path)
    assert lines[0] == "study: 1 trials, 0 trained, 1 taken from the store"
    with pytest.raises(StudyError, match="training loss became"):
        run([dataclasses.replace(wild, fold=None)], split_data, tmp_path)


def test_predictions_pair_by_seed(split_data, tmp_path):
    rows, _ = run([dataclasses.replace(FAST, seed=seed) for seed in (1, 0)], split_data, tmp_path)
    tables = predictions_by_method(rows, tmp_path)
    by_seed = rows.sort_values("seed")["key"]
    assert list(tables) == [("small", "cross_entropy")]
    for table, key in zip(tables["small", "cross_entropy"], by_seed, strict=True):
        pd.testing.assert_frame_equal(table, load_predictions(tmp_path, key))
    with pytest.raises(ValueError, match="several settings of one seed"):
        predictions_by_method(pd.concat([rows, rows]), tmp_path)


def test_a_block_that_two_machines_computed_is_named():
    rows = pd.DataFrame(
        [
            {"architecture": "small", "outer": outer, "seed": seed, "method": method, "engine": "cpu bf16"}
            for outer in (0, 1) for seed in (0, 1) for method in ("focal", "cross_entropy")
        ]
    ).assign(processor="EPYC")  # fmt: skip
    assert mixed_blocks(rows).empty
    assert mixed_blocks(rows.assign(processor=np.nan)).empty  # of before it was written down
    rows.loc[(rows["outer"] == 1) & (rows["seed"] == 0) & (rows["method"] == "focal"), "processor"] = "Xeon"
    rows.loc[(rows["outer"] == 0) & (rows["seed"] == 1), "processor"] = "Xeon"  # a whole block elsewhere is fair
    assert mixed_blocks(rows)[["outer", "seed", "kinds"]].to_numpy().tolist() == [[1, 0, 2]]
    rows.loc[0, "engine"] = "cpu float32"
    assert len(mixed_blocks(rows)) == 2


def test_fits_of_a_block_are_computed_side_by_side(split_data, tmp_path, monkeypatch):
    """So that a study that is stopped leaves no block half done, which another machine would then finish."""
    order = []

    def never(_work, items, **_):
        order.extend(trial for trial, _ in items)
        yield from ()

    monkeypatch.setattr(runner, "run_all", never)
    plain = expand_grid(FAST, seed=range(3))
    focal = [dataclasses.replace(trial, loss="focal", alpha=1.0, gamma=2.0) for trial in plain]
    with pytest.raises(KeyError):  # of results that nobody computed
        run(plain + focal, split_data, tmp_path)
    assert [trial.seed for trial in order] == [0, 0, 1, 1, 2, 2]
