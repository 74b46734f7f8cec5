"""Readings: nothing written is lost, whoever else writes; what stands is the last word."""

import errno
import itertools
import os
import subprocess
import sys
import time
import warnings
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from rbcnb.labels.consensus import current_labels, moved_cells, standing_readings
from rbcnb.labels.logbook import LogbookError
from rbcnb.labels.readings import COLUMNS, Reading, ReadingError, append_readings, load_readings


def reading(cell: int, label: str = "", reader: str = "anna", kind: str = "label", **more) -> Reading:
    return Reading(smear="a.png", cell=cell, reader=reader, label=label, kind=kind, **more)


def table_of(*readings: Reading, folder: Path) -> pd.DataFrame:
    append_readings(folder / "readings.csv", readings)
    return load_readings(folder / "readings.csv")


def test_a_row_comes_back_as_it_was_written(tmp_path):
    path = tmp_path / "readings.csv"
    assert load_readings(path).empty
    when = pd.Timestamp("2026-02-03 04:05:06.000007", tz="Asia/Bangkok")
    odd = reading(
        3, 'a "quoted", class', "Ünal, Ö.", x_px=1 / 3, y_px=-0.5, radius_px=1e-9, comment="one,\ntwo", time=when
    )
    append_readings(path, [odd, reading(3, kind="skip")])
    append_readings(path, load_readings(path))  # a table is readings as well; its revisions are counted on
    table = load_readings(path)
    assert tuple(table.columns) == COLUMNS
    row = table.iloc[0]
    assert (row["smear"], row["cell"], row["label"], row["reader"]) == ("a.png", 3, odd.label, odd.reader)
    assert (row["x_px"], row["y_px"], row["radius_px"]) == (1 / 3, -0.5, 1e-9)
    assert row["comment"] == "one, two"
    assert row["time"] == when
    assert table["revision"].tolist() == [1, 1, 2, 2]
    assert table["label"].isna().tolist() == [False, True, False, True]
    pd.testing.assert_frame_equal(
        table.iloc[:2].drop(columns="revision"), table.iloc[2:].reset_index(drop=True).drop(columns="revision")
    )


_WRITER = """
import sys
from rbcnb.labels.readings import Reading, append_readings
for i in range(int(sys.argv[3])):
    label = f"{sys.argv[2]}-{i}"
    append_readings(sys.argv[1], [Reading(smear="a.png", cell=0, reader="r", label=label, comment="x" * 300)])
    print(i, flush=True)
"""


def writer(path: Path, name: str, n: int) -> subprocess.Popen:
    return subprocess.Popen([sys.executable, "-c", _WRITER, str(path), name, str(n)], stdout=subprocess.PIPE)


@pytest.mark.slow
def test_sessions_that_write_at_once_lose_nothing(tmp_path):
    path, n = tmp_path / "readings.csv", 40
    writers = [writer(path, name, n) for name in ("one", "two", "three")]
    assert [process.wait(60) for process in writers] == [0, 0, 0]
    for process in writers:
        process.stdout.close()
    table = load_readings(path)
    assert sorted(table["label"]) == sorted(f"{name}-{i}" for name in ("one", "two", "three") for i in range(n))
    assert table["revision"].tolist() == list(range(1, 3 * n + 1))
    for name in ("one", "two", "three"):  # each in its own order
        labels = [label for label in table["label"] if label.startswith(name + "-")]
        assert labels == [f"{name}-{i}" for i in range(n)]


def test_what_a_killed_session_was_told_is_saved_is_there(tmp_path):
    path = tmp_path / "readings.csv"
    process = writer(path, "one", 10**6)
    acknowledged = [int(process.stdout.readline()) for _ in range(20)][-1]
    process.kill()
    acknowledged = max([acknowledged, *map(int, process.stdout.read().split())])
    process.wait()
    process.stdout.close()
    append_readings(path, [reading(1, "normal")])
    table = load_readings(path)
    labels = table.loc[table["reader"] == "r", "label"].tolist()
    assert labels == [f"one-{i}" for i in range(len(labels))]
    assert len(labels) > acknowledged
    assert table["label"].iloc[-1] == "normal"


def test_a_reading_is_on_the_disk_before_the_call_returns(tmp_path, monkeypatch):
    synced, fsync = [], os.fsync
    monkeypatch.setattr(os, "fsync", lambda handle: (synced.append(os.fstat(handle).st_size), fsync(handle)))
    path = tmp_path / "readings.csv"
    for cell in range(3):
        append_readings(path, [reading(cell, "normal")])
        assert path.stat().st_size in synced


