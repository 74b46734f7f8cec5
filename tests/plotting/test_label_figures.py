"""The audit's figures say what their tables say."""

import numpy as np
import pandas as pd
import pytest

from rbcnb.plotting.labels import plot_duplicates, plot_overlap, plot_suspects


def texts(figure) -> list[str]:
    return [text.get_text() for ax in figure.axes for text in [*ax.texts, ax.title, ax._left_title]]


def test_suspects_stand_under_their_labels():
    issues = pd.DataFrame({"label": ["codocyte", "normal"], "suggested": ["normal", "burr_cell"], "doubt": [0.91, 0.5]})
    figure = plot_suspects(np.zeros((2, 8, 8, 3), np.uint8), issues)
    assert {"codocyte\nnormal?\n0.91", "normal\nburr cell?\n0.50"} <= set(texts(figure))
    with pytest.raises(ValueError, match="no rows"):
        plot_suspects(np.zeros((0, 8, 8, 3), np.uint8), issues.head(0))


def test_overlap_shades_what_is_off_the_diagonal():
    overlap = pd.DataFrame([[0.9, 0.1], [np.nan, np.nan]], index=["a", "b"], columns=["a", "b"])
    figure = plot_overlap(overlap)
    assert {"90.0%", "10.0%", "–"} <= set(texts(figure))
    shown = figure.axes[0].images[0].get_array()
    assert shown.mask.tolist() == [[True, False], [True, True]] if np.ma.isMaskedArray(shown) else np.isnan(shown[0, 0])


def test_pairs_stand_side_by_side():
    crops = np.stack([np.full((8, 8, 3), shade, np.uint8) for shade in (10, 20, 30)])
    pairs = pd.DataFrame({"first": [0], "second": [2], "smear": ["a.png"], "cell": [4], "other_smear": ["b.png"]})
    pairs = pairs.assign(other_cell=7, distance=0.125, hash_bits=3)
    figure = plot_duplicates(crops, pairs)
    assert "a.png, 4\nb.png, 7\ndistance 0.125, 3 bits" in texts(figure)
    image = figure.axes[0].images[0].get_array()
    assert image[0, 0, 0] == 10
    assert image[0, -1, 0] == 30
    with pytest.raises(ValueError, match="no rows"):
        plot_duplicates(crops, pairs.head(0))
