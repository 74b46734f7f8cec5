"""Writes the registry of a copy of Chula RBC-12, `rbcnb.smears.chula.REGISTRY`: file -> SHA-256, in pooch's format.

python benchmarks/chula_registry.py DATA rbcnb/smears/chula_sha256.txt
"""

import hashlib
import sys
from pathlib import Path

PATTERNS = ("LICENSE", "README.md", "Dataset/*.jpg", "Label/*.txt")


def write_registry(root: Path, path: Path) -> int:
    """Writes the registry of the files of the data set at *root*, and no others, to *path*; returns their number."""
    found = sorted(file for pattern in PATTERNS for file in root.glob(pattern))
    if not found:
        raise FileNotFoundError(f"{root}: no file of Chula RBC-12 ({', '.join(PATTERNS)}); give the dataset's folder")
    lines = [f"{file.relative_to(root).as_posix()} {hashlib.sha256(file.read_bytes()).hexdigest()}" for file in found]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return len(lines)


if __name__ == "__main__":
    print(write_registry(Path(sys.argv[1]), Path(sys.argv[2])), "files")
