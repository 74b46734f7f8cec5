"""A trial's learner is a fastai ``Learner``: each of fastai's methods gives the right numbers on it."""

import csv
import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from conftest import make_cells
from fastai.callback.all import CSVLogger, CutMix, EarlyStoppingCallback, GradientClip, MixUp, SaveModelCallback
from fastai.interpret import ClassificationInterpretation
from fastai.learner import load_learner
from matplotlib import pyplot as plt
from sklearn.metrics import confusion_matrix, f1_score

from rbcnb.losses.imbalanced import LOSSES
from rbcnb.training.augment import turn_each
from rbcnb.training.dataloaders import cell_dataloaders
from rbcnb.training.fit import run_trial
from rbcnb.training.learner import CurveCallback, build_learner, fit_trial
from rbcnb.training.normalise import normalise
from rbcnb.training.predict import predict_crops
from rbcnb.training.splits import assign_splits
from rbcnb.training.trial import Trial

TRIAL = Trial(fold=0, epochs=2, precision="float32", learning_rate=0.01)


@pytest.fixture(scope="module")
def split_data():
    cells, crops = make_cells({"codocyte": 20, "hypochromia": 20, "normal": 80})
    return assign_splits(cells, protocol="paper", seed=0), crops


@pytest.fixture
def untrained(split_data, tmp_path):
    """Makes the learner of a trial, silent, its files in a folder of its own."""

    def make(trial: Trial = TRIAL):
        torch.manual_seed(0)
        learner = build_learner(trial, cell_dataloaders(trial, *split_data))
        learner.path = tmp_path
        learner.no_bar().__enter__()
        learner.no_logging().__enter__()
        return learner

    return make


@pytest.fixture
def fitted(untrained):
    """As *untrained*, and fitted."""

    def make(trial: Trial = TRIAL):
        learner = untrained(trial)
        fit_trial(learner, trial)
        return learner

    return make


@pytest.fixture(autouse=True)
def _no_figure_is_left():
    yield
    plt.close("all")


def held_out(learner) -> tuple[np.ndarray, np.ndarray]:
    """Crops and classes of the validation cells."""
    dataset = learner.dls.valid.dataset
    return dataset.crops.numpy(), dataset.targets.numpy()


def test_a_trial_trains_through_this_very_learner(fitted, split_data):
    curves = run_trial(replace(TRIAL, seed=0), *split_data).curves
    np.testing.assert_array_equal(fitted().curve.table.to_numpy(), curves.to_numpy())


def test_validate_gives_the_loss_and_macro_f1_of_the_held_out_cells(fitted):
    learner = fitted()
    crops, targets = held_out(learner)
    before = learner.curve.table
    loss, f1 = learner.validate()
    probabilities = predict_crops(learner.model, crops)
    assert loss == pytest.approx(-np.log(probabilities[range(len(targets)), targets]).mean(), rel=1e-4)
    assert f1 == pytest.approx(f1_score(targets, probabilities.argmax(axis=1), average="macro"))
    assert (loss, f1) == pytest.approx(tuple(before[["valid_loss", "valid_macro_f1"]].iloc[-1]))
    assert learner.curve.table.equals(before)  # a validation is no epoch


def test_get_preds_are_probabilities_in_the_cells_order(fitted):
    learner = fitted()
    crops, targets = held_out(learner)
    probabilities, found, decoded, losses = learner.get_preds(with_decoded=True, with_loss=True)
    expected = predict_crops(learner.model, crops)
    np.testing.assert_allclose(probabilities, expected, atol=1e-6)
    assert found.tolist() == targets.tolist()
    assert decoded.tolist() == expected.argmax(axis=1).tolist()
    np.testing.assert_allclose(losses, -np.log(expected[range(len(targets)), targets]), rtol=1e-3, atol=1e-6)
    of_training, known = learner.get_preds(ds_idx=0)
    assert known.tolist() == learner.dls.train.dataset.targets.tolist()
    expected = predict_crops(learner.model, learner.dls.train.dataset.crops.numpy())
    np.testing.assert_allclose(of_training, expected, atol=1e-6)


def test_predict_names_the_class_of_one_crop(fitted):
    learner = fitted()
    crops, _ = held_out(learner)
    for crop, expected in zip(crops[:5], predict_crops(learner.model, crops[:5]), strict=True):
        image, name, number, probabilities = learner.predict(crop, with_input=True)
        assert name == learner.dls.vocab[int(number)]
        assert int(number) == expected.argmax()
        np.testing.assert_allclose(probabilities, expected, atol=1e-6)
        np.testing.assert_allclose(image.permute(1, 2, 0), crop / 255, atol=1e-6)


def test_new_cells_need_no_label(fitted, split_data):
    learner = fitted()
    probabilities, targets = learner.get_preds(dl=learner.dls.test_dl(split_data[1][:7]))
    assert targets is None
    np.testing.assert_allclose(probabilities, predict_crops(learner.model, split_data[1][:7]), atol=1e-6)


