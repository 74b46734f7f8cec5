"""What is kept of a finished run when the run itself is too large to keep: its numbers, and all that checks them.

``rbcnb publish RUN DIR`` fills DIR with ``tables/``, the rows of the fits (`TRIAL_LISTS`), their curves and held-out
predictions in one file each, those of the classical baseline as the run has them, the splits, what the counts of cells
and of hits follow from (`PARTS`), the ledger of test sets, ``run.json``, ``manifest.json``, figures of numbers, a
README.md. No picture of a cell is among them. ``rbcnb verify DIR`` recomputes the tables from all this.
"""

import io
import json
import os
import shlex
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from rbcnb._utils.errors import InputError, MissingFileError
from rbcnb._utils.files import atomic_write, inside, require_folder
from rbcnb._utils.manifest import MANIFEST, Entries, ManifestError, changed_files, replace_manifest
from rbcnb._utils.markdown import code, in_markdown
from rbcnb.columns import CELL, LABEL, PRIMARY_METHODS, SIMULATED, SMEAR, readable
from rbcnb.evaluation.verdicts import answer_text
from rbcnb.study.classical import CLASSIFIERS, MAJORITY
from rbcnb.study.ledger import HONEST, LEDGER, load_ledger
from rbcnb.study.runner import mixed_blocks
from rbcnb.study.store import (
    PACKED,
    PREDICTIONS,
    RECORDS,
    TOLERANCE,
    is_packed,
    load_record,
    pack_trials,
    stored_keys,
    unpack_trials,
)
from rbcnb.training.trial import FIT_VERSION
from rbcnb.workflow.classical_fits import CLASSICAL
from rbcnb.workflow.report import simulated_notices, simulated_words
from rbcnb.workflow.run import CAPTIONS, OUT_REMEDY, RUN_JSON, TABLES, Run, read_table
from rbcnb.workflow.run_tables import recomputed

TUNING = "fold_trials"
TRIAL_LISTS = ("final_trials", "ladder_trials", "lesson_trials", "leakage_trials", TUNING)
# Table -> what it follows from beside fits and splits: file of the run, columns that are kept of it. Places of cells
# are the data set's own, and not given away.
PARTS = {"class_counts": {"labelled": (SMEAR, CELL, LABEL)}}
ROUNDING = 1e-3  # what it may move, as a share of itself, a number by that is divided by a small spread
SAME = 1e-12  # numbers that differ by less are the same
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
LICENCES = {
    "chula": "Chula RBC-12 (Naruenatthanaset et al. 2021), MIT licence; get it with `rbcnb fetch chula`",
    "synthetic": "rendered by rbcnb, MIT licence",
}
_PARTS_HOLD = {"labelled.parquet": "the cells of the study and their labels"}
_VERSIONS = ("rbcnb", "python", "torch", "torchvision", "fastai", "scikit-learn", "numpy")
_UNFINISHED = """# {name}, at work

{fits} fits of a study that is not finished. To go on from here: `rbcnb reproduce` with the study's profile and
`--resume-from` this folder. No result is to be read off it.
"""
_README_MD = "README.md"
_README = Path(__file__).with_name("published_readme.md").read_text(encoding="utf-8")


