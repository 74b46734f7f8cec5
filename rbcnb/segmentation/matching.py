"""Which found cell is which true one, and how well a finder did."""

import math

import numpy as np
import pandas as pd
from scipy.optimize import linear_sum_assignment
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree

from rbcnb.columns import RADIUS, X, Y

BOX = ("xmin", "ymin", "xmax", "ymax")  # columns of a table of boxes
FOUND, SPLIT, FALSE, MISSED, MERGED = "found", "split", "false", "missed", "merged"


def match_cells(cells: pd.DataFrame, truth: pd.DataFrame, *, max_distance: float) -> np.ndarray:
    """For each found cell of one smear, the row number in *truth* of its partner, or -1: int [len(cells)].

    A true cell is the partner of one found cell at most. There are as many pairs as possible; of all such pairings it
    is the one with the smallest sum of distances between centres.

    Args:
        cells: found cells: ``x_px``, ``y_px``.
        truth: true cells of the same smear: ``x_px``, ``y_px``.
        max_distance: greatest distance of a pair, pixels, inclusive.

    Raises:
        ValueError: a coordinate is missing or not finite.
    """
    found, true = coordinates(cells, [X, Y]), coordinates(truth, [X, Y])
    if not len(found) or not len(true):
        return np.full(len(found), -1)
    near = cKDTree(found).sparse_distance_matrix(cKDTree(true), max_distance, output_type="coo_matrix").tocoo()
    return _most_pairs(near.row, near.col, found, true)


def match_boxes(cells: pd.DataFrame, boxes: pd.DataFrame) -> np.ndarray:
    """For each found cell of one smear, the row number in *boxes* of its partner, or -1: int [len(cells)].

    A cell may be paired with a box that holds its centre, a box with one cell at most. There are as many pairs as
    possible; of all such pairings it is the one with the smallest sum of distances from the boxes' centres.

    Args:
        cells: found cells: ``x_px``, ``y_px``.
        boxes: boxes of the same smear: the columns ``BOX``, pixels, sides included.

    Raises:
        ValueError: a coordinate is missing or not finite.
    """
    found, box = coordinates(cells, [X, Y]), coordinates(boxes, list(BOX))
    x, y = found[:, :1], found[:, 1:]
    inside = (x >= box[:, 0]) & (y >= box[:, 1]) & (x <= box[:, 2]) & (y <= box[:, 3])
    return _most_pairs(*np.nonzero(inside), found, (box[:, :2] + box[:, 2:]) / 2)


def _most_pairs(rows: np.ndarray, columns: np.ndarray, found: np.ndarray, true: np.ndarray) -> np.ndarray:
    """Partner of each found centre [N, 2] among the true ones [M, 2], -1 for none: [N] int.

    Found number ``rows[k]`` may be paired with true number ``columns[k]``, no others. The Hungarian method, on each
    cluster of neighbours by itself.
    """
    partner = np.full(len(found), -1)
    if not len(rows):
        return partner
    # Where neither has another neighbour there is nothing to choose.
    alone = (np.bincount(rows)[rows] == 1) & (np.bincount(columns)[columns] == 1)
    partner[rows[alone]] = columns[alone]
    rows, columns = rows[~alone], columns[~alone]
    if not len(rows):
        return partner
    distances = np.linalg.norm(found[rows] - true[columns], axis=1)
    total = len(found) + len(true)
    graph = coo_matrix((np.ones(len(rows)), (rows, columns + len(found))), shape=(total, total))
    _, cluster = connected_components(graph, directed=False)
    order = np.argsort(cluster[rows], kind="stable")
    for edges in np.split(order, np.flatnonzero(np.diff(cluster[rows][order])) + 1):
        r, i = np.unique(rows[edges], return_inverse=True)
        c, j = np.unique(columns[edges], return_inverse=True)
        # No pair costs more than all allowed pairs together, so that the count of pairs comes first.
        dear = (distances[edges].max() + 1.0) * (min(len(r), len(c)) + 1)
        cost = np.full((len(r), len(c)), dear)
        cost[i, j] = distances[edges]
        for a, b in zip(*linear_sum_assignment(cost), strict=True):
            if cost[a, b] < dear:
                partner[r[a]] = c[b]
    return partner


