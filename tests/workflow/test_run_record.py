"""A notebook that papermill or JupyterLab runs is checked and recorded as the batch does it."""

import json
from pathlib import Path

import pytest
from IPython.core.interactiveshell import InteractiveShell
from papermill.translators import PythonTranslator

from rbcnb.cli import main
from rbcnb.paper import TABLE2
from rbcnb.workflow import begin_notebook
from rbcnb.workflow.notebook_parameters import ParameterError, declared_parameters, find_notebooks, notebooks_folder
from rbcnb.workflow.notebooks import _is_done, _parameters
from rbcnb.workflow.run import Run
from rbcnb.workflow.run_record import notebook_fingerprints, record_end, record_start, run_folder

FIRST, AUDIT, LESSON, TUNING, FINAL, LADDER = (path.stem for path in find_notebooks())
NAMES = [FIRST, AUDIT, LESSON, TUNING, FINAL, LADDER]


def cells_of(notebook: str) -> list[str]:
    cells = json.loads((notebooks_folder() / f"{notebook}.ipynb").read_text(encoding="utf-8"))["cells"]
    return ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]


def defaults(notebook: str, folder: Path, **given) -> dict:
    """What a kernel's globals hold of the notebook's parameters."""
    values = {name: parameter.default for name, parameter in declared_parameters()[notebook].items()}
    return values | {"run": str(folder)} | given


@pytest.mark.parametrize("notebook", NAMES)
def test_the_cell_after_the_parameters_begins_the_notebook(notebook):
    assert f'begin_notebook("{notebook}", globals())' in cells_of(notebook)[1]


@pytest.mark.parametrize(
    ("notebook", "wrong", "message"),
    [
        (LADDER, {"margin": -1}, "margin: must be at least 0 and at most 1, got -1.0"),
        (FINAL, {"margin": float("nan")}, "margin: must be a finite number, got nan"),
        (TUNING, {"label_smoothings": [1.5]}, "label_smoothings: must be at least 0 and below 1, got 1.5"),
        (TUNING, {"label_smoothings": [0.1, float("inf")]}, "label_smoothings: must be a finite number, got inf"),
        (AUDIT, {"queue_share": 7}, "queue_share: must be at least 0 and at most 1, got 7.0"),
        (TUNING, {"learning_rate": -1}, "learning_rate: must be above 0 and at most 1, got -1.0"),
        (TUNING, {"learning_rates": [0.01, 0]}, "learning_rates: must be above 0 and at most 1, got 0.0"),
        (FIRST, {"seed": -1}, "seed: must be at least 0 and at most 2147483647, got -1"),
        (FIRST, {"jobs": -1}, "jobs: must be at least 0, got -1"),
        (FIRST, {"n_smears": 2.5}, "n_smears: expected int, got float 2.5"),
        (AUDIT, {"include_test": "false"}, "include_test: expected bool, got str 'false'; give True or False"),
        (TUNING, {"architectures": "small"}, r"architectures: expected a list\[str\], got 'small'; write \['small'\]"),
        (LADDER, {"arms": "table2"}, r"arms: expected a list\[str\], got 'table2'; write \['table2'\]"),
        (TUNING, {"methods": ["focal", "focl"]}, "methods: unknown method 'focl'; known: focal, cross_entropy"),
        (LADDER, {"imbalance_methods": ["lddam"]}, "imbalance_methods: unknown method 'lddam'; known: focal"),
        (LADDER, {"arms": ["table3"]}, "arms: 'table3' is not one of table2, equal_total"),
        (AUDIT, {"reader": 7}, "reader: expected str, got int 7; put text in quotes, .* or papermill's -r"),
    ],
)
def test_wrong_values_end_the_notebook_and_the_batch_alike(tmp_path, notebook, wrong, message):
    with pytest.raises(ParameterError, match=f"^{message}"):
        begin_notebook(notebook, defaults(notebook, tmp_path / "run", **wrong))
    assert not (tmp_path / "run").exists()
    with pytest.raises(ParameterError, match=message):
        _parameters("smoke", wrong)


