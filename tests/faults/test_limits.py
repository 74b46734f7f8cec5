"""Commands that lack space, permission, memory or their folder end with a line that helps, and carry on afterwards."""

import shutil
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from kills import LIMIT_S, Ended, Started, count_files, differing, rbcnb, run, start, tree
from limits import enlarge, limited, read_only, small_disk, unprivileged, why_no_permissions, why_no_small_disk
from made import make_model, make_smears
from outcomes import record
from tiny_run import command as reproduce_command

from rbcnb.labels.readings import Reading, append_readings, load_readings

needs_small_disk = pytest.mark.skipif(bool(why_no_small_disk()), reason=why_no_small_disk())
needs_permissions = pytest.mark.skipif(bool(why_no_permissions()), reason=why_no_permissions())
N_READINGS = 400  # some 30 kB
_APPEND = """
import sys
from rbcnb.labels.readings import LogbookError, append_readings, load_readings
try:
    append_readings(sys.argv[2], load_readings(sys.argv[1]).drop(columns="revision"))
except LogbookError as error:
    sys.exit(f"rbcnb append: {error}")
"""


def readings_in(out: Path) -> dict[str, Any]:
    """The rows of ``readings.csv`` in *out*."""
    return {"readings.csv": load_readings(out / "readings.csv").drop(columns="revision").to_csv().encode()}


def tables_in(out: Path) -> dict[str, bytes]:
    """What notebook 01 finds, without what tells when and how long."""
    return {name: data for name, data in tree(out).items() if name.startswith("tables/") or name == "cells.csv"}


@dataclass(frozen=True)
class Work:
    """A command that fills a folder, and what must come of it."""

    name: str  # as its messages begin: "rbcnb NAME: ..."
    command: Callable[[Path, Path], Sequence[str]]  # (folder of inputs, folder to fill)
    result: Callable[[Path], dict[str, bytes]] = tree
    in_one: bool = False  # it writes a single file


def _segment(inputs: Path, out: Path) -> list[str]:
    options = ("--method", "paper", "--upscale", "none", "--size", "48", "--jobs", "2", "--overlays")
    return rbcnb("segment", inputs / "smears", "--out", out, *options)


def _count(inputs: Path, out: Path) -> list[str]:
    return rbcnb("count", inputs / "smears", "--model", inputs / "model.safetensors", "--out", out, "--jobs", "2")


def _import(inputs: Path, out: Path) -> list[str]:
    return rbcnb("import-labels", inputs / "readings.csv", out / "readings.csv")


def _append(inputs: Path, out: Path) -> list[str]:
    return [sys.executable, "-c", _APPEND, str(inputs / "readings.csv"), str(out / "readings.csv")]


def _reproduce(_inputs: Path, out: Path) -> list[str]:
    return reproduce_command(out, "--only", "01")


SEGMENT, COUNT = Work("segment", _segment), Work("count", _count)
IMPORT = Work("import-labels", _import, readings_in, in_one=True)
APPEND = Work("append", _append, readings_in, in_one=True)
REPRODUCE = Work("reproduce", _reproduce, tables_in)


def named(work: Work) -> str:
    return work.name


@pytest.fixture(scope="module")
def inputs(tmp_path_factory) -> Path:
    """Smears, a model and readings that are brought in."""
    folder = tmp_path_factory.mktemp("inputs")
    make_smears(folder / "smears", n=4)
    make_model(folder / "model.safetensors")
    readings = [Reading(smear="a.png", cell=cell, reader="anna", label="normal") for cell in range(N_READINGS)]
    append_readings(folder / "readings.csv", readings)
    return folder


@pytest.fixture(scope="module")
def left_alone(inputs, tmp_path_factory) -> Callable[[Work], Path]:
    """The folder that a work fills without any limit, once for all tests."""
    root = tmp_path_factory.mktemp("left_alone")

    def filled(work: Work) -> Path:
        out = root / work.name / "out"
        if not out.exists():
            out.parent.mkdir(parents=True)
            done = run(work.command(inputs, out), log=root / f"{work.name}.log")
            assert done.code == 0, done.text
        return out

    return filled


