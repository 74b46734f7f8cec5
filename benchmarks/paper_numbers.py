"""The numbers that the paper prints, recomputed from the paper itself: python benchmarks/paper_numbers.py

Writes ``checks.csv`` and ``spread.csv`` in ``rbcnb/paper_tables``, for `rbcnb.paper.load_checks` and `load_spread`, and
the tables of ``docs/paper.md``. Their numbers follow from `rbcnb.paper`, the sizes of torchvision's networks and fits
of a toy, so that they change only where a printed number, a claim, a reading or a check below is changed. Takes less
than a minute.

What agrees:

- A printed number agrees where the exact number rounds to it: to the decimals that are printed, or, where the last of
  these is a 0, to one fewer (`fits_print`). A figure's 91.3 % may stand as 91.30 in a table.
- A difference is that of the two printed numbers, as a reader would take it.
- A sentence that names no score agrees where one score, the same for both networks, makes it true. All three are shown.
- What is of interest but is no contradiction is a remark: it neither agrees nor disagrees.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from scipy import stats
from scipy.special import ndtr
from sklearn.model_selection import train_test_split
from torch import nn
from torchvision import models

from rbcnb.columns import CLASSES, CODOCYTE, HYPOCHROMIA, NORMAL, SCORES, readable
from rbcnb.evaluation.hypothesis_tests import mcnemar_p
from rbcnb.evaluation.inference import macro_f1_of_counts
from rbcnb.evaluation.relative_gain import relative_improvement
from rbcnb.evaluation.winners_curse import chance_of_gain, expected_best_of
from rbcnb.losses.focal import focal_loss
from rbcnb.losses.toy import sample_toy
from rbcnb.losses.toy_fits import alpha_distances, fit_alphas
from rbcnb.paper import CHECKS, CLAIMS, CONFUSION, SETTINGS, SPREAD, TABLE1, TABLE2, TABLE3, load_readings

ARCHITECTURES: Mapping[str, str] = MappingProxyType({"densenet121": "DenseNet-121", "resnet50": "ResNet-50"})
SCORE_NAMES: Mapping[str, str] = MappingProxyType({"accuracy": "accuracy", "macro_f1": "F1", "auroc": "AUROC"})
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
# Numbers that stand in the text alone.
N_CELLS = 3392  # section 4.1
N_LAYERS = 50  # of ResNet-50, section 3.3.1
CLASS_SHARES = MappingProxyType({CODOCYTE: 10.17, HYPOCHROMIA: 10.50})  # of all cells, percent, section 5
PEAKS = MappingProxyType({"densenet121": 1.5, "resnet50": 1.0})  # alpha of the highest F1, section 5; Fig. 11 (b), (d)
F1_IN_TEXT = MappingProxyType({"focal": 0.92, "over_sampling": 0.91})  # of DenseNet-121, section 5
RECALL_IN_TEXT = MappingProxyType(  # with cross entropy, percent, section 5
    {
        ("resnet50", CODOCYTE): 52.9,
        ("resnet50", HYPOCHROMIA): 98.3,
        ("densenet121", CODOCYTE): 71.9,
        ("densenet121", HYPOCHROMIA): 83.5,
    }
)
OF_QIN = "They applied data augmentation to balance the image samples among classes"  # section 2.2
LAST_CLASS_OF_SUM = 3  # upper limit of the sum in the head of Table 2
SPLIT_SEED = 42  # the seed every tutorial uses; it draws the published test set's classes exactly
PAGE = Path(__file__).parents[1] / "docs" / "paper.md"


class Check(NamedTuple):
    """A published number or claim beside what it comes to; a row of `rbcnb.paper.load_checks`."""

    claim: str
    place: str
    number: str
    published: str
    recomputed: str
    agrees: bool | None
    remark: str


def quote(claim_id: str) -> str:
    """The words of a claim."""
    return next(claim.quote for claim in CLAIMS if claim.id == claim_id)


def n_test_cells(n_cells: int) -> int:
    """Cells in the published test set of *n_cells*, rounded up as scikit-learn's ``train_test_split`` does."""
    return math.ceil(n_cells * SETTINGS["test_fraction"])


def fits_print(exact: float, printed: float, decimals: int) -> int | None:
    """To how many decimals *exact* rounds to *printed*, which stands with *decimals* of them; None if to neither.

    All of them are tried first, then one fewer where the last printed one is a 0.
    """
    for places in (decimals, decimals - 1):
        whole = abs(round(printed, places) - printed) < 1e-9
        if whole and abs(exact - printed) <= 0.5 * 10.0**-places + 1e-9:
            return places
    return None


def count_behind(accuracy: float, n: int) -> tuple[int, int] | None:
    """How many right cells of *n* print as *accuracy* (0 to 1), and to how many decimals of a percent they do.

    None if no count does. Among a thousand cells nearly every number of one decimal fits.
    """
    right = round(accuracy * n)
    decimals = fits_print(100 * right / n, 100 * accuracy, 2)
    return None if decimals is None else (right, decimals)


def whole_numbers(accuracies: Sequence[float], sizes: Sequence[int]) -> dict[int, int]:
    """How many accuracies are a whole number of right cells, by the decimals they fit to."""
    found = [count_behind(accuracy, n) for accuracy, n in zip(accuracies, sizes, strict=True)]
    return {decimals: sum(fit is not None and fit[1] == decimals for fit in found) for decimals in (2, 1)}


def scores_of_confusion(counts: pd.DataFrame) -> dict[str, float]:
    """Of counts [predicted, target]: accuracy, macro_f1 (mean of the classes' F1), recall_ and precision_<class>."""
    matrix = counts.to_numpy(float)
    right = np.diag(matrix)
    scores = {"accuracy": float(right.sum() / matrix.sum()), "macro_f1": float(macro_f1_of_counts(matrix))}
    for score, shares in (("recall", right / matrix.sum(axis=0)), ("precision", right / matrix.sum(axis=1))):
        scores |= {f"{score}_{name}": float(share) for name, share in zip(counts.columns, shares, strict=True)}
    return scores


def f1_of_means(counts: pd.DataFrame) -> float:
    """The other macro F1 of counts [predicted, target]: of the classes' mean precision and their mean recall."""
    scores = scores_of_confusion(counts)
    precision, recall = (np.mean([scores[f"{s}_{name}"] for name in counts]) for s in ("precision", "recall"))
    return float(2 * precision * recall / (precision + recall))


