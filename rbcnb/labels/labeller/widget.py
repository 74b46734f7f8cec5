"""The labeller: a widget for JupyterLab and Voila in which a reader names cells with single keys.

What it shows and what it takes back is a `rbcnb.labels.labeller.queue.ReadingSession`; what it writes are rows of
`rbcnb.labels.readings`. The page (``link.js``, ``field.js``, ``widget.js``) holds the next cells' pictures and shows
the next one before the kernel has answered; a reading counts as saved, there as here, only when its row is on the disk.
"""

import hashlib
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Any

import anywidget
import numpy as np
import pandas as pd
import traitlets
from matplotlib.figure import Figure

from rbcnb._utils.errors import InputError
from rbcnb._utils.files import folder_lock
from rbcnb._utils.read_files import shown
from rbcnb._utils.spreadsheet import FORMULA_FAULT, is_formula
from rbcnb.columns import (
    CELL,
    CLASSES,
    FOUND,
    LABEL,
    NO_CLASSES,
    PROB,
    RADIUS,
    READER,
    SESSION,
    SMEAR,
    TIME,
    X,
    Y,
    class_names,
)
from rbcnb.labels.agreement import agreement_table, ratings_of
from rbcnb.labels.consensus import added_cells, current_labels
from rbcnb.labels.labeller.pictures import THUMB_PX, CellPictures, crops_of_array
from rbcnb.labels.labeller.queue import (
    ALL,
    DISAGREEMENT,
    FIRST_LOOKS,
    FLAGGED,
    UNCERTAIN,
    UNLABELLED,
    ReadingSession,
    queue_rows,
    resume,
    rows_by_name,
)
from rbcnb.labels.readings import KINDS, NAMED, SKIPPED, UNDONE, Reading, append_readings, load_readings
from rbcnb.plotting.cells import plot_contact_sheet
from rbcnb.plotting.sliders import with_picture
from rbcnb.plotting.style import colours_of
from rbcnb.smears.smear_names import class_key, join_spellings

AHEAD = 16  # cells whose pictures the page holds; also how far it may run ahead of what is saved
SHEET_COLUMNS, SHEET_ROWS = 12, 5
_LETTERS, _DIGITS = "abcdefghijklmnopqrstuvwxyz", "123456789"  # 0 is "unsure"; commands of the page are other signs
MOST_CLASSES = len(_LETTERS + _DIGITS)
LIST = "list"  # the queue that was given as a table
AGAIN = "Run the cells below again: they take the readings in."
_HERE = Path(__file__).parent
_CLAIMS: dict[tuple[Path, str], ExitStack] = {}  # what this process holds, until it ends


def class_keys(names: Sequence[str]) -> list[str]:
    """The key of each class: the first letter of its name, else of a further word, else another of its letters.

    Who finds none of them free gets a digit, and when these are used up any letter. Accents are left aside.
    """
    keys: dict[str, str] = {}
    words = {name: _plain(name).split() for name in names}
    candidates = (
        {name: word[0][:1] for name, word in words.items() if word},
        {name: "".join(part[0] for part in word[1:]) for name, word in words.items()},
        {name: "".join(word) for name, word in words.items()},
        dict.fromkeys(names, _DIGITS + _LETTERS),
    )
    for offered in candidates:
        for name in names:
            free = [key for key in offered.get(name, "") if key not in keys.values()]
            if name not in keys and free:
                keys[name] = free[0]
    return [keys[name] for name in names]


def _plain(name: str) -> str:
    """*name* in the letters a to z, and a space for anything else."""
    base = unicodedata.normalize("NFKD", name).casefold()
    return "".join(sign if sign in _LETTERS else "" if unicodedata.combining(sign) else " " for sign in base)


