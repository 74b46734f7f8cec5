"""Hand-made features tell what they are named for; classical classifiers are tuned without a look at the test set."""

import numpy as np
import pandas as pd
import pytest
from conftest import make_cells

from rbcnb.columns import CLASSES, LABEL, SPLIT, TEST
from rbcnb.evaluation.inference import paired_macro_f1
from rbcnb.study.classical import (
    BARE,
    MAJORITY,
    RESAMPLERS,
    beside_networks,
    classical_table,
    fit_classical,
    tune_classical,
)
from rbcnb.study.features import cell_features
from rbcnb.study.ladder import BASE_RHO
from rbcnb.study.tables import majority_baseline
from rbcnb.training.splits import assign_splits

SIZE = 48


def disc(radii: tuple[float, float], *, pallor: float = 0.0) -> np.ndarray:
    """A dark ellipse on a pale field, uint8 [S, S, 3], with a pale middle of radius *pallor*."""
    y, x = np.mgrid[:SIZE, :SIZE] - (SIZE - 1) / 2
    grey = np.where((x / radii[0]) ** 2 + (y / radii[1]) ** 2 <= 1, 90.0, 220.0)
    grey[np.hypot(x, y) < pallor] = 220.0
    return np.repeat(grey[..., None], 3, axis=2).astype(np.uint8)


def test_shape_features_are_those_of_the_ellipse():
    table = cell_features(np.stack([disc((16, 16)), disc((20, 10)), disc((16, 16), pallor=6)]))
    assert table["area"].tolist() == pytest.approx([np.pi * r / SIZE**2 for r in (256, 200, 256 - 36)], rel=0.02)
    assert table["eccentricity"].tolist() == pytest.approx([0, np.sqrt(1 - 0.25), 0], abs=0.05)
    assert table["hole"].tolist() == pytest.approx([0, 0, 36 / 256], abs=0.01)
    assert table["ring_0"].tolist() == pytest.approx([90 / 255, 90 / 255, 220 / 255], abs=1e-6)
    assert table.notna().all(axis=None)


def test_shape_is_that_of_the_turned_and_mirrored_cell_and_texture_keeps_to_its_sum():
    cell = disc((20, 10), pallor=5)
    table = cell_features(np.stack([cell, np.rot90(cell), cell[:, ::-1]]))
    for position in (1, 2):
        np.testing.assert_allclose(table.iloc[0], table.iloc[position], rtol=1e-6, atol=1e-9)
    for radius in (1, 2):
        assert table.filter(regex=f"lbp_{radius}_").sum(axis=1).tolist() == pytest.approx([1, 1, 1])
    flat = cell_features(np.full((1, SIZE, SIZE, 3), 128, np.uint8))
    assert np.isfinite(flat.to_numpy()).all()
    assert flat["glcm_contrast_1"][0] == 0


@pytest.fixture(scope="module")
def made():
    """Cells of three greys and their features: the mean of the crop, and noise."""
    cells, crops = make_cells({"codocyte": 30, "hypochromia": 40, "normal": 160}, n_smears=10)
    features = pd.DataFrame({"grey": crops.mean(axis=(1, 2, 3)), "noise": np.random.default_rng(0).normal(size=230)})
    return features, assign_splits(cells, protocol="honest", seed=0, n_folds=3)


@pytest.mark.slow
def test_every_pair_is_tuned_and_predicts_the_test_cells_as_trials_do(made):
    features, cells = made
    chosen = tune_classical(features, cells, protocol="honest", seed=0, n_tries=2, classifiers=["knn", "svm"])
    fits = fit_classical(features, cells, chosen, seeds=[0, 1])
    table = classical_table(fits)
    assert len(table) == 2 * (1 + 2 * len(RESAMPLERS))
    assert table["architecture"].tolist()[:2] == [MAJORITY, MAJORITY]
    assert (table.loc[table["architecture"] != MAJORITY, "macro_f1"] > 0.9).all()
    assert table["macro_f1"][0] == pytest.approx(majority_baseline(cells)["macro_f1"][0])
    test = cells[cells[SPLIT] == TEST]
    for fit in fits:
        table = fit.predictions
        assert table[["smear", "cell"]].to_numpy().tolist() == test[["smear", "cell"]].to_numpy().tolist()
        assert table["target"].tolist() == test[LABEL].tolist()
        np.testing.assert_allclose(table[[f"prob_{name}" for name in CLASSES]].sum(axis=1), 1, atol=1e-6)
    same = [fit.predictions for fit in fits if (fit.choice.classifier, fit.choice.resampling) == ("knn", BARE)]
    assert paired_macro_f1(same, same, seed=0).mean == 0


