"""`rbcnb import-labels` over many forms and faults of a table: each label is read, or counted and named."""

import random
import re
import shutil

import numpy as np
import pandas as pd
import pytest
from label_variants import IMAGES, ROWS, SPOILT, variant
from PIL import Image

from rbcnb.cli import main
from rbcnb.columns import CELL, LABEL, RADIUS, SMEAR, X, Y
from rbcnb.labels.readings import load_readings

FAULTS = [*SPOILT, (1, "4000.5"), (2, "40.75"), (0, "#P2.tif"), (4, "=1+1"), (1, "1,5,2")]
EXTRA = ("n.png", 11.0, 11.5, 4.0, "normal")  # in a second file of the folder


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    """Images of 50 x 40 pixels, and a folder with the cells in them."""
    lab = tmp_path_factory.mktemp("lab")
    (lab / "smears").mkdir()
    (lab / "cells").mkdir()
    for name in (*IMAGES, EXTRA[0]):
        Image.fromarray(np.zeros((40, 50, 3), np.uint8)).save(lab / "smears" / name)
    cells = pd.DataFrame([*ROWS, EXTRA], columns=[SMEAR, X, Y, RADIUS, LABEL]).drop(columns=LABEL)
    cells[CELL] = cells.groupby(SMEAR).cumcount()
    cells.to_csv(lab / "cells" / "cells.csv", index=False)
    return lab


def repeated(rng, text, at_line, spoilt):
    """*text* with a row again at its end, as it is or of another class; and the rows that are lost for it."""
    end = next(mark for mark in ("\r\n", "\n", "\r") if mark in text)
    number = rng.choice([n for n in range(len(ROWS)) if n not in spoilt])
    line = text.split(end)[at_line[number] - 1]
    disputed = rng.random() < 0.5
    line = line.replace(ROWS[number][-1], "stomatocyte") if disputed else line
    return text.rstrip("\r\n") + end + line + end, ({number} if disputed else set())


def numbers(pattern, text):
    return [int(found) for found in re.findall(pattern, text)]


def judge(printed, code, read, path, *, lost, n_labels, extra):
    """That every label of *path* is in the table *read*, or counted in the summary and named with its row."""
    out, err = printed
    (added,), (total,) = numbers(r"(\d+) readings by bo added", out), numbers(r"from (\d+) labels", out)
    twice, left = sum(numbers(r"(\d+) stand there twice", out)), sum(numbers(r"(\d+) left out", out))
    reasons = out.partition(" left out: ")[2]
    assert added + twice + left == total == n_labels + extra, out
    assert sum(numbers(r"(?:^|, )(\d+) ", reasons)) == left, out
    assert len(read) == added
    assert code == (1 if left else 0)
    for line in lost.values():
        assert re.search(rf"{re.escape(str(path))}.* row {line}\b|{re.escape(str(path))}: row {line}\b", err), err
    there = set(read[[SMEAR, X, Y, LABEL]].itertuples(index=False, name=None))
    assert {(*row[:3], row[4]) for number, row in enumerate(ROWS) if number not in lost} <= there
    assert (EXTRA[0], *EXTRA[1:3], EXTRA[4]) in there or not extra


@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(1, 10))])
def test_each_label_of_many_tables_is_read_or_counted_and_named(lab, tmp_path, seed, capsys):
    for number in range(20):
        rng = random.Random(7000 + 100 * seed + number)
        table = variant(rng, spoil=FAULTS)
        text, lost, n_labels = table.text, set(table.spoilt), len(ROWS)
        if rng.random() < 0.3:
            text, more = repeated(rng, text, table.at_line, lost)
            lost, n_labels = lost | more, n_labels + 1
        headless = rng.random() < 0.1
        text = re.sub("label|class", "lable", text, flags=re.IGNORECASE) if headless else text
        folder = tmp_path / f"{number}"
        folder.mkdir()
        path = folder / rng.choice(["b.csv", "b.tsv", "B.CSV"])
        path.write_bytes(text.encode(table.encoding))
        for form in ("file", "folder"):
            into = tmp_path / f"{number} {form}.csv"
            if rng.random() < 0.5:
                into = shutil.copytree(lab / "cells", tmp_path / f"{number} {form}") / "readings.csv"
            if form == "folder":
                good = ",".join((SMEAR, X, Y, RADIUS, LABEL)) + "\n" + ",".join(map(str, EXTRA)) + "\n"
                (folder / f"c{path.suffix}").write_text(good)
            source = path if form == "file" else folder
            command = ["import-labels", str(source), str(into), "--reader", "bo", "--smears", str(lab / "smears")]
            code = main(command)
            printed, read = capsys.readouterr(), load_readings(into)
            if headless:
                assert re.search(rf"{re.escape(str(path))}: row \d+ lacks label", printed.err)
                assert (code, len(read)) == ((2, 0) if form == "file" else (1, 1))
                assert form == "file" or "files that cannot be read: 1" in printed.out
                continue
            lines = {row: table.at_line[row] for row in lost}
            judge(printed, code, read, path, lost=lines, n_labels=n_labels, extra=form == "folder")


def test_the_judge_can_fail(tmp_path, capsys):
    path = tmp_path / "a.csv"
    path.write_text("smear,x_px,y_px,label\n" + "".join(f"{row[0]},{row[1]},{row[2]},{row[4]}\n" for row in ROWS))
    code = main(["import-labels", str(path), str(tmp_path / "r.csv"), "--reader", "bo"])
    printed, read = capsys.readouterr(), load_readings(tmp_path / "r.csv")
    judge(printed, code, read, path, lost={}, n_labels=5, extra=0)
    for change in (
        {"lost": {1: 3}},
        {"n_labels": 6},
        {"read": read[1:]},
        {"read": read.assign(label="x")},
        {"code": 1},
    ):
        given = {"code": code, "read": read, "lost": {}, "n_labels": 5} | change
        with pytest.raises(AssertionError):
            judge(printed, path=path, extra=0, **given)