def _checked_classes(classes: Sequence[str]) -> tuple[str, ...]:
    """*classes*; raises InputError where the page cannot offer them."""
    known: dict[str, str] = {}
    for name in classes:
        alike = class_key(name)
        if not alike:
            raise InputError("classes: a name is empty; name each class, with a comma between two")
        if alike in known:
            raise InputError(
                f"classes: {shown(known[alike])} and {shown(name)} differ in case or spaces at most; keep one of them"
            )
        if is_formula(name):
            raise InputError(f"classes: {shown(name)}: {FORMULA_FAULT}")
        known[alike] = name
    if len(classes) > MOST_CLASSES or set(NO_CLASSES) & set(known):
        taken = f"none is called {', '.join(NO_CLASSES[:-1])} or {NO_CLASSES[-1]}"
        raise InputError(f"classes: at most {MOST_CLASSES} have keys, and {taken}: {', '.join(classes)}")
    return tuple(classes)


def claim_reader(path: Path, reader: str) -> bool:
    """Whether no other process labels as *reader* into the table at *path*; this one then does until it ends."""
    name = path.resolve(), reader
    if name in _CLAIMS:
        return True
    digest = hashlib.sha256(reader.encode()).hexdigest()[:8]
    with ExitStack() as stack:
        try:
            stack.enter_context(folder_lock(path.parent, name=f".{path.name}.{digest}.lock"))
        except BlockingIOError:
            return False
        except OSError:  # a folder that is not there yet, or cannot be written to: the first reading tells
            return True
        _CLAIMS[name] = stack.pop_all()
    return True


