"""What is kept of a finished run when the run itself is too large to keep: its numbers, and all that checks them.

``rbcnb publish RUN DIR`` fills DIR with ``tables/``, the rows of the fits (`TRIAL_LISTS`), their curves and held-out
predictions in one file each, those of the classical baseline as the run has them, the splits, what the counts of cells
and of hits follow from (`PARTS`), the ledger of test sets, ``run.json``, ``manifest.json``, figures of numbers, a
README.md. No picture of a cell is among them. ``rbcnb verify DIR`` recomputes the tables from all this.
"""

import json
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pandas as pd

from rbcnb._utils.files import atomic_write, file_digest
from rbcnb.columns import CELL, LABEL, PRIMARY_METHODS, PROB, SMEAR, readable
from rbcnb.evaluation.verdicts import answer_text
from rbcnb.study.classical import CLASSIFIERS, MAJORITY
from rbcnb.study.ledger import HONEST, LEDGER, load_ledger
from rbcnb.study.store import load_predictions, load_record
from rbcnb.workflow.classical_fits import CLASSICAL
from rbcnb.workflow.report import CAPTIONS, TABLES
from rbcnb.workflow.run import MANIFEST, Run

PREDICTIONS, RECORDS = "predictions.parquet", "trials.parquet"
TUNING = "fold_trials"
TRIAL_LISTS = ("final_trials", "ladder_trials", "lesson_trials", "leakage_trials", TUNING)
# Table -> what it follows from beside fits and splits: file of the run, columns that are kept of it. Places of cells
# are the data set's own, and not given away.
PARTS = {"class_counts": {"labelled": (SMEAR, CELL, LABEL)}}
_PACKED = {"index": False, "compression": "zstd", "compression_level": 19}
TOLERANCE = 1e-5  # what single precision may move a score by
# Logarithms of probabilities tell those near 1 apart as well as small ones. Rounded to 16 bits they took a fourth less
# room, but the AUROC of networks that tell little apart changed by up to 0.002.
LOG = "log_"
# Figures of numbers alone: no crop, no smear.
FIGURES = (
    *("answer", "differences", "differences_ladder", "gaps_by_rho", "rivals", "scores_by_rho"),
    *(
        "balanced_scores_by_rho",
        "imbalance_lesson",
        "fig10",
        "fig11",
        "fig12",
        "fig13",
        "alpha_sweep",
        "validation_curves",
        "reliability",
    ),
)
LICENCES = {"chula": "Chula RBC-12 (Naruenatthanaset et al. 2021), MIT licence; get it with `rbcnb fetch chula`"}
_PARTS_HOLD = {"labelled.parquet": "the cells of the study and their labels"}
_VERSIONS = ("rbcnb", "python", "torch", "torchvision", "fastai", "scikit-learn", "numpy")
_README = Path(__file__).with_name("published_readme.md").read_text(encoding="utf-8")


def publish_run(run: str | Path, out: str | Path) -> Path:
    """Fills the folder *out* from a finished *run* and returns it; what was published there before is replaced.

    Raises:
        FileNotFoundError: the run has not come to notebook 06; the message names what is missing.
        ValueError: *out* is the run itself, or its record cannot be read.
    """
    here, there = Run.at(run), Run.at(out)
    if here.folder == there.folder:
        raise ValueError(f"{here.folder}: publish into another folder than the run's own")
    here.load_table("verdict")  # missing, it says which notebook makes it
    tables = sorted(path.stem for path in here.folder.glob("tables/[!.]*.csv"))
    figures = [name for name in FIGURES if (here.folder / "figures" / f"{name}.png").exists()]
    names = [f"tables/{name}.csv" for name in tables] + [f"figures/{name}.png" for name in figures]
    names += [f"{name}.csv" for name in (*TRIAL_LISTS, "ladder") if (here.folder / f"{name}.csv").exists()]
    names += [name for name in (LEDGER, CLASSICAL) if (here.folder / name).exists()]
    names += sorted(path.name for path in here.folder.glob("splits_*.csv"))
    before = there.load_manifest() if is_published(there.folder) else {}
    for name in names:
        with atomic_write(there.folder / name) as part:
            shutil.copyfile(here.folder / name, part)
    record = _without_places(here.load_record(), here.folder.name)
    there.save_record(record)
    packed = [*_pack(here, there.folder), *_pack_parts(here, there.folder, tables)]
    with atomic_write(there.folder / "README.md") as part:
        part.write_text(_readme(here, record, figures, tables, packed), encoding="utf-8")
    _save_manifest(here, there, names, packed)
    for name in set(before) - set(names) - set(packed):  # of an earlier run, or of an earlier version of this package
        path = (there.folder / name).resolve()
        if path.is_relative_to(there.folder):
            path.unlink(missing_ok=True)
    return there.folder


