"""The sitting before a queue: what comes next, undo, skip, what a restart finds, and whom each queue lets through."""

from datetime import UTC, datetime, timedelta
from itertools import islice

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings, strategies as st

from rbcnb.columns import UNSURE
from rbcnb.labels.consensus import standing_readings
from rbcnb.labels.labeller.queue import ReadingSession, queue_rows, record, resume, rows_by_name, undo
from rbcnb.labels.readings import NAMED, SKIPPED, UNDONE, Reading, append_readings, load_readings

SECOND = timedelta(seconds=1)
ANN = {"reader": "Ann", "session": "unlabelled"}


def cells(n: int = 6, **columns) -> pd.DataFrame:
    return pd.DataFrame({"smear": "a.png", "cell": range(n)}).assign(**columns)


def name(cell: int) -> dict:
    return {"smear": "a.png", "cell": cell}


def written(path, *said: tuple, reader: str = "Ann", session: str = "unlabelled") -> pd.DataFrame:
    """Each of *said* (cells, kind, label) as one act of *reader*."""
    for names, kind, label in said:
        told = {"reader": reader, "session": session, "kind": kind, "label": label}
        append_readings(path, [Reading(**name(cell), **told) for cell in names])
    return load_readings(path)


def test_each_reading_brings_the_next_cell_and_skipped_ones_come_last():
    sitting = ReadingSession((4, 2, 0, 3), "all")
    assert list(sitting.upcoming()) == [4, 2, 0, 3]
    sitting = record(record(sitting, [4], SKIPPED), [2], NAMED, "normal")
    assert list(sitting.upcoming()) == [0, 3, 4]
    sitting = record(record(sitting, [0], SKIPPED), [3], UNSURE)
    assert list(sitting.upcoming()) == [4, 0]
    sitting = record(sitting, [4], SKIPPED)
    assert list(sitting.upcoming()) == [0, 4]
    assert sitting.counts() == {"read": 2, "skipped": 2}
    assert [sitting.label(row) for row in (4, 2, 0, 3)] == [None, "normal", None, "unsure"]


def test_undo_shows_the_cell_again_and_goes_back_as_far_as_was_read():
    start = ReadingSession((0, 1, 2), "all")
    middle = record(record(start, [0], NAMED, "normal"), [1], SKIPPED)
    back, rows = undo(middle)
    assert (rows, list(back.upcoming()), back.label(0)) == ((1,), [1, 2], "normal")
    first, rows = undo(back)
    assert (rows, list(first.upcoming()), first.label(0)) == ((0,), [0, 1, 2], None)
    assert undo(first) == (first, ())


def test_a_sheet_is_one_act_and_moves_nothing():
    sitting = record(ReadingSession((0, 1, 2, 3), "all"), [0], NAMED, "normal")
    sheet = record(sitting, [0, 3], NAMED, "codocyte")
    assert [sheet.label(row) for row in (0, 3)] == ["codocyte", "codocyte"]
    assert list(sheet.upcoming()) == [1, 2]
    back, rows = undo(sheet)
    assert rows == (0, 3)
    assert [back.label(row) for row in (0, 3)] == ["normal", None]
    assert list(back.upcoming()) == [1, 2, 3]


act = st.one_of(
    st.tuples(st.sampled_from([NAMED, UNSURE, SKIPPED]), st.sampled_from(["x", "y"])),
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
            sitting, rows = undo(sitting)
            label = ""
        elif kind == "sheet":
            kind, label, rows = NAMED, "x", sorted(what)
            sitting = record(sitting, rows, kind, label)
        else:
            if not (rows := list(islice(sitting.upcoming(), 1))):
                continue
            label = what if kind == NAMED else ""
            sitting = record(sitting, rows, kind, label)
        rows_written += [Reading(**name(row), **ANN, kind=kind, label=label, time=noon + step * SECOND) for row in rows]
    append_readings(path, rows_written)
    readings = load_readings(path)
    again = resume(queue, table, readings, **ANN, second_look=False)
    assert {row: word for row, word in again.said.items() if word} == {
        row: word for row, word in (sitting.said or {}).items() if word
    }
    assert again.acts == sitting.acts
    assert again.counts() == sitting.counts()
    assert set(again.upcoming()) == set(sitting.upcoming())
    # The table's own view, which knows nothing of sittings, says the same of every cell.
    words = standing_readings(readings).set_index("cell")
    for row in range(8):
        known = words.loc[row] if row in words.index else None
        told = None if known is None or known["kind"] == SKIPPED else UNSURE
        assert again.label(row) == (known["label"] if known is not None and known["kind"] == NAMED else told)


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
    assert second.acts == ()  # undo does not reach into another queue
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
    # One's own readings leave the queue as it was, so that n of N tells how far it is; others' make it shorter.
    assert rows("unlabelled", table, readings) == [0, 2, 3, 4, 5]
    readings = written(path, ([3], NAMED, "x"), ([4], NAMED, "x"), ([5], UNSURE, ""), reader="Bob")
    assert rows("unlabelled", table, readings) == [0, 2, 5]
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