class Labeller(anywidget.AnyWidget):
    """Shows cells one by one, or a sheet per class, and saves each reading at once.

    Every key adds a row to the table of readings at *path*, on the disk before the page says "saved"; nothing is ever
    changed there, undo is a row too. So there is nothing to save at the end, and a reload or a restarted kernel goes on
    where the reader stopped. What the readings amount to is a table, as of every widget here: `table` gives the
    reader's labels by now, and the next cell saves what is made of them. Headless runs pass through and write nothing.

    Readers are to be independent: the page shows the reader's own readings and, unless *show_given* is false, the
    ``label`` of *cells*; never another reader's.

    Args:
        cells: ``smear``, ``cell``; for surroundings ``x_px``, ``y_px``, ``radius_px``; optionally ``label`` (given).
        path: table of readings, .csv; made with the first reading.
        reader: who labels.
        crops: pictures [N, S, S, 3] uint8 RGB, by ``crop`` of *cells*; or a function row -> picture.
        smear_image: smear -> image [H, W, 3] uint8 RGB or None, for the whole field.
        classes: names, each with a key (`class_keys`); by default those of the paper, of *cells* and of the readings.
        queue: what to begin with: see `rbcnb.labels.labeller.queue.queue_rows`. A table of cells is a queue of its own
            ("list").
        session: written with the readings after the queue's name. In queues of a second look only readings of the same
            session count as done: give another one to read the same list again.
        probs, flagged: see `rbcnb.labels.labeller.queue.queue_rows`; without them these queues are not offered.
        show_given: False hides the labels of *cells* and, in a second look, what the reader said before: blinded.
        um_per_px: size of a smear's pixel, or smear -> size or None, for the scale bar.
        next_step: what to do when every cell is read, a sentence.

    Raises:
        ValueError: no reader, too many classes or two that look the same, no such queue, a cell that stands twice.
        rbcnb.labels.LogbookError: *path* cannot be read.
    """

    _esm = "\n".join((_HERE / name).read_text(encoding="utf-8") for name in ("link.js", "field.js", "widget.js"))
    _css = _HERE / "widget.css"
    # What a page shows until the kernel answers, which it cannot do while a notebook's later cells run.
    words = traitlets.Unicode().tag(sync=True)
    picture = traitlets.Bytes().tag(sync=True)  # a JPEG file

    def __init__(
        self,
        cells: pd.DataFrame,
        path: str | Path,
        *,
        reader: str,
        crops: np.ndarray | Callable[[int], np.ndarray],
        smear_image: Callable[[str], np.ndarray | None] | None = None,
        classes: Sequence[str] | None = None,
        queue: str | pd.DataFrame = UNLABELLED,
        session: str = "",
        probs: pd.DataFrame | None = None,
        flagged: pd.DataFrame | None = None,
        show_given: bool = True,
        um_per_px: float | Callable[[str], float | None] | None = None,
        next_step: str = AGAIN,
    ) -> None:
        super().__init__()
        if not reader.strip():
            raise ValueError("reader: every reading carries its reader's name; give one")
        if is_formula(reader.strip()):
            raise InputError(f"reader {shown(reader.strip())}: {FORMULA_FAULT}")
        self.path, self.reader, self._next_step = Path(path), reader.strip(), next_step
        readings = load_readings(self.path)
        used = [*(cells[LABEL].dropna() if LABEL in cells else ()), *readings[LABEL].dropna()]
        joined = join_spellings(used, known=CLASSES)
        self.classes = _checked_classes(classes or class_names([*CLASSES, *(joined.get(name, name) for name in used)]))
        crops = crops if callable(crops) else crops_of_array(cells, crops)
        self._um_per_px = um_per_px if callable(um_per_px) else lambda _smear: um_per_px
        added = added_cells(readings, cells)
        self._cells = pd.concat([cells, added], ignore_index=True) if len(added) else cells.reset_index(drop=True)
        self._rows = rows_by_name(self._cells)
        self._names = list(self._rows)
        self._found = self._cells.reindex(columns=list(FOUND))
        places = {"n_found": len(cells), "folder": self.path.parent}
        self._pictures = CellPictures(self._cells, crops, smear_image, **places)
        self._show_given = show_given
        given = self._cells[LABEL] if show_given and LABEL in self._cells else pd.Series(index=self._cells.index)
        self._given = given.astype(object).where(given.notna(), None).tolist()
        self._session, self._tables = session, {"probs": probs, "flagged": flagged}
        self._queues: dict[str, str | pd.DataFrame] = {}
        if isinstance(queue, pd.DataFrame):
            self._queues[LIST], queue = queue, LIST
        offered = [*FIRST_LOOKS, DISAGREEMENT]
        offered += [UNCERTAIN] * (probs is not None) + [FLAGGED] * (flagged is not None)
        self._queues |= {name: name for name in (*offered, queue) if name != LIST}
        self.queue, self.sitting = queue, self._sit(queue)
        self._alone = True  # no other process labels as this reader
        self.on_msg(self._heed)

    def table(self) -> pd.DataFrame:
        """The reader's labels by now, as of `rbcnb.labels.consensus`: for the next cell to save or to count."""
        return current_labels(load_readings(self.path), reader=self.reader)

    def still(self, n: int = 36) -> Figure:
        """The next *n* cells of the queue, or the first of all when none is left, for pages that run nothing."""
        rows = list(islice(self.sitting.upcoming(), n)) or range(min(n, len(self._cells)))
        return plot_contact_sheet(np.stack([self._pictures.crop(row) for row in rows]))

    def advice(self) -> str:
        """What is left to read and what to do, in two or three sentences."""
        n, n_read = len(self.sitting.queue), self.sitting.n_read
        if not n and self.queue == UNLABELLED:
            return (
                f"Nothing is left to label: each of the {len(self._cells)} cells has a label. To read them all the "
                f'same, choose the queue "{ALL}".'
            )
        if not n:
            return f'The queue "{self.queue}" holds no cell. Choose another queue.'
        if n_read < n:
            return (
                f'{n - n_read} of {n} cells of the queue "{self.queue}" are left to read. Click into the labeller: '
                "one key names the cell and brings the next, and each reading is saved at once."
            )
        return (
            f'Every cell of the queue "{self.queue}" is read, {n} in all, and every reading is saved. '
            f"{self._next_step} Or choose another queue."
        )

    def agreement(self) -> list[str]:
        """How far the readers of the table agree by now, a sentence per kappa; none where no cell has two readings."""
        ratings = ratings_of(load_readings(self.path))
        try:
            table = agreement_table(ratings, ratings.index.get_level_values(SMEAR))
        except ValueError:  # nobody else has read any of these cells
            return []
        # Of two readers one kappa says all; of more, Fleiss' speaks of them together.
        kind = "kappa" if ratings.shape[1] > 2 else "Cohen"
        kappas = table[table["statistic"].str.contains(kind) & table["value"].notna()]
        return [
            f"{row.statistic}: {row.value:.2f}"
            + (f", 95 % interval {row.low:.2f} to {row.high:.2f}" if np.isfinite(row.low) else "")
            + f" ({row.n_cells} cells)"
            for row in kappas.itertuples()
        ]

    def _repr_mimebundle_(self, **options: Any) -> tuple[dict, dict]:
        """The widget, and for whoever has no kernel what it is and the cells that come next."""
        try:
            rows = list(islice(self.sitting.upcoming(), SHEET_COLUMNS)) or range(min(SHEET_COLUMNS, len(self._cells)))
            self.picture = self._pictures.sheet_file(rows, len(rows)) if len(rows) else b""
        except (ValueError, OSError):  # a damaged picture, which the labeller will name
            self.picture = b""
        self.words = f"A labeller, reader {self.reader}. {self.advice()}"
        bundle = super()._repr_mimebundle_(**options)
        return with_picture(bundle, self.picture, self.words, kind="image/jpeg")

    def _sit(self, queue: str) -> ReadingSession:
        """The sitting before *queue* as the readings on disk leave it."""
        if queue not in self._queues:
            raise ValueError(f"no queue {shown(queue)}; there are {', '.join(self._queues)}")
        readings, session = load_readings(self.path), f"{queue} {self._session}".strip()
        who = {"reader": self.reader, "session": session}
        rows = queue_rows(self._queues[queue], self._cells, readings, **who, **self._tables)
        again = queue not in FIRST_LOOKS
        if again and not self._show_given:
            readings = readings[readings[SESSION] == session]  # what the reader said before would give labels away
        return resume(rows, self._cells, readings, **who, second_look=again)

    # What the page sends, and what it is answered. Each view of the widget counts its own messages.

    def _heed(self, _widget: object, message: dict[str, Any], _buffers: object) -> None:
        try:
            {
                "hello": self._greet,
                "reading": self._add_reading,
                "undo": self._undo,
                "queue": self._choose,
                "want": self._show,
                "field": self._show_field,
                "sheet": self._lay_out,
                "find": self._find,
                "add": self._add,
                "summary": self._sum_up,
            }[message["kind"]](message)
        except Exception as error:  # nobody sees what a callback raises
            self._send_state(message, error=str(error) or type(error).__name__)
            if not isinstance(error, (ValueError, OSError)):
                raise

    def _send_state(self, message: dict[str, Any], *, rows: Iterable[int] = (), error: str = "", **more: Any) -> None:
        """Sends the page where the session stands after *message*, which changed the labels of *rows*."""
        sitting, counts = self.sitting, self.sitting.counts()
        last = sitting.acts[-1] if sitting.acts else ()
        word = sitting.label(last[0]) or "skipped" if last else ""
        self.send(
            {
                "kind": "state",
                "view": message["view"],
                "ack": message["id"],
                "error": error,
                "queue": self.queue,
                "n": len(sitting.queue),
                "words": self.advice(),
                "read": sitting.n_read,
                "skipped": counts.pop(SKIPPED, 0),
                "counts": counts,
                "upcoming": list(islice(sitting.upcoming(), AHEAD)),
                "acts": len(sitting.acts),
                "latest": last[0] if last else None,
                "last": f"{self._title(last[0]) if len(last) == 1 else f'{len(last)} cells'}: {word}" if last else "",
                "changed": [[row, sitting.label(row)] for row in rows],
                **more,
            }
        )

    def _greet(self, message: dict[str, Any]) -> None:
        """Beside the state, what stays as it is: classes with their keys, queues, and the name of what is kept."""
        before, self._alone = self._alone, claim_reader(self.path, self.reader)
        if self._alone and not before:
            self.sitting = self._sit(self.queue)  # the other one may have read cells
        about = {
            "reader": self.reader,
            "classes": list(zip(class_keys(self.classes), self.classes, strict=True)),
            "colours": colours_of(self.classes),
            "queues": list(self._queues),
            "smears": list(dict.fromkeys(smear for smear, _ in self._names)),
            "store": f"{self.path.resolve()} {self.reader}",
            "elsewhere": not self._alone,
        }
        self._send_state(message, about=about)

    def _add_reading(self, message: dict[str, Any]) -> None:
        what, label = message["what"], message.get("label", "")
        rows = message["rows"]
        if message.get("again"):  # rows may be others by now, names are not
            rows = [self._rows.get((smear, cell), -1) for smear, cell in message["names"]]
            if -1 in rows:
                raise ValueError(f"{message['names']}: no such cell here any more; its reading is not written")
        if what not in KINDS or what == UNDONE or (label and label not in self.classes):
            raise ValueError(f"{what} {shown(label)} is no reading of these classes: {', '.join(self.classes)}")
        if not self._is_written(message):
            self._write(rows, what, label, message.get("comment", ""), time=message.get("time"))
            self.sitting.record(rows, what, label)
        self._send_state(message, rows=rows)

    def _undo(self, message: dict[str, Any]) -> None:
        rows = self.sitting.acts[-1] if self.sitting.acts and not self._is_written(message) else ()
        if rows:
            self._write(rows, UNDONE, time=message.get("time"))
            self.sitting.undo()
        self._send_state(message, rows=rows)

    def _is_written(self, message: dict[str, Any]) -> bool:
        """Whether a message that the page sends again was written before; its time says so."""
        if not message.get("again"):
            return False
        readings = load_readings(self.path)
        return bool((readings[TIME].eq(_moment(message["time"])) & readings[READER].eq(self.reader)).any())

    def _choose(self, message: dict[str, Any]) -> None:
        self.sitting = self._sit(message["queue"])
        self.queue = message["queue"]
        self._send_state(message)

    def _show(self, message: dict[str, Any]) -> None:
        """The pictures of the rows that the page wants."""
        for row in message["rows"]:
            smear, cell = self._names[row]
            before, after = self.sitting.neighbours(row)
            card = {"kind": "card", "row": row, "name": self._title(row), "smear": smear, "cell": cell}
            card |= {"given": self._given[row], "label": self.sitting.label(row), "before": before, "after": after}
            try:
                self.send(card, buffers=[self._pictures.crop_file(row)])
            except (ValueError, OSError) as error:  # one picture that is damaged does not hold up the others
                self.send(card | {"problem": str(error)})

    def _show_field(self, message: dict[str, Any]) -> None:
        """The whole field of a smear, with the place of each of its cells."""
        smear = message["smear"]
        field = {"kind": "field", "smear": smear, "um_per_px": self._um_per_px(smear), "problem": ""}
        try:
            picture = self._pictures.field(smear)
        except (ValueError, OSError) as error:
            self.send(field | {"problem": str(error)})
            return
        if picture is None:
            self.send(field | {"problem": "The image of this smear is not here: the cell alone is shown."})
            return
        cells = [[row, *place, self.sitting.label(row)] for row, *place in self._pictures.places(smear)]
        self.send(field | {"width": picture.width, "height": picture.height, "cells": cells}, buffers=[picture.file])

    def _find(self, message: dict[str, Any]) -> None:
        """The row of a cell by its smear and number."""
        row = self._rows.get((message["smear"], message["cell"]))
        missing = f"there is no cell {message['cell']} in {message['smear']}" if row is None else ""
        self._send_state(message, error=missing, found=row)

    def _add(self, message: dict[str, Any]) -> None:
        """A cell that the finder missed, of the smear's typical size, at a place that the reader clicked."""
        smear, x, y = message["smear"], float(message["x"]), float(message["y"])
        near = self._pictures.nearest(smear, x, y)
        if near is not None:
            self._send_state(message, found=near)
            return
        others = load_readings(self.path)  # another reader may have added some since
        numbers = [cell for name, cell in self._names if name == smear]
        cell = 1 + max([*numbers, *others.loc[others[SMEAR] == smear, CELL]])
        radius = float(self._cells.loc[self._cells[SMEAR] == smear, RADIUS].median())
        place = {SMEAR: smear, CELL: cell, X: round(x, 2), Y: round(y, 2), RADIUS: round(radius, 2)}
        self._pictures.add(place, size_px=self._pictures.crop(0).shape[0])
        row = len(self._cells)
        self._cells, self._found = (
            pd.concat([table, pd.DataFrame([place])], ignore_index=True) for table in (self._cells, self._found)
        )
        self._rows[smear, cell] = row
        self._names.append((smear, cell))
        self._given.append(None)
        self._write([row], SKIPPED)
        self.sitting.add(row)
        self.sitting.record([row], SKIPPED)
        self._send_state(message, rows=[row], found=row)
        self._show_field({"smear": smear})

    def _sum_up(self, message: dict[str, Any]) -> None:
        self._send_state(message, agreement=self.agreement())

    def _title(self, row: int) -> str:
        smear, cell = self._names[row]
        return f"{smear}, cell {cell}"

    def _lay_out(self, message: dict[str, Any]) -> None:
        """One page of the sheet of a class: all cells that are called so by now."""
        label, per_page = message["label"], SHEET_COLUMNS * SHEET_ROWS
        names = [self.sitting.label(row) or self._given[row] for row in range(len(self._cells))]
        rows = np.array([row for row, name in enumerate(names) if name == label], dtype=int)
        probs = self._tables["probs"]
        if probs is not None and PROB + str(label) in probs and len(rows):
            # What the model doubts most stands first: there the odd ones are.
            doubt = probs.drop_duplicates([SMEAR, CELL]).set_index([SMEAR, CELL])[PROB + label]
            doubt = doubt.reindex(pd.MultiIndex.from_frame(self._cells.loc[rows, [SMEAR, CELL]]))
            rows = rows[np.argsort(doubt.to_numpy(), kind="stable")]
        pages = max(1, -(-len(rows) // per_page))
        page = min(max(0, message["page"]), pages - 1)
        page_rows = rows[page * per_page : (page + 1) * per_page].tolist()
        sheet = {"kind": "sheet", "view": message["view"], "label": label, "page": page, "pages": pages}
        sheet |= {
            "rows": page_rows,
            "n": len(rows),
            "columns": SHEET_COLUMNS,
            "side": THUMB_PX,
            "names": [self._title(row) for row in page_rows],
            "cells": [self._names[row] for row in page_rows],
        }
        self.send(sheet, buffers=[self._pictures.sheet_file(page_rows, SHEET_COLUMNS)] if page_rows else [])

    def _write(
        self, rows: Sequence[int], kind: str, label: str = "", comment: str = "", *, time: float | None = None
    ) -> None:
        common = {"reader": self.reader, "session": self.sitting.session, "comment": comment}
        common |= {"kind": kind, "label": label if kind == NAMED else "", "time": _moment(time)}
        found = self._found.iloc[list(rows)].to_dict("records")
        append_readings(self.path, [Reading(**cell, **common) for cell in found])


def _moment(time_ms: float | None) -> datetime | None:
    """The page's clock, milliseconds since 1970, as a time; None where it sent none."""
    return None if time_ms is None else datetime.fromtimestamp(time_ms / 1000, UTC)
