"""How many planted label errors does the audit find? python benchmarks/label_issues.py [--out DIR] [--effect]

Synthetic cells (22 smears of 60, crops of 48 px, cut where the renderer put them) are split by smear; errors are
planted in the labels of the development cells, random ones and a tired reader's (`rbcnb.labels.planted_errors`): 5 %,
and on all but the last set of cells 2 and 10 %. The lesson net is fitted on five folds, on eight turns of each cell,
and labels are audited by what it says of smears that it has not seen. Told are means over sets of cells, with the
lowest and the highest:

queue   recall of the errors within the first 10 % of the queue, for every way of ranking, with one fit per fold and
        with the average over seeds; the peer is self-confidence with one fit
list    precision and recall of the issue list; its peer: as many cells, the first by self-confidence
effect  with --effect, at 5 %: the first 10 % and as many controls go to a reader simulated from the truth who slips in
        2 % of the readings; how many errors the excess over the controls tells of, and macro F1 on the untouched test
        cells with the errors, after correction, and with the true labels

Fits lie in --out and are not made twice: stopped, it goes on from there.
"""

import argparse
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import stats

from rbcnb.columns import CELL, CROP, GROUP, LABEL, SMEAR, TARGET
from rbcnb.labels.confident_learning import (
    class_thresholds,
    find_label_issues,
    flag_issues,
    label_codes,
    normalised_margin,
)
from rbcnb.labels.planted_errors import KINDS, plant_dev_errors
from rbcnb.labels.second_look import compare_second_look, error_estimate, relabel_queue, simulated_labels
from rbcnb.segmentation.crops import crop_cells
from rbcnb.smears.sources import synthetic_smears
from rbcnb.study.label_audit import apply_corrections, audit_splits, correction_effect, eight_views, out_of_fold
from rbcnb.study.runner import run_study
from rbcnb.training.trial import Trial, expand_grid

RATES = (0.02, 0.05, 0.10)
MAIN_RATE = 0.05
QUEUE = 0.10  # share of the cells that a reader looks at again
SLIP_RATE = 0.02
AUDIT_EPOCHS = 3  # on eight views of each cell
NET = Trial(architecture="small", learning_rate=3e-3, epochs=20, protocol="honest")


def self_confidence(given: np.ndarray, probs: np.ndarray) -> np.ndarray:
    """1 - p of the class given, [N]: the baseline."""
    return 1 - probs[np.arange(len(given)), given]


def adjusted_confidence(given: np.ndarray, probs: np.ndarray) -> np.ndarray:
    """How far p of the class given lies below what it is on average where that class is given, [N].

    Against its own average, the right labels of a class that is never sure do not fill the queue.
    """
    return class_thresholds(given, probs)[given] - probs[np.arange(len(given)), given]


def weighted_entropy(given: np.ndarray, probs: np.ndarray) -> np.ndarray:
    """Entropy over log C, divided by p of the class given, [N]."""
    p_given = probs[np.arange(len(given)), given]
    return stats.entropy(probs, axis=1) / np.log(probs.shape[1]) / np.maximum(p_given, 1e-6)


# Ways of ranking; the audit ranks by the first.
DOUBTS: Mapping[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "normalised_margin": normalised_margin,
    "self_confidence": self_confidence,
    "adjusted_confidence": adjusted_confidence,
    "weighted_entropy": weighted_entropy,
}


def synthetic_cells(seed: int, *, n_smears: int = 22, n_cells: int = 60) -> tuple[pd.DataFrame, np.ndarray]:
    """Every cell of fresh smears with its true label, split by smear, and the crops."""
    rows, crops = [], []
    for smear in synthetic_smears(n_smears, seed=seed, n_cells=n_cells):
        facts = {SMEAR: smear.name, GROUP: smear.group, CELL: range(len(smear.truth))}
        rows.append(smear.truth.assign(**facts))
        crops.append(crop_cells(smear.image, smear.truth, 48))
    cells = pd.concat(rows, ignore_index=True)
    return audit_splits(cells.assign(**{CROP: range(len(cells))}), seed=seed)[0], np.concatenate(crops)


def within_queue(wrong: np.ndarray, doubt: np.ndarray, n: int) -> np.ndarray:
    """Which of the first *n* by doubt are wrong."""
    return wrong[np.argsort(-doubt, kind="stable")[:n]]


