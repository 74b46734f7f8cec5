"""Names are nouns of the field: no variable, argument, function or class is called `told`, `said`, `one` or `own`."""

import ast
import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
VAGUE = {"told", "said", "one", "own", "mend", "says", "tell"}
FOLDERS = ("rbcnb", "tests", "benchmarks", "docs", ".ci", "notebooks")
FILES = sorted(
    path for folder in FOLDERS for end in ("py", "ipynb", "md") for path in (ROOT / folder).rglob(f"*.{end}")
)


def names_bound(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """(line, name) of what the code gives a name."""
    for node in ast.walk(tree):
        match node:
            case (
                ast.Name(id=name, ctx=ast.Store())
                | ast.Attribute(attr=name, ctx=ast.Store())
                | ast.arg(arg=name)
                | ast.FunctionDef(name=name)
                | ast.AsyncFunctionDef(name=name)
                | ast.ClassDef(name=name)
                | ast.ExceptHandler(name=str(name))
                | ast.alias(asname=str(name))
                | ast.MatchAs(name=str(name))
                | ast.MatchStar(name=str(name))
                | ast.MatchMapping(rest=str(name))
            ):
                yield node.lineno, name


def vague_names(source: str, place: str) -> list[str]:
    found = sorted(names_bound(ast.parse(source)))
    return [f"{place}:{line}: {name}" for line, name in found if name.strip("_").lower() in VAGUE]


def sources_of(path: Path) -> Iterator[tuple[str, str]]:
    """(place, code) of a module, or of each code cell of a notebook or Python block of a page."""
    place, text = path.relative_to(ROOT).as_posix(), path.read_text(encoding="utf-8")
    if path.suffix == ".py":
        yield place, text
        return
    if path.suffix == ".md":
        yield from (
            (f"{place}, block {n}", code) for n, code in enumerate(re.findall(r"```python\n(.*?)```", text, re.S))
        )
        return
    for number, cell in enumerate(json.loads(text)["cells"]):
        if cell["cell_type"] == "code":  # a line of IPython's own is no Python
            yield f"{place}, cell {number}", re.sub(r"(?m)^\s*[%!].*$", "", "".join(cell["source"]))


def test_names_say_what_they_hold():
    assert {path.suffix for path in FILES} == {".py", ".ipynb", ".md"}
    assert [fault for path in FILES for place, code in sources_of(path) for fault in vague_names(code, place)] == []


@pytest.mark.parametrize(
    "code",
    [
        "NAME = 1", "rows, NAME = pair", "self.NAME = 1", "f(NAME := 1)", "[NAME for NAME in rows]", "lambda NAME: 0",
        "for n, NAME in rows: pass", "with open(path) as NAME: pass", "import numpy as NAME", "def NAME(): pass",
        "class NAME: pass", "def f(a, NAME=1): pass", "def f(*NAME): pass", "def f(**NAME): pass",
        "async def NAME(): pass", "try: f()\nexcept ValueError as NAME: pass",
        "match row:\n    case [first, *NAME]: pass", "match row:\n    case {'a': NAME}: pass",
        "match row:\n    case {**NAME}: pass",
    ],
)  # fmt: skip
@pytest.mark.parametrize("name", ["told", "_own", "One", "tell_"])
def test_a_vague_name_is_found_wherever_it_is_bound(code, name):
    assert vague_names(code.replace("NAME", name), "a.py") == [f"a.py:{len(code.splitlines())}: {name}"]
    assert vague_names(code.replace("NAME", f"{name}_row"), "a.py") == []
