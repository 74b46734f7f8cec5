"""``manifest.json``: the digest of each file of a folder, and what it was made from.

The manifest has an entry of its own, with the digest of all the others. It protects from damage and from mistakes, not
from somebody who means to deceive: he can write new digests as well.
"""

import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from rbcnb._utils.errors import InputError, MissingFileError
from rbcnb._utils.files import atomic_write, bytes_digest, file_digest, folder_lock, inside
from rbcnb._utils.read_files import parse_json

MANIFEST = "manifest.json"
DIGEST = "digest"
_WAIT_S = 60.0  # for others that write to the manifest, some milliseconds each
Entries = dict[str, dict[str, Any]]


class ManifestError(InputError):
    """A manifest is damaged; it is never written over, since what it vouched for would be lost."""


def load_manifest(folder: str | Path) -> Entries:
    """File, by its name in *folder* -> its ``digest`` and what else was recorded; empty where there is no manifest.

    Raises:
        ManifestError: it is damaged.
    """
    return {name: entry for name, entry in _read(Path(folder)).items() if name != MANIFEST}


def is_sealed(folder: str | Path) -> bool:
    """Whether *folder* has a manifest with a digest of its own; earlier versions wrote none."""
    return MANIFEST in _read(Path(folder))


def record_files(folder: str | Path, entries: Mapping[str, Mapping[str, Any]], *, gone: Collection[str] = ()) -> None:
    """Adds *entries* to the manifest in *folder*; those of other processes stay, whenever they write.

    Args:
        folder: what the manifest is of.
        entries: file, by its name in *folder* -> what to record beside its digest, which is taken from the file.
        gone: files whose entries go.

    Raises:
        ManifestError: there is a manifest, and it is damaged.
    """
    folder = Path(folder)
    fresh = {name: {**entry, DIGEST: file_digest(folder / name)} for name, entry in entries.items()}
    with folder_lock(folder, name=f".{MANIFEST}.lock", wait_s=_WAIT_S):
        kept = {name: entry for name, entry in load_manifest(folder).items() if name not in gone}
        _write(folder, kept | fresh)


def replace_manifest(folder: str | Path, entries: Mapping[str, Mapping[str, Any]]) -> None:
    """Writes a manifest of *entries* alone, as for `record_files`, in place of the one in *folder*."""
    folder = Path(folder)
    with folder_lock(folder, name=f".{MANIFEST}.lock", wait_s=_WAIT_S):
        _write(folder, {name: {**entry, DIGEST: file_digest(folder / name)} for name, entry in entries.items()})


def set_aside(folder: str | Path, name: str) -> Path:
    """Renames a damaged file of *folder* so that it can be looked at, and a new one written; returns its new path."""
    path = Path(folder) / name
    number = 1
    while (aside := path.with_name(f"{path.stem}.damaged-{number}{path.suffix}")).exists():
        number += 1
    return path.rename(aside)


def changed_files(folder: str | Path, entries: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    """File of *entries* that is not what they vouch for -> its digest now; "" where it is missing or leads outside."""
    found = {}
    for name, entry in entries.items():
        try:
            digest = file_digest(inside(folder, name))
        except (InputError, MissingFileError):
            digest = ""
        if digest != entry[DIGEST]:
            found[name] = digest
    return found


def _read(folder: Path) -> Entries:
    path = folder / MANIFEST
    if not path.exists():
        return {}
    try:
        entries = parse_json(path.read_text(encoding="utf-8")) if path.is_file() else None
        whole = all(isinstance(entry[DIGEST], str) for entry in entries.values())
        itself = entries.get(MANIFEST)
    except (ValueError, TypeError, KeyError, AttributeError):  # no file, no JSON, no mapping of mappings
        whole, itself = False, None
    if not whole or (itself and itself[DIGEST] != _seal(entries)):
        raise ManifestError(
            f"{path}: is damaged, and says no more which files are as they were written; put back a copy, or rename it "
            "and run the same again: what it listed is then made and recorded again"
        )
    return entries


def _write(folder: Path, entries: Mapping[str, Mapping[str, Any]]) -> None:
    sealed = {**entries, MANIFEST: {DIGEST: _seal(entries)}}
    with atomic_write(folder / MANIFEST) as part:
        part.write_text(json.dumps(sealed, indent=1, sort_keys=True) + "\n", encoding="utf-8")


def _seal(entries: Mapping[str, Any]) -> str:
    rest = {name: entry for name, entry in entries.items() if name != MANIFEST}
    return bytes_digest(json.dumps(rest, sort_keys=True).encode())
