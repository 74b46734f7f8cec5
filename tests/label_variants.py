"""A good table of labels in the many forms that people and spreadsheets give it, and with their faults."""

import random
import unicodedata
from collections.abc import Sequence
from typing import NamedTuple

import pandas as pd

from rbcnb.columns import LABEL, RADIUS, SMEAR, X, Y

IMAGES = ["Pré 1.png", "P2.tif"]
ROWS = [
    ("Pré 1.png", 12.5, 7.25, 4.0, "normal"),
    ("Pré 1.png", 30.0, 8.5, 4.5, "burr cell"),
    ("P2.tif", 3.0, 39.0, 5.0, "codocyte"),
    ("P2.tif", 41.0, 17.5, 4.0, "normal"),
    ("P2.tif", 22.0, 2.75, 4.0, "codocyte"),
]
GOOD = pd.DataFrame(ROWS, columns=[SMEAR, X, Y, RADIUS, LABEL])
COLUMNS = list(GOOD.columns)
SPOILT = [(1, "left"), (1, "-40"), (2, ""), (2, "1e999"), (4, ""), (0, ""), (0, "lost.png"), (3, "-1")]


class Variant(NamedTuple):
    """A table of the rows in ``GOOD``."""

    text: str
    encoding: str
    spoilt: set[int]  # rows of ``GOOD`` that cannot be read
    at_line: dict[int, int]  # row of ``GOOD`` -> line of the text


def variant(rng: random.Random, *, spoil: Sequence[tuple[int, str]] = SPOILT) -> Variant:
    """A good table in another form; *spoil* are the faults that it may have."""
    separator = rng.choice([",", ";", "\t", "|"])
    comma = rng.choice([True, False])  # decimal commas, quoted where the separator asks for it
    header = {
        SMEAR: rng.choice(["smear", "Smear ", "SMEAR", "image", "filename"]),
        X: rng.choice(["x_px", " X_px", "x", "X [px]"]),
        Y: rng.choice(["y_px", "Y_PX ", "y", "Y (px)"]),
        RADIUS: rng.choice(["radius_px", "Radius px"]),
        LABEL: rng.choice(["label", "Label", "class", "CLASS "]),
    }
    names = {
        "Pré 1.png": ["Pré 1.png", "PRÉ 1.PNG", "pré 1", unicodedata.normalize("NFD", "Pré 1.png"), r"C:\a\Pré 1.png"],
        "P2.tif": ["P2.tif", "p2.TIF", "P2", "scans/P2.tif", "P2.png"],
    }
    names = {image: rng.choice(forms) for image, forms in names.items()}
    records = [[names[name], *(f"{n:.2f}" for n in numbers), label] for name, *numbers, label in ROWS]
    order = rng.sample(range(5), 5)
    spoilt = set()
    if rng.random() < 0.4:
        row = rng.randrange(5)
        spoilt.add(row)
        column, value = rng.choice(spoil)
        records[row][column] = value
    if rng.random() < 0.15:
        row = rng.randrange(5)
        spoilt.add(row)
        records[row] = records[row][: rng.randrange(1, 5)]
    if comma:
        records = [
            [field.replace(".", ",") if 0 < at < 4 else field for at, field in enumerate(row)] for row in records
        ]
    columns = [header[COLUMNS[at]] for at in order]
    twice = rng.random() < 0.2
    again = rng.randrange(5)

    def line(fields: list[str]) -> str:
        whole = len(fields) == 5
        fields = [fields[at] for at in order] if whole else fields
        fields = [*fields, fields[again]] if twice and whole else fields
        fields = [f'"{field}"' if separator in field or rng.random() < 0.1 else field for field in fields]
        padding = rng.choice(["", " "]) if separator != "\t" else ""
        return separator.join(f"{padding}{field}" if at else field for at, field in enumerate(fields))

    empty = separator * rng.choice([0, 4, 7])
    lines = [f"sep={separator}"] if rng.random() < 0.25 else []
    lines += ["# drawn by anna", *[""] * rng.randrange(2)] if rng.random() < 0.3 else []
    trailing = separator * (2 if rng.random() < 0.2 else 0)
    lines.append(separator.join([*columns, columns[again]] if twice else columns) + trailing)
    at_line = {}
    for number, record in enumerate(records):
        if rng.random() < 0.15:
            lines.append(rng.choice(["", empty, "# a break"]))
        lines.append(line(record) + (trailing if len(record) == 5 else ""))
        at_line[number] = len(lines)
    lines += [empty] * rng.randrange(3)
    end = rng.choice(["\n", "\r\n", "\r"])
    encoding = rng.choice(["utf-8", "utf-8-sig", "utf-16", "cp1252"])
    encoding = "utf-8" if encoding == "cp1252" and "\u0301" in names["Pré 1.png"] else encoding
    return Variant(end.join(lines) + rng.choice(["", end]), encoding, spoilt, at_line)