@pytest.mark.parametrize("setting", ["margin=.nan", "learning_rate=.inf", "queue_share=7", "seed=-1"])
def test_the_command_line_refuses_them_before_anything_runs(tmp_path, capsys, setting):
    assert main(["reproduce", "--out", str(tmp_path / "run"), "--set", setting]) == 2
    assert capsys.readouterr().err.startswith(f"rbcnb reproduce: {setting.partition('=')[0]}: must be ")
    assert not (tmp_path / "run").exists()


def shell_of(notebook: str, *injected: dict) -> tuple[InteractiveShell, list[str]]:
    """IPython after the parameters cell and papermill's, and what its errors show."""
    InteractiveShell.clear_instance()
    shell, shown = InteractiveShell(), []
    shell._showtraceback = lambda _kind, _error, lines: shown.extend(lines)
    assert shell.run_cell(cells_of(notebook)[0], store_history=True).success
    for parameters in injected:
        assert shell.run_cell(PythonTranslator.codify(parameters, "Parameters"), store_history=True).success
    return shell, shown


def begin(shell: InteractiveShell, notebook: str) -> bool:
    source = f'from rbcnb.workflow import begin_notebook\nhere = begin_notebook("{notebook}", globals())'
    return shell.run_cell(source, store_history=True).success


def test_a_name_that_no_notebook_has_is_refused_with_the_nearest_in_one_sentence(tmp_path):
    shell, shown = shell_of(FIRST, {"run": str(tmp_path / "run"), "n_smear": 3, "epochs": 5})
    assert not begin(shell, FIRST)
    assert shown == ["ParameterError: n_smear: no notebook declares it; did you mean n_smears?"]
    assert not (tmp_path / "run").exists()


def test_names_of_other_notebooks_pass_and_what_else_lives_among_the_globals(tmp_path):
    shell, shown = shell_of(
        FIRST, {"run": str(tmp_path / "run"), "epochs": 5, "margin": 0.1, "PAPERMILL_INPUT_PATH": "x"}
    )
    shell.run_cell("import numpy as np\nn_smear = 3\nhelper: int = 4", store_history=True)
    assert begin(shell, FIRST), shown
    assert begin(shell, FIRST), shown
    recorded = Run.at(tmp_path / "run").load_record()["parameters"]
    assert set(recorded) == {FIRST}
    assert set(recorded[FIRST]) == set(declared_parameters()[FIRST])


def test_a_misspelt_name_that_was_put_right_is_forgotten(tmp_path):
    shell, shown = shell_of(FIRST, {"run": str(tmp_path / "run"), "n_smear": 3}, {"run": str(tmp_path / "run")})
    assert begin(shell, FIRST), shown
    shell.run_cell(cells_of(FIRST)[0] + "\nn_smeers: int = 3", store_history=True)
    assert not begin(shell, FIRST)
    assert "n_smeers: no notebook declares it; did you mean n_smears?" in shown[-1]
    shell.run_cell(cells_of(FIRST)[0].replace('run: str = ""', f'run: str = "{tmp_path}"'), store_history=True)
    assert begin(shell, FIRST), shown


def test_without_the_parameters_cell_it_says_so(tmp_path):
    with pytest.raises(ParameterError, match="smears: not set; run the parameters cell of 01_segmentation first"):
        begin_notebook(FIRST, {"run": str(tmp_path)})