def rank_correlation(x: Sequence[float], y: Sequence[float], *, sign: int) -> tuple[float, float]:
    """Spearman's coefficient, and its one-sided p over all orders of *y*, exactly; for up to about eight values.

    *sign*: 1 where *y* is said to rise with *x*, -1 where it is said to fall. p is the share of orders in which it does
    so at least as clearly.
    """
    x_rank, y_rank = stats.rankdata(x), stats.rankdata(y)
    test = stats.permutation_test(
        (y_rank,),
        lambda ranks: np.corrcoef(x_rank, ranks)[0, 1],
        permutation_type="pairings",
        alternative="greater" if sign > 0 else "less",
        n_resamples=np.inf,
    )
    return float(test.statistic), float(test.pvalue)


def chance_of_classes(drawn: Mapping[str, int], total: Mapping[str, int]) -> float:
    """Exact probability that a random draw without replacement from *total* holds exactly *drawn* of each class."""
    # scipy's multivariate_hypergeom is off by 7e-12 of it.
    ways = math.prod(math.comb(int(total[name]), int(drawn[name])) for name in total)
    return ways / math.comb(int(sum(total.values())), int(sum(drawn[name] for name in total)))


def classes_of_split(total: Mapping[str, int], *, seed: int) -> dict[str, int]:
    """Cells per class in scikit-learn's test set of cells that stand in the order of their classes in *total*.

    They stand so when they are read from one folder per class.
    """
    labels = np.repeat(list(total), list(total.values()))
    _, test = train_test_split(labels, test_size=SETTINGS["test_fraction"], random_state=seed)
    return {name: int((test == name).sum()) for name in total}


def mcnemar_range(first: pd.DataFrame, second: pd.DataFrame) -> tuple[int, float, float]:
    """What two confusion matrices [predicted, target] of the same cells tell of their pairing.

    Returns:
        Cells that *second* has right beyond *first*, and the least and greatest exact McNemar p of all pairings that
        the matrices allow: class by class as few, and as many, cells as can be that *first* alone has right.
    """
    right, also = (np.diag(counts.to_numpy()).astype(int) for counts in (first, second))
    wrong_also = second.to_numpy().sum(axis=0) - also
    net = int((also - right).sum())
    fewest, most = int(np.maximum(0, right - also).sum()), int(np.minimum(right, wrong_also).sum())
    return net, mcnemar_p(fewest, fewest + net), mcnemar_p(most, most + net)


def _network(architecture: str) -> nn.Module:
    with torch.device("meta"):  # shapes alone
        return models.get_model(architecture, weights=None, num_classes=len(CLASSES))


def n_weights(architecture: str) -> int:
    """Weights of torchvision's network with three classes."""
    return sum(weights.numel() for weights in _network(architecture).parameters())


def n_layers(architecture: str) -> int:
    """Layers with weights of torchvision's network, one after the other: shortcuts and normalisation do not count."""
    modules = _network(architecture).named_modules()
    return sum(isinstance(module, nn.Conv2d | nn.Linear) for name, module in modules if "downsample" not in name)


def alpha_effect(alphas: Sequence[float]) -> tuple[float, float, float]:
    """What Eq. (4)'s alpha changes in a fit of the toy of `rbcnb.losses.toy`.

    Returns:
        The least cosine between the gradients at two alphas; the greatest distance of weights to those at alpha 1 after
        300 steps of Adam, over their length; and the mean distance between the weights of two seeds, over the same.
    """
    x, targets = sample_toy(400, seed=0)
    logits = torch.from_numpy(np.random.default_rng(0).normal(size=(len(x), len(CLASSES))))
    pulls = []
    for alpha in alphas:
        start = logits.clone().requires_grad_()
        focal_loss(start, torch.from_numpy(targets), alpha=alpha, gamma=SETTINGS["gamma"]).backward()
        pulls.append(start.grad.flatten() / start.grad.norm())
    cosines = torch.stack(pulls) @ torch.stack(pulls).T
    settings = {"learning_rate": SETTINGS["learning_rate"], "batch_size": SETTINGS["batch_size"], "steps": 300}
    weights = fit_alphas(x, targets, optimiser="adam", alphas=alphas, seeds=range(4), every=300, **settings)
    ends = weights[-1, list(alphas).index(1.0)]
    between = [np.linalg.norm(a - b) / np.linalg.norm(a) for i, a in enumerate(ends) for b in ends[:i]]
    return float(cosines.min()), float(alpha_distances(weights, alphas)[-1].max()), float(np.mean(between))


def table2() -> Iterator[Check]:
    counts = TABLE2[list(CLASSES)]
    totals = counts.sum(axis=1)
    rho = counts.max(axis=1) / counts.min(axis=1)
    printed, computed = (", ".join(f"{value:.2f}" for value in values) for values in (TABLE2["rho"], rho))
    agree = all(fits_print(*pair, 2) is not None for pair in zip(rho, TABLE2["rho"], strict=True))
    yield Check("", "Table 2", "imbalance ratio rho, Eq. (5)", printed, computed, agree, "")
    printed, computed = (", ".join(str(value) for value in values) for values in (TABLE2["total"], totals))
    yield Check("", "Table 2", "totals", printed, computed, printed == computed, "")
    yield Check(
        "",
        "Table 2",
        "last class of the sum in its head",
        f"i = {LAST_CLASS_OF_SUM}",
        f"i = {len(CLASSES) - 1}",
        len(CLASSES) - 1 == LAST_CLASS_OF_SUM,
        f"a misprint: the classes are 0 to {len(CLASSES) - 1}, and the totals are right",
    )
    shares = (100 * counts.div(totals, axis=0)).to_numpy().ravel()
    targets = TABLE2[[f"percent_{name}" for name in CLASSES]].to_numpy().ravel()
    wrong = [pair for pair in zip(shares, targets, strict=True) if fits_print(*pair, 1) is None]
    yield Check(
        "",
        "section 5, Table 2",
        "class distributions, percent",
        f"{len(targets)} percentages",
        f"{len(targets) - len(wrong)} of {len(targets)} agree",
        not wrong,
        ", ".join(f"{target:.1f} is printed for {share:.1f}" for share, target in wrong),
    )
    whole = TABLE2["total"].idxmax()
    milder, harder = counts.loc[: whole - 1], counts.loc[whole + 1 :]
    rare = [name for name in CLASSES if name != NORMAL]
    yield Check(
        "ladder_fixes_a_side",
        "section 5, Table 2",
        "cells that stay the same on the other rungs",
        "normal cells above, rare cells below",
        f"normal {'/'.join(map(str, harder[NORMAL].unique()))} above, rare "
        f"{' and '.join('/'.join(map(str, milder[name].unique())) for name in rare)} below",
        bool(
            (harder[NORMAL] == counts.loc[whole, NORMAL]).all()
            and (milder[rare] == counts.loc[whole, rare]).to_numpy().all()
        ),
        f"above and below the whole data set's rho of {TABLE2.loc[whole, 'rho']:.2f}",
    )
    first, last = TABLE2.iloc[0], TABLE2.iloc[-1]
    in_test = last[CODOCYTE] * SETTINGS["test_fraction"]
    yield Check(
        "",
        "Table 2",
        "what else changes along with rho",
        "the level of imbalance",
        f"{first['total']:.0f} to {last['total']:.0f} cells in all, {first[CODOCYTE]:.0f} to {last[CODOCYTE]:.0f} "
        "codocytes",
        None,
        f"at rho {last['rho']:.2f} a test set holds about {in_test:.0f} codocytes, so one cell is "
        f"{100 / in_test:.0f} % of the recall",
    )
    dev = pd.Series(SETTINGS["class_counts"]) - next(iter(CONFUSION.values())).sum()
    steps = len(dev) * dev.max() / dev.sum()
    yield Check(
        "over_sampling_costs_more",
        "section 5",
        "steps per epoch with over-sampling",
        "higher computational cost",
        f"{steps:.2f} times as many",
        bool(steps > 1),
        f"{len(dev) * dev.max()} cells instead of {dev.sum()}: its gain may come from balance or from more steps",
    )


