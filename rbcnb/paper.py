"""The paper's settings, tables and claims as data, what its numbers come to, and how this package reads its text.

Source: K. Pasupa, S. Vatathanavaro, S. Tungjitnob, "Convolutional neural networks based focal loss for class imbalance
problem: a case study of canine red blood cells morphology classification" (2020). Scores are fractions from 0 to 1 with
the printed precision (the paper prints accuracy in percent); methods and architectures carry this package's names.
"""

from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import pandas as pd

from rbcnb.columns import CLASSES

# table1.csv to table3.csv as printed; figure11.csv: counts; claims.csv and readings.csv; checks.csv and spread.csv, by
# benchmarks/paper_numbers.py.
# In table1.csv and table3.csv "bold" names the scores of a row that are printed in bold type.
# In table2.csv codocyte, hypochromia, normal and total count cells; percent_* are the "class distributions" as printed.
TABLES = Path(__file__).with_name("paper_tables")
CHECKS, SPREAD = TABLES / "checks.csv", TABLES / "spread.csv"
SETTINGS = MappingProxyType(
    {
        "n_smears": 22,  # section 4.1
        "class_counts": MappingProxyType(dict(zip(CLASSES, (345, 356, 2691), strict=True))),  # section 4.1
        "size_px": 224,  # section 4.1, side of a crop and expected cell diameter
        "test_fraction": 0.3,  # section 4.2
        "n_folds": 5,  # section 4.2
        "alphas": (0.25, 0.50, 0.75, 1.00, 1.25, 1.50, 1.75),  # section 4.2
        "gamma": 2.0,  # section 4.2
        "batch_size": 32,  # section 4.2
        "learning_rate": 1e-3,  # section 4.2, Adam
        "max_epochs": 100,  # section 4.2
        "rotation_degrees": 15,  # section 4.2, over-sampling
    }
)


def _table(name: str) -> pd.DataFrame:
    """A printed table as it lies in ``paper_tables``, its accuracies turned from percent into fractions."""
    table = pd.read_csv(TABLES / f"{name}.csv").fillna({"bold": ""})
    return table.assign(accuracy=(table["accuracy"] / 100).round(4)) if "accuracy" in table else table


TABLE1, TABLE2, TABLE3 = _table("table1"), _table("table2"), _table("table3")
# Fig. 11 (a) to (d), by (architecture, method): rows are the output (predicted) class, columns the target class.
CONFUSION = MappingProxyType(
    {
        key: rows.set_index("pred")[list(CLASSES)].rename_axis(columns="target")
        for key, rows in _table("figure11").groupby(["architecture", "method"], sort=False)
    }
)


@dataclass(frozen=True)
class Claim:
    """A claim of the text; `rbcnb.evaluation.verdicts` says which comparisons bear on it."""

    id: str
    place: str
    quote: str


CLAIMS = tuple(Claim(*row) for row in pd.read_csv(TABLES / "claims.csv").itertuples(index=False))


def load_readings() -> pd.DataFrame:
    """Where the paper leaves open what was done, and how this package reads it under ``protocol: paper``.

    Returns:
        ``place`` in the paper; ``printed``, its words; ``our_reading``; ``other_reading``, what the words allow, too;
        ``code``, the name in this package that decides it. All are text.
    """
    return pd.read_csv(TABLES / "readings.csv", keep_default_na=False)


def load_checks() -> pd.DataFrame:
    """Every published number and claim that print alone allows to check, beside what it comes to.

    Computed from the tables above by ``python benchmarks/paper_numbers.py``, which writes ``paper_tables/checks.csv``.

    Returns:
        ``claim`` (id in `CLAIMS`, or empty), ``place``, ``number``, ``published``, ``recomputed`` (both as text),
        ``agrees`` (True, False, or missing where the row is a remark rather than a check), ``remark``. A claim can have
        several rows.
    """
    return pd.read_csv(CHECKS, dtype={"agrees": "boolean"}, keep_default_na=False, na_values={"agrees": [""]})


def load_spread() -> pd.DataFrame:
    """What the spread of Table 1's alphas implies for the best of them, per architecture, in macro F1.

    Computed by ``python benchmarks/paper_numbers.py``, which writes ``paper_tables/spread.csv``.

    Returns:
        ``architecture``; ``runs``, ``mean``, ``sd`` (n - 1) and ``best`` of the alphas; ``cross_entropy``, its one run;
        ``gain`` of the best over it; ``expected_gain`` if all runs were equally good with this sd; ``chance``, then, of
        a gain at least as large, and ``best_chance`` of a best at least as high around this mean (an sd of seven runs
        is itself uncertain by a third either way); ``beaten_by``, how many alphas lie above cross entropy; ``ties``.
    """
    return pd.read_csv(SPREAD)
