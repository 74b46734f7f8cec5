"""Tables 1 to 3 in one shape for the published numbers, the paper's protocol and the honest one.

A score of several outer splits is always that of a seed's pooled cells, all splits together, as differences between
methods are; a mean of scores per split is another number, and stands nowhere but in `resampled_t`.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from rbcnb.columns import (
    CLASSES,
    DEV,
    GROUP,
    LABEL,
    PRED,
    PUBLISHED,
    SCORES,
    SPLIT,
    TARGET,
    TEST,
    class_names,
    classes_of_predictions,
    readable,
)
from rbcnb.evaluation.calibration import calibrate
from rbcnb.evaluation.hypothesis_tests import ResampledT, corrected_resampled_t, mcnemar
from rbcnb.evaluation.inference import interval_of_macro_f1
from rbcnb.evaluation.metrics import cell_weights, macro_f1, score_predictions
from rbcnb.evaluation.prior_shift import Prior
from rbcnb.paper import TABLE1, TABLE2, TABLE3
from rbcnb.study.ladder import TABLE2_ARM
from rbcnb.study.protocols import method_rank
from rbcnb.study.store import fold_predictions, load_predictions, predictions_by_method
from rbcnb.training.splits import split_name

BALANCED = "balanced_macro_f1"
AT_RUNG = "rung_macro_f1"
RungPriors = Mapping[tuple[str, float], Mapping[str, int]]  # (arm, rho) -> class -> training cells
_NUMBERS = ("n_seeds", "n_splits")
_SPREAD = ("macro_f1_sd", "macro_f1_low", "macro_f1_high")
_RUNG = ("protocol", "arm", "rho", "rho_here")
TABLE1_COLUMNS = (
    "protocol",
    "architecture",
    "method",
    "alpha",
    "gamma",
    "learning_rate",
    "epochs",
    *SCORES,
    *_SPREAD,
    *_NUMBERS,
)
_REMEDY = "Add smears that hold it, or split with another seed."
_NO_TEST = (
    "its recall and AUROC are missing (NaN), means over classes leave it out, and macro F1 counts it, as 0, only where "
    f"cells are called so; not comparable with splits that test it. {_REMEDY}"
)
_NO_DEV = f"nothing can learn it, and each of its test cells is a mistake. {_REMEDY}"


def seed_scores(
    results: pd.DataFrame, by: Sequence[str], *, store: str | Path, rung_priors: RungPriors | None = None
) -> pd.DataFrame:
    """Scores of every seed's pooled cells: a row per group of *by* and seed (and repetition of the outer splits).

    Args:
        results: rows of `rbcnb.study.run_study`.
        by: columns that tell one method with its setting, or its rung, from another.
        store: where the predictions lie.
        rung_priors: (arm, rho) -> class -> training cells; of the ladder.

    Returns:
        *by*, `rbcnb.columns.SCORES`, of the ladder's fits ``balanced_macro_f1``, where every class counts alike, and
        where the prior of a rung is known ``rung_macro_f1``, where test cells are weighted to it.
    """
    parts = [
        _scores_of(tables, _priors(place, BALANCED in results, rung_priors)).assign(**place)
        for place, _, tables in _pooled(results, by, store)
    ]
    return pd.concat(parts, ignore_index=True)


def over_seeds(
    results: pd.DataFrame, by: Sequence[str], *, store: str | Path, seed: int, rung_priors: RungPriors | None = None
) -> pd.DataFrame:
    """Means over seeds of `seed_scores`, the numbers of seeds and outer splits, and the spread of macro F1.

    One estimand throughout: what a seed's networks score on all cells that they did not see, then the mean over seeds.
    ``macro_f1_sd`` is over seeds; ``macro_f1_low`` and ``macro_f1_high`` are the 95 % interval over smears and seeds of
    `rbcnb.evaluation.inference.interval_of_macro_f1`, of the same scores.
    """
    rows = []
    for place, fits, tables in _pooled(results, by, store):
        scores = _scores_of(tables, _priors(place, BALANCED in results, rung_priors))
        interval = interval_of_macro_f1(tables, seed=seed)
        spread = {"macro_f1_sd": scores["macro_f1"].std(ddof=1)}
        spread |= {"macro_f1_low": interval.low, "macro_f1_high": interval.high}
        numbers = {"n_seeds": fits["seed"].nunique(), "n_splits": fits["outer"].nunique()}
        rows.append(place | scores.mean().to_dict() | spread | numbers)
    return pd.DataFrame(rows)


def _pooled(
    results: pd.DataFrame, by: Sequence[str], store: str | Path
) -> Iterator[tuple[dict[str, Any], pd.DataFrame, list[pd.DataFrame]]]:
    """Per group of *by*: its values, its fits, and the predictions of each seed."""
    for values, fits in results.groupby(list(by), dropna=False, sort=False):
        (tables,) = predictions_by_method(fits, store).values()
        yield dict(zip(by, values, strict=True)), fits, tables


def _priors(place: Mapping[str, Any], on_ladder: bool, rung_priors: RungPriors | None) -> dict[str, Prior]:
    """Column -> prevalence at which macro F1 is shown beside the natural one."""
    priors: dict[str, Prior] = {BALANCED: "balanced"} if on_ladder else {}
    rung = place.get("arm"), place.get("rho")
    return priors | ({AT_RUNG: rung_priors[rung]} if rung_priors and rung in rung_priors else {})


def _scores_of(tables: Sequence[pd.DataFrame], priors: Mapping[str, Prior]) -> pd.DataFrame:
    """A row per table: its scores, and its macro F1 at other prevalences."""
    rows = []
    for table in tables:
        scores = score_predictions(table)
        weighted = {name: _weighted_f1(table, prior) for name, prior in priors.items()}
        rows.append({score: scores[score] for score in SCORES} | weighted)
    return pd.DataFrame(rows)


def _weighted_f1(table: pd.DataFrame, prior: Prior) -> float:
    """Macro F1 of a predictions *table* whose cells are weighted to the shares of *prior*."""
    targets, preds = (table[name].to_numpy() for name in (TARGET, PRED))
    return macro_f1(targets, preds, weights=cell_weights(targets, classes_of_predictions(table.columns), prior))


def table1(results: Mapping[str, pd.DataFrame], store: str | Path, *, seed: int) -> pd.DataFrame:
    """Table 1: one row per protocol, architecture, method and alpha; the published rows first.

    The honest protocol's row of a method is of the pooled cells of its outer splits, which choose their settings each
    for itself; a setting that they do not share is left empty.

    Args:
        results: protocol -> final fits of `rbcnb.study.run_study`.
        store: where their predictions lie.
        seed: of the intervals' bootstrap.
    """
    parts = [TABLE1.assign(protocol=PUBLISHED, n_seeds=1, n_splits=1)]
    for protocol, rows in results.items():
        chosen = ["alpha", "gamma", "learning_rate", "epochs"]
        if protocol == "honest":
            by_method = rows.groupby(["architecture", "method"], sort=False)
            rows = rows.assign(**{name: by_method[name].transform(_shared) for name in chosen})
        by = ["architecture", "method", *chosen]
        summary = over_seeds(rows, by, store=store, seed=seed).assign(protocol=protocol)
        order = summary["method"].map(method_rank)
        parts.append(summary.assign(order=order).sort_values(["architecture", "order", "alpha"], kind="stable"))
    return pd.concat(parts, ignore_index=True).reindex(columns=list(TABLE1_COLUMNS))


def beside_published(table: pd.DataFrame, index: list[str], *, score: str = "macro_f1") -> pd.DataFrame:
    """A score of Table 1 or 3 as text, a column per protocol and architecture: published | paper | honest.

    Args:
        table: of `table1` or `table3`.
        index: what names a row of it.
        score: a column; macro F1 is shown with its interval where there is one.
    """

    def score_text(row: pd.Series) -> str:
        limits = [row.get(f"{score}_{end}", math.nan) for end in ("low", "high")]
        if math.isnan(limits[0]):
            return f"{row[score]:.2f}" if row["protocol"] == PUBLISHED else f"{row[score]:.3f}"
        return f"{row[score]:.3f} [{limits[0]:.2f}, {limits[1]:.2f}]"

    wide = table.assign(
        score_text=table.apply(score_text, axis=1),
        method=table["method"].map(readable),
        architecture=table["architecture"].map(readable),
    )
    # A method without alpha has one row, whatever stands for it.
    wide[index] = wide[index].astype(object).where(wide[index].notna(), "–")
    columns = ["protocol", "architecture"]
    return wide.pivot_table("score_text", index, columns, aggfunc="first", sort=False).fillna("")


def _shared(values: pd.Series) -> float:
    return values.iloc[0] if (values == values.iloc[0]).all() else float("nan")


def over_splits(
    fits: pd.DataFrame, first: str, second: str, splits: Mapping[str, pd.DataFrame]
) -> dict[str, float] | None:
    """Nadeau and Bengio's interval of a difference in macro F1 over the outer splits that both methods were fitted on.

    Args:
        fits: final fits of one network, one setting per method and outer split, with ``macro_f1``.
        first, second: methods.
        splits: name of each outer split -> its cells; as folds are of smears, smears are what is counted.

    Returns:
        ``n_splits`` and the fields of `rbcnb.evaluation.hypothesis_tests.ResampledT`, of the first minus the second;
        None with fewer than two splits.
    """
    means = fits.pivot_table("macro_f1", index="method", columns=["protocol", "outer"])
    if not {first, second} <= set(means.index):
        return None
    gaps = (means.loc[first] - means.loc[second]).dropna()
    if len(gaps) < 2:
        return None
    cells = [splits[split_name(*place)] for place in gaps.index]
    sizes = {
        part: float(np.mean([rows.loc[rows[SPLIT] == part, GROUP].nunique() for rows in cells])) for part in (DEV, TEST)
    }
    test = corrected_resampled_t(gaps, n_train=sizes[DEV], n_test=sizes[TEST])
    return {"n_splits": len(gaps), **asdict(test)}


def resampled_t(results: pd.DataFrame, splits: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """`over_splits` of every method's macro F1 minus cross entropy's.

    Args:
        results: final fits of the honest protocol, one setting per method and outer split; of one split there is
            nothing to tell.
        splits: name of each outer split -> its cells.
    """
    rows = []
    for (architecture, method), _ in results.groupby(["architecture", "method"], sort=False):
        architecture_rows = results[results["architecture"] == architecture]
        test = None if method == "cross_entropy" else over_splits(architecture_rows, method, "cross_entropy", splits)
        if test is not None:
            rows.append({"architecture": architecture, "method": method, **test})
    names = ["architecture", "method", "n_splits", *(field.name for field in fields(ResampledT))]
    return pd.DataFrame(rows, columns=names)


def mcnemar_table(predictions: Mapping[tuple[str, str], Sequence[pd.DataFrame]]) -> pd.DataFrame:
    """Exact McNemar test of the two networks of Fig. 11, per architecture: the first fits of focal loss and its rival.

    Args:
        predictions: (architecture, method) -> a table per fit.
    """
    rows = []
    for architecture in dict.fromkeys(architecture for architecture, _ in predictions):
        pair = [predictions.get((architecture, method)) for method in ("focal", "cross_entropy")]
        if all(pair):
            first, second = (tables[0] for tables in pair)
            names = {"architecture": architecture, "first": "focal", "second": "cross_entropy"}
            rows.append(names | {"n_cells": len(first)} | asdict(mcnemar(first, second)))
    return pd.DataFrame(rows)


def table2(ladders: Mapping[tuple[str, str], Mapping[float, Mapping[str, int]]]) -> pd.DataFrame:
    """Table 2: cells per class on every rung; the published rows first.

    ``rho`` names the rung by the paper's ratio, ``rho_here`` is Eq. (5) on the cells counted: of the whole rung under
    the paper's protocol, of the training cells under the honest one, whose test set is the same for all.

    Args:
        ladders: (protocol, arm) -> rho -> class -> cells.
    """
    published = {row["rho"]: {name: int(row[name]) for name in CLASSES} for row in TABLE2.to_dict("records")}
    rows = [
        {
            "protocol": protocol,
            "arm": arm,
            "rho": rho,
            **counts,
            "rho_here": max(counts.values()) / min(counts.values()),
        }
        for (protocol, arm), ladder in {(PUBLISHED, TABLE2_ARM): published, **ladders}.items()
        for rho, counts in ladder.items()
    ]
    table = pd.DataFrame(rows)
    return table.assign(total=table.drop(columns=list(_RUNG)).sum(axis=1).astype(int))


def table3(
    results: Mapping[str, pd.DataFrame],
    store: str | Path,
    *,
    seed: int,
    rung_priors: RungPriors | None = None,
) -> pd.DataFrame:
    """Table 3: the methods on every rung of every arm; the published rows first.

    Args:
        results: protocol -> fits of every rung, with ``arm``, ``rho`` and (`with_balanced`) ``balanced_macro_f1``.
        store: where their predictions lie.
        seed: of the intervals' bootstrap.
        rung_priors: (arm, rho) -> class -> training cells of the honest protocol, for ``rung_macro_f1``: under the
            paper's protocol test cells are of the rung, and its macro F1 is that already.
    """
    by = ["arm", "rho", "architecture", "method"]
    parts = [TABLE3.assign(protocol=PUBLISHED, arm=TABLE2_ARM, n_seeds=1, n_splits=1)]
    for protocol, rows in results.items():
        priors = rung_priors if protocol == "honest" else None
        parts.append(over_seeds(rows, by, store=store, seed=seed, rung_priors=priors).assign(protocol=protocol))
    columns = ["protocol", *by, *SCORES, BALANCED, AT_RUNG, *_SPREAD, *_NUMBERS]
    return pd.concat(parts, ignore_index=True).reindex(columns=columns)


def with_balanced(results: pd.DataFrame, store: str | Path) -> pd.DataFrame:
    """Adds ``balanced_macro_f1``: the same predictions on a test set where every class counts alike.

    Training cells differ from rung to rung, the test set does not: at its natural prevalence a rare class taken for
    a common one costs little precision, here as much as any other mistake.
    """
    scores = [_weighted_f1(load_predictions(store, key), "balanced") for key in results["key"]]
    return results.assign(**{BALANCED: scores})


def with_panel_title(rows: pd.DataFrame, protocol: str) -> pd.DataFrame:
    """*rows* with the protocol, and the arm where there is one, beside the architecture, as figures name a panel.

    Args:
        rows: ``architecture`` and, of the ladder's fits, ``arm``.
        protocol: which *rows* are of, such as "honest".

    Returns:
        A copy, whose ``architecture`` is such as "ResNet-50, honest protocol, Table 2".
    """
    names = rows["architecture"].map(readable) + f", {protocol} protocol"
    return rows.assign(architecture=names + ", " + rows["arm"].map(readable) if "arm" in rows else names)


def majority_baseline(cells: pd.DataFrame) -> pd.DataFrame:
    """Scores of calling every test cell the most frequent class of the development cells: the least to beat.

    Args:
        cells: ``label`` and ``split``.

    Returns:
        One row: ``accuracy``, ``macro_f1``, and ``auroc``, which is 0.5, or NaN where all test cells are of one class.
    """
    test = cells.loc[cells[SPLIT] == TEST, LABEL].to_numpy()
    majority = cells.loc[cells[SPLIT] == DEV, LABEL].value_counts().idxmax()
    scores = {"accuracy": float((test == majority).mean()), "macro_f1": macro_f1(test, np.full_like(test, majority))}
    return pd.DataFrame([scores | {"auroc": 0.5 if len(set(test)) > 1 else math.nan}])


def absent_classes(splits: Mapping[str, pd.DataFrame]) -> str:
    """Which classes are missing among the test or training cells of a split, what that does to scores, and the remedy.

    The honest protocol refuses such splits; the paper's, random over cells, can make them of a small run or rung.

    Args:
        splits: what each is called (protocol, outer split, rung) -> the output of `rbcnb.training.assign_splits`.

    Returns:
        A sentence per split and class, or one that says that none is absent.
    """
    classes = class_names(pd.concat([cells[LABEL] for cells in splits.values()]))
    sentences = []
    for where, cells in splits.items():
        test, dev = (set(cells.loc[cells[SPLIT] == part, LABEL]) for part in (TEST, DEV))
        sentences += [
            f"{where}: no test cell is of the class {name}: {_NO_TEST}" for name in classes if name not in test
        ]
        sentences += [
            f"{where}: no training cell is of the class {name}: {_NO_DEV}" for name in classes if name not in dev
        ]
    return "\n".join(sentences) or "Every class has training and test cells."


def forecasts_of(fits: pd.DataFrame, folds: pd.DataFrame, store: str | Path) -> dict[str, list[pd.DataFrame]]:
    """Per architecture and method: test predictions of all its fits, and the same under their folds' temperature.

    Args:
        fits: final fits, rows of `rbcnb.study.run_study`, one setting per architecture, method and outer split.
        folds: rows of the study on folds that their settings were chosen by.
        store: that both lie in.

    Returns:
        Name (with T, where scaled) -> a predictions table per fit.
    """
    found = {}
    for (architecture, method), method_fits in fits.groupby(["architecture", "method"], sort=False):
        plain, scaled, temperatures = [], [], []
        for _, alike in method_fits.groupby("outer"):
            dev = fold_predictions(alike.iloc[0], folds, store)  # of the setting, whatever the final fit's seed
            for key in alike["key"]:
                test = load_predictions(store, key)
                calibrated, temperature = calibrate(dev, test)
                plain.append(test)
                scaled.append(calibrated)
                temperatures.append(f"{temperature:.2f}")
        name = f"{readable(architecture)}, {readable(method)}"
        spread = " to ".join(sorted({min(temperatures, key=float), max(temperatures, key=float)}, key=float))
        found |= {name: plain, f"{name}, T = {spread}": scaled}
    return found
