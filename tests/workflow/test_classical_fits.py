"""The classical baseline's predictions come back as they were, and its test set is opened as the networks' is."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from conftest import make_cells

from rbcnb.study.classical import classical_table, entry_of_choice, fit_classical, tune_classical
from rbcnb.study.ledger import LEDGER, TestSetError, load_ledger, open_test
from rbcnb.training.splits import assign_splits
from rbcnb.training.trial import Trial
from rbcnb.workflow.classical_fits import CLASSICAL, load_classical_fits, save_classical_fits
from rbcnb.workflow.run import MissingResultError, Run
from rbcnb.workflow.verify import unopened_fits

pytestmark = pytest.mark.slow  # fits, and publishes what they left


@pytest.fixture(scope="module")
def fitted():
    """Cells, crops, what was chosen for kNN and SVM with two re-samplings on them, and the fits of two seeds."""
    cells, crops = make_cells({"codocyte": 30, "hypochromia": 40, "normal": 160}, n_smears=10)
    cells = assign_splits(cells, protocol="honest", seed=0, n_folds=3)
    features = pd.DataFrame({"grey": crops.mean(axis=(1, 2, 3)), "noise": np.random.default_rng(0).normal(size=230)})
    names = {"classifiers": ["knn", "svm"], "resamplings": ["none", "smote"]}
    chosen = tune_classical(features, cells, protocol="honest", seed=0, n_tries=2, **names)
    return cells, crops, chosen, fit_classical(features, cells, chosen, seeds=[0, 1])


@pytest.fixture
def run(tmp_path, fitted):
    cells, crops, chosen, fits = fitted
    here = Run.at(tmp_path / "run", seed=0)
    open_test(here.folder, [entry_of_choice(choice) for choice in chosen], cells, crops)
    save_classical_fits(here, fits)
    return here


def test_fits_come_back_bit_for_bit_in_their_order(run, fitted):
    before, after = fitted[3], load_classical_fits(run)
    assert [(fit.choice, fit.seed, fit.seconds) for fit in after] == [
        (fit.choice, fit.seed, fit.seconds) for fit in before
    ]
    for stored, loaded in zip(before, after, strict=True):
        pd.testing.assert_frame_equal(stored.predictions, loaded.predictions, check_exact=True, check_dtype=False)
    pd.testing.assert_frame_equal(classical_table(after), classical_table(before), check_exact=True)
    assert CLASSICAL in run.load_manifest()


def test_the_ledger_takes_each_setting_once_and_refuses_another(run, fitted):
    cells, crops, chosen, fits = fitted
    ledger = load_ledger(run.folder)
    assert len(ledger) == len(chosen) == 5  # the majority too; seeds are no settings
    assert set(ledger["protocol"]) == {"honest"}
    before = (run.folder / LEDGER).read_bytes()
    open_test(run.folder, [entry_of_choice(choice) for choice in chosen], cells, crops)
    save_classical_fits(run, fits)
    assert (run.folder / LEDGER).read_bytes() == before
    other = replace(chosen[1], settings={**chosen[1].settings, "n_neighbors": 99})
    with pytest.raises(TestSetError, match=r"opened once: knn, none was tested with .*n_neighbors.* 99.*reopen"):
        open_test(run.folder, [entry_of_choice(other)], cells, crops)
    assert (run.folder / LEDGER).read_bytes() == before
    reopened = open_test(run.folder, [entry_of_choice(other)], cells, crops, reopen="features were of the wrong crops")
    assert reopened["reason"].tolist()[-1] == "features were of the wrong crops"
    published = replace(other, protocol="paper", settings={"n_neighbors": 1})
    open_test(run.folder, [entry_of_choice(published)], cells, crops)  # recorded, not refused
    again = assign_splits(cells.drop(columns=["split", "fold"]), protocol="honest", seed=1, n_folds=3)
    with pytest.raises(TestSetError, match="split otherwise before"):
        open_test(run.folder, [entry_of_choice(chosen[1])], again, crops)
    open_test(run.folder, [Trial(protocol="honest")], cells, crops)  # networks are entered beside them


def test_a_fit_of_which_the_ledger_knows_nothing_is_found(run):
    assert unopened_fits(run) == []
    ledger = load_ledger(run.folder)
    ledger.iloc[:-1].to_csv(run.folder / LEDGER, index=False)
    (finding,) = unopened_fits(run)
    assert (finding.table, finding.stored) == (LEDGER, "missing")
    assert finding.row.startswith("honest, 0, svm, smote, ")
    ledger.assign(test="0" * 16).to_csv(run.folder / LEDGER, index=False)  # opened, but on other cells
    assert len(unopened_fits(run)) == 5


def test_a_missing_or_damaged_file_says_what_to_do(run):
    whole = (run.folder / CLASSICAL).read_bytes()
    (run.folder / CLASSICAL).write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match=r"classical_predictions.parquet: .*run notebook 06_imbalance_study again"):
        load_classical_fits(run)
    (finding,) = unopened_fits(run)
    assert finding.table == CLASSICAL
    (run.folder / CLASSICAL).unlink()
    with pytest.raises(MissingResultError, match="stored no predictions of the classical classifiers"):
        load_classical_fits(run)
    assert unopened_fits(run) == []
