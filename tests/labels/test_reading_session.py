"""The sitting before a queue: what comes next, undo, skip, what a restart finds, and whom each queue lets through."""

import sys
from datetime import UTC, datetime, timedelta
from itertools import islice

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings, strategies as st

from rbcnb.columns import UNSURE
from rbcnb.labels.consensus import standing_readings
from rbcnb.labels.labeller.queue import ReadingSession, StandingReading, queue_rows, reading_order, resume, rows_by_name
from rbcnb.labels.readings import NAMED, SKIPPED, STRUCK, UNDONE, Reading, append_readings, load_readings

SECOND = timedelta(seconds=1)
ANN = {"reader": "Ann", "session": "unlabelled"}


def cells(n: int = 6, **columns) -> pd.DataFrame:
    return pd.DataFrame({"smear": "a.png", "cell": range(n)}).assign(**columns)


def name(cell: int) -> dict:
    return {"smear": "a.png", "cell": cell}


def written(path, *acts: tuple, reader: str = "Ann", session: str = "unlabelled") -> pd.DataFrame:
    """Each of *acts* (cells, kind, label) as one act of *reader*."""
    for names, kind, label in acts:
        fields = {"reader": reader, "session": session, "kind": kind, "label": label}
        append_readings(path, [Reading(**name(cell), **fields) for cell in names])
    return load_readings(path)


def test_each_reading_brings_the_next_cell_and_skipped_ones_come_last():
    sitting = ReadingSession((4, 2, 0, 3), "all")
    assert list(sitting.upcoming()) == [4, 2, 0, 3]
    sitting.record([4], SKIPPED)
    sitting.record([2], NAMED, "normal")
    assert list(sitting.upcoming()) == [0, 3, 4]
    sitting.record([0], SKIPPED)
    sitting.record([3], UNSURE)
    assert list(sitting.upcoming()) == [4, 0]
    sitting.record([4], SKIPPED)
    assert list(sitting.upcoming()) == [0, 4]
    assert (sitting.n_read, sitting.counts()) == (2, {"normal": 1, "unsure": 1, "skip": 2})
    assert [sitting.label(row) for row in (4, 2, 0, 3)] == [None, "normal", None, "unsure"]
    sitting.record([0], STRUCK)
    assert (sitting.label(0), list(sitting.upcoming())) == ("strike", [4])


def test_an_earlier_reading_is_changed_and_its_neighbours_are_those_of_the_queue():
    sitting = ReadingSession((4, 2, 0, 3), "all")
    for row in (4, 2):
        sitting.record([row], NAMED, "normal")
    assert [sitting.neighbours(row) for row in (4, 2, 3)] == [(None, 2), (4, 0), (0, None)]
    sitting.record([4], NAMED, "codocyte")
    assert (sitting.n_read, sitting.counts()) == (2, {"normal": 1, "codocyte": 1})
    assert list(sitting.upcoming()) == [0, 3]
    sitting.add(5)
    assert (list(sitting.upcoming()), sitting.neighbours(5)) == ([0, 3, 5], (3, None))


def test_undo_shows_the_cell_again_and_goes_back_as_far_as_was_read():
    sitting = ReadingSession((0, 1, 2), "all")
    sitting.record([0], NAMED, "normal")
    sitting.record([1], SKIPPED)
    assert (sitting.undo(), list(sitting.upcoming()), sitting.label(0)) == ((1,), [1, 2], "normal")
    assert (sitting.undo(), list(sitting.upcoming()), sitting.label(0)) == ((0,), [0, 1, 2], None)
    assert sitting.undo() == ()


def test_a_sheet_is_one_act_and_moves_nothing():
    sitting = ReadingSession((0, 1, 2, 3), "all")
    sitting.record([0], NAMED, "normal")
    sitting.record([0, 3], NAMED, "codocyte")
    assert [sitting.label(row) for row in (0, 3)] == ["codocyte", "codocyte"]
    assert list(sitting.upcoming()) == [1, 2]
    assert sitting.undo() == (0, 3)
    assert [sitting.label(row) for row in (0, 3)] == ["normal", None]
    assert list(sitting.upcoming()) == [1, 2, 3]