def publish_run(run: str | Path, out: str | Path) -> Path:
    """Fills the folder *out* from a finished *run* and returns it; what was published there before is replaced.

    Args:
        run: folder of the run.
        out: folder to publish into, which is made where there is none.

    Raises:
        FileNotFoundError: there is no such run, or it has not come to notebook 06; the message names what is missing.
        ValueError: *out* is the run itself, or a file of the run that is read is damaged.
    """
    here, there = _source_and_target(run, out)
    here.load_table("verdict")  # missing, it says which notebook makes it
    tables = sorted(path.stem for path in here.folder.glob("tables/[!.]*.csv"))
    figures = [name for name in FIGURES if (here.folder / "figures" / f"{name}.png").exists()]
    names = [f"tables/{name}.csv" for name in tables] + [f"figures/{name}.png" for name in figures]
    names += [f"{name}.csv" for name in (*TRIAL_LISTS, "ladder") if (here.folder / f"{name}.csv").exists()]
    names += [name for name in (LEDGER, CLASSICAL) if (here.folder / name).exists()]
    names += sorted(path.name for path in here.folder.glob("splits_*.csv"))
    _require_undamaged(here, names)
    before = _published_before(there)
    for name in names:
        with atomic_write(there.folder / name) as part:
            shutil.copyfile(here.folder / name, part)
    record = _without_places(here.load_record(), here.folder.name)
    if (there.folder / MANIFEST).exists():
        (there.folder / MANIFEST).unlink()  # until all is written, nothing vouches for what lies there
    packed = [*pack_trials(here.store, _keys(here), there.folder), *_pack_parts(here, there.folder, tables)]
    _write_json(there.folder / RUN_JSON, record)
    with atomic_write(there.folder / _README_MD) as part:
        part.write_text(_readme(here, record, figures, tables, packed), encoding="utf-8")
    names += [RUN_JSON, _README_MD]
    _follow_packed(there, tables)
    _save_manifest(here, there, names, packed)
    for name in set(before) - set(names) - set(packed):  # of an earlier run, or of an earlier version of this package
        with suppress(InputError):
            inside(there.folder, name).unlink(missing_ok=True)
    return there.folder


def _source_and_target(run: str | Path, out: str | Path) -> tuple[Run, Run]:
    here, there = Run.at(run), Run.at(out)
    require_folder(here.folder, remedy=OUT_REMEDY)
    if here.folder == there.folder:
        raise ValueError(f"{here.folder}: publish into another folder than the run's own")
    return here, there


def _require_undamaged(run: Run, names: Sequence[str]) -> None:
    """Refuses a file of *names* that is not as the run wrote it: publishing would vouch for it by a new digest."""
    entries = run.load_manifest()
    if changed := changed_files(run.folder, {name: entries[name] for name in names if name in entries}):
        more = f" (and {len(changed) - 1} more files)" if len(changed) > 1 else ""
        raise InputError(
            f"{run.folder / next(iter(changed))}{more}: not as the run wrote it (its digest tells); run the same rbcnb "
            "reproduce again, which makes it again, then publish"
        )


def _follow_packed(there: Run, tables: Sequence[str]) -> None:
    """Gives the published *tables* the numbers that follow from the packed predictions, which are rounded.

    A score moves by up to `TOLERANCE` by that (`rbcnb.study.store.pack_trials`); a number that is divided by a small
    spread, such as an effect size, by more. A number that is further off is left as it is, for `rbcnb verify` to find.
    """
    with unpacked(there.folder) as copy:
        makers = recomputed(copy)
        for name in [name for name in tables if name in makers]:
            path = there.folder / "tables" / f"{name}.csv"
            with suppress(MissingFileError, InputError):  # it follows from what is not published
                before = pd.read_csv(path, dtype=str, keep_default_na=False)
                after = _with_numbers_of(before, makers[name]())
                if not after.equals(before):
                    with atomic_write(path) as part:
                        after.to_csv(part, index=False)


def _with_numbers_of(stored: pd.DataFrame, new: pd.DataFrame) -> pd.DataFrame:
    """*stored*, as text, with the numbers of *new* where rounding alone explains the difference.

    Both must have the same rows in the same order: where another column than those of numbers differs, nothing changes.
    """
    old, new = (read_table(io.StringIO(table.to_csv(index=False))) for table in (stored, new))
    shared = [column for column in old if column in new]
    numbers = [column for column in shared if old[column].dtype == new[column].dtype == float]
    words = [column for column in shared if column not in numbers]
    if len(old) != len(new) or not old[words].equals(new[words]):
        return stored
    after = stored.copy()
    for column in numbers:
        differ = ~np.isclose(old[column], new[column], rtol=SAME, atol=SAME, equal_nan=True)
        rounded = differ & np.isclose(old[column], new[column], rtol=ROUNDING, atol=TOLERANCE)
        after.loc[rounded, column] = [repr(float(number)) for number in new.loc[rounded, column]]
    return after