def unclear(ended: Ended, work: Work, *names: str) -> list[str]:
    """What is wrong with how a command ended that could not do its work: exit code, words, or what it left running.

    Args:
        ended: how it ended.
        work: what it was to do.
        names: of which its message must have one, such as a file's.
    """
    wrong = [f"outlived it: {words}" for words in ended.survivors]
    if ended.code not in (1, 2):
        wrong.append(f"exit code {ended.code}")
    if "Traceback" in ended.text:
        wrong.append("a traceback")
    lines = [line for line in ended.text.replace("\r", "\n").splitlines() if line.startswith(f"rbcnb {work.name}: ")]
    if not lines:
        wrong.append("no line of its own")
    elif not any(name in line for name in names for line in lines):
        wrong.append(f"its line names none of {', '.join(names)}")
    elif not any(";" in line for line in lines):
        wrong.append("its line has no remedy")
    return [f"{words}\n{ended.text[-1500:]}" for words in wrong]


def not_carried_on(work: Work, inputs: Path, out: Path, expected: Path, log: Path) -> list[str]:
    """What is wrong after the same command has run again in *out*, without a limit."""
    again = run(work.command(inputs, out), log=log)
    if again.code:
        return [f"again: exit code {again.code}\n{again.text[-1500:]}"]
    return [f"again: not the same: {name}" for name in differing(work.result(out), work.result(expected))]


def settle(kind: str, work: Work, problems: list[str]) -> None:
    """Notes one fault of *kind* and fails where there are *problems*."""
    record(kind, 1, bool(problems), work.name)
    assert not problems, "\n".join(problems)


