"""AUROC and AUPRC of weighted smears against scikit-learn's, cell by cell."""

import numpy as np
import pytest
from conftest import noisy, ranked
from sklearn.metrics import average_precision_score, roc_auc_score

from rbcnb.columns import CLASSES
from rbcnb.evaluation.inference import draw_groups
from rbcnb.evaluation.metrics import score_predictions
from rbcnb.evaluation.rankings import (
    Rankings,
    average_precision,
    concordant_pairs,
    mean_of_defined,
    ranking_differences,
)


def test_pairs_are_counted_as_one_by_one():
    rng = np.random.default_rng(0)
    score, is_class, groups = rng.integers(0, 4, 30) / 4, rng.random(30) < 0.4, rng.integers(0, 3, 30)
    expected = np.zeros((3, 3))
    for i in np.flatnonzero(is_class):
        for j in np.flatnonzero(~is_class):
            expected[groups[i], groups[j]] += (score[i] > score[j]) + (score[i] == score[j]) / 2
    np.testing.assert_array_equal(concordant_pairs(score, is_class, groups, n_groups=3), expected)


@pytest.mark.parametrize("levels", [4, 10**6], ids=["ties", "none"])
def test_average_precision_is_scikit_learns_with_sample_weights(levels):
    rng = np.random.default_rng(1)
    score, is_class, groups = rng.integers(0, levels, 200) / levels, rng.random(200) < 0.3, rng.integers(0, 7, 200)
    weights = np.vstack([np.ones(7), rng.poisson(1.0, (300, 7)), rng.uniform(0, 0.1, (3, 7))])
    weights = weights[(weights > 0).sum(axis=1) > 1]
    found = average_precision(score, is_class, groups, weights)
    expected = [average_precision_score(is_class, score, sample_weight=row[groups]) for row in weights]
    np.testing.assert_allclose(found, expected, atol=1e-12)


def test_rankings_of_drawn_smears_are_those_of_the_drawn_cells(predictions):
    tables = [ranked(predictions, 1.0, seed) for seed in range(2)]
    weights = draw_groups(12, seed=3, n_bootstrap=6)
    codocytes = predictions.loc[predictions["target"] == "codocyte", "group"].unique()
    weights[-1] = ~np.isin(np.unique(predictions["group"]), codocytes[:-1])  # a class may be rare in a draw
    rankings = Rankings(tables)
    auroc, auprc = rankings.auroc(weights), rankings.auprc(weights)
    for b, row in enumerate(weights):
        times = dict(zip(np.unique(predictions["group"]), row.astype(int), strict=True))
        drawn = predictions.index.repeat(predictions["group"].map(times))
        for s, table in enumerate(tables):
            expected = score_predictions(table.loc[drawn])
            for c, name in enumerate(CLASSES):
                assert auroc[b, s, c] == pytest.approx(expected[f"auroc_{name}"], abs=1e-12)
                assert auprc[b, s, c] == pytest.approx(expected[f"auprc_{name}"], abs=1e-12)
            assert mean_of_defined(auroc[b, s]) == pytest.approx(expected["auroc"], abs=1e-12)


def test_a_class_or_all_others_may_be_missing_in_a_draw(predictions):
    lacking = predictions[(predictions["group"] != "00.png") | (predictions["target"] == "normal")]
    lacking = lacking[(lacking["group"] != "01.png") | (lacking["target"] != "codocyte")].reset_index(drop=True)
    weights = np.eye(12)[:2]  # the first smear alone, then the second
    for name in ("auroc", "auprc"):
        first, second = getattr(Rankings([lacking]), name)(weights)[:, 0]
        assert np.isnan(first).all()  # nothing but normal cells
        assert np.isnan(second).tolist() == [True, False, False]
        expected = score_predictions(lacking[lacking["group"] == "01.png"])[name]
        assert mean_of_defined(second) == pytest.approx(expected)
    gone = lacking[lacking["target"] != "codocyte"].reset_index(drop=True)
    assert np.isnan(Rankings([gone]).auprc(np.ones((1, 12)))[0, 0]).tolist() == [True, False, False]


def test_differences_have_the_interval_of_the_bootstrap_done_slowly(predictions):
    first, second = ([ranked(predictions, right, seed) for seed in (1, 2, 3)] for right in (1.2, 0.9))
    found = ranking_differences(first, second, seed=5, n_bootstrap=15)
    assert set(found) == {score + of for score in ("auprc", "auroc") for of in ("", *(f"_{name}" for name in CLASSES))}
    groups = np.unique(predictions["group"])

    def scores(tables):
        truth = [(table["target"] == name, table[f"prob_{name}"]) for table in tables for name in CLASSES]
        each = [(average_precision_score(*pair), roc_auc_score(*pair)) for pair in truth]
        by_class = np.reshape(each, (len(tables), len(CLASSES), 2))
        return {"auprc": by_class[..., 0].mean(axis=1), "auroc_codocyte": by_class[:, 0, 1]}

    slow = {"auprc": [], "auroc_codocyte": []}
    for row in draw_groups(12, seed=5, n_bootstrap=15).astype(int):
        drawn = predictions.index.repeat(predictions["group"].map(dict(zip(groups, row, strict=True))))
        ours, theirs = (scores([table.loc[drawn] for table in side]) for side in (first, second))
        for name, values in slow.items():
            values.append((ours[name] - theirs[name]).mean())
    ours, theirs = scores(first), scores(second)
    for name, values in slow.items():
        assert found[name].by_seed == pytest.approx(tuple(ours[name] - theirs[name]))
        assert found[name].of_groups == pytest.approx(np.var(values) * 12 / 11)
    with pytest.raises(ValueError, match="1 tables against 2"):
        ranking_differences(first[:1], second[:2], seed=0)
    with pytest.raises(ValueError, match="same cells"):
        ranking_differences(first[:1], [noisy(predictions.iloc[::-1], 0.5, 0)], seed=0)
    alone = [predictions[predictions["group"] == "00.png"]]
    with pytest.raises(ValueError, match="of one smear"):
        ranking_differences(alone, alone, seed=0)
