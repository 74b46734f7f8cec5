"""Tables of labels as people and their spreadsheets write them.

What is unambiguous is read: comma, semicolon, tab or bar between the fields, a line ``sep=;``, comment lines, decimal
commas, any capitals and order of the header, UTF-8, UTF-16 or Windows-1252, empty rows and columns. What is not is
named with its file, its row (the line of the file; the header is most often row 1) and the remedy.
"""

import csv
import io
import math
import re
import warnings
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from rbcnb._utils.errors import SmearError, SmearWarning
from rbcnb._utils.read_files import MOST_SHOWN, cause_of, read_bytes, shown
from rbcnb._utils.spreadsheet import FORMULA_FAULT, is_formula
from rbcnb.columns import CELL, KIND, LABEL, RADIUS, READER, SMEAR, X, Y
from rbcnb.smears.images import collect_or_raise
from rbcnb.smears.smear_names import is_no_class, join_spellings, match_names, spelling_notes

# Reasons of a `LabelError`.
UNREADABLE, UNKNOWN_SMEAR, OUTSIDE = "unreadable", "of an unknown smear", "outside of the image"
EXCHANGED, NO_CELL, NO_CLASS = "with x and y exchanged", "near no found cell", "without a class"
# What programs write where there is no value; in lower case.
NO_VALUES = ("na", "n/a", "#n/a", "nan", "null", "none", "-", "?", "#ref!", "#name?", "#value!", "#div/0!")
SHAPE = "image_shape"  # (height, width) in pixels of the image, as a file of labels says it
WHERE = "where"  # file and row, or file and shape, that a label is from
SYNONYMS = {  # names that a column may have, as `plain_name` writes them
    SMEAR: ("smear", "image", "filename", "file_name", "file", "image_name", "image_file", "smear_name"),
    X: ("x_px", "x", "x_pixel", "x_pixels", "center_x", "centre_x", "x_center", "x_centre", "cx"),
    Y: ("y_px", "y", "y_pixel", "y_pixels", "center_y", "centre_y", "y_center", "y_centre", "cy"),
    RADIUS: ("radius_px", "radius", "radius_pixel", "radius_pixels"),
    LABEL: ("label", "class", "class_name", "cell_type", "category"),
    CELL: ("cell",),
}
NEEDED = (SMEAR, X, Y, LABEL)
_SEPARATORS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars"}
_MOST_FAULTS = 50  # rows that are named one by one
_MOST_TITLES = 5  # rows above the header
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?", re.IGNORECASE)
_THOUSANDS = re.compile(r"[+-]?[1-9]\d{0,2}([.,])\d{3}")  # 1,234 may be 1234 as well as 1.234
# What the quick way leaves to the slow one: quotation marks, comments, and characters that end or pad lines elsewhere.
_UNUSUAL = re.compile('["#\\0\\x0b\\x0c\\x1c-\\x1f\\x85\\u2028\\u2029]')
_PLAIN_NUMBERS = re.compile(r"(?:(?:[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+))?\n)*")
_WORKBOOKS = {b"PK\x03\x04": "a workbook or an archive", b"\xd0\xcf\x11\xe0": "a workbook of an older Excel"}
# Letters of Western Europe in Windows-1252, a few together at most: other alphabets and codes look otherwise.
_WESTERN = re.compile(
    rb"[\x00-\x7f]*([\x80\x91-\x94\x96\xa0\xb0\xb5\xc0-\xd6\xd8-\xf6\xf8-\xff]{1,2}([\x00-\x7f]+|$))*"
)


class LabelError(SmearError):
    """Labels that cannot be used; the message names file, row and remedy, ``n_labels`` says how many they are.

    ``reason`` is the cause in a few words that follow their number in a summary.
    """

    def __init__(self, message: str, n_labels: int = 1, reason: str = UNREADABLE) -> None:
        super().__init__(message)
        self.n_labels, self.reason = n_labels, reason


@dataclass(frozen=True, eq=False)
class TextTable:
    """A table as text."""

    path: Path
    fields: pd.DataFrame  # str, without spaces around; the index is the row in the file, columns are named as there
    header_row: int
    separator: str
    faults: dict[int, LabelError]  # rows that do not fit the header
    hashed: frozenset[int] = frozenset()  # rows that begin with #, and hold too many numbers for a comment