def measure(cells: pd.DataFrame, fits: pd.DataFrame, store: Path) -> list[dict]:
    """Recalls and precisions of one seed of the net, and of all averaged."""
    rows = []
    for probabilities, chosen in (("one fit", [fit for _, fit in fits.groupby("seed")]), ("average", [fits])):
        for results in chosen:
            predictions = out_of_fold(results, store)
            true = predictions[[SMEAR, CELL]].merge(cells, on=[SMEAR, CELL], validate="one_to_one")[LABEL]
            wrong = (predictions[TARGET] != true).to_numpy()
            _, labels, probs = label_codes(predictions)
            facts = {"probabilities": probabilities, "accuracy": (predictions["pred"] == true).mean()}
            for name, doubt in DOUBTS.items():
                hits = within_queue(wrong, doubt(labels, probs), round(QUEUE * len(wrong)))
                facts[f"queue, {name}"] = hits.sum() / wrong.sum()
            listed = flag_issues(labels, probs)
            peer = within_queue(wrong, self_confidence(labels, probs), listed.sum())
            facts |= {"listed": listed.mean(), "precision": wrong[listed].mean(), "precision, peer": peer.mean()}
            facts |= {"recall": wrong[listed].sum() / wrong.sum(), "recall, peer": peer.sum() / wrong.sum()}
            rows.append(facts)
    return rows


def measure_effect(
    cells: pd.DataFrame, given: pd.DataFrame, crops: np.ndarray, fits: pd.DataFrame, options: argparse.Namespace
) -> dict:
    """What a simulated second look at the first 10 % estimates and corrects."""
    issues = find_label_issues(out_of_fold(fits, options.out), given)
    _, key = relabel_queue(issues, n_suspects=round(QUEUE * len(issues)), seed=0)
    second_labels = simulated_labels(key, cells, slip_rate=SLIP_RATE, seed=0)
    estimate = error_estimate(compare_second_look(key, second_labels)).iloc[-1]
    corrected, changes = apply_corrections(given, second_labels)
    suspects = key[key["role"] == "suspect"].merge(cells, on=[SMEAR, CELL], suffixes=("", "_true"))
    facts = {"errors": int((suspects[LABEL] != suspects[f"{LABEL}_true"]).sum()), "estimated": estimate["errors"]}
    facts |= {
        "estimated_low": estimate["errors_low"],
        "estimated_high": estimate["errors_high"],
        "changed": len(changes),
    }
    facts |= {"wrong_before": int((given[LABEL] != cells[LABEL]).sum())}
    facts |= {"wrong_after": int((corrected[LABEL] != cells[LABEL]).sum())}
    study = {"trial": NET, "seeds": range(options.effect_fits), "jobs": options.jobs}
    for name, after in (("corrected", corrected), ("true", cells)):
        gain = correction_effect(given, after, crops, options.out, **study)
        facts |= {f"gain, {name}": gain.mean, f"low, {name}": gain.low, f"high, {name}": gain.high}
    return facts


def summary(rows: list[dict], by: list[str]) -> pd.DataFrame:
    """Mean (lowest to highest) of every number."""
    grouped = pd.DataFrame(rows).drop(columns="set").groupby(by, sort=False)
    table = grouped.agg(lambda values: f"{values.mean():.3f} ({values.min():.3f} to {values.max():.3f})")
    return table.assign(n=grouped.size()).T


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/label_issues"), help="folder of finished fits")
    parser.add_argument("--sets", type=int, default=2, help="sets of cells (default 2)")
    parser.add_argument("--fits", type=int, default=2, help="seeds of the net (default 2)")
    parser.add_argument("--effect", action="store_true", help="also what a second look does to macro F1")
    parser.add_argument("--effect-fits", type=int, default=3, help="seeds of the net for that (default 3)")
    parser.add_argument("--jobs", type=int, default=1, help="fits side by side (default 1)")
    options = parser.parse_args()
    plan = [(MAIN_RATE, number) for number in range(options.sets)]
    plan += [(rate, number) for number in range(options.sets - 1) for rate in RATES if rate != MAIN_RATE]
    rows, effects = [], []
    for rate, number in plan:
        cells, crops = synthetic_cells(number)
        for kind in KINDS:
            given = plant_dev_errors(cells, kind=kind, rate=rate, seed=number)
            trials = expand_grid(replace(NET, epochs=AUDIT_EPOCHS), seed=range(options.fits), fold=range(5))
            fits = run_study(trials, *eight_views(given, crops), options.out, jobs=options.jobs)
            facts = {"rate": rate, "kind": kind, "set": number}
            rows += [facts | measured for measured in measure(cells, fits, options.out)]
            if options.effect and rate == MAIN_RATE:
                effects.append(facts | measure_effect(cells, given, crops, fits, options))
            print(pd.DataFrame(rows).tail(1).round(3).to_string(index=False), flush=True)
    print(summary(rows, ["rate", "kind", "probabilities"]).to_string())
    if effects:
        print(pd.DataFrame(effects).round(3).T.to_string())
        print(summary(effects, ["rate", "kind"]).to_string())


if __name__ == "__main__":
    main()
