"""The numbers that the paper prints, recomputed from the paper itself: python benchmarks/paper_numbers.py

Writes ``checks.csv`` and ``spread.csv`` in ``rbcnb/paper_tables``, for `rbcnb.paper.load_checks` and `load_spread`.
Their numbers follow from `rbcnb.paper` alone, so that it changes only where a printed number, a claim or a check below
is changed. Takes a few seconds.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from scipy import stats
from scipy.special import ndtr
from sklearn.model_selection import train_test_split
from torchvision import models

from rbcnb.columns import CLASSES, CODOCYTE, HYPOCHROMIA, NORMAL, SCORES
from rbcnb.evaluation.hypothesis_tests import mcnemar_p
from rbcnb.evaluation.inference import macro_f1_of_counts
from rbcnb.evaluation.relative_gain import relative_improvement
from rbcnb.evaluation.winners_curse import chance_of_gain, expected_best_of
from rbcnb.paper import CHECKS, CLAIMS, CONFUSION, SETTINGS, SPREAD, TABLE1, TABLE2, TABLE3

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
SPLIT_SEED = 42  # the seed every tutorial uses; it draws the published test set's classes exactly


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


def count_behind(accuracy: float, n: int) -> tuple[int, int] | None:
    """How many right cells of *n* print as *accuracy* (0 to 1), and to how many decimals of a percent they do.

    Two decimals are tried first, then one where the second is 0 (a figure's 91.3 % can stand as 91.30 in a table; among
    a thousand cells nearly every one-decimal number fits). None if no count does.
    """
    percent, right = 100 * accuracy, round(accuracy * n)
    for decimals in (2, 1):
        exact = abs(round(percent, decimals) - percent) < 1e-9
        if exact and abs(100 * right / n - percent) <= 0.5 * 10.0**-decimals + 1e-9:
            return right, decimals
    return None


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


def rank_correlation(x: Sequence[float], y: Sequence[float]) -> tuple[float, float]:
    """Spearman's coefficient, and its two-sided p over all orders of *y*, exactly; for up to about eight values."""
    x_rank, y_rank = stats.rankdata(x), stats.rankdata(y)
    test = stats.permutation_test(
        (y_rank,),
        lambda ranks: np.corrcoef(x_rank, ranks)[0, 1],
        permutation_type="pairings",
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


def n_weights(architecture: str) -> int:
    """Weights of torchvision's network with three classes."""
    with torch.device("meta"):  # shapes alone
        network = models.get_model(architecture, weights=None, num_classes=len(CLASSES))
    return sum(weights.numel() for weights in network.parameters())


def table2() -> Iterator[Check]:
    counts = TABLE2[list(CLASSES)]
    totals = counts.sum(axis=1)
    rho = (counts.max(axis=1) / counts.min(axis=1)).round(2)
    printed, computed = (", ".join(f"{value:.2f}" for value in values) for values in (TABLE2["rho"], rho))
    yield Check("", "Table 2", "imbalance ratio rho, Eq. (5)", printed, computed, printed == computed, "")
    printed, computed = (", ".join(str(value) for value in values) for values in (TABLE2["total"], totals))
    yield Check("", "Table 2", "totals", printed, computed, printed == computed, "the head's sum to i = 3 means i = 2")
    shares = 100 * counts.div(totals, axis=0)
    off = np.abs(shares.to_numpy() - TABLE2[[f"percent_{name}" for name in CLASSES]].to_numpy()).max()
    remark = "round targets, not the drawn distributions"
    yield Check(
        "",
        "Table 2",
        "class distributions",
        "one decimal",
        f"off by up to {off:.1f} points",
        bool(off <= 0.05),
        remark,
    )
    first, last = TABLE2.iloc[0], TABLE2.iloc[-1]
    in_test = last[CODOCYTE] * SETTINGS["test_fraction"]
    yield Check(
        "",
        "Table 2",
        "what changes along with rho",
        "the level of imbalance",
        f"{first['total']:.0f} to {last['total']:.0f} cells, {first[CODOCYTE]:.0f} to {last[CODOCYTE]:.0f} codocytes",
        None,
        f"at rho {last['rho']:.2f} a test set holds about {in_test:.0f} codocytes, each {100 / in_test:.0f} % recall",
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
        f"{len(dev) * dev.max()} crops instead of {dev.sum()}: its gain may come from balance or from more steps",
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
        "every rho has a test set of its own, so test cells, prevalence and training size change along with rho",
    )
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
        "so this rung's focal loss is the alpha that was best on its test cells; of the other rungs no alpha is told",
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
            f"rho at which DenseNet-121 has the higher F1 with {method.replace('_', ' ')}",
            "DenseNet-121 better with focal loss",
            f"{won} of {len(f1)}",
            None,
            f"not at {', '.join(f'{rho:.2f}' for rho in f1.index[f1['densenet121'] <= f1['resnet50']])}",
        )