def read_text_table(path: str | Path) -> TextTable:
    """Reads a table as text, whatever separates its fields.

    Raises:
        SmearError: the file is none, or cannot be taken apart; the message names file and row.
    """
    path = Path(path)
    text = decoded_text(path)
    if (quick := _quickly_read(text, path)) is not None:
        return quick
    named = re.match(r'"?sep=(.)"?[,;\t|]*(?=[\r\n]|$)', text, re.IGNORECASE)
    text = text[named.end() :] if named else text  # the end of its line stays, so that rows keep their numbers
    separators = [named[1], *_SEPARATORS] if named else [*_SEPARATORS]
    lines = list(io.StringIO(text, newline=""))
    if titles := _titles(lines, "".join(separators)):
        first = lines[titles[0]].strip().strip("".join([*separators, '"']))
        note = f"{path}: {shown(first)}, above the names of the columns, is taken for a title"
        warnings.warn(note, SmearWarning, stacklevel=3)
        lines = ["\n" if at in titles else line for at, line in enumerate(lines)]
    separator = max(separators, key=lambda mark: len(_first_record(lines, mark)))
    records, comments = _records(lines, separator, path)
    if not records or any(map(is_number, records[0][2])):  # VIA's and NumPy's header begins with #
        width = len(records[0][2]) if records else 0
        rows = [(row, values) for row, values in comments if not records or row < records[0][0]]
        rows = [(row, values) for row, values in rows if len(values) == width or (not records and len(values) > 1)]
        records[:0] = [(row, row, [values[0].lstrip("# "), *values[1:]]) for row, values in rows[-1:]]
    if not records:
        raise SmearError(f"{path}: the file is empty: there is no row in it; save the table again")
    header_row, _, header = records.pop(0)
    for row, values in comments:
        if row > header_row and len(values) == len(header) and sum(map(bool, values)) >= len(NEEDED):
            note = f"{path}: row {row} begins with # and is taken for a comment, though it may hold a label"
            warnings.warn(note, SmearWarning, stacklevel=3)
    width = max(at for at, name in enumerate(header, 1) if name)  # of the columns that have a name
    fields, faults = {}, {}
    for row, last, values in records:
        if width <= len(values) < len(header):
            values += [""] * (len(header) - len(values))
        if not any(values[len(header) :]):
            values = values[: len(header)]
        if len(values) == len(header):
            fields[row] = values
        elif row != last:
            faults[row] = LabelError(
                f"{path}: rows {row} to {last} hang together by an open quotation mark; close or remove it",
                last - row + 1,
            )
        else:
            faults[row] = LabelError(
                f"{path}: row {row} has more or fewer fields than the header: {len(values)}, not {len(header)}, with "
                f"{_name_of(separator)} between them; give it one value for each column"
                + (", and numbers a decimal point" if separator == "," and len(values) > len(header) else "")
            )
    table = pd.DataFrame.from_dict(fields, orient="index", columns=pd.Index(header, dtype=object), dtype=object)
    hashed = frozenset(row for row in fields if lines[row - 1].lstrip().startswith("#"))
    return TextTable(path, table, header_row, separator, faults, hashed)


def _quickly_read(text: str, path: Path) -> TextTable | None:
    """The table in *text*, a row in each line; None where anything is unusual: then row by row says what it is."""
    lines = text.replace("\r\n", "\n").rstrip("\n").split("\n")
    separator = max(_SEPARATORS, key=lines[0].count)
    header = [name.strip() for name in lines[0].split(separator)]
    usual = len(header) > 1 and all(header) and not _UNUSUAL.search(text) and text[:4].casefold() != "sep="
    usual = usual and text.count("\r") == text.count("\r\n")
    if not usual or {line.count(separator) for line in lines} != {len(header) - 1}:
        return None
    del lines
    table = pd.read_csv(
        io.StringIO(text),
        sep=separator,
        skiprows=1,
        names=list(range(len(header))),
        index_col=False,
        dtype=str,
        na_filter=False,
        quoting=csv.QUOTE_NONE,
        skip_blank_lines=False,
    )
    table.index = pd.RangeIndex(2, len(table) + 2)
    table = table.apply(lambda texts: texts.str.strip())
    table = table[(table != "").any(axis=1)]
    table.columns = pd.Index(header, dtype=object)
    return TextTable(path, table, 1, separator, {})


