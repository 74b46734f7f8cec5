"""Tables 1 to 3 in one shape for the published numbers, the paper's protocol and the honest one."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from pathlib import Path

import numpy as np
import pandas as pd

from rbcnb.columns import CLASSES, DEV, LABEL, PUBLISHED, SCORES, SPLIT, TEST, class_names, readable
from rbcnb.evaluation.calibration import calibrate
from rbcnb.evaluation.hypothesis_tests import ResampledT, corrected_resampled_t, mcnemar
from rbcnb.evaluation.inference import interval_of_macro_f1
from rbcnb.evaluation.metrics import macro_f1, score_predictions
from rbcnb.paper import TABLE1, TABLE2, TABLE3
from rbcnb.study.ladder import TABLE2_ARM
from rbcnb.study.protocols import method_rank
from rbcnb.study.store import fold_predictions, load_predictions, predictions_by_method

BALANCED = "balanced_macro_f1"
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
_MEND = "Add smears that hold it, or split with another seed."
_NO_TEST = (
    "its recall and AUROC are missing (NaN), means over classes leave it out, and macro F1 counts it, as 0, only where "
    f"cells are called so; not comparable with splits that test it. {_MEND}"
)
_NO_DEV = f"nothing can learn it, and each of its test cells is a mistake. {_MEND}"


def over_seeds(results: pd.DataFrame, by: list[str], *, store: str | Path, seed: int) -> pd.DataFrame:
    """Means of the scores over fits (seeds, outer splits) and the numbers of these; of macro F1 its spread.

    ``macro_f1_sd`` is over fits; ``macro_f1_low`` and ``macro_f1_high`` are the 95 % interval over smears and seeds of
    `rbcnb.evaluation.inference.interval_of_macro_f1`, of the cells of all outer splits together.
    """
    grouped = results.groupby(by, dropna=False, sort=False)
    means = grouped[[name for name in (*SCORES, BALANCED) if name in results]].mean()
    means["macro_f1_sd"] = grouped["macro_f1"].std(ddof=1)
    limits = []
    for _, own in grouped:
        (tables,) = predictions_by_method(own, store).values()
        interval = interval_of_macro_f1(tables, seed=seed)
        limits.append((interval.low, interval.high))
    means[["macro_f1_low", "macro_f1_high"]] = np.array(limits).reshape(-1, 2)
    means["n_seeds"] = grouped["seed"].nunique()
    means["n_splits"] = grouped["outer"].nunique()
    return means.reset_index()


def table1(results: Mapping[str, pd.DataFrame], store: str | Path, *, seed: int) -> pd.DataFrame:
    """Table 1: one row per protocol, architecture, method and alpha; the published rows first.

    The honest protocol's row of a method is the mean over its outer splits, which choose their settings each for
    itself; a setting that they do not share is left empty.

    Args:
        results: protocol -> final fits of `rbcnb.study.run_study`.
        store: where their predictions lie.
        seed: of the intervals' bootstrap.
    """
    parts = [TABLE1.assign(protocol=PUBLISHED, n_seeds=1, n_splits=1)]
    for protocol, rows in results.items():
        chosen = ["alpha", "gamma", "learning_rate", "epochs"]
        if protocol == "honest":
            own = rows.groupby(["architecture", "method"], sort=False)
            rows = rows.assign(**{name: own[name].transform(_shared) for name in chosen})
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
        score: a column; macro F1 is told with its interval where there is one.
    """

    def told(row: pd.Series) -> str:
        limits = [row.get(f"{score}_{end}", math.nan) for end in ("low", "high")]
        if math.isnan(limits[0]):
            return f"{row[score]:.2f}" if row["protocol"] == PUBLISHED else f"{row[score]:.3f}"
        return f"{row[score]:.3f} [{limits[0]:.2f}, {limits[1]:.2f}]"

    wide = table.assign(
        told=table.apply(told, axis=1),
        method=table["method"].map(readable),
        architecture=table["architecture"].map(readable),
    )
    # A method without alpha has one row, whatever stands for it.
    wide[index] = wide[index].astype(object).where(wide[index].notna(), "–")
    columns = ["protocol", "architecture"]
    return wide.pivot_table("told", index, columns, aggfunc="first", sort=False).fillna("")


def _shared(values: pd.Series) -> float:
    return values.iloc[0] if (values == values.iloc[0]).all() else float("nan")


