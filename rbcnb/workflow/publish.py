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
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from rbcnb._utils.errors import InputError, MissingFileError
from rbcnb._utils.files import atomic_write, inside, require_folder
from rbcnb._utils.manifest import MANIFEST, Entries, ManifestError, changed_files, record_files, replace_manifest
from rbcnb._utils.markdown import code, in_markdown
from rbcnb.columns import CELL, LABEL, PRIMARY_METHODS, SIMULATED, SMEAR, readable
from rbcnb.evaluation.verdicts import answer_text
from rbcnb.study.classical import CLASSIFIERS, MAJORITY
from rbcnb.study.ledger import HONEST, LEDGER, LEDGER_REMEDY, load_ledger
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
from rbcnb.workflow.run import CAPTIONS, OUT_REMEDY, RECORD_REMEDY, RUN_JSON, TABLES, Run, read_table
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
_AGAIN = "run the same rbcnb reproduce again, which makes it again, then publish"
_REMEDIES = {RUN_JSON: RECORD_REMEDY, LEDGER: LEDGER_REMEDY}  # of files that no notebook makes again
_OURS = "name an empty folder, or one that rbcnb publish filled"
_OF_A_RUN = ("notebooks", "trials", "crops.npy")
_README = Path(__file__).with_name("published_readme.md").read_text(encoding="utf-8")


def publish_run(run: str | Path, out: str | Path) -> Path:
    """Fills the folder *out* from a finished *run* and returns it; what was published there before is replaced.

    Args:
        run: folder of the run.
        out: folder to publish into, which is made where there is none.

    Raises:
        FileNotFoundError: there is no such run, or it has not come to notebook 06; the message names what is missing.
        ValueError: *out* is the run, lies in it, holds it, or holds what publish did not write; or a file of the run
            is not as the run wrote it. What was published before is then as it was.
    """
    here, there = _source_and_target(run, out)
    here.load_table("verdict")  # missing, it says which notebook makes it
    tables = sorted(path.stem for path in here.folder.glob("tables/[!.]*.csv"))
    figures = [name for name in FIGURES if (here.folder / "figures" / f"{name}.png").exists()]
    names = [f"tables/{name}.csv" for name in tables] + [f"figures/{name}.png" for name in figures]
    names += [f"{name}.csv" for name in (*TRIAL_LISTS, "ladder") if (here.folder / f"{name}.csv").exists()]
    names += [name for name in (LEDGER, CLASSICAL) if (here.folder / name).exists()]
    names += sorted(path.name for path in here.folder.glob("splits_*.csv"))
    parts = dict(part for table, parts in PARTS.items() if table in tables for part in parts.items())
    _require_undamaged(here, [RUN_JSON, *names, *(f"{name}.csv" for name in parts)])
    _require_ours(there, here)
    with _aside(there.folder) as new:
        _copy(here, new, names)
        record = _without_places(here.load_record(), here.folder.name)
        packed = [*pack_trials(here.store, _keys(here), new.folder), *_pack_parts(here, new.folder, parts)]
        _write_pages(new, record, _readme(here, record, figures, tables, packed))
        _follow_packed(here, new, tables)
        entries = _entries(here, new, [*names, RUN_JSON, _README_MD], packed)
        before = _published_before(there)
        _exchange(new, there, entries)
        for name in set(before) - set(entries):  # of an earlier run, or of an earlier version of this package
            with suppress(InputError):
                inside(there.folder, name).unlink(missing_ok=True)
        replace_manifest(there.folder, entries)
    return there.folder


def _source_and_target(run: str | Path, out: str | Path) -> tuple[Run, Run]:
    here, there = Run.at(run), Run.at(out)
    require_folder(here.folder, remedy=OUT_REMEDY)
    return here, there


