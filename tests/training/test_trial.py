"""A trial is a function of its settings and data: expanded, keyed, run and repeated."""

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from rbcnb.columns import DEV, FOLD, LABEL, SPLIT, TEST
from rbcnb.evaluation.metrics import score_predictions
from rbcnb.losses.imbalanced import build_loss
from rbcnb.training.fit import hash_data, run_trial
from rbcnb.training.resampling import training_rows
from rbcnb.training.splits import assign_splits
from rbcnb.training.trial import Trial, expand_grid

RESULTS = Path(__file__).parents[2] / "results"
FAST = Trial(epochs=2)


@pytest.fixture
def split_data(data):
    cells, crops = data
    return assign_splits(cells, protocol="honest", seed=0), crops


def test_grid_is_the_product_of_its_axes():
    base = Trial(loss="focal", alpha=1.0, gamma=2.0)
    grid = expand_grid(base, alpha=(0.5, 1.0), fold=range(3))
    assert [(t.alpha, t.fold) for t in grid] == [(0.5, 0), (0.5, 1), (0.5, 2), (1.0, 0), (1.0, 1), (1.0, 2)]
    assert all(dataclasses.replace(t, alpha=1.0, fold=None) == base for t in grid)
    with pytest.raises(ValueError, match=r"unknown trial fields \['beta'\]"):
        expand_grid(base, beta=[1])


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"resample": "smote"}, "resample must be one of"),
        ({"alpha": 1.0}, "alpha and gamma belong to the focal loss"),
        ({"loss": "focal"}, "alpha and gamma belong to the focal loss"),
        ({"epochs": 0}, "epochs must be at least 1"),
        ({"learning_rate": 0.0}, "learning_rate must be positive"),
        ({"learning_rate": float("nan")}, "learning_rate must be positive"),
        ({"learning_rate": -1}, "learning_rate must be positive and finite, got -1.0"),
        ({"learning_rate": float("inf")}, "learning_rate must be positive and finite, got inf"),
        ({"learning_rate": "fast"}, "learning_rate must be a number, got 'fast'"),
        ({"learning_rate": None}, "learning_rate must be a number, got None"),
        ({"weight_decay": -0.1}, "weight_decay must be finite and at least 0"),
        ({"weight_decay": float("nan")}, "weight_decay must be finite and at least 0, got nan"),
        ({"label_smoothing": 1.5}, r"label_smoothing must lie in \[0, 1\), got 1.5"),
        ({"label_smoothing": float("nan")}, r"label_smoothing must lie in \[0, 1\), got nan"),
        ({"batch_size": 0}, "batch_size must be at least 1, got 0"),
        ({"epochs": 1.5}, "epochs must be a whole number, got 1.5"),
        ({"seed": -1}, "seed must be at least 0, got -1"),
        ({"seed": float("nan")}, "seed must be a whole number, got nan"),
        ({"fold": -1}, "fold must be at least 0, got -1"),
        ({"outer": -1}, "outer must be at least 0, got -1"),
        ({"pretrained": "false"}, "pretrained must be True or False, got 'false'"),
        ({"architecture": ["small"]}, r"architecture must be a text, got \['small'\]"),
        ({"loss": "focal", "alpha": float("nan"), "gamma": 2}, "alpha must be positive and finite, got nan"),
        ({"loss": "focal", "alpha": 1, "gamma": float("inf")}, "gamma must be finite and at least 0, got inf"),
        ({"label_smoothing": 1.0}, r"label_smoothing must lie in \[0, 1\)"),
        ({"loss": "ldam", "label_smoothing": 0.1}, "label_smoothing belongs to cross_entropy and focal"),
        ({"dev_counts": "71/2691/"}, "dev_counts must be numbers like 71/71/2691"),
        ({"precision": "fp8"}, "precision must be one of"),
        ({"schedule": "step"}, r"schedule must be one of \('constant', 'cosine', 'warm_cosine'\)"),
        ({"augment": "mixup"}, r"augment must be one of \('none', 'flips_turns'\)"),
        ({"loss": "focal", "alpha": -1, "gamma": 2}, "alpha must be positive and finite, got -1.0"),
        ({"loss": "focal", "alpha": 1, "gamma": -2}, "gamma must be finite and at least 0"),
    ],
)
def test_impossible_settings_are_named(wrong, message):
    with pytest.raises(ValueError, match=message):
        Trial(**wrong)


FIRST_VERSION = "96028228e9a71178"  # of the first trials that were published


