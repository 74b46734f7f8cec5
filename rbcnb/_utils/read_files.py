"""Readers of files that somebody else may have written or damaged: each gives the content, or one line of why not.

The line names the file, the cause in words and the remedy, whichever library found the fault. Only regular files are
opened: a pipe or a device would be read forever.
"""

import errno
import json
import re
import reprlib
import stat
import tokenize
import zipfile
from collections.abc import Hashable, Iterable
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rbcnb._utils.errors import InputError

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

MOST_SHOWN = 200  # characters of somebody's value in a message
_YAML_BYTES = 1_000_000  # of settings that people write
_YAML_DEPTH = 20
_YAML_1_1_NUMBER = re.compile(r"[-+]?0[0-9_]+|.*:.*")  # 010 would be 8, and 12:30 be 750
_JSON_DEPTH = 100  # what is written back is written by functions that call themselves, too
_CAUSES = {
    errno.ENOENT: "there is no such file",
    errno.ENOTDIR: "a part of its path is a file, not a folder",
    errno.EISDIR: "is a folder, not a file",
    errno.EACCES: "this user may not read or write it",
    errno.EPERM: "this user may not read or write it",
    errno.EROFS: "lies where nothing can be written",
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "this user's share of the disk is full",
    errno.EMFILE: "too many files are open",
    errno.ENAMETOOLONG: "its name is too long for the file system",
    errno.ELOOP: "is a link that leads back to itself",
    errno.EIO: "the disk does not give it",
}
_REMEDIES = {
    errno.EISDIR: "remove or rename that folder",
    errno.EACCES: "change its permissions, or run this as a user who may",
    errno.EPERM: "change its permissions, or run this as a user who may",
    errno.EROFS: "choose another folder",
    errno.ENOSPC: "make room and run the same command again",
    errno.EDQUOT: "make room and run the same command again",
    errno.EMFILE: "raise the limit (ulimit -n), or use fewer jobs",
    errno.EIO: "copy it to another disk",
}
_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = _SHORT.maxlong = MOST_SHOWN
_SHORT.maxlevel = 3


def shown(value: Any) -> str:
    """*value* as a message shows it: its ``repr``, of at most `MOST_SHOWN` characters, however large it is."""
    try:
        text = _SHORT.repr(value)
    except ValueError:  # of a number of more digits than Python writes
        text = f"a {type(value).__name__} too long to show"
    return text if len(text) <= MOST_SHOWN else f"{text[: MOST_SHOWN - 3]}..."


def cause_of(error: BaseException) -> str:
    """Why a library could not read a file: the first line of what it says, not too long."""
    if isinstance(error, OSError) and error.errno is not None:
        return _CAUSES.get(error.errno) or f"{error.strerror or error}".lower()
    if isinstance(error, RecursionError):
        return "it is nested too deeply"
    if isinstance(error, MemoryError):
        return "it says that it is larger than the memory"
    if isinstance(error, UnicodeDecodeError):
        return f"byte {error.start} is not UTF-8"
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    text = lines[0] if lines else type(error).__name__
    return text if len(text) <= MOST_SHOWN else f"{text[: MOST_SHOWN - 3]}..."


def system_fault(error: OSError) -> str:
    """The line for an *error* of the system that no reader met: the file, the cause and the remedy."""
    where = f"{error.filename}: " if error.filename is not None else ""
    remedy = _REMEDIES.get(error.errno, "check the path")
    return f"{where}{cause_of(error)}; {remedy}" if error.errno is not None else str(error)


def folder_fault(folder: str | Path, error: OSError) -> str:
    """The line for a *folder* of results that takes no more: the folder, the cause and the remedy.

    Where a folder lies in the place of one of its files, that one is named.
    """
    remedy = _REMEDIES.get(error.errno, "check who may write there")
    place = error.filename if error.errno == errno.EISDIR and error.filename else folder
    return f"{place}: cannot be written to ({cause_of(error)}); {remedy}"


