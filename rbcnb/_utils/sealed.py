"""JSON that holds a digest of itself, which shows whether the file was damaged or edited since it was written."""

import json
from pathlib import Path
from typing import Any

from rbcnb._utils.files import atomic_write, bytes_digest
from rbcnb._utils.read_files import parse_json, read_bytes

DIGEST = "digest"


def seal(facts: dict[str, Any]) -> dict[str, Any]:
    """*facts*, which JSON can hold, and their digest."""
    return facts | {DIGEST: _digest(facts)}


def is_whole(facts: Any) -> bool:
    """Whether *facts* are as `seal` gave them."""
    return isinstance(facts, dict) and DIGEST in facts and facts[DIGEST] == _digest(facts)


def write_sealed(path: Path, facts: dict[str, Any]) -> None:
    """Writes *facts* and their digest."""
    with atomic_write(path) as part:
        part.write_text(json.dumps(seal(facts)), encoding="utf-8")


def read_sealed(path: Path) -> dict[str, Any] | None:
    """What `write_sealed` wrote; None where there is nothing, or it is not as it was written."""
    try:
        text = read_bytes(path, remedy="").decode("utf-8")
        facts = parse_json(text)
    except ValueError:
        return None
    # A digit far behind the point changes the text and no number; what is written again is then the same to the byte.
    return facts if is_whole(facts) and json.dumps(facts) == text else None


def _digest(facts: dict[str, Any]) -> str:
    rest = {name: value for name, value in facts.items() if name != DIGEST}
    return bytes_digest(json.dumps(rest, sort_keys=True).encode())
