"""Do a run's numbers follow from what it stored? Tables recomputed from stored predictions; nothing is trained.

From the bottom up: each trial's predictions against the digest and the scores in its record; each table that follows
from predictions, curves or labels, recomputed by the functions that the notebooks call; every file against the digest
in the run's manifest, the exported model against its own; every fit that was scored on a test set against the ledger of
their openings. A table that is not recomputed (`Report.notes`) is checked by its digest alone.

What is damaged differs. A file without a digest, which is not recomputed either, is unchecked, and a report with such
files is not complete. A digest tells of damage and of mistakes; a deceiver can write it again. A
folder that was published is copied first, its regular files alone: nothing is written to it, and no link is followed.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from rbcnb._utils.errors import InputError, PlainError
from rbcnb._utils.files import require_folder
from rbcnb._utils.manifest import MANIFEST, Entries, ManifestError, changed_files, is_sealed
from rbcnb._utils.progress import progress
from rbcnb.columns import CROP, LABEL, TARGET
from rbcnb.counting.model_file import ModelFileError, load_model
from rbcnb.evaluation.metrics import score_predictions
from rbcnb.labels.readings import READINGS_CSV, SECOND_LOOK_CSV
from rbcnb.study.classical import entry_of_choice
from rbcnb.study.imbalance_lesson import lesson_entry
from rbcnb.study.ledger import LEDGER, Entry, digest_cells, entry_of, load_ledger
from rbcnb.study.store import (
    RECORDS,
    TOLERANCE,
    is_packed,
    is_unsealed,
    load_predictions,
    load_record,
    stored_keys,
    unpack_trials,
)
from rbcnb.training.fit import hash_data
from rbcnb.training.splits import split_name
from rbcnb.training.trial import Trial
from rbcnb.workflow.classical_fits import CLASSICAL, load_classical_fits
from rbcnb.workflow.model_export import MODEL
from rbcnb.workflow.publish import copied
from rbcnb.workflow.run import OUT_REMEDY, RUN_JSON, Run
from rbcnb.workflow.run_tables import recomputed
from rbcnb.workflow.table_diff import MISSING, READABLE, THERE, Finding, compare_tables, same_value

# List of fits that were scored on test cells -> what the ledger says of them.
_SCORED_ON_TEST = {"final_trials": entry_of, "ladder_trials": entry_of, "lesson_trials": lesson_entry}
_TRIAL_LISTS = ("fold_trials", *_SCORED_ON_TEST, "leakage_trials")
IN_PERCENT = ("fig13",)  # tables whose numbers are percent
_REMEDY = (
    "remedy: run the same rbcnb reproduce again (it makes what is damaged again, and trains nothing that is whole), or "
    "get the published folder again"
)
_THEIRS = (READINGS_CSV, SECOND_LOOK_CSV)  # what people say; no notebook makes it
# Folders of a run with digests of their own, or of what is made again wherever it is read.
_APART = ("trials", "models")
# What a run stores too little of, and why; of these tables the digest alone is checked.
NOT_RECOMPUTED = {
    "agreement": "readers that were simulated are not stored",
    "finders": "every way to find cells would have to search the smears again",
    "labels_per_smear": "labels that were not drawn for the study are not stored",
    "loss_shares": "follows from no data of the run",
    "second_look": "a reader that was simulated is not stored",
    "skipped": "files that could not be read are not stored",
}


def unopened_fits(run: Run) -> list[Finding]:
    """Stored fits whose test cells, split or setting the ledger does not list as opened; or that the file is damaged.

    A run without the file has no findings: its table is listed as not recomputed.
    """
    if not (run.folder / CLASSICAL).exists():
        return []
    try:
        fits = load_classical_fits(run)
    except ValueError as error:
        return [Finding(CLASSICAL, "", "", str(error), READABLE)]
    entered = set(load_ledger(run.folder)[["test", *Entry._fields]].itertuples(index=False, name=None))
    missing = {}
    for fit in fits:
        test = digest_cells(fit.predictions.rename(columns={TARGET: LABEL}))
        if (test, *(entry := entry_of_choice(fit.choice))) not in entered:
            missing[entry] = Finding(LEDGER, ", ".join(entry), f"test {test}", MISSING, THERE)
    return list(missing.values())


class VerifyError(PlainError, ValueError):
    """There is nothing to verify; the message says what to do."""


@dataclass(frozen=True)
class Report:
    """What was compared, and what differed."""

    title: str
    findings: tuple[Finding, ...]
    n_numbers: int
    tables: tuple[str, ...]  # compared
    unchecked: tuple[str, ...] = ()  # neither recomputed nor with a digest, each with the reason
    words: tuple[str, str] = ("stored", "recomputed")  # for the two values of a finding
    notes: tuple[str, ...] = ()  # tables of which the digest alone was checked, each with the reason

    @property
    def same(self) -> bool:
        """Nothing differed."""
        return not self.findings

    @property
    def complete(self) -> bool:
        """Everything could be checked."""
        return not self.unchecked

    @property
    def lines(self) -> list[str]:
        """The report, to be printed."""
        count = f"{self.n_numbers} values in {len(self.tables)} tables compared, {len(self.findings)} differ"
        rest = f"; {len(self.unchecked)} not checked (--partial lets that pass)" if self.unchecked else ""
        remedy = [_REMEDY] if self.findings and self.words == Report.words else []
        found = [finding.as_line(self.words) for finding in self.findings]
        unchecked = [f"not checked: {text}" for text in self.unchecked]
        return [self.title, *found, *self.notes, *unchecked, *remedy, count + rest]


def verify_run(run: str | Path, *, against: str | None = None, tolerance: float = 1e-9) -> Report:
    """Checks a run against itself or another run; see the module.

    Args:
        run: its folder.
        against: another run's folder, whose tables are compared value by value; None for what the run itself stored.
        tolerance: numbers are the same up to this relative difference (absolute, for numbers below 1, in percent below
            100); of what `rbcnb.workflow.publish` left, up to `rbcnb.study.store.TOLERANCE` at least.

    Raises:
        VerifyError: there is no run in a folder, or *tolerance* is no number of at least 0.
        MissingFileError: there is no such folder.
    """
    if not 0 <= tolerance < math.inf:
        raise VerifyError(f"the tolerance must be a number of at least 0, got {tolerance}")
    here = _run_at(run)
    if against is None and is_packed(here.folder):
        with copied(here.folder) as copy:
            return _against_itself(replace(copy, checked=False), max(tolerance, TOLERANCE), published=True)
    if against is not None:
        return _against_run(here, _run_at(against), tolerance)
    return _against_itself(here, tolerance)


def _run_at(folder: str | Path) -> Run:
    here = replace(Run.at(folder), checked=False)  # what is changed is compared, too
    require_folder(here.folder, remedy=OUT_REMEDY)
    if not any(here.folder.glob("tables/*.csv")):
        raise VerifyError(f"{here.folder}: no tables of a run in it; {OUT_REMEDY}")
    return here


@dataclass
class _Check:
    """What came of checking a run so far."""

    run: Run
    tolerance: float
    findings: list[Finding] = field(default_factory=list)
    unchecked: list[str] = field(default_factory=list)
    n_numbers: int = 0

    def add(self, where: str, find: Callable[[], list[Finding]]) -> None:
        """Adds what *find* finds; where it cannot read its files, that is the finding."""
        try:
            self.findings += find()
        except _UNREADABLE as error:
            self.findings.append(Finding(where, "", "", _in_words(error, self.run), READABLE))


# What reading a damaged table, record or prediction may raise; pandas' and pyarrow's own kinds are among them.
_UNREADABLE = (
    OSError,
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
    ArithmeticError,
    StopIteration,
    RuntimeError,
)


def _in_words(error: Exception, run: Run) -> str:
    return f"{type(error).__name__}: {error}".replace(f"{run.folder}/", "")


def _against_itself(run: Run, tolerance: float, *, published: bool = False) -> Report:
    check = _Check(run, tolerance)
    entries = _entries(check)
    check.findings += [
        Finding(name, "", "digest", digest or MISSING, entries[name]["digest"])
        for name, digest in changed_files(run.folder, entries).items()
    ]
    check.unchecked += [f"{name}: the manifest has no digest of it" for name in _files(run) if name not in entries]
    try:
        run.load_record()
        title = run.provenance()
    except InputError as error:
        check.findings.append(Finding(RUN_JSON, "", "", _in_words(error, run), READABLE))
        return Report(f"run {run.folder.name}", tuple(check.findings), 0, (), (*check.unchecked, _NO_RECORD))
    if published:
        try:
            unpack_trials(run.folder, run.store)
        except _UNREADABLE as error:
            check.findings.append(Finding(RECORDS, "", "", _in_words(error, run), READABLE))
            return Report(title, tuple(check.findings), 0, (), (*check.unchecked, _NO_TRIALS))
    rows: dict[str, dict[str, Any]] = {}
    for name in _TRIAL_LISTS:
        if (run.folder / f"{name}.csv").exists():
            check.add(name, lambda name=name: rows.update(_listed(run, name)) or [])
    check.add("trials", lambda: _trial_findings(check, rows))
    check.add("final_trials", lambda: _data_findings(run))
    check.add(LEDGER, lambda: _ledger_findings(run) + unopened_fits(run))
    check.add(MODEL, lambda: _model_findings(run))
    compared, notes = _table_findings(check, entries, published=published)
    title = f"{title}; {len(rows)} trials"
    return Report(
        title, tuple(check.findings), check.n_numbers, tuple(compared), tuple(check.unchecked), notes=tuple(notes)
    )


_NO_RECORD = f"tables and trials: {RUN_JSON} does not tell how they were made"
_NO_TRIALS = "tables: the trials that they follow from cannot be unpacked"


def _entries(check: _Check) -> Entries:
    """The manifest's entries; none, and why, where there is nothing to go by."""
    try:
        entries = check.run.load_manifest()
    except ManifestError as error:
        check.findings.append(Finding(MANIFEST, "", "", _in_words(error, check.run), READABLE))
        return {}
    if not entries:
        check.unchecked.append(f"{MANIFEST}: there is none, or it is empty")
    elif not is_sealed(check.run.folder):
        check.unchecked.append(f"{MANIFEST}: an earlier version wrote it, without a digest of itself")
    return entries