def table3() -> Iterator[Check]:
    sizes = {row.rho: n_test_cells(row.total) for row in TABLE2.itertuples()}
    whole = whole_numbers(TABLE3["accuracy"], [sizes[rho] for rho in TABLE3["rho"]])
    yield Check(
        "",
        "Table 3",
        f"accuracies that are a whole number of {', '.join(map(str, sizes.values()))} test cells",
        f"{len(TABLE3)} accuracies",
        f"{whole[2]} to two decimals, {whole[1]} printed to one",
        whole[2] + whole[1] == len(TABLE3),
        "every rho has another test set, so test cells, class shares and training cells change along with rho",
    )
    yield from bold_type("Table 3", TABLE3, ["architecture", "rho"])
    wide = TABLE3.pivot_table(index=["architecture", "rho"], columns="method", values=list(SCORES))
    gains = wide["macro_f1", "focal"] - wide["macro_f1", "cross_entropy"]
    yield Check(
        "f1_at_every_rho",
        "section 5, Table 3",
        "rho and architectures at which focal loss has the higher F1",
        "all",
        f"{(gains > 0).sum()} of {len(gains)}",
        bool((gains > 0).all()),
        f"one run each, {(gains < 0.015).sum()} of them by {gains.min():.2f} of F1, the last printed digit",
    )
    won, even = {}, {}
    for score in ("accuracy", "auroc"):
        gap = wide[score, "focal"] - wide[score, "cross_entropy"]
        won[score], even[score] = int((gap > 0).sum()), int((gap == 0).sum())
    yield Check(
        "f1_at_every_rho",
        "section 5, Table 3",
        "rho and architectures at which its accuracy and AUROC are higher, too",
        "better performances",
        ", ".join(f"{SCORE_NAMES[score]} {won[score]} of {len(wide)}" for score in won),
        None,
        ", ".join(f"{SCORE_NAMES[score]} the same in {even[score]}" for score in even) + "; the text names exceptions",
    )
    lower = [wide[score, "focal"] < wide[score, "cross_entropy"] for score in ("accuracy", "auroc")]
    both = wide.index[lower[0] & lower[1]]
    yield Check(
        "ce_higher_elsewhere",
        "section 5, Table 3",
        "rho and architectures at which cross entropy has the higher accuracy and the higher AUROC",
        "a higher accuracy and AUROC",
        f"{len(both)} of {len(wide)}",
        None,
        ", ".join(f"{ARCHITECTURES[architecture]} at {rho:.2f}" for architecture, rho in both)
        + f"; higher accuracy {int(lower[0].sum())}, higher AUROC {int(lower[1].sum())}; the text speaks of some cases",
    )
    best = TABLE1.sort_values("macro_f1").groupby(["architecture", "method"]).last()
    whole_set = TABLE3[TABLE3["rho"] == TABLE2.loc[TABLE2["total"].idxmax(), "rho"]].set_index(
        ["architecture", "method"]
    )
    same = [bool((row[list(SCORES)] == best.loc[key, list(SCORES)]).all()) for key, row in whole_set.iterrows()]
    yield Check(
        "",
        "Tables 1 and 3",
        "the rung of the whole data set and the best rows of Table 1",
        "optimal hyperparameters",
        f"{sum(same)} of {len(same)} rows are the same runs",
        all(same),
        "so here focal loss has the alpha that was best on these test cells; for the other rungs no alpha is printed",
    )
    for architecture, rho in (("densenet121", 37.90), ("resnet50", 11.35)):
        row = wide.loc[(architecture, rho)]
        lower = [score for score in ("accuracy", "auroc") if row[score, "focal"] < row[score, "cross_entropy"]]
        yield Check(
            "f1_up_others_down",
            "section 5, Table 3",
            f"{ARCHITECTURES[architecture]} at rho {rho:.2f}: scores in which focal loss is lower",
            "accuracy and AUROC",
            " and ".join(SCORE_NAMES[score] for score in lower) or "none",
            len(lower) == 2,
            f"AUROC {row['auroc', 'focal']:.2f} (focal loss), {row['auroc', 'cross_entropy']:.2f} (cross entropy)",
        )
    last = TABLE2.iloc[-1]
    accuracies = TABLE3.loc[TABLE3["rho"] == last["rho"], "accuracy"]
    below = int((accuracies < last[NORMAL] / last["total"]).sum())
    yield Check(
        "",
        "Table 3",
        f"accuracy at rho {last['rho']:.2f} against always answering normal",
        f"{100 * accuracies.min():.2f} to {100 * accuracies.max():.2f} %",
        f"{100 * last[NORMAL] / last['total']:.2f} % expected of always normal",
        None,
        f"{below} of the {len(accuracies)} models are less accurate than that",
    )
    best = TABLE1[TABLE1["method"] == "focal"].groupby("architecture")["macro_f1"].max()
    yield Check(
        "densenet_better",
        "section 6, Table 1",
        "F1 with focal loss at the best alpha",
        "DenseNet-121 better",
        ", ".join(f"{name} {best[key]:.2f}" for key, name in ARCHITECTURES.items()),
        bool(best["densenet121"] > best["resnet50"]),
        "best of seven each, one run",
    )
    for method in ("focal", "cross_entropy"):
        f1 = wide["macro_f1", method].unstack("architecture")  # noqa: PD010, a Series has no pivot_table
        won = int((f1["densenet121"] > f1["resnet50"]).sum())
        yield Check(
            "densenet_better",
            "section 6, Table 3",
            f"rho at which DenseNet-121 has the higher F1 with {readable(method)}",
            "DenseNet-121 better with focal loss",
            f"{won} of {len(f1)}",
            None,
            f"not at {', '.join(f'{rho:.2f}' for rho in f1.index[f1['densenet121'] <= f1['resnet50']])}",
        )