def figure13() -> Iterator[Check]:
    change = relative_improvement(TABLE3)
    for claim_id, score, sign in (("gain_grows_with_rho", "macro_f1", 1), ("accuracy_gain_falls", "accuracy", -1)):
        r, p = rank_correlation(change["rho"], change[score])
        yield Check(
            claim_id,
            "section 5, Fig. 13",
            f"relative improvement of {SCORE_NAMES[score]} by rising rho, percent",
            "tended to increase" if sign > 0 else "tended to decrease",
            " ".join(f"{value:+.1f}" for value in change[score]),
            sign * r > 0,
            f"rank correlation with rho {r:+.2f}; a random order reaches it with probability {p:.2f} (two-sided)",
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


def figure11() -> Iterator[Check]:
    printed, exact, wrong = [], [], []
    for (architecture, method), counts in CONFUSION.items():
        scores = scores_of_confusion(counts)
        runs = TABLE1[(TABLE1["architecture"] == architecture) & (TABLE1["method"] == method)]
        row = runs.loc[runs["macro_f1"].idxmax()]
        precision, recall = (np.mean([scores[f"{s}_{name}"] for name in CLASSES]) for s in ("precision", "recall"))
        yield Check(
            "",
            "Table 1, Fig. 11",
            f"{ARCHITECTURES[architecture]}, {method.replace('_', ' ')}: macro F1",
            f"{row['macro_f1']:.2f}",
            f"{scores['macro_f1']:.3f}",
            abs(scores["macro_f1"] - row["macro_f1"]) <= 0.005,
            f"mean of F1; F1 of mean precision and recall is {2 * precision * recall / (precision + recall):.3f}",
        )
        printed.append(row["accuracy"])
        exact.append(scores["accuracy"])
        percent = CONFUSION_PERCENT.loc[(architecture, method)]
        wrong += [key for key in percent.index if abs(100 * scores[key] - percent[key]) > 0.05 + 1e-9]
    yield Check(
        "",
        "Table 1, Fig. 11",
        "accuracies, percent",
        ", ".join(f"{100 * value:.2f}" for value in printed),
        ", ".join(f"{100 * value:.2f}" for value in exact),
        bool(np.allclose(printed, exact, atol=0.5e-4)),
        "the table repeats one decimal of the figure",
    )
    n = CONFUSION_PERCENT.size
    yield Check(
        "", "Fig. 11", "margins", f"{n} percentages", f"{n - len(wrong)} of {n} agree", not wrong, ", ".join(wrong)
    )
    shares = np.stack([100 * counts.to_numpy() / counts.to_numpy().sum() for counts in CONFUSION.values()])
    near = np.abs(shares - [CONFUSION_SHARES[key] for key in CONFUSION]) <= 0.05 + 1e-9
    fit = f"{near.sum()} of {near.size} agree"
    yield Check("", "Fig. 11", "shares of all cells", f"{near.size} percentages", fit, bool(near.all()), "")
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
            "the least and the greatest p of all pairings that the two matrices allow, with cells as independent: of "
            "these two models on these cells, and before any allowance for the choice of alpha",
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
        recalls = [scores_of_confusion(counts)[f"recall_{name}"] for counts in (before, after)]
        yield Check(
            claim_id,
            "section 5, Fig. 11",
            f"{ARCHITECTURES[architecture]}: gain in " + ("model accuracy" if key == "accuracy" else f"{name} recall"),
            f"{printed} %",
            f"{new[key] - old[key]:.1f} points",
            abs(new[key] - old[key] - printed) < 0.05,
            f"{name} recall {100 * recalls[0]:.1f} % to {100 * recalls[1]:.1f} %, "
            f"{after.loc[name, name] - before.loc[name, name]:+d} of {after[name].sum()} cells",
        )
    for architecture, name in ARCHITECTURES.items():
        missed = [CONFUSION[architecture, m].loc[NORMAL].drop(NORMAL).sum() for m in ("cross_entropy", "focal")]
        yield Check(
            "less_biased",
            "abstract, Fig. 11",
            f"{name}: minority cells called normal",
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
        abs(100 * lost / counts.to_numpy().sum() - 5.5) <= 0.05,
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


def test_set() -> Iterator[Check]:
    total, fraction = SETTINGS["class_counts"], SETTINGS["test_fraction"]
    n_all = sum(total.values())
    n_test = n_test_cells(n_all)
    shares = {CODOCYTE: 10.17, HYPOCHROMIA: 10.50}
    yield Check(
        "",
        "section 5",
        "share of codocytes and of hypochromia, percent",
        ", ".join(f"{share:.2f}" for share in shares.values()),
        ", ".join(f"{100 * total[name] / n_all:.2f}" for name in shares),
        all(abs(100 * total[name] / n_all - share) <= 0.005 for name, share in shares.items()),
        "",
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
        f"any two-decimal number is one with probability {chance:.2f}: all seven alphas were scored on the test set, "
        "and those used from there on (Fig. 11) are the best on it",
    )
    test = next(iter(CONFUSION.values())).sum()
    n_codocytes = int(test[CODOCYTE])
    tail = stats.hypergeom.sf(n_codocytes - 1, n_all, total[CODOCYTE], test.sum())
    yield Check(
        "",
        "Fig. 11",
        "codocytes in the test set",
        str(n_codocytes),
        f"{total[CODOCYTE] * fraction:.1f} if stratified",
        abs(n_codocytes - total[CODOCYTE] * fraction) < 1,
        f"the split was not stratified; at random so many or more come with probability {tail:.3f}",
    )
    drawn = classes_of_split(total, seed=SPLIT_SEED)
    yield Check(
        "",
        "Fig. 11",
        f"classes of the test set against scikit-learn's split with random_state={SPLIT_SEED}",
        "/".join(str(test[name]) for name in CLASSES),
        "/".join(str(drawn[name]) for name in CLASSES),
        drawn == dict(test),
        "train_test_split on the cells in the order of their classes; another seed would give these counts once in "
        f"{1 / chance_of_classes(test, total):,.0f} times, so this is probably how the test set was drawn",
    )


def table1() -> Iterator[Check]:
    n_test = n_test_cells(sum(SETTINGS["class_counts"].values()))
    for architecture, name in ARCHITECTURES.items():
        runs = TABLE1[TABLE1["architecture"] == architecture].set_index("method")
        focal = runs.loc["focal"].set_index("alpha")
        ce, over, under = (runs.loc[method] for method in ("cross_entropy", "over_sampling", "under_sampling"))
        f1 = focal["macro_f1"]
        best = focal.loc[f1.idxmax()]

        printed = int(quote(f"cases_{architecture}").split("/7")[0].split()[-1])
        wins = {score: int((focal[score] > ce[score]).sum()) for score in SCORES}
        same = [SCORE_NAMES[score] for score in SCORES if wins[score] == printed]
        yield Check(
            f"cases_{architecture}",
            "section 5, Table 1",
            f"{name}: alphas at which focal loss beats cross entropy",
            f"{printed}/{len(focal)}",
            ", ".join(f"{wins[score]}/{len(focal)} by {SCORE_NAMES[score]}" for score in SCORES),
            wins["macro_f1"] == printed,
            f"the text's number is that by {' and by '.join(same) or 'no score'}",
        )
        climb = f1.loc[: f1.idxmax()]
        yield Check(
            "alpha_rises_to_peak",
            "section 5, Table 1",
            f"{name}: F1 rises with alpha up to its peak",
            "slightly increased",
            " ".join(f"{value:.2f}" for value in climb),
            climb.is_monotonic_increasing,
            f"all seven: {f1.mean():.2f} ± {f1.std():.2f} (sd), cross entropy {ce['macro_f1']:.2f}; Adam is nearly "
            "invariant to a scalar alpha, so the seven are close to seven seeds, and their best stands against one",
        )
        place = 1 + int((f1 > ce["macro_f1"]).sum())
        tied = int((f1 == ce["macro_f1"]).sum())
        yield Check(
            "focal_beats_ce",
            "section 5, Table 1",
            f"{name}: place of cross entropy's one run among eight",
            "below the best",
            f"{place}" + (f" to {place + tied}" if tied else "") + f" of {1 + len(f1)}",
            None,
            f"if alpha and loss changed nothing, the best of {len(f1)} runs would beat one more run {len(f1)} times in "
            f"{1 + len(f1)} (rbcnb.winners_curse)",
        )
        error = math.sqrt(sum(share * (1 - share) / n_test for share in (best["accuracy"], ce["accuracy"])))
        gain = best["accuracy"] - ce["accuracy"]
        yield Check(
            "focal_beats_ce",
            "section 5, Table 1",
            f"{name}: F1 of focal loss at its best alpha against cross entropy",
            f"{best['macro_f1']:.2f} > {ce['macro_f1']:.2f}",
            f"{best['macro_f1'] - ce['macro_f1']:+.2f} F1, {round(gain * n_test):+d} of {n_test} cells right",
            best["macro_f1"] > ce["macro_f1"],
            f"one run each; accuracy differs by {gain / error:.1f} standard errors of two independent proportions, "
            "before any allowance for choosing alpha on the same cells",
        )
        yield Check(
            "over_sampling_in_line",
            "section 5, Table 1",
            f"{name}: over-sampling minus focal loss",
            "in line",
            ", ".join(f"{SCORE_NAMES[score]} {over[score] - best[score]:+.3f}" for score in SCORES),
            abs(over["macro_f1"] - best["macro_f1"]) < 0.015,
            f"over-sampling had one setting, focal loss the best of {len(focal)}",
        )
        behind = [score for score in SCORES if under[score] < min(ce[score], best[score])]
        yield Check(
            "under_sampling_worst",
            "section 5, Table 1",
            f"{name}: under-sampling is behind cross entropy and focal loss",
            "outperformed",
            f"behind in {', '.join(SCORE_NAMES[score] for score in behind)}",
            len(behind) == len(SCORES),
            f"AUROC {under['auroc']:.2f} against {ce['auroc']:.2f} (cross entropy); F1 {under['macro_f1']:.2f}, above "
            f"{int((f1 < under['macro_f1']).sum())} of the {len(focal)} alphas",
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
    sizes = {architecture: n_weights(architecture) for architecture in ARCHITECTURES}
    yield Check(
        "fewer_parameters",
        "section 6, Figs. 3 and 4",
        "weights with three classes",
        "DenseNet-121 fewer",
        ", ".join(f"{ARCHITECTURES[key]} {size:,}" for key, size in sizes.items()),
        sizes["densenet121"] < sizes["resnet50"],
        "with either loss: a loss has no weights",
    )


def recompute_checks() -> pd.DataFrame:
    """Every published number and claim that print alone allows to check, as `rbcnb.paper.load_checks` has them."""
    parts = (test_set, table1, figure11, recalls, table2, table3, figure13)
    rows = [row for part in parts for row in part()]
    return pd.DataFrame(rows, columns=list(Check._fields)).astype({"agrees": "boolean"})


def main() -> None:
    checks = recompute_checks()
    checks.to_csv(CHECKS, index=False, lineterminator="\n")
    print(checks.drop(columns=["claim", "remark"]).to_string(index=False))
    published_spread().to_csv(SPREAD, index=False, lineterminator="\n")
    print(f"wrote {CHECKS} and {SPREAD}")


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
