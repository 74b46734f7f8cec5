"""Which held-out cells to look at: the surest of the right and of the wrong calls."""

import numpy as np
import pandas as pd

from rbcnb.columns import PRED, TARGET, classes_of_predictions, prob_columns

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
