"""Tables 1 to 3 in one shape for the published numbers, the paper's protocol and the honest one."""

from collections.abc import Mapping

import pandas as pd

from rbcnb.columns import CLASSES, DEV, LABEL, SCORES, SPLIT, TEST, class_names
from rbcnb.paper import TABLE1, TABLE2, TABLE3
from rbcnb.protocols import method_rank
from rbcnb.rungs import TABLE2_ARM
from rbcnb.style import readable

PUBLISHED = "published"
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
    "macro_f1_sd",
    "n_seeds",
)


def over_seeds(results: pd.DataFrame, by: list[str]) -> pd.DataFrame:
    """Means of the scores over seeds, the standard deviation of macro F1 (missing for one seed) and their number."""
    grouped = results.groupby(by, dropna=False, sort=False)
    means = grouped[list(SCORES)].mean()
    means["macro_f1_sd"] = grouped["macro_f1"].std(ddof=1)
    means["n_seeds"] = grouped["seed"].nunique()
    return means.reset_index()


def table1(results: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """Table 1: one row per protocol, architecture, method and alpha; the published rows first.

    Args:
        results: protocol -> final fits of `rbcnb.study.run_study`.
    """
    parts = [TABLE1.assign(protocol=PUBLISHED, n_seeds=1)]
    for protocol, rows in results.items():
        by = ["architecture", "method", "alpha", "gamma", "learning_rate", "epochs"]
        summary = over_seeds(rows, by).assign(protocol=protocol)
        order = summary["method"].map(method_rank)
        parts.append(summary.assign(order=order).sort_values(["architecture", "order", "alpha"], kind="stable"))
    return pd.concat(parts, ignore_index=True).reindex(columns=list(TABLE1_COLUMNS))


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


def table3(results: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """Table 3: focal loss and cross entropy on every rung; the published rows first.

    Args:
        results: protocol -> fits of every rung, with ``rho``.
    """
    parts = [TABLE3.assign(protocol=PUBLISHED, n_seeds=1)]
    parts += [
        over_seeds(rows, ["rho", "architecture", "method"]).assign(protocol=protocol)
        for protocol, rows in results.items()
    ]
    columns = ["protocol", "rho", "architecture", "method", *SCORES, "macro_f1_sd", "n_seeds"]
    return pd.concat(parts, ignore_index=True).reindex(columns=columns)


def under(rows: pd.DataFrame, protocol: str) -> pd.DataFrame:
    """*rows* with the protocol told beside the architecture, for figures that name a panel by it."""
    return rows.assign(architecture=rows["architecture"].map(readable) + f", {protocol} protocol")


def majority_baseline(cells: pd.DataFrame) -> pd.DataFrame:
    """What calling every test cell by the most frequent class scores: the least that a classifier must beat."""
    test = cells.loc[cells[SPLIT] == TEST, LABEL]
    dev = cells.loc[cells[SPLIT] == DEV, LABEL]
    names = class_names(cells[LABEL])
    majority = dev.value_counts().idxmax()
    share = float((test == majority).mean())
    # F1 of the majority class is 2 s / (1 + s) for its share s of the test set, and 0 for the others.
    return pd.DataFrame([{"accuracy": share, "macro_f1": 2 * share / (1 + share) / len(names), "auroc": 0.5}])
