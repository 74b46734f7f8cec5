"""The paper's settings, tables and claims as data, and what its printed numbers come to when they are recomputed.

Source: K. Pasupa, S. Vatathanavaro, S. Tungjitnob, "Convolutional neural networks based focal loss for class imbalance
problem: a case study of canine red blood cells morphology classification" (2020). Scores are fractions from 0 to 1 with
the printed precision (the paper prints accuracy in percent); methods and architectures carry this package's names.
"""

import io
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import pandas as pd

from rbcnb.columns import CLASSES

CHECKS = Path(__file__).with_name("paper_checks.csv")  # written by benchmarks/paper_numbers.py
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
# Columns codocyte, hypochromia, normal and total count cells; percent_* are the "class distributions" as printed.
TABLE2 = pd.read_csv(
    io.StringIO("""
percent_codocyte percent_hypochromia percent_normal rho   codocyte hypochromia normal total
25.0             25.0                50.0           2.03  345      356         701    1402
20.0             20.0                60.0           3.05  345      356         1052   1753
15.0             15.0                70.0           4.74  345      356         1636   2337
10.0             10.0                80.0           7.80  345      356         2691   3392
7.5              7.5                 85.0           11.35 237      237         2691   3165
5.0              5.0                 90.0           17.94 150      150         2691   2991
2.5              2.5                 95.0           37.90 71       71          2691   2833
"""),
    sep=r"\s+",
)
# The margins printed in Fig. 11, percent: recall of each class, precision of each class, accuracy.
_MARGINS = [f"{score}_{name}" for score in ("recall", "precision") for name in CLASSES] + ["accuracy"]
CONFUSION_PERCENT = pd.DataFrame(
    {
        ("densenet121", "cross_entropy"): (71.9, 83.5, 95.4, 87.0, 76.2, 94.2, 91.3),
        ("densenet121", "focal"): (75.2, 99.1, 98.2, 87.5, 99.1, 96.1, 95.6),
        ("resnet50", "cross_entropy"): (52.9, 98.3, 96.8, 80.0, 91.1, 93.0, 91.7),
        ("resnet50", "focal"): (59.5, 97.4, 97.3, 79.1, 97.4, 93.7, 92.8),
    },
    index=_MARGINS,
).T.rename_axis(["architecture", "method"])
# The share of all test cells printed in each square of Fig. 11, percent; rows output, columns target class.
CONFUSION_SHARES = MappingProxyType(
    {
        ("densenet121", "cross_entropy"): ((8.5, 0.0, 1.3), (0.7, 9.4, 2.3), (2.7, 1.9, 73.3)),
        ("densenet121", "focal"): ((8.9, 0.0, 1.3), (0.0, 11.2, 0.1), (2.9, 0.1, 75.4)),
        ("resnet50", "cross_entropy"): ((6.3, 0.1, 1.5), (0.1, 11.1, 1.0), (5.5, 0.1, 74.4)),
        ("resnet50", "focal"): ((7.1, 0.1, 1.8), (0.0, 11.0, 0.3), (4.8, 0.2, 74.8)),
    }
)


def _fractions(text: str) -> pd.DataFrame:
    """A printed table as written below, its accuracies turned from percent into fractions of the same precision."""
    table = pd.read_csv(io.StringIO(text), sep=r"\s+", na_values="-")
    table["accuracy"] = (table["accuracy"] / 100).round(4)
    return table


