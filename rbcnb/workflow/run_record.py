"""What ``run.json`` tells of a run's notebooks, and the check of their parameters with which each of them begins.

The batch (`rbcnb.workflow.notebooks`) and a notebook that somebody runs by papermill or in JupyterLab write through the
same functions. A notebook under the batch finds in the record what it would write, and writes nothing.
"""

import ast
import copy
import json
import platform
from collections.abc import Collection, Iterator, Mapping, MutableMapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rbcnb._utils.files import folder_lock
from rbcnb.workflow.fingerprints import file_stamp, fingerprints, source_stamp, versions
from rbcnb.workflow.notebook_parameters import (
    Parameter,
    ParameterError,
    check_value,
    declared_parameters,
    find_notebooks,
    unknown_name,
    with_whole_paths,
)
from rbcnb.workflow.run import Run

DEFAULT_RUN = "runs/notebooks"
_FIRST = "01_segmentation"  # the notebook that knows where the smears come from
_LOCK = ".run.json.lock"
_LOCK_WAIT_S = 30.0  # a change of the record takes milliseconds
_INJECTED = "# Parameters"  # papermill's first line of the cell that it adds
_PAPERMILLS = ("PAPERMILL_INPUT_PATH", "PAPERMILL_OUTPUT_PATH")  # which --inject-paths adds


def begin_notebook(notebook: str, namespace: MutableMapping[str, Any]) -> Run:
    """The run of a *notebook*, once its parameters are checked and recorded; for the cell after ``parameters``.

    The rules are those of `rbcnb reproduce`, and so is the record in ``run.json``: parameters, seeds, versions,
    machine, and a fingerprint of what the notebook builds on. Running the cell once more does no harm; where a
    parameter has changed, the new value is recorded.

    Args:
        notebook: its name, such as "01_segmentation".
        namespace: the notebook's ``globals()``. Parameters are set again in it: ``run`` and other paths are whole
            there, and whole numbers that stand for floats are floats.

    Raises:
        ParameterError: a parameter is not set, of a wrong type or out of its bounds, or papermill or the parameters
            cell set a name that no notebook has; each is named.
    """
    values = checked_parameters(notebook, namespace)
    values["run"] = str(run_folder(values["run"]))
    values = with_whole_paths(values)
    namespace.update(values)
    run = Run.at(values["run"], seed=values.get("seed"), notebook=notebook)
    recorded = run.load_record().get("parameters", {})
    stamp = notebook_fingerprints(run, recorded | {notebook: values}, chosen={notebook})[notebook]
    record_start(run, notebook, values, fingerprint=stamp)
    return run


