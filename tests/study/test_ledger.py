"""A test set is opened once per method: the same again carries on, anything else needs a reason."""

import dataclasses
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

from rbcnb._utils.manifest import MANIFEST, changed_files, load_manifest
from rbcnb.study.ledger import (
    LEDGER,
    LEDGER_COLUMNS,
    LedgerError,
    TestSetError,
    load_ledger,
    open_test,
    plan_digest,
    record_refits,
)
from rbcnb.training.splits import assign_splits
from rbcnb.training.trial import Trial

CE = Trial(protocol="honest", epochs=7)
FOCAL = dataclasses.replace(CE, loss="focal", alpha=1.0, gamma=2.0)
CE_8 = dataclasses.replace(CE, epochs=8)
LDAM = dataclasses.replace(CE, loss="ldam")


@pytest.fixture
def split(data):
    return assign_splits(data[0], protocol="honest", seed=0, n_folds=4)


@pytest.fixture
def crops(data):
    return data[1]


def relabel(cells, part, n=1):
    """*cells* with *n* of the normal ones in *part* now codocytes."""
    rows = cells.index[(cells["split"] == part) & (cells["label"] == "normal")][:n]
    return cells.assign(label=cells["label"].mask(cells.index.isin(rows), "codocyte"))


def drop(cells, part):
    """*cells* without one of *part*."""
    return cells.drop(cells.index[cells["split"] == part][0])


def set_aside(cells):
    """*cells* with a dev cell unused, as a second look leaves one of which nobody can tell what it is."""
    row = cells.index[cells["split"] == "dev"][0]
    return cells.assign(split=cells["split"].mask(cells.index == row, "unused"))


def test_the_same_settings_again_carry_on(tmp_path, split, crops):
    first = open_test(tmp_path, [CE, FOCAL], split, crops)
    assert first["method"].tolist() == ["cross_entropy", "focal"]
    assert tuple(first) == LEDGER_COLUMNS
    before = (tmp_path / LEDGER).read_bytes()
    again = [
        dataclasses.replace(CE, seed=5, precision="bf16"),
        dataclasses.replace(FOCAL, dev_counts="3/3/50"),  # a rung trains on fewer cells, with the settings chosen
    ]
    shuffled = split.sample(frac=1, random_state=0)
    assert len(open_test(tmp_path, again, shuffled, crops[shuffled.index], reopen="nothing to reopen")) == 2
    assert (tmp_path / LEDGER).read_bytes() == before
    assert open_test(tmp_path, [LDAM], split, crops)["method"].tolist() == ["cross_entropy", "focal", "ldam"]


@pytest.mark.parametrize("other", [{"epochs": 8}, {"learning_rate": 0.1}, {"label_smoothing": 0.1}, {"batch_size": 8}])
def test_another_setting_is_refused_unless_a_reason_is_given(tmp_path, split, crops, other):
    open_test(tmp_path, [CE], split, crops)
    changed = dataclasses.replace(CE, **other)
    with pytest.raises(TestSetError, match=r"opened once: small, cross_entropy was tested with .*reopen"):
        open_test(tmp_path, [changed], split, crops)
    assert len(pd.read_csv(tmp_path / LEDGER)) == 1
    ledger = open_test(tmp_path, [changed], split, crops, reopen="labels of smear 3 were upside down")
    assert ledger["reason"].tolist() == ["", "labels of smear 3 were upside down"]
    assert len(open_test(tmp_path, [changed], split, crops)) == 2  # what was opened for a reason carries on, too


