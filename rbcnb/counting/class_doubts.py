"""Which classes a model can tell, by what it called cells of smears that it was not trained on."""

from collections.abc import Sequence

import numpy as np

from rbcnb.counting.differential import CRITICAL, wilson

MIN_CELLS = 10  # of a class: below that its recall is anybody's guess


def class_doubts(confusion: np.ndarray | Sequence, classes: Sequence[str]) -> dict[str, str]:
    """Class -> why the model cannot tell it; empty where it can.

    It can tell a class of which it finds more, surely, than it wrongly calls so among other cells: the lower end of
    its recall's 95 % interval (Wilson's) lies above the upper end of the share of other cells that are called so.

    Args:
        confusion: counts [G, C + 1, C] of calls (the last is unsure) by true class, per group of smears.
        classes: names, in their order.
    """
    counts = np.asarray(confusion, float)
    n_groups = len(counts)
    groups_with = (counts.sum(axis=1) > 0).sum(axis=0)
    counts = counts.sum(axis=0)
    n_cells = counts.sum(axis=0)
    doubts = {}
    for i, name in enumerate(classes):
        hits, n = counts[i, i], n_cells[i]
        others = n_cells.sum() - n
        wrong = counts[i].sum() - hits
        least, most = wilson(hits, n, critical=CRITICAL)[0], wilson(wrong, others, critical=CRITICAL)[1]
        doubts[name] = ""
        if n < MIN_CELLS:
            doubts[name] = f"only {n:.0f} whole cells are labelled; {MIN_CELLS} are needed at least"
        elif groups_with[i] < 2 and n_groups > 1:
            doubts[name] = "all its cells are of one smear; label another smear that has it"
        elif not least > most:
            doubts[name] = (
                f"of {n:.0f} cells it finds {hits / n:.0%}, and calls {wrong / max(others, 1):.0%} of the others so; "
                "label more of it and of the other classes"
            )
    return doubts