def resampled_t(results: pd.DataFrame, *, n_outer: int) -> pd.DataFrame:
    """Nadeau and Bengio's interval of every method's macro F1 minus cross entropy's, over the outer splits.

    Args:
        results: final fits of the honest protocol, one setting per method and outer split; of one split there is
            nothing to tell.
        n_outer: outer folds; a test set is to its training set as 1 to n_outer - 1.
    """
    means = results.pivot_table("macro_f1", index=["architecture", "method"], columns="outer", sort=False)
    rows = []
    for (architecture, method), scores in means.iterrows():
        if method == "cross_entropy" or (architecture, "cross_entropy") not in means.index:
            continue
        gaps = (scores - means.loc[(architecture, "cross_entropy")]).dropna()  # of the splits that both were fitted on
        if len(gaps) < 2:
            continue
        test = corrected_resampled_t(gaps, n_train=n_outer - 1, n_test=1)
        rows.append({"architecture": architecture, "method": method, "n_splits": len(gaps), **asdict(test)})
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


def table3(results: Mapping[str, pd.DataFrame], store: str | Path, *, seed: int) -> pd.DataFrame:
    """Table 3: the methods on every rung of every arm; the published rows first.

    Args:
        results: protocol -> fits of every rung, with ``arm``, ``rho`` and (`with_balanced`) ``balanced_macro_f1``.
        store: where their predictions lie.
        seed: of the intervals' bootstrap.
    """
    by = ["arm", "rho", "architecture", "method"]
    parts = [TABLE3.assign(protocol=PUBLISHED, arm=TABLE2_ARM, n_seeds=1, n_splits=1)]
    parts += [
        over_seeds(rows, by, store=store, seed=seed).assign(protocol=protocol) for protocol, rows in results.items()
    ]
    columns = ["protocol", *by, *SCORES, BALANCED, *_SPREAD, *_NUMBERS]
    return pd.concat(parts, ignore_index=True).reindex(columns=columns)


def with_balanced(results: pd.DataFrame, store: str | Path) -> pd.DataFrame:
    """Adds ``balanced_macro_f1``: the same predictions on a test set where every class counts alike.

    Training cells differ from rung to rung, the test set does not: at its natural prevalence a rare class taken for
    a common one costs little precision, here as much as any other mistake.
    """
    scores = [score_predictions(load_predictions(store, key), balance=True)["macro_f1"] for key in results["key"]]
    return results.assign(**{BALANCED: scores})


def with_panel_title(rows: pd.DataFrame, protocol: str) -> pd.DataFrame:
    """*rows* with the protocol, and the arm where there is one, beside the architecture, as figures name a panel."""
    names = rows["architecture"].map(readable) + f", {protocol} protocol"
    return rows.assign(architecture=names + ", " + rows["arm"].map(readable) if "arm" in rows else names)


def majority_baseline(cells: pd.DataFrame) -> pd.DataFrame:
    """What calling every test cell by the most frequent class scores: the least that a classifier must beat."""
    test = cells.loc[cells[SPLIT] == TEST, LABEL].to_numpy()
    majority = cells.loc[cells[SPLIT] == DEV, LABEL].value_counts().idxmax()
    scores = {"accuracy": float((test == majority).mean()), "macro_f1": macro_f1(test, np.full_like(test, majority))}
    return pd.DataFrame([scores | {"auroc": 0.5 if len(set(test)) > 1 else math.nan}])


def absent_classes(splits: Mapping[str, pd.DataFrame]) -> str:
    """Which classes no test cell, or no training cell, of a split is of, what that does to scores, and the mend.

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
    for (architecture, method), own in fits.groupby(["architecture", "method"], sort=False):
        plain, scaled, temperatures = [], [], []
        for _, alike in own.groupby("outer"):
            dev = fold_predictions(alike.iloc[0], folds, store)  # of the setting, whatever the final fit's seed
            for key in alike["key"]:
                test = load_predictions(store, key)
                mended, temperature = calibrate(dev, test)
                plain.append(test)
                scaled.append(mended)
                temperatures.append(f"{temperature:.2f}")
        name = f"{readable(architecture)}, {readable(method)}"
        told = " to ".join(sorted({min(temperatures, key=float), max(temperatures, key=float)}, key=float))
        found |= {name: plain, f"{name}, T = {told}": scaled}
    return found
