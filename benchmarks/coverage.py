"""Do the 95 % intervals cover, and do the tests keep 5 %? python benchmarks/coverage.py [--repeats 1000]

Pairs of methods are drawn from populations whose true difference is known (`simulated_fits.py`). Printed are
shares of the repeats in percent: how often each interval holds the truth, by smears and seeds, and how often each test
says "different" (p < 0.05) of methods that are equal. With 1000 repeats a share near 95 or 5 is sure to 1.4 points (two
standard errors). Deterministic; about a quarter of an hour on one core.
"""

import argparse

import numpy as np
import pandas as pd
from scipy import stats
from simulated_fits import Population, hierarchical_bootstrap

from rbcnb.evaluation.hypothesis_tests import corrected_resampled_t, mcnemar_p, sign_flip
from rbcnb.evaluation.inference import differences_of_counts, draw_groups, interval_of

POPULATIONS = {
    "even": Population(),
    "a gap of 0.075": Population(gap=0.5),
    "heavy tails": Population(heavy_tails=True),
    "uneven smears": Population(uneven=True),
    "both": Population(heavy_tails=True, uneven=True),
    "smears alone matter": Population(smear_gap_sd=0.8, seed_sd=0.05),
}
N_BOOTSTRAP = 400


def once(first: np.ndarray, second: np.ndarray, truth: float, seed: int) -> dict[str, float]:
    """Which intervals hold *truth*, and which tests see a difference, on one pair of methods."""
    n_groups = first.shape[1]
    by_seed = differences_of_counts(first, second, np.ones((1, n_groups)))[0]
    weights = draw_groups(n_groups, seed=seed, n_bootstrap=N_BOOTSTRAP)
    ours = interval_of(by_seed, differences_of_counts(first, second, weights).mean(axis=1), n_groups=n_groups)
    limits = {"t": (ours.low, ours.high)}
    for method in ("percentile", "bca"):
        limits[method] = hierarchical_bootstrap(first, second, seed=seed, n_bootstrap=N_BOOTSTRAP, method=method)
    limits["seeds only"] = stats.t.interval(0.95, len(by_seed) - 1, by_seed.mean(), stats.sem(by_seed))
    held = {f"covers: {name}": low <= truth <= high for name, (low, high) in limits.items()}
    right = [np.trace(stack[0].sum(axis=0)) for stack in (first, second)]
    total = first[0].sum()
    # Cells of the two fits are drawn independently here: of each pair of counts this many are discordant on average.
    only = [round(a * (total - b) / total) for a, b in (right, right[::-1])]
    return held | {
        "width: t": ours.high - ours.low,
        "rejects: t": ours.p_value < 0.05,
        "rejects: sign flip over seeds": sign_flip(by_seed) < 0.05,
        "rejects: McNemar, one pair": mcnemar_p(*only) < 0.05,
        # At its very edge: methods that differ by as much as the margin must be called alike in 5 % at most.
        "alike: TOST": ours.p_alike(truth) < 0.05 if truth else np.nan,
    }


def coverage(repeats: int, smears: list[int], seeds: list[int]) -> pd.DataFrame:
    rows = []
    for name, population in POPULATIONS.items():
        truth = population.truth(np.random.default_rng(0)) if population.gap else 0.0
        for n_groups in smears:
            for n_seeds in seeds:
                rng = np.random.default_rng([n_groups, n_seeds])
                drawn = [once(*population.draw(rng, n_groups, n_seeds), truth, i) for i in range(repeats)]
                rows.append({"population": name, "smears": n_groups, "seeds": n_seeds, **pd.DataFrame(drawn).mean()})
                print(f"{name}, {n_groups} smears, {n_seeds} seeds", flush=True)
    return pd.DataFrame(rows).set_index(["population", "smears", "seeds"])


def resampled(repeats: int, *, n_cells: int = 100, n_folds: int = 5, n_times: int = 10) -> dict[str, float]:
    """How often equal methods are told apart on repeated cross-validation: nearest means of two features alike."""
    rng = np.random.default_rng(0)
    corrected, naive = [], []
    for _ in range(repeats):
        label = rng.integers(2, size=n_cells)
        features = rng.normal(size=(2, n_cells)) + label
        gaps = []
        for _ in range(n_times):
            fold = rng.permutation(np.arange(n_cells) % n_folds)
            for k in range(n_folds):
                train = fold != k
                middle = [(f[train & (label == 0)].mean() + f[train & (label == 1)].mean()) / 2 for f in features]
                right = [((f > m) == label)[~train].mean() for f, m in zip(features, middle, strict=True)]
                gaps.append(right[0] - right[1])
        test = corrected_resampled_t(gaps, n_train=n_cells * (n_folds - 1) / n_folds, n_test=n_cells / n_folds)
        corrected.append(test.p_value < 0.05)
        naive.append(stats.ttest_1samp(gaps, 0).pvalue < 0.05)
    return {"Nadeau and Bengio": float(np.mean(corrected)), "plain t": float(np.mean(naive))}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=1000)
    parser.add_argument("--smears", type=int, nargs="+", default=[5, 10, 20])
    parser.add_argument("--seeds", type=int, nargs="+", default=[3, 5, 10])
    options = parser.parse_args()
    found = resampled(options.repeats)
    print(
        f"equal methods called different on 10 x 5 folds, percent: { {k: round(100 * s, 1) for k, s in found.items()} }"
    )
    table = coverage(options.repeats, options.smears, options.seeds)
    widths = table.pop("width: t")
    print("\nnominal 95 % intervals and 5 % tests, measured, percent (tests on equal methods only mean a size)")
    print((100 * table).round(1).assign(**{"width: t": widths.round(3)}).to_string())


if __name__ == "__main__":
    main()