def checked_parameters(notebook: str, namespace: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters of *notebook* as they stand in *namespace*, see `begin_notebook`.

    Raises:
        ParameterError: names every wrong one at once.
    """
    declared = declared_parameters()
    known = {name for parameters in declared.values() for name in parameters}
    errors = [unknown_name(name, known) for name in sorted(_names_set(namespace, declared[notebook]) - known)]
    values = {}
    for name, parameter in declared[notebook].items():
        try:
            if name not in namespace:
                raise ParameterError(f"{name}: not set; run the parameters cell of {notebook} first")
            values[name] = check_value(parameter, namespace[name])
        except ParameterError as error:
            errors.append(str(error))
    if errors:
        raise ParameterError("\n".join(errors))
    return values


def _names_set(namespace: Mapping[str, Any], declared: Mapping[str, Parameter]) -> set[str]:
    """Names that the parameters cell set when it last ran, and papermill's cell after it.

    IPython keeps the source of every cell that ran in ``In``; what else lives among the globals (imports, helpers,
    IPython's own) is in no such cell. Without IPython nothing is known.
    """
    by_cell: set[str] = set()
    injected: set[str] = set()
    for source in namespace.get("In", ()):
        try:
            nodes = ast.parse(source).body
        except (SyntaxError, TypeError):
            continue
        if source.partition("\n")[0] == _INJECTED:
            targets = [target for node in nodes if isinstance(node, ast.Assign) for target in node.targets]
            injected = {target.id for target in targets if isinstance(target, ast.Name)} - {*_PAPERMILLS}
        elif all(isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) for node in nodes):
            names = {node.target.id for node in nodes}
            if names & set(declared):  # and not an exercise's
                by_cell, injected = names, set()
    return by_cell | injected


def run_folder(run: str, *, working: Path | None = None) -> Path:
    """The folder that the parameter ``run`` means, whole.

    Args:
        run: a path, from the working folder on; "" for ``runs/notebooks`` of the checkout that the working folder is
            or lies in, and of the working folder itself where there is none: wherever a notebook is started, one run.
        working: the working folder, by default the process's.
    """
    working = Path.cwd() if working is None else working
    if run:
        return (working / Path(run).expanduser()).resolve()
    marks = ("pyproject.toml", f"notebooks/{_FIRST}.ipynb")
    checkouts = [folder for folder in (working, *working.parents) if all((folder / mark).is_file() for mark in marks)]
    return (checkouts[0] if checkouts else working).resolve() / DEFAULT_RUN


def notebook_fingerprints(
    run: Run, parameters: Mapping[str, Mapping[str, Any]], *, chosen: Collection[str]
) -> dict[str, str]:
    """Notebook -> digest of all that its outcome depends on, see `rbcnb.workflow.fingerprints.fingerprints`.

    Args:
        run: whose readings count, and whose record tells what the notebooks that are not *chosen* were last run with.
        parameters: by notebook.
        chosen: names of the notebooks to be run.
    """
    paths = find_notebooks()
    done = run.load_record().get("notebooks", {})
    left_alone = {
        path.stem: done.get(path.stem, {}).get("fingerprint", "") for path in paths if path.stem not in chosen
    }
    first = parameters.get(_FIRST, {})
    readings = run.readings_of(first.get("smears", ""))
    return fingerprints(
        paths,
        {path.stem: parameters.get(path.stem, {}) for path in paths},
        source=source_stamp(first.get("smears", ""), first.get("data", "")),
        readings=file_stamp(readings) + file_stamp(run.second_look),
        recorded=left_alone,
    )


def record_start(run: Run, notebook: str, parameters: Mapping[str, Any], *, fingerprint: str) -> None:
    """Records that *notebook* is run with *parameters* now, on what, and where.

    What the record held of it stays where the *fingerprint* is the same.

    Raises:
        BlockingIOError: another process holds the record.
    """
    with changed_record(run) as record:
        record.setdefault("parameters", {})[notebook] = dict(parameters)
        record.setdefault("seeds", {}).update({name: value for name, value in parameters.items() if "seed" in name})
        record["versions"] = versions()
        record["machine"] = f"{platform.platform()}, {platform.processor() or platform.machine()}"
        record["data_hash"] = run.data_hash()
        entries = record.setdefault("notebooks", {})
        if entries.get(notebook, {}).get("fingerprint") != fingerprint:
            entries[notebook] = {"fingerprint": fingerprint}


def record_end(run: Run, notebook: str, *, seconds: float, file: str) -> None:
    """Records that *notebook* came to its end: how long it took, and where it lies in the run as it was run."""
    with changed_record(run) as record:
        record["notebooks"][notebook] |= {"seconds": round(seconds, 1), "file": file}
        record["data_hash"] = run.data_hash()


@contextmanager
def changed_record(run: Run) -> Iterator[dict[str, Any]]:
    """``run.json``, to be changed in place; it is saved after the block if it has changed, and kept for this one."""
    run.folder.mkdir(parents=True, exist_ok=True)
    with folder_lock(run.folder, name=_LOCK, wait_s=_LOCK_WAIT_S):
        record = run.load_record()
        before = copy.deepcopy(record)
        yield record
        if json.dumps(record, sort_keys=True) != json.dumps(before, sort_keys=True):
            run.save_record(record)
