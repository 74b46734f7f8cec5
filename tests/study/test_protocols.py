"""What each protocol tries and how it chooses, on curves made by hand."""

import dataclasses

import pandas as pd
import pytest

from rbcnb.losses.imbalanced import LOSSES, build_loss
from rbcnb.paper import TABLE1
from rbcnb.study.protocols import (
    CHANGING_LOSSES,
    METHODS,
    RIVALS,
    best_settings,
    choose_settings,
    chosen_trials,
    images_per_fit,
    in_folds,
    method_trial,
    plan_folds,
    protocol_names,
    settings_of,
)
from rbcnb.study.tuning import process_table
from rbcnb.training.trial import RESAMPLING, Trial

KNOBS = {
    "alphas": [0.5, 1.0, 1.5], "gamma": 2.0, "n_tries": 4, "learning_rates": [1e-4, 1e-3], "gammas": [1.0, 3.0],
    "weight_decays": [0.0, 1e-3], "label_smoothings": [0.0], "methods": list(METHODS), "schedule": "cosine",
    "augment": "flips_turns", "first_split_methods": [],
}  # fmt: skip


def curves_of(trials: list[Trial], losses: dict, f1s: dict) -> pd.DataFrame:
    """Curves as `load_curves` gives them; *losses* and *f1s* map (method, alpha or None) to a list over epochs."""
    rows = []
    for trial in trials:
        which = (trial.method, trial.alpha)
        for epoch, (loss, f1) in enumerate(zip(losses[which], f1s[which], strict=True), start=1):
            settings = {k: v for k, v in dataclasses.asdict(trial).items() if k != "epochs"}
            score = {"valid_loss": loss + 0.1 * trial.fold, "valid_macro_f1": f1 - 0.1 * trial.fold, "valid_ce": -epoch}
            rows.append({"epoch": epoch, **score, "method": trial.method, **settings})
    return pd.DataFrame(rows).astype({"alpha": float, "gamma": float})


def test_paper_tries_each_alpha_and_each_rival_once():
    settings = settings_of(Trial(), KNOBS)
    assert [(t.method, t.alpha) for t in settings] == [
        ("focal", 0.5), ("focal", 1.0), ("focal", 1.5),
        ("cross_entropy", None), ("under_sampling", None), ("over_sampling", None),
    ]  # fmt: skip
    assert {t.gamma for t in settings if t.method == "focal"} == {2.0}
    assert {t.learning_rate for t in settings} == {1e-3}


def test_honest_gives_every_method_the_same_tries_at_the_same_learning_rates():
    base = Trial(protocol="honest")
    settings = settings_of(base, KNOBS)
    tries = {name: [t for t in settings if t.method == name] for name in {t.method for t in settings}}
    assert len(tries) == 4
    for some in tries.values():
        assert [t.learning_rate for t in some] == [1e-4, 1e-3, 1e-4, 1e-3]
        assert len(set(some)) == 4
        for plain in some[:2]:  # at every rate before anything is drawn
            assert plain == method_trial(
                dataclasses.replace(plain, weight_decay=0.0), plain.method, alpha=1.0, gamma=2.0
            )
        assert {(t.schedule, t.augment) for t in some} == {("cosine", "flips_turns")}
    drawn = tries["focal"][2:]
    assert {(t.alpha, t.gamma) for t in drawn} <= {(a, g) for a in (0.5, 1.0, 1.5) for g in (1.0, 3.0)}
    assert [t.weight_decay for t in tries["cross_entropy"]] == [0.0, 0.0, 1e-3, 1e-3]
    assert settings == settings_of(base, KNOBS)
    assert settings != settings_of(dataclasses.replace(base, seed=1), KNOBS)
    alone = settings_of(base, {**KNOBS, "methods": ["over_sampling"]})
    assert alone == tries["over_sampling"]  # whoever else is tried
    with pytest.raises(ValueError, match="5 tries per method, but cross_entropy has 4 different settings"):
        settings_of(base, {**KNOBS, "n_tries": 5})


def test_a_method_of_the_first_split_alone_is_tried_on_no_other():
    knobs = {**KNOBS, "first_split_methods": ["over_sampling"]}
    first, second = (settings_of(Trial(protocol="honest", outer=outer), knobs) for outer in (0, 1))
    assert {t.method for t in first} == set(METHODS)
    assert {t.method for t in second} == set(METHODS) - {"over_sampling"}
    with pytest.raises(ValueError, match="first_split_methods: ldam is not among methods; add it, or take it out"):
        settings_of(Trial(protocol="honest"), {**KNOBS, "first_split_methods": ["ldam"]})