def test_a_torn_last_line_is_told_kept_aside_and_not_built_upon(tmp_path):
    path = tmp_path / "readings.csv"
    append_readings(path, [reading(0, "normal"), reading(1, "codocyte", comment="ä")])
    whole = path.read_bytes()
    start = whole[:-1].rfind(b"\n") + 1
    for cut in [*range(start + 1, len(whole) - 1, 3), len(whole) - 1]:
        path.write_bytes(whole[:cut])
        torn = whole[start:cut]
        if cut == len(whole) - 1:  # only the line end is missing, as where an editor saved the file
            assert load_readings(path)["cell"].tolist() == [0, 1]
            append_readings(path, [reading(2, "normal")])
            assert load_readings(path)["cell"].tolist() == [0, 1, 2]
            continue
        with pytest.warns(UserWarning, match="last line is torn"):
            assert load_readings(path)["cell"].tolist() == [0]
        with pytest.warns(UserWarning, match=r"moved to readings\.csv\.torn"):
            append_readings(path, [reading(2, "normal")])
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert load_readings(path)["cell"].tolist() == [0, 2]
        assert (tmp_path / "readings.csv.torn").read_bytes().splitlines()[-1] == torn
    path.write_bytes(whole + b"\0" * 4096)  # what some file systems leave after a power cut
    with pytest.warns(UserWarning, match="torn"):
        assert len(load_readings(path)) == 2


def test_other_bad_rows_are_named_with_their_mend(tmp_path):
    path = tmp_path / "readings.csv"
    append_readings(path, [reading(cell, "normal") for cell in range(4)])
    lines = path.read_text().splitlines()

    def after(row: int, old: str, new: str) -> None:
        assert old in lines[row - 1]
        changed = [*lines[: row - 1], lines[row - 1].replace(old, new, 1), *lines[row:]]
        path.write_text("\n".join(changed) + "\n")

    for old, new, message in (
        ("a.png,2,", "a.png,two,", "row 4 has cell 'two'; give a whole number"),
        ("a.png,2,", "a.png,", "row 4 is .* must hold 12 fields"),
        ("a.png,2,", "a.png,2,,", "row 4 is .* must hold 12 fields"),
        ("a.png", "", "row 4 has smear ''; name it"),
        ("anna", "", "row 4 has reader ''"),
        ("normal", "", "row 4 has label ''; name the class"),
        (",label,", ",guess,", "row 4 has kind 'guess'; give one of label, unsure, strike, skip, undo"),
        (",,,", ",near,,", "row 4 has x_px 'near'; give a number of pixels"),
        ("Z", "", "row 4 is .* the last a time such as"),
        ("a.png", '"a.png', "row .* cannot be read"),
    ):
        after(4, old, new)
        with pytest.raises(LogbookError, match=f"readings.csv: {message}"):
            load_readings(path)
    after(1, "smear", "file")
    for act in (load_readings, lambda path: append_readings(path, [reading(1, "normal")])):
        with pytest.raises(LogbookError, match=r"row 1 is .*rbcnb import-labels"):
            act(path)
    path.write_text("\n\n".join(lines).replace("\n", "\r\n"))  # blank lines and a spreadsheet's line ends are harmless
    assert load_readings(path)["cell"].tolist() == [0, 1, 2, 3]


def test_a_row_spoilt_by_another_program_is_named_by_the_next_writer(tmp_path):
    path = tmp_path / "readings.csv"
    append_readings(path, [reading(0, "normal")])
    with path.open("a") as file:
        file.write("nonsense\n")
    with pytest.raises(LogbookError, match=r"row 3 is 'nonsense'"):
        append_readings(path, [reading(1, "normal")])
    assert "nonsense\n" in path.read_text()


def test_nothing_is_written_of_readings_that_are_not_right(tmp_path):
    path = tmp_path / "readings.csv"
    append_readings(path, [reading(0, "normal")])
    for wrong, message in (
        (reading(1), "reading 2 has no label"),
        (reading(1, "normal", reader=" "), "reading 2 has no reader"),
        (reading(-1, "normal"), "reading 2 has cell -1"),
        (reading(float("nan"), "normal"), "reading 2 has cell nan"),
        (reading("7", "normal"), "reading 2 has cell '7'"),
        (reading(1, "normal", kind="maybe"), "reading 2 has kind 'maybe'"),
        (reading(1, "nor\nmal"), "reading 2 has label 'nor"),
        (reading(1, "normal", x_px=float("inf")), "reading 2 has x_px inf"),
    ):
        with pytest.raises(ReadingError, match=message):
            append_readings(path, [reading(5, "normal"), wrong])
    with pytest.raises(ReadingError, match="a reading has no crop"):
        append_readings(path, load_readings(path).assign(crop=1))
    with pytest.raises(LogbookError, match=r"which ends in \.csv"):
        append_readings(tmp_path / "readings.txt", [reading(1, "normal")])
    assert load_readings(path)["cell"].tolist() == [0]


