"""Do a run's numbers follow from what it stored? Tables recomputed from stored predictions; nothing is trained.

From the bottom up: each trial's predictions against the digest and the scores in its record; each table that follows
from predictions, curves or labels, recomputed by the functions that the notebooks call; every file against the digest
in the run's manifest, the exported model against its own; every fit that was scored on a test set against the ledger of
their openings. A table that is not recomputed (`Report.unchecked`) is checked by its digest alone.
"""

import math
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from rbcnb._utils.errors import PlainError
from rbcnb._utils.files import file_digest
from rbcnb.columns import CROP, LABEL, TARGET
from rbcnb.counting.model_file import ModelFileError, load_model
from rbcnb.evaluation.metrics import score_predictions
from rbcnb.study.classical import entry_of_choice
from rbcnb.study.imbalance_lesson import lesson_entry
from rbcnb.study.ledger import LEDGER, Entry, digest_cells, entry_of, load_ledger
from rbcnb.study.store import is_packed, load_predictions, load_record
from rbcnb.training.fit import hash_data
from rbcnb.training.splits import split_name
from rbcnb.training.trial import Trial
from rbcnb.workflow.classical_fits import CLASSICAL, load_classical_fits
from rbcnb.workflow.model_export import MODEL
from rbcnb.workflow.publish import TOLERANCE, unpacked
from rbcnb.workflow.run import MANIFEST, Run
from rbcnb.workflow.run_tables import recomputed
from rbcnb.workflow.table_diff import MISSING, THERE, Finding, compare_tables, same_value

# List of fits that were scored on test cells -> what the ledger says of them.
_SCORED_ON_TEST = {"final_trials": entry_of, "ladder_trials": entry_of, "lesson_trials": lesson_entry}
_TRIAL_LISTS = ("fold_trials", *_SCORED_ON_TEST, "leakage_trials")
IN_PERCENT = ("fig13",)  # tables whose numbers are percent
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
    """Stored fits whose test cells, split or setting the ledger does not tell as opened; or that the file is damaged.

    A run without the file has no findings: its table is told as not recomputed.
    """
    if not (run.folder / CLASSICAL).exists():
        return []
    try:
        fits = load_classical_fits(run)
    except ValueError as error:
        return [Finding(CLASSICAL, "", "", str(error), "whole")]
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
    unchecked: tuple[str, ...] = ()  # tables that were not recomputed, each with the reason
    words: tuple[str, str] = ("stored", "recomputed")  # for the two values of a finding

    @property
    def same(self) -> bool:
        """Nothing differed."""
        return not self.findings

    @property
    def lines(self) -> list[str]:
        """The report, to be printed."""
        count = f"{self.n_numbers} values in {len(self.tables)} tables compared, {len(self.findings)} differ"
        return [self.title, *(finding.told(self.words) for finding in self.findings), *self.unchecked, count]


def verify_run(run: str | Path, *, against: str | None = None, tolerance: float = 1e-9) -> Report:
    """Checks a run against itself or another run; see the module.

    Args:
        run: its folder.
        against: another run's folder, whose tables are compared value by value; None for what the run itself stored.
        tolerance: numbers are the same up to this relative difference (absolute, for numbers below 1, in percent below
            100); of what `rbcnb.workflow.publish` left, up to its `TOLERANCE` at least.

    Raises:
        VerifyError: there is no run in a folder, or *tolerance* is no number of at least 0.
    """
    if not 0 <= tolerance < math.inf:
        raise VerifyError(f"the tolerance must be a number of at least 0, got {tolerance}")
    here = _run_at(run)
    if against is None and is_packed(here.folder):
        with unpacked(here.folder) as whole:
            return _against_itself(whole, max(tolerance, TOLERANCE), published=True)
    if against is not None:
        return _against_run(here, _run_at(against), tolerance)
    return _against_itself(here, tolerance)


def _run_at(folder: str | Path) -> Run:
    here = Run.at(folder)
    if not any(here.folder.glob("tables/*.csv")):
        raise VerifyError(f"{here.folder}: no tables of a run in it; give the folder of --out of rbcnb reproduce")
    return here


