"""Errors for the reader are a sentence in a notebook; others keep their traceback."""

import json

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
from rbcnb.workflow.notebooks import ReproductionError, find_notebooks, run_notebook
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
