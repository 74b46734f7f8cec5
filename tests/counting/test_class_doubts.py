"""Which classes a model can tell: its recall lies surely above the share of others that it calls so."""

import numpy as np
import pandas as pd
import pytest

from rbcnb.counting.class_doubts import class_doubts
from rbcnb.counting.differential import differential_count

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
        ([((14, 26, 0), (2, 78, 0))] * 2, "of 80 cells it finds 35%, and calls 2% of the others so", ""),
        ([((18, 22, 0), (2, 78, 0))] * 2, "", ""),  # 45 % of 80 cells may be a half, by chance
    ],
)
def test_what_can_be_told(groups, codocyte, normal):
    doubts = class_doubts(confusion(*groups), CLASSES)
    for name, expected in (("codocyte", codocyte), ("normal", normal)):
        assert doubts[name].startswith(expected)
        assert bool(doubts[name]) == bool(expected)


def test_a_class_that_most_counts_could_not_tell_is_none_that_the_model_tells():
    # Recall is fair, and the smears differ too much to undo it.
    calls = [((12, 8, 0), (3, 27, 0)), ((2, 8, 0), (1, 49, 0)), ((11, 1, 0), (24, 16, 0))]
    doubts = class_doubts(confusion(*calls), CLASSES)
    assert all("it is confused with others, so that its share of a smear is known within" in doubts[x] for x in CLASSES)


@pytest.mark.parametrize("seed", range(12))
def test_train_and_count_say_the_same_of_a_class(seed):
    rng = np.random.default_rng(seed)
    n_groups, recall = rng.integers(2, 9), rng.uniform(0.6, 0.99)
    groups = []
    for _ in range(n_groups):
        rates = np.clip(recall + rng.normal(0, 0.08, 2), 0.02, 0.97)
        cells = rng.integers(6, 54) * np.array([1, -1]) + [0, 60]
        first, second = (rng.multinomial(n, [r, 0.98 - r, 0.02]) for n, r in zip(cells, rates, strict=True))
        groups.append((first, second[[1, 0, 2]]))
    table = confusion(*groups)
    sure = {name for name, doubt in class_doubts(table, CLASSES).items() if not doubt}
    outcomes = np.array([*CLASSES, "unsure"])
    calls = pd.concat(
        pd.DataFrame({"smear": f"{i}", "call": np.repeat(outcomes, counts)})
        for i, counts in enumerate(table.sum(axis=2))
    )
    counted = differential_count(calls, CLASSES, confusion=table)
    wide = counted[counted["smear"].ne("pooled") & counted["doubt"].ne("")]["class"].value_counts()
    for name in sure:
        assert name not in wide.index
    assert sure or (counted["doubt"] != "").any()
