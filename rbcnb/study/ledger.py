"""The ledger of a run's test sets: what was scored on which, when and with which settings.

A test set that is looked at, and then looked at again with better settings, has become a part of tuning. Under the
honest protocol each outer split is tested once per architecture and method. A fit that tests smears of which cells were
tested before is refused where anything has changed since: settings, labels or cells (those trained on, too), the cells'
pictures (size, upscaling, finder), or how smears were dealt out. Repeating an identical evaluation is allowed: it is a
run that carries on. A changed one is allowed with a reason, which stands in the ledger beside that entry. Repetitions
of the outer folds are outer splits of their own. The paper's protocol tries every alpha on the test set: that is
recorded, and not refused.

A smear is known by its name, cells by smear and number.

The ledger is a file of the run, for people who want to be kept from fooling themselves; it stops nobody else. The run's
manifest holds its digest: one that has been changed or lost is not gone on with, unless a reason is given.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence, Set
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from rbcnb._utils.errors import MissingFileError, PlainError
from rbcnb._utils.files import atomic_write, bytes_digest, folder_lock
from rbcnb._utils.manifest import DIGEST, load_manifest, record_files, set_aside
from rbcnb._utils.read_files import read_table, read_text
from rbcnb.columns import CELL, LABEL, SMEAR, SPLIT, TEST, UNUSED
from rbcnb.training.trial import Trial

LEDGER = "test_openings.csv"  # in the run's folder
_WAIT_S = 60.0  # for others that write to it, some milliseconds each
HONEST = "honest"  # the protocol whose test sets are opened once
# Not among the settings that may be chosen once: who they belong to, what pairs fits, the rung, and the machine's own.
_APART = ("protocol", "outer", "architecture", "seed", "fold", "dev_counts", "precision")


class Entry(NamedTuple):
    """What the ledger says of a fit: whose test set it was scored on, what it is, and its settings, as JSON."""

    protocol: str
    outer: str
    architecture: str
    method: str
    settings: str


class DataDigests(NamedTuple):
    """What the ledger says of the data of a fit, as digests."""

    cells: str  # `digest_cells` of all cells that are trained on or tested
    test: str  # of those tested
    smears: str  # a digest of each smear that is tested, with spaces between; empty under the paper's protocol
    crops: str  # of all these cells' pictures


_LATER = ("plan", "smears", "crops")  # which ledgers of earlier versions have not
LEDGER_REMEDY = "put back a copy; if there is none, say why a new one is begun: reopen='...' (--set reopen='...')"
LEDGER_COLUMNS = ("opened_at", *DataDigests._fields, *Entry._fields, "reason", "plan")
_Opening = tuple[DataDigests, Entry]


class LedgerError(PlainError, ValueError):
    """The ledger cannot be read, or is not as it was written; the message names the file and the remedy."""


class TestSetError(PlainError, ValueError):
    """A test set would be opened a second time with something changed; the message names what, and the way to do it."""

    __test__ = False  # no test class, whatever pytest makes of its name


def open_test(
    folder: str | Path,
    fits: Sequence[Trial | Entry],
    cells: pd.DataFrame,
    crops: np.ndarray,
    *,
    reopen: str = "",
    plan: str = "",
) -> pd.DataFrame:
    """Enters final fits into the ledger of the run in *folder* before they are scored on the test set.

    Args:
        folder: of the run.
        fits: final trials (``fold`` None) of one protocol and outer split, or the entries of fits that are no trials.
        cells: their table, with ``split``.
        crops: uint8 [len(cells), S, S, 3], in the order of *cells*.
        reopen: why the test set is opened again although something has changed; empty refuses.
        plan: file that says beforehand what is asked and fitted (a preregistration); its digest (`plan_digest`) stands
            in the ledger. Empty where there is none.

    Returns:
        The ledger, ``LEDGER_COLUMNS``.

    Raises:
        TestSetError: under the honest protocol, smears were tested before with other settings of the method (or would
            be with several at once), other labels, cells or pictures, or as a part of another split.
        ValueError: there are not as many crops as cells.
    """
    marks, plan = _marks(cells, crops), plan_digest(plan) if plan else ""
    with _kept(folder, reopen) as (ledger, lost):
        before = _openings(ledger)
        fresh: dict[Entry, str] = {}  # with the reason
        for fit in fits:
            entry = fit if isinstance(fit, Entry) else entry_of(fit)
            if entry in fresh or any(_is_again(opening, (marks, entry)) for opening in before):
                continue
            changed = _what_changed(before, fresh, marks, entry)
            if changed and not reopen:
                raise TestSetError(
                    f"the test set is opened once: {changed}. What is chosen or changed after a look at the test set "
                    "is no longer tested by it. If it must be, say why: reopen='...' (--set reopen='...'); the reason "
                    f"is kept in {LEDGER}"
                )
            fresh[entry] = reopen if changed or lost else ""
        return _append(folder, ledger, marks, fresh, plan=plan)


def plan_digest(plan: str | Path) -> str:
    """Digest of the text of a preregistration, whatever the line ends; 16 hexadecimal digits.

    Raises:
        FileNotFoundError: there is no such file.
    """
    text = read_text(plan, remedy="name the file that says what was planned", error=MissingFileError)
    return _digest(text.replace("\r\n", "\n").encode())


def record_refits(
    folder: str | Path, trials: Sequence[Trial], cells: pd.DataFrame, crops: np.ndarray, *, reason: str
) -> pd.DataFrame:
    """Enters fits that will train on test cells, too, with settings that the set was opened with.

    They are those of `rbcnb.study.leakage`.

    Args:
        folder, cells, crops: as for `open_test`.
        trials: the final fits whose settings they have.
        reason: what the fits are for; stands in the ledger.

    Returns:
        The ledger.

    Raises:
        TestSetError: the test set was not opened with one of these settings yet, and must not be trained on before.
    """
    marks = _marks(cells, crops)
    with _kept(folder) as (ledger, _):
        before = _openings(ledger)
        fresh: dict[Entry, str] = {}
        for trial in trials:
            entry = entry_of(trial)
            reasons = [
                recorded
                for opening, recorded in zip(before, ledger["reason"], strict=True)
                if _is_again(opening, (marks, entry))
            ]
            if not reasons:
                raise TestSetError(
                    f"{trial.architecture}, {trial.method}: {reason}, but no test set was opened with these settings; "
                    f"fit and score them first (open_test), so that {LEDGER} tells which came first"
                )
            if reason not in reasons:
                fresh[entry] = reason
        return _append(folder, ledger, marks, fresh)


def load_ledger(folder: str | Path) -> pd.DataFrame:
    """The ledger of a run, ``LEDGER_COLUMNS``, all text; empty before any test set was opened.

    Columns that earlier versions did not write are empty.

    Args:
        folder: of the run.

    Raises:
        LedgerError: the file cannot be read, or lacks another column.
    """
    path = Path(folder) / LEDGER
    if not path.exists():
        return pd.DataFrame(columns=list(LEDGER_COLUMNS), dtype=str)
    asked = [name for name in LEDGER_COLUMNS if name not in _LATER]
    ledger = read_table(path, remedy=LEDGER_REMEDY, columns=asked, error=LedgerError, dtype=str, keep_default_na=False)
    return ledger.reindex(columns=list(LEDGER_COLUMNS), fill_value="")


@contextmanager
def _kept(folder: str | Path, reopen: str = "") -> Iterator[tuple[pd.DataFrame, bool]]:
    """The ledger, as it was written, for this process alone while the block runs.

    One that is not as it was written is set aside where *reopen* gives a reason, and a new one begun: the second value.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / LEDGER
    with folder_lock(folder, name=f".{LEDGER}.lock", wait_s=_WAIT_S):
        entry = load_manifest(folder).get(LEDGER)
        rows = path.read_bytes().splitlines(keepends=True) if path.is_file() else []
        # A process that was killed may have added rows and not yet recorded the file in the manifest; and where the
        # manifest was lost, the new one lacks the ledger.
        written = [n for n in range(len(rows), 0, -1) if entry and bytes_digest(*rows[:n]) == entry[DIGEST]]
        lost = bool(entry) and not written
        if lost and not reopen:
            raise LedgerError(
                f"{path}: is not the file that was written (the manifest has its digest); {LEDGER_REMEDY}"
            )
        if lost and path.exists():
            set_aside(folder, LEDGER)
        elif rows and (not entry or written[0] < len(rows)):
            record_files(folder, {LEDGER: {}})
        yield load_ledger(folder), lost


