"""Parameters of the notebooks: what each notebook's own ``parameters`` cell declares, and values checked against it.

A parameters cell is annotated plain literals, one a line, and a comment may list the values allowed, or name the
bounds of a number or of each number in a list: "at least", "above", "at most", "below", "between ... and ..."::

    protocol: str = "both"  # one of: paper, honest, both
    alphas: list[float] = [0.5, 1.0, 1.5]  # weights of the focal loss, Eq. (4), above 0
    label_smoothings: list[float] = [0.0, 0.1]  # at least 0 and below 1
    margin: float = 0.02  # the smallest difference worth having, between 0 and 1

papermill itself only warns of an unknown name and passes a wrong type on; here both end the run: `rbcnb reproduce`
before a kernel starts, `rbcnb.workflow.begin_notebook` in the notebook itself, by the same rules.
"""

import ast
import difflib
import json
import math
import operator
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rbcnb._utils.code_digest import PACKAGE
from rbcnb._utils.errors import InputError, PlainError
from rbcnb._utils.read_files import parse_yaml, read_text, shown

TAG = "parameters"
_TYPES: dict[str, type] = {"int": int, "float": float, "str": str, "bool": bool}
_NUMBER = r"(-?\d+(?:\.\d+)?)"
_BOUND = re.compile(rf"\b(at least|above|at most|below) {_NUMBER}|\b(between) {_NUMBER} and {_NUMBER}")
_HOLDS: dict[str, Callable[[float, float], bool]] = {
    "at least": operator.ge,
    "above": operator.gt,
    "at most": operator.le,
    "below": operator.lt,
}
# Parameters that may name a folder or a file.
_PATHS = ("smears", "data", "corrections", "preregistration")
_OF_METHODS = ("methods", "first_split_methods", "ladder_methods", "imbalance_methods")
_NO_PATHS = ("", "synthetic", "chula")


class ParameterError(PlainError, ValueError):
    """A parameter is unknown or of the wrong type; the message names it and the remedy."""


@dataclass(frozen=True)
class Parameter:
    """One declared parameter."""

    name: str
    type_name: str  # "int", "float", "str", "bool" or "list[...]" of one of them
    default: Any
    comment: str
    choices: tuple[str, ...] = ()
    bounds: tuple[tuple[str, float], ...] = ()  # such as ("at least", 0.0), ("below", 1.0)


def read_parameters(notebook: str | Path) -> dict[str, Parameter]:
    """The parameters that a notebook declares, by name, in order.

    Raises:
        ParameterError: there is not exactly one parameters cell, or a line of it is no annotated literal.
    """
    notebook = Path(notebook)
    # Without nbformat, whose check of six notebooks takes half a second whenever one of them begins.
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    cells = [cell for cell in cells if TAG in cell["metadata"].get("tags", ())]
    if len(cells) != 1:
        raise ParameterError(f"{notebook.name}: needs exactly one cell tagged '{TAG}', has {len(cells)}")
    source = "".join(cells[0]["source"])
    lines = source.splitlines()
    declared = {}
    for node in ast.parse(source).body:
        where = f"{notebook.name}, parameters cell, line {node.lineno}"
        if not isinstance(node, ast.AnnAssign) or node.value is None or not isinstance(node.target, ast.Name):
            raise ParameterError(f"{where}: write 'name: type = literal'")
        type_name = ast.unparse(node.annotation)
        if type_name.removeprefix("list[").removesuffix("]") not in _TYPES:
            raise ParameterError(f"{where}: type {shown(type_name)} is not one of {', '.join(_TYPES)} or a list of one")
        comment = lines[node.end_lineno - 1][node.end_col_offset :].strip().lstrip("#").strip()
        listed = re.search(r"one of: ([\w, ]+)", comment)
        declared[node.target.id] = Parameter(
            name=node.target.id,
            type_name=type_name,
            default=ast.literal_eval(node.value),
            comment=comment,
            choices=tuple(choice.strip() for choice in listed[1].split(",")) if listed else (),
            bounds=_bounds(comment) if type_name.removeprefix("list[").removesuffix("]") in ("int", "float") else (),
        )
    return declared