def _files(run: Run) -> list[str]:
    """The files of a run that its manifest is to know, relative to its folder."""
    names = [
        path.relative_to(run.folder) for path in sorted(run.folder.rglob("*")) if path.is_file() or path.is_symlink()
    ]
    return [
        name.as_posix()
        for name in names
        if not any(part.startswith(".") for part in name.parts)
        and name.parts[0] not in _APART
        and name.as_posix() not in (MANIFEST, *_THEIRS)
    ]


def _table_findings(check: _Check, entries: Entries, *, published: bool) -> tuple[list[str], list[str]]:
    """Recomputes the tables; returns the names of these, and why of some others the digest alone is checked."""
    run, makers = check.run, recomputed(check.run)
    compared, notes = [], []
    paths = sorted(run.folder.glob("tables/[!.]*.csv"))
    for path in progress(paths, total=len(paths), unit="table"):
        name, known = path.stem, f"tables/{path.name}" in entries
        if name not in makers:
            why = NOT_RECOMPUTED.get(name)
            if why and known:
                notes.append(f"not recomputed: {name}: {why}; its digest alone is checked")
            else:
                check.unchecked.append(f"{name}: this version does not know how it is made")
            continue
        try:
            expected = makers[name]()
            stored = run.load_table(name)
        except _UNREADABLE as error:  # MissingResultError is a FileNotFoundError
            why = _in_words(error, run)
            if published and isinstance(error, FileNotFoundError):
                why = f"needs {why.split(': ')[1]}, which this folder does not hold; verify the run itself"
            if known:
                notes.append(f"not recomputed: {name}: {why}; its digest alone is checked")
            else:
                check.unchecked.append(f"{name}: cannot be recomputed, and has no digest: {why}")
            continue
        unit = 100 if name in IN_PERCENT else 1
        wrong, n = compare_tables(name, stored, expected, tolerance=check.tolerance, unit=unit)
        check.findings += wrong
        check.n_numbers += n
        compared.append(name)
    return compared, notes


