import numpy as np
import pandas as pd
import pytest
from scipy import stats

from rbcnb.columns import CLASSES, UNSURE
from rbcnb.counting.differential import (
    COLUMNS,
    POOL,
    adjusted_interval,
    differential_count,
    pooled_interval,
    unmix,
    wilson,
)

Z = stats.norm.ppf(0.975)
CONFUSION = np.array([[60, 2, 3], [3, 70, 5], [10, 5, 480], [27, 23, 62]])  # outcome (last unsure) by true class


@pytest.mark.parametrize(("hits", "n"), [(0, 30), (1, 30), (15, 30), (30, 30), (7, 1000)])
def test_wilson_agrees_with_scipy(hits, n):
    expected = stats.binomtest(hits, n).proportion_ci(0.95, method="wilson")
    assert wilson(hits, n, critical=Z) == pytest.approx((expected.low, expected.high), abs=1e-12)


def test_without_cells_nothing_is_known():
    low, high = wilson(np.zeros(2), 0.0, critical=Z)
    assert (low == 0).all()
    assert (high == 1).all()


def test_smears_that_agree_pool_like_one_and_smears_that_differ_widen():
    alike = np.array([[10, 90]] * 5)
    low, high = pooled_interval(alike)
    t = stats.t.ppf(0.975, 4)
    assert (low[0], high[0]) == pytest.approx([float(x) for x in wilson(50, 500, critical=t)])
    mixed = np.array([[0, 100], [20, 80], [5, 95], [25, 75], [0, 100]])
    low_mixed, high_mixed = pooled_interval(mixed)
    assert low_mixed[0] < low[0]
    assert high_mixed[0] > high[0]
    assert np.allclose(pooled_interval(alike[:1]), wilson(alike[0], 100, critical=Z))


def test_the_pooled_interval_covers_the_population_of_smears():
    """Smears whose share of codocytes varies (beta): the interval is of the population's mean."""
    rng = np.random.default_rng(0)
    hit = 0
    for _ in range(600):
        shares = rng.beta(2, 18, 12)
        counts = rng.binomial(150, shares)
        low, high = pooled_interval(np.column_stack([counts, 150 - counts]))
        hit += low[0] <= 0.1 <= high[0]
    assert 0.925 <= hit / 600 <= 0.985


def test_unmix_undoes_a_known_confusion_exactly():
    rates = CONFUSION + 1 / 4
    rates = rates / rates.sum(axis=0)
    for shares in ([0.2, 0.3, 0.5], [0.05, 0.05, 0.9], [0.0, 0.1, 0.9]):
        assert unmix(1e6 * rates @ shares, CONFUSION, prior_cells=20) == pytest.approx(shares, abs=2e-3)


def test_unmix_keeps_to_shares_when_no_mixture_explains_the_counts():
    shares = unmix(np.array([1e5, 0, 0, 0]), CONFUSION, prior_cells=20)
    assert shares.sum() == pytest.approx(1)
    assert shares[0] == pytest.approx(1, abs=1e-3)
    assert (shares >= 0).all()


def test_what_nothing_tells_stays_as_it_was_called():
    alike = 1000 * np.array([[80, 8, 0], [20, 2, 0], [0, 0, 50], [0, 0, 0]])  # the first two are called alike
    shares = unmix(np.array([40.0, 10, 50, 0]), alike, prior_cells=20)
    assert shares == pytest.approx([0.4, 0.1, 0.5], abs=0.005)


def test_few_training_smears_correct_less_than_many():
    calls = np.array([[40, 5, 55, 0]])
    few, *_ = adjusted_interval(calls, np.stack([CONFUSION] * 2), seed=0)
    many, *_ = adjusted_interval(calls, np.stack([CONFUSION] * 60), seed=0)
    whole = unmix(1e6 * calls[0], CONFUSION * 60, prior_cells=0)
    raw = calls[0, :3] / 100
    assert np.abs(many - whole).max() < 0.01
    assert np.abs(few - raw).sum() < 0.8 * np.abs(many - raw).sum()
    assert (np.sign(few - raw) == np.sign(many - raw)).all()
    large, *_ = adjusted_interval(40 * calls, np.stack([CONFUSION] * 2), seed=0)  # more cells tell no more of confusion
    assert large == pytest.approx(few, abs=0.02)


