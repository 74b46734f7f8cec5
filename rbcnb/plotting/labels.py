"""Figures of labels: agreement and disagreement of readers, doubted labels, overlap of classes, duplicates."""

import numpy as np
import pandas as pd
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure

from rbcnb.columns import AGREEMENT_COLUMNS, CELL, LABEL, SMEAR, readable
from rbcnb.plotting.cells import plot_contact_sheet, show_image
from rbcnb.plotting.style import BLUE, GREY, VERMILLION, bare, new_figure, rc, require


def plot_disagreement(counts: pd.DataFrame) -> Figure:
    """Numbers of cells by the label of one reader (rows) and of another (columns).

    The same label is blue, another one vermillion, the deeper the more of the row's cells; so a class that one reader
    gives and the other does not shows as a row of vermillion. A cell without a number is none.

    Args:
        counts: of `rbcnb.labels.disagreement_counts`; the names of its axes are the readers'.

    Raises:
        ValueError: rows and columns are not the same classes, or there are none.
    """
    if list(counts.index) != list(counts.columns) or counts.empty:
        raise ValueError(f"rows and columns must be the same classes, got {list(counts.index)}, {list(counts.columns)}")
    matrix, n = counts.to_numpy(float), len(counts)
    rows = matrix.sum(axis=1, keepdims=True)
    shares = np.divide(matrix, rows, out=np.zeros_like(matrix), where=rows > 0)
    faces = np.empty((n, n, 4))
    for i, j in np.ndindex(n, n):
        faces[i, j] = (
            to_rgba(BLUE if i == j else VERMILLION, 0.9 * shares[i, j] ** 0.6) if matrix[i, j] else to_rgba("#F4F4F4")
        )
    with rc():
        figure, axes = new_figure(0.8 * n + 2.4, 0.55 * n + 1.6)
        ax = bare(axes[0, 0])
        ax.imshow(faces, aspect="auto")
        for i, j in np.ndindex(n, n):
            if matrix[i, j]:
                dark = shares[i, j] > 0.5
                ax.text(j, i, f"{matrix[i, j]:g}", ha="center", va="center", color="white" if dark else "black")
        ax.hlines(np.arange(n - 1) + 0.5, -0.5, n - 0.5, color="white")
        ax.vlines(np.arange(n - 1) + 0.5, -0.5, n - 0.5, color="white")
        names = [readable(name) for name in counts.index]
        ax.set_xticks(range(n), names, rotation=30 if n > 4 else 0, ha="right" if n > 4 else "center")
        ax.set_yticks(range(n), names)
        ax.tick_params(length=0)
        ax.set(xlabel=f"label by {counts.columns.name}", ylabel=f"label by {counts.index.name}")
        ax.set_title(f"{matrix.trace():,g} of {matrix.sum():,g} cells got the same label")
    return figure


def plot_agreement(table: pd.DataFrame) -> Figure:
    """Every statistic of an agreement table as a point with its interval; hollow where the interval is not known.

    Args:
        table: of `rbcnb.labels.agreement_table`.

    Raises:
        ValueError: a column is missing, or there are no rows.
    """
    require(table, list(AGREEMENT_COLUMNS), "an agreement table")
    places = np.arange(len(table))
    known = table["low"].notna().to_numpy()
    with rc():
        figure, axes = new_figure(7.2, 0.36 * len(table) + 1.1)
        ax = axes[0, 0]
        ax.hlines(places[known], table["low"][known], table["high"][known], color=BLUE, lw=2.2)
        ax.plot(table["value"][known], places[known], "o", color=BLUE)
        ax.plot(table["value"][~known], places[~known], "o", mfc="white", color=GREY)
        ticks = [
            f"{readable(row.statistic)} ({row.n_cells} cells, {row.n_smears} smears)" for row in table.itertuples()
        ]
        ax.set_yticks(places, ticks)
        ax.invert_yaxis()
        ax.grid(visible=False, axis="y")
        ax.set_xlim(min(0.0, float(table["value"].min()) - 0.05), 1.02)
        ax.set_xlabel("value and 95 % interval over smears")
        ax.set_title("Agreement of readers")
    return figure


