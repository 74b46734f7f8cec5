"""The best of k against closed forms, quadrature and simulation; what it says of the paper against its own table."""

import math
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from scipy import integrate, stats

from rbcnb.evaluation.winners_curse import chance_of_gain, expected_best_of
from rbcnb.paper import load_spread


def test_statistics_load_no_learning_framework():
    code = (
        "import sys, rbcnb.evaluation.hypothesis_tests, rbcnb.evaluation.power, rbcnb.evaluation.verdicts\n"
        "import rbcnb.evaluation.winners_curse, rbcnb.plotting.evaluation\n"
        "print(*{'torch', 'fastai'} & set(sys.modules))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == ""


@pytest.mark.parametrize(
    ("k", "expected"),
    [
        (1, 0),
        (2, 1 / math.sqrt(math.pi)),
        (3, 1.5 / math.sqrt(math.pi)),
        (4, 1.5 / math.sqrt(math.pi) * (1 + 2 / math.pi * math.asin(1 / 3))),
        (5, 1.25 / math.sqrt(math.pi) * (1 + 6 / math.pi * math.asin(1 / 3))),
    ],
)
def test_expectation_of_the_largest_normal_in_closed_form(k, expected):
    assert expected_best_of(k) == pytest.approx(expected, abs=1e-12)
    assert expected_best_of(k, 0.1) == pytest.approx(0.1 * expected, abs=1e-12)


def by_quadrature(gain: float, k: int, sd: float) -> float:
    """The chance that the best of *k* normal scores is at least *gain* above another one's."""
    return 1 - integrate.quad(lambda x: stats.norm.pdf(x) * stats.norm.cdf(x + gain / sd) ** k, -12, 12)[0]


@pytest.mark.parametrize("k", [7, 20])
def test_expectation_and_chance_are_those_of_quadrature(k):
    top = integrate.quad(lambda x: x * k * stats.norm.pdf(x) * stats.norm.cdf(x) ** (k - 1), -12, 12)[0]
    assert expected_best_of(k) == pytest.approx(top, abs=1e-8)
    for gain in (-0.1, 0.02, 0.3):
        assert chance_of_gain(gain, k, 0.1) == pytest.approx(by_quadrature(gain, k, 0.1), abs=1e-8)


def test_an_equal_rival_is_beaten_k_times_in_k_plus_one():
    assert [float(chance_of_gain(0, k, 0.2)) for k in (1, 3, 7)] == pytest.approx([1 / 2, 3 / 4, 7 / 8])


def simulate_best_of(k: int, sd: float, *, mean: float, n: int, seed: int) -> pd.DataFrame:
    """*n* times: the ``best`` of *k* runs, and its ``gain`` over one run of a rival that is exactly as good."""
    runs = mean + sd * np.random.default_rng(seed).normal(size=(n, k + 1))
    best = runs[:, :k].max(axis=1)
    return pd.DataFrame({"best": best, "gain": best - runs[:, k]})


def test_simulation_agrees_with_the_exact_expectation_and_chance():
    drawn = simulate_best_of(7, 0.12, mean=0.8, n=20_000, seed=1)
    error = drawn["gain"].std() / math.sqrt(len(drawn))
    assert drawn["gain"].mean() == pytest.approx(expected_best_of(7, 0.12), abs=4 * error)
    assert drawn["best"].mean() - 0.8 == pytest.approx(expected_best_of(7, 0.12), abs=4 * error)
    assert (drawn["gain"] >= 0.08).mean() == pytest.approx(float(chance_of_gain(0.08, 7, 0.12)), abs=0.015)


def test_published_spread_is_the_one_of_table_1():
    table = load_spread().set_index("architecture")
    assert table["mean"].round(2).to_dict() == {"densenet121": 0.79, "resnet50": 0.78}
    assert table["sd"].round(2).to_dict() == {"densenet121": 0.13, "resnet50": 0.09}
    assert table.loc["densenet121", ["beaten_by", "ties"]].tolist() == [4, 0]
    assert table.loc["resnet50", ["beaten_by", "ties"]].tolist() == [1, 1]
    # The best of seven gained less over cross entropy than choosing among equals would.
    assert (table["gain"] < table["expected_gain"]).all()
    assert table["chance"].between(0.5, 7 / 8).all()
    for row in table.itertuples():
        drawn = simulate_best_of(7, row.sd, mean=row.mean, n=20_000, seed=2)
        assert (drawn["best"] >= row.best).mean() == pytest.approx(row.best_chance, abs=0.015)