def detection_scores(
    cells: pd.DataFrame,
    truth: pd.DataFrame,
    *,
    max_distance: float,
    image_shape: tuple[int, ...],
    margin: float,
) -> dict[str, float]:
    """How well *cells* hit *truth*: n_truth, n_hits, n_false, precision, recall, f1_score.

    Only the interior counts: a cell cut by the border is often neither found nor labelled. An interior truth cell is
    hit if `match_cells` pairs it with any cell; an interior cell without a partner is false.

    Args:
        cells: found cells of one smear: ``x_px``, ``y_px``.
        truth: true cells of the same smear: ``x_px``, ``y_px``.
        max_distance: greatest distance of a pair, pixels, inclusive.
        image_shape: of the smear's image, (H, W, ...).
        margin: least distance of an interior centre from every edge of the image, pixels.

    Returns:
        Counts, and scores from 0 to 1; a score without a denominator is NaN.

    Raises:
        ValueError: a coordinate is missing or not finite.
    """
    partner = match_cells(cells, truth, max_distance=max_distance)
    return scores_of_pairs(
        partner, scored_cells=interior(cells, image_shape, margin), scored_truth=interior(truth, image_shape, margin)
    )


def interior(table: pd.DataFrame, image_shape: tuple[int, ...], margin: float) -> np.ndarray:
    """Which centres lie at least *margin* pixels from every edge of an image of *image_shape* (H, W, ...): [N] bool."""
    height, width = image_shape[:2]
    return (table[X].between(margin, width - 1 - margin) & table[Y].between(margin, height - 1 - margin)).to_numpy()


def scores_of_pairs(partner: np.ndarray, *, scored_cells: np.ndarray, scored_truth: np.ndarray) -> dict[str, float]:
    """Scores from each cell's *partner* in the truth (-1: none): n_truth, n_hits, n_false, precision, recall, f1_score.

    *scored_cells* [len(cells)] and *scored_truth* [len(truth)] say which take part: a true cell that does is hit if it
    is any cell's partner, a cell that does and has no partner is false, and a cell whose partner does not take part is
    neither. Scores without a denominator are NaN.
    """
    hit = np.zeros(len(scored_truth), bool)
    hit[partner[partner >= 0]] = True
    n_truth, n_hits = int(scored_truth.sum()), int((hit & scored_truth).sum())
    n_false = int(((partner < 0) & scored_cells).sum())
    return score_counts(n_truth, n_hits, n_false)


def score_counts(n_truth: int, n_hits: int, n_false: int) -> dict[str, float]:
    """The counts, of one image or summed over many, with their precision, recall and f1_score; NaN for 0 / 0."""
    return {
        "n_truth": n_truth,
        "n_hits": n_hits,
        "n_false": n_false,
        "precision": n_hits / (n_hits + n_false) if n_hits + n_false else math.nan,
        "recall": n_hits / n_truth if n_truth else math.nan,
        "f1_score": 2 * n_hits / (n_truth + n_hits + n_false) if n_truth + n_false else math.nan,
    }


def classify_matches(cells: pd.DataFrame, truth: pd.DataFrame, *, max_distance: float) -> tuple[np.ndarray, np.ndarray]:
    """What became of each cell [len(cells)] and of each true one [len(truth)], as words.

    A cell is ``found`` where `match_cells` pairs it; else ``split`` where a true cell within *max_distance* has another
    partner, a second circle on one cell; else ``false``. A true cell is ``found`` where it is paired; else ``merged``
    where its centre lies in the circle of a cell that is paired with another, one circle on two cells; else ``missed``.
    """
    partner = match_cells(cells, truth, max_distance=max_distance)
    hit = np.zeros(len(truth), bool)
    hit[partner[partner >= 0]] = True
    distance = np.linalg.norm(coordinates(cells, [X, Y])[:, None] - coordinates(truth, [X, Y])[None], axis=2)
    again = ((distance <= max_distance) & hit).any(axis=1)
    inside = ((distance <= coordinates(cells, [RADIUS])) & (partner >= 0)[:, None]).any(axis=0)
    return (
        np.where(partner >= 0, FOUND, np.where(again, SPLIT, FALSE)).astype(object),
        np.where(hit, FOUND, np.where(inside, MERGED, MISSED)).astype(object),
    )


def coordinates(table: pd.DataFrame, columns: list[str]) -> np.ndarray:
    """[N, len(columns)] float; raises ValueError for a missing column or a value that is no finite number."""
    if missing := [name for name in columns if name not in table.columns]:
        raise ValueError(f"the table lacks {', '.join(missing)}; it has {', '.join(map(str, table.columns))}")
    values = table[columns].to_numpy(dtype=float)
    bad = np.flatnonzero(~np.isfinite(values).all(axis=1))
    if len(bad):
        raise ValueError(f"row {bad[0]}: {', '.join(columns)} must be finite numbers, not {values[bad[0]].tolist()}")
    return values
