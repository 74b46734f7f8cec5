"""The classical baseline's fits in a run: predictions in one file, and what the ledger of test sets says of them.

``classical_predictions.parquet`` has a row per fit and test cell: whose it is (protocol, outer split, classifier,
re-sampling, setting, seed, seconds), the cell, and what was predicted. What a fit's rows share is kept by a dictionary
and costs next to nothing. Probabilities are float32, as the fits give them: scores follow from the file exactly.
"""

import json
from collections.abc import Sequence

import pandas as pd

from rbcnb._utils.errors import InputError
from rbcnb._utils.read_files import cause_of, parse_json, read_table
from rbcnb.columns import CELL, GROUP, PRED, PROB, SMEAR, TARGET
from rbcnb.study.classical import ClassicalChoice, ClassicalFit, entry_of_choice
from rbcnb.workflow.run import MissingResultError, Run

CLASSICAL = "classical_predictions.parquet"  # in the run's folder
_CHOICE = ("protocol", "outer", "architecture", "method", "settings", "tuning_s")
_CELLS = (SMEAR, CELL, GROUP, TARGET, PRED)


def save_classical_fits(run: Run, fits: Sequence[ClassicalFit]) -> None:
    """Writes the predictions of all *fits* to one file of the run, in place of what was there."""
    parts = []
    for fit in fits:
        values = (*entry_of_choice(fit.choice)[:-1], json.dumps(dict(fit.choice.settings)), fit.choice.tuning_s)
        shared = dict(zip(_CHOICE, values, strict=True)) | {"seed": fit.seed, "seconds": fit.seconds}
        parts.append(fit.predictions.assign(**shared))
    table = pd.concat(parts, ignore_index=True)
    texts = [name for name in table if not pd.api.types.is_numeric_dtype(table[name])]
    table = table.astype(dict.fromkeys(texts, "category"))
    probs = [name for name in table if name.startswith(PROB)]
    others = [name for name in table if name not in probs]
    # As in rbcnb.workflow.publish: bytes of equal weight side by side take less room.
    packed = {"compression": "zstd", "compression_level": 19, "use_byte_stream_split": probs}
    run.save_parquet(table, "classical_predictions", use_dictionary=others, **packed)


def load_classical_fits(run: Run) -> list[ClassicalFit]:
    """The fits that `save_classical_fits` wrote, in their order.

    Raises:
        MissingResultError: the run stored none.
        ValueError: the file is damaged; the message says what to do.
    """
    path = run.folder / CLASSICAL
    again = "run notebook 06_imbalance_study again"
    if not path.exists():
        raise MissingResultError(f"{path}: the run stored no predictions of the classical classifiers; {again}")
    table = read_table(path, remedy=again)
    try:
        table = table.astype(dict.fromkeys(table.select_dtypes("category"), str))
        return [_fit_of_rows(rows) for _, rows in table.groupby([*_CHOICE, "seed"], sort=False)]
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path}: damaged ({cause_of(error)}); {again}") from None


def _fit_of_rows(rows: pd.DataFrame) -> ClassicalFit:
    protocol, outer, classifier, resampling, settings, tuning_s = rows[list(_CHOICE)].iloc[0]
    choice = ClassicalChoice(protocol, int(outer), classifier, resampling, parse_json(settings), float(tuning_s))
    predictions = rows[[*_CELLS, *(name for name in rows if name.startswith(PROB))]].reset_index(drop=True)
    return ClassicalFit(choice, int(rows["seed"].iloc[0]), predictions, float(rows["seconds"].iloc[0]))