def read_label_table(
    path: str | Path, *, names: Iterable[str] | None = None, errors: list[SmearError] | None = None
) -> pd.DataFrame:
    """Reads a table of labels: smear, place and class of a cell in each row.

    Args:
        path: a table with the columns ``smear``, ``x_px``, ``y_px``, ``label`` and optionally ``radius_px``, ``cell``;
            common other names of these (``SYNONYMS``) are taken as well.
        names: file names of the images there are; smears are matched to them (`match_names`).
        errors: takes the rows that cannot be used; None raises the first.

    Returns:
        ``smear``, ``x_px``, ``y_px``, ``radius_px`` (pixels, NaN where there is none), ``label``, ``where`` and, if the
        table has it, ``cell``; the index is the row in the file.

    Raises:
        SmearError: the file is no such table.
    """
    return tidied_labels(labels_of_table(read_text_table(path), errors=errors), path, names=names, errors=errors)


def is_readings(table: TextTable) -> bool:
    """Whether *table* is one of readings, such as the labelling page writes, however a spreadsheet saved it."""
    return {CELL, READER, KIND} <= {plain_name(name) for name in table.fields.columns}


def labels_of_table(table: TextTable, *, errors: list[SmearError] | None = None) -> pd.DataFrame:
    """The labels in *table* as they are written there; see `read_label_table`."""
    if is_readings(table):
        remedy = f"bring it in with: rbcnb import-labels {table.path} FOLDER"
        raise SmearError(f"{table.path}: is a table of readings, of which not all are labels; {remedy}")
    columns = columns_of(table, SYNONYMS)
    if missing := [name for name in NEEDED if name not in columns]:
        raise SmearError(_header_fault(table, missing))
    if {plain_name(name) for name in table.fields.columns} >= {"x", "y", "width", "height"}:
        raise SmearError(
            f"{table.path}: row {table.header_row} has x, y, width and height, and x, y may be the corner of a box or "
            f"its centre; give xmin, ymin, xmax, ymax, or {X}, {Y} of the centre"
        )
    columns = columns[[name for name in SYNONYMS if name in columns]]
    beginning = f"{table.path}: row "
    where = pd.Series([f"{beginning}{row}" for row in columns.index], index=columns.index, dtype=object)
    labels, faults = columns.assign(**{WHERE: where}), dict(table.faults)

    def leave_out(row: int, cause: str, reason: str = UNREADABLE) -> None:
        faults.setdefault(row, LabelError(f"{where[row]} {cause}", reason=reason))

    others = table.fields.iloc[:, 0].str.casefold()
    hashed = others[others.index.isin(table.hashed)]
    for row, text in hashed.items():
        if (others[~others.index.isin(table.hashed)] == text.lstrip("# ")).any():
            leave_out(row, "begins with #, and may be a comment or a label; delete it, or put another column first")
    broken = columns.apply(lambda texts: texts.str.contains(r"[\r\n]")).any(axis=1).astype(bool)
    for row in labels.index[broken]:
        leave_out(row, "goes on in the next line within quotation marks; close or remove them")
    for row in labels.index[labels[SMEAR] == ""]:
        leave_out(row, "names no smear; name the image or drop the row")
    for row in labels.index[labels[LABEL] == ""]:
        leave_out(row, "has no label; name the class or drop the row")
    texts = labels.reindex(columns=[X, Y, RADIUS], fill_value="")
    numbers, unread = read_numbers(texts, table.separator)
    missing = numbers.isna()
    missing[RADIUS] &= texts[RADIUS] != ""
    for row in missing.index[missing.any(axis=1)]:
        column = missing.columns[missing.loc[row]][0]
        cause = unread.get((row, column), "")
        leave_out(row, f"has {column} {shown(texts[column][row])}{cause}; give a number of pixels")
    for row in numbers.index[numbers[RADIUS] <= 0]:
        leave_out(row, f"has {RADIUS} {shown(texts[RADIUS][row])}; give a number of pixels above 0, or nothing")
    for row in numbers.index[(numbers[[X, Y]] < -0.5).any(axis=1)]:
        cause = f"{_place(numbers.loc[row])}, outside of the image: places are not negative; correct it"
        leave_out(row, cause, OUTSIDE)
    if CELL in labels:
        cells = pd.to_numeric(labels[CELL], errors="coerce")
        for row in labels.index[~(cells >= 0) | (cells % 1 != 0)]:
            leave_out(row, f"has {CELL} {shown(labels[CELL][row])}; give a whole number")
        labels[CELL] = cells
    labels[[X, Y, RADIUS]] = numbers
    report_faults([faults[row] for row in sorted(faults)], errors, table.path)
    return labels.drop(index=list(faults), errors="ignore")[
        [SMEAR, X, Y, RADIUS, LABEL, WHERE, *([CELL] if CELL in labels else [])]
    ]


