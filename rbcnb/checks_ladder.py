"""Tables 2 and 3 and Fig. 13: the ladder of imbalance, recomputed from print."""

from collections.abc import Iterator

import numpy as np
import pandas as pd

from rbcnb.checks import ARCHITECTURES, SCORE_NAMES, Check, fits
from rbcnb.columns import CLASSES, CODOCYTE, NORMAL
from rbcnb.printed import SCORES, n_test_cells, rank_correlation, relative_improvement
from rbcnb.published import CONFUSION, SETTINGS, TABLE1, TABLE2, TABLE3


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
    fraction = SETTINGS["test_fraction"]
    sizes = {row.rho: n_test_cells(row.total, fraction) for row in TABLE2.itertuples()}
    whole = fits(TABLE3["accuracy"], [sizes[rho] for rho in TABLE3["rho"]])
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