@pytest.mark.parametrize("trial", [CE, CE_8], ids=["same settings", "other settings"])
@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda cells: relabel(cells, "dev"), "that it is trained on have changed"),
        (lambda cells: drop(cells, "dev"), "that it is trained on have changed"),
        (set_aside, "that it is trained on have changed"),
        (lambda cells: relabel(cells, "test"), "of the test set have changed"),
        (lambda cells: drop(cells, "test"), "of the test set have changed"),
    ],
    ids=["dev relabelled", "dev dropped", "dev unused", "test relabelled", "test dropped"],
)
def test_the_same_smears_again_with_other_labels_or_cells_need_a_reason(tmp_path, split, crops, trial, change, reason):
    open_test(tmp_path, [CE], split, crops)
    other = change(split)
    cut = crops[other.index]
    with pytest.raises(
        TestSetError, match=f"was tested {'with .*epochs' if trial is CE_8 else 'on these smears'}.*{reason}"
    ):
        open_test(tmp_path, [trial], other, cut)
    assert len(load_ledger(tmp_path)) == 1
    # A method that was not tested on these smears yet is opened for the first time.
    ledger = open_test(tmp_path, [trial, LDAM], other, cut, reopen="a second reader")
    assert ledger["reason"].tolist() == ["", "a second reader", ""]
    assert len(open_test(tmp_path, [CE], split, crops)) == 3  # each of both goes on
    assert len(open_test(tmp_path, [trial], other, cut)) == 3


def test_other_pictures_of_the_same_cells_need_a_reason(tmp_path, split, crops):
    open_test(tmp_path, [CE], split, crops)
    smaller = crops[:, 2:-2, 2:-2]
    retouched = np.where(np.arange(len(crops)) == 7, 255 - crops.T, crops.T).T
    for pictures in (smaller, retouched):
        with pytest.raises(TestSetError, match=r"the cells' pictures have changed since .*finder.*reopen"):
            open_test(tmp_path, [CE], split, pictures)
    assert open_test(tmp_path, [CE], split, smaller, reopen="too wide")["reason"].tolist() == ["", "too wide"]
    with pytest.raises(TestSetError, match="no test set was opened with these settings"):
        record_refits(tmp_path, [CE], split, retouched, reason="leakage gap")
    with pytest.raises(ValueError, match="199 crops: they must stand in the same order"):
        open_test(tmp_path, [CE], split, crops[1:])


def test_two_settings_of_a_method_at_once_are_a_choice_on_the_test_set(tmp_path, split, crops):
    both = [FOCAL, dataclasses.replace(FOCAL, alpha=0.5)]
    with pytest.raises(TestSetError, match="small, focal was tested with"):
        open_test(tmp_path, both, split, crops)
    assert not (tmp_path / LEDGER).exists()
    paper = [dataclasses.replace(trial, protocol="paper") for trial in both]
    assert open_test(tmp_path, paper, split, crops)["protocol"].tolist() == ["paper", "paper"]  # its flaw, on record
    paper = [dataclasses.replace(trial, epochs=9) for trial in paper]
    recorded = open_test(tmp_path, paper, split, crops, reopen="not asked for")
    assert recorded["reason"].tolist() == [""] * 4
    assert open_test(tmp_path, both, split, crops, reopen="both")["reason"].tolist() == [""] * 5 + ["both"]


def test_fits_on_test_cells_come_after_the_opening_and_are_named(tmp_path, split, crops):
    what = "leakage gap"
    with pytest.raises(TestSetError, match="leakage gap, but no test set was opened with these settings"):
        record_refits(tmp_path, [CE], split, crops, reason=what)
    open_test(tmp_path, [CE, FOCAL], split, crops)
    with pytest.raises(TestSetError, match="no test set was opened"):
        record_refits(tmp_path, [CE_8], split, crops, reason=what)
    assert record_refits(tmp_path, [CE], split, crops, reason=what)["reason"].tolist() == ["", "", what]
    assert len(record_refits(tmp_path, [CE], split, crops, reason=what)) == 3
    with pytest.raises(TestSetError, match="opened once"):  # and a choice after it is refused all the same
        open_test(tmp_path, [CE_8], split, crops)


def test_another_way_to_split_the_same_cells_is_refused(tmp_path, data, split, crops):
    open_test(tmp_path, [CE], split, crops)
    other = assign_splits(data[0], protocol="honest", seed=1, n_folds=3)
    with pytest.raises(TestSetError, match="split otherwise before"):
        open_test(tmp_path, [LDAM], other, crops)
    both = [FOCAL, dataclasses.replace(CE, loss="balanced_softmax")]
    assert open_test(tmp_path, both, other, crops, reopen="seed")["reason"].tolist() == ["", "seed", "seed"]
    # The split stands from here on, but for what was tested on the first one.
    assert open_test(tmp_path, [LDAM], other, crops)["reason"].tolist() == ["", "seed", "seed", ""]
    with pytest.raises(TestSetError, match="split otherwise before"):
        open_test(tmp_path, [CE], other, crops)


