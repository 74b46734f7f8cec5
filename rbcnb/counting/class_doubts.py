"""Which classes a model can tell, by what it called cells of smears that it was not trained on."""

from collections.abc import Sequence

import numpy as np

from rbcnb.counting.differential import CRITICAL, MOST_WIDE, adjusted_interval, wilson

MIN_CELLS = 10  # of a class: below that its recall is anybody's guess
LEAST_RECALL = 0.5  # a class of which surely less is found is counted too low: few smears correct that in part only
_MOST_SMEARS = 30  # of the training, in each of which the classes are counted, to see how wide their intervals are


def class_doubts(confusion: np.ndarray | Sequence, classes: Sequence[str]) -> dict[str, str]:
    """Class -> why the model cannot tell it; empty where it can.

    It can tell a class if its recall, with a 95 % interval (Wilson's), may be a half or more, and is surely more than
    the share of other cells that are wrongly called so: the lower end of the one interval lies above the upper end of
    the other. And nine of ten smears like those of *confusion* have an adjusted share of it that is no wider than a
    count takes (`rbcnb.counting.differential.MOST_WIDE`): training and counting have one rule.

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
        least, most_found = wilson(hits, n, critical=CRITICAL)
        most_wrong = wilson(wrong, others, critical=CRITICAL)[1]
        doubts[name] = ""
        if n < MIN_CELLS:
            doubts[name] = f"only {n:.0f} whole cells are labelled; {MIN_CELLS} are needed at least"
        elif groups_with[i] < 2 and n_groups > 1:
            doubts[name] = "all its cells are of one smear; label another smear that has it"
        elif not least > most_wrong or most_found < LEAST_RECALL:
            doubts[name] = (
                f"of {n:.0f} cells it finds {hits / n:.0%}, and calls {wrong / max(others, 1):.0%} of the others so; "
                "label more of it and of the other classes"
            )
    if not all(doubts.values()):
        for name, width in zip(classes, _widths(np.asarray(confusion, float)), strict=True):
            if width > MOST_WIDE and not doubts[name]:
                doubts[name] = (
                    f"it is confused with others, so that its share of a smear is known within {100 * width:.0f} "
                    "percentage points at best; label more smears"
                )
    return doubts


def _widths(confusion: np.ndarray) -> np.ndarray:
    """Width [C] of the adjusted share, which nine of ten smears like those of *confusion* [G, C + 1, C] stay below."""
    calls = confusion.sum(axis=2)
    calls = calls[calls.sum(axis=1) > 0]
    size = calls.sum() / len(calls)  # as of a smear of which as many cells are labelled as of the others
    chosen = calls[np.unique(np.linspace(0, len(calls) - 1, min(len(calls), _MOST_SMEARS)).astype(int))]
    intervals = [adjusted_interval(size * counts[None] / counts.sum(), confusion, seed=0)[1:] for counts in chosen]
    return np.quantile([high - low for low, high in intervals], 0.9, axis=0, method="higher")