_TRENDS = MappingProxyType({"accuracy": 1, "macro_f1": -1})  # with cross entropy, as rho rises: section 5


def figure13() -> Iterator[Check]:
    change = relative_improvement(TABLE3)
    for claim_id, score, sign in (("gain_grows_with_rho", "macro_f1", 1), ("accuracy_gain_falls", "accuracy", -1)):
        r, p = rank_correlation(change["rho"], change[score], sign=sign)
        yield Check(
            claim_id,
            "section 5, Fig. 13",
            f"relative improvement of {SCORE_NAMES[score]} by rising rho, percent",
            "tended to increase" if sign > 0 else "tended to decrease",
            " ".join(f"{value:+.1f}" for value in change[score]),
            sign * r > 0,
            f"rank correlation with rho {r:+.2f}; a random order {'rises' if sign > 0 else 'falls'} as clearly with "
            f"probability {p:.2f} (one-sided, as the sentence names the direction)",
        )
    most = change["macro_f1"] > change[["accuracy", "auroc"]].max(axis=1)
    yield Check(
        "f1_gains_most",
        "section 5, Fig. 13",
        "rho at which F1 gains most",
        "higher",
        f"{most.sum()} of {len(most)}",
        bool(most.all()),
        "a relative gain is larger where the score itself is small",
    )
    trends, texts = {}, {}
    for method in ("cross_entropy", "focal"):
        means = TABLE3[TABLE3["method"] == method].groupby("rho")[list(SCORES)].mean()
        trends[method] = {score: rank_correlation(means.index, means[score], sign=1)[0] for score in _TRENDS}
        texts[method] = ", ".join(f"{SCORE_NAMES[score]} {r:+.2f}" for score, r in trends[method].items())
    yield Check(
        "ce_accuracy_up_f1_down",
        "section 5, Table 3",
        "cross entropy: rank correlation of its scores with rho",
        "a higher accuracy but a lower F1",
        texts["cross_entropy"],
        all(sign * trends["cross_entropy"][score] > 0 for score, sign in _TRENDS.items()),
        f"means of both networks; with focal loss the same happens: {texts['focal']}",
    )


def figure11() -> Iterator[Check]:
    printed, exact, wrong = [], [], []
    of_means = {key: f1_of_means(counts) for key, counts in CONFUSION.items()}
    for (architecture, method), counts in CONFUSION.items():
        scores = scores_of_confusion(counts)
        runs = TABLE1[(TABLE1["architecture"] == architecture) & (TABLE1["method"] == method)]
        row = runs.loc[runs["macro_f1"].idxmax()]
        yield Check(
            "",
            "Table 1, Fig. 11",
            f"{ARCHITECTURES[architecture]}, {readable(method)}: macro F1",
            f"{row['macro_f1']:.2f}",
            f"{scores['macro_f1']:.3f}",
            fits_print(scores["macro_f1"], row["macro_f1"], 2) is not None,
            f"the mean of the classes' F1; the F1 of mean precision and mean recall is "
            f"{of_means[architecture, method]:.3f}",
        )
        printed.append(row["accuracy"])
        exact.append(scores["accuracy"])
        percent = CONFUSION_PERCENT.loc[(architecture, method)]
        wrong += [key for key in percent.index if fits_print(100 * scores[key], percent[key], 1) is None]
    yield Check(
        "",
        "Table 1, Fig. 11",
        "accuracies, percent",
        ", ".join(f"{100 * value:.2f}" for value in printed),
        ", ".join(f"{100 * value:.2f}" for value in exact),
        None not in [fits_print(100 * a, 100 * b, 2) for a, b in zip(exact, printed, strict=True)],
        "rounded to one decimal, as Fig. 11 prints them; the second decimal of the table is a 0 each time",
    )
    n = CONFUSION_PERCENT.size
    yield Check(
        "", "Fig. 11", "margins", f"{n} percentages", f"{n - len(wrong)} of {n} agree", not wrong, ", ".join(wrong)
    )
    shares = np.stack([100 * counts.to_numpy() / counts.to_numpy().sum() for counts in CONFUSION.values()])
    pairs = zip(shares.ravel(), np.ravel([CONFUSION_SHARES[key] for key in CONFUSION]), strict=True)
    near = [fits_print(*pair, 1) is not None for pair in pairs]
    fit = f"{sum(near)} of {len(near)} agree"
    yield Check("", "Fig. 11", "shares of all cells", f"{len(near)} percentages", fit, all(near), "")
    recalls = [scores_of_confusion(CONFUSION[key, "cross_entropy"])[f"recall_{name}"] for key, name in RECALL_IN_TEXT]
    yield Check(
        "",
        "section 5, Fig. 11",
        "recalls that the text repeats (codocytes, hypochromia; ResNet-50, DenseNet-121; cross entropy), percent",
        ", ".join(f"{percent:.1f}" for percent in RECALL_IN_TEXT.values()),
        ", ".join(f"{100 * recall:.1f}" for recall in recalls),
        None not in [fits_print(100 * a, b, 1) for a, b in zip(recalls, RECALL_IN_TEXT.values(), strict=True)],
        "the text calls them accuracy in classifying a class",
    )
    for architecture, name in ARCHITECTURES.items():
        before, after = (CONFUSION[architecture, method] for method in ("cross_entropy", "focal"))
        net, least, most = mcnemar_range(before, after)
        yield Check(
            "focal_beats_ce",
            "section 5, Fig. 11",
            f"{name}: cells that focal loss has right beyond cross entropy",
            "clearly improved",
            f"{net:+d} of {before.to_numpy().sum()}, exact McNemar p {least:.1g} to {most:.1g}",
            None,
            "the least and the greatest p that the two matrices allow, if cells are independent; of these two fits on "
            "these cells, and nothing is taken off for the choice of alpha on the same cells",
        )