@contextmanager
def unpacked(folder: Path) -> Iterator[Run]:
    """A published *folder* as a run with a store of its trials, in a place that is gone after the block."""
    with tempfile.TemporaryDirectory() as place:
        target = Path(place) / folder.name
        shutil.copytree(folder, target)
        here = _Unpacked.at(target)
        here.store.mkdir()
        for name in [name for parts in PARTS.values() for name in parts if (target / f"{name}.parquet").exists()]:
            pd.read_parquet(target / f"{name}.parquet").to_csv(target / f"{name}.csv", index=False)
        for row in pd.read_parquet(target / RECORDS).itertuples():
            (here.store / f"{row.key}.json").write_text(row.record, encoding="utf-8")
        for key, table in pd.read_parquet(target / PREDICTIONS).groupby("key", sort=False, observed=True):
            table = table.drop(columns="key").reset_index(drop=True)
            names = {name: PROB + name.removeprefix(LOG) for name in table if name.startswith(LOG)}
            table = table.rename(columns=names)
            table[[*names.values()]] = np.exp(table[[*names.values()]].astype(float))
            words = dict.fromkeys(table.select_dtypes("category"), str)
            table.astype(words).to_parquet(here.store / f"{key}.parquet", index=False)
        yield here


def is_published(folder: Path) -> bool:
    """Whether `publish_run` filled *folder*."""
    return (folder / PREDICTIONS).exists() and (folder / RECORDS).exists()


class _Unpacked(Run):
    """A run without crops: of which data it is, its record alone can tell."""

    def data_hash(self) -> str:
        return self.load_record().get("data_hash", "none")


def _lists(run: Run) -> list[pd.DataFrame]:
    return [run.load_csv(name) for name in TRIAL_LISTS if (run.folder / f"{name}.csv").exists()]


def _keys(run: Run) -> list[str]:
    """The fits that the run's lists name, each once."""
    return list(dict.fromkeys(key for table in _lists(run) for key in table["key"]))


def _pack(run: Run, folder: Path) -> tuple[str, str]:
    """Writes the predictions and records of the fits, and returns the names of the files."""
    parts, records = [], []
    for key in _keys(run):
        record = load_record(run.store, key)
        if record is None:
            raise FileNotFoundError(f"{run.store}: no finished trial {key}; run notebooks 05 and 06 again")
        # The file that the digest is of is not kept.
        records.append((key, json.dumps({name: value for name, value in record.items() if name != "digest"})))
        if not record["error"]:
            parts.append(load_predictions(run.store, key).assign(key=key))
    table = pd.concat(parts, ignore_index=True)
    names = {name: LOG + name.removeprefix(PROB) for name in table if name.startswith(PROB)}
    with np.errstate(divide="ignore"):  # a probability of 0 is -inf, and comes back as 0
        logs = np.log(table[[*names]].to_numpy(float)).astype(np.float32)
    table = table.drop(columns=[*names]).assign(**dict(zip(names.values(), logs.T, strict=True)))
    words = [name for name in table if not pd.api.types.is_numeric_dtype(table[name])]
    table = table.astype(dict.fromkeys(words, "category"))
    with atomic_write(folder / PREDICTIONS) as part:
        # Bytes of equal weight side by side: signs and exponents, much the same, then take little room.
        table.to_parquet(part, use_byte_stream_split=[*names.values()], use_dictionary=[*words, CELL], **_PACKED)
    with atomic_write(folder / RECORDS) as part:
        pd.DataFrame(records, columns=["key", "record"]).to_parquet(part, **_PACKED)
    return PREDICTIONS, RECORDS


def _pack_parts(run: Run, folder: Path, tables: Sequence[str]) -> Iterator[str]:
    """Writes what *tables* follow from beside fits and splits, and yields the names of the files."""
    for name, columns in [part for table, parts in PARTS.items() if table in tables for part in parts.items()]:
        with atomic_write(folder / f"{name}.parquet") as part:
            run.load_csv(name)[[*columns]].to_parquet(part, **_PACKED)
        yield f"{name}.parquet"


def _without_places(record: dict, name: str) -> dict:
    """The run's record without folders of the machine that it was made on."""
    places = {"run": f"runs/{name}", "data": "DATA"}
    parameters = {
        notebook: {key: places.get(key, value) if value else value for key, value in values.items()}
        for notebook, values in record.get("parameters", {}).items()
    }
    return record | {"parameters": parameters}