def _listed(run: Run, name: str) -> dict[str, dict[str, Any]]:
    """Key -> row of the list of trials called *name*."""
    return {row["key"]: row for row in run.load_csv(name).to_dict("records")}


def _trial_findings(check: _Check, rows: dict[str, dict[str, Any]]) -> list[Finding]:
    """Checks each trial's predictions against its record, and its record against the list that names it, if one does.

    A trial that no list names is there for the next study that asks for it.
    """
    found, store = [], check.run.store
    keys = dict.fromkeys([*rows, *stored_keys(store)])
    for key in progress(keys, total=len(keys), unit="trial"):
        row = rows.get(key, {})
        where, record = f"trials/{key}", load_record(store, key)
        if record is None:
            what = "no digests: run rbcnb results --seal once" if is_unsealed(store, key) else "missing or damaged"
            found.append(Finding(where, "", "", what, THERE))
            continue
        if record["error"]:
            continue
        scores = score_predictions(load_predictions(store, key))
        for kind, held in (("record", record["scores"]), ("list", row)):
            for score in set(held) & set(scores):
                check.n_numbers += 1
                if not same_value(held[score], scores[score], check.tolerance):
                    found.append(Finding(where, kind, score, held[score], scores[score]))
    return found


def _data_findings(run: Run) -> list[Finding]:
    """Whether final fits are of the cells and crops that lie in the run now."""
    if not all((run.folder / name).exists() for name in ("final_trials.csv", "crops.npy")):
        return []
    found = []
    for (protocol, outer), rows in run.load_csv("final_trials").groupby(["protocol", "outer"], sort=False):
        name = split_name(str(protocol), outer)
        cells = run.load_csv(f"splits_{name}")
        now = hash_data(cells, run.load_crops(cells[CROP]))
        found += [Finding("final_trials", name, "data", stored, now) for stored in set(rows["data"]) - {now}]
    return found