def _published_before(there: Run) -> Entries:
    """What an earlier call published into the same folder; nothing where its manifest is damaged."""
    try:
        return there.load_manifest() if is_packed(there.folder) else {}
    except ManifestError:
        return {}


def publish_unfinished(run: str | Path, out: str | Path) -> Path:
    """Fills the folder *out* with the fits that a *run* has finished so far, its splits and its ledger; returns *out*.

    ``rbcnb reproduce --resume-from OUT`` goes on from there, on this machine or another. What `publish_run` left in
    *out* of an earlier stage of the same run stays.

    Raises:
        FileNotFoundError: the run has finished no fit.
        ValueError: *out* is the run itself.
    """
    here, there = _source_and_target(run, out)
    records = {key: load_record(here.store, key) or {} for key in stored_keys(here.store)}
    keys = [key for key, record in records.items() if record.get("fit_version") == FIT_VERSION]
    if not keys:
        raise FileNotFoundError(f"{here.store}: no finished fit in it yet; run notebook 04 at least")
    names = [path.name for path in [here.folder / LEDGER, *sorted(here.folder.glob("splits_*.csv"))] if path.exists()]
    for name in names:
        with atomic_write(there.folder / name) as part:
            shutil.copyfile(here.folder / name, part)
    manifest = there.load_manifest()
    packed = pack_trials(here.store, keys, there.folder)
    kept = [name for name in manifest if name not in (*packed, *names)]
    if "tables/verdict.csv" not in manifest:  # else of an earlier stage, whose tables stay
        _write_json(there.folder / RUN_JSON, _without_places(here.load_record(), here.folder.name))
        with atomic_write(there.folder / _README_MD) as part:
            part.write_text(_UNFINISHED.format(name=here.folder.name, fits=len(keys)), encoding="utf-8")
        names += [RUN_JSON, _README_MD]
    _save_manifest(here, there, [*kept, *names], packed, before=manifest)
    return there.folder


def _write_json(path: Path, facts: Mapping[str, Any]) -> None:
    with atomic_write(path) as part:
        part.write_text(json.dumps(facts, indent=1, sort_keys=True) + "\n", encoding="utf-8")


@contextmanager
def copied(folder: Path) -> Iterator[Run]:
    """A published *folder* as a run whose store is empty, in a place that is gone after the block."""
    with tempfile.TemporaryDirectory() as place:
        target = Path(place) / folder.name
        _copy_files(folder, target)
        yield _Published.at(target)


@contextmanager
def unpacked(folder: Path) -> Iterator[Run]:
    """As `copied`, with the published trials in its store."""
    with copied(folder) as run:
        unpack_trials(run.folder, run.store)
        yield run


def _copy_files(source: Path, target: Path) -> None:
    """Copies the regular files of a folder that may be a stranger's; no link, pipe or device is followed or read."""
    target.mkdir()
    for entry in os.scandir(source):
        if entry.is_dir(follow_symlinks=False):
            _copy_files(Path(entry.path), target / entry.name)
        elif entry.is_file(follow_symlinks=False):
            shutil.copyfile(entry.path, target / entry.name)


class _Published(Run):
    """A run without crops: of which data it is, its record alone can tell. Some lists are packed."""

    def data_hash(self) -> str:
        return self.load_record().get("data_hash", "none")

    def load_csv(self, name: str) -> pd.DataFrame:
        packed = inside(self.folder, f"{name}.parquet")
        if packed.name in _PARTS_HOLD and packed.is_file():
            return read_table(io.StringIO(pd.read_parquet(packed).to_csv(index=False)))
        return super().load_csv(name)


def _lists(run: Run) -> list[pd.DataFrame]:
    return [run.load_csv(name) for name in TRIAL_LISTS if (run.folder / f"{name}.csv").exists()]


