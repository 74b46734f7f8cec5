"""Where smears come from: rendered ones, a folder of images, or the Chula RBC-12 dataset.

Every source yields ``Smear(name, image, truth, group)``. ``truth`` has one row per cell that a reader (or the renderer)
named: ``x_px``, ``y_px``, ``radius_px`` (NaN where unknown) and ``label``; it is None where nobody labelled the smear.
``group`` is what an honest split keeps on one side: the smear itself, or, for images that are the same byte for byte,
the first of their names.
"""

import csv
import math
import warnings
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path

import numpy as np
import pandas as pd

from rbcnb._utils.errors import InputError, SmearWarning
from rbcnb.columns import CLASSES, LABEL, RADIUS, SMEAR, X, Y
from rbcnb.smears.chula import chula_smears
from rbcnb.smears.images import (
    COMMON_SUFFIXES,
    Smear,
    SmearError,
    identical_image_groups,
    images_in,
    read_smears,
    unread_in,
)
from rbcnb.smears.segmented import is_segmented, segmented_smears
from rbcnb.smears.synthetic.render import PAPER_COUNTS, SmearSpec, largest_remainder, render_smear

LABELS_CSV = "labels.csv"


def synthetic_smears(
    n: int = 22,
    *,
    seed: int,
    n_cells: int = 154,
    diameter_px: float = 40.0,
    difficulty: float = 0.5,
    height_px: int | None = None,
    width_px: int | None = None,
) -> Iterator[Smear]:
    """Render *n* smears with known truth, named ``synthetic_00.png`` and so on.

    Over the *n* smears the classes come in the paper's ratio (345 : 356 : 2691), as exactly as whole cells allow;
    single smears differ, some rich in codocytes or hypochromic cells, as patients do. The image's size defaults to 4:3
    with 40 % of it covered by cells (800 x 600 for 154 cells of 40 px). The same arguments give the same bytes.
    """
    if n < 1:
        raise InputError(f"n must be at least 1, not {n}")
    if height_px is None or width_px is None:
        area = max(n_cells, 1) * math.pi / 4 * diameter_px**2 / 0.40
        unit = max(round(math.sqrt(area / 12) / 2), math.ceil(diameter_px / 2)) * 2  # even sides of 4 x 3 units
        height_px, width_px = height_px or 3 * unit, width_px or 4 * unit
    counts = spread_classes(n, n_cells, np.random.default_rng([seed, n, n_cells]))
    digits = max(2, len(str(n - 1)))
    for i in range(n):
        ratio = tuple(int(c) for c in counts[i]) if n_cells else PAPER_COUNTS
        spec = SmearSpec(
            height_px=height_px,
            width_px=width_px,
            n_cells=n_cells,
            diameter_px=diameter_px,
            class_ratio=ratio,
            difficulty=difficulty,
        )
        image, truth = render_smear(spec, seed=[seed, i])
        name = f"synthetic_{i:0{digits}d}.png"
        yield Smear(name, image, truth, name)


def spread_classes(n: int, n_cells: int, rng: np.random.Generator) -> np.ndarray:
    """Class counts [n, 3] of *n* smears: rows sum to *n_cells*, columns follow the paper's ratio to the nearest cell.

    The share of the two rare classes varies from smear to smear by a factor drawn from a gamma distribution.
    """
    totals = largest_remainder(n * n_cells, PAPER_COUNTS)
    counts = np.zeros((n, len(totals)), int)
    room = np.full(n, n_cells)
    for k in np.argsort(totals)[:-1]:
        left = totals[k]
        while left:
            weights = np.where(room > 0, 0.3 + rng.gamma(2.0, 0.35, n), 0)
            given = np.minimum(largest_remainder(left, weights), room)
            counts[:, k] += given
            room -= given
            left -= given.sum()
    counts[:, np.argmax(totals)] = room
    return counts


