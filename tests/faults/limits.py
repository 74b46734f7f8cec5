"""Takes from a command what it needs: space, permission, memory, file descriptors, or its folder."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

_SET = """
import json, os, resource, sys
for name, value in json.loads(sys.argv[1]).items():
    resource.setrlimit(getattr(resource, name), (value, value))
os.execvp(sys.argv[2], sys.argv[2:])
"""
_CAPABILITIES = "-dac_override,-dac_read_search"  # by which root writes where nobody may


def limited(
    command: Sequence[str],
    *,
    memory: int | None = None,
    open_files: int | None = None,
    file_size: int | None = None,
) -> list[str]:
    """*command* under limits that all its offspring inherits.

    Args:
        command: a command line.
        memory: bytes of address space of a process.
        open_files: file descriptors of a process.
        file_size: bytes of the largest file that can be written; a longer write fails as on a full disk.
    """
    named = {"RLIMIT_AS": memory, "RLIMIT_NOFILE": open_files, "RLIMIT_FSIZE": file_size}
    given = {name: value for name, value in named.items() if value is not None}
    return [sys.executable, "-S", "-c", _SET, json.dumps(given), *command]


def why_no_small_disk() -> str:
    """What `small_disk` lacks here; empty where it works."""
    if os.name != "posix" or os.geteuid() != 0 or not shutil.which("mount"):
        return "a small disk is mounted by root alone"
    return ""


@contextmanager
def small_disk(folder: Path, size: int) -> Iterator[Path]:
    """A disk of *size* bytes at *folder*, gone after the block with all that is on it."""
    folder.mkdir(parents=True, exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", folder], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


def enlarge(disk: Path, size: int) -> None:
    """Gives a `small_disk` that is in use *size* bytes."""
    subprocess.run(["mount", "-o", f"remount,size={size}", disk], check=True)


def why_no_permissions() -> str:
    """What `unprivileged` lacks here; empty where it works."""
    if os.name != "posix":
        return "permissions are those of POSIX"
    if os.geteuid() == 0 and not shutil.which("setpriv"):
        return "root may write everywhere, and there is no setpriv to take that away"
    return ""


def unprivileged(command: Sequence[str]) -> list[str]:
    """*command* by a user whom permissions bind: as root, without the capabilities that pass them over."""
    if os.geteuid() != 0:
        return list(command)
    return ["setpriv", f"--bounding-set={_CAPABILITIES}", f"--inh-caps={_CAPABILITIES}", *command]


@contextmanager
def read_only(folder: Path) -> Iterator[None]:
    """Nothing can be written into *folder* and the folders in it, by `unprivileged` commands."""
    folders = [folder, *(path for path in folder.rglob("*") if path.is_dir())]
    modes = {path: path.stat().st_mode for path in folders}
    for path in folders:
        path.chmod(0o555)
    try:
        yield
    finally:
        for path, mode in modes.items():
            if path.exists():
                path.chmod(mode)