def _keys(run: Run) -> list[str]:
    """The fits that the run's lists name, each once, and what else its store has of the same data: a study goes on."""
    listed = pd.concat([rows[["key", "data"]] for rows in _lists(run) if len(rows)])
    known = set(listed["data"])
    records = {key: load_record(run.store, key) or {} for key in stored_keys(run.store)}
    more = [key for key, fit in records.items() if fit.get("fit_version") == FIT_VERSION and fit["data"] in known]
    return list(dict.fromkeys([*listed["key"], *more]))


def _pack_parts(run: Run, folder: Path, tables: Sequence[str]) -> Iterator[str]:
    """Writes what *tables* follow from beside fits and splits, and yields the names of the files."""
    for name, columns in [part for table, parts in PARTS.items() if table in tables for part in parts.items()]:
        with atomic_write(folder / f"{name}.parquet") as part:
            run.load_csv(name)[[*columns]].to_parquet(part, **PACKED)
        yield f"{name}.parquet"


def _without_places(record: dict, name: str) -> dict:
    """The run's record without folders of the machine that it was made on."""
    places = {"run": f"runs/{name}", "data": "DATA"}
    parameters = {
        notebook: {key: places.get(key, value) if value else value for key, value in values.items()}
        for notebook, values in record.get("parameters", {}).items()
    }
    return record | {"parameters": parameters}


def _save_manifest(
    run: Run, there: Run, copied: Sequence[str], packed: Sequence[str], *, before: Mapping[str, dict] | None = None
) -> None:
    """What the published files were made from, as the run's manifest tells it, with their digests.

    Of the trials also ``fits``: how many each network has, those on folds included.

    Args:
        run: the run.
        there: where it is published.
        copied: names of files of the run.
        packed: names of files that were made of it for this.
        before: entries that stay.
    """
    entries = run.load_manifest() | dict(before or {})
    known = {name: entries.get(name, {}) for name in copied}
    common = {"data": run.data_hash(), "seed": run.load_record().get("seeds", {}).get("seed")}
    if words := run.simulated(PREDICTIONS):
        common[SIMULATED] = words
    known |= dict.fromkeys(packed, common)
    records = map(json.loads, pd.read_parquet(there.folder / RECORDS)["record"])
    fits = dict(sorted(Counter(record["trial"]["architecture"] for record in records).items()))
    replace_manifest(there.folder, known | {RECORDS: common | {"fits": fits}})


def _readme(run: Run, record: dict, figures: Sequence[str], tables: Sequence[str], packed: Sequence[str]) -> str:
    parameters = record.get("parameters", {})
    first, last = (parameters.get(name, {}) for name in ("01_segmentation", "06_imbalance_study"))
    smears, versions = str(first.get("smears", "?")), record.get("versions", {})
    manifest = run.load_manifest()
    listed = [(CLASSICAL, "predictions of the classical baseline")] * (run.folder / CLASSICAL).exists()
    listed += [(name, _PARTS_HOLD[name]) for name in packed if name in _PARTS_HOLD]
    shown = {f"tables/{name}.csv": TABLES.get(name) for name in tables}
    shown |= {f"figures/{name}.png": CAPTIONS.get(name) for name in figures}
    for name, what in shown.items():
        words = simulated_words(manifest.get(name, {}))
        listed.append((name, " ".join(text for text in (what, f"({words})" * bool(words)) if text)))
    name, profile = shlex.quote(run.folder.name), shlex.quote(str(record.get("profile", "?")))
    more = " --data DATA" if first.get("data") else ""
    reproduce = f"rbcnb reproduce --smears {shlex.quote(smears)}{more} --profile {profile} --out runs/{name}"
    return _README.format(
        name=in_markdown(run.folder.name),
        reproduce=code(reproduce),
        publish=code(f"rbcnb publish runs/{name} results/{name}"),
        verify=code(f"rbcnb verify results/{name}"),
        notice="".join(f"**{text}**\n\n" for text in simulated_notices(run, shown)),
        answer=answer_text(run.load_table("differences"), margin=float(last.get("margin", 0.02))),
        verdicts=_verdicts(run.load_table("verdict")),
        chosen=_chosen(run),
        licence=LICENCES.get(smears) or code(smears),
        data=record.get("data_hash", "?"),
        seeds=", ".join(f"{name} {value}" for name, value in record.get("seeds", {}).items()),
        fits=len(set().union(*(run.load_csv(name)["key"] for name in TRIAL_LISTS[:2]))),
        hours=_fit_seconds(run) / 3600,
        openings=_openings(run),
        processors=_processors(run),
        machine=in_markdown(record.get("machine", "?")),
        versions=", ".join(f"{name} {in_markdown(versions[name])}" for name in _VERSIONS if name in versions),
        files="\n".join(f"- {code(name)}" + (f": {what}" if what else "") for name, what in listed),
        predictions=PREDICTIONS,
        records=RECORDS,
        manifest=MANIFEST,
        tuning=TUNING,
        tolerance=TOLERANCE,
    )


