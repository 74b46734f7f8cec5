"""The lesson's arithmetic and widgets, and that it opens without torch."""

import subprocess
import sys

import ipywidgets as widgets
import numpy as np
import pytest

from rbcnb.curves import focal_curve, loss_shares
from rbcnb.figures import plot_focal_curves
from rbcnb.style import png
from rbcnb.widgets import explore, slider


def test_curve_by_hand():
    assert focal_curve(0.5, gamma=2.0) == pytest.approx(0.25 * np.log(2))
    assert focal_curve(1.0, alpha=3.0, gamma=0.5) == 0
    np.testing.assert_allclose(focal_curve(np.array([0.1, 0.9]), gamma=0), -np.log([0.1, 0.9]))


def test_shares_sum_to_one_and_move_to_the_hard_cells_with_gamma():
    shares = loss_shares({"normal": 80, "codocyte": 20}, {"normal": 0.9, "codocyte": 0.4}, gammas=[0, 1, 2, 5])
    np.testing.assert_allclose(shares.groupby("gamma")["share"].sum(), 1)
    easy = shares[shares["label"] == "normal"]["share"].to_numpy()
    assert (np.diff(easy) < 0).all()
    by_hand = 80 * -np.log(0.9) / (80 * -np.log(0.9) + 20 * -np.log(0.4))
    assert easy[0] == pytest.approx(by_hand)


def test_explorer_redraws_from_its_controls():
    seen = []

    def figure(gamma):
        seen.append(gamma)
        return plot_focal_curves((0.0, gamma))

    control = slider("gamma", 2.0, 0.0, 5.0, 0.1)
    box = explore(figure, gamma=control)
    image = box.children[1]
    assert isinstance(image, widgets.Image)
    before = image.value
    assert before == png(plot_focal_curves((0.0, 2.0)))
    control.value = 3.0
    assert seen == [2.0, 3.0]
    assert image.value == png(plot_focal_curves((0.0, 3.0))) != before


def test_the_curves_need_no_torch():
    code = (
        "import sys, rbcnb.curves, rbcnb.figures, rbcnb.widgets, rbcnb.run\n"
        "import rbcnb.metrics, rbcnb.inference, rbcnb.paper, rbcnb.verdicts\n"
        "sys.exit(any(name in sys.modules for name in ('torch', 'fastai')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
