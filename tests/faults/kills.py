"""Kills a command somewhere in the middle of its work, and looks at what it leaves behind."""

import contextlib
import os
import random
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

MARK = "RBCNB_FAULTS_MARK"  # in the environment of what a test starts, so that its offspring is known, too
LIMIT_S = 900  # for a command; generous, as the machine may be busy
GONE_S = 180  # for the offspring of a killed process to end by itself: it looks once a second, once it has started
_REPOSITORY = Path(__file__).parents[2]


def rbcnb(*arguments: str | Path) -> list[str]:
    """The command line of ``rbcnb`` of this checkout."""
    return [sys.executable, "-m", "rbcnb.cli", *map(str, arguments)]


@dataclass
class Started:
    """A command under way, in a session of its own; what it prints goes to *log*. A ``with`` block ends it."""

    process: subprocess.Popen
    mark: str
    log: Path

    def __enter__(self) -> "Started":
        return self

    def __exit__(self, *_error: object) -> None:
        self.kill_all()

    def offspring(self) -> list[psutil.Process]:
        """Living processes that this command started, itself included, wherever they went."""
        alive = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                if process.status() != psutil.STATUS_ZOMBIE and process.environ().get(MARK) == self.mark:
                    alive.append(process)
        return alive

    def kill(self, *, group: bool) -> None:
        """SIGKILL, to the command's process *group* or to its first process alone, which then cannot tell the rest."""
        if group:
            os.killpg(self.process.pid, signal.SIGKILL)
        else:
            self.process.kill()
        self.process.wait()

    def kill_all(self) -> None:
        """SIGKILL to the command and all its offspring, as when a machine is switched off."""
        for process in self.offspring():
            with contextlib.suppress(psutil.Error):
                process.kill()
        self.process.wait()

    def survivors(self, within_s: float = GONE_S) -> list[str]:
        """What of its offspring lives on *within_s* seconds later, in words; that is ended now."""
        deadline = time.monotonic() + within_s
        while (alive := self.offspring()) and time.monotonic() < deadline:
            time.sleep(0.5)
        words = []
        for process in alive:
            with contextlib.suppress(psutil.Error):
                words.append(f"{process.pid} {' '.join(process.cmdline())[:80]}")
                process.kill()
        return words


def start(
    command: Sequence[str], log: Path, *, cwd: Path | None = None, env: Mapping[str, str] | None = None
) -> Started:
    """Starts *command* with *env* added to this process's environment."""
    mark = uuid.uuid4().hex
    paths = os.pathsep.join(filter(None, [(env or {}).get("PYTHONPATH", ""), str(_REPOSITORY)]))
    surroundings = os.environ | dict(env or {}) | {MARK: mark, "PYTHONPATH": paths}
    with log.open("ab") as stream:
        process = subprocess.Popen(
            list(command),
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=stream,
            cwd=cwd,
            env=surroundings,
            start_new_session=True,
        )
    return Started(process, mark, log)


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    code: int
    text: str  # stdout and stderr
    survivors: list[str]


def run(
    command: Sequence[str],
    *,
    log: Path,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    limit_s: float = LIMIT_S,
) -> Ended:
    """Runs *command* to its end; one that hangs is killed, and its code is -9."""
    log.unlink(missing_ok=True)
    with start(command, log, cwd=cwd, env=env) as started:
        try:
            started.process.wait(limit_s)
        except subprocess.TimeoutExpired:
            started.kill(group=True)
        alive = started.survivors()
    return Ended(started.process.returncode, log.read_text(errors="replace"), alive)


def count_files(folder: Path) -> int:
    """How far a command came: files in *folder*, those half written included."""
    return sum(len(files) for _, _, files in os.walk(folder))


def kill_at(
    command: Sequence[str],
    out: Path,
    n_files: int,
    *,
    rng: random.Random,
    group: bool,
    log: Path,
    jitter_s: float = 0.3,
    n_processes: int = 1,
) -> tuple[bool, list[str]]:
    """Starts *command* and kills it soon after *out* holds *n_files* files and it has *n_processes* processes.

    Progress, not time: on a busy machine the same command may take ten times as long.

    Args:
        command: that fills *out*.
        out: its folder.
        n_files: moment of the kill.
        rng: draws how long after it, up to *jitter_s* seconds.
        group: see `Started.kill`.
        log: for what it prints.
        jitter_s: at most.
        n_processes: its own, workers and what else it starts.

    Returns:
        Whether it was killed in the middle (else it had ended by itself), and which processes outlived it.
    """
    with start(command, log) as started:
        deadline = time.monotonic() + LIMIT_S

        def waits() -> bool:
            return started.process.poll() is None and time.monotonic() < deadline

        while n_processes > 1 and waits() and len(started.offspring()) < n_processes:
            time.sleep(0.02)
        while waits() and count_files(out) < n_files:
            time.sleep(0.005)
        time.sleep(rng.uniform(0, jitter_s))
        killed = started.process.poll() is None
        if killed:
            started.kill(group=group)
        return killed, started.survivors()


def temporary_files(folder: Path) -> list[str]:
    """What an unfinished write left in *folder*."""
    return sorted(str(path.relative_to(folder)) for path in folder.rglob(".*.part*"))


def tree(folder: Path, *, but: Sequence[str] = ()) -> dict[str, bytes]:
    """File, relative to *folder* -> its bytes; without locks, and without names that are in *but*."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.name.endswith(".lock") and path.name not in but
    }


def differing(now: Mapping[str, Any], before: Mapping[str, Any]) -> list[str]:
    """Names, of files for instance, that one of both lacks, or that have another content there."""
    return sorted(name for name in now.keys() | before.keys() if now.get(name) != before.get(name))