def test_a_changed_value_is_recorded_and_a_second_time_changes_nothing(tmp_path):
    values = defaults(FIRST, tmp_path, diameter_px=12)
    here = begin_notebook(FIRST, values)
    assert (here.folder, here.seed, here.notebook) == (tmp_path, 0, FIRST)
    assert (type(values["diameter_px"]), values["diameter_px"]) == (float, 12.0)
    record = here.load_record()
    assert {"parameters", "seeds", "versions", "machine", "notebooks", "data_hash"} <= set(record)
    assert record["parameters"][FIRST] == {name: values[name] for name in declared_parameters()[FIRST]}
    when = (tmp_path / "run.json").stat().st_mtime_ns
    begin_notebook(FIRST, values)
    assert (tmp_path / "run.json").stat().st_mtime_ns == when
    begin_notebook(FIRST, values | {"seed": 3})
    changed = here.load_record()
    assert changed["parameters"][FIRST] == record["parameters"][FIRST] | {"seed": 3}
    assert changed["seeds"] == {"seed": 3}
    assert changed["notebooks"][FIRST]["fingerprint"] != record["notebooks"][FIRST]["fingerprint"]


def test_paths_are_whole(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine").mkdir()
    values = defaults(FIRST, Path("out"), smears="mine")
    assert begin_notebook(FIRST, values).folder == tmp_path / "out"
    assert (values["run"], values["smears"]) == (str(tmp_path / "out"), str(tmp_path / "mine"))


def test_under_the_batch_a_notebook_records_nothing_of_its_own(tmp_path):
    """It finds what it would write; what the batch adds at the end stays when somebody looks into it again."""
    run = Run.at(tmp_path)
    planned = _parameters("smoke", {"run": str(tmp_path), "smears": "synthetic", "preregistration": "docs/study.md"})
    stamps = notebook_fingerprints(run, planned, chosen=set(NAMES))
    made = {name: run.missing_results(name) for name in NAMES}
    for name in NAMES:
        record_start(run, name, planned[name], fingerprint=stamps[name])
        before = (tmp_path / "run.json").read_bytes()
        begin_notebook(name, dict(planned[name]))
        assert (tmp_path / "run.json").read_bytes() == before
        record_end(run, name, seconds=1.25, file=f"notebooks/{name}.ipynb")
        for file in (*made[name], f"notebooks/{name}.ipynb"):
            Run.at(tmp_path, notebook=name).save_text("x", file)
    begin_notebook(FINAL, dict(planned[FINAL]))
    done = run.load_record()["notebooks"]
    assert [_is_done(run, name, done, stamps) for name in NAMES] == [True] * 6
    begin_notebook(FINAL, dict(planned[FINAL]) | {"margin": 0.5})
    done = run.load_record()["notebooks"]
    assert set(done[FINAL]) == {"fingerprint"}
    assert not _is_done(run, FINAL, done, stamps)


def test_where_a_notebook_is_started_changes_nothing_of_the_default_run(tmp_path):
    checkout = tmp_path / "checkout"
    (checkout / "notebooks").mkdir(parents=True)
    for name in ("pyproject.toml", f"notebooks/{FIRST}.ipynb"):
        (checkout / name).touch()
    assert {
        run_folder("", working=working) for working in (checkout, checkout / "notebooks", checkout / "notebooks" / "x")
    } == {checkout / "runs" / "notebooks"}
    assert run_folder("", working=tmp_path) == tmp_path / "runs" / "notebooks"
    assert run_folder("mine", working=checkout) == checkout / "mine"
    assert run_folder(str(tmp_path / "x"), working=checkout) == tmp_path / "x"
    assert {parameters["run"].default for parameters in declared_parameters().values()} == {""}


def test_the_report_of_any_run(tmp_path, capsys):
    assert main(["report", str(tmp_path)]) == 2
    assert "no tables or figures of a run in it; give the folder" in capsys.readouterr().err
    here = begin_notebook(LESSON, defaults(LESSON, tmp_path))
    here.save_table(TABLE2.head(2), "table2")
    assert main(["report", str(tmp_path)]) == 0
    assert capsys.readouterr().out == f"{tmp_path / 'report.html'}\n"
    page = (tmp_path / "report.html").read_text()
    assert "tables/table2.csv" in page
    assert f"{LESSON}<td class=text>begun, by papermill, in JupyterLab" in page
    assert f"python {here.load_record()['versions']['python']}" in page
