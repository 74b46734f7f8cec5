"""Names of table columns, classes and splits, written once.

One pandas table, *cells* (one row per cell), walks from smear to verdict; each stage adds columns to it:
found (``FOUND``) -> labelled (``LABEL``, ``GROUP``) -> split (``SPLIT``, ``FOLD``) -> predicted (``TARGET``, ``PRED``,
``prob_<class>``). Coordinates and radii are pixels of the smear's own image, before any upscaling.
"""

from collections.abc import Iterable

SMEAR = "smear"  # file name (or generated name) of the source image
CELL = "cell"  # number of the cell within its smear, from 0; (smear, cell) names a cell
X = "x_px"  # centre; (0, 0) is the centre of the top left pixel, as in OpenCV and matplotlib
Y = "y_px"
RADIUS = "radius_px"
BORDER = "border"  # True where the circle leaves the image
SCORE = "score"  # of "learned": the share of such finds that are cells, 0 to 1
CROP = "crop"  # row of the cell's picture in the run's crops
FOUND = (SMEAR, CELL, X, Y, RADIUS)
LABEL = "label"  # class name given by a reader, or by the renderer of a synthetic smear; empty (NaN) when unlabelled
GROUP = "group"  # cells of one group never stand on both sides of an honest split: the smear, or its identical twins
READER = "reader"  # who gave a label
KIND = "kind"  # what a reading is: see `rbcnb.labels.readings`
TIME = "time"  # of a reading, UTC
REVISION = "revision"  # 1, 2, ... over one reader's readings of one cell
SESSION = "session"  # which sitting, or which queue, a reading is of; free text
COMMENT = "comment"
UNSURE = "unsure"  # in place of a class: what a reader, or a network, cannot tell
STRUCK, SKIPPED = "strike", "skip"  # in place of a class: a reader's words for no cell, and for a later look
NO_CLASSES = (UNSURE, STRUCK, SKIPPED)
SPLIT = "split"
DEV, TEST, UNUSED = "dev", "test", "unused"  # the last: cells that a correction or a rung leaves out
FOLD = "fold"  # 0..k-1 inside the dev split, NO_FOLD elsewhere
NO_FOLD = -1
TARGET = "target"
PRED = "pred"
PROB = "prob_"  # prefix: one column of probabilities per class
PUBLISHED = "published"  # in place of a protocol: a number that the paper prints
SIMULATED = "simulated"  # what of a row is invented, in these words; a table of which nothing is has no such column
READERS, SMEARS, TOY_CELLS = "readers", "smears", "toy cells"
REPETITION = "repetition"  # of the outer folds, in predictions of a seed that has several; 0, 1, ...
SCORES = ("accuracy", "macro_f1", "auroc")  # of Tables 1 and 3
PRIMARY_METHODS = frozenset({"focal", "cross_entropy"})  # of the paper's question, asked of each architecture
# In the paper's order: class 0, 1, 2 of Figs. 8, 10 and 11 and of Table 2.
CODOCYTE, HYPOCHROMIA, NORMAL = "codocyte", "hypochromia", "normal"
CLASSES = (CODOCYTE, HYPOCHROMIA, NORMAL)
# Forms of labels that `rbcnb.labels` writes and reads. They stand here as the command line loads no pandas for them.
OUT_LAYOUTS = ("folder", "chula", "csv", "coco", "voc", "yolo", "labelme", "cvat")
LAYOUTS = (*OUT_LAYOUTS, "via", "qupath", "geojson", "imagej", "boxes")
AGREEMENT_COLUMNS = ("statistic", "value", "low", "high", "n_cells", "n_smears")
_NAMES = {
    "focal": "focal loss",
    "over_sampling": "over-sampling",
    "under_sampling": "under-sampling",
    "over_sampling_equal_steps": "over-sampling, equal steps",
    "knn": "kNN",
    "svm": "SVM",
    "smote": "SMOTE",
    "borderline_smote": "Borderline-SMOTE",
    "adasyn": "ADASYN",
    "table2": "Table 2",
    "equal_total": "equal totals",
    "small": "lesson net",
    "efficientnet_lite0": "EfficientNet-Lite0",
    "densenet121": "DenseNet-121",
    "resnet18": "ResNet-18",
    "resnet34": "ResNet-34",
    "resnet50": "ResNet-50",
    "generalised_dice": "generalised Dice",
    "ldam": "LDAM",
    "ldam_drw": "LDAM, deferred weights",
    "macro_f1": "macro F1",
    "balanced_macro_f1": "balanced macro F1",
    "rung_macro_f1": "macro F1 at the rung's own prior",
    "auroc": "AUROC",
    "auprc": "AUPRC",
    "rare_called_majority": "share of rare cells called the majority class",
    "train_ce": "cross entropy of training",
    "relative_accuracy": "change of the relative improvement of accuracy",
    "cross_entropy_priors_out": "cross entropy, priors divided out",
}


def class_names(labels: Iterable[str]) -> tuple[str, ...]:
    """The classes present in *labels*: the paper's three first and in its order, then any others by name."""
    present = {label for label in labels if isinstance(label, str) and label}
    return tuple(name for name in CLASSES if name in present) + tuple(sorted(present - set(CLASSES)))


def prob_columns(classes: Iterable[str]) -> list[str]:
    """Names of the probability columns of a predictions table, in the order of *classes*."""
    return [PROB + name for name in classes]


def classes_of_predictions(columns: Iterable[str]) -> tuple[str, ...]:
    """The classes that a predictions table speaks of, read off its ``prob_<class>`` columns, in their order."""
    return tuple(name.removeprefix(PROB) for name in columns if name.startswith(PROB))


def readable(name: object) -> str:
    """The printed form of a method, architecture or score: ``"cross_entropy"`` -> ``"cross entropy"``."""
    return _NAMES.get(str(name), str(name).replace("_", " "))