TABLE1 = _fractions("""
architecture method         alpha gamma epochs accuracy macro_f1 auroc
densenet121  focal          0.25  2     89     91.94    0.87     0.98
densenet121  focal          0.50  2     68     82.81    0.72     0.96
densenet121  focal          0.75  2     98     88.80    0.78     0.96
densenet121  focal          1.00  2     76     92.24    0.85     0.98
densenet121  focal          1.25  2     76     92.93    0.86     0.98
densenet121  focal          1.50  2     88     95.60    0.92     0.99
densenet121  focal          1.75  2     64     83.01    0.55     0.95
densenet121  cross_entropy  -     -     75     91.30    0.84     0.95
densenet121  under_sampling -     -     93     88.70    0.80     0.97
densenet121  over_sampling  -     -     95     95.28    0.91     0.99
resnet50     focal          0.25  2     34     83.50    0.61     0.93
resnet50     focal          0.50  2     83     86.44    0.71     0.96
resnet50     focal          0.75  2     36     89.49    0.81     0.94
resnet50     focal          1.00  2     90     92.80    0.87     0.97
resnet50     focal          1.25  2     79     92.04    0.85     0.97
resnet50     focal          1.50  2     93     89.19    0.83     0.97
resnet50     focal          1.75  2     73     85.17    0.78     0.93
resnet50     cross_entropy  -     -     57     91.70    0.85     0.96
resnet50     under_sampling -     -     68     84.68    0.78     0.94
resnet50     over_sampling  -     -     75     92.93    0.87     0.98
""")
TABLE3 = _fractions("""
rho   architecture method        accuracy macro_f1 auroc
2.03  densenet121  focal         89.79    0.90     0.97
2.03  densenet121  cross_entropy 86.22    0.84     0.97
2.03  resnet50     focal         88.36    0.88     0.97
2.03  resnet50     cross_entropy 88.36    0.87     0.97
3.05  densenet121  focal         91.63    0.90     0.98
3.05  densenet121  cross_entropy 89.92    0.88     0.97
3.05  resnet50     focal         89.16    0.88     0.97
3.05  resnet50     cross_entropy 83.27    0.81     0.94
4.74  densenet121  focal         87.61    0.84     0.95
4.74  densenet121  cross_entropy 87.32    0.83     0.95
4.74  resnet50     focal         90.60    0.86     0.97
4.74  resnet50     cross_entropy 90.03    0.84     0.95
7.80  densenet121  focal         95.60    0.92     0.99
7.80  densenet121  cross_entropy 91.30    0.84     0.95
7.80  resnet50     focal         92.8     0.87     0.97
7.80  resnet50     cross_entropy 91.7     0.85     0.96
11.35 densenet121  focal         96.32    0.91     0.99
11.35 densenet121  cross_entropy 92.00    0.79     0.97
11.35 resnet50     focal         92.11    0.81     0.95
11.35 resnet50     cross_entropy 93.37    0.80     0.94
17.94 densenet121  focal         96.10    0.85     0.98
17.94 densenet121  cross_entropy 93.99    0.78     0.97
17.94 resnet50     focal         94.32    0.79     0.94
17.94 resnet50     cross_entropy 92.43    0.78     0.94
37.90 densenet121  focal         94.00    0.59     0.92
37.90 densenet121  cross_entropy 96.12    0.57     0.94
37.90 resnet50     focal         94.82    0.56     0.92
37.90 resnet50     cross_entropy 94.82    0.51     0.88
""")


def _counts(*rows: tuple[int, int, int]) -> pd.DataFrame:
    return pd.DataFrame(rows, index=pd.Index(CLASSES, name="pred"), columns=pd.Index(CLASSES, name="target"))


# Fig. 11 (a) to (d): rows are the output (predicted) class, columns the target class.
CONFUSION = MappingProxyType(
    {
        ("densenet121", "cross_entropy"): _counts((87, 0, 13), (7, 96, 23), (27, 19, 746)),
        ("densenet121", "focal"): _counts((91, 0, 13), (0, 114, 1), (30, 1, 768)),
        ("resnet50", "cross_entropy"): _counts((64, 1, 15), (1, 113, 10), (56, 1, 757)),
        ("resnet50", "focal"): _counts((72, 1, 18), (0, 112, 3), (49, 2, 761)),
    }
)


@dataclass(frozen=True)
class Claim:
    """A claim of the text; `rbcnb.evaluation.verdicts` says which comparisons bear on it."""

    id: str
    place: str
    quote: str