def test_the_published_protocol_has_no_decay_and_no_turns_and_the_lesson_net_its_own_epochs():
    knobs = {
        **KNOBS, "architectures": ["small", "resnet18"], "learning_rate": 1e-3, "batch_size": 32, "pretrained": False,
        "seed": 0, "precision": "float32", "epochs": 12, "n_folds": 2,
    }  # fmt: skip
    places = {"paper": ("paper", 0), "honest": ("honest", 0)}
    for asked, epochs in ((0, 12), (20, 20)):
        plan = plan_folds(places, {**knobs, "small_epochs": asked})
        assert {(t.schedule, t.augment) for t in plan["paper"]} == {("constant", "none")}
        assert {(t.schedule, t.augment) for t in plan["honest"]} == {("cosine", "flips_turns")}
        every = [t for trials in plan.values() for t in trials]
        assert {(t.architecture, t.epochs) for t in every} == {("small", epochs), ("resnet18", 12)}
        assert {t.precision for t in every} == {"float32"}


def test_label_smoothing_is_drawn_by_every_loss_that_takes_it():
    knobs = {**KNOBS, "label_smoothings": [0.0, 0.05, 0.1], "n_tries": 12}
    with pytest.raises(ValueError, match="ldam has 4 different settings"):
        settings_of(Trial(protocol="honest"), {**knobs, "methods": ["ldam"]})
    settings = settings_of(Trial(protocol="honest"), {**knobs, "methods": ["cross_entropy", "over_sampling"]})
    for method in ("cross_entropy", "over_sampling"):
        mine = [t for t in settings if t.method == method]
        assert {(t.learning_rate, t.weight_decay, t.label_smoothing) for t in mine} == {
            (rate, decay, smoothing) for rate in (1e-4, 1e-3) for decay in (0.0, 1e-3) for smoothing in (0.0, 0.05, 0.1)
        }
    focal = settings_of(Trial(protocol="honest"), {**knobs, "n_tries": 74, "methods": ["focal"]})
    assert len(set(focal)) == 74  # at each of two rates the plain one and 3 x 2 x 2 x 3 others
    assert {t.label_smoothing for t in focal} == {0.0, 0.05, 0.1}


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("resample", RESAMPLING)
def test_a_trial_comes_back_from_its_methods_name(loss, resample):
    trial = Trial(loss=loss, resample=resample, **({"alpha": 1.0, "gamma": 2.0} if loss == "focal" else {}))
    assert method_trial(Trial(), trial.method, alpha=1.0, gamma=2.0) == trial


def test_names_of_methods_are_the_papers_and_one_for_each_loss():
    assert set(METHODS) == set(TABLE1["method"])
    for method in (*METHODS, *RIVALS):
        assert method_trial(Trial(), method, alpha=1.0, gamma=2.0).method == method
    assert {method_trial(Trial(), method, alpha=1.0, gamma=2.0).loss for method in (*METHODS, *RIVALS)} == set(LOSSES)
    for wrong in ("hinge", "under", "_over_sampling", "hinge_over_sampling"):
        with pytest.raises(ValueError, match="unknown method"):
            method_trial(Trial(), wrong, alpha=1.0, gamma=2.0)


def test_by_likelihood_the_least_plain_cross_entropy_is_chosen():
    trials = in_folds([Trial(protocol="honest")], 2)
    curves = curves_of(trials, {("cross_entropy", None): [1, 2, 3]}, {("cross_entropy", None): [0.9, 0.2, 0.1]})
    assert choose_settings(curves, protocol="honest")["epochs"].tolist() == [1]
    assert choose_settings(curves, protocol="honest", criterion="likelihood")["epochs"].tolist() == [3]
    with pytest.raises(ValueError, match="criterion must be one of macro_f1, likelihood, got 'valid_loss'"):
        choose_settings(curves, protocol="honest", criterion="valid_loss")


def test_outer_splits_choose_for_themselves():
    plain, second_split = Trial(protocol="honest"), Trial(protocol="honest", outer=1)
    f1s = {("cross_entropy", None): [0.1, 0.2]}, {("cross_entropy", None): [0.2, 0.1]}
    curves = pd.concat([curves_of(in_folds([t], 2), f, f) for t, f in zip((plain, second_split), f1s, strict=True)])
    chosen = choose_settings(curves, protocol="honest")
    assert chosen[["outer", "epochs"]].to_numpy().tolist() == [[0, 2], [1, 1]]
    assert [(t.outer, t.epochs) for t in chosen_trials(chosen, seeds=[0])] == [(0, 2), (1, 1)]