def _against_itself(run: Run, tolerance: float, *, published: bool = False) -> Report:
    makers = recomputed(run)
    findings = _file_findings(run)
    keys, n_numbers = _trial_findings(run, findings, tolerance)
    _data_findings(run, findings)
    findings += _ledger_findings(run) + unopened_fits(run) + _model_findings(run)
    compared, unchecked = [], []
    for path in sorted(run.folder.glob("tables/*.csv")):
        if path.name.startswith("."):
            continue
        name = path.stem
        if name not in makers:
            why = NOT_RECOMPUTED.get(name, "not known to this version")
            unchecked.append(f"not recomputed: {name}: {why}; its digest alone is checked")
            continue
        try:
            expected = makers[name]()
        except (FileNotFoundError, KeyError, ValueError) as error:  # MissingResultError is a FileNotFoundError
            told = f"{type(error).__name__}: {error}".replace(f"{run.folder}/", "")
            if published and isinstance(error, FileNotFoundError):
                told = f"needs {told.split(': ')[1]}, which this folder does not hold; verify the run itself"
            unchecked.append(f"not recomputed: {name}: {told}; its digest alone is checked")
            continue
        unit = 100 if name in IN_PERCENT else 1
        wrong, n = compare_tables(name, _load(run, name), expected, tolerance=tolerance, unit=unit)
        findings += wrong
        n_numbers += n
        compared.append(name)
    if not run.load_manifest():
        unchecked.append(f"no {MANIFEST}: made by an earlier version, so files that are not recomputed go unchecked")
    title = f"{run.provenance()}; {len(keys)} trials"
    return Report(title, tuple(findings), n_numbers, tuple(compared), tuple(unchecked))


def _file_findings(run: Run) -> list[Finding]:
    """Files of the manifest that are gone or changed."""
    found = []
    for name, entry in run.load_manifest().items():
        path = run.folder / name
        digest = file_digest(path) if path.exists() else MISSING
        if digest != entry["digest"]:
            found.append(Finding(name, "", "digest", digest, entry["digest"]))
    return found


def _trial_findings(run: Run, findings: list[Finding], tolerance: float) -> tuple[list[str], int]:
    """Checks each listed trial's predictions against its record, and its record against the list."""
    lists = [run.load_csv(name) for name in _TRIAL_LISTS if (run.folder / f"{name}.csv").exists()]
    rows = {row["key"]: row for table in lists for row in table.to_dict("records")}
    n_numbers = 0
    for key, row in rows.items():
        where, record = f"trials/{key}", load_record(run.store, key)
        if record is None:
            findings.append(Finding(where, "", "", "missing or damaged", THERE))
            continue
        if record["error"]:
            continue
        digest = file_digest(run.store / f"{key}.parquet")
        if digest != record.get("digest", digest):
            findings.append(Finding(where, "predictions", "digest", digest, record["digest"]))
        scores = score_predictions(load_predictions(run.store, key))
        for kind, held in (("record", record["scores"]), ("list", row)):
            for score in set(held) & set(scores):
                n_numbers += 1
                if not same_value(held[score], scores[score], tolerance):
                    findings.append(Finding(where, kind, score, held[score], scores[score]))
    return list(rows), n_numbers


def _data_findings(run: Run, findings: list[Finding]) -> None:
    """Whether final fits are of the cells and crops that lie in the run now."""
    if not all((run.folder / name).exists() for name in ("final_trials.csv", "crops.npy")):
        return
    for (protocol, outer), rows in run.load_csv("final_trials").groupby(["protocol", "outer"], sort=False):
        name = split_name(str(protocol), outer)
        cells = run.load_csv(f"splits_{name}")
        now = hash_data(cells, run.load_crops(cells[CROP]))
        findings += [Finding("final_trials", name, "data", told, now) for told in set(rows["data"]) - {now}]


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
    path = run.folder / MODEL
    if not path.exists():
        return []
    try:
        card = load_model(path).card
    except ModelFileError as error:
        return [Finding(MODEL, "", "", str(error), "whole")]
    known = set(run.load_csv("final_trials")["data"])
    return [] if card.data in known else [Finding(MODEL, "", "data", card.data, " or ".join(sorted(known)))]


def _against_run(run: Run, other: Run, tolerance: float) -> Report:
    findings, n_numbers = [], 0
    names = {path.stem for path in run.folder.glob("tables/[!.]*.csv")}
    others = {path.stem for path in other.folder.glob("tables/[!.]*.csv")}
    for name in sorted(names & others):
        wrong, n = compare_tables(name, _load(run, name), _load(other, name), tolerance=tolerance)
        findings += wrong
        n_numbers += n
    for name in sorted(names ^ others):
        findings.append(Finding(name, "", "", *((THERE, MISSING) if name in names else (MISSING, THERE))))
    title = f"here: {run.provenance()}; there: {other.provenance()}"
    return Report(title, tuple(findings), n_numbers, tuple(sorted(names & others)), words=("here", "there"))


def _load(run: Run, name: str) -> pd.DataFrame:
    """A table of the run; one that was saved without a column comes back so."""
    try:
        return run.load_table(name)
    except pd.errors.EmptyDataError:
        return pd.DataFrame()
