"""Parameters of the notebooks: what each notebook's own ``parameters`` cell declares, and values checked against it.

A parameters cell is annotated plain literals, one a line, and a comment may list the values allowed
or the least one::

    protocol: str = "both"  # one of: paper, honest, both
    alphas: list[float] = [0.5, 1.0, 1.5]  # weights of the focal loss, Eq. (4)
    epochs: int = 10  # the most that may be chosen, at least 1

papermill itself only warns of an unknown name and passes a wrong type on; here both end the run before a kernel starts.
"""

import ast
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nbformat

from rbcnb._utils.errors import PlainError
from rbcnb._utils.read_files import parse_yaml, read_text, shown

TAG = "parameters"
_TYPES: dict[str, type] = {"int": int, "float": float, "str": str, "bool": bool}


class ParameterError(PlainError, ValueError):
    """A parameter is unknown or of the wrong type; the message names it and the mend."""


@dataclass(frozen=True)
class Parameter:
    """One declared parameter."""

    name: str
    type_name: str  # "int", "float", "str", "bool" or "list[...]" of one of them
    default: Any
    comment: str
    choices: tuple[str, ...] = ()
    minimum: float | None = None


def read_parameters(notebook: str | Path) -> dict[str, Parameter]:
    """The parameters that a notebook declares, by name, in order.

    Raises:
        ParameterError: there is not exactly one parameters cell, or a line of it is no annotated literal.
    """
    notebook = Path(notebook)
    cells = [cell for cell in nbformat.read(notebook, as_version=4).cells if TAG in cell.metadata.get("tags", ())]
    if len(cells) != 1:
        raise ParameterError(f"{notebook.name}: needs exactly one cell tagged '{TAG}', has {len(cells)}")
    source = cells[0].source
    lines = source.splitlines()
    declared = {}
    for node in ast.parse(source).body:
        where = f"{notebook.name}, parameters cell, line {node.lineno}"
        if not isinstance(node, ast.AnnAssign) or node.value is None or not isinstance(node.target, ast.Name):
            raise ParameterError(f"{where}: write 'name: type = literal'")
        type_name = ast.unparse(node.annotation)
        if type_name.removeprefix("list[").removesuffix("]") not in _TYPES:
            raise ParameterError(f"{where}: type {type_name!r} is not one of {', '.join(_TYPES)} or a list of one")
        comment = lines[node.end_lineno - 1][node.end_col_offset :].strip().lstrip("#").strip()
        listed = re.search(r"one of: ([\w, ]+)", comment)
        least = re.search(r"at least ([\d.]*\d)", comment)
        declared[node.target.id] = Parameter(
            name=node.target.id,
            type_name=type_name,
            default=ast.literal_eval(node.value),
            comment=comment,
            choices=tuple(choice.strip() for choice in listed[1].split(",")) if listed else (),
            minimum=float(least[1]) if least else None,
        )
    return declared


def check_value(parameter: Parameter, value: Any) -> Any:
    """*value* as the parameter's type; whole numbers are taken for floats, nothing else is converted.

    Raises:
        ParameterError: wrong type or a value that is not among the choices.
    """
    if parameter.type_name.startswith("list["):
        if not isinstance(value, list):
            raise ParameterError(
                f"{parameter.name}: expected a {parameter.type_name}, got {shown(value)}; write [{shown(value)}]"
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
        mend = ""
        if wanted is float and isinstance(value, str):
            # YAML 1.1 takes 1e-3 for a string.
            mend = "; in YAML write numbers with a point, such as 1.0e-3"
        if wanted is str:
            # A colon in a sentence makes it a mapping, and `no` is False.
            mend = f"""; put text in quotes, as in YAML: --set '{parameter.name}="..."'"""
        raise ParameterError(
            f"{parameter.name}: expected {wanted.__name__}, got {type(value).__name__} {shown(value)}{mend}"
        )
    if wanted is float and not math.isfinite(value):
        raise ParameterError(f"{parameter.name}: must be a finite number, got {value}")
    if parameter.choices and value not in parameter.choices:
        raise ParameterError(f"{parameter.name}: {shown(value)} is not one of {', '.join(parameter.choices)}")
    if parameter.minimum is not None and value < parameter.minimum:
        raise ParameterError(f"{parameter.name}: must be at least {parameter.minimum:g}, got {shown(value)}")
    return value


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
    errors = [
        f"{name}: no notebook declares it; known: {', '.join(sorted(known))}" for name in sorted(set(values) - known)
    ]
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
