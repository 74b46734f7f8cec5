"""File systems on which locks do not work: every call for one fails with ENOLCK, as on some network disks."""

import os
from collections.abc import Mapping
from pathlib import Path

# Python imports a module of this name whenever it starts.
_SITECUSTOMIZE = """\
import errno
import fcntl
import os


def refuse(*_arguments):
    raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))


fcntl.flock = fcntl.lockf = refuse
"""


def without_locks(folder: Path) -> Mapping[str, str]:
    """The environment of Python processes in which no file can be locked; it needs *folder* for a file."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "sitecustomize.py").write_text(_SITECUSTOMIZE)
    return {"PYTHONPATH": os.pathsep.join(filter(None, [str(folder), os.environ.get("PYTHONPATH", "")]))}