def require_file(path: str | Path, *, remedy: str, error: type[Exception] = InputError) -> Path:
    """*path*, if a regular file lies there that can be opened.

    Args:
        path: the file.
        remedy: what the reader of the message can do, such as "run rbcnb segment over the same images again".
        error: what to raise.
    """
    path = Path(path)
    try:
        mode = path.stat().st_mode
        if stat.S_ISREG(mode):
            path.open("rb").close()
            return path
    except OSError as fault:
        remedy = _REMEDIES.get(fault.errno, remedy)
        raise error(f"{path}: {cause_of(fault)}; {remedy}") from None
    what = "a folder" if stat.S_ISDIR(mode) else "a pipe, a device or the like"
    raise error(f"{path}: is {what}, not a file; {remedy}")


def read_bytes(path: str | Path, *, remedy: str, error: type[Exception] = InputError) -> bytes:
    """The bytes of a regular file; see `require_file`."""
    path = require_file(path, remedy=remedy, error=error)
    try:
        return path.read_bytes()
    except (OSError, MemoryError) as fault:
        raise _unreadable(path, fault, remedy, error) from None


def read_text(path: str | Path, *, remedy: str, error: type[Exception] = InputError) -> str:
    """The text of a file in UTF-8, with or without the mark at its beginning; see `require_file`."""
    data = read_bytes(path, remedy=remedy, error=error)
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as fault:
        raise _unreadable(path, fault, remedy, error) from None


def parse_json(text: str) -> Any:
    """The value that *text* holds as JSON; raises ValueError where it is none, or is nested too deeply to be ours."""
    try:
        value = json.loads(text)
    except RecursionError as fault:
        raise ValueError(cause_of(fault)) from None
    level, depth = [value] if text.count("[") + text.count("{") > _JSON_DEPTH else [], 0
    while level:
        if depth > _JSON_DEPTH:
            raise ValueError(cause_of(RecursionError()))
        boxes = (box.values() if isinstance(box, dict) else box for box in level if isinstance(box, dict | list))
        level, depth = [item for box in boxes for item in box if isinstance(item, dict | list)], depth + 1
    return value


def read_json(
    path: str | Path,
    *,
    remedy: str,
    names: Iterable[str] = (),
    kind: type = dict,
    error: type[Exception] = InputError,
) -> Any:
    """The object that a JSON file holds.

    Args:
        path: the file.
        remedy: see `require_file`.
        names: that the object must have.
        kind: dict, or list where the file holds one.
        error: what to raise.

    Returns:
        A dict (or a *kind*): a file that holds ``null``, a number or text is refused.
    """
    text = read_text(path, remedy=remedy, error=error)
    if not text.strip():
        raise error(f"{path}: is empty; {remedy}")
    try:
        value = parse_json(text)
    except ValueError as fault:
        raise _unreadable(path, fault, remedy, error, what="as JSON") from None
    if not isinstance(value, kind):
        wanted = "names and values" if kind is dict else "a list"
        raise error(f"{path}: holds {shown(value)} where {wanted} belong; {remedy}")
    if missing := [name for name in names if name not in value]:
        raise error(f"{path}: lacks {', '.join(missing)}; {remedy}")
    return value


def read_table(
    path: str | Path,
    *,
    remedy: str,
    columns: Iterable[str] = (),
    error: type[Exception] = InputError,
    **options: Any,
) -> "pd.DataFrame":
    """The table of a ``.csv`` or ``.parquet`` file.

    Args:
        path: the file.
        remedy: see `require_file`.
        columns: that the table must have.
        error: what to raise.
        **options: of `pandas.read_csv` or `pandas.read_parquet`.
    """
    import pandas as pd

    path = require_file(path, remedy=remedy, error=error)
    if path.stat().st_size == 0:
        raise error(f"{path}: is empty; {remedy}")
    parquet = path.suffix == ".parquet"
    try:
        table = (pd.read_parquet if parquet else pd.read_csv)(path, **options)
    # Of pandas, of decoding and of Arrow, whose kinds derive from these.
    except (ValueError, OSError, LookupError, TypeError, NotImplementedError, MemoryError, OverflowError) as fault:
        raise _unreadable(path, fault, remedy, error, what="as a table") from None
    if missing := [name for name in columns if name not in table]:
        raise error(f"{path}: {'' if parquet else 'row 1 '}lacks {', '.join(missing)}; {remedy}")
    return table


