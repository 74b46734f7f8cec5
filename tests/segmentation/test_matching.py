"""What became of each cell: exact on cases made by hand."""

from itertools import permutations, product

import numpy as np
import pandas as pd
import pytest

from rbcnb.columns import RADIUS, X, Y
from rbcnb.segmentation.matching import (
    BOX,
    FALSE,
    FOUND,
    MERGED,
    MISSED,
    SPLIT,
    classify_matches,
    match_boxes,
    match_cells,
)


def circles(*rows):
    return pd.DataFrame(rows, columns=[X, Y, RADIUS], dtype=float)


def points(*rows):
    return pd.DataFrame(rows, columns=[X, Y], dtype=float)


@pytest.mark.parametrize(
    ("cells", "truth", "names", "fates"),
    [
        (circles((10, 10, 5)), points((11, 10)), [FOUND], [FOUND]),
        (circles((10, 10, 5)), points((40, 10)), [FALSE], [MISSED]),
        # Two circles on one cell: the nearer is the cell's, the other splits it.
        (circles((10, 10, 5), (13, 10, 5)), points((10.5, 10)), [FOUND, SPLIT], [FOUND]),
        # One circle on two cells: the farther is merged, though it is beyond the distance of a hit.
        (circles((10, 10, 9)), points((8, 10), (18, 10)), [FOUND], [FOUND, MERGED]),
        (circles((10, 10, 7)), points((8, 10), (18, 10)), [FOUND], [FOUND, MISSED]),
        # A circle without a partner merges nothing: what it holds is missed, and the circle false.
        (circles((10, 10, 20)), points((25, 10)), [FALSE], [MISSED]),
        (circles(), points((25, 10)), [], [MISSED]),
        (circles((1, 1, 1)), points(), [FALSE], []),
    ],
)
def test_fates_of_hand_made_cases(cells, truth, names, fates):
    found = classify_matches(cells, truth, max_distance=4)
    assert list(found[0]) == names
    assert list(found[1]) == fates


def test_as_many_pairs_as_possible_come_before_near_ones():
    """0 and 10 found, 9 and 19 true: 10 lies next to 9, but taking that pair would leave the two others alone."""
    assert match_cells(circles((0, 0, 5), (10, 0, 5)), points((9, 0), (19, 0)), max_distance=9.5).tolist() == [0, 1]
    assert match_cells(circles((0, 0, 5), (10, 0, 5)), points((9, 0), (19, 0)), max_distance=8).tolist() == [-1, 0]


def boxes(*rows):
    return pd.DataFrame(rows, columns=list(BOX), dtype=float)


@pytest.mark.parametrize(
    ("cells", "truth", "partner"),
    [
        (points((10, 10)), boxes((0, 0, 10, 10)), [0]),  # the sides belong to the box
        (points((10.1, 10)), boxes((0, 0, 10, 10)), [-1]),
        (points((5, 12)), boxes((0, 0, 40, 10)), [-1]),
        (points((1, 1), (5, 6)), boxes((0, 0, 10, 10)), [-1, 0]),  # two in one box: the nearer to its middle
        # 12 is in both boxes and next to the middle of the first, but only so are there two pairs.
        (points((12, 5), (3, 5)), boxes((0, 0, 20, 10), (10, 0, 30, 10)), [1, 0]),
        (points((5, 5)), boxes(), [-1]),
        (points(), boxes((0, 0, 1, 1)), []),
    ],
)
def test_cells_in_boxes(cells, truth, partner):
    assert match_boxes(cells, truth).tolist() == partner


def test_most_pairs_are_those_of_all_assignments():
    """Against every way to give four cells to four boxes: first the number of pairs counts, then the distances."""
    rng = np.random.default_rng(5)
    for _ in range(40):
        corner = rng.uniform(0, 12, (4, 2))
        truth = boxes(*np.hstack([corner, corner + rng.uniform(2, 9, (4, 2))]))
        cells = points(*rng.uniform(0, 18, (4, 2)))
        middle = truth.to_numpy().reshape(4, 2, 2).mean(axis=1)

        def worth(partner, cells=cells, truth=truth, middle=middle):
            pairs = [(i, j) for i, j in enumerate(partner) if j >= 0]
            held = [(truth.to_numpy()[j, :2] <= cells.to_numpy()[i]).all() for i, j in pairs]
            held += [(truth.to_numpy()[j, 2:] >= cells.to_numpy()[i]).all() for i, j in pairs]
            far = sum(np.linalg.norm(cells.to_numpy()[i] - middle[j]) for i, j in pairs)
            return (len(pairs), -far) if all(held) else (-1, 0.0)

        choices = [
            [j if taken else -1 for j, taken in zip(order, kept, strict=True)]
            for order in permutations(range(4))
            for kept in product((False, True), repeat=4)
        ]
        best = max(map(worth, choices))
        assert worth(match_boxes(cells, truth)) == pytest.approx(best)