def _verdicts(judged: pd.DataFrame) -> str:
    """The verdict of each claim as a table in Markdown, with what is simulated where anything is."""
    more = [SIMULATED] if SIMULATED in judged else []
    rows = [["claim of the paper", "verdict of this run", *more], ["---"] * (2 + len(more))]
    rows += [[f"{row['claim']} ({row['place']})", row["verdict"], *row[more]] for _, row in judged.iterrows()]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _chosen(run: Run) -> str:
    """The settings of the methods that the paper's question is about, under the last protocol."""
    choices = run.load_table("choices")
    last = choices["protocol"].eq(choices["protocol"].iloc[-1])
    names = ["outer", "alpha", "gamma", "label_smoothing", "learning_rate", "weight_decay", "epochs"]
    sentences = []
    for row in choices[last & choices["method"].isin(PRIMARY_METHODS)].to_dict(orient="records"):
        knobs = [f"{readable(name)} {row[name]:g}" for name in names if pd.notna(row[name]) and row[name]]
        sentences.append(f"{readable(row['architecture'])}, {readable(row['method'])}: {', '.join(knobs)}")
    return "; ".join(sentences)


def _processors(run: Run) -> str:
    """What computed the final fits, and whether each block of them was computed by one kind of processor."""
    final = run.load_csv("final_trials").reindex(columns=["architecture", "outer", "seed", "engine", "processor"])
    kinds = (final["processor"].fillna("") + " (" + final["engine"] + ")").value_counts(sort=False)
    n_mixed = len(mixed_blocks(final))
    fits = "; ".join(f"{n} on {kind}" for kind, n in kinds.items())
    return f"Final fits: {fits}. Blocks (network, outer split, seed) on more than one kind of processor: {n_mixed}."


def _fit_seconds(run: Run) -> float:
    """Of the fits that the run's lists name, each once."""
    listed = pd.concat([rows for rows in _lists(run) if len(rows)])  # a list of no fits has no seconds
    return float(listed.drop_duplicates("key")["seconds"].sum())


def _openings(run: Run) -> str:
    """Who looked at test cells, and why again, as the ledger tells."""
    ledger = load_ledger(run.folder)
    honest = ledger[ledger["protocol"] == HONEST]
    who = honest["method"].mask(honest["architecture"].isin([*CLASSIFIERS, MAJORITY]), "classical baseline")
    looks = [f"{readable(method)} {n}" for method, n in who.value_counts(sort=False).items()]
    notes = [f"looks at the honest protocol's test cells: {', '.join(looks)}"] if looks else []
    notes += [
        f"reason of {(ledger['reason'] == why).sum()} looks: {in_markdown(why)}"
        for why in ledger["reason"].unique()
        if why
    ]
    return "".join(f"\n- From the ledger ({LEDGER}), {note}." for note in notes)
