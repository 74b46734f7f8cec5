"""The examples (`>>>`) in docstrings: every public folder has some lines of use, and all that stand anywhere run."""

import doctest
import importlib
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "rbcnb"
FOLDERS = sorted(path.parent.name for path in PACKAGE.glob("[!_]*/__init__.py"))
MODULES = sorted(
    "rbcnb." + ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix(".__init__")
    for path in PACKAGE.rglob("*.py")
    if ">>> " in path.read_text(encoding="utf-8")
)


@pytest.mark.parametrize("folder", FOLDERS)
def test_a_folder_shows_five_lines_of_use(folder):
    text = importlib.import_module(f"rbcnb.{folder}").__doc__
    examples = doctest.DocTestParser().get_examples(text)
    assert sum(len(example.source.splitlines()) for example in examples) >= 5
    assert any(f"from rbcnb.{folder} import" in example.source for example in examples)


@pytest.mark.parametrize("name", MODULES)
def test_examples_give_what_stands_there(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    outcome = doctest.testmod(importlib.import_module(name))  # prints what is otherwise than it stands there
    assert outcome.attempted
    assert not outcome.failed
    assert not list(tmp_path.iterdir())
