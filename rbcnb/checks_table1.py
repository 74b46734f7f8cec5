"""The data set, the test set and Table 1, recomputed from print."""

import math
from collections.abc import Iterator

from rbcnb.checks import ARCHITECTURES, SCORE_NAMES, Check, fits, quote
from rbcnb.columns import CLASSES, CODOCYTE, HYPOCHROMIA
from rbcnb.printed import (
    SCORES,
    chance_of_at_least,
    chance_of_classes,
    classes_drawn_by_seed,
    densenet_parameters,
    n_test_cells,
    resnet_parameters,
)
from rbcnb.published import CONFUSION, SETTINGS, TABLE1

SPLIT_SEED = 42  # the seed every tutorial uses; it draws the published test set's classes exactly


def test_set() -> Iterator[Check]:
    total, fraction = SETTINGS["class_counts"], SETTINGS["test_fraction"]
    n_all = sum(total.values())
    n_test = n_test_cells(n_all, fraction)
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
    whole = fits(TABLE1["accuracy"], [n_test] * len(TABLE1))
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
    tail = chance_of_at_least(n_codocytes, total[CODOCYTE], n_all, int(test.sum()))
    yield Check(
        "",
        "Fig. 11",
        "codocytes in the test set",
        str(n_codocytes),
        f"{total[CODOCYTE] * fraction:.1f} if stratified",
        abs(n_codocytes - total[CODOCYTE] * fraction) < 1,
        f"the split was not stratified; at random so many or more come with probability {tail:.3f}",
    )
    drawn = classes_drawn_by_seed(total, fraction, seed=SPLIT_SEED)
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
    n_test = n_test_cells(sum(SETTINGS["class_counts"].values()), SETTINGS["test_fraction"])
    for architecture, name in ARCHITECTURES.items():
        own = TABLE1[TABLE1["architecture"] == architecture].set_index("method")
        focal = own.loc["focal"].set_index("alpha")
        ce, over, under = (own.loc[method] for method in ("cross_entropy", "over_sampling", "under_sampling"))
        f1 = focal["macro_f1"]
        best = focal.loc[f1.idxmax()]

        said = int(quote(f"cases_{architecture}").split("/7")[0].split()[-1])
        wins = {score: int((focal[score] > ce[score]).sum()) for score in SCORES}
        same = [SCORE_NAMES[score] for score in SCORES if wins[score] == said]
        yield Check(
            f"cases_{architecture}",
            "section 5, Table 1",
            f"{name}: alphas at which focal loss beats cross entropy",
            f"{said}/{len(focal)}",
            ", ".join(f"{wins[score]}/{len(focal)} by {SCORE_NAMES[score]}" for score in SCORES),
            wins["macro_f1"] == said,
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
    sizes = {"densenet121": densenet_parameters(len(CLASSES)), "resnet50": resnet_parameters(len(CLASSES))}
    yield Check(
        "fewer_parameters",
        "section 6, Figs. 3 and 4",
        "weights with three classes",
        "DenseNet-121 fewer",
        ", ".join(f"{ARCHITECTURES[key]} {size:,}" for key, size in sizes.items()),
        sizes["densenet121"] < sizes["resnet50"],
        "with either loss: a loss has no weights",
    )
