"""What docstrings, notebooks and pages call `rbcnb.something` is there."""

import importlib
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PATTERNS = ("rbcnb/**/*.py", "benchmarks/*.py", "notebooks/**/*.ipynb", "docs/*.*", "*.md")
FILES = sorted(path for pattern in PATTERNS for path in ROOT.glob(pattern))
REFERENCE = re.compile(r"`(rbcnb(?:\.\w+)+)[`(]")


def is_there(reference: str) -> bool:
    parts = reference.split(".")
    for n in range(len(parts), 0, -1):
        try:
            found = importlib.import_module(".".join(parts[:n]))
        except ModuleNotFoundError:
            continue
        for name in parts[n:]:
            if not hasattr(found, name):
                return False
            found = getattr(found, name)
        return True
    return False


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_every_name_that_a_text_refers_to_is_there(path):
    references = set(REFERENCE.findall(path.read_text(encoding="utf-8")))
    assert sorted(name for name in references if not is_there(name)) == []


def test_a_name_that_is_not_there_is_found():
    assert is_there("rbcnb.study.run_study")
    assert not is_there("rbcnb.study.run_studies")
    assert not is_there("rbcnb.studies")
