"""The examples of docs/*.md run, as they stand there; those of docs/losses.md in tests/losses/test_docs.py."""

import re
from pathlib import Path

import pytest
import torch
from conftest import make_cells

from rbcnb.losses import imbalanced
from rbcnb.study import protocols
from rbcnb.training import models

DOCS = Path(__file__).parents[1] / "docs"


def code_blocks(page):
    return re.findall(r"```(?:python|text)\n(.*?)```", (DOCS / page).read_text(encoding="utf-8"), re.DOTALL)


def make_names(**names):
    cells, crops = make_cells({"codocyte": 20, "hypochromia": 20, "normal": 160})
    return {"cells": cells, "crops": crops, **names}


@pytest.mark.slow
@pytest.mark.parametrize("page", ["python.md", "architecture.md"])
def test_examples_run_on_any_cells(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = make_names()
    for block in code_blocks(page):
        exec(block, names)
    if page == "python.md":
        assert len(names["found"].cells) == len(names["found"].crops) > 0
        assert names["learner"].curve.table["epoch"].tolist() == [1, 2, 3, 4, 5]
    else:
        assert names["results"]["alpha"].dropna().tolist() == [0.5, 1.0, 1.5]
        assert names["figure"].axes[0].get_xlabel()


def test_a_loss_is_added_as_the_page_says(monkeypatch):
    function, in_losses, in_forms, in_rivals, tests = code_blocks("add_loss.md")
    names = {**vars(imbalanced), "pytest": pytest}
    exec(function, names)
    monkeypatch.setattr(imbalanced, "LOSSES", imbalanced.LOSSES | eval(f"{{{in_losses}}}", names))
    monkeypatch.setattr(imbalanced, "_FORMS", imbalanced._FORMS | eval(f"{{{in_forms}}}", names))
    assert eval(f"[{in_rivals}]") == [name for name in imbalanced.LOSSES if name not in protocols._LOSSES]
    exec(tests, names)
    batch = torch.randn(64, 3, generator=torch.Generator().manual_seed(0)).double(), torch.arange(64) % 3
    run = [names[name] for name in names if name.startswith("test_")]
    assert len(run) == 3
    for test in run:
        test(batch) if "batch" in test.__code__.co_varnames[:1] else test()
    loss = imbalanced.build_loss("root_weighted", class_counts=[5, 9, 50])
    torch.testing.assert_close(loss(*batch), names["root_weighted"](*batch, counts=[5, 9, 50]))


@pytest.mark.slow
def test_a_network_is_added_as_the_page_says(monkeypatch):
    from_torchvision, function, line, test, use = code_blocks("add_network.md")
    names = make_names(**vars(models))
    exec("from torchvision.models import resnet34", names)
    added = eval(f"{{{from_torchvision}}}", names)
    exec(function, names)
    added |= eval(f"{{{line}}}", names)
    monkeypatch.setattr(models, "ARCHITECTURES", models.ARCHITECTURES | added)
    for name in added:
        assert models.build_model(name, 4).eval()(torch.zeros(2, 3, 64, 64)).shape == (2, 4)
    exec(test, names)
    names["test_two_layers_have_as_many_weights_as_one_counts_by_hand"]()
    names["build_model"] = models.build_model
    exec(use, names)
    assert names["result"].scores["macro_f1"] > 0.3  # all "normal"


def test_the_drawing_of_the_imports_is_as_they_are(monkeypatch):
    monkeypatch.syspath_prepend(DOCS)
    import imports

    assert imports.DRAWING.read_text(encoding="utf-8") == imports.drawing(), "draw it again: python docs/imports.py"
    assert imports.imports()["plotting"] == {"segmentation", "losses", "evaluation"}
