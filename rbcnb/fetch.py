"""Gets Chula RBC-12 (MIT licence, Chula PIC Lab) from its public repository: pinned, checksummed, resumable.

The registry ``data/chula_sha256.txt`` names every file and its SHA-256. It was written by ``write_registry`` from a
copy of the dataset with 632 of the 738 published images and 517 label files, and holds hashes only; images outside of
that copy are not fetched, since nothing here could tell a good one from a damaged one.
"""

import hashlib
import logging
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from importlib.resources import files
from pathlib import Path

import pooch
from tqdm.auto import tqdm

from rbcnb.files import write_whole

REPOSITORY = "Chula-PIC-Lab/Chula-RBC-12-Dataset"
COMMIT = "fa130f48135d79bbd69f8e540b533511017d6896"  # after the label corrections and the elliptocytes of 2021
BASE_URL = f"https://raw.githubusercontent.com/{REPOSITORY}/{COMMIT}/"
REGISTRY = "data/chula_sha256.txt"
_PATTERNS = ("LICENSE", "README.md", "Dataset/*.jpg", "Label/*.txt")
_GIVE_UP = 20  # this many failures before a first success: the server is out of reach, so the rest is not asked for


class FetchError(RuntimeError):
    """Some files could not be fetched; ``failed`` maps each name to the reason. What was fetched is kept."""

    def __init__(self, message: str, failed: Mapping[str, str]) -> None:
        super().__init__(message)
        self.failed = dict(failed)


def fetch_chula(
    out: str | Path,
    *,
    base_url: str = BASE_URL,
    registry: Mapping[str, str] | None = None,
    progress: bool = True,
    jobs: int = 4,
    retries: int = 3,
    timeout_s: float = 30.0,
) -> Path:
    """Fetch every file of *registry* (name -> SHA-256; default: Chula RBC-12) into *out* and return *out*.

    Files that are there with the right hash are not asked for again, so a stopped fetch carries on where it stopped; a
    file takes its name only once it is complete and its hash is right. *jobs* downloads run at once, each tried
    1 + *retries* times. Raises ``FetchError`` that names each file that failed, after all others were fetched.
    """
    out = Path(out)
    names = read_registry() if registry is None else dict(registry)
    try:
        for folder in {(out / name).parent for name in names} | {out}:  # before the threads race to make them
            folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FetchError(f"{out}: cannot be made a folder ({error.strerror}); choose another", {}) from error
    # pooch logs a line for every file; the bar says it shorter.
    logger = pooch.get_logger()
    level = logger.level
    logger.setLevel(logging.ERROR)
    store = pooch.create(path=out, base_url=base_url, registry=names, retry_if_failed=retries)
    download = pooch.HTTPDownloader(timeout=timeout_s)
    failed: dict[str, str] = {}
    fetched = 0
    try:
        with (
            ThreadPoolExecutor(jobs) as pool,
            tqdm(total=len(names), desc="fetch", unit="file", disable=not progress) as bar,
        ):
            waiting = {pool.submit(store.fetch, name, downloader=download): name for name in names}
            try:
                for done in as_completed(waiting):
                    try:
                        done.result()
                        fetched += 1
                    except (OSError, ValueError) as error:  # requests' errors are OSErrors, a wrong hash a ValueError
                        failed[waiting[done]] = _reason(error)
                    bar.update()
                    if not fetched and len(failed) >= _GIVE_UP:
                        break
            finally:
                pool.shutdown(cancel_futures=True)
    finally:
        logger.setLevel(level)
    if failed:
        lines = "".join(f"\n  {name}: {reason}" for name, reason in sorted(failed.items()))
        raise FetchError(
            f"{len(failed)} of {len(names)} files could not be fetched from {base_url} into {out}; {fetched} are there "
            f"and are kept. Run the same command again to fetch the rest.{lines}",
            failed,
        )
    return out


def read_registry(path: str | Path | None = None) -> dict[str, str]:
    """Read a registry in pooch's format (one ``name sha256`` a line): name -> SHA-256; default: Chula RBC-12's."""
    source = files("rbcnb").joinpath(REGISTRY) if path is None else Path(path)
    lines = (line.split() for line in source.read_text(encoding="utf-8").splitlines())
    return {fields[0]: fields[1] for fields in lines if fields and not fields[0].startswith("#")}


def write_registry(root: str | Path, path: str | Path) -> int:
    """Write the registry of a copy of Chula RBC-12 at *root* to *path*; returns the number of files in it.

    It holds README.md, LICENSE, the images and the label files, by name, and nothing else that may lie at *root*.
    """
    root = Path(root)
    found = sorted(file for pattern in _PATTERNS for file in root.glob(pattern))
    if not found:
        raise FileNotFoundError(f"{root}: no file of Chula RBC-12 ({', '.join(_PATTERNS)}); give the dataset's folder")
    lines = [f"{file.relative_to(root).as_posix()} {hashlib.sha256(file.read_bytes()).hexdigest()}" for file in found]
    with write_whole(path) as part:
        part.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return len(lines)


def _reason(error: Exception) -> str:
    if isinstance(error, ValueError) and "hash" in str(error).lower():
        return "its SHA-256 is not the registry's: damaged on the way, or changed at the source"
    return str(error) or type(error).__name__
