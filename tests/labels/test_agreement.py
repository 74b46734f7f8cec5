"""Agreement against published examples, scikit-learn and brute force; intervals against the asymptotic formula."""

import importlib.util
import itertools
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import cohen_kappa_score, f1_score

from rbcnb.labels.agreement import (
    agreement_table,
    cohen_kappa,
    disagreement_counts,
    jackknife,
    ratings_of,
    simulated_readers,
)
from rbcnb.labels.readings import Reading, append_readings, load_readings
from rbcnb.plotting.labels import plot_agreement, plot_disagreement

# Fleiss (1971), table 1: 30 patients, 6 psychiatrists, 5 diagnoses.
FLEISS_1971 = """
00060 03003 01401 00006 03030 20400 00402 20310 20040 00006 10050 11040 03300 10050 02031
00501 30012 51000 02040 10203 00006 01050 02013 20040 10041 05010 40002 02040 10500 00006
"""


@pytest.fixture
def ratings() -> pd.DataFrame:
    """Three readers of 400 cells of 20 smears, each naming some nine cells in ten."""
    rng = np.random.default_rng(0)
    cells = pd.DataFrame({"smear": np.arange(400) // 20, "cell": np.arange(400) % 20})
    cells["label"] = rng.choice(["codocyte", "hypochromia", "normal"], 400, p=[0.2, 0.2, 0.6])
    table = simulated_readers(cells, error=0.15, spread=0.1, seed=1, readers=("anna", "bo", "cy"))
    return table.mask(rng.random(table.shape) < 0.1)


def rows(table: pd.DataFrame) -> pd.DataFrame:
    return table.set_index("statistic")


def smears_of(ratings: pd.DataFrame) -> np.ndarray:
    return ratings.index.get_level_values("smear").to_numpy()


def test_fleiss_own_example():
    votes = np.array([[int(n) for n in row] for row in FLEISS_1971.split()])
    assert votes.shape == (30, 5)
    assert (votes.sum(axis=1) == 6).all()
    # As printed: the diagnoses' shares, and kappa.
    assert (votes.sum(axis=0) / votes.sum()).round(3).tolist() == [0.144, 0.144, 0.167, 0.306, 0.239]
    diagnoses = [np.repeat(list("abcde"), patient) for patient in votes]
    table = rows(agreement_table(pd.DataFrame(diagnoses), np.arange(30)))
    assert table.loc["Fleiss' kappa", "value"] == pytest.approx(0.430, abs=5e-4)


def test_cohens_kappa_is_scikit_learns(ratings):
    for first, second in itertools.combinations(ratings, 2):
        both = ratings[[first, second]].dropna()
        expected = cohen_kappa_score(both[first], both[second])
        assert cohen_kappa(disagreement_counts(both).to_numpy()) == pytest.approx(expected)
        table = rows(agreement_table(ratings, smears_of(ratings)))
        row = table.loc[f"Cohen's kappa, {first} and {second}"]
        assert (row["value"], row["n_cells"]) == (pytest.approx(expected), len(both))


def test_agreement_on_a_class_of_two_readers_is_f1(ratings):
    both = ratings[["anna", "bo"]].dropna()
    table = rows(agreement_table(ratings[["anna", "bo"]], smears_of(ratings)))
    for name in ("codocyte", "hypochromia", "normal"):
        expected = f1_score(both["anna"], both["bo"], labels=[name], average="macro")
        assert table.loc[f"agreement on {name}", "value"] == pytest.approx(expected)
    assert table.loc["agreement", "value"] == pytest.approx((both["anna"] == both["bo"]).mean())
    # Of two readers Fleiss' kappa is Scott's pi.
    shares = pd.concat([both["anna"], both["bo"]]).value_counts(normalize=True)
    chance, observed = (shares**2).sum(), (both["anna"] == both["bo"]).mean()
    assert table.loc["Fleiss' kappa", "value"] == pytest.approx((observed - chance) / (1 - chance))


def test_missing_readings_leave_the_pairs_there_are(ratings):
    # Brute force: every cell's share of agreeing pairs, over the cells with a pair.
    shares, votes = [], []
    for _, calls in ratings.iterrows():
        names = calls.dropna().tolist()
        if len(names) >= 2:
            pairs = list(itertools.combinations(names, 2))
            shares.append(np.mean([a == b for a, b in pairs]))
            votes.append([names.count(name) / len(names) for name in ("codocyte", "hypochromia", "normal")])
    chance = (np.mean(votes, axis=0) ** 2).sum()
    table = rows(agreement_table(ratings, smears_of(ratings)))
    assert table.loc["agreement", "value"] == pytest.approx(np.mean(shares))
    assert table.loc["agreement", "n_cells"] == len(shares)
    assert table.loc["Fleiss' kappa", "value"] == pytest.approx((np.mean(shares) - chance) / (1 - chance))
    # A cell that one reader alone named, and a reader who named nothing, change nothing.
    alone = pd.DataFrame({"anna": ["normal"], "bo": [None], "cy": [None]}, index=[("z", 0)])
    more = pd.concat([ratings.astype(object), alone]).assign(dora=None)
    pd.testing.assert_frame_equal(table, rows(agreement_table(more, [*smears_of(ratings), "z"])))


def test_with_cells_as_smears_the_interval_is_the_asymptotic_one():
    rng = np.random.default_rng(2)
    truth = rng.choice(3, 3000, p=[0.15, 0.25, 0.6])
    calls = [np.where(rng.random(3000) < 0.2, rng.integers(0, 3, 3000), truth) for _ in range(2)]
    counts = np.zeros((3000, 3, 3))
    np.add.at(counts, (np.arange(3000), *calls), 1)
    value, low, high = jackknife(cohen_kappa, counts)
    # Fleiss, Cohen and Everitt (1969), eq. 13.
    p = counts.mean(axis=0)
    row, column = p.sum(axis=1), p.sum(axis=0)
    observed, chance = np.trace(p), row @ column
    a = sum(p[i, i] * ((1 - chance) - (row[i] + column[i]) * (1 - observed)) ** 2 for i in range(3))
    b = (1 - observed) ** 2 * sum(p[i, j] * (column[i] + row[j]) ** 2 for i in range(3) for j in range(3) if i != j)
    error = np.sqrt((a + b - (observed * chance - 2 * chance + observed) ** 2) / 3000) / (1 - chance) ** 2
    assert (high - low) / 2 == pytest.approx(1.96 * error, rel=0.01)
    assert value == pytest.approx((low + high) / 2)


def test_doubling_every_smear_narrows_the_interval_but_copies_of_cells_do_not(ratings):
    two = ratings[["anna", "bo"]]
    once = rows(agreement_table(two, smears_of(ratings)))
    copies = rows(agreement_table(pd.concat([two, two]), [*smears_of(ratings)] * 2))
    assert copies["value"].tolist() == pytest.approx(once["value"].tolist())
    assert copies["low"].tolist() == pytest.approx(once["low"].tolist())
    more = rows(agreement_table(pd.concat([two, two]), [*smears_of(ratings), *(smears_of(ratings) + 100)]))
    assert (more["high"] - more["low"] < once["high"] - once["low"]).all()


def test_where_nothing_can_be_known_no_interval_is_given():
    same = pd.DataFrame({"a": ["normal", "codocyte"] * 4, "b": ["normal", "codocyte"] * 4})
    table = rows(agreement_table(same, np.arange(8) // 2))
    assert table.loc["Cohen's kappa", "value"] == 1
    assert table["low"].isna().all()
    different = same.assign(b="normal")
    assert rows(agreement_table(different, np.zeros(8)))["low"].isna().all()
    with pytest.raises(ValueError, match="no cell was named by two readers"):
        agreement_table(same.assign(b=None), np.arange(8))
    with pytest.raises(ValueError, match="no cell was named by two readers"):
        agreement_table(pd.DataFrame({"a": [], "b": []}, dtype=object), [])


def test_ratings_are_the_last_words_that_name_a_class(tmp_path):
    def reading(cell, reader, label="", kind="label"):
        return Reading(smear="a", cell=cell, reader=reader, label=label, kind=kind)

    append_readings(
        tmp_path / "r.csv",
        [
            reading(0, "bo", "normal"), reading(0, "anna", "normal"), reading(0, "anna", "codocyte"),
            reading(1, "anna", "normal"), reading(1, "bo", kind="unsure"),
            reading(2, "bo", "normal"), reading(2, "bo", kind="undo"),
        ],
    )  # fmt: skip
    table = ratings_of(load_readings(tmp_path / "r.csv"))
    assert list(table.columns) == ["bo", "anna"]
    assert table.fillna("-").to_numpy().tolist() == [["normal", "codocyte"], ["-", "normal"]]
    assert ratings_of(load_readings(tmp_path / "none.csv")).empty


def test_simulated_readers_err_as_often_as_told():
    cells = pd.DataFrame({"smear": np.repeat(np.arange(2000), 10), "cell": np.tile(np.arange(10), 2000)})
    cells["label"] = np.resize(["codocyte", "hypochromia", "normal", "normal"], len(cells))
    calls = simulated_readers(cells, error=0.1, spread=0.08, seed=3)
    wrong = calls.ne(pd.Series(cells["label"].to_numpy(), index=calls.index), axis=0)
    assert wrong.mean().to_numpy() == pytest.approx([0.1, 0.1], abs=0.01)
    # Of one smear the two share their rate: var of a smear's mean is sd^2 + mean(r (1 - r)) / n.
    spread = wrong["first"].groupby(level="smear").mean().var()
    assert spread == pytest.approx(0.08**2 + (0.1 * 0.9 - 0.08**2) / 10, rel=0.1)
    sure = simulated_readers(cells, error=0.0, seed=3)
    assert sure["first"].tolist() == sure["second"].tolist() == cells["label"].tolist()
    for error, spread in ((1.1, 0.0), (0.5, 0.5)):
        with pytest.raises(ValueError, match="no reader errs on"):
            simulated_readers(cells, error=error, spread=spread, seed=3)


def test_pictures_show_every_count_and_statistic(ratings):
    counts = disagreement_counts(ratings[["anna", "bo"]])
    # Of three, the two with the most cells in common.
    lazy = ratings.assign(anna=ratings["anna"].where(np.arange(len(ratings)) < 9))
    assert disagreement_counts(lazy).to_dict() == disagreement_counts(ratings[["bo", "cy"]]).to_dict()
    figure = plot_disagreement(counts)
    shown = sorted(int(text.get_text()) for text in figure.axes[0].texts)
    assert shown == sorted(int(n) for n in counts.to_numpy().ravel() if n)
    table = agreement_table(ratings, smears_of(ratings))
    assert len(plot_agreement(table).axes[0].get_yticklabels()) == len(table)
    with pytest.raises(ValueError, match="same classes"):
        plot_disagreement(counts.iloc[:2])


@pytest.mark.slow
def test_the_interval_over_smears_holds_the_truth_and_that_over_cells_does_not():
    path = Path(__file__).parents[2] / "benchmarks" / "agreement_coverage.py"
    spec = importlib.util.spec_from_file_location("agreement_coverage", path)
    benchmark = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(benchmark)
    shares = benchmark.coverage(22, 60, 400)
    assert shares["kappa by smear"] > 0.90
    assert shares["agreement by smear"] > 0.90
    assert shares["agreement by cell"] < 0.80