def tidied_labels(
    labels: pd.DataFrame,
    path: str | Path,
    *,
    names: Iterable[str] | None = None,
    among: str = "images",
    classes: Iterable[str] = (),
    errors: list[SmearError] | None = None,
) -> pd.DataFrame:
    """*labels* with the names of images and one spelling of each class, each place once.

    Args:
        labels: ``smear``, ``label``, ``where`` and, but in a folder per class, ``x_px`` and ``y_px``.
        path: what they are from, for messages.
        names: file names of the images there are; None leaves the names as they are.
        among: what these are, for messages.
        classes: spellings that are in use already.
        errors: takes names that are formulas to a spreadsheet, the labels of unknown smears and of places that have two
            classes; None raises the first.
    """
    faults = []
    for name in (SMEAR, LABEL):
        formulas = labels[name].isin([text for text in labels[name].unique() if is_formula(text)])
        faults += [
            LabelError(f"{where} has the {name} {shown(text)}; {FORMULA_FAULT}")
            for where, text in labels.loc[formulas, [WHERE, name]].itertuples(index=False)
        ]
        labels = labels[~formulas]
    for is_none, remedy in (
        (
            lambda text: text.strip().casefold() in NO_VALUES,
            "as programs write where there is none; name the class, or take the row out",
        ),
        (is_no_class, "which is no class but a key of rbcnb label; take the row out"),
    ):
        some = labels[LABEL].isin([text for text in labels[LABEL].unique() if is_none(text)])
        faults += [
            LabelError(f"{where} has the {LABEL} {shown(text)}, {remedy}", reason=NO_CLASS)
            for where, text in labels.loc[some, [WHERE, LABEL]].itertuples(index=False)
        ]
        labels = labels[~some]
    if names is not None:
        matched, unmatched = match_names(labels[SMEAR].unique(), names, among=among)
        for smear, rows in labels[labels[SMEAR].isin(list(unmatched))].groupby(SMEAR, sort=False):
            more = f" (and so do {len(rows) - 1} labels more)" if len(rows) > 1 else ""
            faults.append(
                LabelError(
                    f"{rows[WHERE].iloc[0]} names the smear {shown(smear)}{more}, which {unmatched[smear]}",
                    len(rows),
                    UNKNOWN_SMEAR,
                )
            )
        if unmatched:
            labels = labels[labels[SMEAR].isin(list(matched))]
        if any(name != image for name, image in matched.items()):
            labels = labels.assign(**{SMEAR: labels[SMEAR].map(matched)})
    codes, spellings = pd.factorize(labels[LABEL])
    counts = dict(zip(spellings, np.bincount(codes, minlength=len(spellings)).tolist(), strict=True))
    joined = join_spellings(counts, known=classes)
    for note in spelling_notes(joined):
        warnings.warn(f"{path}: the classes {note}", SmearWarning, stacklevel=2)
    if joined:
        labels = labels.assign(**{LABEL: labels[LABEL].replace(joined)})
    if X in labels:
        place = [SMEAR, X, Y]
        again = labels.duplicated([*place, LABEL])
        for row in labels[again].itertuples():
            warnings.warn(f"{row.where} repeats an earlier label; it is taken once", SmearWarning, stacklevel=2)
        labels = labels[~again]
        disputed = labels.duplicated(place, keep=False)
        for _, rows in labels[disputed].groupby(place, sort=False):
            *others, last = rows[WHERE]
            earlier = " and ".join(other.removeprefix(f"{path}: ") for other in others)
            faults.append(
                LabelError(
                    f"{last} names the same smear and place as {earlier}, with another class; keep one of them: until "
                    "then none is taken",
                    len(rows),
                    "of two classes in one place",
                )
            )
        labels = labels[~disputed]
    report_faults(faults, errors, path)
    return labels