def test_keys_stay_what_they_are():
    """A store of trials is worth days of work, and is found by these names on every machine and version of Python."""
    trial = Trial(loss="focal", alpha=0.25, gamma=2.0, resample="over", fold=1, dev_counts="9/9/90", precision="bf16")
    assert Trial().key("d") == "f3421a24d7946175"
    assert trial.key("d") == "4ee4d091969181bf"
    assert Trial().key("d", fit_version="2") == "44c81e0a7a435b22"
    assert trial.key("d", fit_version="2") == "c4c74dc58ff16a64"
    assert Trial().key("d", fit_version=FIRST_VERSION) == "0c5f95e14b447745"
    assert trial.key("d", fit_version=FIRST_VERSION) == "c83f01ee23b2bc33"


@pytest.mark.parametrize("folder", sorted(path.parent.name for path in RESULTS.glob("*/trials.parquet")))
def test_keys_of_committed_results_are_those_of_their_settings(folder):
    table = pd.read_parquet(RESULTS / folder / "trials.parquet")
    records = [json.loads(text) for text in table["record"]]
    assert records
    versions = [record.get("fit_version", FIRST_VERSION) for record in records]
    trials = [Trial(**record["trial"]) for record in records]
    data = [record["data"] for record in records]
    keys = [trial.key(mark, fit_version=version) for trial, mark, version in zip(trials, data, versions, strict=True)]
    assert table["key"].tolist() == keys


def test_key_depends_on_every_field_and_on_the_data():
    base = Trial(loss="focal", alpha=1.0, gamma=2.0)
    others = {
        "architecture": "resnet18", "alpha": 0.5, "gamma": 1.0, "resample": "over", "learning_rate": 0.1,
        "schedule": "cosine", "augment": "flips_turns",
        "weight_decay": 0.1, "batch_size": 8, "epochs": 3, "pretrained": True, "seed": 1, "fold": 0,
        "protocol": "honest", "outer": 2, "dev_counts": "9/9/90", "precision": "bf16",
        "label_smoothing": 0.1,
    }  # fmt: skip
    keys = {dataclasses.replace(base, **{name: value}).key("d") for name, value in others.items()}
    assert len(keys | {base.key("d"), base.key("e"), Trial().key("d")}) == len(others) + 3
    assert base.key("d") == dataclasses.replace(base).key("d")


def test_equal_trials_have_one_key():
    """Whether a setting came from YAML as 1, from a table as 1.0 or from numpy."""
    base = Trial(loss="focal", alpha=1.0, gamma=2.0, fold=1, weight_decay=0.0)
    same = Trial(loss="focal", alpha=1, gamma=np.float64(2), fold=np.int64(1), weight_decay=0)
    assert base == same
    assert base.key("d") == same.key("d")


def test_data_hash_sees_labels_splits_and_pixels(split_data):
    cells, crops = split_data
    before = hash_data(cells, crops)
    assert hash_data(cells.copy(), crops.copy()) == before
    changed = crops.copy()
    changed[3, 0, 0, 0] ^= 1
    assert hash_data(cells, changed) != before
    for column, value in (("label", "sphere"), ("group", "elsewhere"), ("split", "unused"), ("fold", 9), ("cell", 999)):
        other = cells.assign(**{column: cells[column].where(cells.index != 7, value)})
        assert hash_data(other, crops) != before, column


def test_rows_never_overlap_and_final_fits_hold_out_the_test_set(split_data):
    cells, _ = split_data
    for fold in range(5):
        train, held_out = training_rows(Trial(fold=fold), cells)
        assert not set(train) & set(held_out)
        assert (cells[SPLIT].iloc[train] == DEV).all()
        assert (cells[FOLD].iloc[held_out] == fold).all()
    train, held_out = training_rows(Trial(), cells)
    assert (cells[SPLIT].iloc[train] == DEV).all()
    assert (cells[SPLIT].iloc[held_out] == TEST).all()
    with pytest.raises(ValueError, match="nothing to score in fold 7"):
        training_rows(Trial(fold=7), cells)


def test_rungs_of_a_seed_are_nested_and_another_seed_draws_others(split_data):
    cells, _ = split_data
    many, some, few = (training_rows(Trial(dev_counts=rung), cells) for rung in ("5/6/90", "5/6/20", "3/3/20"))
    assert set(few[0]) < set(some[0]) < set(many[0])
    assert cells[LABEL].iloc[many[0]].value_counts().to_dict() == {"codocyte": 5, "hypochromia": 6, "normal": 90}
    for _, held_out in (many, some, few):
        assert (cells[SPLIT].iloc[held_out] == TEST).all()
        assert len(held_out) == (cells[SPLIT] == TEST).sum()
    assert set(training_rows(Trial(dev_counts="5/6/90", seed=1), cells)[0]) != set(many[0])
    train, held_out = training_rows(Trial(dev_counts="5/6/90", fold=0), cells)
    assert set(train) | set(held_out) == set(many[0])
    for wrong in ("5/6", "5/6/999"):
        with pytest.raises(ValueError, match=rf"dev_counts {wrong} cannot be drawn from the dev cells, \d+ codocyte"):
            training_rows(Trial(dev_counts=wrong), cells)


