from dataclasses import asdict, replace

import numpy as np
import pandas as pd
import pytest
import torch

from rbcnb.columns import BORDER, CELL, CLASSES, CROP, RADIUS, SMEAR, X, Y, prob_columns
from rbcnb.counting.model_file import load_model
from rbcnb.evaluation.calibration import apply_temperature
from rbcnb.evaluation.metrics import score_predictions
from rbcnb.segmentation.finder_net import load_finder
from rbcnb.segmentation.segment import FinderSpec
from rbcnb.study.runner import run_study
from rbcnb.study.store import load_predictions
from rbcnb.training.splits import assign_splits
from rbcnb.training.trial import Trial
from rbcnb.workflow.model_export import (
    choose_trial,
    export_model,
    fit_networks,
    held_out_predictions,
    stored_predictions,
)
from rbcnb.workflow.run import Run

TRIAL = Trial(epochs=2, protocol="honest", learning_rate=0.01, precision="float32")


@pytest.fixture
def one_thread():
    """A trial computes with one thread; with more, sums come in another order."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def run(tmp_path, data):
    """A run after notebook 04: cells found, labelled and split."""
    cells, crops = data
    here = Run.at(tmp_path / "run", seed=0)
    found = cells[[SMEAR, CELL, CROP]].assign(**{X: 20.0, Y: 20.0, RADIUS: 8.0, BORDER: cells[CELL] == 0})
    here.save_csv(found, "cells")
    here.save_crops(crops)
    here.save_csv(pd.DataFrame({SMEAR: sorted(set(cells[SMEAR])), "diameter_px": 16.0}), "smears")
    here.save_json(asdict(FinderSpec(upscale="none", size_px=16)), "finder")
    here.save_csv(assign_splits(cells, protocol="honest", seed=0, n_folds=2), "splits_honest")
    return here


@pytest.mark.usefixtures("one_thread")
def test_an_exported_model_predicts_bit_for_bit_what_the_study_stored(run):
    cells, crops = run.load_csv("splits_honest"), run.load_crops()
    results = run_study([TRIAL], cells, crops, run.store, jobs=1)
    (run.folder / "data_card.md").write_text("Ten smears of grey squares.", encoding="utf-8")
    model = load_model(export_model(run, TRIAL, cells, jobs=1))
    stored = load_predictions(run.store, results["key"].item())
    ours = held_out_predictions(model.network, TRIAL, cells, crops)
    pd.testing.assert_frame_equal(ours, stored, check_exact=True)
    pd.testing.assert_frame_equal(stored_predictions(TRIAL, results, run.store), stored)
    with pytest.raises(ValueError, match="not among the results"):
        stored_predictions(replace(TRIAL, seed=5), results, run.store)

    card = model.card
    assert card.classes == CLASSES
    expected = score_predictions(stored)
    assert card.scores == {name: None if np.isnan(value) else value for name, value in expected.items()}
    assert card.trial == TRIAL.settings()
    assert FinderSpec(**card.finder) == FinderSpec(upscale="none", size_px=16)
    assert card.finder_weights == ""
    assert card.data_card == "Ten smears of grey squares."
    assert card.data == results["data"].item()
    assert card.look["n_smears"] == 10
    # The confusion is of whole out-of-fold cells alone: every dev cell but the first of each smear, once.
    assert np.sum(card.confusion) == ((cells["split"] == "dev") & (cells[CELL] > 0)).sum()


@pytest.mark.usefixtures("one_thread")
def test_what_the_card_says_of_certainty_is_out_of_fold(run):
    cells, crops = run.load_csv("splits_honest"), run.load_crops()
    folds = [replace(TRIAL, fold=fold) for fold in range(2)]
    stored = pd.concat(
        load_predictions(run.store, key) for key in run_study(folds, cells, crops, run.store, jobs=1)["key"]
    )
    card = load_model(export_model(run, TRIAL, cells, jobs=1)).card
    stored = stored[stored[CELL] > 0]
    sure = apply_temperature(stored, card.temperature)[prob_columns(CLASSES)].max(axis=1)
    assert np.mean(sure >= card.threshold) == pytest.approx(card.sure["sure"])


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("changes", [{"method": "learned"}, {"white_cells": False}])
def test_the_card_names_the_weights_that_found_the_cells(run, changes):
    cells = run.load_csv("splits_honest")
    run.save_json(asdict(FinderSpec(upscale="none", size_px=16, **changes)), "finder")
    card = load_model(export_model(run, replace(TRIAL, epochs=1), cells, jobs=1)).card
    assert card.finder_weights == load_finder().digest
    run.save_json(asdict(FinderSpec()) | {"sixth_sense": 1}, "finder")
    with pytest.raises(ValueError, match=r"finder\.json: .*of another version .* notebook 01"):
        export_model(run, TRIAL, cells)


def test_networks_are_kept_and_not_fitted_again(run, monkeypatch):
    cells, crops = run.load_csv("splits_honest"), run.load_crops()
    first = fit_networks([TRIAL], cells, crops, run.folder / "models", jobs=1)[0]
    monkeypatch.setattr("rbcnb.workflow.model_export.run_trial", lambda *_, **__: pytest.fail("fitted again"))
    again = fit_networks([TRIAL], cells, crops, run.folder / "models", jobs=1)[0]
    assert all(torch.equal(a, b) for a, b in zip(first.state_dict().values(), again.state_dict().values(), strict=True))


def test_the_setting_is_chosen_by_the_folds_of_its_protocol():
    settings = pd.DataFrame([asdict(replace(TRIAL, learning_rate=rate)) for rate in (0.1, 0.2, 0.3)])
    settings["protocol"] = ["paper", "honest", "honest"]
    settings["valid_macro_f1"] = [0.9, 0.6, 0.7]
    chosen = choose_trial(settings, protocol="honest", seed=4)
    assert chosen == replace(TRIAL, learning_rate=0.3, seed=4)
