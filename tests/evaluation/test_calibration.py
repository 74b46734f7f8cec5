"""Temperature scaling finds the temperature that was put in, changes no decision, and never sees a test cell."""

import numpy as np
import pandas as pd
import pytest
from scipy import optimize
from scipy.special import softmax
from sklearn.metrics import log_loss

from rbcnb.columns import CELL, CLASSES, SMEAR
from rbcnb.evaluation.calibration import (
    T_RANGE,
    apply_temperature,
    calibrate,
    calibration_table,
    equal_mass_error,
    fit_temperature,
)
from rbcnb.evaluation.metrics import calibration_error, reliability_bins, score_predictions
from rbcnb.plotting.evaluation import plot_reliability


def forecasts(n: int, temperature: float, *, classes=CLASSES, seed: int = 0, smear: str = "dev") -> pd.DataFrame:
    """Cells whose classes are drawn from softmax(logits), forecast by softmax(temperature * logits)."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 2, (n, len(classes)))
    true, stated = softmax(logits, axis=1), softmax(temperature * logits, axis=1)
    targets = (rng.random((n, 1)) > true.cumsum(axis=1)).sum(axis=1)
    names = np.array(classes)
    table = pd.DataFrame({SMEAR: smear, CELL: range(n), "target": names[targets], "pred": names[stated.argmax(axis=1)]})
    return table.assign(**{f"prob_{name}": stated[:, i] for i, name in enumerate(classes)})


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.5])
def test_the_temperature_put_in_is_found(temperature):
    """To 5 %: with 20,000 cells its standard error is about 1 %."""
    assert fit_temperature(forecasts(20_000, temperature)) == pytest.approx(temperature, rel=0.05)


def test_no_temperature_has_a_lower_likelihood_by_scikit_learn(predictions):
    columns = [f"prob_{name}" for name in CLASSES]

    def nll(t: float) -> float:
        logits = np.log(predictions[columns].to_numpy()) / t
        return log_loss(predictions["target"], softmax(logits, axis=1), labels=CLASSES)

    best = optimize.minimize_scalar(nll, bounds=(0.05, 20), method="bounded")
    assert fit_temperature(predictions) == pytest.approx(best.x, rel=1e-4)
    assert score_predictions(apply_temperature(predictions, best.x))["nll"] == pytest.approx(best.fun, rel=1e-12)


def test_decisions_do_not_change_and_temperatures_compose(predictions):
    hot = apply_temperature(predictions, 3.0)
    probs = hot[[f"prob_{name}" for name in CLASSES]].to_numpy()
    np.testing.assert_allclose(probs.sum(axis=1), 1)
    assert (np.array(CLASSES)[probs.argmax(axis=1)] == predictions["pred"]).all()
    back = apply_temperature(hot, 1 / 3)
    np.testing.assert_allclose(back.filter(like="prob_"), predictions.filter(like="prob_"), rtol=1e-12)
    before, after = score_predictions(predictions), score_predictions(hot)
    same = ("accuracy", "macro_f1", "balanced_accuracy", "mcc")
    assert [before[name] for name in same] == [after[name] for name in same]


def test_auroc_stays_for_two_classes_and_may_change_for_three():
    two = forecasts(300, 1.0, classes=("a", "b"))
    assert score_predictions(two)["auroc"] == score_predictions(apply_temperature(two, 4.0))["auroc"]
    # p(a) is 0.5 against 0.49, but the second cell's rivals are equal: heat brings its rest up less than the first's.
    logits = np.log([[0.50, 0.499, 0.001], [0.49, 0.255, 0.255]])
    table = pd.DataFrame(softmax(logits, axis=1), columns=["prob_a", "prob_b", "prob_c"])
    table = table.assign(target=["a", "b"], pred=["a", "a"])
    assert score_predictions(table)["auroc_a"] == 1
    assert score_predictions(apply_temperature(table, 0.5))["auroc_a"] == 0


def test_edges_are_ends_not_errors():
    sure = forecasts(50, 1.0).assign(target=lambda t: t["pred"])
    assert fit_temperature(sure) == pytest.approx(T_RANGE[0], rel=1e-3)
    certain = sure.assign(prob_codocyte=1.0, prob_hypochromia=0.0, prob_normal=0.0, pred="codocyte")
    assert np.isfinite(apply_temperature(certain, 2.0).filter(like="prob_").to_numpy()).all()
    with pytest.raises(ValueError, match="no predictions"):
        fit_temperature(sure.iloc[:0])
    with pytest.raises(ValueError, match="positive"):
        apply_temperature(sure, 0.0)


def test_test_cells_are_not_fitted_on():
    dev, test = forecasts(2000, 2.0), forecasts(2000, 2.0, seed=1, smear="test")
    scaled, temperature = calibrate(dev, test)
    assert temperature == fit_temperature(dev)
    pd.testing.assert_frame_equal(scaled, apply_temperature(test, temperature))
    assert score_predictions(scaled)["ece"] < score_predictions(test)["ece"]
    with pytest.raises(ValueError, match="1 test cells"):
        calibrate(pd.concat([dev, test.head(1)]), test)


def test_reliability_draws_bins_with_their_counts(predictions):
    upper, lower = plot_reliability({"some": [predictions]}, of_class="normal").axes
    happened = (predictions["target"] == "normal").to_numpy()
    bins = reliability_bins(predictions["prob_normal"].to_numpy(), happened)
    (points,) = [line for line in upper.get_lines() if line.get_marker() == "o"]
    np.testing.assert_allclose(points.get_xydata(), bins[["prob", "rate"]])
    assert [patch.get_height() for patch in lower.patches] == bins["n"].tolist()
    assert sum(bins["n"]) == 300
    ece = calibration_error(predictions["prob_normal"].to_numpy(), happened)
    assert upper.texts[0].get_text().startswith(f"ECE {ece:.3f}")
    segments = upper.collections[0].get_segments()
    assert all(low[1] <= rate <= high[1] for (low, high), rate in zip(segments, bins["rate"], strict=True))
    with pytest.raises(ValueError, match="no class 'x'"):
        plot_reliability({"some": [predictions]}, of_class="x")


def test_several_fits_are_pooled_with_their_own_lines_and_means(predictions):
    other = predictions.assign(prob_normal=predictions["prob_normal"] ** 2)
    upper, lower = plot_reliability({"some": [predictions, other]}, of_class="normal").axes
    assert sum(patch.get_height() for patch in lower.patches) == 2 * len(predictions)
    assert len(upper.get_lines()) == 1 + 2 + 1  # the diagonal, a line per fit, the points
    assert not upper.collections  # no interval that takes a cell for two
    table = calibration_table({"some": [predictions, other]}).iloc[0]
    both = [score_predictions(table)["nll"] for table in (predictions, other)]
    assert table[["n_fits", "nll", "nll_sd"]].tolist() == pytest.approx([2, np.mean(both), np.std(both, ddof=1)])
    assert f"NLL {np.mean(both):.3f} ± {np.std(both, ddof=1):.3f}\n2 fits" in upper.texts[0].get_text()


def test_bins_of_equal_mass_against_arithmetic_by_hand():
    """Four cells in two bins: (0.5, 0.7) with none right, (0.8, 1.0) with both; order and ties do not matter."""
    probs, right = np.array([0.8, 0.5, 1.0, 0.7]), np.array([True, False, True, False])
    assert equal_mass_error(probs, right, n_bins=2) == pytest.approx((2 * 0.6 + 2 * 0.1) / 4)
    assert equal_mass_error(probs, right, n_bins=1) == pytest.approx(abs(0.75 - 0.5))
    assert equal_mass_error(probs, right, n_bins=9) == pytest.approx((0.2 + 0.5 + 0.0 + 0.7) / 4)  # a cell each
    sure = np.full(10, 0.9)
    for order in (np.arange(10), np.arange(10)[::-1]):
        assert equal_mass_error(sure, (np.arange(10) < 6)[order]) == pytest.approx(0.3)  # one bin: |0.6 - 0.9|


def test_equal_mass_is_that_of_quantile_bins_and_tells_the_calibrated():
    rng = np.random.default_rng(0)
    probs = rng.beta(8, 1, 30_000)
    right = rng.random(30_000) < probs
    order = np.argsort(probs)
    by_hand = np.mean([abs(right[part].mean() - probs[part].mean()) for part in np.split(order, 15)])
    assert equal_mass_error(probs, right) == pytest.approx(by_hand)
    assert by_hand < 0.01  # chance of 2000 cells a bin
    assert equal_mass_error(probs, rng.random(30_000) < probs - 0.05 * (probs > 0.5)) == pytest.approx(0.05, abs=0.01)


def test_table_has_both_errors_of_the_predicted_class(predictions):
    row = calibration_table({"some": [predictions]}).iloc[0]
    probs, right = predictions.filter(like="prob_").max(axis=1), predictions["pred"] == predictions["target"]
    assert row["ece_equal_mass"] == pytest.approx(equal_mass_error(probs.to_numpy(), right.to_numpy()))
    assert row["ece"] == score_predictions(predictions)["ece"]
