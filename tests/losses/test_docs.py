"""The examples of docs/losses.md run."""

import re
import warnings
from pathlib import Path

import pytest
from conftest import make_cells

from rbcnb.training.splits import assign_splits

PAGE = Path(__file__).parents[2] / "docs" / "losses.md"
SECTIONS = dict(re.findall(r"^## (.+?)$(.*?)(?=^## |\Z)", PAGE.read_text(encoding="utf-8"), re.M | re.S))


def code(title: str) -> str:
    return "\n".join(re.findall(r"```python\n(.*?)```", SECTIONS[title], re.S))


@pytest.mark.parametrize("title", [title for title, text in SECTIONS.items() if "```python" in text])
def test_an_example_runs(title, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    cells, crops = make_cells({"codocyte": 20, "hypochromia": 20, "normal": 80})
    names = {"cells": assign_splits(cells, protocol="paper", seed=0), "crops": crops}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Lightning's, of a loader without workers
        exec(code("Plain torch"), names)
        if title == "Lightning":
            exec("from rbcnb.training import build_model", names)
        if title != "Plain torch":
            exec(code(title), names)
    if title == "Plain torch":
        assert capsys.readouterr().out == "ClassLoss(balanced_softmax, counts=[345, 356, 2691], reduction='mean')\n"
        assert names["loss"].late
    elif title == "fastai":
        assert names["learner"].curve.table["epoch"].tolist() == [1]
    elif title == "skorch":
        assert names["net"].history[-1]["train_loss"] > 0
        assert names["net"].predict_proba(names["torch"].randn(4, 3, 16, 16)).shape == (4, 3)
    elif title == "Lightning":
        assert names["module"].loss.late
        assert names["trainer"].current_epoch == 5
    else:
        pytest.fail(f"{title}: say what its example must come to")