def entry_of(trial: Trial) -> Entry:
    """The ledger's entry for a final trial.

    Args:
        trial: its seed, fold, rung (``dev_counts``) and precision are no part of the entry.
    """
    return Entry(trial.protocol, str(trial.outer), trial.architecture, trial.method, _settings(trial))


def digest_cells(cells: pd.DataFrame) -> str:
    """Digest of which cells these are and of their labels, in whatever order."""
    rows = cells[[SMEAR, CELL, LABEL]].sort_values([SMEAR, CELL])
    return _digest(rows.to_csv(index=False).encode())


def _marks(cells: pd.DataFrame, crops: np.ndarray) -> DataDigests:
    if len(cells) != len(crops):
        raise ValueError(f"{len(cells)} cells but {len(crops)} crops: they must stand in the same order, one each")
    used = cells.reset_index(drop=True)
    used = used[used[SPLIT] != UNUSED].sort_values([SMEAR, CELL])
    tested = used[used[SPLIT] == TEST]
    smears = " ".join(sorted(_digest(name.encode(), size=5) for name in tested[SMEAR].astype(str).unique()))
    pictures = (np.ascontiguousarray(crops[row]) for row in used.index)
    return DataDigests(
        digest_cells(used), digest_cells(tested), smears, _digest(str(crops.shape[1:]).encode(), *pictures)
    )


