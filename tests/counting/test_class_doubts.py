"""Which classes a model can tell: its recall lies surely above the share of others that it calls so."""

import numpy as np
import pytest

from rbcnb.counting.class_doubts import class_doubts

CLASSES = ("codocyte", "normal")


def confusion(*groups):
    """Groups of ((codocytes called codocyte, normal, unsure), (normal cells called so))."""
    return np.array([np.array(group).T for group in groups])


@pytest.mark.parametrize(
    ("groups", "codocyte", "normal"),
    [
        ([((18, 2, 0), (4, 76, 0))] * 2, "", ""),
        ([((2, 18, 0), (8, 72, 0))] * 2, "of 40 cells it finds 10%, and calls 10% of the others so", "of 160 cells"),
        ([((4, 0, 0), (0, 40, 0))] * 2, "only 8 whole cells", ""),
        ([((20, 0, 0), (0, 40, 0)), ((0, 0, 0), (0, 40, 0))], "all its cells are of one smear", ""),
        ([((20, 0, 0), (0, 40, 0))], "", ""),  # a single smear, dealt cell by cell
        ([((0, 2, 18), (0, 76, 4))] * 2, "of 40 cells it finds 0%", ""),  # unsure of all of them
    ],
)
def test_what_can_be_told(groups, codocyte, normal):
    doubts = class_doubts(confusion(*groups), CLASSES)
    for name, expected in (("codocyte", codocyte), ("normal", normal)):
        assert doubts[name].startswith(expected)
        assert bool(doubts[name]) == bool(expected)