def test_a_trial_learns_and_predicts_exactly_what_it_held_out(split_data):
    cells, crops = split_data
    result = run_trial(dataclasses.replace(FAST, fold=0, epochs=15, learning_rate=0.01), cells, crops)
    held_out = cells[cells[FOLD] == 0]
    pd.testing.assert_frame_equal(
        result.predictions[["smear", "cell"]], held_out[["smear", "cell"]].reset_index(drop=True)
    )
    assert result.predictions["target"].tolist() == held_out[LABEL].tolist()
    probabilities = result.predictions.filter(like="prob_")
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-12)
    assert result.scores == score_predictions(result.predictions)
    assert result.scores["macro_f1"] > 0.8  # three levels of grey
    assert result.curves["train_loss"].iloc[-1] < result.curves["train_loss"].iloc[0]
    assert result.n_train == len(cells[(cells[SPLIT] == DEV) & (cells[FOLD] != 0)])


def test_same_seed_same_numbers_and_the_callers_generator_is_left_alone(split_data):
    cells, crops = split_data
    torch.manual_seed(123)
    before = torch.get_rng_state()
    first, second = (run_trial(FAST, cells, crops) for _ in range(2))
    assert torch.equal(before, torch.get_rng_state())
    pd.testing.assert_frame_equal(first.predictions, second.predictions, check_exact=True)
    pd.testing.assert_frame_equal(first.curves, second.curves, check_exact=True)
    other = run_trial(dataclasses.replace(FAST, seed=1), cells, crops)
    assert not other.predictions.equals(first.predictions)


@pytest.mark.parametrize("resample", ["none", "under", "over", "over_equal"])
def test_a_seed_pairs_initial_weights_order_and_augmentation_across_losses(split_data, resample):
    """With steps too small to move a weight, predictions tell the initial weights and, through the running means of
    batch norm, the cells of each batch, their order and augmentation."""
    cells, crops = split_data
    still = Trial(epochs=1, learning_rate=1e-30, resample=resample, fold=0, seed=5)
    losses = [{"loss": "focal", "alpha": 0.5, "gamma": 2.0}, {"loss": "ldam"}, {"label_smoothing": 0.1}]
    first = run_trial(still, cells, crops).predictions
    for loss in losses:
        other = run_trial(dataclasses.replace(still, **loss), cells, crops).predictions
        pd.testing.assert_frame_equal(first, other, check_exact=True)
    assert not run_trial(dataclasses.replace(still, seed=6), cells, crops).predictions.equals(first)


def test_a_loss_is_told_the_training_cells_of_its_rung(split_data, monkeypatch):
    cells, crops = split_data
    counts_seen = []
    monkeypatch.setattr(
        "rbcnb.training.learner.build_loss",
        lambda *name, class_counts, **settings: (
            counts_seen.append(class_counts) or build_loss(*name, class_counts=class_counts, **settings)
        ),
    )
    counts = {"dev_counts": "3/4/90", "epochs": 1}
    run_trial(Trial(loss="logit_adjustment", **counts), cells, crops)
    run_trial(Trial(loss="logit_adjustment", resample="under", **counts), cells, crops)
    assert counts_seen == [[3, 4, 90], [3, 3, 3]]


def test_equal_steps_take_as_many_cells_as_the_plain_fit(split_data):
    cells, crops = split_data
    plain, over, equal = (
        run_trial(Trial(epochs=1, resample=name), cells, crops) for name in ("none", "over", "over_equal")
    )
    assert equal.n_train == plain.n_train < over.n_train


@pytest.mark.parametrize(("resample", "size"), [("under", min), ("over", max)])
def test_resampling_touches_the_training_cells_only(split_data, resample, size):
    cells, crops = split_data
    result = run_trial(dataclasses.replace(FAST, resample=resample, fold=1), cells, crops)
    train = cells[(cells[SPLIT] == DEV) & (cells[FOLD] != 1)]
    assert result.n_train == 3 * size(train[LABEL].value_counts())
    assert len(result.predictions) == (cells[FOLD] == 1).sum()


def test_table_and_crops_must_fit(split_data):
    cells, crops = split_data
    with pytest.raises(ValueError, match="200 cells but 199 crops"):
        run_trial(FAST, cells, crops[1:])


def test_planning_needs_no_torch():
    code = (
        "import sys, rbcnb.training.trial, rbcnb.study.protocols, rbcnb.study.runner; sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