@pytest.mark.slow
def test_the_adjusted_interval_covers_where_the_raw_one_is_biased():
    """Training smears and new smears are drawn from one confusion; the share of codocytes is another than theirs."""
    rng = np.random.default_rng(1)
    rates = CONFUSION / CONFUSION.sum(axis=0)
    truth = np.array([0.3, 0.1, 0.6])
    covered = raw_covered = 0
    for trial in range(80):
        confusion = np.stack([[rng.multinomial(n, rates[:, c]) for c, n in enumerate((10, 10, 50))] for _ in range(15)])
        confusion = np.swapaxes(confusion, 1, 2)
        counts = rng.multinomial(200, rates @ truth, size=6)
        _, low, high = adjusted_interval(counts, confusion, seed=trial, n_draws=200)
        covered += low[0] <= truth[0] <= high[0]
        raw_low, raw_high = pooled_interval(counts)
        raw_covered += raw_low[0] <= truth[0] <= raw_high[0]
    assert covered / 80 >= 0.9
    assert raw_covered / 80 < 0.2


def test_differential_counts_every_smear_and_the_pool():
    calls = pd.DataFrame({"smear": ["a"] * 10 + ["b"] * 20 + ["odd"] * 5})
    calls["call"] = ["normal"] * 8 + ["codocyte", UNSURE] + ["normal"] * 20 + ["codocyte"] * 5
    table = differential_count(calls, CLASSES, pool={"a", "b"})
    assert list(table.columns) == list(COLUMNS)
    assert list(dict.fromkeys(table["smear"])) == ["a", "b", "odd", POOL]
    pooled = table[table["smear"] == POOL].set_index("class")["n_cells"]
    assert pooled.to_dict() == {"codocyte": 1, "hypochromia": 0, "normal": 28, UNSURE: 1}
    assert table["adjusted"].isna().all()
    inside = (table["low"] <= table["share"]) & (table["share"] <= table["high"])
    assert inside.all()

    adjusted = differential_count(calls, CLASSES, confusion=np.stack([CONFUSION] * 3))
    sure = adjusted.groupby("smear").filter(lambda rows: (rows["doubt"] == "").all())
    shares = sure[sure["class"] != UNSURE].groupby("smear")["adjusted"].sum()
    assert len(shares)
    assert shares.to_numpy() == pytest.approx(1)
    assert adjusted.loc[adjusted["class"] == UNSURE, "adjusted"].isna().all()
    assert differential_count(calls.iloc[:0], CLASSES).empty


def test_what_cannot_be_told_has_a_reason_and_no_adjusted_share():
    calls = pd.DataFrame({"smear": ["a"] * 60 + ["b"] * 60})
    calls["call"] = (["normal"] * 40 + ["codocyte"] * 20) * 2
    options = {"confusion": np.stack([CONFUSION] * 3), "pool": {"a"}}
    plain = differential_count(calls, CLASSES, **options).set_index(["smear", "class"])
    assert (plain.loc["a", "doubt"] == "").all()

    unlike = (
        np.array([[9, 0, 0], [0, 9, 0], [0, 0, 9], [1, 1, 1]]),
        np.array([[0, 0, 9], [0, 9, 0], [9, 0, 0], [1, 1, 1]]),
    )
    certain = calls.assign(call="normal")
    table = differential_count(certain, CLASSES, confusion=np.stack(unlike)).set_index(["smear", "class"])
    assert (
        table.loc[("a", "normal"), "doubt"] == "cannot be told: the model confuses too much"
    )  # each smear says otherwise
    assert table.loc[("a", "normal"), ["adjusted", "adjusted_low", "adjusted_high"]].isna().all()

    doubts = {"class_doubts": {"normal": "", "codocyte": "too few"}, "smear_doubts": {"b": "too blue"}}
    table = differential_count(calls, CLASSES, **options, **doubts).set_index(["smear", "class"])
    assert table.loc["a", "doubt"].to_dict() == {
        "codocyte": "cannot be told: too few", "hypochromia": "", "normal": "", UNSURE: ""
    }  # fmt: skip
    assert table.loc["b", "doubt"].drop(UNSURE).eq("cannot be told: too blue").all()
    assert table["adjusted"].isna().equals((table["doubt"] != "") | (table.index.get_level_values("class") == UNSURE))
    assert table["share"].notna().all()  # what was called is a fact all the same
    same = table["doubt"].eq("") & plain["doubt"].eq("")
    assert table.loc[same, "adjusted"].equals(plain.loc[same, "adjusted"])