def test_what_is_chosen_and_learnt_does_not_depend_on_the_test_cells(made):
    features, cells = made
    options = {"protocol": "honest", "seed": 0, "n_tries": 3, "classifiers": ["knn"], "resamplings": ["smote"]}
    test = (cells[SPLIT] == TEST).to_numpy()
    moved = features.copy()
    moved.loc[test, "grey"] += 500.0  # would shift the scaling, if that saw it
    first, second = (tune_classical(table, cells, **options)[1] for table in (features, moved))
    assert first.settings == second.settings
    (fit,) = fit_classical(moved, cells, [second], seeds=[0])
    assert (fit.predictions["pred"] == fit.predictions["pred"].iloc[0]).all()  # far beyond the brightest class
    with pytest.raises(ValueError, match="11 tries, but knn has 10 different settings"):
        tune_classical(features, cells, **{**options, "n_tries": 11})
    with pytest.raises(ValueError, match="229 rows of features but 230 cells"):
        tune_classical(features[1:], cells, **options)
    with pytest.raises(ValueError, match="229 rows of features but 230 cells"):
        fit_classical(features[1:], cells, [second], seeds=[0])


def test_networks_stand_below_in_the_same_columns(made):
    features, cells = made
    choices = tune_classical(features, cells, protocol="honest", seed=0, n_tries=1, classifiers=[])
    fits = fit_classical(features, cells, choices, seeds=[0])
    scores = {"accuracy": 0.9, "macro_f1": 0.8, "auroc": 0.7, "balanced_macro_f1": 0.6}
    network = {"architecture": "small", "method": "focal", "seed": 0, "epochs": 3, "rho": BASE_RHO, "outer": 0} | scores
    networks = pd.DataFrame([network, network | {"rho": 37.9}, network | {"outer": 1}])  # tested on other cells
    table = beside_networks(fits, networks)
    assert table["architecture"].tolist() == [MAJORITY, "small"]
    assert table.iloc[1][list(scores)].to_dict() == scores
    assert "epochs" not in table


@pytest.mark.parametrize("n_dev", [0, 1])
def test_a_class_of_no_training_cell_or_one_stops_nothing(n_dev):
    cells, crops = make_cells({"codocyte": 6, "hypochromia": 30, "normal": 90}, n_smears=6)
    cells = assign_splits(cells, protocol="paper", seed=0, n_folds=3)
    rare = cells.index[cells[LABEL] == "codocyte"]
    cells.loc[rare, [SPLIT, "fold"]] = [TEST, -1]
    cells.loc[rare[:n_dev], [SPLIT, "fold"]] = ["dev", 0]
    features = pd.DataFrame({"grey": crops.mean(axis=(1, 2, 3)), "noise": np.random.default_rng(0).normal(size=126)})
    chosen = tune_classical(features, cells, protocol="paper", seed=0, n_tries=1, classifiers=["knn", "svm"])
    assert chosen[1].settings["n_neighbors"] == 15  # more than under-sampling leaves
    for fit in fit_classical(features, cells, chosen, seeds=[0]):
        probs = fit.predictions[[f"prob_{name}" for name in CLASSES]]
        np.testing.assert_allclose(probs.sum(axis=1), 1, atol=1e-6)
        assert (probs["prob_codocyte"] > 0).any() == (n_dev == 1)
