"""Where smears come from: rendered ones, a folder of images, or the Chula RBC-12 dataset.

Every source yields ``Smear(name, image, truth, group)``. ``truth`` has one row per cell that a reader (or the renderer)
named: ``x_px``, ``y_px``, ``radius_px`` (NaN where unknown) and ``label``; it is None where nobody labelled the smear.
``group`` is what an honest split keeps on one side: the smear itself, or, for images that are the same byte for byte or
show some of the same cells, the first of their names.
"""

import math
import re
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np
import pandas as pd

from rbcnb._utils.errors import InputError, SmearWarning
from rbcnb.columns import CLASSES, LABEL, RADIUS, SMEAR, X, Y
from rbcnb.smears.annotations import CSV, FORMATS, Aids, annotations_beside, format_of, read_files
from rbcnb.smears.chula import chula_smears
from rbcnb.smears.images import COMMON_SUFFIXES, Smear, SmearError, images_in, read_smears, unread_in
from rbcnb.smears.label_tables import labels_inside, read_label_table, tidied_labels
from rbcnb.smears.overlap import field_groups
from rbcnb.smears.segmented import is_segmented, segmented_smears
from rbcnb.smears.synthetic.render import PAPER_COUNTS, SmearSpec, largest_remainder, render_smear

LABELS_CSV = "labels.csv"
_TABLE_SUFFIXES = (".csv", ".tsv", ".txt")
_LIKE_LABELS = re.compile(r"labels?(\.(csv|tsv|txt|xlsx?|ods))+", re.IGNORECASE)


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
    """Renders *n* smears with known truth, named ``synthetic_00.png`` and so on.

    Over the *n* smears the classes come in the paper's ratio (345 : 356 : 2691), as exactly as whole cells allow;
    single smears differ, some rich in codocytes or hypochromic cells, as patients do. The same arguments give the same
    bytes.

    Args:
        n: number of smears.
        seed: of all that is drawn.
        n_cells: cells of each smear.
        diameter_px: of a typical cell.
        difficulty: 0 to 1: how much cells, light and focus vary.
        height_px, width_px: of the images; by default 4:3 with 40 % covered by cells (800 x 600 for 154 cells of
            40 px).

    Raises:
        ValueError: an argument cannot be used; the message names it.
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


def folder_smears(
    folder: str | Path, *, n: int | None = None, errors: list[SmearError] | None = None
) -> Iterator[Smear]:
    """Reads every image of *folder*, by name; ``FOLDER/labels.csv``, where there is one, is the truth.

    ``labels.csv`` has the columns ``smear`` (file name), ``x_px``, ``y_px``, ``label`` and optionally ``radius_px``,
    see `rbcnb.smears.label_tables`; in its place the files of one other program may lie there, see
    `rbcnb.smears.annotations`. Smears that these do not name have truth None. What looks like an image but is not read
    (`unread_in`) is a warning.

    Args:
        folder: where the images lie; folders within it are not looked into.
        n: how many will be taken, so that only they are looked at for overlaps; None for all.
        errors: takes what is wrong with a file or a label, and the others follow; None raises it.

    Raises:
        SmearError: no folder, no image in it, or a ``labels.csv`` that is not a table of labels; without *errors*, also
            a file or a label that cannot be used.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise SmearError(f"{folder}: no such folder; give the folder that holds the smear images")
    paths = images_in(folder)
    if not paths:
        raise SmearError(f"{folder}: no image in it; put smears there as {COMMON_SUFFIXES}")
    for place, message in unread_in(folder):
        warnings.warn(f"{place}: {message}", SmearWarning, stacklevel=2)
    labels, source = _labels_beside(folder, paths, errors)
    truths = dict(iter(labels.groupby(SMEAR, sort=False)))
    for smear in read_smears([(path, None) for path in paths], field_groups(paths, n=n), errors):
        if smear.name in truths:
            inside = labels_inside(truths[smear.name], smear.image.shape[:2], errors, source)
            smear = replace(smear, truth=inside[[X, Y, RADIUS, LABEL]].reset_index(drop=True))
        yield smear