def test_tta_mixes_the_turned_cells_with_the_plain_ones(fitted):
    learner = fitted(replace(TRIAL, augment="flips_turns"))
    crops, targets = held_out(learner)
    plain = torch.from_numpy(predict_crops(learner.model, crops))
    turned, found = learner.tta(n=64, beta=0)  # the mean of 64 draws alone
    positions = [turn_each(torch.from_numpy(crops), torch.full((len(crops),), k)).numpy() for k in range(8)]
    expected = np.mean([predict_crops(learner.model, turned_crops) for turned_crops in positions], axis=0)
    assert np.abs(turned.numpy() - expected).max() < 0.1
    assert np.abs(turned.numpy() - expected).mean() < 0.02
    assert found.tolist() == targets.tolist()
    mixed, _ = learner.tta(n=4, beta=1)
    np.testing.assert_allclose(mixed, plain, atol=1e-6)


def test_lr_find_suggests_a_rate_and_leaves_the_weights_alone(fitted):
    learner = fitted()
    before = [weight.detach().clone() for weight in learner.model.parameters()]
    found = learner.lr_find(show_plot=True)
    assert 1e-5 < found.valley < 1
    assert len(learner.recorder.lrs) > 30
    assert np.all(np.diff(learner.recorder.lrs) > 0)
    assert all(torch.equal(*pair) for pair in zip(before, learner.model.parameters(), strict=True))


def test_fit_one_cycle_warms_up_and_anneals(untrained):
    learner = untrained()
    learner.fit_one_cycle(3, 0.01)
    rates = np.array(learner.recorder.lrs)
    assert rates.argmax() == pytest.approx(len(rates) / 4, abs=1)
    assert rates.max() == pytest.approx(0.01, rel=0.1)
    assert rates[-1] < rates.max() / 10
    assert learner.curve.table["epoch"].tolist() == [1, 2, 3]
    assert learner.curve.table["train_loss"].iloc[-1] < learner.curve.table["train_loss"].iloc[0]


def test_fine_tune_freezes_the_body_first(untrained):
    learner = untrained()
    first = next(learner.model.parameters())
    before, frozen = first.detach().clone(), []
    step = learner._step
    learner._step = lambda: (frozen.append(torch.equal(first, before)), step())
    learner.fine_tune(1, freeze_epochs=1)
    n = len(learner.dls.train)
    assert frozen == [True] * (n + 1) + [False] * (n - 1)
    assert learner.opt.hypers[0]["lr"] < learner.opt.hypers[-1]["lr"]


def test_batches_and_results_are_shown_with_their_names(fitted):
    learner = fitted()
    learner.dls.show_batch(max_n=6)
    titles = [axes.get_title() for axes in plt.gcf().axes if axes.get_title()]
    assert len(titles) == 6
    assert set(titles) <= set(learner.dls.vocab)
    learner.show_results(max_n=4)
    titles = [axes.get_title().split("\n") for axes in plt.gcf().axes if axes.get_title()]
    assert len(titles) == 4
    assert all(set(title) <= set(learner.dls.vocab) and len(title) == 2 for title in titles)


def test_summary_counts_the_weights_and_names_the_loss(fitted):
    text = str(fitted(replace(TRIAL, loss="focal", alpha=0.5, gamma=2.0)).summary())
    assert "Total params: 60,883" in text
    assert "FocalLoss(alpha=0.5, gamma=2.0" in text


def test_an_exported_learner_predicts_the_same(fitted, split_data, tmp_path):
    learner = fitted(replace(TRIAL, augment="flips_turns"))
    expected = [learner.predict(crop) for crop in split_data[1][:4]]
    learner.export("cells.pkl")
    assert (tmp_path / "cells.pkl").stat().st_size < 1e6  # no cells in it
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # fastai's, of pickles from strangers
        loaded = load_learner(tmp_path / "cells.pkl")
    for crop, (name, number, probabilities) in zip(split_data[1], expected, strict=False):
        again = loaded.predict(crop)
        assert (again[0], again[1]) == (name, number)
        assert torch.equal(again[2], probabilities)


