"""Files written whole (a reader sees the old file or the new one, never half of either), their digests, and locks."""

import errno
import hashlib
import os
import platform
import re
import secrets
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path, PureWindowsPath

from filelock import BaseFileLock, FileLock, SoftFileLock, Timeout

from rbcnb._utils.errors import InputError, MissingFileError

# What systems say where a folder has no locks of its own (network shares, some FUSE file systems).
_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EINVAL)
_WINDOWS = os.name == "nt"  # where a colon follows a drive's letter; elsewhere it is a sign as any other
_POLL_S = 0.001
_PART = re.compile(r"\.(?P<stem>.+)\.[0-9a-f]{8}\.part(\.[^.]*)?")  # names of `atomic_write`


@contextmanager
def atomic_write(path: str | Path, *, durable: bool = False) -> Iterator[Path]:
    """Yields a temporary path in *path*'s folder; it takes *path*'s name when the block ends well, else it is removed.

    The temporary name keeps the suffix, since many writers choose a format by it. What the system says of it, it says
    of *path*: whoever reads the message knows no temporary file.

    Args:
        path: the file to write.
        durable: wait until the disk has it, so that not even a power cut loses it: for what took hours to make.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    # Not the process's number: processes of two machines that share a folder may have the same.
    part = path.with_name(f".{path.stem}.{secrets.token_hex(4)}.part{path.suffix}")  # as _PART has it
    try:
        yield part
        if durable:
            with part.open("rb+") as file:
                os.fsync(file.fileno())
        os.replace(part, path)
        if durable:
            sync_folder(path.parent)
    except OSError as error:
        if str(error.filename) != str(part):
            raise
        number = errno.EISDIR if path.is_dir() else error.errno  # Windows gives another
        raise OSError(number, os.strerror(number), str(path)) from error
    finally:
        part.unlink(missing_ok=True)


def remove_parts(folder: Path, *, but: Collection[str] = ()) -> None:
    """Removes what writers that were killed left half written in *folder*, not in the folders within.

    Args:
        folder: that nobody writes to, or to files of *but* alone.
        but: names of files whose temporary ones stay.
    """
    kept = {Path(name).stem for name in but}
    for path in folder.glob(".*.part*"):
        name = _PART.fullmatch(path.name)
        if name and name["stem"] not in kept and path.is_file():
            path.unlink(missing_ok=True)


def sync_folder(folder: Path) -> None:
    """Waits until the disk has the names in *folder*; systems that cannot open a folder look after it themselves."""
    with suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def bytes_digest(*parts: bytes | memoryview) -> str:
    """Digest of *parts*, one after the other: 16 hexadecimal digits."""
    digest = hashlib.blake2b(digest_size=8)
    for part in parts:
        digest.update(part)
    return digest.hexdigest()


def file_digest(path: str | Path) -> str:
    """Digest of a file's bytes, as `bytes_digest` has it.

    Raises:
        FileNotFoundError: there is no regular file at *path*; a device or a pipe might never end.
    """
    path = Path(path)
    if not path.is_file():
        raise MissingFileError(f"{path}: no such file; put it back, or make it again")
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=8)).hexdigest()


def parts_digest(parts: Iterable[bytes]) -> str:
    """Digest of *parts*, their order and where each ends: 16 hexadecimal digits."""
    digest = hashlib.blake2b(digest_size=8)
    for part in parts:
        digest.update(len(part).to_bytes(8, "big"))
        digest.update(part)
    return digest.hexdigest()


def inside(folder: str | Path, name: str) -> Path:
    """The path of *name* in *folder*, for names that come out of a file: such a file may be a stranger's.

    Raises:
        InputError: *name* is absolute or leads out of *folder*, by itself or by a link.
    """
    folder = Path(folder)
    path = folder / name
    parts = name.replace("\\", "/").split("/")
    rooted = PureWindowsPath(name).root or (_WINDOWS and ":" in name)
    if "\0" in name or rooted or {"", ".", ".."} & set(parts):
        raise InputError(f"{folder}: holds the name {name!r:.200}, which leads out of that folder; do not trust it")
    if not path.resolve().is_relative_to(folder.resolve()):
        raise InputError(f"{path}: is a link that leads out of {folder}; put the file itself there")
    return path


def require_folder(folder: str | Path, *, remedy: str) -> None:
    """Raises MissingFileError, which names *folder* and the *remedy*, where there is no such folder."""
    if not Path(folder).is_dir():
        raise MissingFileError(f"{folder}: no such folder; {remedy}")


@contextmanager
def folder_lock(folder: str | Path, *, name: str = ".lock", wait_s: float = 0.0) -> Iterator[None]:
    """Keeps *folder* for this process while the block runs.

    The system lets go of it however the process ends. Where a file system has no locks, a file that is there means
    "taken" (filelock's soft lock); a process of the same machine that was killed is then noticed, one of another
    machine is not: the message names the file to remove.

    Args:
        folder: where the lock lies.
        name: of the lock's file, where there are several things in *folder* to keep.
        wait_s: how long to wait for another process to end its block. Who does not wait is named to others while its
            block runs.

    Raises:
        BlockingIOError: another process holds it; the message names the folder and, where it is known, the process.
        FileNotFoundError: *folder* is no folder.
    """
    require_folder(folder, remedy="check the path")  # a lock would make it
    path = Path(folder) / name
    holder = path.with_name(f"{path.name}.holder")
    lock = _acquire(path, folder, holder, wait_s)
    try:
        if not wait_s:
            holder.unlink(missing_ok=True)  # a pipe would wait for a reader
            holder.write_text(f"pid {os.getpid()} on {platform.node()}", encoding="utf-8")
        yield
    finally:
        if not wait_s:
            holder.unlink(missing_ok=True)
        lock.release()


def _acquire(path: Path, folder: str | Path, holder: Path, wait_s: float) -> BaseFileLock:
    # Threads of one process share it: whoever takes it may hand it on.
    options = {"timeout": wait_s, "thread_local": False}
    lock: BaseFileLock = FileLock(path, **options)
    try:
        try:
            lock.acquire(poll_interval=_POLL_S)
        except (OSError, NotImplementedError) as error:
            if isinstance(error, Timeout) or (isinstance(error, OSError) and error.errno not in _NO_LOCKS):
                raise
            lock = SoftFileLock(path.with_name(f"{path.name}.taken"), **options)
            lock.acquire(poll_interval=_POLL_S)
    except Timeout:
        name = holder.read_text(encoding="utf-8", errors="replace") if holder.is_file() else ""
        remove = f" (if none is, remove {lock.lock_file})" if isinstance(lock, SoftFileLock) else ""
        process = f"another process{name and f' ({name})'} is at work there{remove}"
        raise BlockingIOError(f"{folder}: {process}; wait for it, or choose another folder") from None
    return lock
