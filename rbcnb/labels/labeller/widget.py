"""The labeller: a widget for JupyterLab and Voila in which a reader names cells with single keys.

What it shows and what it takes back is a `rbcnb.labels.labeller.queue.ReadingSession`; what it writes are rows of
`rbcnb.labels.readings`. The page (``labeller.js``) holds the next cells' pictures and shows the next one before the
kernel has answered; a reading counts as saved, there as here, only when its row is on the disk.
"""

from collections.abc import Callable, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import anywidget
import numpy as np
import pandas as pd
import traitlets
from matplotlib.figure import Figure

from rbcnb.columns import CELL, CLASSES, FOUND, LABEL, PROB, SESSION, SMEAR, UNSURE, class_names
from rbcnb.labels.consensus import current_labels
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
    record,
    resume,
    undo,
)
from rbcnb.labels.readings import KINDS, NAMED, UNDONE, Reading, append_readings, load_readings
from rbcnb.plotting.cells import plot_contact_sheet
from rbcnb.plotting.sliders import with_picture
from rbcnb.plotting.style import colours_of

AHEAD = 16  # cells whose pictures the page holds; also how far it may run ahead of what is saved
SHEET_COLUMNS, SHEET_ROWS = 12, 5
# After the digits; letters that are commands of the page are left out: c, g, m, s, u, x.
KEYS = "123456789" + "abdefhijklnopqrtvwyz"
LIST = "list"  # the queue that was given as a table


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
        smear_image: smear -> image [H, W, 3] uint8 RGB or None, for surroundings.
        classes: names, each with a key; those of the paper and of *cells* unless told.
        queue: what to begin with: see `rbcnb.labels.labeller.queue.queue_rows`. A table of cells is a queue of its own
        ("list"). session: written with the readings after the queue's name. In queues of a second look only readings of
        the same
            session count as done: give another one to read the same list again.
        probs, flagged: see `rbcnb.labels.labeller.queue.queue_rows`; without them these queues are not offered.
        show_given: False hides the labels of *cells* and, in a second look, what the reader said before: blinded.

    Raises:
        ValueError: no reader, no class or too many of them, no such queue, a cell that stands twice.
        rbcnb.labels.LogbookError: *path* cannot be read.
    """

    _esm = Path(__file__).with_name("widget.js")
    _css = Path(__file__).with_name("widget.css")
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
    ) -> None:
        super().__init__()
        given = cells[LABEL].dropna().unique() if LABEL in cells else ()
        self.classes = tuple(classes or class_names([*CLASSES, *given]))
        if not reader.strip():
            raise ValueError("reader: whose readings these are must be told; give a name")
        if len(self.classes) > len(KEYS) or UNSURE in self.classes:
            raise ValueError(f"classes: at most {len(KEYS)} have keys, and none is called {UNSURE!r}: {self.classes}")
        self.path, self.reader = Path(path), reader.strip()
        self._cells = cells.reset_index(drop=True)
        self._found = self._cells.reindex(columns=list(FOUND))
        self._names = [f"{smear}, cell {cell}" for smear, cell in zip(cells[SMEAR], cells[CELL], strict=True)]
        self._crop = crops if callable(crops) else crops_of_array(self._cells, crops)
        self._pictures = CellPictures(self._cells, self._crop, smear_image)
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
        self.on_msg(self._heed)

    def table(self) -> pd.DataFrame:
        """The reader's labels by now, as of `rbcnb.labels.consensus`: for the next cell to save or to count."""
        return current_labels(load_readings(self.path), reader=self.reader)

    def still(self, n: int = 36) -> Figure:
        """The next *n* cells of the queue, or the first of all when none is left, for pages that run nothing."""
        rows = list(islice(self.sitting.upcoming(), n)) or range(min(n, len(self._cells)))
        return plot_contact_sheet(np.stack([self._crop(row) for row in rows]))

    def advice(self) -> str:
        """What is left to read and what to do, in two or three sentences."""
        n, n_read = len(self.sitting.queue), self.sitting.counts()["read"]
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
            f'Every cell of the queue "{self.queue}" is read, {n} in all, and every reading is saved. Run the cells '
            "below again: they take the readings in. Or choose another queue."
        )

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
            raise ValueError(f"no queue {queue!r}; there are {', '.join(self._queues)}")
        readings, session = load_readings(self.path), f"{queue} {self._session}".strip()
        who = {"reader": self.reader, "session": session}
        rows = queue_rows(self._queues[queue], self._cells, readings, **who, **self._tables)
        again = queue not in FIRST_LOOKS
        if again and not self._show_given:
            readings = readings[readings[SESSION] == session]  # what the reader said before would give labels away
        return resume(rows, self._cells, readings, **who, second_look=again)

    # What the page sends, and what it is told. Each view of the widget counts its own messages.

    def _heed(self, _widget: object, message: dict[str, Any], _buffers: object) -> None:
        try:
            {
                "hello": self._tell,
                "say": self._say,
                "undo": self._undo,
                "queue": self._choose,
                "want": self._show,
                "sheet": self._lay_out,
            }[message["kind"]](message)
        except Exception as error:  # nobody sees what a callback raises
            self._tell(message, error=str(error) or type(error).__name__)
            if not isinstance(error, (ValueError, OSError)):
                raise

    def _tell(self, message: dict[str, Any], *, error: str = "") -> None:
        """Where the sitting stands after *message*."""
        sitting, counts = self.sitting, self.sitting.counts()
        last = sitting.acts[-1] if sitting.acts else ()
        named = f"{self._names[last[0]]}: {sitting.label(last[0]) or 'skipped'}" if len(last) == 1 else ""
        self.send(
            {
                "kind": "state",
                "view": message["view"],
                "ack": message["id"],
                "error": error,
                "reader": self.reader,
                "classes": [[key, name] for key, name in zip(KEYS, self.classes, strict=False)],
                "colours": colours_of(self.classes),
                "queue": self.queue,
                "queues": list(self._queues),
                "n": len(sitting.queue),
                "words": self.advice(),
                "read": counts["read"],
                "skipped": counts["skipped"],
                "upcoming": list(islice(sitting.upcoming(), AHEAD)),
                "acts": len(sitting.acts),
                "last": named or (f"{len(last)} cells: {sitting.label(last[0])}" if last else ""),
            }
        )

    def _say(self, message: dict[str, Any]) -> None:
        rows, what, label = message["rows"], message["what"], message.get("label", "")
        if what not in KINDS or what == UNDONE or (label and label not in self.classes):
            raise ValueError(f"{what} {label!r} is no reading of these classes: {', '.join(self.classes)}")
        self._write(rows, what, label, message.get("comment", ""))
        self.sitting = record(self.sitting, rows, what, label)
        self._tell(message)

    def _undo(self, message: dict[str, Any]) -> None:
        before, rows = undo(self.sitting)
        self._write(rows, UNDONE)
        self.sitting = before
        self._tell(message)

    def _choose(self, message: dict[str, Any]) -> None:
        self.sitting = self._sit(message["queue"])
        self.queue = message["queue"]
        self._tell(message)

    def _show(self, message: dict[str, Any]) -> None:
        """The pictures of the rows that the page wants."""
        for row in message["rows"]:
            card = {"kind": "card", "row": row, "name": self._names[row], "given": self._given[row], "circle": None}
            try:
                crop, around = self._pictures.crop_file(row), self._pictures.around(row)
            except (ValueError, OSError) as error:  # one picture that is damaged does not hold up the others
                self.send(card | {"problem": str(error)})
                continue
            circle = [around.x, around.y, around.radius] if around else None
            self.send(card | {"circle": circle}, buffers=[crop, *([around.file] if around else [])])

    def _lay_out(self, message: dict[str, Any]) -> None:
        """One page of the sheet of a class: all cells that are called so by now."""
        label, per_page = message["label"], SHEET_COLUMNS * SHEET_ROWS
        names = [self.sitting.label(row) or self._given[row] for row in range(len(self._cells))]
        rows = np.array([row for row, name in enumerate(names) if name == label], dtype=int)
        probs = self._tables["probs"]
        if probs is not None and PROB + str(label) in probs and len(rows):
            # What the model doubts most stands first: there the odd ones are.
            doubt = probs.drop_duplicates([SMEAR, CELL]).set_index([SMEAR, CELL])[PROB + label]
            own = doubt.reindex(pd.MultiIndex.from_frame(self._cells.loc[rows, [SMEAR, CELL]]))
            rows = rows[np.argsort(own.to_numpy(), kind="stable")]
        pages = max(1, -(-len(rows) // per_page))
        page = min(max(0, message["page"]), pages - 1)
        shown = rows[page * per_page : (page + 1) * per_page].tolist()
        sheet = {"kind": "sheet", "view": message["view"], "label": label, "page": page, "pages": pages, "rows": shown}
        sheet |= {
            "n": len(rows),
            "columns": SHEET_COLUMNS,
            "side": THUMB_PX,
            "names": [self._names[row] for row in shown],
        }
        self.send(sheet, buffers=[self._pictures.sheet_file(shown, SHEET_COLUMNS)] if shown else [])

    def _write(self, rows: Sequence[int], kind: str, label: str = "", comment: str = "") -> None:
        told = {"reader": self.reader, "session": self.sitting.session, "comment": comment}
        told |= {"kind": kind, "label": label if kind == NAMED else ""}
        found = self._found.iloc[list(rows)].to_dict("records")
        append_readings(self.path, [Reading(**cell, **told) for cell in found])
