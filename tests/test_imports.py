"""Imports go one way: from what comes later on the data's way to what comes before, and never in a circle."""

import ast
import graphlib
import re
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "rbcnb"
ROOT_MODULES = {"columns", "paper", "threads"}  # every folder may import them, and they import nothing of ours
# Folder -> the folders that it may import from. What a folder may not import, it cannot depend on unseen.
ALLOWED = {
    "_utils": set(),
    "smears": {"_utils"},
    "segmentation": {"_utils", "smears"},
    "losses": set(),
    "evaluation": set(),
    "plotting": {"segmentation", "losses", "evaluation"},
    "labels": {"_utils", "smears", "segmentation", "plotting"},
    "training": {"_utils", "losses", "evaluation"},
    "study": {"_utils", "evaluation", "labels", "training"},
    "counting": {"_utils", "smears", "segmentation", "evaluation", "plotting", "training"},
}
ALLOWED["workflow"] = {*ALLOWED}
ALLOWED["cli"] = {*ALLOWED, "cli_arguments"} - {"cli"}
ALLOWED |= {"cli_arguments": set(), "columns": set(), "threads": set(), "paper": {"columns"}}
MODULES = {
    ".".join(path.relative_to(PACKAGE).with_suffix("").parts): path
    for path in PACKAGE.rglob("*.py")
    if path.name != "__init__.py"
}
# Modules that are named in a text, such as code for another process or a target of ``python -m``.
IN_TEXT = re.compile(r"(?:import |from |^)rbcnb\.([a-z_0-9.]+)")


def imported(name: str) -> set[str]:
    """The modules of the package that module *name* imports anywhere: in functions, for types, or in texts that run."""
    found = set()
    tree = ast.parse(MODULES[name].read_text(encoding="utf-8"))
    docs = {ast.get_docstring(node, clean=False) for node in ast.walk(tree) if isinstance(node, _DOCUMENTED)}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name}: relative import in line {node.lineno}"
            if node.module and node.module.split(".")[0] == "rbcnb":
                found |= {f"{node.module}.{alias.name}".removeprefix("rbcnb.") for alias in node.names}
        elif isinstance(node, ast.Import):
            found |= {alias.name.removeprefix("rbcnb.") for alias in node.names if alias.name.startswith("rbcnb.")}
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value not in docs:
            found |= {f"{match}." for match in IN_TEXT.findall(node.value)}
    return {module for path in found if (module := _module_of(path, name))} - {name}


_DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


def _module_of(path: str, importer: str) -> str:
    """The module that ``from rbcnb.a.b import c``, written as a.b.c, loads; empty for ``__version__``."""
    parts = [part for part in path.split(".") if part]
    for n in range(len(parts), 0, -1):
        if ".".join(parts[:n]) in MODULES:
            return ".".join(parts[:n])
    assert path == "__version__", f"{importer}: imports {path} from a folder; name the module that defines it"
    return ""


@pytest.mark.parametrize("name", sorted(MODULES))
def test_imports_follow_the_arrows(name):
    folder = name.split(".")[0]
    others = {module.split(".")[0] for module in imported(name)} - {folder} - ROOT_MODULES
    assert others <= ALLOWED[folder], f"{name} imports from {sorted(others - ALLOWED[folder])}"


def test_no_modules_import_each_other_in_a_circle():
    graph = {name: imported(name) for name in MODULES}
    assert len(list(graphlib.TopologicalSorter(graph).static_order())) == len(MODULES)


@pytest.mark.slow
def test_every_public_name_of_a_folder_is_there():
    code = (
        "import importlib, sys\n"
        "folders = [importlib.import_module(f'rbcnb.{name}') for name in sys.argv[1:]]\n"
        "assert not {'torch', 'fastai', 'matplotlib', 'cv2', 'sklearn'} & set(sys.modules)\n"
        "[getattr(folder, name) for folder in folders for name in folder.__all__]\n"
    )
    folders = sorted(path.parent.name for path in PACKAGE.glob("[!_]*/__init__.py"))
    assert len(folders) == 10
    subprocess.run([sys.executable, "-W", "ignore", "-c", code, *folders], check=True)