def columns_of(table: TextTable, synonyms: dict[str, tuple[str, ...]]) -> pd.DataFrame:
    """The columns of *table* that *synonyms* knows, under our names; a column that stands twice is taken once.

    Raises:
        SmearError: two columns would be one of ours, and differ.
    """
    header = [plain_name(name) for name in table.fields.columns]
    found = {}
    for ours, theirs in synonyms.items():
        exact = [at for at, name in enumerate(header) if name == ours == theirs[0]]
        places = exact or [at for at, name in enumerate(header) if name in theirs]
        if not places:
            continue
        first = found[ours] = table.fields.iloc[:, places[0]]
        for at in places[1:]:
            other = table.fields.iloc[:, at]
            if (differs := first != other).any():
                names = " and ".join(shown(table.fields.columns[place]) for place in (places[0], at))
                raise SmearError(
                    f"{table.path}: row {table.header_row} has two columns for {ours} ({names}), which first differ in "
                    f"row {differs.idxmax()}; keep one of them"
                )
    return pd.DataFrame(found, index=table.fields.index)


def plain_name(name: str) -> str:
    """A column's name without capitals, brackets and spaces: ``X [px]`` -> ``x_px``."""
    return re.sub(r"[\s\-_\[\]().:/]+", "_", name.casefold()).strip("_#")


def read_numbers(texts: pd.DataFrame, separator: str = ",") -> tuple[pd.DataFrame, dict[tuple[int, str], str]]:
    """Numbers with decimal points or commas.

    Args:
        texts: as in a file.
        separator: between its fields; a semicolon speaks for decimal commas.

    Returns:
        The numbers [rows, columns], NaN where there is none, and (row, column) -> more of the cause, where there is.
    """
    plain = {name: _plain_numbers(texts[name]) for name in texts}
    if all(numbers is not None for numbers in plain.values()):
        return pd.DataFrame(plain, index=texts.index), {}
    given = [re.sub(r"\s*px$|[\s\u00a0]", "", text) for text in texts.to_numpy().ravel()]
    marks = {
        re.findall("[.,]", text)[-1] for text in given if re.search("[.,]", text) and not _THOUSANDS.fullmatch(text)
    }
    values, causes = [], {}
    at = ((row, column) for row in texts.index for column in texts.columns)
    for place, text in zip(at, given, strict=True):
        value, cause = math.nan, ""
        shape = _THOUSANDS.fullmatch(text)
        if shape and (({",", "."} - {shape[1]}) & marks or (shape[1] == "," and "," not in marks and separator != ";")):
            cause = ", which may be thousands or have a decimal mark"
        else:
            if re.fullmatch(r"[+-]?\d{1,3}(\.\d{3})+,\d+|[+-]?\d{1,3}(,\d{3})+\.\d+", text):
                text = re.sub(r"[.,](?=.*[.,])", "", text)
            plain = text.replace(",", ".")
            value = float(plain) if _NUMBER.fullmatch(plain) else math.nan
            value = value if math.isfinite(value) else math.nan
        if cause:
            causes[place] = cause
        values.append(value)
    table = pd.DataFrame(0.0, index=texts.index, columns=texts.columns)
    table.iloc[:, :] = pd.Series(values, dtype=float).to_numpy().reshape(texts.shape)
    return table, causes


def _plain_numbers(texts: pd.Series) -> np.ndarray | None:
    """The numbers in *texts* [N], NaN for nothing, where all are written in the plain way; else None."""
    column = texts.to_numpy(object).tolist()
    joined = "\n".join([*column, ""])
    if joined.count("\n") != len(column) or not _PLAIN_NUMBERS.fullmatch(joined):
        return None
    numbers = np.array([text or "nan" for text in column], object).astype(float)
    return np.where(np.isfinite(numbers), numbers, np.nan)