@pytest.mark.parametrize("n_folds", [2, 3])
def test_outer_splits_and_their_repetitions_are_openings_of_their_own(tmp_path, data, n_folds):
    cells, crops = data
    for outer in range(6):
        split = assign_splits(cells, protocol="honest", seed=0, n_folds=n_folds, outer=outer)
        split = relabel(split, "dev", n=outer)  # a second look at each split's own development cells
        trials = [dataclasses.replace(trial, outer=outer, epochs=outer + 1) for trial in (CE, FOCAL)]
        assert len(open_test(tmp_path, trials, split, crops)) == 2 * outer + 2
    assert not load_ledger(tmp_path)["reason"].any()


def test_smears_dealt_out_anew_after_a_change_of_labels_are_tested_again(tmp_path, data, split, crops):
    open_test(tmp_path, [CE], split, crops)
    dealt = (assign_splits(data[0], protocol="honest", seed=seed, n_folds=3) for seed in range(1, 20))
    other = next(cells for cells in dealt if _tested(cells) & _tested(split))
    other = relabel(other, "dev")
    with pytest.raises(TestSetError, match=r"smears that were tested before are tested again.*reopen"):
        open_test(tmp_path, [LDAM], other, crops)
    elsewhere = split.assign(smear="other_" + split["smear"])
    assert open_test(tmp_path, [CE_8], elsewhere, crops)["reason"].tolist() == ["", ""]


def test_what_another_outer_split_tested_counts_where_the_smears_are_dealt_out_anew(tmp_path, data, split, crops):
    second = assign_splits(data[0], protocol="honest", seed=0, n_folds=3, outer=1)
    moved = relabel(second, "dev")  # tested as the first split now
    assert not _tested(moved) & _tested(split)
    open_test(tmp_path, [CE], split, crops)
    assert len(open_test(tmp_path, [dataclasses.replace(CE, outer=1)], second, crops)) == 2
    with pytest.raises(TestSetError, match="tested before are tested again"):
        open_test(tmp_path, [CE], moved, crops)


def _tested(cells):
    return set(cells.loc[cells["split"] == "test", "smear"])


def test_what_was_planned_beforehand_stands_beside_each_opening(tmp_path, split, crops):
    plan = tmp_path / "plan.md"
    plan.write_bytes(b"Focal loss gains 0.02.\n")
    digest = plan_digest(plan)
    assert open_test(tmp_path, [CE], split, crops)["plan"].tolist() == [""]
    assert open_test(tmp_path, [FOCAL], split, crops, plan=str(plan))["plan"].tolist() == ["", digest]
    plan.write_bytes(b"Focal loss gains 0.02.\r\n")
    assert plan_digest(plan) == digest  # a checkout on another system
    plan.write_bytes(b"Focal loss gains 0.01.\n")
    assert plan_digest(plan) != digest
    with pytest.raises(FileNotFoundError, match="there is no such file; name the file that says what was planned"):
        open_test(tmp_path, [LDAM], split, crops, plan=str(tmp_path / "none.md"))
    assert load_ledger(tmp_path)["method"].tolist() == ["cross_entropy", "focal"]


def test_a_ledger_of_before_there_were_plans_is_read(tmp_path, split, crops):
    open_test(tmp_path, [CE], split, crops)
    ledger = load_ledger(tmp_path)
    ledger.drop(columns="plan").to_csv(tmp_path / LEDGER, index=False)
    pd.testing.assert_frame_equal(load_ledger(tmp_path), ledger)


def rewritten(path, change):
    rows = path.read_text().splitlines(keepends=True)
    path.write_text("".join(change(rows)))