CLAIMS = (
    Claim(
        "focal_beats_ce",
        "section 5, Table 1",
        "employing focal loss function in both models clearly improved their performances compared to those of both "
        "models with cross entropy loss function",
    ),
    Claim(
        "cases_densenet121",
        "section 5, Table 1",
        "outperformed the models with cross-entropy loss function in 4/7 cases",
    ),
    Claim("cases_resnet50", "section 5, Table 1", "while Resnet-50 with focal loss function did so in 2/7 cases"),
    Claim(
        "alpha_rises_to_peak",
        "section 5, Table 1",
        "slightly increased as α increased, until it reached a peak",
    ),
    Claim(
        "under_sampling_worst",
        "section 5, Table 1",
        "the deep learning models with either kind of loss function outperformed the models with cross entropy loss "
        "function in combination with the under-sampling technique",
    ),
    Claim(
        "over_sampling_in_line",
        "section 5, Table 1",
        "was able to improve the overall performances of the models to be in line with the performances of both models "
        "with focal loss function",
    ),
    Claim(
        "over_sampling_costs_more",
        "section 5",
        "performing the over-sampling technique led to a higher computational cost",
    ),
    Claim(
        "auroc_all_classes",
        "section 5, Fig. 10",
        "both models with focal loss function achieved higher AUROC (near 1) for all classes",
    ),
    Claim(
        "rare_because_rare",
        "section 5, Fig. 11",
        "it misclassified Codocyte to be Normal class for 5.5 % of the total number of samples. This implies that the "
        "model was biased towards the majority class",
    ),
    Claim(
        "better_in_two_classes",
        "section 5, Fig. 11",
        "when focal loss function was applied, the model did better in classifying Codocyte class and Normal class",
    ),
    Claim("accuracy_6_6", "section 5, Fig. 11", "This improved the model accuracy by 6.6 %"),
    Claim("codocyte_3_3", "section 5, Fig. 11", "The accuracy in classifying Codocyte increased by 3.3 %"),
    Claim("hypochromia_15_6", "section 5, Fig. 11", "in classifying Hypochromia increased by 15.6 %"),
    Claim(
        "less_biased",
        "abstract",
        "the focal loss function truly enabled the CNNs models to be less biased towards the majority class",
    ),
    Claim(
        "converges_faster",
        "section 5, Fig. 12",
        "the focal loss function enabled the training loss to converge to zero faster than the cross-entropy loss "
        "function",
    ),
    Claim(
        "f1_at_every_rho",
        "section 5, Table 3",
        "for all ρ, resulting in higher F1-scores",
    ),
    Claim(
        "f1_up_others_down",
        "section 5, Table 3",
        "a higher F1-score but a lower accuracy and AUROC, e.g., DenseNet-121 with ρ = 37.90 and ResNet-50 "
        "with ρ = 11.35",
    ),
    Claim("f1_gains_most", "section 5, Fig. 13", "showed a higher improvement in F1-score than in accuracy and AUROC"),
    Claim(
        "gain_grows_with_rho",
        "section 5, Fig. 13",
        "the relative improvement of F1-score tended to increase as ρ got higher",
    ),
    Claim(
        "accuracy_gain_falls",
        "section 5, Fig. 13",
        "the relative improvement in accuracy of the models with focal loss function tended to decrease",
    ),
    Claim("densenet_better", "section 6, Table 3", "DenseNet-121 performed better than ResNet-50"),
    Claim("fewer_parameters", "section 6", "and used fewer model parameters when using a focal loss function"),
)


def load_checks() -> pd.DataFrame:
    """Every published number and claim that print alone allows to check, beside what it comes to.

    Computed from the tables above by ``python benchmarks/paper_numbers.py``, which writes ``paper_checks.csv``.

    Returns:
        ``claim`` (id in `CLAIMS`, or empty), ``place``, ``number``, ``published``, ``recomputed`` (both as text),
        ``agrees`` (True, False, or missing where the row is a remark rather than a check), ``remark``. A claim can have
        several rows.
    """
    return pd.read_csv(CHECKS, dtype={"agrees": "boolean"}, keep_default_na=False, na_values={"agrees": [""]})
