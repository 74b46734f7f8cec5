"""Digests of the package's own source, for what is made again in minutes: notebooks, segmented images, counts."""

import functools
import hashlib
from pathlib import Path

PACKAGE = Path(__file__).parents[1]


@functools.cache
def code_digest(*folders: str) -> str:
    """Digest of the source of *folders* of this package, or of all of it: 16 hexadecimal digits.

    Root modules such as ``columns.py`` always count. A folder that is named stands for itself alone: name those that it
    imports from, too.
    """
    digest = hashlib.blake2b(digest_size=8)
    files = [*PACKAGE.glob("*.py"), *(path for name in folders or ["."] for path in (PACKAGE / name).rglob("*.py"))]
    for path in sorted(set(files)):
        digest.update(path.relative_to(PACKAGE).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()