def read_array(
    path: str | Path, *, remedy: str, mmap_mode: str | None = "r", error: type[Exception] = InputError
) -> "np.ndarray":
    """The array of a ``.npy`` file; what could run code in it is refused.

    Args:
        path: the file.
        remedy: see `require_file`.
        mmap_mode: of `numpy.load`; None reads it into the memory.
        error: what to raise.
    """
    import numpy as np

    path = require_file(path, remedy=remedy, error=error)
    faults = (ValueError, EOFError, OSError, TypeError, MemoryError, RecursionError, SyntaxError, OverflowError)
    try:
        array = np.load(path, mmap_mode=mmap_mode, allow_pickle=False)
    except (*faults, zipfile.BadZipFile, tokenize.TokenError) as fault:
        raise _unreadable(path, fault, remedy, error, what="as an array") from None
    if not isinstance(array, np.ndarray):  # .npz
        array.close()
        raise error(f"{path}: holds several arrays, not one; {remedy}")
    return array


def parse_yaml(text: str, where: str, *, error: type[Exception] = InputError) -> Any:
    """The value that *text* says in YAML, as people write settings; *where* begins the message.

    Aliases are refused: with a few of them a short file becomes a value of billions of items. So is a key that a
    mapping has twice. What YAML 1.1 takes for a number to the base of 60 or 8 (12:30, 010) is text.
    """
    import yaml

    if len(text) > _YAML_BYTES:
        raise error(f"{where}: is longer than {_YAML_BYTES} characters; settings are short: look for a wrong file")
    try:
        depth = 0
        for event in yaml.parse(text, Loader=yaml.SafeLoader):
            if isinstance(event, yaml.AliasEvent):
                line = event.start_mark.line + 1
                raise error(f"{where}: line {line} has the alias *{event.anchor[:50]}, which is not read; write it out")
            depth += isinstance(event, yaml.CollectionStartEvent)
            depth -= isinstance(event, yaml.CollectionEndEvent)
            if depth > _YAML_DEPTH:
                raise error(f"{where}: is nested more than {_YAML_DEPTH} deep; settings are flat: rewrite it")
        return yaml.load(text, Loader=_settings_loader())  # a SafeLoader
    except yaml.YAMLError as fault:
        mark = getattr(fault, "problem_mark", None)
        line = f"line {mark.line + 1}: " if mark is not None and "\n" in text else ""
        cause = getattr(fault, "problem", None) or cause_of(fault)
        raise error(f"{where}: not readable as YAML ({line}{cause}); correct it") from None
    # Of the library's own making of numbers, times and tagged values, of which it lets faults through.
    except (ValueError, LookupError, AttributeError, TypeError, RecursionError) as fault:
        if isinstance(fault, error):
            raise
        raise error(f"{where}: not readable as YAML ({cause_of(fault)}); correct it") from None


@cache
def _settings_loader() -> type:
    """PyYAML's SafeLoader, but see `parse_yaml`."""
    import yaml

    class Loader(yaml.SafeLoader):
        def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
            mapping, seen = super().construct_mapping(node, deep), set()
            for key_node, _ in node.value:
                key = self.construct_object(key_node, deep=True)
                if key in seen:
                    problem = f"the key {shown(key)} is there twice"
                    raise yaml.constructor.ConstructorError(None, None, problem, key_node.start_mark)
                seen.add(key)
            return mapping

    def number(loader: Loader, node: yaml.ScalarNode) -> Any:
        kind = node.tag.rpartition(":")[2]
        if isinstance(node, yaml.ScalarNode) and _YAML_1_1_NUMBER.fullmatch(node.value):
            return node.value
        return getattr(loader, f"construct_yaml_{kind}")(node)

    for kind in ("int", "float"):
        Loader.add_constructor(f"tag:yaml.org,2002:{kind}", number)
    return Loader


def _unreadable(
    path: str | Path, fault: BaseException, remedy: str, error: type[Exception], what: str = ""
) -> Exception:
    remedy = _REMEDIES.get(getattr(fault, "errno", None), remedy)
    return error(f"{path}: cannot be read{what and ' '}{what} ({cause_of(fault)}); {remedy}")
