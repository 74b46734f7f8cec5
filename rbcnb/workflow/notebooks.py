"""The batch: checks parameters, runs the six notebooks in order, carries on where a stopped run stopped, reports.

A notebook is run again only if something it depends on has changed: its own source, its parameters, the package's code,
the smears, or any of that for an earlier notebook. Trials inside it have their own store and are never trained twice.
"""

import errno
import os
import re
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import nbformat

from rbcnb._utils.duration import duration
from rbcnb._utils.errors import InputError, PlainError, UnfinishedError
from rbcnb._utils.files import atomic_write, folder_lock, remove_parts
from rbcnb._utils.manifest import MANIFEST, ManifestError, set_aside
from rbcnb._utils.progress import say
from rbcnb._utils.read_files import folder_fault
from rbcnb.labels.readings import READINGS_CSV, SECOND_LOOK_CSV
from rbcnb.study.ledger import LEDGER
from rbcnb.workflow.notebook_parameters import (
    check_parameters,
    declared_parameters,
    find_notebooks,
    load_profile,
    notebooks_folder,
    with_whole_paths,
)
from rbcnb.workflow.run import RUN_JSON, Run
from rbcnb.workflow.run_record import changed_record, notebook_fingerprints, record_end, record_start

_WIDGET = "application/vnd.jupyter.widget-view+json"
_CARRIES_ON = "What is finished is kept; the same command carries on from there."
# Where a run's notebooks write, and what other commands write there meanwhile. A folder may hold other runs, too.
_FOLDERS = (".", "tables", "figures", "notebooks", "smears", "models", "trials")
_OTHERS_WRITE = (READINGS_CSV, SECOND_LOOK_CSV, MANIFEST, LEDGER)
_LOOK_EVERY_S = 1.0  # whether a notebook takes longer than expected


class ReproductionError(UnfinishedError):
    """A notebook failed; what was done before it is kept, and the next call carries on from there."""


def run_notebook(source: Path, target: Path, parameters: dict[str, Any]) -> None:
    """Runs the notebook at *source* with *parameters* into *target*, its output on this process's stderr.

    Raises:
        ReproductionError: a cell failed, or the kernel died.
    """
    import papermill
    from nbclient.exceptions import DeadKernelError
    from papermill.exceptions import PapermillExecutionError

    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        papermill.execute_notebook(
            _verbatim(source),
            _verbatim(target),
            parameters=parameters,
            kernel_name="python3",
            progress_bar=False,
            cwd=str(source.parent),
            stdout_file=_Indented(sys.stderr),
            # The kernel's advice on encrypted transports is no news for a kernel on this machine's loopback.
            extra_arguments=["--IPKernelApp.log_level=ERROR"],
        )
    except PapermillExecutionError as error:
        raise ReproductionError(
            f"{source.stem}, cell {error.cell_index} (In [{error.exec_count}]): {error.ename}: {error.evalue}\n"
            f"The notebook as far as it came: {target}\n"
            f"{_CARRIES_ON}"
        ) from None
    except DeadKernelError:
        raise ReproductionError(
            f"{source.stem}: its kernel died, most often because memory ran out; try --jobs 1. {_CARRIES_ON}"
        ) from None
    except FileNotFoundError:  # papermill's, of a folder that was there a moment ago
        if target.parent.is_dir():
            raise
        raise ReproductionError(_gone(target.parent)) from None
    finally:
        if target.exists():
            with suppress(nbformat.reader.NotJSONError):  # of which a full disk took no more than a part
                _make_still(target)


@contextmanager
def _folder_faults_named(folder: Path) -> Iterator[None]:
    """Names the run's *folder* as the cause, if the block failed because that folder is gone or full.

    A notebook can name only the file that it could not write, and papermill not even that.

    Raises:
        ReproductionError: the folder is gone, or nothing more can be written there.
    """
    try:
        yield
    except (OSError, ReproductionError) as error:
        if not folder.is_dir():
            raise ReproductionError(_gone(folder)) from error
        if fault := _write_fault(folder, error):
            where = str(error).splitlines()[0]
            raise ReproductionError(f"{folder_fault(folder, fault)}. What is finished is kept.\n{where}") from error
        raise