def plot_suspects(crops: np.ndarray, issues: pd.DataFrame) -> Figure:
    """Doubted cells in the order of the queue, each under the label given, the one suggested, and its doubt.

    Args:
        crops: uint8 [N, S, S, 3], in the order of *issues*.
        issues: of `rbcnb.labels.find_label_issues`: ``label``, ``suggested``, ``doubt``.

    Raises:
        ValueError: a column is missing, there are no rows, or the lengths differ.
    """
    require(issues, [LABEL, "suggested", "doubt"], "the list of suspects")
    rows = zip(issues[LABEL], issues["suggested"], issues["doubt"], strict=True)
    titles = [f"{readable(given)}\n{readable(other)}?\n{doubt:.2f}" for given, other, doubt in rows]
    return plot_contact_sheet(crops, titles, columns=10)


def plot_overlap(overlap: pd.DataFrame) -> Figure:
    """Which classes run into each other: row the label given, column the class that the model is sure of, in per cent.

    The shade follows the overlap alone; the diagonal stays white.

    Args:
        overlap: of `rbcnb.labels.class_overlap`, shares 0 to 1.
    """
    shares = overlap.to_numpy(float)
    n = len(shares)
    off = np.where(np.eye(n, dtype=bool), np.nan, shares)
    top = np.nanmax(off) if np.isfinite(off).any() else 1.0
    with rc():
        figure, axes = new_figure(1.1 * n + 2.2, 0.55 * n + 1.3)
        ax = axes[0, 0]
        ax.grid(visible=False)
        ax.imshow(off, cmap="Oranges", vmin=0, vmax=max(1.6 * top, 1e-9), aspect="auto")
        for (row, column), share in np.ndenumerate(shares):
            text = "–" if np.isnan(share) else f"{share:.1%}"
            ax.text(column, row, text, ha="center", va="center", color="#8A8A8A" if row == column else "black")
        ax.set_xticks(range(n), [readable(name) for name in overlap.columns])
        ax.set_yticks(range(n), [readable(name) for name in overlap.index])
        ax.tick_params(length=0)
        ax.set(xlabel="the other smears say", ylabel="label given")
        ax.set_title("Overlap, of the cells that nets are sure of")
    return figure


def plot_duplicates(crops: np.ndarray, pairs: pd.DataFrame) -> Figure:
    """The twelve nearest pairs side by side, each under the names of both cells, its distance and the bits of its hash.

    Args:
        crops: uint8 [N, S, S, 3], all of them.
        pairs: of `rbcnb.labels.duplicate_cells`.

    Raises:
        ValueError: a column is missing, or there are no rows.
    """
    require(pairs, ["first", "second", SMEAR, CELL, f"other_{SMEAR}", f"other_{CELL}", "distance"], "the list of pairs")
    shown = list(pairs.head(12).itertuples())
    columns = min(4, len(shown))
    rows = -(-len(shown) // columns)
    with rc():
        figure, axes = new_figure(2.6 * max(columns, 2), 1.95 * rows, rows, columns)
        for ax in axes.flat[len(shown) :]:
            ax.set_axis_off()
        for ax, pair in zip(axes.flat, shown, strict=False):
            first, second = crops[pair.first], crops[pair.second]
            gap = np.full((len(first), max(1, len(first) // 16), 3), 255, np.uint8)
            show_image(ax, np.hstack([first, gap, second]))
            names = f"{pair.smear}, {pair.cell}\n{pair.other_smear}, {pair.other_cell}"
            ax.set_title(f"{names}\ndistance {pair.distance:.3f}, {pair.hash_bits} bits", fontsize=8)
    return figure
