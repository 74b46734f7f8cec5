"""Damages files as disks, careless people and bad copies do: bits that flip, files cut, emptied or exchanged.

for damage in draw(kinds_of_files, n=400, rng=seeded("run")):
    damage.inflict(rng)
"""

import os
import random
import re
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

_DIGIT = re.compile(rb"\d")


def seeded(name: str) -> random.Random:
    """A generator of its own for the test *name*; its seed is printed, and ``RBCNB_FAULTS_SEED`` sets it."""
    given = os.environ.get("RBCNB_FAULTS_SEED")
    seed = int(given) if given else random.SystemRandom().randrange(10**6)
    print(f"{name}: RBCNB_FAULTS_SEED={seed}")
    return random.Random(seed * 2**32 + zlib.crc32(name.encode()))  # hash() differs from process to process


def flip(path: Path, rng: random.Random) -> None:
    """One bit is another."""
    data = bytearray(path.read_bytes())
    data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    path.write_bytes(data)


def cut(path: Path, rng: random.Random) -> None:
    """The end is missing."""
    os.truncate(path, rng.randrange(1, path.stat().st_size))


def empty(path: Path, _rng: random.Random) -> None:
    """The name is there, and nothing else."""
    os.truncate(path, 0)


def append(path: Path, rng: random.Random) -> None:
    """Some bytes too many."""
    with path.open("ab") as file:
        file.write(rng.randbytes(rng.randrange(1, 65)))


def double(path: Path, rng: random.Random) -> None:
    """A line is there twice; of a file without lines, some bytes."""
    lines = path.read_bytes().splitlines(keepends=True)
    at = rng.randrange(len(lines))
    path.write_bytes(b"".join([*lines[: at + 1], *lines[at:]]))


def edit(path: Path, rng: random.Random) -> None:
    """A digit is another, as whoever wishes for another result would write it; a bit where there is no digit."""
    data = bytearray(path.read_bytes())
    places = [found.start() for found in _DIGIT.finditer(data)]
    if not places:
        flip(path, rng)
        return
    at = rng.choice(places)
    data[at] = rng.choice([digit for digit in b"0123456789" if digit != data[at]])
    path.write_bytes(data)


_OF_A_FILE: dict[str, Callable[[Path, random.Random], None]] = {
    "flip": flip, "cut": cut, "empty": empty, "append": append, "double": double, "edit": edit,
}  # fmt: skip
SWAP = "swap"
WAYS = (*_OF_A_FILE, SWAP)


@dataclass(frozen=True)
class Damage:
    """What happens to which file."""

    kind: str  # of the file
    way: str
    path: Path
    other: Path | None = None  # that it is exchanged with

    @property
    def paths(self) -> list[Path]:
        """All files that are no longer what they were."""
        return [self.path] if self.other is None else [self.path, self.other]

    def inflict(self, rng: random.Random) -> bool:
        """Does it; returns whether any byte is another now."""
        before = [path.read_bytes() for path in self.paths]
        if not all(before):
            return False
        if self.other is None:
            _OF_A_FILE[self.way](self.path, rng)
        else:
            for path, data in zip(self.paths, reversed(before), strict=True):
                path.write_bytes(data)
        return any(path.read_bytes() != data for path, data in zip(self.paths, before, strict=True))

    def __str__(self) -> str:
        return f"{self.way} {' and '.join(path.name for path in self.paths)} ({self.kind})"


def draw(
    files: Mapping[str, Sequence[Path]], n: int, rng: random.Random, *, ways: Sequence[str] = WAYS
) -> list[Damage]:
    """*n* damages, each way as likely as the others. Kinds with many files are drawn more often, by the root of their
    number: each file counts, but no kind is forgotten.

    Args:
        files: kind -> files of it.
        n: how many.
        rng: of `seeded`.
        ways: of `WAYS`; a kind with a single file is never swapped.
    """
    drawn: list[Damage] = []
    kinds = [kind for kind in files if files[kind]]
    while len(drawn) < n:
        (kind,) = rng.choices(kinds, weights=[len(files[kind]) ** 0.5 for kind in kinds])
        way = rng.choice(ways)
        if way != SWAP:
            drawn.append(Damage(kind, way, rng.choice(files[kind])))
        elif len(files[kind]) > 1:
            drawn.append(Damage(kind, way, *rng.sample(list(files[kind]), 2)))
    return drawn
