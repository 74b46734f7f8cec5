"""Errors for the reader are a sentence in a notebook; others keep their traceback."""

import json

import nbformat
import pytest
from IPython.core.interactiveshell import InteractiveShell

from rbcnb._utils.errors import InputError, PlainError, SmearError, UnfinishedError
from rbcnb.counting.model_file import ModelFileError
from rbcnb.labels.readings import ReadingError
from rbcnb.study.ledger import TestSetError
from rbcnb.study.protocols import protocol_names
from rbcnb.study.runner import StudyError, StudyInterrupt
from rbcnb.training.splits import SplitError
from rbcnb.training.trial import Trial
from rbcnb.workflow.notebook_parameters import ParameterError
from rbcnb.workflow.notebooks import ReproductionError, find_notebooks, reproduce, run_notebook
from rbcnb.workflow.run import MissingResultError, Run

TestSetError.__test__ = False  # no test class
KINDS = [InputError, MissingResultError, ModelFileError, ParameterError, ReadingError, ReproductionError, SmearError]
KINDS += [SplitError, StudyError, StudyInterrupt, TestSetError, UnfinishedError]


@pytest.mark.parametrize("kind", KINDS)
def test_a_notebook_shows_the_message_alone(kind):
    shell, shown = InteractiveShell(), []
    shell._showtraceback = lambda _kind, _error, lines: shown.extend(lines)
    try:
        raise kind("a.png: torn; take another")
    except kind:
        shell.showtraceback()
    assert shown == [f"{kind.__name__}: a.png: torn; take another"]


def test_wrong_values_and_missing_results_are_such_errors(tmp_path):
    with pytest.raises(ValueError, match="protocol must be one of") as wrong:
        protocol_names("fair")
    with pytest.raises(ValueError, match="gamma must be finite") as negative:
        Trial(loss="focal", alpha=1.0, gamma=-1.0)
    with pytest.raises(FileNotFoundError, match="run notebook 02_labelling_audit first") as missing:
        Run.at(tmp_path).load_csv("labelled")
    assert all(isinstance(caught.value, PlainError) for caught in (wrong, negative, missing))


@pytest.mark.slow
def test_a_notebook_before_its_time_shows_one_sentence_and_the_batch_names_it(tmp_path):
    (source,) = find_notebooks(["04"])
    target = tmp_path / "run" / "notebooks" / source.name
    with pytest.raises(ReproductionError, match=r"04_cv_tuning, cell \d+ .*run notebook 02_labelling_audit first"):
        run_notebook(source, target, {"run": str(tmp_path / "run")})
    cells = json.loads(target.read_text(encoding="utf-8"))["cells"]
    outputs = [output for cell in cells for output in cell.get("outputs", ())]
    (error,) = [output for output in outputs if output["output_type"] == "error"]
    assert len(error["traceback"]) == 1
    assert error["traceback"][0].startswith("MissingResultError: ")
    assert "run notebook 02_labelling_audit first" in error["traceback"][0]


def _notebook(path, code):
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(code)])
    notebook.metadata["kernelspec"] = {"name": "python3", "language": "python", "display_name": "Python 3"}
    nbformat.write(notebook, path)
    return path


@pytest.mark.slow
def test_a_run_whose_folder_is_removed_says_so(tmp_path):
    run = tmp_path / "run"
    source = _notebook(tmp_path / "01_rude.ipynb", f"import shutil; shutil.rmtree({str(run)!r})")
    with pytest.raises(ReproductionError, match=r"run/notebooks: is gone, .*; start the run again, and ") as failed:
        run_notebook(source, run / "notebooks" / source.name, {})
    assert "is kept" not in str(failed.value)


@pytest.mark.slow
@pytest.mark.parametrize(("file", "of_run"), [("", True), ("run/a.csv", True), ("elsewhere/a.csv", False)])
def test_a_notebook_that_finds_no_room_names_the_folder(tmp_path, monkeypatch, file, of_run):
    """The run's folder, unless the error names a file that lies elsewhere."""
    more = [repr(str(tmp_path / file))] if file else []
    arguments = ", ".join(["28", "'No space left on device'", *more])
    source = _notebook(tmp_path / "01_segmentation.ipynb", f"raise OSError({arguments})")
    monkeypatch.setattr("rbcnb.workflow.notebooks.find_notebooks", lambda *_only: [source])
    with pytest.raises(ReproductionError) as failed:
        reproduce(out=tmp_path / "run", profile="smoke")
    message = str(failed.value)
    full = f"{tmp_path / 'run'}: cannot be written to (the disk is full); make room and "
    assert message.startswith(full if of_run else "01_segmentation, cell 1")
    assert "[Errno 28] No space left on device" in message
