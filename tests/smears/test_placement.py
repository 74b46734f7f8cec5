import numpy as np
import pytest

from rbcnb.smears.synthetic.placement import cells_over_the_border, overlap_fractions, place_cells


def square(side):
    return np.ones((side, side), bool)


def test_overlap_of_hand_made_cells():
    apart = [(0, 0, square(4)), (10, 10, square(4))]
    assert overlap_fractions(apart, (20, 20)).tolist() == [0, 0]
    # The small one lies wholly on the large one, of which it covers a quarter.
    nested = [(2, 2, square(4)), (2, 2, square(2))]
    assert overlap_fractions(nested, (20, 20)).tolist() == [0.25, 1]
    # Three in a row, each half on the next: the middle one is covered from both sides.
    row = [(0, 0, square(4)), (2, 0, square(4)), (4, 0, square(4))]
    assert overlap_fractions(row, (20, 20)).tolist() == [0.5, 1, 0.5]


def test_overlap_counts_only_what_lies_on_the_canvas():
    corner = [(-2, -2, square(4)), (-1, -1, square(2)), (30, 0, square(2))]
    found = overlap_fractions(corner, (20, 20))
    assert found[:2].tolist() == [0.25, 1]
    assert np.isnan(found[2])


def test_overlap_is_of_the_cell_and_not_of_its_square():
    disc = np.hypot(*(np.mgrid[:21, :21] - 10)) < 10
    assert overlap_fractions([(0, 0, disc), (18, 18, disc)], (50, 50)).tolist() == [0, 0]


@pytest.mark.parametrize("difficulty", [0, 1])
def test_cells_lie_inside_and_clear_of_obstacles(difficulty):
    rng = np.random.default_rng(0)
    radii = np.full(40, 10.0)
    obstacle = np.array([[150.0, 100.0, 40.0]])
    centres = place_cells(radii, (300, 200), difficulty=difficulty, obstacles=obstacle, rng=rng)
    assert centres.shape == (40, 2)
    assert (centres >= 0).all()
    assert (centres <= [299, 199]).all()
    assert (np.hypot(*(centres - obstacle[0, :2]).T) > 50).all()


def test_crowding_grows_with_difficulty():
    near = []
    for difficulty in (0, 0.5, 1):
        rng = np.random.default_rng(1)
        centres = place_cells(
            np.full(150, 10.0), (600, 500), difficulty=difficulty, obstacles=np.empty((0, 3)), rng=rng
        )
        distance = np.hypot(*(centres[:, None] - centres[None]).transpose(2, 0, 1)) + 1e9 * np.eye(150)
        near.append(np.mean(distance.min(axis=1) < 17))
    assert near == sorted(near)
    assert near[0] < 0.05 < 0.15 < near[2]


def test_cells_over_the_border_have_their_centre_outside_and_reach_in():
    centres, radii = cells_over_the_border(2000, 40.0, (800, 600), np.random.default_rng(2))
    x, y = centres.T
    outside = np.maximum.reduce([-x, x - 799, -y, y - 599])
    assert (outside > 0).all()
    assert (outside <= radii).all()
    # As many for the area as inside, but for the half that the depth range leaves.
    assert len(radii) == pytest.approx(0.5 * 2000 * (840 * 640 / (800 * 600) - 1), rel=0.25)


def longest_rouleau(centres, radius):
    """Most cells that follow one another on nearly a straight line, each covering a good part of the one before."""
    steps = np.diff(centres, axis=0)
    linked = np.hypot(*steps.T) < 0.8 * 2 * radius
    straight = np.abs(np.angle(np.exp(1j * np.diff(np.arctan2(steps[:, 1], steps[:, 0]))))) < 0.9
    longest = run = 0
    for i in range(1, len(steps)):
        run = run + 1 if linked[i] and linked[i - 1] and straight[i - 1] else 0
        longest = max(longest, run)
    return longest + 2 if longest else 0


def test_rouleaux_form_where_it_is_difficult():
    found = []
    for difficulty in (0, 1):
        centres = place_cells(
            np.full(500, 10.0),
            (1100, 900),
            difficulty=difficulty,
            obstacles=np.empty((0, 3)),
            rng=np.random.default_rng(3),
        )
        found.append(longest_rouleau(centres, 10.0))
    assert found[0] == 0
    assert found[1] >= 3
