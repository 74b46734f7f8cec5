"""Tables 1 to 3: the published rows as printed, ours beside them, and the majority baseline by scikit-learn."""

import numpy as np
import pandas as pd
import pytest
from conftest import make_cells, noisy
from sklearn.dummy import DummyClassifier
from sklearn.metrics import f1_score
from stored_trials import keep_predictions

from rbcnb.evaluation.hypothesis_tests import corrected_resampled_t
from rbcnb.evaluation.inference import interval_of_macro_f1, paired_macro_f1
from rbcnb.evaluation.metrics import score_predictions
from rbcnb.evaluation.relative_gain import relative_improvement
from rbcnb.paper import TABLE1, TABLE2, TABLE3
from rbcnb.study.ladder import dev_rungs, ladder_counts
from rbcnb.study.tables import (
    absent_classes,
    beside_published,
    majority_baseline,
    over_splits,
    resampled_t,
    seed_scores,
    table1,
    table2,
    table3,
)
from rbcnb.training.splits import assign_splits


def fit(method: str, alpha: float | None, seed: int, macro_f1: float, **more) -> dict:
    settings = {"architecture": "small", "method": method, "alpha": alpha, "gamma": 2.0 if alpha else None}
    return settings | {
        "learning_rate": 1e-3, "epochs": 5, "outer": 0, "arm": "table2", "seed": seed,
        "accuracy": 0.9, "macro_f1": macro_f1, "auroc": 0.95, **more
    }  # fmt: skip


def all_wrong(predictions: pd.DataFrame) -> pd.DataFrame:
    after = {"codocyte": "hypochromia", "hypochromia": "normal", "normal": "codocyte"}
    return predictions.assign(pred=predictions["target"].map(after))


@pytest.fixture
def stored(predictions, tmp_path):
    """Writes predictions of fits, the better the higher their macro F1, and returns their rows with keys."""

    def store(rows: list[dict]) -> pd.DataFrame:
        table = pd.DataFrame(rows)
        noisy_ones = [noisy(predictions, row["macro_f1"], i) for i, row in enumerate(rows)]
        keys = [keep_predictions(tmp_path, str(i), noisy_table) for i, noisy_table in enumerate(noisy_ones)]
        return table.assign(fold=None, key=keys).astype({"alpha": float, "gamma": float})

    return store


def macro_f1_of(tmp_path, rows: pd.DataFrame) -> float:
    """By scikit-learn, of the cells of all *rows* together."""
    cells = pd.concat([pd.read_parquet(tmp_path / f"{key}.parquet") for key in rows["key"]])
    return f1_score(cells["target"], cells["pred"], average="macro")


def test_table_1_averages_over_seeds_and_keeps_the_published_rows(stored, tmp_path):
    rows = [fit("cross_entropy", None, 0, 0.6), fit("cross_entropy", None, 1, 0.8), fit("focal", 0.5, 0, 0.5)]
    rows = stored(rows)
    table = table1({"honest": rows}, tmp_path, seed=0)
    published = table[table["protocol"] == "published"]
    assert published["macro_f1"].tolist() == TABLE1["macro_f1"].tolist()
    assert len(published) == 20
    ours = table[table["protocol"] == "honest"].set_index("method")
    assert list(ours.index) == ["focal", "cross_entropy"]
    both = [macro_f1_of(tmp_path, rows.iloc[[i]]) for i in (0, 1)]
    assert ours.loc["cross_entropy", "macro_f1"] == pytest.approx(np.mean(both))
    assert ours.loc["cross_entropy", "macro_f1_sd"] == pytest.approx(np.std(both, ddof=1))
    assert ours.loc["cross_entropy", "n_seeds"] == 2
    assert pd.isna(ours.loc["focal", "macro_f1_sd"])
    both = [pd.read_parquet(tmp_path / f"{key}.parquet") for key in rows["key"][:2]]
    interval = paired_macro_f1(both, [all_wrong(table) for table in both], seed=0)
    columns = ["macro_f1_low", "macro_f1_high"]
    assert ours.loc["cross_entropy", columns].tolist() == pytest.approx([interval.low, interval.high], abs=1e-12)
    assert published[["macro_f1_low", "macro_f1_high"]].isna().all(axis=None)
    beside = beside_published(table, ["method", "alpha"])
    assert list(beside.columns) == [("published", "DenseNet-121"), ("published", "ResNet-50"), ("honest", "lesson net")]
    assert beside.loc[("focal loss", 0.5)].tolist()[:2] == ["0.72", "0.71"]
    wanted = f"{interval.mean:.3f} [{interval.low:.2f}, {interval.high:.2f}]"
    assert beside.loc[("cross entropy", "–")].tolist() == ["0.84", "0.85", wanted]
    assert beside.loc[("focal loss", 0.25), ("honest", "lesson net")] == ""