def _write_fault(folder: Path, error: Exception) -> OSError | None:
    """The error of the system behind *error* if it is of a file in *folder*, or of a file without a name; else None."""
    if isinstance(error, OSError):
        if isinstance(error, PlainError | BlockingIOError):
            return None
        number, name = error.errno, error.filename
    else:  # of a notebook, whose errors come as text
        texts = {os.strerror(number): number for number in (errno.ENOSPC, errno.EDQUOT)}
        found = re.search(rf"({'|'.join(map(re.escape, texts))})(?:: '(?P<name>[^']+)')?", str(error))
        if not found:
            return None
        number, name = texts[found[1]], found["name"]
    if name is None and number not in (errno.ENOSPC, errno.EDQUOT):
        return None
    if name is not None and not Path(os.fsdecode(name)).is_relative_to(folder):
        return None
    return OSError(number, os.strerror(number), name)


def _gone(folder: Path) -> str:
    return f"{folder}: is gone, removed during the run; start the run again, and leave its folder alone meanwhile"


def _make_still(path: Path) -> None:
    """Leaves of the widgets of an executed notebook their pictures: no kernel will answer them again.

    Without the widgets' state, other programs show the picture that a widget brings
    (`rbcnb.plotting.sliders.with_picture`), and fetch no code to draw it by. A progress bar has none, and is over.
    Slides pass the parameters over.
    """
    notebook = nbformat.read(path, as_version=4)
    notebook.metadata.pop("widgets", None)
    for cell in notebook.cells:
        if "injected-parameters" in cell.metadata.get("tags", ()):
            cell.metadata["slideshow"] = {"slide_type": "skip"}
        if cell.cell_type == "code":
            cell.outputs = [output for output in cell.outputs if set(output.get("data", ())) != {_WIDGET, "text/plain"}]
    with atomic_write(path) as part:
        nbformat.write(notebook, part)


def _verbatim(path: Path) -> str:
    """A path for papermill, which would fill in its braces: doubled ones stay as they are."""
    return str(path).replace("{", "{{").replace("}", "}}")


class _Indented:
    """A text stream that sets every line it passes on apart from the runner's own."""

    def __init__(self, stream: Any) -> None:
        self.stream = stream

    def write(self, text: str) -> int:
        self.stream.write("".join(f"      {line}" for line in text.splitlines(keepends=True)))
        return len(text)

    def flush(self) -> None:
        self.stream.flush()


def reproduce(
    *,
    out: str | Path,
    profile: str | Path = "course",
    overrides: Mapping[str, Any] | None = None,
    only: Sequence[str] = (),
    jobs: int | None = None,
    scheduler: str | None = None,
    resume_from: str | Path | None = None,
) -> Run:
    """Runs the notebooks into *out*: ``notebooks/``, ``tables/``, ``figures/``, ``report.html``, ``run.json``.

    Args:
        out: the run's folder; what it already holds and is still valid is kept.
        profile: name of a profile beside the notebooks, or path of a YAML file.
        overrides: parameter values that go before the profile's.
        only: numbers or names of the notebooks to run; none for all.
        jobs: trials side by side; None for one per core.
        scheduler: address of a Dask scheduler, whose workers segment and train in place of this machine.
        resume_from: folder of `rbcnb publish`: fits that the run lacks are taken from there, and, where the run has
            none, the ledger of test sets.

    Returns:
        The run.

    Raises:
        ParameterError: before any kernel starts: a parameter is unknown or wrong, a notebook does not exist.
        BlockingIOError: another process is at work in the run.
        ReproductionError: a notebook failed; names it, its cell and the error.
        ClusterError: before any kernel starts: the cluster cannot do the work.
    """
    run = Run.at(out)
    paths = find_notebooks()
    chosen = {path.stem for path in find_notebooks(only)}
    here = {"run": str(run.folder)} | ({} if jobs is None else {"jobs": jobs})
    here |= {"scheduler": scheduler} if scheduler else {}
    parameters = _parameters(profile, {**(overrides or {}), **here})
    run.folder.mkdir(parents=True, exist_ok=True)
    with _folder_faults_named(run.folder), folder_lock(run.folder):
        for name in _FOLDERS:
            remove_parts(run.folder / name, but=_OTHERS_WRITE)
        _set_damage_aside(run)
        if resume_from is not None:
            say(f"{_resume(run, Path(resume_from))} finished fits taken from {resume_from}")
        _carry_on(run, paths, chosen, parameters, profile=str(profile))
    return run