def test_interpretation_finds_the_worst_cells_and_counts_the_confused(fitted):
    learner = fitted()
    crops, targets = held_out(learner)
    found = ClassificationInterpretation.from_learner(learner)
    expected = predict_crops(learner.model, crops)
    np.testing.assert_array_equal(found.confusion_matrix(), confusion_matrix(targets, expected.argmax(axis=1)))
    losses, rows = found.top_losses(3)
    by_hand = -np.log(expected[range(len(targets)), targets])
    assert rows.tolist() == np.argsort(-by_hand)[:3].tolist()
    np.testing.assert_allclose(losses, np.sort(by_hand)[::-1][:3], rtol=1e-3)
    found.plot_top_losses(2)
    titles = [axes.get_title() for axes in plt.gcf().axes if axes.get_title()]
    predicted, actual = titles[0].split(" / ")[0].split("/")
    assert predicted == learner.dls.vocab[int(expected[rows[0]].argmax())]
    assert actual == learner.dls.vocab[int(targets[rows[0]])]
    found.plot_confusion_matrix()
    found.print_classification_report()


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("mix", [MixUp, CutMix])
def test_mixed_cells_train_with_the_mixture_of_their_losses(untrained, name, mix):
    settings = {"alpha": 0.5, "gamma": 2.0} if name == "focal" else {}
    learner = untrained(replace(TRIAL, loss=name, **settings))
    mixing = mix(0.4)
    if name == "generalised_dice":
        with pytest.raises(ValueError, match="belongs to a batch"):
            learner.fit(1, cbs=mixing)
        return
    bare, seen = learner.loss_func, []

    class Watch(CurveCallback):
        def after_loss(self):
            if self.learn.training:
                pairs = [bare_rows(bare, self.learn.pred, y) for y in (*mixing.yb1, *self.learn.yb)]
                seen.append((self.learn.loss.item(), torch.lerp(*pairs, mixing.lam).mean().item()))

    learner.fit(1, cbs=[mixing, Watch()])
    assert len(seen) == len(learner.dls.train)
    np.testing.assert_allclose(*zip(*seen, strict=True), rtol=1e-5)
    assert learner.loss_func is bare


def bare_rows(loss, logits, targets):
    """The losses of the rows."""
    reduction, loss.reduction = loss.reduction, "none"
    try:
        return loss(logits.detach(), targets)
    finally:
        loss.reduction = reduction


@pytest.mark.parametrize("name", LOSSES)
def test_every_loss_is_given_per_cell_or_refused(fitted, name):
    settings = {"alpha": 0.5, "gamma": 2.0} if name == "focal" else {}
    learner = fitted(replace(TRIAL, loss=name, **settings))
    if name == "generalised_dice":
        with pytest.raises(ValueError, match="belongs to a batch"):
            ClassificationInterpretation.from_learner(learner)
        return
    probabilities, targets, losses = learner.get_preds(with_loss=True)
    assert losses.shape == targets.shape
    logits = probabilities.log()
    if name == "cross_entropy":
        np.testing.assert_allclose(losses, F.nll_loss(logits, targets, reduction="none"), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(losses, bare_rows(learner.loss_func, logits, targets), rtol=1e-3, atol=1e-5)
    ClassificationInterpretation.from_learner(learner).plot_top_losses(2)


def test_saving_stopping_and_logging_follow_macro_f1(untrained, tmp_path):
    learner = untrained()
    log = CSVLogger(tmp_path / "history.csv")
    learner.fit(4, 0.01, cbs=[SaveModelCallback(monitor="macro_f1"), log])
    with (tmp_path / "history.csv").open() as file:
        rows = list(csv.DictReader(file))
    curve = learner.curve.table
    assert [float(row["macro_f1"]) for row in rows] == pytest.approx(curve["valid_macro_f1"].tolist())
    assert [float(row["valid_loss"]) for row in rows] == pytest.approx(curve["valid_loss"].tolist())
    assert learner.validate()[1] == pytest.approx(curve["valid_macro_f1"].max())  # the best was loaded again
    learner = untrained()
    learner.fit(9, cbs=EarlyStoppingCallback(monitor="macro_f1", min_delta=2.0, patience=3))
    assert len(learner.curve.table) == 4


def test_a_callback_that_is_added_late_is_called(fitted):
    learner = fitted()
    norms = []

    class Norms(GradientClip):
        def after_backward(self):
            super().before_step()
            norms.append(torch.cat([weight.grad.flatten() for weight in learner.model.parameters()]).norm().item())

    learner.add_cb(Norms(1e-3))
    learner.fit(1)
    assert len(norms) == len(learner.dls.train)
    assert max(norms) <= 1e-3 * 1.01
    learner(["before_epoch", "after_epoch"])  # several events at once


def test_weights_and_optimiser_come_back(fitted):
    learner = fitted()
    learner.save("state")
    state = {name: values.clone() for name, values in learner.model.state_dict().items()}
    learner.fit(1, 0.01)
    assert not all(torch.equal(values, learner.model.state_dict()[name]) for name, values in state.items())
    learner.load("state")
    assert all(torch.equal(values, learner.model.state_dict()[name]) for name, values in state.items())


def test_a_network_trained_elsewhere_takes_these_cells(split_data):
    """What a fastai user would do: any learner over the package's cells."""
    from fastai.learner import Learner
    from fastai.metrics import accuracy

    dls = cell_dataloaders(TRIAL, *split_data)
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * 16 * 16, dls.c))
    learner = Learner(dls, model, loss_func=torch.nn.CrossEntropyLoss(), metrics=accuracy)
    with learner.no_bar(), learner.no_logging():
        learner.fit(3)
        loss, right = learner.validate()
    crops, targets = held_out(learner)
    logits = model(normalise(torch.from_numpy(crops))).detach()
    assert right == pytest.approx((logits.argmax(1).numpy() == targets).mean())
    assert loss == pytest.approx(F.cross_entropy(logits, torch.from_numpy(targets)).item(), rel=1e-5)