def recalls() -> Iterator[Check]:
    for claim_id, architecture, name, printed in (
        ("accuracy_6_6", "resnet50", CODOCYTE, 6.6),
        ("codocyte_3_3", "densenet121", CODOCYTE, 3.3),
        ("hypochromia_15_6", "densenet121", HYPOCHROMIA, 15.6),
    ):
        before, after = (CONFUSION[architecture, method] for method in ("cross_entropy", "focal"))
        old, new = (CONFUSION_PERCENT.loc[(architecture, method)] for method in ("cross_entropy", "focal"))
        key = "accuracy" if "model accuracy" in quote(claim_id) else f"recall_{name}"
        recalls = [100 * scores_of_confusion(counts)[f"recall_{name}"] for counts in (before, after)]
        yield Check(
            claim_id,
            "section 5, Fig. 11",
            f"{ARCHITECTURES[architecture]}: gain in " + ("model accuracy" if key == "accuracy" else f"{name} recall"),
            f"{printed} %",
            f"{new[key] - old[key]:.1f} points",
            abs(new[key] - old[key] - printed) < 0.05,
            f"{name} recall {recalls[0]:.1f} % to {recalls[1]:.1f} %: by the counts {recalls[1] - recalls[0]:.2f} "
            f"points, {after.loc[name, name] - before.loc[name, name]:+d} of {after[name].sum()} cells",
        )
    for architecture, name in ARCHITECTURES.items():
        missed = [CONFUSION[architecture, m].loc[NORMAL].drop(NORMAL).sum() for m in ("cross_entropy", "focal")]
        yield Check(
            "less_biased",
            "abstract, Fig. 11",
            f"{name}: rare cells called normal",
            "fewer with focal loss",
            f"{missed[0]} with cross entropy, {missed[1]} with focal loss",
            bool(missed[1] < missed[0]),
            "one run each",
        )
    counts = CONFUSION["resnet50", "cross_entropy"]
    lost, rare = counts.loc[NORMAL, CODOCYTE], counts[CODOCYTE].sum()
    recall = {name: scores_of_confusion(counts)[f"recall_{name}"] for name in CLASSES}
    yield Check(
        "rare_because_rare",
        "section 5, Fig. 11",
        "ResNet-50, cross entropy: codocytes called normal",
        "5.5 % of all",
        f"{100 * lost / counts.to_numpy().sum():.1f} % of all, {100 * lost / rare:.0f} % of the codocytes",
        fits_print(100 * lost / counts.to_numpy().sum(), 5.5, 1) is not None,
        f"hypochromia, as rare, is recalled at {100 * recall[HYPOCHROMIA]:.1f} %, normal cells at "
        f"{100 * recall[NORMAL]:.1f} %: rarity alone does not explain it",
    )
    after = scores_of_confusion(CONFUSION["resnet50", "focal"])
    change = {name: 100 * (after[f"recall_{name}"] - recall[name]) for name in CLASSES}
    yield Check(
        "better_in_two_classes",
        "section 5, Fig. 11",
        "ResNet-50: recall with focal loss against cross entropy, points",
        "codocyte and normal better",
        ", ".join(f"{name} {value:+.1f}" for name, value in change.items()),
        change[CODOCYTE] > 0 and change[NORMAL] > 0,
        "one run each",
    )
    for architecture, name in ARCHITECTURES.items():
        gaps, texts = {}, {}
        for method in ("focal", "cross_entropy"):
            scores = scores_of_confusion(CONFUSION[architecture, method])
            values = [100 * scores[f"recall_{label}"] for label in CLASSES]
            gaps[method] = max(values) - min(values)
            texts[method] = ", ".join(f"{label} {value:.1f}" for label, value in zip(CLASSES, values, strict=True))
        yield Check(
            "equal_classes",
            "section 5, Fig. 11",
            f"{name}: recall of each class with focal loss, percent",
            "each class equally",
            texts["focal"],
            None,
            f"{gaps['focal']:.1f} points from least to greatest, with cross entropy {gaps['cross_entropy']:.1f}; the "
            "text speaks of two other rho, of which no matrix is printed",
        )


def test_set() -> Iterator[Check]:
    total, fraction = SETTINGS["class_counts"], SETTINGS["test_fraction"]
    n_all = sum(total.values())
    n_test = n_test_cells(n_all)
    yield Check("", "section 4.1", "cells of the three classes", f"{N_CELLS}", f"{n_all}", n_all == N_CELLS, "")
    yield Check(
        "",
        "section 5",
        "share of codocytes and of hypochromia, percent",
        ", ".join(f"{share:.2f}" for share in CLASS_SHARES.values()),
        ", ".join(f"{100 * total[name] / n_all:.2f}" for name in CLASS_SHARES),
        None not in [fits_print(100 * total[name] / n_all, share, 2) for name, share in CLASS_SHARES.items()],
        "",
    )
    sizes = {int(counts.to_numpy().sum()) for counts in CONFUSION.values()}
    yield Check(
        "",
        "section 4.2, Fig. 11",
        "test cells in the four matrices",
        f"{100 * fraction:.0f} % of {n_all}",
        ", ".join(map(str, sorted(sizes))),
        sizes == {n_test},
        f"{fraction * n_all:.1f}, rounded up as scikit-learn does",
    )
    whole = whole_numbers(TABLE1["accuracy"], [n_test] * len(TABLE1))
    chance = (n_test + 1) / 10001
    yield Check(
        "",
        "Table 1",
        f"accuracies that are a whole number of {n_test} test cells",
        f"{len(TABLE1)} accuracies",
        f"{whole[2]} to two decimals, {whole[1]} printed to one",
        whole[2] + whole[1] == len(TABLE1),
        f"any number of two decimals is one with probability {chance:.2f}: all seven alphas were scored on the test "
        "set, and those that are used from there on (Fig. 11) are the best on it",
    )
    test = next(iter(CONFUSION.values())).sum()
    n_codocytes = int(test[CODOCYTE])
    tail = stats.hypergeom.sf(n_codocytes - 1, n_all, total[CODOCYTE], test.sum())
    yield Check(
        "",
        "Fig. 11",
        "codocytes in the test set",
        str(n_codocytes),
        f"{total[CODOCYTE] * test.sum() / n_all:.1f} expected",
        None,
        f"the paper splits at random, so this is chance: as many or more come with probability {tail:.3f}",
    )
    drawn = classes_of_split(total, seed=SPLIT_SEED)
    yield Check(
        "",
        "Fig. 11",
        f"classes of the test set, and of scikit-learn's split with random_state={SPLIT_SEED}",
        "/".join(str(test[name]) for name in CLASSES),
        "/".join(str(drawn[name]) for name in CLASSES),
        drawn == dict(test),
        "train_test_split on the cells in the order of their classes; another seed would give these counts once in "
        f"{1 / chance_of_classes(test, total):,.0f} times, so this is probably how the test set was drawn",
    )