def _save_manifest(run: Run, there: Run, copied: Sequence[str], packed: Sequence[str]) -> None:
    """What the published files were made from, as the run's manifest tells it; of what was packed, its digest."""
    told = run.load_manifest()
    entries = {name: told[name] for name in copied if name in told}
    common = {"data": run.data_hash(), "seed": run.load_record().get("seeds", {}).get("seed")}
    for name in packed:
        entries[name] = {"digest": file_digest(there.folder / name), **common}
    with atomic_write(there.folder / MANIFEST) as part:
        part.write_text(json.dumps(entries, indent=1, sort_keys=True) + "\n", encoding="utf-8")


def _readme(run: Run, record: dict, figures: Sequence[str], tables: Sequence[str], packed: Sequence[str]) -> str:
    parameters = record.get("parameters", {})
    first, last = (parameters.get(name, {}) for name in ("01_segmentation", "06_imbalance_study"))
    smears, versions = str(first.get("smears", "?")), record.get("versions", {})
    judged = run.load_table("verdict")
    listed = [(CLASSICAL, "predictions of the classical baseline")] * (run.folder / CLASSICAL).exists()
    listed += [(name, _PARTS_HOLD[name]) for name in packed if name in _PARTS_HOLD]
    listed += [(f"tables/{name}.csv", TABLES.get(name)) for name in tables]
    listed += [(f"figures/{name}.png", CAPTIONS.get(name)) for name in figures]
    return _README.format(
        name=run.folder.name,
        answer=answer_text(run.load_table("differences"), margin=float(last.get("margin", 0.02))),
        verdicts="\n".join(f"| {row.claim} ({row.place}) | {row.verdict} |" for row in judged.itertuples()),
        chosen=_chosen(run),
        smears=smears,
        source=smears + (" --data DATA" if first.get("data") else ""),
        profile=record.get("profile", "?"),
        licence=LICENCES.get(smears, smears),
        data=record.get("data_hash", "?"),
        seeds=", ".join(f"{name} {value}" for name, value in record.get("seeds", {}).items()),
        fits=len(set().union(*(run.load_csv(name)["key"] for name in TRIAL_LISTS[:2]))),
        hours=_fit_seconds(run) / 3600,
        openings=_openings(run),
        machine=record.get("machine", "?"),
        versions=", ".join(f"{name} {versions[name]}" for name in _VERSIONS if name in versions),
        files="\n".join(f"- `{name}`" + (f": {what}" if what else "") for name, what in listed),
        predictions=PREDICTIONS,
        records=RECORDS,
        manifest=MANIFEST,
        tuning=TUNING,
        tolerance=TOLERANCE,
    )


def _chosen(run: Run) -> str:
    """The settings of the methods that the paper's question is about, under the last protocol."""
    choices = run.load_table("choices")
    own = choices[choices["protocol"].eq(choices["protocol"].iloc[-1]) & choices["method"].isin(PRIMARY_METHODS)]
    names = ["outer", "alpha", "gamma", "label_smoothing", "learning_rate", "weight_decay", "epochs"]
    told = []
    for row in own.to_dict(orient="records"):
        knobs = [f"{readable(name)} {row[name]:g}" for name in names if pd.notna(row[name]) and row[name]]
        told.append(f"{readable(row['architecture'])}, {readable(row['method'])}: {', '.join(knobs)}")
    return "; ".join(told)


def _fit_seconds(run: Run) -> float:
    """Of the fits that the run's lists name, each once."""
    listed = pd.concat([rows for rows in _lists(run) if len(rows)])  # a list of no fits has no seconds
    return float(listed.drop_duplicates("key")["seconds"].sum())


def _openings(run: Run) -> str:
    """Who looked at test cells, and why again, as the ledger tells."""
    ledger = load_ledger(run.folder)
    honest = ledger[ledger["protocol"] == HONEST]
    who = honest["method"].mask(honest["architecture"].isin([*CLASSIFIERS, MAJORITY]), "classical baseline")
    looks = [f"{readable(one)} {n}" for one, n in who.value_counts(sort=False).items()]
    told = [f"looks at the honest protocol's test cells: {', '.join(looks)}"] if looks else []
    told += [f"reason of {(ledger['reason'] == why).sum()} looks: {why}" for why in ledger["reason"].unique() if why]
    return "".join(f"\n- From the ledger ({LEDGER}), {one}." for one in told)