def _require_undamaged(run: Run, names: Sequence[str]) -> None:
    """Refuses a file of *names* that is not as the run wrote it: publishing would vouch for it by a new digest."""
    entries = run.load_manifest()
    if not entries:
        raise InputError(
            f"{run.folder / MANIFEST}: not there, or empty: nothing vouches for the files of the run; {_AGAIN}"
        )
    changed = [*changed_files(run.folder, {name: entries[name] for name in names if name in entries})]
    unlisted = [name for name in names if name not in entries]
    if not changed + unlisted:
        return
    first, n_more = (changed + unlisted)[0], len(changed + unlisted) - 1
    why, remedy = "not as the run wrote it (its digest tells)", _REMEDIES.get(first, _AGAIN)
    if not changed:
        why = f"{MANIFEST} has no digest of it"
        remedy = f"take it away if the run did not write it; else rename {MANIFEST}, and {_AGAIN}"
    raise InputError(f"{run.folder / first}{f' (and {n_more} more files)' * bool(n_more)}: {why}; {remedy}")


def _require_ours(there: Run, here: Run) -> None:
    """Refuses a folder to publish into that holds anything but what an earlier call wrote; hidden files may lie there.

    One that holds the run *here*, or lies in it, is refused, too.
    """
    folder = there.folder
    if folder.is_relative_to(here.folder) or here.folder.is_relative_to(folder):
        raise InputError(
            f"{folder}: is the run, holds it, or lies in it; take another folder than the run's own: {_OURS}"
        )
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder}: is a file; {_OURS}")
    if any((folder / name).exists() for name in _OF_A_RUN):
        raise InputError(f"{folder}: is the folder of a run; {_OURS}")
    if not _is_filled(there) and (found := sorted(folder.glob("[!.]*"))):
        raise InputError(f"{folder}: holds {found[0].name}, and was not filled by rbcnb publish; {_OURS}")


def _is_filled(there: Run) -> bool:
    """Whether an earlier call wrote to the folder, even one that was stopped before its end."""
    return is_packed(there.folder) or RECORDS in _published_before(there)


@contextmanager
def _aside(folder: Path) -> Iterator[Run]:
    """A place on the file system of *folder* to write to; nothing is left of it, nor of a new *folder* left empty."""
    fresh = not folder.exists()
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with tempfile.TemporaryDirectory(prefix=".publish-", dir=folder) as place:
            yield Run.at(place)
    finally:
        if fresh:
            with suppress(OSError):  # it is not empty
                folder.rmdir()


def _exchange(new: Run, there: Run, names: Iterable[str]) -> None:
    """Moves the files *names* from *new* to *there*, one by one: all that can fail has been done, or is looked at now.

    The manifest that is there does not vouch for them; where there is none, one that lists the trials goes first, a
    mark that the folder is publish's (`_is_filled`).
    """
    targets = [there.folder / name for name in (*names, MANIFEST, f".{MANIFEST}.lock")]
    folders = {path.parent for path in targets} - {there.folder}
    for path in (*sorted(folders), *targets):
        if path.is_symlink():
            raise InputError(f"{path}: is a link, and publish writes through none; remove it, or {_OURS}")
        if path.exists() and path.is_dir() != (path in folders):
            raise InputError(f"{path}: is {'no' if path in folders else 'a'} folder; remove it, or {_OURS}")
    for path in folders:
        path.mkdir(exist_ok=True)
    if not _is_filled(there):
        os.replace(new.folder / MANIFEST, there.folder / MANIFEST)
    for name in names:
        os.replace(new.folder / name, there.folder / name)


def _copy(source: Run, target: Run, names: Iterable[str]) -> None:
    for name in names:
        with atomic_write(target.folder / name) as part:
            shutil.copyfile(source.folder / name, part)


