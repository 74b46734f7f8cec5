"""Labels from other people's files into a table of readings, and out of it: `rbcnb import-labels`, `export-labels`."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from rbcnb._utils.read_files import MOST_SHOWN, shown
from rbcnb._utils.spreadsheet import FORMULA_FAULT, is_formula
from rbcnb.columns import CELL, FOUND, KIND, LABEL, LAYOUTS, OUT_LAYOUTS, RADIUS, READER, SESSION, SMEAR, X, Y
from rbcnb.labels.annotation_writers import WRITERS, write_annotations
from rbcnb.labels.assign import MATCH_RADII, matched
from rbcnb.labels.consensus import added_cells, current_labels, require_same_cells
from rbcnb.labels.formats import (
    LabelFileError,
    pictures_of,
    read_cells,
    read_class_folder,
    write_chula_points,
    write_class_folder,
    write_labels_csv,
)
from rbcnb.labels.labeller.pictures import save_added_crops
from rbcnb.labels.merge_readings import merge_readings
from rbcnb.labels.readings import NAMED, READINGS_CSV, append_readings, load_readings
from rbcnb.smears.annotations import (
    CHULA,
    COCO,
    CSV,
    CVAT,
    READINGS,
    Aids,
    annotation_files,
    files_by_format,
    format_of,
    image_shapes,
    read_annotations,
)
from rbcnb.smears.images import SmearError, collect_or_raise, images_in
from rbcnb.smears.label_tables import (
    EXCHANGED,
    NO_CELL,
    WHERE,
    LabelError,
    labels_inside,
    labels_left_out,
    left_out,
    tidied_labels,
)
from rbcnb.smears.segmented import CELLS_CSV, SMEARS_CSV, image_files, is_segmented, smears_table

FOLDER = "folder"  # per class
_SECOND = "of a cell that has another label"
_SURELY = 0.75  # share of labels that meet a cell, above which no chance is the reason
_FEW = 5  # of fewer labels chance may be the reason that most meet no cell


def readings_file(path: str | Path) -> Path:
    """The table of readings that *path* means: itself, or ``readings.csv`` in the folder."""
    path = Path(path)
    return path / READINGS_CSV if path.is_dir() else path


def import_labels(
    source: str | Path,
    into: str | Path,
    *,
    reader: str | None = None,
    layout: str | None = None,
    smears: str | Path | None = None,
    pixel_um: float | None = None,
    errors: list[SmearError] | None = None,
) -> str:
    """Adds the labels in *source* to a table of readings as those of *reader*, and returns a summary.

    Labels that this reader gave already add nothing; so a folder per class can be exported, sorted by hand and
    imported again, and only what was moved becomes a reading. Where ``cells.csv`` lies beside the table, labels with a
    place go to the found cell there (`rbcnb.labels.label_cells`); else each label is a cell of its own, numbered within
    its smear. No label is lost unseen: each that finds no smear or no cell is an error with its file and row.

    Args:
        source: a folder per class, a table, what `rbcnb.smears.annotations` reads, or a table of readings or the folder
            with it, which keep their readers, kinds, comments and times (`rbcnb.labels.merge_readings`).
        into: a table of readings, or the folder of `rbcnb segment` or of a run.
        reader: whose labels these are; of a table of readings, whose alone are taken (None: all).
        layout: one of `rbcnb.columns.LAYOUTS`; None to see from the content of *source*.
        smears: folder of the images, of which YOLO gives places as shares; other places are seen to lie in them.
        pixel_um: side of a pixel, where *source* gives places in micrometres (QuPath, ImageJ).
        errors: takes what cannot be used, and the others are imported; None raises the first, and nothing is.

    Raises:
        SmearError, LogbookError: what cannot be read, with file, row and remedy; also where most labels meet no cell.
    """
    source, table, errors_here = Path(source), readings_file(into), list[SmearError]()
    source = source / READINGS_CSV if (source / READINGS_CSV).is_file() else source
    _require_layout(layout, LAYOUTS)
    layout = layout or layout_of(source)
    if layout == READINGS:
        cells_csv = table.parent / CELLS_CSV
        cells = read_cells(cells_csv) if cells_csv.exists() else None
        summary = merge_readings(source, table, cells, reader=reader, errors=errors)
        if is_segmented(table.parent):
            save_added_crops(table.parent, added_cells(load_readings(table), cells))
        return summary
    if reader is None:
        raise LabelFileError(f"{source}: nobody is named whose labels these are; say --reader NAME")
    if is_formula(reader):
        raise LabelFileError(f"--reader {reader}: {FORMULA_FAULT}")
    images = _images(table.parent, smears)
    if layout == FOLDER:
        labels = read_class_folder(source)
    else:
        labels = read_annotations(source, layout=layout, aids=Aids(images, pixel_um), errors=errors_here)
    n_read = len(labels) + labels_left_out(errors_here).total()
    cells_csv, before = table.parent / CELLS_CSV, load_readings(table)
    cells, names, among = None, None, f"images of {smears}"
    if cells_csv.exists():
        cells, among = read_cells(cells_csv), f"smears of {cells_csv}"
        names = known_smears(cells, cells_csv)
        cells = pd.concat([cells, added_cells(before, cells)], ignore_index=True)
    elif images:
        names = images
    known = {"names": names, "among": among, "classes": before[LABEL].dropna().unique()}
    labels = tidied_labels(labels, source, **known, errors=errors_here).reset_index(drop=True)
    if images and X in labels:
        labels = _inside_images(labels, images, source, errors_here)
    if cells is not None:
        labels = _on_cells(labels, cells, source, cells_csv, errors_here)
    elif CELL not in labels:
        labels[CELL] = labels.groupby(SMEAR, sort=False).cumcount()
    again = labels.duplicated([SMEAR, CELL])
    for row in labels[again].itertuples():
        message = f"{row.where} names cell {row.cell} of {row.smear} again; keep one of them"
        errors_here.append(LabelError(message, reason=_SECOND))
    labels = labels[~again]
    for error in errors_here:
        collect_or_raise(error, errors)
    last_words = current_labels(before, reader=reader)[[SMEAR, CELL, LABEL]]
    new = labels
    if len(last_words):
        standing = labels[[SMEAR, CELL]].merge(last_words, how="left", on=[SMEAR, CELL])[LABEL]
        new = labels[standing.to_numpy(object) != labels[LABEL].to_numpy(object)]
    new = new[[name for name in (*FOUND, LABEL) if name in new]]
    n_labels = len(labels)
    del labels, cells, before  # of a million labels, much memory
    append_readings(table, new.assign(**{READER: reader, KIND: NAMED, SESSION: f"import {source.name}"}))
    n_lost = labels_left_out(errors_here).total()
    summary = f"{len(new)} readings by {reader} added to {table}, from {n_read} labels in {source} ({layout})"
    same, twice = n_labels - len(new), n_read - n_labels - n_lost
    summary += f"; {same} were {reader}'s word already" if same else ""
    summary += f"; {twice} stand there twice" if twice else ""
    return summary + left_out(errors_here)


def export_labels(
    source: str | Path,
    out: str | Path,
    *,
    reader: str | None = None,
    layout: str | None = None,
    smears: str | Path | None = None,
    replace: bool = False,
) -> str:
    """Writes the current labels of *source* to *out*, and returns a summary.

    Args:
        source: a table of readings, or the folder of `rbcnb segment` or of a run with one.
        out: a CSV, which ``rbcnb reproduce --smears`` takes when it lies beside the smears as ``labels.csv``, or a
            folder.
        reader: whose last words; None for what more than half of the readers say.
        layout: one of `rbcnb.columns.OUT_LAYOUTS`; None for ``csv``, ``coco`` or ``cvat`` where *out* ends in .csv,
            .json or .xml, else ``folder``.
        smears: folder of the images, for the formats that hold their sizes (all of `WRITERS`).
        replace: write over a file that is there already.

    Raises:
        SmearError, LogbookError: what cannot be read or written, with the remedy.
    """
    table, out = readings_file(source), Path(out)
    if not table.exists():
        raise LabelFileError(
            f"{table}: no readings there; label cells first, or bring them in with: rbcnb import-labels"
        )
    _require_layout(layout, OUT_LAYOUTS)
    layout = layout or {".csv": CSV, ".json": COCO, ".xml": CVAT}.get(out.suffix.lower(), FOLDER)
    if out.is_dir() and any(out.iterdir()):  # what is left of older labels would pass for new ones
        raise LabelFileError(f"{out}: is not empty; choose another folder, or empty it")
    if out.is_file() and not replace:
        raise LabelFileError(f"{out}: is there already; choose another name, or say --replace")
    readings = load_readings(table)
    if reader is not None and reader not in set(readings[READER]):
        raise LabelFileError(f"{table}: no reading by {reader}; its readers are {', '.join(readings[READER].unique())}")
    view = current_labels(readings, reader=reader)
    labels = view[view[KIND] == NAMED].reset_index(drop=True)
    if labels.empty:
        raise LabelFileError(f"{table}: no cell has a label that stands; label cells first")
    cells_csv = table.parent / CELLS_CSV
    if cells_csv.exists():
        cells = read_cells(cells_csv)
        if is_segmented(table.parent):
            require_same_cells(readings, cells, table.parent)
        if labels[X].isna().any():
            labels = labels.fillna(_circles(labels, cells))
    if layout == FOLDER:
        write_class_folder(labels, pictures_of(labels, table.parent), out)
    elif layout in WRITERS:
        shapes = image_shapes(_images(table.parent, smears), labels[SMEAR].unique())
        write_annotations(labels, shapes, out, layout=layout)
    else:
        (write_labels_csv if layout == CSV else write_chula_points)(labels, out)
    rest = view.loc[view[KIND] != NAMED, KIND].value_counts()
    left = "; left out: " + ", ".join(f"{n} {kind}" for kind, n in rest.items()) if len(rest) else ""
    counts = ", ".join(f"{n} {label}" for label, n in labels[LABEL].value_counts().items())
    return f"{len(labels)} labels written to {out} ({layout}): {counts}{left}"


def layout_of(source: Path) -> str:
    """The layout of a file, or of what a folder holds, by its content.

    Raises:
        SmearError: there is nothing, or no labels; a format that is known and not read is named with a remedy.
    """
    if not source.exists():
        raise LabelFileError(f"{source}: no such file or folder; check the path")
    if (source / "Label").is_dir():
        return CHULA
    if source.is_file() and (layout := format_of(source)) is not None:
        return layout
    if source.is_file() and source.suffix.lower() in (".csv", ".tsv", ".txt", ".xls"):
        return CSV  # and reading it says what it lacks
    found, others = files_by_format(annotation_files(source))
    if len(found) > 1:
        names = ", ".join(f"{layout} ({files[0].name})" for layout, files in sorted(found.items()))
        raise LabelFileError(f"{source}: holds labels as {names}; name one with --as, or one file")
    if found:
        return found.popitem()[0]
    if faults := [fault for fault in others.values() if fault is not None]:
        raise faults[0]
    if source.is_dir() and (not others or any(path.is_dir() for path in source.iterdir())):
        return FOLDER
    names = f" ({', '.join(path.name for path in others)[:MOST_SHOWN]})" if source.is_dir() else ""
    raise LabelFileError(
        f"{source}: holds no labels in a form that is known{names}; see docs/labels.md for those that are read"
    )


def known_smears(cells: pd.DataFrame, cells_csv: Path) -> list[str]:
    """The smears that were segmented, those without a cell as well."""
    smears = cells_csv.with_name(SMEARS_CSV)
    more = smears_table(smears)[SMEAR].dropna() if smears.exists() else []
    return list(dict.fromkeys([*cells[SMEAR], *more]))


def _images(folder: Path, smears: str | Path | None) -> dict[str, Path]:
    """File name -> image, in the folder *smears*, or where `rbcnb segment` found it."""
    return image_files(folder) if smears is None else {path.name: path for path in images_in(Path(smears))}


def _inside_images(
    labels: pd.DataFrame, images: dict[str, Path], source: Path, errors: list[SmearError]
) -> pd.DataFrame:
    """*labels* without those outside of their image, which go to *errors*."""
    shapes = image_shapes(images, labels[SMEAR].unique())
    there = [
        labels_inside(rows, shapes[smear], errors, source) if smear in shapes else rows
        for smear, rows in labels.groupby(SMEAR, sort=False)
    ]
    return pd.concat([labels[:0], *there], ignore_index=True)


def _on_cells(
    labels: pd.DataFrame, cells: pd.DataFrame, source: Path, cells_csv: Path, errors: list[SmearError]
) -> pd.DataFrame:
    """*labels* with the numbers and circles of found cells, named or near; those of none go to *errors*."""
    if X not in labels:
        circles = _circles(labels, cells)
        lost = circles[X].isna()
        remedy = f"is not in {cells_csv}; import into the folder that the pictures came from"
        for row in labels[lost].itertuples():
            message = f"{row.where} names cell {row.cell} of {row.smear}, which {remedy}"
            errors.append(LabelError(message, reason=NO_CELL))
        return labels.assign(**circles)[~lost]
    cell, of = matched(cells, labels)
    reach = MATCH_RADII * cells.groupby(SMEAR)[RADIUS].median()
    away = np.hypot(*(cells.loc[cell, axis].to_numpy(float) - labels.loc[of, axis].to_numpy(float) for axis in (X, Y)))
    close = of[away <= labels.loc[of, SMEAR].map(reach).to_numpy(float) / 2]
    labels = _plausible(labels, cells, of, close, source, cells_csv, errors)
    left = np.isin(of, labels.index)
    cell, of = cell[left], of[left]
    found = cells.loc[cell, [*FOUND]].assign(**{name: labels.loc[of, name].to_numpy() for name in (LABEL, WHERE)})
    lost = labels.drop(index=of)
    near = cells[cells[SMEAR].isin(lost[SMEAR].unique())].groupby(SMEAR)
    places = {smear: there[[X, Y]].to_numpy(float) for smear, there in near}
    for row in lost.itertuples():
        x, y = places.get(row.smear, np.empty((0, 2))).T
        distance = np.hypot(x - row.x_px, y - row.y_px)
        where = f"{row.where} puts {shown(row.label)} at {X} {row.x_px:g}, {Y} {row.y_px:g} of {row.smear}"
        if distance.min(initial=np.inf) <= reach.get(row.smear, 0.0):
            message = f"{where}, and another label is nearer to the cell there; keep one of them"
            errors.append(LabelError(message, reason=_SECOND))
        else:
            message = f"{where}, and no found cell is near; correct the place, or drop the label"
            errors.append(LabelError(message, reason=NO_CELL))
    return found.sort_index().reset_index(drop=True)


def _require_layout(layout: str | None, layouts: Sequence[str]) -> None:
    if layout not in (None, *layouts):
        raise LabelFileError(f"layout {layout!r}: no form of labels has this name; choose from {', '.join(layouts)}")


def _plausible(
    labels: pd.DataFrame,
    cells: pd.DataFrame,
    of: np.ndarray,
    close: np.ndarray,
    source: Path,
    cells_csv: Path,
    errors: list[SmearError],
) -> pd.DataFrame:
    """*labels* without smears whose places are not those of their cells, which go to *errors*.

    *of* are the labels that meet a cell, *close* those that lie near its middle.

    The remaining labels are judged once more together, as a few labels say little. If none remains, that is an error.
    """
    if labels.empty:
        return labels
    faults = _implausible(labels, cells, of, close, labels[SMEAR], source, cells_csv)
    left = labels[~labels[SMEAR].isin(list(faults))]
    judged = labels if left.empty else left
    rest = _implausible(judged, cells, of, close, pd.Series("", index=judged.index), source, cells_csv)
    if rest or left.empty:
        raise [*rest.values(), *faults.values()][0]
    errors += faults.values()
    return left


def _implausible(
    labels: pd.DataFrame,
    cells: pd.DataFrame,
    of: np.ndarray,
    close: np.ndarray,
    group: pd.Series,
    source: Path,
    cells_csv: Path,
) -> dict[str, LabelError]:
    """Smear ("": all) -> why not, for those whose labels meet cells by chance, or would with x and y exchanged.

    Where cells lie densely, half of all places lie in one. Of labels that meet a cell by chance a third lie near its
    middle; of people's clicks four in five do.
    """
    faults = {}
    counts = pd.DataFrame({"n": group.value_counts()})
    for name, those in (("met", of), ("close", close)):
        counts[name] = group[group.index.isin(those)].value_counts().reindex(counts.index, fill_value=0)
    # Where most labels meet a cell no more could with x and y exchanged.
    counts["most"] = np.maximum(counts["n"] / 2, counts["met"] + np.maximum(2, counts["n"] / 5))
    doubtful = labels[group.map(counts["n"] >= counts["most"]).astype(bool)]
    others = group[matched(cells, doubtful.rename(columns={X: Y, Y: X}))[1]].value_counts()
    counts["exchanged"] = others.reindex(counts.index, fill_value=0)
    for row in counts.itertuples():
        of = row.Index and f" of {row.Index}"
        met = f"{source}: {row.met} of {row.n} labels{of} meet a cell of {cells_csv}"
        if row.exchanged >= row.most:
            message = (
                f"{met}, so that most meet no cell or a wrong one, and {row.exchanged} would if x and y were "
                "exchanged; exchange the columns"
            )
            faults[row.Index] = LabelError(message, row.n, EXCHANGED)
        elif row.n >= _FEW and (row.met < row.n / 2 or (row.met < _SURELY * row.n and row.close < row.met / 2)):
            message = (
                f"{met}: most labels meet no cell, and some do by chance ({row.close} near its middle), so none of "
                "them is taken; see that places are pixels of these images, from the top left, and that most cells "
                "were found, or import into a folder without cells.csv, where each label is a cell of its own"
            )
            faults[row.Index] = LabelError(message, row.n, NO_CELL)
    return faults


def _circles(labels: pd.DataFrame, cells: pd.DataFrame) -> pd.DataFrame:
    places = cells.set_index([SMEAR, CELL])[[X, Y, RADIUS]]
    return places.reindex(pd.MultiIndex.from_frame(labels[[SMEAR, CELL]])).set_axis(labels.index)
