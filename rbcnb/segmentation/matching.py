"""Which found cell is which true one, and how well a finder did."""

import math

import numpy as np
import pandas as pd
from scipy.optimize import linear_sum_assignment
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree

from rbcnb.columns import RADIUS, X, Y

FOUND, SPLIT, FALSE, MISSED, MERGED = "found", "split", "false", "missed", "merged"


def match_cells(cells: pd.DataFrame, truth: pd.DataFrame, *, max_distance: float) -> np.ndarray:
    """Row number in *truth* of each cell's partner, -1 for none: [len(cells)] int.

    One to one, by centre, at most *max_distance* pixels apart: as many pairs as possible, and of those the pairs with
    the smallest sum of distances (Hungarian method, on each cluster of neighbours by itself).

    Raises ValueError for a missing or non-finite coordinate.
    """
    found, true = coordinates(cells, [X, Y]), coordinates(truth, [X, Y])
    partner = np.full(len(found), -1)
    if not len(found) or not len(true):
        return partner
    near = cKDTree(found).sparse_distance_matrix(cKDTree(true), max_distance, output_type="coo_matrix").tocoo()
    rows, columns = near.row, near.col
    distances = np.linalg.norm(found[rows] - true[columns], axis=1)
    total = len(found) + len(true)
    graph = coo_matrix((np.ones(len(rows)), (rows, columns + len(found))), shape=(total, total))
    _, cluster = connected_components(graph, directed=False)
    order = np.argsort(cluster[rows], kind="stable")
    for edges in np.split(order, np.flatnonzero(np.diff(cluster[rows][order])) + 1):
        r, i = np.unique(rows[edges], return_inverse=True)
        c, j = np.unique(columns[edges], return_inverse=True)
        # No pair costs more than all allowed pairs together, so that the count of pairs comes first.
        cost = np.full((len(r), len(c)), (max_distance + 1.0) * (min(len(r), len(c)) + 1))
        cost[i, j] = distances[edges]
        for a, b in zip(*linear_sum_assignment(cost), strict=True):
            if cost[a, b] <= max_distance:
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

    Only the interior counts, at least *margin* pixels from every edge of the image of *image_shape* (H, W, ...): a
    cell cut by the border is often neither found nor labelled. An interior truth cell is hit if ``match_cells`` pairs
    it with any cell; an interior cell without a partner is false. Scores without a denominator are NaN.
    """
    partner = match_cells(cells, truth, max_distance=max_distance)
    hit = np.zeros(len(truth), bool)
    hit[partner[partner >= 0]] = True
    inside_truth, inside_cells = (
        (table[X].between(margin, image_shape[1] - 1 - margin) & table[Y].between(margin, image_shape[0] - 1 - margin))
        for table in (truth, cells)
    )
    n_truth, n_hits = int(inside_truth.sum()), int((hit & inside_truth).sum())
    n_false = int(((partner < 0) & inside_cells).sum())
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
