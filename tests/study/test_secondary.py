"""Secondary scores against scikit-learn on the pooled cells, and priors that outer splits do not share."""

from dataclasses import asdict, replace

import numpy as np
import pandas as pd
import pytest
from conftest import make_predictions
from scipy import stats
from sklearn.metrics import average_precision_score, balanced_accuracy_score, f1_score, roc_auc_score

from rbcnb.columns import CLASSES
from rbcnb.evaluation.metrics import score_predictions
from rbcnb.evaluation.prior_shift import focal_posterior
from rbcnb.study.ladder import priors_divided_out, training_counts, training_prior
from rbcnb.study.secondary import secondary_rows, training_gap
from rbcnb.study.store import store_result
from rbcnb.training.fit import TrialResult
from rbcnb.training.trial import Trial

PROBS = [f"prob_{name}" for name in CLASSES]
NETWORKS = ("densenet121", "resnet50")
SEEDS = range(3)
DEV = {"honest": (30, 20, 150), "honest_1": (10, 40, 200)}  # cells of each class
EPOCHS = {("cross_entropy", 0): 4, ("focal", 0): 2, ("cross_entropy", 1): 3, ("focal", 1): 5}


def train_ce(trial: Trial) -> np.ndarray:
    """Made-up curves: a power of the epoch that differs by loss, seed and outer split."""
    power = {"cross_entropy": 1.0, "focal": 0.7}[trial.loss] + 0.05 * trial.seed + 0.1 * trial.outer
    return np.arange(1, trial.epochs + 1) ** -power


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Both losses with both networks, three seeds and two outer splits: fits, splits, store and pooled predictions."""
    store, cells = tmp_path_factory.mktemp("secondary"), make_predictions()
    rows, whole = [], {}
    for a, network in enumerate(NETWORKS):
        for m, (loss, knobs) in enumerate((("cross_entropy", {}), ("focal", {"alpha": 0.5, "gamma": 2.0}))):
            for seed in SEEDS:
                rng = np.random.default_rng([a, m, seed])
                is_class = cells["target"].to_numpy()[:, None] == np.array(CLASSES)
                logits = rng.normal(size=(300, 3)) + (1 + 0.4 * a + 0.2 * m) * is_class + np.log([0.1, 0.1, 0.8])
                probs = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
                table = cells.assign(pred=np.array(CLASSES)[probs.argmax(axis=1)])
                table[PROBS] = probs
                whole[network, loss, seed] = table
                for outer in (0, 1):
                    trial = Trial(network, loss, seed=seed, outer=outer, protocol="honest", **knobs)
                    trial = replace(trial, epochs=EPOCHS[loss, outer])
                    tested = table[(table["group"] < "06.png") == (outer == 0)].reset_index(drop=True)
                    nothing = dict.fromkeys(("train_loss", "valid_loss", "valid_ce", "valid_macro_f1"), np.nan)
                    epochs = range(1, trial.epochs + 1)
                    curves = pd.DataFrame({"epoch": epochs, "train_ce": train_ce(trial)}).assign(**nothing)
                    result = TrialResult(trial, score_predictions(tested), curves, tested, 100, 1.0, "cpu", 32)
                    key = store_result(result, store, data=f"{outer}")
                    rows.append({**asdict(trial), "method": loss, "key": key, **result.scores})
    splits = {name: pd.DataFrame({"label": np.repeat(CLASSES, counts), "split": "dev"}) for name, counts in DEV.items()}
    return pd.DataFrame(rows), splits, store, whole


@pytest.fixture(scope="module")
def rows(made):
    fits, splits, store, _ = made
    found = secondary_rows(fits, splits=splits, store=store, margin=0.02, seed=0, protocol="honest")
    return pd.DataFrame(found).set_index(["architecture", "first", "second", "score"])


def mean_gap(first, second, score) -> float:
    return float(np.mean([score(a) - score(b) for a, b in zip(first, second, strict=True)]))


def per_class(function):
    return lambda table: [function(table["target"] == name, table[f"prob_{name}"]) for name in CLASSES]


def f1(table):
    return f1_score(table["target"], table["pred"], average="macro")


def balanced_accuracy(table):
    return balanced_accuracy_score(table["target"], table["pred"])


SCORES = {
    "auprc": lambda table: np.mean(per_class(average_precision_score)(table)),
    "auroc": lambda table: np.mean(per_class(roc_auc_score)(table)),
    **{f"auroc_{name}": lambda table, i=i: per_class(roc_auc_score)(table)[i] for i, name in enumerate(CLASSES)},
    "balanced_accuracy": balanced_accuracy,
    "rare_called_majority": lambda table: (table.loc[table["target"] != "normal", "pred"] == "normal").mean(),
}


@pytest.mark.parametrize("score", list(SCORES))
def test_losses_are_compared_in_every_score_of_pooled_predictions(made, rows, score):
    whole = made[3]
    for network in NETWORKS:
        sides = ([whole[network, loss, seed] for seed in SEEDS] for loss in ("focal", "cross_entropy"))
        row = rows.loc[(network, "focal", "cross_entropy", score)]
        assert row["mean"] == pytest.approx(mean_gap(*sides, SCORES[score]))
        assert row["low"] < row["mean"] < row["high"]
        assert (row["n_seeds"], row["n_groups"]) == (3, 12)


def test_networks_are_compared_with_each_loss_and_the_claim_is_of_focal_loss(made, rows):
    whole = made[3]
    for loss, claim in (("focal", "densenet_better"), ("cross_entropy", "")):
        sides = ([whole[network, loss, seed] for seed in SEEDS] for network in NETWORKS)
        row = rows.loc[(loss, *NETWORKS, "macro_f1")]
        assert row["mean"] == pytest.approx(mean_gap(*sides, f1))
        assert row["claim"] == claim
    assert row["contrast"] == "DenseNet-121 − ResNet-50\ncross entropy, honest"


def test_priors_are_divided_out_of_each_split_before_its_cells_are_pooled(made, rows):
    _, _, _, whole = made
    for network in NETWORKS:
        corrected = []
        for seed in SEEDS:
            table = whole[network, "cross_entropy", seed].copy()
            first = (table["group"] < "06.png").to_numpy()[:, None]
            odds = table[PROBS].to_numpy() / np.where(first, DEV["honest"], DEV["honest_1"])
            corrected.append(table.assign(pred=np.array(CLASSES)[odds.argmax(axis=1)]))
        for rival in ("cross_entropy", "focal"):
            others = [whole[network, rival, seed] for seed in SEEDS]
            for name, score in (("macro_f1", f1), ("balanced_accuracy", balanced_accuracy)):
                row = rows.loc[(network, "cross_entropy_priors_out", rival, name)]
                assert row["mean"] == pytest.approx(mean_gap(corrected, others, score))
                assert row["claim"] == ""
        assert rows.loc[(network, "cross_entropy_priors_out", "cross_entropy", "balanced_accuracy"), "mean"] > 0.05


def test_focal_loss_is_mapped_back_before_its_prior_is_divided_out(made):
    fits, splits, store, whole = made
    focal = fits[fits["method"] == "focal"]
    found = priors_divided_out(focal, splits, store)["resnet50", "focal"]
    for seed, table in zip(SEEDS, found, strict=True):
        plain = whole["resnet50", "focal", seed].sort_values(["smear", "cell"], ignore_index=True)
        first = (plain["group"] < "06.png").to_numpy()[:, None]
        odds = focal_posterior(plain[PROBS].to_numpy(), gamma=2.0) / np.where(first, DEV["honest"], DEV["honest_1"])
        np.testing.assert_allclose(table[PROBS], odds / odds.sum(axis=1, keepdims=True), rtol=1e-9)
        assert table["target"].tolist() == plain["target"].tolist()


def test_training_counts_are_those_of_the_rung_or_of_all_development_cells(made):
    splits = made[1]
    assert training_counts("honest", 1, "all", splits) == dict(zip(CLASSES, DEV["honest_1"], strict=True))
    assert training_counts("honest", 0, "5/6/70", splits) == {"codocyte": 5, "hypochromia": 6, "normal": 70}
    fits = pd.DataFrame({"protocol": "honest", "outer": [0, 0, 1], "dev_counts": ["5/6/70", "5/6/70", "all"]})
    assert training_prior(fits, splits) == {"codocyte": 15, "hypochromia": 46, "normal": 270}


def test_training_is_compared_by_cross_entropy_over_the_epochs_that_both_have(made, rows):
    fits, _, store, _ = made
    by_seed = []
    for seed in SEEDS:
        gap = []
        for outer, shared in ((0, 2), (1, 3)):
            trials = (Trial(loss="cross_entropy", seed=seed, outer=outer, epochs=9),)
            trials += (replace(trials[0], loss="focal", alpha=1.0, gamma=2.0),)
            plain, focal = (train_ce(trial)[:shared].mean() for trial in trials)
            gap.append(focal - plain)
        by_seed.append(np.mean(gap))
    gap = training_gap(fits[fits["architecture"] == "resnet50"], store)
    low, high = stats.t.interval(0.95, 2, loc=np.mean(by_seed), scale=stats.sem(by_seed))
    assert gap.by_seed == pytest.approx(tuple(by_seed))
    assert (gap.low, gap.high) == pytest.approx((low, high))
    row = rows.loc[("resnet50", "focal", "cross_entropy", "train_ce")]
    assert row["mean"] == pytest.approx(gap.mean)
    assert row["n_groups"] == 0
    assert row["verdict"] == "not supported"  # it stays higher: this focal loss does not fall faster


def test_claims_are_asked_in_their_direction(rows):
    asked = (
        rows[rows["claim"] != ""]
        .reset_index()
        .groupby("claim")[["question", "score"]]
        .agg(lambda some: sorted(set(some)))
    )
    assert asked.loc["less_biased"].tolist() == [["less"], ["rare_called_majority"]]
    assert asked.loc["converges_faster"].tolist() == [["less"], ["train_ce"]]
    assert asked.loc["auroc_all_classes"].tolist() == [["gain"], [f"auroc_{name}" for name in CLASSES]]
    assert asked.loc["densenet_better"].tolist() == [["gain"], ["macro_f1"]]


def test_a_loss_or_network_that_was_not_fitted_is_left_out(made):
    fits, splits, store, _ = made
    options = {"splits": splits, "store": store, "margin": 0.02, "seed": 0, "protocol": "honest"}
    assert secondary_rows(fits[fits["architecture"].eq("resnet50") & fits["method"].eq("focal")], **options) == []
    rows = pd.DataFrame(secondary_rows(fits[fits["architecture"] == "resnet50"], **options))
    assert set(rows["architecture"]) == {"resnet50"}
