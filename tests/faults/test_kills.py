"""`rbcnb segment` and `rbcnb count`, killed at moments spread over their work, and started again."""

import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from damage import seeded
from kills import count_files, differing, kill_at, rbcnb, run, temporary_files, tree
from made import make_model, make_smears
from outcomes import record, share

from rbcnb.labels.readings import load_readings

MOMENTS = 20


def killed_and_resumed(
    kind: str,
    command: Callable[[Path], Sequence[str | Path]],
    finished: Sequence[str],
    folder: Path,
    *,
    moments: int = MOMENTS,
) -> None:
    """Kills a command at moments spread over its work, each time in a new folder, and lets it end there.

    Args:
        kind: of fault.
        command: the command that fills a folder.
        finished: patterns of the files that say that a piece of the work is finished, and must not be done again.
        folder: for all this.
        moments: of a kill.
    """
    rng, log = seeded(kind), folder / "log"
    whole = run(command(folder / "whole"), log=log)
    assert whole.code == 0, whole.text
    expected, n_files = tree(folder / "whole"), count_files(folder / "whole")
    problems, n_killed, n_failed = [], 0, 0
    moments = share(moments)
    for moment in range(moments):
        out = folder / "out"
        # By turns the whole group, as a terminal or a scheduler does, and the first process alone, as the system does
        # when memory runs out.
        # Some of them before the first file is there, when workers have just been started.
        early = {"n_processes": 3, "jitter_s": 2.0} if moment < max(1, moments // 4) else {}
        n_now = 0 if early else n_files * moment // moments
        killed, alive = kill_at(command(out), out, n_now, rng=rng, group=bool(moment % 2), log=log, **early)
        n_killed += killed
        found = [f"outlived it: {words}" for words in alive]
        done = {path: path.stat().st_mtime_ns for pattern in finished for path in out.glob(pattern)}
        again = run(command(out), log=log)
        found += [f"outlived the second run: {words}" for words in again.survivors]
        if again.code != 0 or "Traceback" in again.text:
            found.append(f"code {again.code}: {again.text[-800:]}")
        found += [f"not left as it was: {name}" for name in differing(tree(out), expected)]
        found += [f"left over: {name}" for name in temporary_files(out)]
        found += [f"done again: {path.name}" for path, when in done.items() if path.stat().st_mtime_ns != when]
        problems += [f"moment {moment}: {words}" for words in found]
        n_failed += bool(found)
        shutil.rmtree(out, ignore_errors=True)
    record(kind, moments, n_failed)
    assert not problems, "\n".join(problems)
    assert n_killed >= moments / 2, f"only {n_killed} of {moments} kills came before the end"


@pytest.mark.faults
def test_a_killed_segmentation_carries_on(tmp_path):
    smears = make_smears(tmp_path / "smears", n=6)
    options = ("--upscale", "none", "--size", "48", "--jobs", "2", "--overlays")
    killed_and_resumed(
        "segment killed", lambda out: rbcnb("segment", smears, "--out", out, *options), ["parts/*.json"], tmp_path
    )


@pytest.mark.faults
def test_a_killed_count_carries_on(tmp_path):
    smears = make_smears(tmp_path / "smears", n=6)
    model = make_model(tmp_path / "model.safetensors")
    killed_and_resumed(
        "count killed",
        lambda out: rbcnb("count", smears, "--model", model, "--out", out, "--jobs", "2"),
        ["parts/*.json", "classified/*.json"],
        tmp_path,
    )


@pytest.mark.slow
def test_a_segmentation_killed_once_carries_on(tmp_path):
    smears = make_smears(tmp_path / "smears", n=2)
    options = ("--method", "paper", "--upscale", "none", "--size", "48", "--jobs", "1")
    command = lambda out: rbcnb("segment", smears, "--out", out, *options)  # noqa: E731
    whole = run(command(tmp_path / "whole"), log=tmp_path / "log")
    assert whole.code == 0, whole.text
    n_files = count_files(tmp_path / "whole")
    killed, alive = kill_at(
        command(tmp_path / "out"),
        tmp_path / "out",
        n_files // 2,
        rng=seeded("once"),
        group=True,
        log=tmp_path / "log",
        jitter_s=0,
    )
    assert killed
    assert not alive
    again = run(command(tmp_path / "out"), log=tmp_path / "log")
    assert again.code == 0, again.text
    assert not differing(tree(tmp_path / "out"), tree(tmp_path / "whole"))
    assert not temporary_files(tmp_path / "out")


_APPEND = """
import sys
from rbcnb.labels.readings import Reading, append_readings
for cell in range(100_000):
    append_readings(sys.argv[1], [Reading(smear="a.png", cell=cell, reader="anna", label="normal", comment="x" * 50)])
    print(cell, flush=True)
"""


def acknowledged_and_there(path: Path, wait_s: float) -> tuple[int, list[int]]:
    """Kills a writer of readings *wait_s* after its first: how many were acknowledged, and the cells in the table."""
    writer = subprocess.Popen([sys.executable, "-c", _APPEND, str(path)], stdout=subprocess.PIPE, text=True)
    try:
        assert writer.stdout.readline()
        time.sleep(wait_s)
    finally:
        writer.kill()
    n = 1 + len([line for line in writer.communicate()[0].split("\n")[:-1] if line])
    return n, load_readings(path)["cell"].tolist()


@pytest.mark.filterwarnings("ignore:.*its last line is torn")
def test_a_killed_writer_of_readings_loses_none(tmp_path):
    n, cells = acknowledged_and_there(tmp_path / "readings.csv", 0.2)
    assert cells == list(range(len(cells)))
    assert len(cells) in (n, n + 1)  # the last one may be written and not yet acknowledged


@pytest.mark.faults
@pytest.mark.filterwarnings("ignore:.*its last line is torn")
def test_a_writer_of_readings_is_killed_often(tmp_path):
    rng, wrong = seeded("writer of readings killed"), []
    for moment in range(share(MOMENTS)):
        n, cells = acknowledged_and_there(tmp_path / f"{moment}.csv", rng.uniform(0, 0.5))
        if cells != list(range(len(cells))) or len(cells) not in (n, n + 1):
            wrong.append((n, len(cells)))
    record("writer of readings killed", share(MOMENTS), len(wrong))
    assert not wrong