def test_the_last_word_stands_and_an_undo_takes_one_back(tmp_path):
    # Against a plain walk over every order of five acts of one reader.
    acts = [("label", "normal"), ("label", "codocyte"), ("unsure", ""), ("skip", ""), ("undo", "")]
    readings, expected = [], {}
    for cell, order in enumerate(itertools.permutations(acts)):
        stack = []
        for kind, label in order:
            readings.append(reading(cell, label, kind=kind))
            stack = stack[:-1] if kind == "undo" else [*stack, (kind, label)]
        spoken = [act for act in stack if act[0] != "skip"] or stack
        expected[cell] = spoken[-1]
    words = standing_readings(table_of(*readings, folder=tmp_path)).set_index("cell")
    assert {
        cell: (row["kind"], row["label"] if row["kind"] == "label" else "") for cell, row in words.iterrows()
    } == expected


def test_more_than_half_of_those_who_name_a_class_settle_it(tmp_path):
    table = table_of(
        reading(0, "normal", "anna"), reading(0, "codocyte", "bo"),
        reading(1, "normal", "anna"), reading(1, "codocyte", "bo"), reading(1, "codocyte", "cy", comment="ring"),
        reading(2, "normal", "anna", comment="dim"),
        reading(2, kind="unsure", label="codocyte", reader="bo", comment="?"),
        reading(3, kind="unsure"), reading(3, kind="skip", reader="bo"),
        reading(4, kind="skip"),
        reading(5, "normal"), reading(5, kind="undo"),
        reading(6, "normal", "anna"), reading(6, "codocyte", "anna", x_px=3.0), reading(6, "codocyte", "bo"),
        folder=tmp_path,
    )  # fmt: skip
    view = current_labels(table).set_index("cell")
    assert view.index.tolist() == [0, 1, 2, 3, 4, 6]
    assert view["kind"].tolist() == ["disputed", "label", "label", "unsure", "skip", "label"]
    assert view["label"].fillna("-").tolist() == ["-", "codocyte", "normal", "-", "-", "codocyte"]
    assert view["n_readers"].tolist() == [2, 3, 1, 0, 0, 2]
    assert view["n_agree"].tolist() == [1, 2, 1, 0, 0, 2]
    assert view.loc[1, "reader"] == "anna, bo, cy"
    assert view.loc[2, "comment"] == "dim; ?"
    assert view.loc[6, "x_px"] == 3.0
    assert current_labels(table, reader="bo").set_index("cell")["label"].dropna().to_dict() == {
        0: "codocyte", 1: "codocyte", 6: "codocyte",
    }  # fmt: skip
    assert current_labels(table, reader="nobody").empty