def _digest(*parts: bytes | np.ndarray, size: int = 8) -> str:
    digest = hashlib.blake2b(digest_size=size)
    for part in parts:
        digest.update(part)
    return digest.hexdigest()


def _settings(trial: Trial) -> str:
    settings = {name: value for name, value in trial.settings().items() if name not in _APART and value is not None}
    return json.dumps(settings, sort_keys=True)


def _openings(ledger: pd.DataFrame) -> list[_Opening]:
    marks = ledger[list(DataDigests._fields)].itertuples(index=False, name=None)
    entries = ledger[list(Entry._fields)].itertuples(index=False, name=None)
    return [(DataDigests(*mark), Entry(*entry)) for mark, entry in zip(marks, entries, strict=True)]


def _append(
    folder: str | Path, ledger: pd.DataFrame, marks: DataDigests, fresh: Mapping[Entry, str], *, plan: str = ""
) -> pd.DataFrame:
    if not fresh:
        return ledger
    now = datetime.now(UTC).isoformat(timespec="seconds")
    bare = marks._replace(smears="")  # the paper's protocol tests cells of every smear, and nobody asks which
    rows = [
        (now, *(marks if entry.protocol == HONEST else bare), *entry, reason, plan) for entry, reason in fresh.items()
    ]
    ledger = pd.concat([ledger, pd.DataFrame(rows, columns=list(LEDGER_COLUMNS))], ignore_index=True)
    with atomic_write(Path(folder) / LEDGER, durable=True) as part:
        ledger.to_csv(part, index=False)
    record_files(folder, {LEDGER: {}})
    return ledger


def _is_again(before: _Opening, now: _Opening) -> bool:
    """Whether both have the same cells, test cells, pictures and settings."""
    (there, then), (marks, entry) = before, now
    return (there.cells, there.test, there.crops, then) == (marks.cells, marks.test, marks.crops, entry)


def _what_changed(before: Sequence[_Opening], fresh: Mapping[Entry, str], marks: DataDigests, entry: Entry) -> str:
    """Why *entry* would be a second opening; empty where it is a first one, or its protocol does not ask."""
    if entry.protocol != HONEST:
        return ""
    honest = [(there, then) for there, then in before if then.protocol == HONEST]
    tested = {smear for there, _ in honest for smear in there.smears.split()}
    rows = [(there, then) for there, then in honest if then.outer == entry.outer]
    is_open = any((there.cells, there.test) == (marks.cells, marks.test) for there, _ in rows)  # this very split
    for there, then in [*rows, *((marks, opened) for opened in fresh)]:
        same_method = (then.architecture, then.method) == (entry.architecture, entry.method)
        if there.smears == marks.smears or there.test == marks.test:
            changed = _difference(there, then, marks, entry) if same_method else ""
        else:  # another split of the smears concerns every method, until a look with a reason has opened it
            changed = _other_split(there, marks, tested, entry.outer) if same_method or not is_open else ""
        if changed:
            return changed
    return ""


def _other_split(there: DataDigests, marks: DataDigests, tested: Set[str], outer: str) -> str:
    """Why another split of outer number *outer* tests again what was *tested*; empty where it does not."""
    if there.cells == marks.cells:
        return f"these cells were split otherwise before, and outer split {outer} of that was tested"
    if tested.isdisjoint(marks.smears.split()):
        return ""
    return (
        f"labels or cells have changed since outer split {outer} was tested; dealt out again, smears that were tested "
        "before are tested again"
    )


def _difference(there: DataDigests, then: Entry, marks: DataDigests, entry: Entry) -> str:
    """What differs between two openings of the same smears with one method."""
    sentence = f"{entry.architecture}, {entry.method} was tested "
    other = f"with {then.settings}, now it would be with {entry.settings}"
    sentence += other if then.settings != entry.settings else "on these smears"
    if there.test != marks.test:
        return f"{sentence}; labels or cells of the test set have changed since"
    if there.cells != marks.cells:
        return f"{sentence}; labels or cells that it is trained on have changed since"
    if there.crops != marks.crops:
        return f"{sentence}; the cells' pictures have changed since (size, upscaling or finder)"
    return sentence