def _write_pages(new: Run, record: Mapping[str, Any], readme: str) -> None:
    with atomic_write(new.folder / RUN_JSON) as part:
        part.write_text(json.dumps(record, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    with atomic_write(new.folder / _README_MD) as part:
        part.write_text(readme, encoding="utf-8")


def _follow_packed(here: Run, there: Run, tables: Sequence[str]) -> None:
    """Gives the published *tables* the numbers that follow from the packed predictions, which are rounded.

    A score moves by up to `TOLERANCE` by that (`rbcnb.study.store.pack_trials`); a number that is divided by a small
    spread, such as an effect size, by more. A number that is further off is left as it is, for `rbcnb verify` to find.

    Raises:
        InputError: what a table is made from does not fit together; the message names the table of the run, *here*.
    """
    with unpacked(there.folder) as copy:
        makers = recomputed(copy)
        for name in [name for name in tables if name in makers]:
            path = there.folder / "tables" / f"{name}.csv"
            try:
                before = pd.read_csv(path, dtype=str, keep_default_na=False)
                after = _with_numbers_of(before, makers[name]())
            except (MissingFileError, InputError):  # it follows from what is not published
                continue
            except (ValueError, LookupError) as error:
                table = here.folder / "tables" / path.name
                raise InputError(f"{table}: cannot be made from the run's fits ({error}); {_AGAIN}") from error
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
        return there.load_manifest()
    except ManifestError:
        return {}


def publish_unfinished(run: str | Path, out: str | Path) -> Path:
    """Fills the folder *out* with the fits that a *run* has finished so far, its splits and its ledger; returns *out*.

    ``rbcnb reproduce --resume-from OUT`` goes on from there, on this machine or another. What `publish_run` left in
    *out* of an earlier stage of the same run stays.

    Raises:
        FileNotFoundError: the run has finished no fit.
        ValueError: as of `publish_run`.
    """
    here, there = _source_and_target(run, out)
    records = {key: load_record(here.store, key) or {} for key in stored_keys(here.store)}
    keys = [key for key, record in records.items() if record.get("fit_version") == FIT_VERSION]
    if not keys:
        raise FileNotFoundError(f"{here.store}: no finished fit in it yet; run notebook 04 at least")
    names = [path.name for path in [here.folder / LEDGER, *sorted(here.folder.glob("splits_*.csv"))] if path.exists()]
    _require_undamaged(here, [RUN_JSON, *names])
    _require_ours(there, here)
    is_new = "tables/verdict.csv" not in there.load_manifest()  # else of an earlier stage, whose tables stay
    with _aside(there.folder) as new:
        _copy(here, new, names)
        packed = pack_trials(here.store, keys, new.folder)
        if is_new:
            record = _without_places(here.load_record(), here.folder.name)
            _write_pages(new, record, _UNFINISHED.format(name=in_markdown(here.folder.name), fits=len(keys)))
            names += [RUN_JSON, _README_MD]
        entries = _entries(here, new, names, packed)
        _exchange(new, there, entries)
        record_files(there.folder, entries)
    return there.folder


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


def _pack_parts(run: Run, folder: Path, parts: Mapping[str, Sequence[str]]) -> Iterator[str]:
    """Writes what tables follow from beside fits and splits, *parts*, and yields the names of the files."""
    for name, columns in parts.items():
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


def _entries(run: Run, new: Run, copied: Sequence[str], packed: Sequence[str]) -> Entries:
    """What the published files were made from, as the run's manifest tells it.

    Of the trials also ``fits``: how many each network has, those on folds included.

    Args:
        run: the run.
        new: where its files lie, ready to be published.
        copied: names of files of the run.
        packed: names of files that were made of it for this.
    """
    entries = run.load_manifest()
    known = {name: entries.get(name, {}) for name in copied}
    common = {"data": run.data_hash(), "seed": run.load_record().get("seeds", {}).get("seed")}
    if words := run.simulated(PREDICTIONS):
        common[SIMULATED] = words
    known |= dict.fromkeys(packed, common)
    records = map(json.loads, pd.read_parquet(new.folder / RECORDS)["record"])
    fits = dict(sorted(Counter(record["trial"]["architecture"] for record in records).items()))
    return known | {RECORDS: common | {"fits": fits}}


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
        data=in_markdown(record.get("data_hash", "?")),
        seeds=", ".join(in_markdown(f"{name} {value}") for name, value in record.get("seeds", {}).items()),
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
