"""Which held-out cells to look at: the surest of the right and of the wrong calls, and figures of them.

Tables and arrays in, tables and figures out; neither torch nor fastai is imported.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from rbcnb.columns import PRED, TARGET, classes_of_predictions, prob_columns
from rbcnb.pictures import plot_contact_sheet, show_image
from rbcnb.style import bare, new_figure, rc, readable

PROBABILITY = "probability"  # of the predicted class
ROW = "row"  # in the predictions table, and so in the held-out crops


def confident_mistakes(predictions: pd.DataFrame, *, n: int = 24) -> pd.DataFrame:
    """The *n* wrong calls with the highest probability, surest first; of equals in the table's order.

    Returns:
        ``row`` (of *predictions*), ``target``, ``pred``, ``probability``, and *predictions*' other columns but
        probabilities.
    """
    judged = _judged(predictions)
    wrong = judged[judged[PRED] != judged[TARGET]]
    return wrong.sort_values(PROBABILITY, ascending=False, kind="stable").head(n).reset_index(drop=True)


def examples_by_class(predictions: pd.DataFrame, *, n: int = 4) -> pd.DataFrame:
    """Per true class the *n* surest right and the *n* surest wrong calls: rows as of `confident_mistakes`."""
    judged = _judged(predictions).sort_values(PROBABILITY, ascending=False, kind="stable")
    judged["right"] = judged[PRED] == judged[TARGET]
    parts = [
        judged[(judged[TARGET] == name) & (judged["right"] == right)].head(n)
        for name in classes_of_predictions(predictions.columns)
        for right in (True, False)
    ]
    return pd.concat(parts, ignore_index=True)


def _judged(predictions: pd.DataFrame) -> pd.DataFrame:
    columns = prob_columns(classes_of_predictions(predictions.columns))
    table = predictions.drop(columns=columns).assign(**{PROBABILITY: predictions[columns].max(axis=1)})
    table.insert(0, ROW, np.arange(len(table)))
    return table


def plot_mistakes(crops: np.ndarray, mistakes: pd.DataFrame, *, columns: int = 8) -> Figure:
    """*mistakes* (`confident_mistakes`) as pictures: given label, then what was predicted and how surely.

    *crops* [M,S,S,3]: of the rows of *mistakes*, in their order. Without a mistake, a figure that says so.
    """
    if mistakes.empty:
        with rc():
            figure, axes = new_figure(4.0, 0.8)
            bare(axes[0, 0]).text(0.5, 0.5, "no mistake among the held-out cells", ha="center", va="center")
        return figure
    titles = [f"{readable(row.target)}\n→{readable(row.pred)}\n{row.probability:.2f}" for row in mistakes.itertuples()]
    return plot_contact_sheet(crops, titles, columns=columns)


def plot_heat(crops: np.ndarray, heat: np.ndarray, examples: pd.DataFrame, *, classes: Sequence[str]) -> Figure:
    """What speaks for the predicted class: a row per true class, right calls on the left and wrong ones on the right.

    Each example is shown twice, bare and under its heat (`rbcnb.gradcam.grad_cam`, 0 to 1, dark red is 1).

    *crops* [M,S,S,3] and *heat* [M,S,S]: of the rows of *examples* (`examples_by_class`), in their order.
    """
    if not len(crops) == len(heat) == len(examples):
        raise ValueError(f"one crop, heat and row each are needed, got {len(crops)}, {len(heat)} and {len(examples)}")
    per_side = int(examples.groupby([TARGET, "right"]).size().max())
    with rc():
        figure, axes = new_figure(1.15 * 2 * per_side + 1.0, 2.55 * len(classes), 2 * len(classes), 2 * per_side)
        for ax in axes.flat:
            bare(ax)
        for i, name in enumerate(classes):
            for right in (True, False):
                chosen = np.flatnonzero((examples[TARGET] == name) & (examples["right"] == right))
                start = 0 if right else per_side
                for j, row in enumerate(chosen):
                    top, bottom = axes[2 * i, start + j], axes[2 * i + 1, start + j]
                    told = examples.iloc[row]
                    called = "" if right else f"{readable(told[PRED])}\n"
                    show_image(top, crops[row], f"{called}{told[PROBABILITY]:.2f}")
                    top.title.set_fontsize(8)
                    show_image(bottom, crops[row])
                    bottom.imshow(heat[row], cmap="turbo", vmin=0, vmax=1, alpha=0.45)
                if not len(chosen):
                    axes[2 * i, start].text(0, 0.5, "none", fontsize=9, transform=axes[2 * i, start].transAxes)
            axes[2 * i, 0].set_ylabel(readable(name), fontsize=11, fontweight="bold")
        figure.suptitle("right calls, surest first" + " " * 40 + "wrong calls, surest first")
    return figure
