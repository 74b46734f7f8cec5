"""Which held-out cells to look at: the surest of the right and of the wrong calls, and figures of them.

Tables and arrays in, tables and figures out; neither torch nor fastai is imported.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.transforms import blended_transform_factory

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

    Each example is shown twice, bare and under its heat (`rbcnb.gradcam.grad_cam`, 0 to 1, dark red is 1); above it
    what it was called, and how surely.

    *crops* [M,S,S,3] and *heat* [M,S,S]: of the rows of *examples* (`examples_by_class`), in their order.
    """
    if not len(crops) == len(heat) == len(examples):
        raise ValueError(f"one crop, heat and row each are needed, got {len(crops)}, {len(heat)} and {len(examples)}")
    per_side = int(examples.groupby([TARGET, "right"]).size().max())
    with rc():
        height = 2.55 * len(classes) + 0.4
        widths = [1] * per_side + [0.15] + [1] * per_side  # a gap between the halves
        figure, axes = new_figure(2.3 * per_side + 1.2, height, 2 * len(classes), 2 * per_side + 1, width_ratios=widths)
        for ax in axes.flat:
            bare(ax).set_box_aspect(1)
        for ax in axes[:, per_side]:
            ax.remove()
        figure.get_layout_engine().set(rect=(0, 0, 1, 1 - 0.4 / height))
        for start, right in ((0, True), (per_side + 1, False)):
            # Above the half's first column, wherever that comes to lie, and as wide as it likes.
            place = blended_transform_factory(axes[0, start].transAxes, figure.transFigure)
            text = f"{'right' if right else 'wrong'} calls, surest first"
            axes[0, start].text(0, 1 - 0.12 / height, text, transform=place, va="top", fontsize=12).set_in_layout(False)
            for i, name in enumerate(classes):
                top, bottom = axes[2 * i, start:], axes[2 * i + 1, start:]
                chosen = np.flatnonzero((examples[TARGET] == name) & (examples["right"] == right))
                for j, row in enumerate(chosen):
                    told = examples.iloc[row]
                    show_image(top[j], crops[row])
                    top[j].set_title(f"{readable(told[PRED])}\n{told[PROBABILITY]:.2f}", fontsize=8)
                    show_image(bottom[j], crops[row])
                    bottom[j].imshow(heat[row], cmap="turbo", vmin=0, vmax=1, alpha=0.45)
                if not len(chosen):
                    top[0].text(0, 0.5, "none", fontsize=9, transform=top[0].transAxes)
                if right:
                    top[0].set_ylabel(readable(name), fontsize=11, fontweight="bold")
    return figure