@pytest.mark.faults
@needs_small_disk
@pytest.mark.parametrize("work", [SEGMENT, COUNT, IMPORT, APPEND, REPRODUCE], ids=named)
def test_a_full_disk(work, inputs, left_alone, tmp_path):
    expected, log = left_alone(work), tmp_path / "log"
    pages = sum(-(-len(data) // 4096) + 1 for data in tree(expected).values())
    size = 8192 if work.in_one else max(16384, pages * 4096 // 2)
    with small_disk(tmp_path / "disk", size) as disk:
        # A folder in it: what is written beside a file's name has to find room there, too.
        problems = unclear(run(work.command(inputs, disk / "out"), log=log), work, str(disk))
        enlarge(disk, 1 << 28)
        problems += not_carried_on(work, inputs, disk / "out", expected, log)
    settle("small disk", work, problems)


@pytest.mark.faults
@needs_permissions
@pytest.mark.parametrize("work", [SEGMENT, COUNT, IMPORT, APPEND, REPRODUCE], ids=named)
def test_a_folder_that_nobody_may_write_to(work, inputs, left_alone, tmp_path):
    expected, log, out = left_alone(work), tmp_path / "log", tmp_path / "place" / "out"
    out.mkdir(parents=True)
    with read_only(tmp_path / "place"):
        problems = unclear(run(unprivileged(work.command(inputs, out)), log=log), work, str(out))
    problems += not_carried_on(work, inputs, out, expected, log)
    settle("no write permission", work, problems)


@needs_permissions
def test_readings_that_nobody_may_write_to_are_named(inputs, tmp_path):
    out = tmp_path / "place" / "out"
    out.mkdir(parents=True)
    with read_only(tmp_path / "place"):
        ended = run(unprivileged(_append(inputs, out)), log=tmp_path / "log")
    assert not unclear(ended, APPEND, str(out / "readings.csv"))


def test_readings_that_find_no_room_are_named_and_written_later(inputs, tmp_path):
    out, log = tmp_path / "out", tmp_path / "log"
    ended = run(limited(_append(inputs, out), file_size=9000), log=log)
    assert not unclear(ended, APPEND, str(out / "readings.csv"))
    assert run(_append(inputs, out), log=log).code == 0
    assert len(load_readings(out / "readings.csv")) == N_READINGS


def test_readings_whose_folder_was_removed_begin_anew(tmp_path):
    path = tmp_path / "out" / "readings.csv"
    for reader in ("anna", "bo"):
        append_readings(path, [Reading(smear="a.png", cell=0, reader=reader, label="normal")])
        assert load_readings(path)["reader"].tolist() == [reader]
        shutil.rmtree(path.parent)


def _removed_in_the_middle(started: Started, out: Path, n_files: int) -> bool:
    """Removes *out* once it holds *n_files*; returns whether the command was still at work."""
    while count_files(out) < n_files and started.process.poll() is None:
        time.sleep(0.005)
    at_work = started.process.poll() is None
    while out.exists():
        shutil.rmtree(out, ignore_errors=True)
        if started.process.poll() is not None:
            break
    return at_work


@pytest.mark.faults
@pytest.mark.parametrize("work", [SEGMENT, COUNT, REPRODUCE], ids=named)
def test_a_folder_that_is_removed_in_the_middle(work, inputs, left_alone, tmp_path):
    expected, log, out = left_alone(work), tmp_path / "log", tmp_path / "out"
    with start(work.command(inputs, out), log) as started:
        at_work = _removed_in_the_middle(started, out, count_files(expected) // 2)
        started.process.wait(LIMIT_S)
        ended = Ended(started.process.returncode, log.read_text(errors="replace"), started.survivors())
    problems = [] if at_work else ["it had ended before"]
    if ended.code or not out.exists():
        problems += unclear(ended, work, str(out))
    else:
        lacking = differing(work.result(out), work.result(expected))
        problems += [f"ended well, but {len(lacking)} files are not as they must be: {lacking[:5]}"] * bool(lacking)
    problems += not_carried_on(work, inputs, out, expected, log)
    settle("folder removed", work, problems)


def _works_or_is_clear(work: Work, ended: Ended, out: Path, expected: Path, *names: str) -> list[str]:
    if ended.code == 0:
        return [f"not the same: {name}" for name in differing(work.result(out), work.result(expected))]
    return unclear(ended, work, *names)


@pytest.mark.faults
@pytest.mark.parametrize("megabytes", [1000, 1500, 2000, 3000])
@pytest.mark.parametrize("work", [SEGMENT, COUNT, IMPORT], ids=named)
def test_little_memory(work, megabytes, inputs, left_alone, tmp_path):
    expected, log, out = left_alone(work), tmp_path / "log", tmp_path / "out"
    ended = run(limited(work.command(inputs, out), memory=megabytes << 20), log=log)
    problems = _works_or_is_clear(work, ended, out, expected, "memory")
    problems += not_carried_on(work, inputs, out, expected, log)
    settle("little memory", work, problems)


@pytest.mark.parametrize("limit", [{"memory": 1500 << 20}, {"open_files": 16}], ids=["memory", "open_files"])
def test_labels_are_brought_in_under_limits_or_it_is_clear_why_not(limit, inputs, tmp_path):
    out, log = tmp_path / "out", tmp_path / "log"
    ended = run(limited(_import(inputs, out), **limit), log=log)
    assert not (unclear(ended, IMPORT, "memory", "open files", str(out)) if ended.code else ended.survivors)
    assert run(_import(inputs, out), log=log).code == 0
    assert len(load_readings(out / "readings.csv")) == N_READINGS


@pytest.mark.faults
@pytest.mark.parametrize("open_files", [16, 32, 64])
@pytest.mark.parametrize("work", [SEGMENT, COUNT, IMPORT], ids=named)
def test_few_file_descriptors(work, open_files, inputs, left_alone, tmp_path):
    expected, log, out = left_alone(work), tmp_path / "log", tmp_path / "out"
    ended = run(limited(work.command(inputs, out), open_files=open_files), log=log)
    problems = _works_or_is_clear(work, ended, out, expected, "open files", str(out))
    problems += not_carried_on(work, inputs, out, expected, log)
    settle("few file descriptors", work, problems)
