"""What the folds say about a choice: its curves, and how far its score flatters it."""

import dataclasses
from dataclasses import asdict

import numpy as np
import pandas as pd
import pytest

from rbcnb.plotting.training import plot_tuning
from rbcnb.study.protocols import choose_settings
from rbcnb.study.tuning import choice_optimism, chosen_curves, settings_at_last_epoch
from rbcnb.training.trial import Trial


def curves_of(trials: list[Trial], f1: np.ndarray) -> pd.DataFrame:
    """Curves with macro F1 [trials, folds, epochs]; losses fall with it."""
    frames = []
    for trial, scores in zip(trials, f1, strict=True):
        settings = {name: value for name, value in asdict(trial).items() if name != "epochs"}
        for fold, per_epoch in enumerate(scores):
            facts = settings | {"method": trial.method, "fold": fold}
            columns = {"epoch": range(1, len(per_epoch) + 1), "valid_macro_f1": per_epoch}
            frames.append(
                pd.DataFrame(columns | {"valid_loss": 2 - per_epoch, "valid_ce": 2 - per_epoch}).assign(**facts)
            )
    return pd.concat(frames, ignore_index=True)


TRIALS = [Trial(protocol="honest", learning_rate=rate) for rate in np.geomspace(1e-4, 1e-2, 8)]


def test_optimism_by_hand():
    """Two settings, one epoch: leaving out any fold leaves the other setting ahead, and it is bad on that fold."""
    f1 = np.array([[0.9, 0.9, 0.0], [0.5, 0.5, 0.7]])[:, :, None]
    table = choice_optimism(curves_of(TRIALS[:2], f1), criterion="macro_f1")
    # Chosen by all: the first, 0.6 to 0.5667. Without fold 0 or 1: the second (0.6 to 0.45), 0.5. Without 2: the first.
    row = table.iloc[0]
    assert row["on_the_folds"] == pytest.approx(0.6)
    assert row["on_folds_left_out"] == pytest.approx((0.5 + 0.5 + 0.0) / 3)
    assert row["optimism"] == pytest.approx(0.6 - 1 / 3)
    assert row["choices"] == 2


@pytest.mark.slow
def test_settings_that_are_equally_good_are_told_so():
    """Scores of mean 0.7 and pure noise: the best of 8 settings and 10 epochs flatters, the folds left out do not."""
    rng = np.random.default_rng(0)
    scores = (rng.normal(0.7, 0.05, (8, 5, 10)) for _ in range(15))
    table = pd.concat([choice_optimism(curves_of(TRIALS, f1), criterion="macro_f1") for f1 in scores])
    assert table["on_the_folds"].mean() > 0.74
    assert table["on_folds_left_out"].mean() == pytest.approx(0.7, abs=4 * 0.05 / np.sqrt(15 * 5))


def test_a_setting_that_is_better_by_far_costs_no_optimism():
    f1 = np.full((3, 4, 2), 0.3)
    f1[1, :, 1] = 0.8
    row = choice_optimism(curves_of(TRIALS[:3], f1), criterion="macro_f1").iloc[0]
    assert (row["on_folds_left_out"], row["optimism"], row["choices"]) == pytest.approx((0.8, 0.0, 1))


def test_the_figure_shows_means_deviations_and_chosen_epochs():
    focal = [Trial(loss="focal", alpha=alpha, gamma=2.0) for alpha in (0.5, 1.5)]
    f1 = np.array([[[0.1, 0.5, 0.3], [0.3, 0.9, 0.5]], [[0.2, 0.2, 0.6], [0.2, 0.4, 0.6]], [[0.3, 0.2, 0.1]] * 2])
    curves = curves_of([*focal, Trial()], f1)
    chosen = choose_settings(curves, protocol="paper")
    table = chosen_curves(curves, chosen)
    assert list(table["line"].unique()) == ["focal loss, α = 0.5", "focal loss, α = 1.5", "cross entropy"]
    figure = plot_tuning({"paper": table})
    axis = figure.axes[1]
    lines = {line.get_label(): line for line in axis.get_lines()}
    np.testing.assert_allclose(lines["focal loss, α = 0.5"].get_ydata(), [0.2, 0.7, 0.4])
    circles = [line.get_xydata().tolist()[0] for line in axis.get_lines() if line.get_marker() == "o"]
    assert circles == [pytest.approx([2, 0.7]), pytest.approx([3, 0.6]), pytest.approx([1, 0.3])]
    assert len(axis.collections) == 2  # a band per method, not per alpha
    band = axis.collections[0].get_paths()[0].vertices
    assert band[:, 1].max() == pytest.approx(0.7 + np.std([0.5, 0.9], ddof=1))
    two = plot_tuning({"honest": table, "honest_1": table})
    assert two.axes[2].get_title(loc="left") == "honest protocol, outer split 1, each on its own loss"
    with pytest.raises(ValueError, match="missing: chosen_epoch"):
        plot_tuning({"paper": table.drop(columns="chosen_epoch")})


def test_what_was_best_at_the_last_epoch_allowed_is_told():
    f1 = np.array([[[0.1, 0.2, 0.3]] * 2, [[0.1, 0.3, 0.2]] * 2])
    rising, peaked = Trial(protocol="honest"), Trial(protocol="honest", resample="over")
    changing = Trial(protocol="honest", loss="ldam_drw")
    curves = curves_of([rising, peaked, changing], np.concatenate([f1, f1[:1]]))
    chosen = choose_settings(curves, protocol="honest")
    chosen = chosen.assign(protocol="honest")
    tried = {"honest": [dataclasses.replace(rising, epochs=3)]}
    text = settings_at_last_epoch(chosen, tried)
    assert "Best at the last epoch allowed" in text
    assert "cross entropy (lesson net, honest)" in text
    assert "over-sampling" not in text
    assert "LDAM" not in text  # judged at the last epoch alone
    longer = {"honest": [dataclasses.replace(rising, epochs=4)]}
    assert settings_at_last_epoch(chosen, longer) == "No setting was best at its last epoch."
    decayed = chosen[chosen["loss"] == "ldam_drw"]
    assert settings_at_last_epoch(decayed, tried).startswith("No epoch was chosen")