def table1() -> Iterator[Check]:
    n_test = n_test_cells(sum(SETTINGS["class_counts"].values()))
    runs = {key: TABLE1[TABLE1["architecture"] == key].set_index("method") for key in ARCHITECTURES}
    focal = {key: rows.loc["focal"].set_index("alpha") for key, rows in runs.items()}
    best = {key: rows.loc[rows["macro_f1"].idxmax()] for key, rows in focal.items()}
    ce, over, under = (
        {key: rows.loc[method] for key, rows in runs.items()}
        for method in ("cross_entropy", "over_sampling", "under_sampling")
    )
    # Of sentences that name no score: those scores that make them true, the same for both networks.
    printed = {key: int(quote(f"cases_{key}").split("/7")[0].split()[-1]) for key in runs}
    wins = {key: {score: int((focal[key][score] > ce[key][score]).sum()) for score in SCORES} for key in runs}
    counted_by = [score for score in SCORES if all(wins[key][score] == printed[key] for key in runs)]
    behind = {
        key: [score for score in SCORES if under[key][score] < min(ce[key][score], best[key][score])] for key in runs
    }
    worst_by = [score for score in SCORES if all(score in scores for scores in behind.values())]

    yield Check(
        "alpha_rises_to_peak",
        "section 5, Table 1, Fig. 11",
        "alpha of the highest F1, DenseNet-121 and ResNet-50",
        ", ".join(f"{PEAKS[key]:.1f}" for key in runs),
        ", ".join(f"{best[key].name:.1f}" for key in runs),
        all(best[key].name == PEAKS[key] for key in runs),
        "also the alphas of Fig. 11 (b) and (d)",
    )
    highest = TABLE1.loc[TABLE1["macro_f1"].idxmax()]
    yield Check(
        "densenet_best",
        "section 5, Table 1",
        "highest F1 of the table",
        f"{F1_IN_TEXT['focal']:.2f}, DenseNet-121 with focal loss",
        f"{highest['macro_f1']:.2f}, {ARCHITECTURES[highest['architecture']]} with {readable(highest['method'])}",
        (highest["macro_f1"], highest["architecture"], highest["method"])
        == (F1_IN_TEXT["focal"], "densenet121", "focal"),
        "one run",
    )
    repeated = {"focal": best["densenet121"]["macro_f1"], "over_sampling": over["densenet121"]["macro_f1"]}
    yield Check(
        "over_sampling_in_line",
        "section 5, Table 1",
        "F1 of DenseNet-121 with focal loss and with over-sampling",
        ", ".join(f"{f1:.2f}" for f1 in F1_IN_TEXT.values()),
        ", ".join(f"{repeated[method]:.2f}" for method in F1_IN_TEXT),
        repeated == F1_IN_TEXT,
        "the text repeats the table",
    )
    for key, name in ARCHITECTURES.items():
        f1, n = focal[key]["macro_f1"], len(focal[key])
        by = [SCORE_NAMES[score] for score in SCORES if wins[key][score] == printed[key]]
        yield Check(
            f"cases_{key}",
            "section 5, Table 1",
            f"{name}: alphas at which focal loss beats cross entropy",
            f"{printed[key]}/{n}",
            ", ".join(f"{wins[key][score]}/{n} by {SCORE_NAMES[score]}" for score in SCORES),
            bool(counted_by),
            f"the number is that by {' and by '.join(by) or 'no score'}; the sentence names none, the one before is "
            "about F1",
        )
        climb = f1.loc[: f1.idxmax()]
        rise, gain = climb.iloc[-1] - climb.iloc[0], best[key]["macro_f1"] - ce[key]["macro_f1"]
        steady = climb.is_monotonic_increasing
        yield Check(
            "alpha_rises_to_peak",
            "section 5, Table 1",
            f"{name}: F1 rises slightly with alpha up to its peak",
            "slightly increased",
            " ".join(f"{value:.2f}" for value in climb),
            bool(steady and rise <= gain + 1e-9),
            f"{'rises' if steady else 'does not rise'} at every step; {rise:+.2f} from the first alpha to the peak, "
            f"while {gain:+.2f} over cross entropy is called a clear improvement",
        )
        place = 1 + wins[key]["macro_f1"]
        tied = int((f1 == ce[key]["macro_f1"]).sum())
        yield Check(
            "focal_beats_ce",
            "section 5, Table 1",
            f"{name}: place of cross entropy's one run among eight, by F1",
            "below the best",
            f"{place}" + (f" to {place + tied}" if tied else "") + f" of {1 + n}",
            None,
            f"the {n} of focal loss {f1.mean():.2f} ± {f1.std():.2f} (sd), cross entropy {ce[key]['macro_f1']:.2f}; "
            f"if alpha and loss changed nothing, the best of {n} runs would beat one more run {n} times in {1 + n}",
        )
        error = math.sqrt(sum(p * (1 - p) / n_test for p in (best[key]["accuracy"], ce[key]["accuracy"])))
        more = best[key]["accuracy"] - ce[key]["accuracy"]
        yield Check(
            "focal_beats_ce",
            "section 5, Table 1",
            f"{name}: F1 of focal loss at its best alpha against cross entropy",
            f"{best[key]['macro_f1']:.2f} > {ce[key]['macro_f1']:.2f}",
            f"{gain:+.2f} F1, {round(more * n_test):+d} of {n_test} cells right",
            bool(gain > 0),
            f"one run each; accuracy differs by {more / error:.1f} standard errors of two independent proportions, and "
            "nothing is taken off for the choice of alpha on the same cells",
        )
        yield Check(
            "over_sampling_improves",
            "section 5, Table 1",
            f"{name}: over-sampling minus cross entropy alone",
            "able to improve",
            ", ".join(f"{SCORE_NAMES[score]} {over[key][score] - ce[key][score]:+.3f}" for score in SCORES),
            all(over[key][score] > ce[key][score] for score in SCORES),
            "one run each",
        )
        yield Check(
            "over_sampling_in_line",
            "section 5, Table 1",
            f"{name}: over-sampling minus focal loss",
            "in line",
            ", ".join(f"{SCORE_NAMES[score]} {over[key][score] - best[key][score]:+.3f}" for score in SCORES),
            abs(over[key]["macro_f1"] - best[key]["macro_f1"]) < 0.015,
            f"over-sampling had one setting, focal loss the best of {n}",
        )
        yield Check(
            "under_sampling_worst",
            "section 5, Table 1",
            f"{name}: under-sampling is behind cross entropy and focal loss",
            "outperformed",
            f"behind by {', '.join(SCORE_NAMES[score] for score in behind[key])}",
            bool(worst_by),
            f"the sentence names no score; AUROC {under[key]['auroc']:.2f}, cross entropy {ce[key]['auroc']:.2f}; F1 "
            f"{under[key]['macro_f1']:.2f}, above {int((f1 < under[key]['macro_f1']).sum())} of the {n} alphas",
        )
    dev = {
        cls: total - int(next(iter(CONFUSION.values())).sum()[cls]) for cls, total in SETTINGS["class_counts"].items()
    }
    kept, everything = len(dev) * min(dev.values()), sum(dev.values())
    yield Check(
        "under_sampling_worst",
        "section 5, Table 1",
        "training cells left by under-sampling",
        "smaller number",
        f"{kept} of {everything}",
        kept < everything,
        f"and {kept / everything:.2f} times the steps per epoch: fewer cells or fewer steps may explain it",
    )
    yield from bold_type("Table 1", TABLE1, ["architecture"])


