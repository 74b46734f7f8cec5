"""The classical baseline's fits in a run: predictions in one file, and what the ledger of test sets says of them.

``classical_predictions.parquet`` has a row per fit and test cell: whose it is (protocol, outer split, classifier,
re-sampling, setting, seed, seconds), the cell, and what was predicted. What a fit's rows share is kept by a dictionary
and costs next to nothing. Probabilities are float32, as the fits give them: scores follow from the file exactly.
"""

import json
from collections.abc import Sequence

import pandas as pd

from rbcnb.classical import ClassicalChoice, ClassicalFit
from rbcnb.columns import CELL, GROUP, LABEL, PRED, PROB, SMEAR, TARGET
from rbcnb.discrepancies import MISSING, THERE, Finding
from rbcnb.openings import LEDGER, Entry, digest_cells, load_ledger
from rbcnb.run import MissingResultError, Run

_NAME = "classical_predictions"
CLASSICAL = f"{_NAME}.parquet"  # in the run's folder
_CHOICE = ("protocol", "outer", "architecture", "method", "settings", "tuning_s")
_CELLS = (SMEAR, CELL, GROUP, TARGET, PRED)


def entry_of_choice(choice: ClassicalChoice) -> Entry:
    """What the ledger says of a classifier's choice (`rbcnb.openings.open_test`)."""
    names = str(choice.outer), choice.classifier, choice.resampling
    return Entry(choice.protocol, *names, json.dumps(dict(choice.settings), sort_keys=True))


def save_fits(run: Run, fits: Sequence[ClassicalFit]) -> Sequence[ClassicalFit]:
    """Writes the predictions of all *fits* in one file of the run, in place of what was there; returns *fits*."""
    parts = []
    for fit in fits:
        told = (*entry_of_choice(fit.choice)[:-1], json.dumps(dict(fit.choice.settings)), fit.choice.tuning_s)
        told = dict(zip(_CHOICE, told, strict=True)) | {"seed": fit.seed, "seconds": fit.seconds}
        parts.append(fit.predictions.assign(**told))
    table = pd.concat(parts, ignore_index=True)
    probs = [name for name in table if name.startswith(PROB)]
    kept = [name for name in table if name not in probs]
    table = table.astype({name: "category" for name in kept if not pd.api.types.is_numeric_dtype(table[name])})
    # As in rbcnb.publish: bytes of equal weight side by side take less room.
    run.save_parquet(
        table, _NAME, compression="zstd", compression_level=19, use_dictionary=kept, use_byte_stream_split=probs
    )
    return fits


def load_fits(run: Run) -> list[ClassicalFit]:
    """The fits that `save_fits` wrote, in their order.

    Raises:
        MissingResultError: the run stored none.
        ValueError: the file is damaged; the message says what to do.
    """
    path = run.folder / CLASSICAL
    if not path.exists():
        raise MissingResultError(
            f"{path}: the run stored no predictions of the classical classifiers (versions before this file kept "
            "none); run notebook 06_imbalance_study again"
        )
    try:
        table = pd.read_parquet(path)
        table = table.astype(dict.fromkeys(table.select_dtypes("category"), str))
        return [_fit_of(rows) for _, rows in table.groupby([*_CHOICE, "seed"], sort=False)]
    except (OSError, ValueError, KeyError) as error:
        raise ValueError(f"{path}: damaged ({error}); run notebook 06_imbalance_study again") from None


def unopened_fits(run: Run) -> list[Finding]:
    """Stored fits whose test cells, split or setting the ledger does not tell as opened; or that the file is damaged.

    A run without the file has no findings: its table is told as not recomputed.
    """
    if not (run.folder / CLASSICAL).exists():
        return []
    try:
        fits = load_fits(run)
    except ValueError as error:
        return [Finding(CLASSICAL, "", "", str(error), "whole")]
    entered = set(load_ledger(run.folder)[["test", *Entry._fields]].itertuples(index=False, name=None))
    missing = {}
    for fit in fits:
        test = digest_cells(fit.predictions.rename(columns={TARGET: LABEL}))
        if (test, *(entry := entry_of_choice(fit.choice))) not in entered:
            missing[entry] = Finding(LEDGER, ", ".join(entry), f"test {test}", MISSING, THERE)
    return list(missing.values())


def _fit_of(rows: pd.DataFrame) -> ClassicalFit:
    protocol, outer, classifier, resampling, settings, tuning_s = rows[list(_CHOICE)].iloc[0]
    choice = ClassicalChoice(protocol, int(outer), classifier, resampling, json.loads(settings), float(tuning_s))
    predictions = rows[[*_CELLS, *(name for name in rows if name.startswith(PROB))]].reset_index(drop=True)
    return ClassicalFit(choice, int(rows["seed"].iloc[0]), predictions, float(rows["seconds"].iloc[0]))
