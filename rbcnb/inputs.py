"""Which image files a batch is asked for, and which of them it cannot do."""

import os
import unicodedata
from collections.abc import Iterable
from pathlib import Path

from rbcnb.images import IMAGE_SUFFIXES, images_in

_LONGEST_NAME = 230  # bytes: file systems allow 255, and temporary names are longer than the file's own


def expand_inputs(paths: Iterable[str | Path]) -> tuple[list[Path], list[tuple[str, str]]]:
    """Files and folders -> image files (each once; a folder's by name), and (path, message) for what cannot be done.

    Folders within a folder are not looked into. Files that share a name, endings aside and in whatever case, are all
    left out: their cells could not be told apart.
    """
    files, errors = [], []
    for path in map(Path, paths):
        if path.is_dir():
            found, wrong = _in_folder(path)
            files += found
            errors += wrong
        elif path.exists():
            files.append(path)
        else:
            errors.append((str(path), "no such file or folder, or a link that leads nowhere; check the path"))
    namesakes: dict[str, dict[Path, Path]] = {}
    for path in files:
        name = unicodedata.normalize("NFC", path.stem).casefold()
        namesakes.setdefault(name, {}).setdefault(path.resolve(), path)
    chosen = []
    for same in namesakes.values():
        first, *others = same.values()
        if others:
            for path in same.values():
                other = others[0] if path is first else first
                errors.append(
                    (str(path), f"has the same name as {other}; rename one, or segment them into two folders")
                )
        elif len(os.fsencode(first.stem)) > _LONGEST_NAME:
            errors.append((str(first), f"its name is too long for a folder of crops; keep to {_LONGEST_NAME} bytes"))
        else:
            chosen.append(first)
    return chosen, errors


def _in_folder(folder: Path) -> tuple[list[Path], list[tuple[str, str]]]:
    try:
        inside = images_in(folder)
        broken = [path for path in sorted(folder.iterdir()) if path.suffix.lower() in IMAGE_SUFFIXES and _dangles(path)]
        within = [path.name for path in sorted(folder.iterdir()) if path.is_dir() and path.name[0] != "."]
    except OSError as error:
        return [], [(str(folder), f"cannot be listed ({error.strerror}); check who may read it")]
    errors = [(str(path), "a link that leads nowhere; mend or remove it") for path in broken]
    if not inside and not errors:
        mend = f"put smears there as {', '.join(IMAGE_SUFFIXES)}"
        if within:
            mend = f"folders within it, such as {within[0]}, are not looked into: name each of them"
        errors = [(str(folder), f"no image in this folder; {mend}")]
    return inside, errors


def _dangles(path: Path) -> bool:
    return path.is_symlink() and not path.exists()
