"""A test set is opened once per method: the same again carries on, another setting needs a reason."""

import dataclasses

import pandas as pd
import pytest

from rbcnb.openings import LEDGER, TestSetError, name_refits, open_test
from rbcnb.splits import assign_splits
from rbcnb.trial import Trial

CE = Trial(protocol="honest", epochs=7)
FOCAL = dataclasses.replace(CE, loss="focal", alpha=1.0, gamma=2.0)


@pytest.fixture
def split(data):
    return assign_splits(data[0], protocol="honest", seed=0, n_folds=4)


def test_the_same_settings_again_carry_on(tmp_path, split):
    first = open_test(tmp_path, [CE, FOCAL], split)
    assert first["method"].tolist() == ["cross_entropy", "focal"]
    before = (tmp_path / LEDGER).read_bytes()
    again = [
        dataclasses.replace(CE, seed=5, precision="bf16"),
        dataclasses.replace(FOCAL, dev_counts="3/3/50"),  # a rung trains on fewer cells, with the settings chosen
    ]
    assert len(open_test(tmp_path, again, split.sample(frac=1, random_state=0))) == 2
    assert (tmp_path / LEDGER).read_bytes() == before
    rival = dataclasses.replace(CE, loss="ldam")
    assert open_test(tmp_path, [rival], split)["method"].tolist() == ["cross_entropy", "focal", "ldam"]


@pytest.mark.parametrize("other", [{"epochs": 8}, {"learning_rate": 0.1}, {"label_smoothing": 0.1}, {"batch_size": 8}])
def test_another_setting_is_refused_unless_a_reason_is_given(tmp_path, split, other):
    open_test(tmp_path, [CE], split)
    changed = dataclasses.replace(CE, **other)
    with pytest.raises(TestSetError, match=r"opened once: small, cross_entropy was tested with .*reopen"):
        open_test(tmp_path, [changed], split)
    assert len(pd.read_csv(tmp_path / LEDGER)) == 1
    ledger = open_test(tmp_path, [changed], split, reopen="labels of smear 3 were upside down")
    assert ledger["reason"].tolist() == ["", "labels of smear 3 were upside down"]
    assert len(open_test(tmp_path, [changed], split)) == 2  # what was opened for a reason carries on, too


def test_two_settings_of_a_method_at_once_are_a_choice_on_the_test_set(tmp_path, split):
    both = [FOCAL, dataclasses.replace(FOCAL, alpha=0.5)]
    with pytest.raises(TestSetError, match="small, focal was tested with"):
        open_test(tmp_path, both, split)
    assert not (tmp_path / LEDGER).exists()
    paper = [dataclasses.replace(one, protocol="paper") for one in both]
    assert open_test(tmp_path, paper, split)["protocol"].tolist() == ["paper", "paper"]  # its flaw, on record


def test_fits_on_test_cells_come_after_the_opening_and_are_named(tmp_path, split):
    what = "leakage gap"
    with pytest.raises(TestSetError, match="leakage gap, but no test set was opened with these settings"):
        name_refits(tmp_path, [CE], split, reason=what)
    open_test(tmp_path, [CE, FOCAL], split)
    with pytest.raises(TestSetError, match="no test set was opened"):
        name_refits(tmp_path, [dataclasses.replace(CE, epochs=8)], split, reason=what)
    assert name_refits(tmp_path, [CE], split, reason=what)["reason"].tolist() == ["", "", what]
    assert len(name_refits(tmp_path, [CE], split, reason=what)) == 3
    with pytest.raises(TestSetError, match="opened once"):  # and a choice after it is refused all the same
        open_test(tmp_path, [dataclasses.replace(CE, epochs=8)], split)


def test_another_way_to_split_the_same_cells_is_refused(tmp_path, data, split):
    open_test(tmp_path, [CE], split)
    other = assign_splits(data[0], protocol="honest", seed=1, n_folds=3)
    with pytest.raises(TestSetError, match="split otherwise before"):
        open_test(tmp_path, [CE], other)
    second = assign_splits(data[0], protocol="honest", seed=0, n_folds=3, outer=1)
    assert len(open_test(tmp_path, [dataclasses.replace(CE, outer=1, epochs=3)], second)) == 2
    relabelled = split.assign(label=split["label"].replace("codocyte", "stomatocyte"))
    assert len(open_test(tmp_path, [dataclasses.replace(CE, epochs=9)], relabelled)) == 3  # other data