def _bounds(comment: str) -> tuple[tuple[str, float], ...]:
    bounds: list[tuple[str, float]] = []
    for words, number, between, low, high in _BOUND.findall(comment):
        bounds += [("at least", float(low)), ("at most", float(high))] if between else [(words, float(number))]
    return tuple(bounds)


def notebooks_folder() -> Path:
    """The notebooks beside the package in a checkout, or inside it in an installed wheel."""
    inside = PACKAGE / "notebooks"
    return inside if inside.is_dir() else PACKAGE.parent / "notebooks"


def find_notebooks(only: Sequence[str] = ()) -> list[Path]:
    """The notebooks in order, or those whose number or name *only* lists.

    Raises:
        ParameterError: *only* names a notebook that there is not.
    """
    paths = sorted(notebooks_folder().glob("[0-9][0-9]_*.ipynb"))
    if not paths:
        raise ParameterError(f"{notebooks_folder()}: no notebooks there; install the package from a full checkout")
    numbers = {path.stem[:2] for path in paths} | {path.stem for path in paths}
    if unknown := set(only) - numbers:
        raise ParameterError(f"no notebook {', '.join(sorted(unknown))}; known: {', '.join(p.stem for p in paths)}")
    return [path for path in paths if not only or path.stem[:2] in only or path.stem in only]


def declared_parameters() -> dict[str, dict[str, Parameter]]:
    """Name of each of the notebooks -> its parameters."""
    return {path.stem: read_parameters(path) for path in find_notebooks()}


def with_whole_paths(values: Mapping[str, Any]) -> dict[str, Any]:
    """*values* with the paths among them as the caller means them, from the working folder: kernels run in others."""
    paths = {
        name: str(Path(value).expanduser().resolve())
        for name, value in values.items()
        if name in _PATHS and isinstance(value, str) and value not in _NO_PATHS
    }
    return {**values, **paths}


def check_value(parameter: Parameter, value: Any) -> Any:
    """*value* as the parameter's type; whole numbers are taken for floats, nothing else is converted.

    Raises:
        ParameterError: wrong type, a value that is not among the choices, or a number out of its bounds.
    """
    if parameter.type_name.startswith("list["):
        if not isinstance(value, list):
            raise ParameterError(
                f"{parameter.name}: expected a {parameter.type_name}, got {shown(value)}; write [{shown(value)}]; "
                f"of papermill's options, -y '{parameter.name}: [...]' takes lists"
            )
        checked = [_check_scalar(parameter, item) for item in value]
        if not checked and parameter.default:
            raise ParameterError(f"{parameter.name}: the list is empty; give at least one value")
        return checked
    return _check_scalar(parameter, value)


def _check_scalar(parameter: Parameter, value: Any) -> Any:
    wanted = _TYPES[parameter.type_name.removeprefix("list[").removesuffix("]")]
    if wanted is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if type(value) is not wanted:
        remedy = ""
        if wanted is float and isinstance(value, str):
            # YAML 1.1 takes 1e-3 for a string.
            remedy = "; in YAML write numbers with a point, such as 1.0e-3"
        if wanted is str:
            # A colon in a sentence makes it a mapping, and `no` is False.
            remedy = f"""; put text in quotes, as in YAML: --set '{parameter.name}="..."', or papermill's -r"""
        if wanted is bool:
            remedy = "; give True or False, the one word and without quotes"
        raise ParameterError(
            f"{parameter.name}: expected {wanted.__name__}, got {type(value).__name__} {shown(value)}{remedy}"
        )
    if wanted is float and not math.isfinite(value):
        raise ParameterError(f"{parameter.name}: must be a finite number, got {value}")
    if parameter.choices and value not in parameter.choices:
        raise ParameterError(f"{parameter.name}: {shown(value)} is not one of {', '.join(parameter.choices)}")
    if parameter.name in _OF_METHODS:  # or notebook 06 would find a misspelt one after hours
        from rbcnb.study.protocols import method_trial  # which brings scikit-learn along
        from rbcnb.training.trial import Trial

        try:
            method_trial(Trial(), value, alpha=1.0, gamma=1.0)
        except InputError as error:
            raise ParameterError(f"{parameter.name}: {error}") from None
    if wanted is float and not math.isfinite(value):
        raise ParameterError(f"{parameter.name}: must be a finite number, got {shown(value)}")
    if not all(_HOLDS[words](value, bound) for words, bound in parameter.bounds):
        bounds = " and ".join(f"{words} {bound:.10g}" for words, bound in parameter.bounds)
        raise ParameterError(f"{parameter.name}: must be {bounds}, got {shown(value)}")
    return value