def test_scores_of_outer_splits_are_those_of_each_seeds_pooled_cells(predictions, tmp_path):
    """A mean of scores per split is another number: here one split has all codocytes but two."""
    first = (predictions["target"] == "codocyte") & (np.arange(300) > 20)
    rows = []
    for seed in range(3):
        for outer, tested in enumerate((first, ~first)):
            key = keep_predictions(tmp_path, f"{seed}{outer}", noisy(predictions, 0.5 + 0.1 * seed, seed)[tested])
            rows.append(fit("focal", 1.0, seed, 0.0, outer=outer) | {"fold": None, "key": key})
    rows = pd.DataFrame(rows)
    row = table1({"honest": rows}, tmp_path, seed=0).query("protocol == 'honest'").iloc[0]
    whole = [noisy(predictions, 0.5 + 0.1 * seed, seed) for seed in range(3)]
    pooled = [score_predictions(table) for table in whole]
    for score in ("accuracy", "macro_f1", "auroc"):
        assert row[score] == pytest.approx(np.mean([scores[score] for scores in pooled]))
    assert row["macro_f1_sd"] == pytest.approx(np.std([scores["macro_f1"] for scores in pooled], ddof=1))
    per_split = np.mean([macro_f1_of(tmp_path, rows.iloc[[i]]) for i in range(6)])
    assert abs(per_split - row["macro_f1"]) > 0.05
    # One estimand: the score and its interval, and what a difference is of.
    assert row["macro_f1"] == pytest.approx((row["macro_f1_low"] + row["macro_f1_high"]) / 2)
    rival = [all_wrong(table) for table in whole]
    assert row["macro_f1"] == pytest.approx(paired_macro_f1(whole, rival, seed=0).mean)
    assert row[["n_seeds", "n_splits"]].tolist() == [3, 2]


def test_the_interval_of_a_score_is_that_of_its_difference_from_all_wrong(predictions):
    """Predictions that score 0 whatever is drawn leave the method's own chance in the difference."""
    tables = [noisy(predictions, 0.8, seed) for seed in range(3)]
    ours = interval_of_macro_f1(tables, seed=4)
    theirs = paired_macro_f1(tables, [all_wrong(table) for table in tables], seed=4)
    assert (ours.mean, ours.low, ours.high) == pytest.approx((theirs.mean, theirs.low, theirs.high), abs=1e-12)


def test_table_2_has_the_published_counts_under_the_papers_protocol():
    cells, _ = make_cells({"codocyte": 345, "hypochromia": 356, "normal": 2691}, n_smears=22)
    rungs = ladder_counts(cells["label"].value_counts().to_dict())
    split = assign_splits(cells, protocol="honest", seed=0)
    table = table2({("paper", "table2"): rungs, ("honest", "table2"): dev_rungs(split, rungs)})
    names = ["rho", "codocyte", "hypochromia", "normal", "total"]
    published, paper, honest = (table[table["protocol"] == name] for name in ("published", "paper", "honest"))
    assert published[names].to_numpy().tolist() == TABLE2[names].to_numpy().tolist()
    assert paper[names].to_numpy().tolist() == TABLE2[names].to_numpy().tolist()
    assert (paper["rho_here"] - paper["rho"]).abs().max() < 0.005
    assert ((honest["rho_here"] / honest["rho"] - 1).abs() < 0.1).all()


def test_table_3_feeds_figure_13(stored, tmp_path):
    rows = [
        fit(m, a, 0, f, rho=rho)
        for rho in (2.03, 7.8)
        for m, a, f in (("focal", 1.0, 0.6), ("cross_entropy", None, 0.5))
    ]
    table = table3({"paper": stored(rows)}, tmp_path, seed=0)
    published = table[table["protocol"] == "published"]
    assert len(published) == len(TABLE3) == 28
    ours = table[table["protocol"] == "paper"]
    assert ours["rung_macro_f1"].isna().all()
    assert relative_improvement(ours)["macro_f1"].notna().all()


def test_table_3_has_the_same_cells_at_three_prevalences(stored, tmp_path):
    rows = stored([fit("focal", 1.0, seed, 0.6, rho=2.03, balanced_macro_f1=0.0) for seed in range(2)])
    prior = {"codocyte": 230, "hypochromia": 235, "normal": 469}
    priors = {("table2", 2.03): prior}
    row = table3({"honest": rows}, tmp_path, seed=0, rung_priors=priors).query("protocol == 'honest'").iloc[0]
    tables = [pd.read_parquet(tmp_path / f"{key}.parquet") for key in rows["key"]]
    for column, weighted in (("balanced_macro_f1", "balanced"), ("rung_macro_f1", prior), ("macro_f1", "natural")):
        scores = [score_predictions(table, prior=weighted)["macro_f1"] for table in tables]
        assert row[column] == pytest.approx(np.mean(scores)), column
    assert len({round(row[name], 9) for name in ("macro_f1", "balanced_macro_f1", "rung_macro_f1")}) == 3
    seeds = seed_scores(rows, ["arm", "rho", "architecture", "method"], store=tmp_path, rung_priors=priors)
    assert seeds["rung_macro_f1"].mean() == pytest.approx(row["rung_macro_f1"])
    assert seeds[["arm", "rho", "method"]].to_numpy().tolist() == [["table2", 2.03, "focal"]] * 2


