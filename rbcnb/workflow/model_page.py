"""How good a model is, as one page that opens offline: what it can tell, its scores, and the cells it got wrong."""

import base64
import html
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from rbcnb._utils.files import atomic_write
from rbcnb.columns import CELL, PRED, SMEAR, TARGET, readable
from rbcnb.counting.differential import CRITICAL, wilson
from rbcnb.evaluation.inference import interval_of_macro_f1
from rbcnb.evaluation.metrics import confident_mistakes, confusion_table
from rbcnb.plotting.cells import plot_mistakes
from rbcnb.plotting.evaluation import plot_confusion
from rbcnb.plotting.style import png
from rbcnb.workflow.report import HEAD, STYLE

PAGE, MISTAKES_CSV = "model.html", "mistakes.csv"
_MOST_SHOWN = 48


def write_model_page(
    folder: Path,
    judged: pd.DataFrame,
    doubts: Mapping[str, str],
    *,
    crops: np.ndarray,
    cells: pd.DataFrame,
    verdict: str,
    notes: Sequence[str],
) -> Path:
    """Writes the page, and the table of mistakes for ``rbcnb label --flagged``, into *folder*; returns the page's path.

    Args:
        folder: of `rbcnb segment`.
        judged: predictions of whole cells by networks that were not fitted on their smears.
        doubts: of `rbcnb.counting.class_doubts.class_doubts`.
        crops: uint8 [N, S, S, 3] of *cells*, in their order.
        cells: labelled, ``smear`` and ``cell``.
        verdict: what the model is good for.
        notes: what was left out.
    """
    mistakes = confident_mistakes(judged, n=len(judged))
    with atomic_write(folder / MISTAKES_CSV) as part:
        mistakes[[SMEAR, CELL, TARGET, PRED, "probability"]].to_csv(part, index=False, float_format="%.4f")
    shown = mistakes.head(_MOST_SHOWN)
    place = pd.Series(range(len(cells)), index=pd.MultiIndex.from_frame(cells[[SMEAR, CELL]]))
    pictures = crops[place.reindex(pd.MultiIndex.from_frame(shown[[SMEAR, CELL]])).to_numpy(int)]
    again = shlex.join(
        ["rbcnb", "label", str(folder), "--reader", "YOUR_NAME", "--flagged", str(folder / MISTAKES_CSV)]
    )
    parts = [
        HEAD,
        f"<title>model: {html.escape(folder.resolve().name)}</title><style>{STYLE}</style>",
        f"<h1>A model of {html.escape(folder.resolve().name)}</h1><p><b>{html.escape(verdict)}</b></p>",
        f"<p>{html.escape(scores_text(judged))}</p>",
        *(f"<p class=note>{html.escape(note)}</p>" for note in notes),
        "<h2>What it called the cells of each class</h2>",
        _picture(plot_confusion({"smears it was not fitted on": confusion_table(judged)}), "confusion matrix"),
        _classes(judged, doubts),
        "<p class=note>In brackets 95 % intervals, of macro F1 over smears, of shares over cells.</p>",
        f"<h2>{len(mistakes)} of {len(judged)} cells called otherwise than they are labelled</h2>",
        "<p>The surest first. Some may be labelled wrongly; to read them again:</p>",
        f"<pre>{html.escape(again)}</pre>",
        _picture(plot_mistakes(pictures, shown), "cells, their label, and what they were called"),
    ]
    with atomic_write(folder / PAGE) as part:
        part.write_text("\n".join(parts), encoding="utf-8")
    return folder / PAGE


def scores_text(judged: pd.DataFrame) -> str:
    """Macro F1 with an interval over smears, in a sentence."""
    score = interval_of_macro_f1([judged], seed=0)
    interval = f" [{score.low:.2f}, {score.high:.2f}]" if np.isfinite(score.low) else " (one smear gives no interval)"
    return (
        f"Macro F1 {score.mean:.2f}{interval} over {score.n_groups} smears, {len(judged)} whole cells, each called by "
        "a network that was not fitted on its smear."
    )


def _share(hits: int, n_cells: int) -> str:
    """A share with Wilson's 95 % interval; nothing where there is no cell."""
    if not n_cells:
        return ""
    low, high = wilson(hits, n_cells, critical=CRITICAL)
    return f"{hits / n_cells:.0%} [{low:.0%}, {high:.0%}]"


def _classes(judged: pd.DataFrame, doubts: Mapping[str, str]) -> str:
    rows = []
    for name, doubt in doubts.items():
        right = (judged[TARGET] == name) & (judged[PRED] == name)
        sides = [(judged[column] == name).sum() for column in (TARGET, PRED)]
        shares = [_share(right.sum(), n_cells) for n_cells in sides]
        rows.append([readable(name), sides[0], *shares, doubt or "can be told"])
    head = ["class", "cells", "found (recall)", "right where called so (precision)", ""]
    table = "".join("<tr>" + "".join(f"<td>{html.escape(str(value))}</td>" for value in row) + "</tr>" for row in rows)
    return "<table><tr>" + "".join(f"<th>{name}</th>" for name in head) + f"</tr>{table}</table>"


def _picture(figure: Figure, words: str) -> str:
    data = base64.b64encode(png(figure)).decode("ascii")
    return f'<img alt="{words}" src="data:image/png;base64,{data}">'