def report_faults(faults: Iterable[SmearError], errors: list[SmearError] | None, path: str | Path) -> None:
    """Raises the first of *faults*, or adds them to *errors*; of many labels the last ones as numbers alone."""
    rest: dict[str, int] = {}
    for number, fault in enumerate(faults):
        if number < _MOST_FAULTS or not isinstance(fault, LabelError):
            collect_or_raise(fault, errors)
        else:
            rest[fault.reason] = rest.get(fault.reason, 0) + fault.n_labels
    for reason, n_labels in rest.items():
        message = f"{path}: {n_labels} labels more, {reason}, cannot be used; correct the {_MOST_FAULTS} above first"
        collect_or_raise(LabelError(message, n_labels, reason), errors)


def left_out(errors: Iterable[SmearError]) -> str:
    """How many labels and files are left out, and for which reasons, as a part of a summary."""
    lost, n_files = labels_left_out(errors), sum(not isinstance(error, LabelError) for error in errors)
    reasons = ", ".join(f"{n} {reason}" for reason, n in lost.items())
    summary = f"; {lost.total()} left out: {reasons}" if lost else ""
    return summary + (f"; files that cannot be read: {n_files}" if n_files else "")


def labels_left_out(errors: Iterable[SmearError]) -> Counter[str]:
    """Reason -> labels that are lost for it; files of which nobody can tell how many they held are not counted."""
    lost = Counter[str]()
    for error in errors:
        if isinstance(error, LabelError):
            lost[error.reason] += error.n_labels
    return lost


def labels_inside(
    labels: pd.DataFrame, shape: tuple[int, int], errors: list[SmearError] | None, path: str | Path
) -> pd.DataFrame:
    """Those of one smear's *labels* that lie in its image of *shape* (height, width); the others go to *errors*.

    None are left where many lie outside and all would lie inside with x and y exchanged, or where they are for an image
    of another size. Whether a file exchanges width and height alone is seen from the image.
    """
    (height, width), smear = shape, labels[SMEAR].iloc[0]
    if SHAPE in labels:
        other = labels[labels[SHAPE].notna() & ~labels[SHAPE].isin([(height, width), (width, height)])]
        if len(other):
            size = f"{other[SHAPE].iloc[0][1]:g} x {other[SHAPE].iloc[0][0]:g}"
            message = (
                f"{other[WHERE].iloc[0]}: its labels are for an image {smear} of {size} pixels, and that has {width} x "
                f"{height}: none is taken; give the image that was labelled, or export the labels for this one"
            )
            report_faults([LabelError(message, len(other), "for an image of another size")], errors, path)
            labels = labels.drop(index=other.index)

    def within(x: str, y: str) -> pd.Series:
        return labels[x].between(-0.5, width) & labels[y].between(-0.5, height)

    inside = within(X, Y)
    if (~inside).sum() > 0.1 * len(labels) and (~inside).sum() > 1 and within(Y, X).all():
        message = (
            f"{labels[WHERE][~inside].iloc[0]} on: {(~inside).sum()} of {len(labels)} labels of {smear} are outside "
            f"of its {width} x {height} pixels, and none would if {X} and {Y}, or width and height, were exchanged: "
            "none is taken; exchange those that are wrong"
        )
        report_faults([LabelError(message, len(labels), EXCHANGED)], errors, path)
        return labels[:0]
    faults = [
        LabelError(
            f"{row[WHERE]} {_place(row)}, outside of the {width} x {height} image {smear}; correct it, or the image if "
            "it was cut or turned",
            reason=OUTSIDE,
        )
        for _, row in labels[~inside].iterrows()
    ]
    report_faults(faults, errors, path)
    return labels[inside]


def _place(row: pd.Series) -> str:
    return f"puts a cell at {X} {row[X]:g}, {Y} {row[Y]:g}"


def decoded_text(path: Path) -> str:
    """The text of a file in UTF-8, UTF-16 or, where nothing else can be meant, Windows-1252.

    Raises:
        SmearError: it cannot be opened, is a workbook, or is in another encoding.
    """
    data = read_bytes(path, remedy="check the path", error=SmearError)
    for signature, what in _WORKBOOKS.items():
        if data.startswith(signature):
            raise SmearError(f"{path}: is {what}, not a table in text; save it as CSV in UTF-8")
    encoding = "utf-8-sig"
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        encoding = "utf-16"
    elif b"\0" in data[:200]:
        encoding = "utf-16-le" if data[1:2] == b"\0" else "utf-16-be"
    try:
        return data.decode(encoding)
    except UnicodeDecodeError as error:
        if encoding == "utf-8-sig" and _WESTERN.fullmatch(data):
            warnings.warn(f"{path}: is not in UTF-8; it is read as Windows-1252", SmearWarning, stacklevel=3)
            return data.decode("cp1252")
        row = 1 + data[: error.start].count(b"\n")
        raise SmearError(f"{path}: row {row} is in an unknown encoding; save it as CSV in UTF-8") from error


