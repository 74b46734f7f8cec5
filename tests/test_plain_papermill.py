"""The six notebooks by papermill alone, as its users call it: checked, recorded and verified as by the batch."""

import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from tiny_run import TINY

from rbcnb.cli import main
from rbcnb.workflow.notebook_parameters import declared_parameters, find_notebooks, load_profile, notebooks_folder
from rbcnb.workflow.run import Run
from rbcnb.workflow.run_tables import recomputed
from rbcnb.workflow.verify import NOT_RECOMPUTED, verify_run

pytestmark = pytest.mark.heavy
SETTINGS = load_profile("smoke", notebooks_folder() / "profiles") | {
    name: yaml.safe_load(value) for name, _, value in (text.partition("=") for text in TINY[3:-2:2])
}


def papermill(notebook: Path, *options: str, cwd: Path) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "papermill", str(notebook), str(cwd / f"out_{notebook.name}"), "--no-progress-bar"]
    return subprocess.run([*command, *options], capture_output=True, text=True, timeout=600, check=False, cwd=cwd)


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    """A run of which no notebook was told where it lies: all found the same folder."""
    folder = tmp_path_factory.mktemp("papermill")
    (folder / "tiny.yaml").write_text(yaml.safe_dump(SETTINGS | {"jobs": 1}))
    for notebook in find_notebooks():
        done = papermill(notebook, "-f", "tiny.yaml", cwd=folder)
        assert done.returncode == 0, done.stderr[-3000:]
    return folder / "runs" / "notebooks"


def test_its_record_tells_what_it_was_run_with(finished):
    record = Run.at(finished).load_record()
    assert {name: set(values) for name, values in record["parameters"].items()} == {
        name: set(parameters) for name, parameters in declared_parameters().items()
    }
    merged = {name: value for values in record["parameters"].values() for name, value in values.items()}
    assert {name: merged[name] for name in SETTINGS} == SETTINGS
    assert record["seeds"]["seed"] == 0
    assert {"versions", "machine", "data_hash"} <= set(record)
    assert all(entry["fingerprint"] for entry in record["notebooks"].values())


def test_as_many_of_its_tables_are_recomputed_as_of_a_batch(finished, capsys):
    report = verify_run(finished)
    assert report.same, "\n".join(report.lines)
    saved = {path.stem for path in (finished / "tables").glob("*.csv")}
    assert set(report.tables) == saved - set(NOT_RECOMPUTED) <= set(recomputed(Run.at(finished)))
    assert {"table1", "table2", "table3", "verdict", "choices", "mistakes"} <= set(report.tables)
    assert main(["report", str(finished)]) == 0
    assert capsys.readouterr().out == f"{finished / 'report.html'}\n"
    page = (finished / "report.html").read_text(encoding="utf-8")
    assert "tables/verdict.csv" in page
    assert page.count("data:image/webp;base64,") >= 13


@pytest.mark.parametrize(
    ("number", "name", "value", "message"),
    [
        ("02", "include_test", "false", "include_test: expected bool, got str 'false'"),
        ("01", "n_smears", "2.5", "n_smears: expected int, got float 2.5"),
        ("01", "n_smear", "3", "n_smear: no notebook declares it; did you mean n_smears?"),
        ("04", "architectures", "small", "architectures: expected a list[str], got 'small'"),
        ("06", "arms", "table2", "arms: expected a list[str], got 'table2'"),
        ("06", "margin", "-1", "margin: must be at least 0 and at most 1, got -1.0"),
    ],
)
def test_what_the_batch_refuses_papermill_refuses(finished, number, name, value, message):
    before = (finished / "run.json").read_bytes()
    (notebook,) = find_notebooks([number])
    done = papermill(notebook, "-p", name, value, cwd=finished.parents[1])
    assert done.returncode != 0
    assert f"ParameterError: {message}" in done.stderr
    assert (finished / "run.json").read_bytes() == before
