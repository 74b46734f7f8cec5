"""Power against textbook power, against simulation, and plans that say when seeds alone will not do."""

from dataclasses import replace

import numpy as np
import pytest
from scipy import integrate, stats

from rbcnb.evaluation.inference import Difference, interval_of
from rbcnb.evaluation.power import CAUTION, MOST_SEEDS, plan_seeds, power_of


def pilot(seed_sd: float, group_sd: float, *, n_seeds: int = 5, n_groups: int = 12) -> Difference:
    return Difference(0, -1, 1, 0.95, n_seeds, n_groups, seed_sd**2 / n_seeds, group_sd**2 / n_groups)


def test_without_smears_variance_it_is_the_power_of_the_t_test():
    """Eight pairs, an effect of one sd: the t test by quadrature over the estimated sd, without noncentral t."""
    critical = stats.t.ppf(0.975, 7)

    def density(s: float) -> float:
        return stats.norm.sf(critical * s - np.sqrt(8)) * stats.chi2.pdf(7 * s**2, 7) * 14 * s

    only_seeds = pilot(0.02, 0.0)
    expected = integrate.quad(density, 0, 5)[0]
    assert power_of(only_seeds, margin=0.02, n_seeds=8, n_groups=12) == pytest.approx(expected, abs=1e-6)
    assert power_of(only_seeds, margin=1e-12, n_seeds=8, n_groups=12) == pytest.approx(0.025, abs=1e-6)


@pytest.mark.parametrize("goal", ["gain", "alike"])
def test_power_is_what_simulated_studies_reach(goal):
    """Studies drawn from two normal sources of chance, each judged by its own estimated variances."""
    rng, n = np.random.default_rng(0), 1500
    truth, margin = (0.03, 0.03) if goal == "gain" else (0.0, 0.03)
    reached = 0
    for _ in range(n):
        of_seeds = 0.03**2 * stats.chi2.rvs(5, random_state=rng) / 5 / 6
        of_groups = 0.03**2 * stats.chi2.rvs(9, random_state=rng) / 9 / 10
        mean = rng.normal(truth, np.sqrt(0.03**2 / 6 + 0.03**2 / 10))
        study = Difference(mean, mean, mean, 0.95, 6, 10, of_seeds, of_groups)
        reached += (study.p_value < 0.05 and mean > 0) if goal == "gain" else study.p_alike(margin) < 0.05
    expected = power_of(pilot(0.03, 0.03), margin=margin, n_seeds=6, n_groups=10, goal=goal)
    # Satterthwaite's is an approximation: 0.015 beside three standard errors of the simulation.
    assert reached / n == pytest.approx(expected, abs=0.015 + 3 * np.sqrt(expected * (1 - expected) / n))


def test_a_plan_reaches_its_power_and_one_seed_fewer_does_not():
    row = plan_seeds(pilot(0.03, 0.02), margin=0.02).iloc[-1]
    assert row["smears"] == 4 * 12
    options = {"margin": 0.02, "n_groups": 48, "caution": CAUTION}
    assert power_of(pilot(0.03, 0.02), n_seeds=row["seeds"], **options) == row["power"] >= 0.8
    assert power_of(pilot(0.03, 0.02), n_seeds=row["seeds"] - 1, **options) < 0.8


def test_a_gain_among_several_tests_is_planned_for_holms_first_step():
    """Power at 5 % over four is that of a study whose level is 98.75 %; TOST is planned as if alone."""
    options = {"margin": 0.03, "n_seeds": 8, "n_groups": 30}
    known = pilot(0.03, 0.02)
    expected = power_of(replace(known, level=1 - 0.05 / 4), **options)
    assert power_of(known, n_tests=4, **options) == pytest.approx(expected, rel=1e-9)
    assert power_of(known, n_tests=4, **options) < power_of(known, **options) - 0.1
    assert power_of(known, n_tests=4, goal="alike", **options) == power_of(known, goal="alike", **options)


def test_seeds_do_not_mend_too_few_smears():
    plan = plan_seeds(pilot(0.02, 0.025, n_groups=8), margin=0.02)
    assert plan["seeds"].isna().tolist() == [True, True, False]
    options = {"n_seeds": MOST_SEEDS, "n_groups": 8, "caution": CAUTION}
    limit = power_of(pilot(0.02, 0.025, n_groups=8), margin=0.02, **options)
    assert plan["power"][0] == limit < 0.8


def test_caution_covers_the_true_variance_as_often_as_it_says():
    """Pilots of three seeds: the plan's variance is at least the true one in 80 % of them."""
    rng = np.random.default_rng(0)
    true_power = power_of(pilot(0.03, 0), margin=0.03, n_seeds=10, n_groups=12)
    pilots = [interval_of(rng.normal(0, 0.03, 3), np.zeros(4), n_groups=12) for _ in range(1000)]
    cautious = [power_of(study, margin=0.03, n_seeds=10, n_groups=12, caution=0.8) for study in pilots]
    share = np.mean(np.array(cautious) <= true_power)
    assert share == pytest.approx(0.8, abs=4 * np.sqrt(0.16 / 1000))


def test_a_pilot_of_one_seed_is_refused():
    with pytest.raises(ValueError, match="one seed"):
        power_of(pilot(0.0, 0.1, n_seeds=1), margin=0.02, n_seeds=5, n_groups=5)
    with pytest.raises(ValueError, match="gain or alike"):
        power_of(pilot(0.1, 0.1), margin=0.02, n_seeds=5, n_groups=5, goal="worse")
    assert power_of(pilot(0.0, 0.0), margin=0.02, n_seeds=2, n_groups=2) == 1