def label_file(folder: str | Path) -> Path | None:
    """The table of labels in *folder*: ``labels.csv``, or else the only file of such a name, as ``Labels.TSV``.

    Raises:
        SmearError: several may be meant, or it is a workbook; they are named.
    """
    found = [path for path in label_files(folder) if _LIKE_LABELS.fullmatch(path.name)]
    exact = [path for path in found if path.name == LABELS_CSV]
    texts = [path for path in found if path.suffix.lower() in _TABLE_SUFFIXES]
    tables = exact or [path for path in texts if path.suffix.lower() != ".txt" or format_of(path) == CSV]
    if len(tables) > 1:
        names = ", ".join(path.name for path in tables)
        raise SmearError(f"{folder}: any of {names} may be the table of labels; keep one of them as {LABELS_CSV}")
    if found and not texts:
        raise SmearError(f"{found[0]}: is not a table in text; save it as CSV in UTF-8, named {LABELS_CSV}")
    for path in found:
        if path not in tables:
            reason = f"as {tables[0].name} lies beside it" if tables else "as it is no table of labels"
            warnings.warn(f"{path}: is not read, {reason}", SmearWarning, stacklevel=2)
    return tables[0] if tables else None


def label_files(folder: str | Path) -> list[Path]:
    """The files in *folder* that are named as a table of labels; where there are none, those of other programs."""
    named = sorted(path for path in Path(folder).iterdir() if _LIKE_LABELS.fullmatch(path.name) and path.is_file())
    return named + [path for paths in annotations_beside(Path(folder)).values() for path in paths if path not in named]


def _labels_beside(folder: Path, images: list[Path], errors: list[SmearError] | None) -> tuple[pd.DataFrame, Path]:
    """The labels that lie among the *images* of *folder*, and what they are from."""
    named = {path.name: path for path in images}
    if (table := label_file(folder)) is not None:
        if (layout := format_of(table)) not in FORMATS:
            return read_label_table(table, names=named, errors=errors), table
        labels = read_files([table], layout=layout, aids=Aids(named), errors=errors)
        return tidied_labels(labels, table, names=named, errors=errors), table
    found = annotations_beside(folder)
    if len(found) > 1:
        files = ", ".join(paths[0].name for paths in found.values())
        raise SmearError(f"{folder}: holds labels as {', '.join(found)} ({files}); keep one of them beside the images")
    for layout, paths in found.items():
        labels = read_files(paths, layout=layout, aids=Aids(named), errors=errors)
        return tidied_labels(labels, folder, names=named, errors=errors), folder
    return pd.DataFrame(columns=[SMEAR]), folder


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
    """Yields the smears of *source*, one by one.

    Args:
        source: "synthetic", "chula", or the path of a folder, which holds images or what `rbcnb segment` made of them.
        data: folder of Chula RBC-12; other sources need none.
        n: at most so many smears (synthetic: 22 by default; Chula: drawn; a folder: the first by name).
        seed: renders synthetic smears, and draws Chula's; a folder needs none.
        n_cells: cells of each synthetic smear (default 154).
        types: cell types of Chula that are the truth, or "all".
        errors: takes what is wrong with a smear or a label, and the others follow; None raises it.

    Raises:
        SmearError: there are no smears, or, without *errors*, one cannot be used.
    """
    if str(source) == "synthetic":
        given = {name: value for name, value in (("n", n), ("n_cells", n_cells)) if value is not None}
        yield from synthetic_smears(**given, seed=seed)
    elif str(source) == "chula":
        if data is None:
            raise SmearError("chula: no folder given; add --data DIR, or get it with: rbcnb fetch chula --out DIR")
        yield from chula_smears(data, types=types, n=n, seed=seed, errors=errors)
    elif is_segmented(source):
        yield from islice(segmented_smears(source, n=n, errors=errors), n)
    else:
        yield from islice(folder_smears(source, n=n, errors=errors), n)
