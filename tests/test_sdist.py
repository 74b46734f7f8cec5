"""What is published holds what its own tests read; `.ci/full sdist` runs them from there."""

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
READ = re.compile(r"""(?:ROOT|parents\[\d\]\)?) / "([\w.-]+)["/]""")


def test_the_sdist_holds_what_tests_and_benchmarks_read():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    included = set(project["tool"]["hatch"]["build"]["targets"]["sdist"]["include"])
    sources = [*ROOT.glob("tests/**/*.py"), *ROOT.glob("benchmarks/*.py")]
    read = {name for path in sources for name in READ.findall(path.read_text(encoding="utf-8"))}
    read = {name for name in read if (ROOT / name).exists()}
    assert {"results", "docs", "notebooks", "README.md"} <= read
    assert {f"/{name}" for name in read - {"pyproject.toml"}} <= included  # which is always there
