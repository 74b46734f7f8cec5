"""The quick ways through large tables give what the slow ones give, row by row; growth is about linear."""

from datetime import UTC, datetime

import numpy as np
import pandas as pd
import pytest

from rbcnb.labels import readings as readings_module
from rbcnb.labels.import_export import import_labels
from rbcnb.labels.readings import ReadingError, append_readings, load_readings
from rbcnb.smears import label_tables
from rbcnb.smears.label_tables import read_label_table, read_text_table

TABLES = [
    "smear,x_px,y_px,label\na.png,1.5,2,normal\nb.png,3, 4.25 ,burr cell\n",
    "smear;x;y;class\r\na.png;1,5;2,25;normal\r\n;;;\r\nb.png;3;4;codocyte\r\n\r\n",
    "\tsmear\tx_px\ty_px\tlabel\n",
    "smear\tx_px\ty_px\tlabel\tradius_px\na.png\t1\t2\tnormal\t\nb.png\t3\t4\tnormal\t5.5\n",
    "smear,x_px,y_px,label\na.png,,2,normal\nb.png,x,4,\n,-9,1,normal\na.png,1e400,3,normal\n",
    "smear,x_px,y_px,label\ra.png,1,2,normal\r",
    "smear,x_px,y_px,label\na.png,1,2\nb.png,1,2,normal,5\n",
    'smear,x_px,y_px,label\n"a.png",1,2,"normal"\n',
    "# by hand\nsmear,x_px,y_px,label\na.png,1.234,2,normal\n",
    "smear|x_px|y_px|label\na.png|1,234|2.5|normal\n",
]


def outcome(path):
    errors = []
    try:
        return read_label_table(path, errors=errors), [str(error) for error in errors]
    except ValueError as error:
        return None, [str(error)]


@pytest.mark.parametrize("text", TABLES)
def test_tables_are_read_alike_the_quick_and_the_slow_way(tmp_path, monkeypatch, text):
    path = tmp_path / "labels.csv"
    path.write_bytes(text.encode())
    quick, faults = outcome(path)
    monkeypatch.setattr(label_tables, "_quickly_read", lambda *_: None)
    monkeypatch.setattr(label_tables, "_plain_numbers", lambda *_: None)
    slow, slow_faults = outcome(path)
    assert faults == slow_faults
    if slow is not None:
        pd.testing.assert_frame_equal(quick, slow, check_dtype=False, check_index_type=False, check_column_type=False)


def test_usual_tables_are_read_the_quick_way(tmp_path):
    path = tmp_path / "labels.csv"
    path.write_text(TABLES[0])
    assert label_tables._quickly_read(TABLES[0], path) is not None
    assert list(read_text_table(path).fields.index) == [2, 3]


def some_readings(n: int) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    table = pd.DataFrame({"smear": [f"{i % 7}.png" for i in range(n)], "cell": np.arange(n) // 7, "reader": "bo"})
    table["label"] = rng.choice(["normal", " codocyte ", ""], n)
    table["kind"] = np.where(table["label"] == "", "skip", "label")
    table["x_px"] = np.where(rng.random(n) < 0.2, np.nan, rng.normal(size=n))
    table["comment"] = np.where(rng.random(n) < 0.5, "two\nlines", None)
    return table.assign(time=[None if i % 2 else datetime(2026, 1, 2, 3, 4, i % 60, tzinfo=UTC) for i in range(n)])


def test_readings_are_written_alike_the_quick_and_the_slow_way():
    table, now = some_readings(200), datetime.now(UTC)
    quick = list(readings_module._usual_rows(table, now))
    slow = [readings_module._row(reading, "", now) for reading in readings_module._readings_of(table)]
    assert [list(row) for row in quick] == slow


WRONG = [("cell", -1, "reading 6 has cell -1"), ("x_px", np.inf, "reading 6 has x_px inf")]
WRONG += [
    ("label", "a\nb", "line break"),
    ("reader", " ", "reading 6 has no reader"),
    ("kind", "guess", "kind 'guess'"),
]


@pytest.mark.parametrize(("column", "value", "message"), WRONG)
def test_a_wrong_reading_among_many_is_named_and_nothing_is_written(tmp_path, column, value, message):
    table = some_readings(20)
    table.loc[5, column] = value
    table.loc[9, column] = value
    with pytest.raises(ReadingError, match=message):
        append_readings(tmp_path / "readings.csv", table)
    assert not (tmp_path / "readings.csv").exists()


def test_of_many_labels_each_is_taken_or_named(tmp_path):
    n = 4_000
    cell = np.arange(n) % 500
    smear = [f"s{i:04}.png" for i in np.arange(n) // 500]
    places = {"x_px": cell % 25 * 40.0 + 30, "y_px": cell // 25 * 40.0 + 30}
    cells = pd.DataFrame({"smear": smear, "cell": cell, **places, "radius_px": 15.0})
    cells.to_csv(tmp_path / "cells.csv", index=False)
    labels = cells[["smear", "x_px", "y_px"]].assign(label=np.where(cell % 9, "normal", "codocyte"))
    labels["x_px"] += 1.25
    lost = labels.index[::50]
    labels.loc[lost, "y_px"] = 5000.0 + lost
    labels.to_csv(tmp_path / "labels.csv", index=False)
    errors: list[Exception] = []
    import_labels(tmp_path / "labels.csv", tmp_path, reader="bo", errors=errors)
    assert len(errors) == len(lost)
    assert str(errors[1]).startswith(
        f"{tmp_path / 'labels.csv'}: row 52 puts 'normal' at x_px 31.25, y_px 5050 of s0000"
    )
    found = load_readings(tmp_path / "readings.csv")
    wanted = cells.drop(index=lost).assign(label=labels["label"])
    pd.testing.assert_frame_equal(found[[*wanted]], wanted.reset_index(drop=True), check_dtype=False)