def test_outer_splits_with_their_own_settings_are_one_row(predictions, tmp_path):
    rows = [fit("focal", 0.5, 0, 0.6, outer=0), fit("focal", 1.5, 0, 0.8, outer=1)]
    for i, row in enumerate(rows):
        half = noisy(predictions, 0.7, 0).iloc[150 * i : 150 * (i + 1)]
        row |= {"fold": None, "key": keep_predictions(tmp_path, str(i), half)}
    row = table1({"honest": pd.DataFrame(rows)}, tmp_path, seed=0).query("protocol == 'honest'")
    assert row["macro_f1"].tolist() == [pytest.approx(score_predictions(noisy(predictions, 0.7, 0))["macro_f1"])]
    assert row["alpha"].isna().all()
    assert row[["gamma", "n_splits"]].to_numpy().tolist() == [[2.0, 2]]


def test_resampled_t_is_over_splits_of_means_over_seeds():
    scores = {0: (0.6, 0.8), 1: (0.5, 0.7), 2: (0.9, 0.9)}
    rows = [fit("focal", 1.0, seed, f + 0.1, outer=outer) for outer, fs in scores.items() for seed, f in enumerate(fs)]
    rows += [fit("cross_entropy", None, seed, 0.5, outer=outer) for outer in scores for seed in (0, 1)]
    fits = pd.DataFrame(rows).assign(protocol="honest")
    smears = [f"{i}.png" for i in range(12)]
    splits = {
        name: pd.DataFrame({"group": smears, "split": ["test" if i % 3 == k else "dev" for i in range(12)]})
        for k, name in enumerate(("honest", "honest_1", "honest_2"))
    }
    assert list(resampled_t(fits.query("outer == 0"), splits).columns)[:2] == ["architecture", "method"]
    table = resampled_t(fits, splits)
    expected = corrected_resampled_t([0.3, 0.2, 0.5], n_train=2, n_test=1)
    assert table["method"].tolist() == ["focal"]
    fewer = fits.query("outer < 2 or method == 'cross_entropy'")  # focal loss lacks a split
    assert resampled_t(fewer, splits).loc[0, ["n_splits", "mean"]].tolist() == pytest.approx([2, 0.25])
    assert table.loc[0, ["mean", "low", "high"]].tolist() == pytest.approx([expected.mean, expected.low, expected.high])
    turned = over_splits(fits, "cross_entropy", "focal", splits)
    assert (turned["low"], turned["high"]) == pytest.approx((-expected.high, -expected.low))
    assert over_splits(fits, "focal", "over_sampling", splits) is None


def test_majority_baseline_is_the_dummy_classifier(data):
    cells, _ = data
    split = assign_splits(cells, protocol="paper", seed=0)
    dev, test = split[split["split"] == "dev"], split[split["split"] == "test"]
    dummy = DummyClassifier(strategy="most_frequent").fit(dev[["crop"]], dev["label"])
    guess = dummy.predict(test[["crop"]])
    row = majority_baseline(split).iloc[0]
    assert row["accuracy"] == pytest.approx((guess == test["label"]).mean())
    assert row["macro_f1"] == pytest.approx(f1_score(test["label"], guess, average="macro"))
    assert row["auroc"] == 0.5


def test_majority_baseline_leaves_out_a_class_that_is_not_tested(data):
    split = assign_splits(data[0], protocol="paper", seed=0)
    split.loc[split["label"] == "codocyte", "split"] = "dev"
    test = split.loc[split["split"] == "test", "label"]
    expected = f1_score(test, ["normal"] * len(test), average="macro")
    assert majority_baseline(split)["macro_f1"][0] == pytest.approx(expected)
    alone = split[(split["split"] == "dev") | (split["label"] == "normal")]
    assert majority_baseline(alone).iloc[0].tolist() == pytest.approx([1, 1, float("nan")], nan_ok=True)


def test_a_class_without_test_or_training_cells_is_named_with_its_split(data):
    split = assign_splits(data[0], protocol="paper", seed=0)
    assert absent_classes({"paper": split, "honest_1": split}) == "Every class has training and test cells."
    untested, unlearnt = (
        split.assign(split=split["split"].mask(split["label"] == "codocyte", x)) for x in ("dev", "test")
    )
    first, second = absent_classes({"paper, ρ 37.9": untested, "paper": split, "paper, ρ 2": unlearnt}).split("\n")
    assert first.startswith("paper, ρ 37.9: no test cell is of the class codocyte: ")
    assert second.startswith("paper, ρ 2: no training cell is of the class codocyte: ")
    assert all("Add smears that hold it" in fault for fault in (first, second))
    gone = split[split["label"] != "codocyte"]  # a class that only another split knows of
    assert absent_classes({"paper": split, "small": gone}).count("small: no ") == 2
