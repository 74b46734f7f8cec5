"""Changes of images: each is undone right in the table of cells, and what a finder loses by it is counted."""

import cv2
import numpy as np
import pandas as pd
import pytest
from changed_smears import CHANGES, under_changes
from labelled_smears import labelled
from segmentation import score_image

from rbcnb.columns import RADIUS, X, Y

PLACES = [(60, 60), (150, 70), (240, 60), (70, 150), (160, 160), (250, 150), (110, 110), (200, 110), (150, 120)]


@pytest.fixture
def image():
    picture = np.full((220, 300, 3), 230, np.uint8)
    for place in PLACES:
        cv2.circle(picture, place, 14, (170, 60, 90), cv2.FILLED, cv2.LINE_AA)
    truth = pd.DataFrame([(*place, 14.5) for place in PLACES], columns=[X, Y, RADIUS], dtype=float)
    return labelled("discs", picture, truth)


def red_discs(picture):
    """Cells where red is far from green: nothing that a margin, a circle or a bar shows."""
    mask = (picture[..., 0].astype(int) - picture[..., 1] > 60).astype(np.uint8)
    _, _, stats, centres = cv2.connectedComponentsWithStats(mask)
    table = pd.DataFrame(centres[1:], columns=[X, Y])
    return table.assign(**{RADIUS: np.sqrt(stats[1:, cv2.CC_STAT_AREA] / np.pi)})


def test_a_finder_that_does_not_mind_keeps_all_its_cells(image):
    geometric = [change for change in CHANGES if change.name.startswith(("black", "white", "x ", "data"))]
    assert len(geometric) >= 10
    table = under_changes([image], red_discs, score_image, geometric)
    assert (table["kept"] == 1).all()
    assert (table["F1 before"] == 1).all()
    assert (table["F1"] == 1).all()
    assert set(table["outside"]) == {0, ""}


def test_a_finder_of_red_discs_minds_their_colour(image):
    table = under_changes([image], red_discs, score_image, CHANGES).set_index("change")
    assert table.loc["grey", ["kept", "F1"]].tolist() == [0, 0]
    assert table.loc["negative", "kept"] == 0


def test_rings_beyond_the_circle_are_counted(image):
    corner = pd.DataFrame([(3.0, 3.0, 14.0)], columns=[X, Y, RADIUS])

    def find(picture):
        return pd.concat([red_discs(picture), corner], ignore_index=True)

    table = under_changes([image], find, score_image, CHANGES[:1])
    assert table["outside"].tolist() == [1]