@pytest.mark.parametrize(
    "change",
    [
        lambda rows: [*rows[:-1], rows[-1].replace("0", "1", 1)],
        lambda rows: [rows[0], rows[2], rows[1]],
        lambda rows: [*rows[:2], *rows[1:]],
        lambda rows: rows[:-1],
        lambda rows: [rows[0][:20]],
        lambda _: [],
    ],
    ids=["digit", "swapped", "doubled", "cut", "header cut", "emptied"],
)
def test_a_ledger_that_was_changed_is_not_gone_on_with_unless_a_reason_is_given(tmp_path, split, crops, change):
    open_test(tmp_path, [CE, FOCAL], split, crops)
    path = tmp_path / LEDGER
    rewritten(path, change)
    damaged = path.read_bytes()
    with pytest.raises(LedgerError, match=rf"{path}: is not the file that was written .*put back a copy.*reopen="):
        open_test(tmp_path, [LDAM], split, crops)
    assert path.read_bytes() == damaged
    ledger = open_test(tmp_path, [LDAM], split, crops, reopen="a disk failed")
    assert ledger[["method", "reason"]].to_numpy().tolist() == [["ldam", "a disk failed"]]
    assert (tmp_path / "test_openings.damaged-1.csv").read_bytes() == damaged
    assert len(open_test(tmp_path, [LDAM], split, crops)) == 1


def test_a_ledger_that_is_lost_is_not_begun_anew_in_silence(tmp_path, split, crops):
    open_test(tmp_path, [CE], split, crops)
    (tmp_path / LEDGER).unlink()
    with pytest.raises(LedgerError, match="is not the file that was written"):
        open_test(tmp_path, [CE], split, crops)


def test_a_ledger_is_in_the_manifest_again_after_that_was_lost(tmp_path, split, crops):
    """Where every opening is one again, no row is added, and the file alone is to be recorded."""
    open_test(tmp_path, [CE], split, crops)
    before = load_manifest(tmp_path)
    (tmp_path / MANIFEST).unlink()
    open_test(tmp_path, [CE], split, crops)
    assert load_manifest(tmp_path) == before


def test_rows_of_a_process_that_was_killed_before_it_told_the_manifest_stay(tmp_path, split, crops):
    open_test(tmp_path, [CE], split, crops)
    manifest = (tmp_path / MANIFEST).read_bytes()
    open_test(tmp_path, [FOCAL], split, crops)
    (tmp_path / MANIFEST).write_bytes(manifest)
    assert open_test(tmp_path, [CE], split, crops)["method"].tolist() == ["cross_entropy", "focal"]
    assert changed_files(tmp_path, load_manifest(tmp_path)) == {}


OPENER = """
import dataclasses, sys
import numpy as np, pandas as pd
from rbcnb.study.ledger import Entry, open_test
folder, writer = sys.argv[1:]
cells = pd.DataFrame({"smear": ["a", "b"], "cell": [0, 0], "label": ["x", "y"], "split": ["dev", "test"]})
for i in range(6):
    entry = Entry("paper", "0", f"writer {writer}", "focal", str(i))
    open_test(folder, [entry], cells, np.zeros((2, 4, 4, 3), np.uint8))
"""


@pytest.mark.slow
def test_openings_of_processes_at_the_same_time_are_all_entered(tmp_path):
    writers = [subprocess.Popen([sys.executable, "-c", OPENER, str(tmp_path), str(n)]) for n in range(4)]
    assert [writer.wait(240) for writer in writers] == [0] * 4
    ledger = load_ledger(tmp_path)
    assert len(ledger) == len(ledger[["architecture", "settings"]].drop_duplicates()) == 24
    assert changed_files(tmp_path, load_manifest(tmp_path)) == {}


@pytest.mark.parametrize("text", ["", "a,b\n1,2\n", "\x00\x01", '"'])
def test_a_ledger_that_cannot_be_read_is_named(tmp_path, text):
    (tmp_path / LEDGER).write_text(text)
    with pytest.raises(LedgerError, match=rf"{LEDGER}: .*put back a copy"):
        load_ledger(tmp_path)
