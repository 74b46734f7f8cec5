"""The confusion matrices of Fig. 11 against their margins, Table 1 and the text."""

from collections.abc import Iterator

import numpy as np

from rbcnb.checks import ARCHITECTURES, Check, quote
from rbcnb.columns import CLASSES, CODOCYTE, HYPOCHROMIA, NORMAL
from rbcnb.printed import mcnemar_range, scores_of_confusion
from rbcnb.published import CONFUSION, CONFUSION_PERCENT, CONFUSION_SHARES, TABLE1


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
    for claim_id, architecture, name, said in (
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
            f"{said} %",
            f"{new[key] - old[key]:.1f} points",
            abs(new[key] - old[key] - said) < 0.05,
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
