"""What numbers depend on besides their data: the package's source, as a digest, and the versions of libraries.

Digests are for what is made again in minutes: notebooks, segmented images, counts.
"""

import functools
import hashlib
from collections.abc import Iterable
from importlib import metadata
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


def installed_versions(names: Iterable[str]) -> dict[str, str]:
    """Version of each distribution, such as "scikit-learn"; "not installed" where there is none."""
    versions = {}
    for name in names:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            versions[name] = "not installed"
    return versions