def bold_type(place: str, table: pd.DataFrame, by: list[str]) -> Iterator[Check]:
    """Whether the best scores of each group of a printed table, and they alone, are in bold type."""
    n_best = n_bold = n_others = n_ties = on_all = 0
    on_some = {}  # method or methods that alone are bold in a tie -> where
    for key, rows in table.groupby(by, sort=False):
        for score in SCORES:
            best = rows[score] == rows[score].max()
            bold = rows["bold"].map(lambda scores, score=score: score in scores.split())
            n_best, n_bold, n_others = (
                n_best + best.sum(),
                n_bold + (best & bold).sum(),
                n_others + (bold & ~best).sum(),
            )
            if best.sum() > 1:
                n_ties, on_all = n_ties + 1, on_all + bool(bold[best].all())
                if not bold[best].all():
                    names = " and ".join(map(readable, rows.loc[best & bold, "method"])) or "none"
                    where = " at ".join(readable(part) if isinstance(part, str) else f"{part:.2f}" for part in key)
                    on_some.setdefault(names, []).append(f"{where}: {SCORE_NAMES[score]}")
    alone = "; ".join(f"on {names} alone in {len(where)} ({', '.join(where)})" for names, where in on_some.items())
    yield Check(
        "",
        place,
        "best scores that are in bold type",
        f"all of {n_best}",
        f"{n_bold} of {n_best}" + (f", and {n_others} others" if n_others else ""),
        bool(n_bold == n_best and not n_others),
        f"of {n_ties} ties bold type is on all that share the best score in {on_all}" + (f"; {alone}" if alone else ""),
    )


def methods() -> Iterator[Check]:
    """What the paper says of its method, and of Figs. 10 and 12, whose numbers stand in pictures alone."""
    alphas = SETTINGS["alphas"]
    cosine, by_alpha, by_seed = alpha_effect(alphas)
    yield Check(
        "alpha_balances",
        "section 3.2, Eq. (4)",
        f"what alpha changes from {min(alphas):.2f} to {max(alphas):.2f}, in fits of a toy problem",
        "α-balanced",
        f"gradients point the same way (cosine {cosine:.6f}); after Adam weights differ by less than "
        f"{10.0 ** math.ceil(math.log10(100 * by_alpha)):g} % of their length, those of two seeds by "
        f"{100 * by_seed:.0f} %",
        None,
        f"Eq. (4) has one alpha for all classes, so it balances none against another, and Adam divides a common factor "
        f"out: the {len(alphas)} alphas are close to {len(alphas)} runs with the same setting",
    )
    p_t = torch.tensor([0.1, 0.5, 0.9], dtype=torch.float64)
    logits = torch.stack([p_t.log(), (1 - p_t).log()], dim=1)
    right = torch.zeros(len(p_t), dtype=torch.int64)
    ratio = focal_loss(logits, right, gamma=0, reduction="none") / -p_t.log()
    yield Check(
        "gamma_zero",
        "section 3.2, Fig. 1",
        f"focal loss with gamma 0 over cross entropy, at p_t {', '.join(f'{p:g}' for p in p_t.tolist())}",
        "behaves like CE",
        ", ".join(f"{value:.3f}" for value in ratio),
        bool(torch.allclose(ratio, torch.ones_like(ratio))),
        "Eq. (3), or Eq. (4) with alpha 1; with another alpha it is alpha times cross entropy",
    )
    best = {
        key: {method: rows.loc[rows["macro_f1"].idxmax()] for method, rows in table.groupby("method")}
        for key, table in TABLE1.groupby("architecture")
    }
    n_used = sum(best[key]["focal"]["alpha"] == PEAKS[key] for key in ARCHITECTURES)
    n_test = n_test_cells(N_CELLS)
    whole = whole_numbers(TABLE1["accuracy"], [n_test] * len(TABLE1))
    yield Check(
        "tuned_by_folds",
        "abstract, Table 1",
        "scores of folds in print",
        "5-fold cross-validation",
        f"at most {len(TABLE1) - sum(whole.values())} of {len(TABLE1)} accuracies: {sum(whole.values())} are whole "
        f"numbers of the {n_test} test cells",
        None,
        f"the alpha that is used from there on (Fig. 11) has the highest F1 on the test cells in {n_used} of "
        f"{len(ARCHITECTURES)} networks",
    )
    late = round(0.75 * SETTINGS["max_epochs"]) + 1
    epochs = TABLE1["epochs"]
    n_late, share = int((epochs >= late).sum()), 1 - (late - 1) / SETTINGS["max_epochs"]
    yield Check(
        "epochs_by_loss",
        "section 4.2, Table 1",
        f"optimal epochs at {late} or later, of at most {SETTINGS['max_epochs']}",
        "minimum value of the corresponding loss",
        f"{n_late} of {len(epochs)}, none before {epochs.min()}",
        None,
        f"epochs drawn at random: {share * len(epochs):.0f}, and {n_late} or more with probability "
        f"{stats.binom.sf(n_late - 1, len(epochs), share):.3f}; where a network overfits, the loss of held-out cells "
        "is least early, that of training cells late",
    )
    for key, name in ARCHITECTURES.items():
        factors = [PEAKS[key] * (1 - p) ** SETTINGS["gamma"] for p in (0.5, 0.9)]
        yield Check(
            "converges_faster",
            "section 5, Fig. 12",
            f"{name}: focal loss over cross entropy of the same network, where it gives the right class 0.5 and 0.9",
            "converge to zero faster",
            ", ".join(f"{factor:.3f}" for factor in factors),
            None,
            "focal loss is the smaller number at the same probabilities, so a lower curve is not yet faster learning",
        )
    yield Check(
        "auroc_all_classes",
        "section 5, Fig. 10, Table 1",
        "AUROC over all classes, focal loss and cross entropy",
        "higher for all classes",
        ", ".join(
            f"{name} {best[key]['focal']['auroc']:.2f} and {best[key]['cross_entropy']['auroc']:.2f}"
            for key, name in ARCHITECTURES.items()
        ),
        None,
        "the AUROC of each class stands in the picture alone",
    )
    over_under = [
        best[key]["over_sampling"][score] > best[key]["under_sampling"][score] for key in best for score in SCORES
    ]
    yield Check(
        "under_sampling_preferred",
        "section 2.2, Table 1",
        "scores in which over-sampling is ahead of under-sampling",
        "under-sampling is preferred",
        f"{sum(over_under)} of {len(over_under)}",
        None,
        "the sentence reports another study, and speaks of efficiency",
    )
    yield Check(
        "no_research",
        "sections 1 and 2.2",
        "what the paper says of Qin et al. (2018), on white blood cells",
        "no research concerning class imbalance",
        OF_QIN,
        None,
        "section 1 lists this study among those that leave the question out",
    )


