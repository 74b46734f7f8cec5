"""Files written whole (a reader sees the old file or the new one, never half of either), and folders for one alone."""

import hashlib
import os
import platform
import secrets
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from rbcnb._utils.errors import InputError


@contextmanager
def atomic_write(path: str | Path) -> Iterator[Path]:
    """Yields a temporary path in *path*'s folder; it takes *path*'s name when the block ends well, else it is removed.

    The temporary name keeps the suffix, since many writers choose a format by it.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    # Not the process's number: processes of two machines that share a folder may have the same.
    part = path.with_name(f".{path.stem}.{secrets.token_hex(4)}.part{path.suffix}")
    try:
        yield part
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def file_digest(path: str | Path) -> str:
    """Digest of a file's bytes: 16 hexadecimal digits."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=8)).hexdigest()


def bytes_digest(parts: Iterable[bytes]) -> str:
    """Digest of *parts*, their order and where each ends: 16 hexadecimal digits."""
    digest = hashlib.blake2b(digest_size=8)
    for part in parts:
        digest.update(len(part).to_bytes(8, "big"))
        digest.update(part)
    return digest.hexdigest()


def inside(folder: Path, name: str) -> Path:
    """The path of *name*, which comes out of a file, in *folder*.

    Raises:
        InputError: it leads out of *folder*.
    """
    path = folder / name
    parts = name.replace("\\", "/").split("/")
    if "\0" in name or Path(name).is_absolute() or {"", ".", ".."} & set(parts):
        raise InputError(f"{folder}: a name in it, {name!r}, is no name of a file in a folder; mend the table it is in")
    if not path.resolve().is_relative_to(folder.resolve()):
        raise InputError(f"{path}: a link that leads out of {folder}; remove it")
    return path


@contextmanager
def folder_lock(folder: str | Path, *, name: str = ".lock", wait_s: float = 0.0) -> Iterator[None]:
    """Keeps *folder* for this process while the block runs; the system lets go of it however the process ends.

    Args:
        folder: where the lock lies.
        name: of the lock's file, where there are several things in *folder* to keep.
        wait_s: how long to wait for another process to end its block. Who does not wait is named in the file while its
            block runs.

    Raises:
        BlockingIOError: another process holds it; the message names the folder and, where it is known, the process.
    """
    path = Path(folder) / name
    with path.open("a", encoding="utf-8") as file:
        give_up = time.monotonic() + wait_s
        while True:
            try:
                _lock(file)
                break
            except (BlockingIOError, PermissionError) as error:
                if time.monotonic() >= give_up:
                    holder = path.read_text(encoding="utf-8", errors="replace")
                    told = f"another process{holder and f' ({holder})'} is at work there"
                    raise BlockingIOError(f"{folder}: {told}; wait for it, or choose another folder") from error
                time.sleep(0.001)
            except OSError:
                break  # a file system without locks
        if not wait_s:
            file.truncate(0)
            file.write(f"pid {os.getpid()} on {platform.node()}")
            file.flush()
        try:
            yield
        finally:
            if not wait_s:
                file.truncate(0)  # who is done is no longer named


def _lock(file: IO) -> None:
    if os.name == "nt":
        import msvcrt

        os.lseek(file.fileno(), 1 << 30, os.SEEK_SET)  # beyond what is written: nobody could read what is locked
        msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
    else:
        import fcntl

        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
