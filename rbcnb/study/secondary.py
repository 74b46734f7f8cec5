"""What is asked of a run beside macro F1, named before it: rankings, balanced accuracy, the rare, networks, priors.

Each is a difference of scores of pooled predictions with its 95 % interval over smears and seeds.
"""

from pathlib import Path

import numpy as np
import pandas as pd

from rbcnb.evaluation.inference import LESS, Difference, interval_of, paired_difference
from rbcnb.evaluation.rankings import ranking_differences
from rbcnb.evaluation.verdicts import MACRO_F1, Comparison, difference_row
from rbcnb.study.ladder import Splits, priors_divided_out
from rbcnb.study.store import load_curves, predictions_by_method

FOCAL, CROSS_ENTROPY = "focal", "cross_entropy"
PRIORS_OUT = "cross_entropy_priors_out"  # cross entropy, nothing retrained
NETWORKS = ("densenet121", "resnet50")
BALANCED_ACCURACY, RARE_AS_MAJORITY, TRAIN_CE = "balanced_accuracy", "rare_called_majority", "train_ce"


def load_study_answer() -> pd.DataFrame:
    """What the study of ``docs/study.md`` found in two scores, for focal loss and for cross entropy less its priors.

    Computed by ``python benchmarks/study_results.py``, which writes ``answer.csv`` from the published results.

    Returns:
        ``architecture``; ``method`` and ``score``; ``mean``, ``low`` and ``high`` of the method's score minus that of
        plain cross entropy, with its 95 % interval.
    """
    return pd.read_csv(Path(__file__).with_name("answer.csv"))


def secondary_rows(
    fits: pd.DataFrame, *, splits: Splits, store: str | Path, margin: float, seed: int, protocol: str
) -> list[dict[str, object]]:
    """Rows of `rbcnb.evaluation.verdicts.difference_row` for the fits of one protocol on the whole data set.

    Per network, focal loss minus cross entropy: AUPRC and AUROC (means over classes), AUROC of each class (Fig. 10),
    balanced accuracy, the share of rare cells called the majority class (less is better: "less biased"), and cross
    entropy of training (Fig. 12, `training_gap`). Per network, cross entropy with its training prior divided out minus
    itself, and minus focal loss, in macro F1 and balanced accuracy: does something simple do the same? And DenseNet-121
    minus ResNet-50, with focal loss (which the paper claims) and with cross entropy.

    Args:
        fits: the best setting of each method, with its seeds and outer splits.
        splits: with their outer splits.
        store: where they lie.
        margin: of macro F1; other scores are judged by their sign (`Comparison.margin`).
        seed: of the bootstrap.
        protocol: of the fits.
    """
    asked = fits[fits["method"].isin([FOCAL, CROSS_ENTROPY])]
    options = {"margin": margin, "protocol": protocol}
    rows = []
    for architecture, architecture_fits in asked.groupby("architecture", sort=False):
        pair = of_shared_seeds(architecture_fits, "method", (FOCAL, CROSS_ENTROPY))
        if pair is None:
            continue
        for comparison, difference in _of_losses(pair, str(architecture), splits, store, seed):
            rows.append(difference_row(comparison, difference, architecture=str(architecture), **options))
    for method, claim in ((FOCAL, "densenet_better"), (CROSS_ENTROPY, "")):
        pair = of_shared_seeds(asked[asked["method"] == method], "architecture", NETWORKS)
        if pair is not None:
            tables = predictions_by_method(pair, store)
            difference = paired_difference(*(tables[network, method] for network in NETWORKS), seed=seed)
            # What both networks share stands in the place of the network.
            rows.append(difference_row(Comparison(claim, *NETWORKS), difference, architecture=method, **options))
    return rows


def of_shared_seeds(fits: pd.DataFrame, by: str, names: tuple[str, str]) -> pd.DataFrame | None:
    """The fits of two methods, or networks, of the seeds and outer splits that both have; None where there are none.

    The first's first. A method that was fitted on one outer split alone is compared there.

    Args:
        fits: rows of `rbcnb.study.run_study`.
        by: column that *names* stand in.
        names: the two.
    """
    sides = [fits[fits[by] == name] for name in names]
    both = pd.concat(sides)
    for place in ("outer", "seed"):
        both = both[both[place].isin(set(sides[0][place]) & set(sides[1][place]))]
    return both if len(both) else None


def training_gap(fits: pd.DataFrame, store: str | Path) -> Difference:
    """Cross entropy of training with focal loss minus that with cross entropy, in nats, with its interval over seeds.

    The paper compares the losses that each run minimises, and for the same probabilities focal loss is the lower one by
    construction. So this compares plain cross entropy of both, as the cells were seen in training: a mean over the
    epochs that both have, which is the lower the faster it falls, and over outer splits. Learning rates and other
    settings are those that the folds chose for each loss, and have their part in it. No smear is held out of a training
    loss: the interval speaks of other seeds with these training sets.

    Args:
        fits: of both, the same seeds and outer splits.
        store: where their curves lie.
    """
    curves = load_curves(store, list(fits["key"]))
    last = curves.groupby(["outer", "method"])["epoch"].max().groupby("outer").min()
    both = curves[curves["epoch"] <= curves["outer"].map(last)]
    means = both.groupby(["method", "seed", "outer"])["train_ce"].mean().groupby(["method", "seed"]).mean()
    by_seed = (means[FOCAL] - means[CROSS_ENTROPY]).to_numpy()
    return interval_of(by_seed, np.zeros(1), n_groups=0)


def _of_losses(
    pair: pd.DataFrame, architecture: str, splits: Splits, store: str | Path, seed: int
) -> list[tuple[Comparison, Difference]]:
    tables = predictions_by_method(pair, store)
    focal, plain = tables[architecture, FOCAL], tables[architecture, CROSS_ENTROPY]
    ranked = ranking_differences(focal, plain, seed=seed)
    claims = {name: "auroc_all_classes" for name in ranked if name.startswith("auroc_")}
    found = []
    for score in ("auprc", "auroc", *claims):
        found.append((Comparison(claims.get(score, ""), FOCAL, CROSS_ENTROPY, score=score), ranked[score]))
    of_decisions = (
        Comparison("", FOCAL, CROSS_ENTROPY, score=BALANCED_ACCURACY),
        Comparison("less_biased", FOCAL, CROSS_ENTROPY, LESS, RARE_AS_MAJORITY),
    )
    for comparison in of_decisions:
        found.append((comparison, paired_difference(focal, plain, score=comparison.score, seed=seed)))
    falls = Comparison("converges_faster", FOCAL, CROSS_ENTROPY, LESS, TRAIN_CE)
    found.append((falls, training_gap(pair, store)))
    bare = pair[pair["method"] == CROSS_ENTROPY]
    corrected = priors_divided_out(bare, splits, store)[architecture, CROSS_ENTROPY]
    for rival, rivals in ((CROSS_ENTROPY, plain), (FOCAL, focal)):
        for score in (MACRO_F1, BALANCED_ACCURACY):
            difference = paired_difference(corrected, rivals, score=score, seed=seed)
            found.append((Comparison("", PRIORS_OUT, rival, score=score), difference))
    return found
