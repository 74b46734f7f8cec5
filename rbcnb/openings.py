"""The ledger of a run's test sets: what was scored on which, when and with which settings.

A test set that is looked at, and then looked at again with better settings, has become a part of tuning. Under the
honest protocol the ledger holds one setting per architecture and method of every test set, and one way to split the
cells; the same again is a run that carries on, anything else is refused unless a reason is given, and the reason stays
in the ledger. The paper's protocol tries every alpha on the test set: that is recorded, and not refused.

The ledger is a file of the run, for people who want to be kept from fooling themselves; it stops nobody else.
"""

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from rbcnb.columns import CELL, LABEL, SMEAR, SPLIT, TEST
from rbcnb.files import write_whole
from rbcnb.trial import Trial

LEDGER = "test_openings.csv"  # in the run's folder
LEDGER_COLUMNS = ("opened_at", "cells", "test", "protocol", "outer", "architecture", "method", "settings", "reason")
ENTRY = LEDGER_COLUMNS[1:-1]
# Not among the settings that may be chosen once: who they belong to, what pairs fits, the rung, and the machine's own.
_APART = ("protocol", "outer", "architecture", "seed", "fold", "dev_counts", "precision")


class Entry(NamedTuple):
    """What the ledger says of a fit: whose test set it was scored on, what it is, and its settings, as JSON."""

    protocol: str
    outer: str
    architecture: str
    method: str
    settings: str


class TestSetError(ValueError):
    """A test set would be opened a second time with other settings; the message names both, and the way to do it."""

    __test__ = False  # no test class, whatever pytest makes of its name


def open_test(
    folder: str | Path, fits: Sequence[Trial | Entry], cells: pd.DataFrame, *, reopen: str = ""
) -> pd.DataFrame:
    """Enters final fits into the ledger of the run in *folder* before they are scored on the test set.

    Args:
        folder: of the run.
        fits: final trials (``fold`` None) of one protocol and outer split, or the entries of fits that are no trials.
        cells: their table, with ``split``.
        reopen: why the test set is opened again with other settings; empty refuses.

    Returns:
        The ledger, ``LEDGER_COLUMNS``.

    Raises:
        TestSetError: under the honest protocol, a method has other settings than it was opened with (or several at
            once), or these cells were split otherwise before.
    """
    ledger, marks = load_ledger(folder), _marks(cells)
    known = set(ledger[list(ENTRY)].itertuples(index=False, name=None))
    fresh: dict[tuple[str, ...], None] = {}
    for fit in fits:
        own = fit if isinstance(fit, Entry) else entry_of(fit)
        entry = (*marks, *own)
        if entry in known or entry in fresh:
            continue
        if own.protocol == "honest" and not reopen:
            _refuse_another([*known, *fresh], entry)
        fresh[entry] = None
    return _append(folder, ledger, fresh, reopen)


def name_refits(folder: str | Path, trials: Sequence[Trial], cells: pd.DataFrame, *, reason: str) -> pd.DataFrame:
    """Enters fits that will train on test cells, too (`rbcnb.leakage`), with settings that the set was opened with.

    Args:
        folder: of the run.
        trials: the final fits whose settings they have.
        cells: the table that these were opened with, with ``split``.
        reason: what the fits are for; stands in the ledger.

    Returns:
        The ledger.

    Raises:
        TestSetError: the test set was not opened with one of these settings yet, and must not be trained on before.
    """
    ledger = load_ledger(folder)
    marks = _marks(cells)
    opened = set(ledger[list(ENTRY)].itertuples(index=False, name=None))
    entries = [(*marks, *entry_of(trial)) for trial in trials]
    for trial, entry in zip(trials, entries, strict=True):
        if entry not in opened:
            raise TestSetError(
                f"{trial.architecture}, {trial.method}: {reason}, but no test set was opened with these settings; "
                f"fit and score them first (open_test), so that {LEDGER} tells which came first"
            )
    noted = set(ledger[[*ENTRY, "reason"]].itertuples(index=False, name=None))
    fresh = dict.fromkeys(entry for entry in entries if (*entry, reason) not in noted)
    return _append(folder, ledger, fresh, reason)


def load_ledger(folder: str | Path) -> pd.DataFrame:
    """The ledger of the run in *folder*, ``LEDGER_COLUMNS``, all text; empty before any test set was opened."""
    path = Path(folder) / LEDGER
    if not path.exists():
        return pd.DataFrame(columns=list(LEDGER_COLUMNS), dtype=str)
    return pd.read_csv(path, dtype=str, keep_default_na=False)


def entry_of(trial: Trial) -> Entry:
    """What the ledger says of a final trial."""
    return Entry(trial.protocol, str(trial.outer), trial.architecture, trial.method, _settings(trial))


def _marks(cells: pd.DataFrame) -> tuple[str, str]:
    return digest_cells(cells), digest_cells(cells[cells[SPLIT] == TEST])


def _append(folder: str | Path, ledger: pd.DataFrame, entries: Iterable[tuple[str, ...]], reason: str) -> pd.DataFrame:
    now = datetime.now(UTC).isoformat(timespec="seconds")
    rows = pd.DataFrame([(now, *entry, reason) for entry in entries], columns=list(LEDGER_COLUMNS))
    if rows.empty:
        return ledger
    ledger = pd.concat([ledger, rows], ignore_index=True)
    with write_whole(Path(folder) / LEDGER) as part:
        ledger.to_csv(part, index=False)
    return ledger


def _refuse_another(known: Sequence[tuple[str, ...]], row: tuple[str, ...]) -> None:
    cells, test, protocol, outer, architecture, method, settings = row
    for there in known:
        if there[0] != cells or there[2:4] != (protocol, outer):
            continue
        if there[1] != test:
            what = f"these cells were split otherwise before, and outer split {outer} of that was tested"
        elif there[4:6] == (architecture, method):
            what = f"{architecture}, {method} was tested with {there[6]}, now it would be with {settings}"
        else:
            continue
        raise TestSetError(
            f"the test set is opened once: {what}. What is chosen after a look at the test set is no longer tested by "
            f"it. If it must be, say why: reopen='...' (--set reopen=...); the reason is kept in {LEDGER}"
        )


def _settings(trial: Trial) -> str:
    own = {name: value for name, value in asdict(trial).items() if name not in _APART and value is not None}
    return json.dumps(own, sort_keys=True)


def digest_cells(cells: pd.DataFrame) -> str:
    """Digest of which cells these are and of their labels, in whatever order."""
    rows = cells[[SMEAR, CELL, LABEL]].sort_values([SMEAR, CELL])
    return hashlib.blake2b(rows.to_csv(index=False).encode(), digest_size=8).hexdigest()