def unknown_name(name: str, known: Collection[str]) -> str:
    """That no notebook has the parameter *name*, with the nearest of the *known* ones, or with all where none is near.

    Raises nothing; the sentence is part of a `ParameterError`.
    """
    near = difflib.get_close_matches(name, sorted(known), n=1)
    return f"{name}: no notebook declares it; " + (
        f"did you mean {near[0]}?" if near else f"known: {', '.join(sorted(known))}"
    )


def check_parameters(
    values: Mapping[str, Any], declared: Mapping[str, Mapping[str, Parameter]]
) -> dict[str, dict[str, Any]]:
    """Deals *values* out to the notebooks that declare them.

    Args:
        values: name -> value, from a profile and the command line.
        declared: notebook -> its parameters.

    Returns:
        notebook -> all its parameters with the given value or the notebook's default.

    Raises:
        ParameterError: names every unknown parameter and every wrong value at once.
    """
    known = {name for parameters in declared.values() for name in parameters}
    errors = [unknown_name(name, known) for name in sorted(set(values) - known)]
    dealt: dict[str, dict[str, Any]] = {}
    for notebook, parameters in declared.items():
        dealt[notebook] = {}
        for name, parameter in parameters.items():
            try:
                dealt[notebook][name] = check_value(parameter, values.get(name, parameter.default))
            except ParameterError as error:
                errors.append(str(error))
    if errors:
        raise ParameterError("\n".join(dict.fromkeys(errors)))
    return dealt


def with_lists(values: Mapping[str, Any]) -> dict[str, Any]:
    """*values*, with lists where parameters are lists and "0.5, 1" is given, as people write it on a command line."""
    lists = {
        name
        for parameters in declared_parameters().values()
        for name, parameter in parameters.items()
        if parameter.type_name.startswith("list[")
    }
    return {
        name: [parse_yaml(item, name, error=ParameterError) for item in value.split(",")]
        if name in lists and isinstance(value, str)
        else value
        for name, value in values.items()
    }


def load_profile(profile: str | Path, folder: Path) -> dict[str, Any]:
    """A profile's values: the YAML file at *profile*, or the one of that name in *folder*.

    Raises:
        ParameterError: no such profile, or the file is no mapping of names to values.
    """
    path = Path(profile)
    if path.suffix not in (".yaml", ".yml"):
        path = folder / f"{profile}.yaml"
    if not path.is_file():
        names = ", ".join(sorted(found.stem for found in folder.glob("*.yaml")))
        raise ParameterError(f"no profile {shown(str(profile))}; known: {names}, or the path of a .yaml file")
    text = read_text(path, remedy="write it as a .yaml file in UTF-8", error=ParameterError)
    values = parse_yaml(text, str(path), error=ParameterError)
    if not (isinstance(values, dict) and all(isinstance(name, str) for name in values)):
        raise ParameterError(f"{path}: must be a mapping of parameter names to values, such as epochs: 3")
    return values