def test_a_setting_that_diverged_on_a_fold_is_out():
    focal = Trial(loss="focal", alpha=0.5, gamma=2.0)
    trials = in_folds([focal, dataclasses.replace(focal, alpha=1.0)], 2)
    flat = {("focal", 0.5): [0, 0], ("focal", 1.0): [1, 2]}
    curves = curves_of(trials, flat, flat)
    torn = curves[~((curves["alpha"] == 0.5) & (curves["fold"] == 1))]
    assert choose_settings(torn, protocol="paper")["alpha"].tolist() == [1.0]
    with pytest.raises(ValueError, match=r"no setting of cross_entropy \(small, outer split 0\) came through"):
        choose_settings(
            pd.concat(
                [torn, curves_of([Trial(fold=0)], {("cross_entropy", None): [1, 1]}, {("cross_entropy", None): [1, 1]})]
            ),
            protocol="paper",
        )


def test_folds_repeat_each_setting():
    folds = in_folds([Trial(), Trial(seed=1)], 3)
    assert [(t.seed, t.fold) for t in folds] == [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (1, 2)]


def test_paper_takes_the_epoch_of_the_least_mean_validation_loss():
    focal = Trial(loss="focal", alpha=0.5, gamma=2.0)
    trials = in_folds([focal, dataclasses.replace(focal, alpha=1.0), Trial()], 2)
    losses = {("focal", 0.5): [3, 1, 2], ("focal", 1.0): [1, 2, 3], ("cross_entropy", None): [3, 2, 1]}
    f1s = {("focal", 0.5): [0.9, 0.1, 0.2], ("focal", 1.0): [0.5] * 3, ("cross_entropy", None): [0.5] * 3}
    chosen = choose_settings(curves_of(trials, losses, f1s), protocol="paper")
    assert chosen["method"].tolist() == ["focal", "focal", "cross_entropy"]
    assert chosen["epochs"].tolist() == [2, 1, 3]
    assert chosen["valid_loss"].tolist() == pytest.approx([1.05, 1.05, 1.05])  # the mean over two folds


@pytest.mark.parametrize("protocol", ["paper", "honest"])
def test_a_loss_that_changes_in_a_fit_is_judged_at_the_last_epoch_of_the_folds(protocol):
    """A fold's second epoch of three is not that of a fit of two epochs, which would have changed its loss before."""
    trials = in_folds([Trial(loss="ldam_drw", protocol=protocol), Trial(loss="ldam", protocol=protocol)], 2)
    values = {("ldam_drw", None): [2, 1, 3], ("ldam", None): [2, 1, 3]}
    f1s = {("ldam_drw", None): [0.5, 0.9, 0.6], ("ldam", None): [0.5, 0.9, 0.6]}
    chosen = choose_settings(curves_of(trials, values, f1s), protocol=protocol).set_index("method")["epochs"]
    assert chosen.to_dict() == {"ldam_drw": 3, "ldam": 2}
    built = {name: build_loss(name, class_counts=[9, 9]) for name in LOSSES}
    changing = {name for name, loss in built.items() if hasattr(loss, "begin_epoch")}
    assert changing == CHANGING_LOSSES


def test_where_the_rate_decays_the_last_epoch_is_the_answer():
    """An epoch in the middle of the decay, however good by chance, tells nothing of a fit that ends there."""
    trials = in_folds([Trial(protocol="honest", schedule="cosine"), Trial(protocol="honest", loss="ldam")], 2)
    f1s = {("cross_entropy", None): [0.5, 0.9, 0.6], ("ldam", None): [0.5, 0.9, 0.6]}
    chosen = choose_settings(curves_of(trials, f1s, f1s), protocol="honest").set_index("method")["epochs"]
    assert chosen.to_dict() == {"cross_entropy": 3, "ldam": 2}


def test_a_network_with_fewer_epochs_than_another_keeps_its_choice():
    small = Trial(protocol="honest", schedule="cosine")
    curves = pd.concat(
        [
            curves_of(in_folds([trial], 2), {("cross_entropy", None): f1s}, {("cross_entropy", None): f1s})
            for trial, f1s in (
                (small, [0.5, 0.9, 0.6]),
                (dataclasses.replace(small, architecture="resnet50"), [0.4, 0.7]),
            )
        ]
    )
    chosen = choose_settings(curves, protocol="honest").set_index("architecture")["epochs"]
    assert chosen.to_dict() == {"small": 3, "resnet50": 2}
    lost = curves[(curves["architecture"] == "small") | (curves["fold"] == 0)]
    with pytest.raises(ValueError, match=r"no setting of cross_entropy \(resnet50, outer split 0\) came through"):
        choose_settings(lost, protocol="honest")


