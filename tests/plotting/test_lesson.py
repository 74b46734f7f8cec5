"""The lesson's arithmetic, its answers, and that it opens without torch."""

import socket
import subprocess
import sys

import nbformat
import numpy as np
import pytest

from rbcnb import cli
from rbcnb._utils import voila_page
from rbcnb.evaluation.prior_shift import focal_posterior
from rbcnb.losses.focal_curves import focal_curve, focal_gradient, group_shares, loss_shares, modulating_factor
from rbcnb.workflow.notebooks import find_notebooks, notebooks_folder


def test_curve_by_hand():
    assert focal_curve(0.5, gamma=2.0) == pytest.approx(0.25 * np.log(2))
    assert focal_curve(1.0, alpha=3.0, gamma=0.5) == 0
    np.testing.assert_allclose(focal_curve(np.array([0.1, 0.9]), gamma=0), -np.log([0.1, 0.9]))
    assert modulating_factor(0.1, gamma=2.0) == pytest.approx(0.81)


@pytest.mark.parametrize("gamma", [0.0, 0.5, 1.0, 2.0, 5.0])
def test_gradient_is_autograds_and_half_of_all_logits(gamma):
    import torch

    logits = torch.randn(50, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64, requires_grad=True)
    p_t = logits.softmax(dim=1)[:, 0]
    (-1.5 * (1 - p_t) ** gamma * p_t.log()).sum().backward()
    ours = focal_gradient(p_t.detach().numpy(), alpha=1.5, gamma=gamma)
    np.testing.assert_allclose(ours, logits.grad[:, 0].abs().numpy(), rtol=1e-12)
    np.testing.assert_allclose(2 * ours, logits.grad.abs().sum(dim=1).numpy(), rtol=1e-12)
    assert focal_gradient(1.0, gamma=gamma) == 0


def test_shares_sum_to_one_and_move_to_the_hard_cells_with_gamma():
    shares = loss_shares({"normal": 80, "codocyte": 20}, {"normal": 0.9, "codocyte": 0.4}, gammas=[0, 1, 2, 5])
    for column in ("share", "gradient_share"):
        np.testing.assert_allclose(shares.groupby("gamma")[column].sum(), 1)
        easy = shares[shares["label"] == "normal"][column].to_numpy()
        assert (np.diff(easy) < 0).all()
    by_hand = 80 * -np.log(0.9) / (80 * -np.log(0.9) + 20 * -np.log(0.4))
    assert shares["share"].iloc[0] == pytest.approx(by_hand)
    assert shares["gradient_share"].iloc[0] == pytest.approx(80 * 0.1 / (80 * 0.1 + 20 * 0.6))


def test_a_network_that_minimises_focal_loss_says_what_its_map_says():
    stated, true = np.linspace(0.001, 0.999, 9999), 0.9
    risk = true * focal_curve(stated, gamma=2.0) + (1 - true) * focal_curve(1 - stated, gamma=2.0)
    heard = stated[risk.argmin()]
    assert focal_posterior(np.array([[heard, 1 - heard]]), gamma=2.0)[0, 0] == pytest.approx(true, abs=1e-3)


def test_gamma_moves_nothing_where_all_cells_are_as_hard():
    for shares in group_shares([1, 1, 8], [1 / 3, 1 / 3, 1 / 3], [0, 2, 5]):
        np.testing.assert_allclose(shares, np.tile([0.1, 0.1, 0.8], (3, 1)))


@pytest.mark.slow
def test_the_curves_need_no_torch():
    code = (
        "import sys\n"
        "import rbcnb.losses.focal_curves, rbcnb.losses.exercises, rbcnb.evaluation.verdicts\n"
        "import rbcnb.plotting.evaluation, rbcnb.plotting.sliders, rbcnb.plotting.lesson, rbcnb.plotting.toy\n"
        "import rbcnb.labels.labeller.widget, rbcnb.workflow.run, rbcnb.workflow.pages\n"
        "sys.exit(any(name in sys.modules for name in ('torch', 'fastai')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_answers_are_no_notebook_of_the_run():
    assert (notebooks_folder() / "solutions").is_dir()
    assert {path.parent for path in find_notebooks()} == {notebooks_folder()}


@pytest.mark.slow
def test_answers_pass_the_checks():
    from nbclient import NotebookClient

    for path in sorted((notebooks_folder() / "solutions").glob("*.ipynb")):
        notebook = NotebookClient(nbformat.read(path, as_version=4), timeout=120).execute()
        verdicts = [cell.outputs[-1]["data"]["text/plain"] for cell in notebook.cells if cell.cell_type == "code"]
        assert len(verdicts) == 4
        assert all(words.startswith("Right: go on.") for words in verdicts)


def test_lesson_says_what_is_missing(monkeypatch, capsys):
    monkeypatch.setattr(voila_page, "find_spec", lambda _: None)
    assert cli.main(["lesson", "--no-browser"]) == 1
    assert "pip install 'rbcnb[lab]'" in capsys.readouterr().err


def test_lesson_says_that_a_port_is_taken(monkeypatch, capsys):
    monkeypatch.setattr(voila_page, "find_spec", lambda _: True)
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        assert cli.main(["lesson", "--no-browser", "--port", str(other.getsockname()[1])]) == 1
    assert "choose another with --port" in capsys.readouterr().err
    assert cli.main(["lesson", "--no-browser", "--port", "99999"]) == 1
    assert "1 to 65535" in capsys.readouterr().err