def test_numbers_that_came_to_mean_other_cells_are_told(tmp_path):
    circle = {"y_px": 10.0, "radius_px": 20.0}
    read = [reading(0, "normal", x_px=10.0, **circle), reading(1, "normal", x_px=50.0, **circle), reading(2, "normal")]
    table = table_of(*read, reading(0, "codocyte", "bo", x_px=25.0, **circle), folder=tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        current_labels(table)  # 15 px beside, of a radius of 20
    found = pd.DataFrame({"smear": "a.png", "cell": [0, 1, 2, 3], "x_px": [12.0, 90.0, 0.0, 0.0], **circle})
    assert moved_cells(table) == []
    assert moved_cells(table, found) == [("a.png", 1)]
    again = table_of(reading(1, "codocyte", x_px=90.0, **circle), folder=tmp_path)
    with pytest.warns(UserWarning, match=r"1 cells, such as 1 of a\.png, were read at places over a radius apart"):
        current_labels(again)


def test_an_append_costs_the_same_in_a_long_table(tmp_path):
    long, short = tmp_path / "long.csv", tmp_path / "short.csv"
    many = [reading(cell, "normal", x_px=1.5, y_px=2.5, radius_px=20.0) for cell in range(10_000)]
    for _ in range(2):
        append_readings(long, many)
    append_readings(short, many[:1])
    seconds = {long: [], short: []}
    for i in range(31):
        for path, times in seconds.items():
            start = time.perf_counter()
            append_readings(path, [many[i]])
            times.append(time.perf_counter() - start)
    assert np.median(seconds[long]) < 3 * np.median(seconds[short])
    assert load_readings(long).iloc[-1]["revision"] == 3


def test_a_table_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(LogbookError, match="cannot be written to"):
        append_readings(tmp_path / "file" / "readings.csv", [reading(0, "normal")])
    if os.geteuid():
        tmp_path.chmod(0o500)
        with pytest.raises(LogbookError, match="cannot be written to"):
            append_readings(tmp_path / "readings.csv", [reading(0, "normal")])


@pytest.mark.parametrize("name", ["smear", "label", "reader", "session"])
@pytest.mark.parametrize("formula", ["=1+1", "@SUM(A1)", "-2+cmd|' /C calc'!A0"])
def test_no_name_is_a_formula_of_a_spreadsheet(tmp_path, name, formula):
    path = tmp_path / "readings.csv"
    good = {"smear": "a.png", "cell": 0, "label": "++", "reader": "Ann"}
    with pytest.raises(ReadingError, match=rf"readings.csv: reading 2 has {name} .*; a spreadsheet takes that for a"):
        append_readings(path, [Reading(**good), Reading(**good | {name: formula})])
    assert not path.exists()

    table = pd.DataFrame([good, good | {name: formula}])
    with pytest.raises(ReadingError, match=rf"readings.csv: reading 2 has {name} .*; a spreadsheet takes that for a"):
        append_readings(path, table)
    append_readings(path, [Reading(**{"label": "++", "session": "s"} | good | {name: "edited"})])
    path.write_text(path.read_text().replace("edited", formula))
    with pytest.raises(ReadingError, match=rf"readings.csv: row 2 has {name} .*; a spreadsheet takes that for a form"):
        load_readings(path)


@pytest.mark.parametrize("word", ["unsure", "Strike", " S K I P"])
def test_no_label_is_a_word_in_place_of_a_class(tmp_path, word):
    path, why = tmp_path / "readings.csv", "that is no class but a key of rbcnb label; name the class"
    good, bad = (Reading(smear="a.png", cell=0, label=label, reader="Ann") for label in ("edited", word))
    for readings in ([good, bad], pd.DataFrame([asdict(good), asdict(bad)])):
        with pytest.raises(ReadingError, match=rf"readings.csv: reading 2 has label .*; {why}"):
            append_readings(path, readings)
    append_readings(path, [replace(bad, kind="unsure"), good])  # a guess, which does not count
    load_readings(path)
    path.write_text(path.read_text().replace("edited", word))
    with pytest.raises(ReadingError, match=rf"readings.csv: row 3 has label .*; {why}"):
        load_readings(path)


def test_a_comment_that_somebody_edited_is_kept_as_text_wherever_it_goes(tmp_path):
    path = tmp_path / "readings.csv"
    append_readings(path, [reading(0, "normal", comment="edited"), reading(1, "normal", "ben", comment="++")])
    append_readings(path, [reading(1, "normal", "cy", comment="thin")])
    path.write_text(path.read_text().replace("edited", "=1+1"))
    readings = load_readings(path)
    assert readings["comment"].tolist() == ["'=1+1", "++", "thin"]
    assert current_labels(readings)["comment"].tolist() == ["'=1+1", "'++; thin"]
    append_readings(tmp_path / "more.csv", readings.assign(comment=["=1+1", "++", "thin"]))
    assert "=1+1" not in (tmp_path / "more.csv").read_text().replace("'=1+1", "")


def test_a_comment_that_would_be_a_formula_is_kept_as_text(tmp_path):
    path = tmp_path / "readings.csv"
    comments = ["=1+1", "- thin\n=2", "a=b", "++", "'=3"]
    append_readings(path, [reading(cell, "normal", comment=comment) for cell, comment in enumerate(comments)])
    assert load_readings(path)["comment"].tolist() == ["'=1+1", "'- thin =2", "a=b", "++", "'=3"]


def test_a_write_that_fails_leaves_none_of_its_rows(tmp_path, monkeypatch):
    """A full disk left some of them, and a second try all of them once more."""
    path = tmp_path / "readings.csv"
    append_readings(path, [Reading(smear="a.png", cell=0, reader="ann", label="normal")])
    before = path.read_bytes()
    many = [Reading(smear="a.png", cell=i, reader="ann", label="normal") for i in range(1, 50)]

    def full(_):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(LogbookError, match="cannot be written to"):
            append_readings(path, many)
    assert path.read_bytes() == before
    append_readings(path, many)
    assert load_readings(path)["cell"].tolist() == list(range(50))