def test_honest_takes_the_best_macro_f1_and_of_equals_the_fewest_epochs():
    focal = Trial(loss="focal", alpha=0.5, gamma=2.0, protocol="honest")
    trials = in_folds([focal, dataclasses.replace(focal, alpha=1.0), Trial(protocol="honest")], 2)
    losses = {("focal", 0.5): [0, 0, 0], ("focal", 1.0): [9, 9, 9], ("cross_entropy", None): [1, 1, 1]}
    f1s = {("focal", 0.5): [0.1, 0.2, 0.3], ("focal", 1.0): [0.2, 0.8, 0.8], ("cross_entropy", None): [0.7, 0.6, 0.7]}
    chosen = choose_settings(curves_of(trials, losses, f1s), protocol="honest").set_index("method")
    assert chosen.loc["focal", ["alpha", "epochs"]].tolist() == [1.0, 2]  # by F1, though its loss is the larger
    assert chosen.loc["cross_entropy", "epochs"] == 1


def test_chosen_trials_round_trip_through_a_file(tmp_path):
    focal = Trial(loss="focal", alpha=0.5, gamma=2.0)
    trials = in_folds([focal, Trial()], 2)
    flat = {("focal", 0.5): [2, 1], ("cross_entropy", None): [1, 2]}
    chosen = choose_settings(curves_of(trials, flat, flat), protocol="paper")
    chosen.to_csv(tmp_path / "choices.csv", index=False)
    again = pd.read_csv(tmp_path / "choices.csv")
    for table in (chosen, again):
        assert chosen_trials(table, seeds=[3, 4], dev_counts="3/4/9") == [
            dataclasses.replace(focal, epochs=2, seed=3, dev_counts="3/4/9"),
            dataclasses.replace(focal, epochs=2, seed=4, dev_counts="3/4/9"),
            Trial(epochs=1, seed=3, dev_counts="3/4/9"),
            Trial(epochs=1, seed=4, dev_counts="3/4/9"),
        ]


def test_best_settings_keeps_every_seed_of_the_best_mean():
    focal = Trial(loss="focal", alpha=0.5, gamma=2.0)
    rows = [
        {"method": trial.method, **dataclasses.asdict(trial), "macro_f1": score}
        for trial, score in [
            (focal, 0.5), (dataclasses.replace(focal, seed=1), 0.9),
            (dataclasses.replace(focal, alpha=1.0), 0.8), (dataclasses.replace(focal, alpha=1.0, seed=1), 0.8),
            (Trial(), 0.1), (Trial(seed=1), 0.2),
        ]
    ]  # fmt: skip
    results = pd.DataFrame(rows).astype({"alpha": float})
    best = best_settings(results)
    assert best[["method", "seed"]].to_numpy().tolist() == [
        ["focal", 0],
        ["focal", 1],
        ["cross_entropy", 0],
        ["cross_entropy", 1],
    ]
    assert best.loc[best["method"] == "focal", "alpha"].tolist() == [1.0, 1.0]
    tied = best_settings(results.assign(macro_f1=0.5))
    assert tied.loc[tied["method"] == "focal", "alpha"].tolist() == [0.5, 0.5]


def test_process_table_counts_what_was_tried():
    base = Trial(protocol="honest")
    trials = in_folds(settings_of(base, KNOBS), 5)
    chosen = pd.DataFrame(
        {
            "outer": 0,
            "architecture": "small",
            "method": ["focal", "over_sampling"],
            "alpha": [0.5, None],
            "epochs": [4, 7],
        }
    )
    table = process_table(trials, chosen)
    assert table["settings"].tolist() == [4, 4]
    assert table["trials"].tolist() == [20, 20]
    paper = in_folds(settings_of(Trial(), KNOBS), 5)
    several = pd.DataFrame(
        {"outer": 0, "architecture": "small", "method": "focal", "alpha": [0.5, 1.0], "epochs": [4, 7]}
    )
    assert process_table(paper, several)[["settings", "trials"]].to_numpy().tolist() == [[1, 5], [1, 5]]


def test_cost_counts_images_of_each_resampling():
    counts = {"a": 100, "b": 300}
    final = Trial(epochs=10)
    assert images_per_fit(final, counts, n_folds=5) == pytest.approx(10 * 280)
    assert images_per_fit(dataclasses.replace(final, resample="under"), counts, n_folds=5) == pytest.approx(10 * 140)
    assert images_per_fit(dataclasses.replace(final, resample="over"), counts, n_folds=5) == pytest.approx(10 * 420)
    rung = dataclasses.replace(final, dev_counts="10/40", resample="over_equal")
    assert images_per_fit(rung, counts, n_folds=5) == pytest.approx(10 * 50)
    fold = images_per_fit(dataclasses.replace(final, fold=0), counts, n_folds=5)
    assert fold == pytest.approx(10 * (280 * 0.8 + 280 * 0.2 / 3))


def test_protocol_names():
    assert protocol_names("both") == ("paper", "honest")
    assert protocol_names("honest") == ("honest",)
    with pytest.raises(ValueError, match="must be one of paper, honest or both"):
        protocol_names("fair")
