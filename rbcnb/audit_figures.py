"""Figures of the audit: doubted cells under their labels, classes that overlap, cells that are there twice."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from rbcnb.columns import CELL, LABEL, SMEAR
from rbcnb.pictures import plot_contact_sheet, show_image
from rbcnb.style import new_figure, rc, readable, require


def plot_suspects(crops: np.ndarray, issues: pd.DataFrame, *, columns: int = 10) -> Figure:
    """Doubted cells in the order of the queue, each under the label given, the one suggested, and its doubt.

    *crops*: uint8 [N,S,S,3], in the order of *issues* (``label``, ``suggested``, ``doubt``).
    """
    require(issues, [LABEL, "suggested", "doubt"], "the list of suspects")
    rows = zip(issues[LABEL], issues["suggested"], issues["doubt"], strict=True)
    titles = [f"{readable(given)}\n{readable(other)}?\n{doubt:.2f}" for given, other, doubt in rows]
    return plot_contact_sheet(crops, titles, columns=columns)


def plot_overlap(overlap: pd.DataFrame) -> Figure:
    """Which classes run into each other: row the label given, column the class that the model is sure of, in per cent.

    *overlap*: as of ``label_issues.class_overlap``. The shade follows the overlap alone; the diagonal stays white.
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


def plot_duplicates(crops: np.ndarray, pairs: pd.DataFrame, *, most: int = 12, columns: int = 4) -> Figure:
    """The nearest pairs side by side, each under the names of both cells, its distance and the bits of its hash.

    *crops*: uint8 [N,S,S,3], all of them; *pairs*: as of ``duplicates.duplicate_cells``.
    """
    require(pairs, ["first", "second", SMEAR, CELL, f"other_{SMEAR}", f"other_{CELL}", "distance"], "the list of pairs")
    shown = list(pairs.head(most).itertuples())
    columns = min(columns, len(shown))
    rows = -(-len(shown) // columns)
    with rc():
        figure, axes = new_figure(2.6 * max(columns, 2), 1.95 * rows, rows, columns)
        for ax in axes.flat[len(shown) :]:
            ax.set_axis_off()
        for ax, pair in zip(axes.flat, shown, strict=False):
            one, two = crops[pair.first], crops[pair.second]
            gap = np.full((len(one), max(1, len(one) // 16), 3), 255, np.uint8)
            show_image(ax, np.hstack([one, gap, two]))
            names = f"{pair.smear}, {pair.cell}\n{pair.other_smear}, {pair.other_cell}"
            ax.set_title(f"{names}\ndistance {pair.distance:.3f}, {pair.hash_bits} bits", fontsize=8)
    return figure