def folder_smears(folder: str | Path, *, errors: list[SmearError] | None = None) -> Iterator[Smear]:
    """Read every image of *folder*, by name; ``FOLDER/labels.csv``, where there is one, is the truth.

    ``labels.csv`` has the columns ``smear`` (file name), ``x_px``, ``y_px``, ``label`` and optionally ``radius_px``;
    smears that it does not name have truth None. A file that cannot be read raises ``SmearError``, or, when a list is
    given as *errors*, goes there and the walk goes on. A faulty ``labels.csv`` always raises, before any image is read.
    What looks like an image but is not read (`unread_in`) is a warning.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise SmearError(f"{folder}: no such folder; give the folder that holds the smear images")
    paths = images_in(folder)
    if not paths:
        raise SmearError(f"{folder}: no image in it; put smears there as {COMMON_SUFFIXES}")
    for place, message in unread_in(folder):
        warnings.warn(f"{place}: {message}", SmearWarning, stacklevel=2)
    labels = folder / LABELS_CSV
    truths = read_labels_csv(labels, [path.name for path in paths]) if labels.exists() else {}
    yield from read_smears([(path, truths.get(path.name)) for path in paths], identical_image_groups(paths), errors)


def read_labels_csv(path: str | Path, names: Iterable[str] | None = None) -> dict[str, pd.DataFrame]:
    """Read a labels table: smear name -> truth (``x_px``, ``y_px``, ``radius_px``, ``label``).

    *names*: the images there are; a row that names another is an error. Raises ``SmearError`` with file, row (the
    header is row 1) and mend.
    """
    path, rows, first_row = Path(path), {}, {}
    known = None if names is None else set(names)
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            reader = csv.DictReader(stream, skipinitialspace=True)
            header = [name.strip() for name in reader.fieldnames or []]
            reader.fieldnames = header
            if missing := [column for column in (SMEAR, X, Y, LABEL) if column not in header]:
                raise SmearError(
                    f"{path}: row 1 lacks {', '.join(missing)}; the header is {SMEAR},{X},{Y},{LABEL}[,{RADIUS}]"
                )
            for record in reader:
                where = f"{path}: row {reader.line_num}"
                name, *values = row = _label_row(record, where, known)
                if (earlier := first_row.setdefault(tuple(row[:3]), reader.line_num)) != reader.line_num:
                    raise SmearError(f"{where} names the same smear and place as row {earlier}; keep one of them")
                rows.setdefault(name, []).append(values)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise SmearError(f"{path}: cannot be read as a table ({error}); save it as CSV in UTF-8") from error
    return {name: pd.DataFrame(values, columns=[X, Y, RADIUS, LABEL]) for name, values in rows.items()}


def load_smears(
    source: str | Path,
    *,
    data: str | Path | None = None,
    n: int | None = None,
    seed: int,
    n_cells: int | None = None,
    types: str | Iterable[str] = CLASSES,
    errors: list[SmearError] | None = None,
) -> Iterator[Smear]:
    """Yield the smears of *source*: "synthetic", "chula" (from the folder *data*) or the path of a folder, which holds
    images or what `rbcnb segment` made of them.

    *n*: at most *n* smears (synthetic: 22 unless told; a folder: the first by name). *seed* renders or draws; a folder
    needs none. *n_cells*: per synthetic smear. *types*: of Chula's cells.
    """
    if str(source) == "synthetic":
        given = {name: value for name, value in (("n", n), ("n_cells", n_cells)) if value is not None}
        yield from synthetic_smears(**given, seed=seed)
    elif str(source) == "chula":
        if data is None:
            raise SmearError("chula: no folder given; add --data DIR, or get it with: rbcnb fetch chula --out DIR")
        yield from chula_smears(data, types=types, n=n, seed=seed, errors=errors)
    elif is_segmented(source):
        yield from islice(segmented_smears(source, errors=errors), n)
    else:
        yield from islice(folder_smears(source, errors=errors), n)


def _label_row(record: dict, where: str, known: set[str] | None) -> tuple[str, float, float, float, str]:
    """One row of labels.csv as (smear, x, y, radius, label); *where* names file and row in errors."""
    if None in record or None in record.values():
        raise SmearError(f"{where} has more or fewer fields than the header; give it one value for each column")
    name, label = record[SMEAR].strip(), record[LABEL].strip()
    if not name or (known is not None and name not in known):
        raise SmearError(f"{where} names the smear {name!r}, which is not in the folder; add the image or drop the row")
    if not label:
        raise SmearError(f"{where} has no label; name the class or drop the row")
    numbers = []
    for column in (X, Y, RADIUS):
        text = record.get(column, "").strip()
        try:
            value = float(text) if text or column != RADIUS else math.nan
        except ValueError:
            value = math.inf
        if math.isinf(value) or (math.isnan(value) and column != RADIUS) or (column == RADIUS and value <= 0):
            raise SmearError(f"{where} has {column} {text!r}; give a number of pixels")
        numbers.append(value)
    return name, *numbers, label