def _ledger_findings(run: Run) -> list[Finding]:
    """Fits that were scored on a test set of which the ledger does not say that it was opened with their settings."""
    entered = set(load_ledger(run.folder)[list(Entry._fields)].itertuples(index=False, name=None))
    missing: dict[tuple[str, ...], None] = {}
    for name, entry_for in _SCORED_ON_TEST.items():
        keys = run.load_csv(name)["key"] if (run.folder / f"{name}.csv").exists() else []
        records = [record for key in keys if (record := load_record(run.store, key))]
        missing |= {entry: None for record in records if (entry := entry_for(Trial(**record["trial"]))) not in entered}
    return [Finding(LEDGER, ", ".join(entry), "", MISSING, THERE) for entry in missing]


def _model_findings(run: Run) -> list[Finding]:
    """A model file of the run that is damaged, edited, or of other cells than the run's."""
    found = []
    for kept in sorted(run.folder.glob("models/[!.]*.safetensors")):  # of the export, each with a digest of its own
        try:
            load_model(kept)
        except ModelFileError as error:
            found.append(Finding(f"models/{kept.name}", "", "", str(error), READABLE))
    path = run.folder / MODEL
    if not path.exists():
        return found
    try:
        card = load_model(path).card
    except ModelFileError as error:
        return [*found, Finding(MODEL, "", "", str(error), READABLE)]
    known = set(run.load_csv("final_trials")["data"])
    if card.data not in known:
        found.append(Finding(MODEL, "", "data", card.data, " or ".join(sorted(known))))
    return found


def _against_run(run: Run, other: Run, tolerance: float) -> Report:
    findings, n_numbers = [], 0
    names = {path.stem for path in run.folder.glob("tables/[!.]*.csv")}
    others = {path.stem for path in other.folder.glob("tables/[!.]*.csv")}
    for name in sorted(names & others):
        wrong, n = compare_tables(name, run.load_table(name), other.load_table(name), tolerance=tolerance)
        findings += wrong
        n_numbers += n
    for name in sorted(names ^ others):
        findings.append(Finding(name, "", "", *((THERE, MISSING) if name in names else (MISSING, THERE))))
    title = f"here: {run.provenance()}; there: {other.provenance()}"
    return Report(title, tuple(findings), n_numbers, tuple(sorted(names & others)), words=("here", "there"))