def test_a_reading_costs_the_same_whether_few_or_many_cells_are_read():
    """Steps of Python are counted, for times depend on the machine."""

    def steps(n: int) -> int:
        read = {row: [StandingReading(NAMED, "normal", "all")] for row in range(n // 2)}
        sitting, count = ReadingSession(range(n), "all", standing=read), 0

        def trace(_frame, event, _arg):
            nonlocal count
            count += event == "line"
            return trace

        before = sys.gettrace()
        sys.settrace(trace)
        try:
            for _ in range(20):
                sitting.record([next(sitting.upcoming())], NAMED, "normal")
                list(islice(sitting.upcoming(), 16)), sitting.counts()
        finally:
            sys.settrace(before)
        return count

    assert steps(20_000) == steps(200)


act = st.one_of(
    st.tuples(st.sampled_from([NAMED, UNSURE, STRUCK, SKIPPED]), st.sampled_from(["x", "y"])),
    st.tuples(st.just("sheet"), st.sets(st.integers(0, 7), min_size=2, max_size=4)),
    st.just((UNDONE, "")),
)


@settings(max_examples=40, deadline=None)
@given(acts=st.lists(act, max_size=14), queue=st.permutations(range(7)))
def test_a_restart_after_any_acts_finds_what_they_left(tmp_path_factory, acts, queue):
    path = tmp_path_factory.mktemp("readings") / "readings.csv"
    table = cells(8)
    sitting, rows_written, noon = ReadingSession(tuple(queue), "unlabelled"), [], datetime(2026, 1, 1, 12, tzinfo=UTC)
    for step, (kind, what) in enumerate(acts):
        if kind == UNDONE:
            rows = sitting.undo()
            label = ""
        elif kind == "sheet":
            kind, label, rows = NAMED, "x", sorted(what)
            sitting.record(rows, kind, label)
        else:
            if not (rows := list(islice(sitting.upcoming(), 1))):
                continue
            label = what if kind == NAMED else ""
            sitting.record(rows, kind, label)
        rows_written += [Reading(**name(row), **ANN, kind=kind, label=label, time=noon + step * SECOND) for row in rows]
    append_readings(path, rows_written)
    readings = load_readings(path)
    again = resume(queue, table, readings, **ANN, second_look=False)
    assert [again.standing(row) for row in range(8)] == [sitting.standing(row) for row in range(8)]
    assert again.acts == sitting.acts
    assert (again.n_read, again.counts()) == (sitting.n_read, sitting.counts())
    assert set(again.upcoming()) == set(sitting.upcoming())
    # The table's own view, which knows nothing of sittings, says the same of every cell.
    words = standing_readings(readings).set_index("cell")
    for row in range(8):
        word = None
        if row in words.index and (kind := words.loc[row, "kind"]) != SKIPPED:
            word = words.loc[row, "label"] if kind == NAMED else kind
        assert again.label(row) == word


def test_a_restart_goes_on_after_the_cell_read_last(tmp_path):
    readings = written(tmp_path / "r.csv", ([1], NAMED, "x"), ([2], SKIPPED, ""), ([3], NAMED, "y"))
    again = resume(range(6), cells(), readings, **ANN, second_look=False)
    assert list(again.upcoming()) == [4, 5, 0, 2]
    readings = written(tmp_path / "r.csv", ([3], UNDONE, ""))
    assert next(resume(range(6), cells(), readings, **ANN, second_look=False).upcoming()) == 3


def test_only_ones_own_readings_count_and_in_a_second_look_only_that_session(tmp_path):
    path = tmp_path / "r.csv"
    written(path, ([0], NAMED, "x"), reader="Bob")
    readings = written(path, ([1], NAMED, "x"))
    first = resume(range(4), cells(4), readings, **ANN, second_look=False)
    assert list(first.upcoming()) == [2, 3, 0]
    second = resume(range(4), cells(4), readings, reader="Ann", session="flagged", second_look=True)
    assert list(second.upcoming()) == [0, 1, 2, 3]
    assert second.acts == []  # undo does not reach into another queue
    assert second.label(1) == "x"
    readings = written(path, ([1], NAMED, "y"), session="flagged")
    second = resume(range(4), cells(4), readings, reader="Ann", session="flagged", second_look=True)
    assert (list(second.upcoming()), second.label(1)) == ([2, 3, 0], "y")


def rows(kind, table, readings, **options) -> list[int]:
    return queue_rows(kind, table, readings, **ANN, **options).tolist()


def test_queues(tmp_path):
    path = tmp_path / "r.csv"
    table = cells(label=[np.nan, "x", np.nan, np.nan, np.nan, np.nan])
    readings = written(path, ([0], NAMED, "x"), ([4], NAMED, "y"))
    assert rows("all", table, readings) == list(range(6))
    # No reading changes the queue, so that n of N tells how far it is: not the reader's, and not another's.
    assert rows("unlabelled", table, readings) == [0, 2, 3, 4, 5]
    readings = written(path, ([3], NAMED, "x"), ([4], NAMED, "x"), ([5], UNSURE, ""), reader="Bob")
    assert rows("unlabelled", table, readings) == [0, 2, 3, 4, 5]
    assert sorted(queue_rows("unlabelled", table, readings, reader="Bob", session="")) == [0, 2, 3, 4, 5]
    both = {"reader": "Ann", "session": "disagreement"}
    assert queue_rows("disagreement", table, readings, **both).tolist() == [4]
    readings = written(path, ([4], NAMED, "x"), session="disagreement")  # settled, and still in the queue
    assert queue_rows("disagreement", table, readings, **both).tolist() == [4]
    probs = cells(3, prob_x=[0.9, 0.45, 0.5], prob_y=[0.05, 0.4, 0.1], prob_z=[0.05, 0.15, 0.4])
    assert rows("uncertain", table, readings, probs=probs) == [1, 2, 0]
    flagged = pd.DataFrame({"smear": ["a.png", "b.png", "a.png", "a.png"], "cell": [5, 0, 2, 5], "score": 0.1})
    assert rows("flagged", table, readings, flagged=flagged) == [5, 2]
    assert rows(flagged.iloc[::-1], table, readings) == [5, 2]
    for kind, message in (("uncertain", "needs probs="), ("flagged", "needs flagged="), ("best", "no such queue")):
        with pytest.raises(ValueError, match=message):
            rows(kind, table, readings)


def test_a_cell_stands_once_in_the_table():
    with pytest.raises(ValueError, match=r"cell 2 of a\.png stands in the table twice"):
        rows_by_name(pd.concat([cells(3), cells(6).iloc[2:]]))


def test_a_second_reader_has_an_order_by_name_smear_by_smear_and_cells_at_the_border_come_last(tmp_path):
    table = pd.concat(
        [cells(20, smear=smear, border=[True] * 3 + [False] * 17) for smear in "abcde"], ignore_index=True
    )
    readings = written(tmp_path / "r.csv", ([0], NAMED, "x"))
    first = reading_order(table, readings, "Ann")
    assert first.tolist() == [*np.flatnonzero(~table["border"]), *np.flatnonzero(table["border"])]
    bob, eve = (reading_order(table, readings, reader) for reader in ("Bob", "Eve"))
    for order in (bob, eve):
        assert sorted(order) == list(range(100))
        assert table["border"].to_numpy()[order].tolist() == [False] * 85 + [True] * 15
        smears = table["smear"].to_numpy()[order][:85]
        assert (smears[1:] != smears[:-1]).sum() == 4  # each smear is read to its end
        assert order.tolist() != first.tolist()
    assert bob.tolist() != eve.tolist()
    assert reading_order(table, readings, "Bob").tolist() == bob.tolist()
    more = pd.concat([table, cells(1, smear="c", cell=20)], ignore_index=True)
    order = reading_order(more, readings, "Bob")  # a cell that somebody adds moves no other
    assert order[order != 100].tolist() == bob.tolist()