def networks() -> Iterator[Check]:
    sizes = {key: n_weights(key) for key in ARCHITECTURES}
    yield Check(
        "fewer_parameters",
        "section 6, Figs. 3 and 4",
        "weights with three classes",
        "DenseNet-121 fewer",
        ", ".join(f"{ARCHITECTURES[key]} {size:,}" for key, size in sizes.items()),
        sizes["densenet121"] < sizes["resnet50"],
        "with either loss: a loss has no weights",
    )
    layers = n_layers("resnet50")
    yield Check(
        "", "section 3.3.1", "layers of ResNet-50", f"{N_LAYERS} layers deep", f"{layers}", layers == N_LAYERS, ""
    )
    dense = {depth: n_weights(f"densenet{depth}") for depth in (121, 161, 169, 201)}
    yield Check(
        "smallest_densenet",
        "section 3.3.2",
        f"smallest of DenseNet-{', -'.join(map(str, dense))}",
        "DenseNet-121",
        f"DenseNet-{min(dense, key=dense.__getitem__)}",
        min(dense, key=dense.__getitem__) == 121,
        "by weights, of torchvision's",
    )
    residual = {depth: n_weights(f"resnet{depth}") for depth in (18, 34, 50, 101, 152)}
    smaller = [depth for depth, size in residual.items() if size < residual[50]]
    yield Check(
        "smallest_resnet",
        "section 3.3.1",
        f"smaller ones of ResNet-{', -'.join(map(str, residual))}",
        "ResNet-50 the smallest",
        " and ".join(f"ResNet-{depth}" for depth in smaller) or "none",
        None,
        "of the three that the sentence before names, 50, 101 and 152, it is the smallest",
    )


def recompute_checks() -> pd.DataFrame:
    """Every published number and claim that print alone allows to check, as `rbcnb.paper.load_checks` has them."""
    parts = (test_set, methods, networks, table1, figure11, recalls, table2, table3, figure13)
    rows = [row for part in parts for row in part()]
    return pd.DataFrame(rows, columns=list(Check._fields)).astype({"agrees": "boolean"})


def page_tables(checks: pd.DataFrame, readings: pd.DataFrame) -> dict[str, str]:
    """The tables of ``docs/paper.md`` as Markdown, by the name that its marks give them."""
    names = {"place": "Place", "number": "Number or claim", "published": "Printed", "recomputed": "Comes to"}
    shown = checks[[*names, "remark"]].rename(columns=names | {"remark": "Remark"})
    places = {"place": "Place", "printed": "Printed", "our_reading": "Our reading", "other_reading": "Another reading"}
    return {
        "disagree": _markdown(shown[checks["agrees"].eq(False).fillna(False)]),
        "remarks": _markdown(shown[checks["agrees"].isna()]),
        "agree": _markdown(shown[checks["agrees"].fillna(False)]),
        "readings": _markdown(readings[list(places)].rename(columns=places)),
    }


def _markdown(table: pd.DataFrame) -> str:
    rows = [list(table), ["---"] * table.shape[1], *table.itertuples(index=False, name=None)]
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def fill_page(page: str, tables: Mapping[str, str]) -> str:
    """*page* with each table between ``<!-- name -->`` and ``<!-- end of name -->``.

    Raises:
        ValueError: *page* lacks the marks of a table.
    """
    for name, table in tables.items():
        begin, end = f"<!-- {name} -->\n", f"\n<!-- end of {name} -->"
        if begin not in page or end not in page:
            raise ValueError(f"the page has no marks {begin.strip()} and {end.strip()} for its table")
        page = page.partition(begin)[0] + begin + table + end + page.partition(end)[2]
    return page


def main() -> None:
    checks = recompute_checks()
    checks.to_csv(CHECKS, index=False, lineterminator="\n")
    print(checks.drop(columns=["claim", "remark"]).to_string(index=False))
    published_spread().to_csv(SPREAD, index=False, lineterminator="\n")
    PAGE.write_text(fill_page(PAGE.read_text(encoding="utf-8"), page_tables(checks, load_readings())), encoding="utf-8")
    print(f"wrote {CHECKS}, {SPREAD} and the tables of {PAGE}")


def published_spread() -> pd.DataFrame:
    """What the spread of Table 1's alphas implies for the best of them, per architecture, in macro F1:
    `rbcnb.paper.load_spread`."""
    rows = []
    for architecture, table in TABLE1.groupby("architecture", sort=False):
        alphas = table.loc[table["method"] == "focal", "macro_f1"]
        rival = float(table.loc[table["method"] == "cross_entropy", "macro_f1"].iloc[0])
        k, sd, gain = len(alphas), float(alphas.std(ddof=1)), float(alphas.max() - rival)
        rows.append(
            {
                "architecture": architecture,
                "runs": k,
                "mean": float(alphas.mean()),
                "sd": sd,
                "best": float(alphas.max()),
                "cross_entropy": rival,
                "gain": gain,
                "expected_gain": expected_best_of(k, sd),
                "chance": float(chance_of_gain(gain, k, sd)),
                "best_chance": float(1 - ndtr((alphas.max() - alphas.mean()) / sd) ** k),
                "beaten_by": int((alphas > rival).sum()),
                "ties": int((alphas == rival).sum()),
            }
        )
    return pd.DataFrame(rows)


if __name__ == "__main__":
    main()