def _set_damage_aside(run: Run) -> None:
    """Renames a manifest or a record that cannot be read: all notebooks are run again then, and write new ones.

    Fits are not made again: each has a digest of its own (`rbcnb.study.store`).
    """
    for name, read, errors in (
        (MANIFEST, run.load_manifest, ManifestError),
        (RUN_JSON, run.load_record, InputError),
    ):
        try:
            read()
        except errors:
            say(f"{run.folder / name}: is damaged; kept as {set_aside(run.folder, name).name}, all is made again")


def _parameters(profile: str | Path, overrides: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Notebook -> its parameters, checked: those of the profile, with *overrides* before them."""
    values = {**load_profile(profile, notebooks_folder() / "profiles"), **overrides}
    return check_parameters(with_whole_paths(values), declared_parameters())


def expected_cost(
    profile: str | Path,
    *,
    overrides: Mapping[str, Any] | None = None,
    only: Sequence[str] = (),
    jobs: int | None = None,
) -> float:
    """Seconds that `reproduce` would about take on this machine from the start; its speed is measured.

    Args:
        profile, overrides, only, jobs: of `reproduce`.

    Raises:
        ParameterError: as of `reproduce`.
    """
    from rbcnb.study.runner import default_jobs
    from rbcnb.workflow.cost import estimate

    parameters = _parameters(profile, overrides or {})
    merged = {name: value for values in parameters.values() for name, value in values.items()}
    numbers = [path.stem[:2] for path in find_notebooks(only)]
    return sum(estimate(merged, notebooks=numbers, jobs=jobs or merged["jobs"] or default_jobs()).values())


def _resume(run: Run, source: Path) -> int:
    """Takes over the finished fits of a published folder, and its ledger; returns how many fits the run lacked."""
    from rbcnb.study.store import unpack_trials

    n_fits = unpack_trials(source, run.store)
    if (source / LEDGER).exists() and not (run.folder / LEDGER).exists():
        with atomic_write(run.folder / LEDGER) as part:
            shutil.copyfile(source / LEDGER, part)
        run.record(LEDGER)
    return n_fits


def _carry_on(
    run: Run,
    paths: Sequence[Path],
    chosen: Set[str],
    parameters: Mapping[str, dict[str, Any]],
    *,
    profile: str,
) -> None:
    """Runs those of the notebooks at *paths* that are *chosen* and not done, and writes record and report."""
    from rbcnb.workflow.report import write_report

    merged = {name: value for values in parameters.values() for name, value in values.items()}
    stamps = notebook_fingerprints(run, parameters, chosen=chosen)
    done = run.load_record().get("notebooks", {})
    pending = [path for path in paths if path.stem in chosen and not _is_done(run, path.stem, done, stamps)]
    for path in paths:
        if path.stem in chosen and path not in pending:
            say(f"{path.stem}: done already, {done[path.stem]['seconds']:.0f} s at the time")
    if pending:
        _execute(run, pending, parameters, stamps, merged=merged, profile=profile)
    say(f"report: {write_report(run)}")


def _is_done(run: Run, name: str, done: Mapping[str, Any], stamps: Mapping[str, str]) -> bool:
    """*name* was run as it would be now, and what it made is still there, as it was written."""
    entry = done.get(name)
    if not entry or "file" not in entry or entry["fingerprint"] != stamps[name]:
        return False
    if entry["file"] not in run.load_manifest():
        return False
    if changed := run.changed_results(name):
        more = f" and {len(changed) - 1} more" if len(changed) > 1 else ""
        say(f"{name}: {changed[0]}{more}: missing, or not as it was written; the notebook is run again")
    return not changed


def _execute(
    run: Run,
    pending: Sequence[Path],
    parameters: Mapping[str, dict[str, Any]],
    stamps: Mapping[str, str],
    *,
    merged: Mapping[str, Any],
    profile: str,
) -> None:
    from rbcnb._utils.dask_cluster import connect, count_workers
    from rbcnb.segmentation.upscaling import usable_method
    from rbcnb.study.progress import ticking
    from rbcnb.study.runner import default_jobs
    from rbcnb.workflow.cost import estimate

    if merged["upscale"] != "none" and usable_method(merged["upscale"]) != merged["upscale"]:
        say("Waifu2x cannot run here (ncnn or its model files are missing): upscaling bicubically")
    numbers = [path.stem[:2] for path in pending]
    with connect(merged["scheduler"], say=say) as client:
        workers = count_workers(client) if client else 0
    where = f"{workers} workers like this machine" if workers else "this machine"
    expected = estimate(merged, notebooks=numbers, jobs=workers or merged["jobs"] or default_jobs())
    with changed_record(run) as record:
        record["profile"] = profile
        record["estimated_s"] = {name: round(seconds, 1) for name, seconds in expected.items()}
    spent: dict[str, float] = {}
    say(f"{len(pending)} notebooks to run into {run.folder}; at least {duration(sum(expected.values()))} on {where}")
    for number, path in enumerate(pending, start=1):
        say(f"[{number}/{len(pending)}] {path.stem} ...")
        start = time.perf_counter()
        file = f"notebooks/{path.name}"
        with changed_record(run) as record:
            record.get("notebooks", {}).pop(path.stem, None)
        record_start(run, path.stem, parameters[path.stem], fingerprint=stamps[path.stem])
        try:
            with ticking(_overdue(expected, dict(spent), path.stem), _LOOK_EVERY_S):
                run_notebook(path, run.folder / file, parameters[path.stem])
        except ReproductionError:
            from rbcnb.workflow.report import write_report

            if (run.folder / file).exists():
                with suppress(OSError):  # the folder may be full: why the notebook failed matters more
                    run.record(file)
                    write_report(run)
            raise
        replace(run, notebook=path.stem).record(file)
        seconds = time.perf_counter() - start
        record_end(run, path.stem, seconds=seconds, file=file)
        spent[path.stem[:2]] = seconds
        more = f"; {time_left(expected, spent)}" if number < len(pending) else ""
        say(f"[{number}/{len(pending)}] {path.stem}: {seconds:.0f} s{more}")


def time_left(
    expected: Mapping[str, float], spent: Mapping[str, float], *, running: str = "", running_s: float = 0.0
) -> str:
    """What is left of a run, in words, at the speed of what this run has done already.

    Args:
        expected: notebook -> seconds estimated beforehand, of all that are to run.
        spent: notebook -> seconds measured, of those that this run has done.
        running: the notebook at work, if any.
        running_s: how long it has been.

    Returns:
        "about 4 min left"; "at least" where nothing is measured yet, and where *running* has taken longer than it was
        to: that says only how much the others need.
    """
    slowness = sum(spent.values()) / sum(expected[name] for name in spent) if spent else 1.0
    wanted_s = slowness * expected.get(running, 0.0)
    overdue = bool(running) and running_s > 1.1 * wanted_s
    if overdue:
        slowness = max(slowness, running_s / expected[running])
    others_s = sum(slowness * seconds for name, seconds in expected.items() if name not in spent and name != running)
    if overdue:
        others = f"; at least {duration(others_s)} for the notebooks after it" if others_s else ""
        return f"{duration(running_s)} so far, longer than the {duration(wanted_s)} expected{others}"
    words = "about" if spent else "at least"
    return f"{words} {duration(others_s + max(0.0, wanted_s - running_s))} left"


def _overdue(expected: Mapping[str, float], spent: Mapping[str, float], notebook: str) -> Callable[[], None]:
    """A function that says that *notebook* is later than expected: once, and again at each doubling of its time."""
    start, limit_s = time.perf_counter(), 0.0

    def look() -> None:
        nonlocal limit_s
        running_s = time.perf_counter() - start
        words = time_left(expected, spent, running=notebook[:2], running_s=running_s)
        if "longer than" in words and running_s > limit_s:
            limit_s = 2 * running_s
            say(f"{notebook}: {words}")

    return look


def skipped_files(run: Run) -> list[str]:
    """What notebook 01 said of the image files that it had to leave out."""
    if not (run.folder / "tables" / "skipped.csv").exists():
        return []
    return list(run.load_table("skipped")["error"])
