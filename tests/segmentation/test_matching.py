"""What became of each cell: exact on cases made by hand."""

import pandas as pd
import pytest

from rbcnb.columns import RADIUS, X, Y
from rbcnb.segmentation.matching import FALSE, FOUND, MERGED, MISSED, SPLIT, classify_matches, match_cells


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