def _titles(lines: list[str], separators: str) -> list[int]:
    """Which of *lines* stand above the header: at most `_MOST_TITLES` that hold one field, where the next hold more."""
    titles = []
    for at, line in enumerate(lines):
        fields = [[field for field in next(csv.reader([line], delimiter=mark), []) if field] for mark in separators]
        if max(map(len, fields)) > 1:
            return titles
        words = [plain_name(word) for word in line.split()]
        if len(titles) == _MOST_TITLES or sum(word in names for word in words for names in SYNONYMS.values()) > 1:
            return []
        if line.strip() and not line.startswith("#"):
            titles.append(at)
    return []


def _first_record(lines: list[str], separator: str) -> list[str]:
    """The fields of the first row that is neither empty nor a comment, if *separator* stands between them."""
    rest = (line for line in lines if not _is_comment(line, separator))
    try:
        return next(filter(any, csv.reader(rest, delimiter=separator, skipinitialspace=True)), [])
    except csv.Error:
        return []


def _records(
    lines: list[str], separator: str, path: Path
) -> tuple[list[tuple[int, int, list[str]]], list[tuple[int, list[str]]]]:
    """(first line, last line, fields without spaces around) of each row that is not empty; (line, fields) of comments.

    Comments are not taken apart with the rest: their quotation marks open nothing.
    """
    rest, comments, marks = [], [], 0
    for row, line in enumerate(lines, 1):
        if marks % 2 == 0 and _is_comment(line, separator):
            comments.append((row, [field.strip() for field in line.split(separator)]))
            line = "\n"
        marks += line.count('"')
        rest.append(line)
    reader = csv.reader(rest, delimiter=separator, skipinitialspace=True, strict=True)
    records, last = [], 0
    try:
        for values in reader:
            row, last = last + 1, reader.line_num
            values = [value.strip() for value in values]
            if any(values) and not _is_comment(rest[row - 1], separator):
                records.append((row, last, values))
    except csv.Error as error:
        raise SmearError(
            f"{path}: row {last + 1} cannot be taken apart into fields ({cause_of(error)}); look for an open quotation "
            "mark"
        ) from error
    return records, comments


def _is_comment(line: str, separator: str) -> bool:
    """Whether *line* begins with #, bare, and a space follows, or it lacks the two numbers that each label has."""
    hashed = re.match(r"\s*#(\s)?", line)
    return bool(hashed) and (bool(hashed[1]) or sum(map(is_number, line.split(separator)[1:])) < 2)


def is_number(text: str) -> bool:
    """Whether *text* is a number, with a decimal point or comma."""
    return bool(_NUMBER.fullmatch(text.strip(' "\r\n').replace(",", ".")))


def _name_of(separator: str) -> str:
    return _SEPARATORS.get(separator, repr(separator))


def _header_fault(table: TextTable, missing: list[str]) -> str:
    names = [name for name in table.fields.columns if name]
    where = f"{table.path}: row {table.header_row}"
    if any(map(is_number, names)):
        return f"{where} holds values where the names of the columns belong; put {','.join(NEEDED)} above it"
    if len(names) == 1:
        parts = f"no comma, semicolon or tab parts it into {', '.join(NEEDED)}"
        return f"{where} is {shown(names[0])}: {parts}; save it as CSV"
    if {*names} == {"path", LABEL}:
        return (
            f"{table.path}: is a table of crops, which rbcnb export-labels writes and other programs read; to bring "
            f"corrections in, move the crops into the folders of their classes and import their folder, "
            f"{table.path.parent}"
        )
    return (
        f"{where} lacks {', '.join(missing)}: its columns are {', '.join(names)[:MOST_SHOWN]}, with "
        f"{_name_of(table.separator)} between them; name them {', '.join(NEEDED)}[, {RADIUS}]"
    )
