"""What a notebook's outcome depends on, as digests: the package, the smears, the parameters, and what came before."""

import hashlib
import json
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rbcnb import __version__
from rbcnb._utils.code_digest import code_digest, installed_versions
from rbcnb._utils.files import file_digest
from rbcnb.segmentation.waifu2x import find_models
from rbcnb.smears.images import images_in
from rbcnb.smears.segmented import CELLS_CSV, FINDER_JSON, SMEARS_CSV, is_segmented
from rbcnb.smears.sources import label_files

PACKAGES = (
    "fastai",
    "imbalanced-learn",
    "matplotlib",
    "numpy",
    "opencv-python",
    "pandas",
    "papermill",
    "scikit-image",
    "scikit-learn",
    "torch",
    "torchvision",
    "ncnn",
)
# Parameters that say where and how fast, not what: changing them alone makes no notebook stale.
_PLACES = ("run", "jobs", "scheduler")
# Parameters that may name a file of which the content counts.
_FILES = ("corrections", "preregistration")
# 03 reads nothing of the run: neither does it wait for anything nor is it waited for.
_ALONE = ("03",)
_READS = "02"  # takes in what readers said of the cells


def package_stamp() -> str:
    """Digest of the package's own source, of the versions it runs on, and of whether Waifu2x is installed."""
    facts = [code_digest(), versions(), str(find_models())]
    return hashlib.blake2b(json.dumps(facts).encode(), digest_size=8).hexdigest()


def source_stamp(smears: str, data: str) -> str:
    """What the smears are: names, sizes and times of their files; synthetic smears follow from the parameters."""
    if smears == "synthetic" or (smears == "chula" and not data):
        return smears  # what is missing, loading the smears will say
    files: list[Path] = []
    if smears == "chula":
        files = sorted(path for part in ("Dataset", "Label") for path in (Path(data) / part).glob("*.*"))
    elif Path(smears).is_dir():
        files = images_in(Path(smears))
        if is_segmented(smears):  # what else lies there is its own
            files += [Path(smears) / name for name in (CELLS_CSV, SMEARS_CSV, FINDER_JSON)]
        else:
            files += label_files(Path(smears))
    listing = [(path.name, path.stat().st_size, path.stat().st_mtime_ns) for path in files]
    return hashlib.blake2b(json.dumps(listing).encode(), digest_size=8).hexdigest()


def file_stamp(path: Path) -> str:
    """Digest of a file's bytes; empty where there is none."""
    return file_digest(path) if path.is_file() else ""


def fingerprints(
    notebooks: Sequence[Path],
    parameters: Mapping[str, Mapping[str, Any]],
    *,
    source: str,
    readings: str = "",
    recorded: Mapping[str, str] | None = None,
) -> dict[str, str]:
    """One digest per notebook over all that its outcome depends on.

    Args:
        notebooks: in order.
        parameters: of each notebook.
        source: `source_stamp`.
        readings: `file_stamp` of what readers say of the run's cells, which 02 and what follows it depend on.
        recorded: notebook -> digest it was last run with, for those that will not be run now: what later ones build on
            is what is there, not what would be planned.
    """
    code, upstream, stamps = package_stamp(), source, {}
    for path in notebooks:
        values = {name: value for name, value in parameters[path.stem].items() if name not in _PLACES}
        values |= {name: file_stamp(Path(values[name])) for name in _FILES if values.get(name)}
        alone = path.stem[:2] in _ALONE
        if path.stem[:2] == _READS:
            upstream += readings
        parts = [code, path.read_text(encoding="utf-8"), values, "" if alone else upstream]
        planned = hashlib.blake2b(json.dumps(parts, sort_keys=True).encode(), digest_size=8).hexdigest()
        stamps[path.stem] = (recorded or {}).get(path.stem, planned)
        if not alone:
            upstream = stamps[path.stem]
    return stamps


def versions() -> dict[str, str]:
    """Of Python and of the packages that results depend on."""
    return {"python": platform.python_version(), "rbcnb": __version__} | installed_versions(PACKAGES)
