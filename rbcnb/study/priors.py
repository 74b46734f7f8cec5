"""Class priors of fits: the cells of each class that a fit was trained on, and its predictions without that prior."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from rbcnb.columns import DEV, LABEL, SPLIT, class_names
from rbcnb.evaluation.prior_shift import BALANCED, shift_predictions
from rbcnb.study.store import predictions_by_method
from rbcnb.training.splits import split_name
from rbcnb.training.trial import ALL_CELLS

Splits = Mapping[str, pd.DataFrame]  # name of an outer split (`rbcnb.training.outer_splits`) -> its cells


def training_counts(protocol: str, outer: int, dev_counts: str, splits: Splits) -> dict[str, int]:
    """Class -> development cells that a fit is trained on, before re-sampling; of the paper's rungs nothing is known.

    Args:
        protocol, outer, dev_counts: of the fit's `rbcnb.training.Trial`.
        splits: with its outer split.
    """
    cells = splits[split_name(protocol, outer)]
    available = cells.loc[cells[SPLIT] == DEV, LABEL].value_counts().to_dict()
    if dev_counts == ALL_CELLS:
        return available
    return dict(zip(class_names(available), map(int, dev_counts.split("/")), strict=True))


def training_prior(fits: pd.DataFrame, splits: Splits) -> dict[str, int]:
    """Class -> cells that *fits* of one rung are trained on, all its outer splits together."""
    places = fits[["protocol", "outer", "dev_counts"]].drop_duplicates().itertuples(index=False)
    return pd.DataFrame([training_counts(*place, splits) for place in places]).sum().to_dict()


def priors_divided_out(
    fits: pd.DataFrame, splits: Splits, store: str | Path
) -> dict[tuple[str, str], list[pd.DataFrame]]:
    """`rbcnb.study.predictions_by_method` of *fits*, each under equal priors: its own training prior is divided out.

    Focal loss's probabilities are first mapped back to the posterior that they stand for
    (`rbcnb.evaluation.focal_posterior`; its one alpha cancels).

    Args:
        fits: rows of `rbcnb.study.run_study` with cross entropy or focal loss, without re-sampling.
        splits: with their outer splits.
        store: where they lie.
    """

    def divided(fit: Any, table: pd.DataFrame) -> pd.DataFrame:
        prior = training_counts(fit.protocol, fit.outer, fit.dev_counts, splits)
        gamma = fit.gamma if fit.loss == "focal" else None
        return shift_predictions(table, old_prior=prior, new_prior=BALANCED, gamma=gamma)

    return predictions_by_method(fits, store, change=divided)
