"""Predictions in a store, without a fit that made them."""

import hashlib
from pathlib import Path

import pandas as pd

from rbcnb._utils.files import file_digest
from rbcnb.study.store import write_record


def keep_predictions(store: Path, name: str, table: pd.DataFrame) -> str:
    """Writes *table* as the predictions of a trial of that *name*, and returns its key."""
    key = hashlib.blake2b(name.encode(), digest_size=8).hexdigest()
    store.mkdir(parents=True, exist_ok=True)
    table.to_parquet(store / f"{key}.parquet", index=False)
    write_record({"key": key, "error": "", "trial": {}, "digest": file_digest(store / f"{key}.parquet")}, store)
    return key
