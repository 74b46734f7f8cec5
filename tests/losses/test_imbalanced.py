"""Each rival's defining identity; all of them through a `Trial`; the losses inside fastai."""

import pickle
import warnings

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from conftest import make_cells
from fastai.callback.mixup import MixUp
from fastai.callback.progress import ProgressCallback
from fastai.data.core import DataLoaders
from fastai.data.load import DataLoader
from fastai.data.transforms import CategoryMap
from fastai.interpret import ClassificationInterpretation
from fastai.learner import Learner

from rbcnb.columns import CLASSES
from rbcnb.evaluation.prior_shift import shift_prior
from rbcnb.losses.focal import FocalLoss, focal_loss
from rbcnb.losses.imbalanced import (
    LOSSES,
    WITHOUT_COUNTS,
    ClassLoss,
    balanced_softmax,
    build_loss,
    class_balanced,
    effective_number_weights,
    generalised_dice,
    inverse_frequency_weights,
    ldam,
    ldam_margins,
    logit_adjustment,
    weighted_cross_entropy,
)
from rbcnb.training.dataloaders import CellDataLoaders
from rbcnb.training.fit import run_trial
from rbcnb.training.learner import build_learner
from rbcnb.training.splits import assign_splits
from rbcnb.training.trial import Trial

COUNTS = [345, 356, 2691]  # the paper's
RIVALS = (weighted_cross_entropy, class_balanced, ldam, balanced_softmax, logit_adjustment)


def trial_of(name, **settings):
    knobs = {"alpha": 1.0, "gamma": 2.0} if name == "focal" else {}
    return Trial(loss=name, **knobs, **settings)


@pytest.mark.parametrize("loss", RIVALS)
@pytest.mark.parametrize("reduction", ["none", "sum", "mean"])
def test_between_equal_classes_every_rival_is_cross_entropy(batch, loss, reduction):
    logits, targets = batch
    # LDAM has a margin even then: without it, it is.
    settings = {"max_margin": 0.0} if loss is ldam else {}
    equal = loss(logits, targets, counts=[7, 7, 7], reduction=reduction, **settings)
    torch.testing.assert_close(equal, F.cross_entropy(logits, targets, reduction=reduction))


@pytest.mark.parametrize("loss", [*RIVALS, generalised_dice])
def test_dense_and_ignored_targets(batch, loss):
    logits, targets = batch
    dense = logits.reshape(4, 16, 3).permute(0, 2, 1)
    flat = loss(logits, targets, counts=COUNTS)
    torch.testing.assert_close(loss(dense, targets.reshape(4, 16), counts=COUNTS), flat)
    some = targets.clone()
    some[::2] = -100
    torch.testing.assert_close(loss(logits, some, counts=COUNTS), loss(logits[1::2], targets[1::2], counts=COUNTS))


def test_inverse_frequency_gives_every_class_the_same_say():
    weights, n = inverse_frequency_weights(COUNTS), torch.tensor(COUNTS, dtype=torch.float64)
    torch.testing.assert_close(weights * n, torch.full((3,), n.sum() / 3, dtype=torch.float64))
    assert (weights * n).sum() / n.sum() == pytest.approx(1)


def test_effective_number_runs_from_alike_to_inverse_frequency():
    torch.testing.assert_close(effective_number_weights(COUNTS, beta=0.0), torch.ones(3, dtype=torch.float64))
    inverse = inverse_frequency_weights(COUNTS)
    torch.testing.assert_close(
        effective_number_weights(COUNTS, beta=1 - 1e-12), 3 * inverse / inverse.sum(), rtol=1e-4, atol=0
    )
    # E_n = 1 + beta + ... + beta^(n-1), term by term
    numbers = torch.tensor([sum(0.99**i for i in range(n)) for n in COUNTS], dtype=torch.float64)
    expected = (1 / numbers) * 3 / (1 / numbers).sum()
    torch.testing.assert_close(effective_number_weights(COUNTS, beta=0.99), expected)
    with pytest.raises(ValueError, match="beta"):
        effective_number_weights(COUNTS, beta=1.0)


def test_class_balanced_at_beta_0_is_cross_entropy(batch):
    torch.testing.assert_close(class_balanced(*batch, counts=COUNTS, beta=0.0), F.cross_entropy(*batch))


def test_ldam_margins_go_by_the_fourth_root_and_are_asked_of_the_target(batch):
    margins = ldam_margins([1, 16, 81])
    torch.testing.assert_close(margins, torch.tensor([0.5, 0.25, 0.5 / 3], dtype=torch.float64))
    logits, targets = batch
    margins = ldam_margins(COUNTS)
    exps = logits.exp()
    target_terms = (logits.gather(1, targets[:, None])[:, 0] - margins[targets]).exp()
    others = exps.sum(1) - exps.gather(1, targets[:, None])[:, 0]
    expected = -(target_terms / (target_terms + others)).log()
    torch.testing.assert_close(ldam(logits, targets, counts=COUNTS, reduction="none"), expected)


def test_balanced_softmax_is_its_formula_and_logit_adjustment_at_tau_1(batch):
    logits, targets = batch
    scores = torch.tensor(COUNTS, dtype=torch.float64) * logits.exp()
    expected = -(scores.gather(1, targets[:, None])[:, 0] / scores.sum(1)).log()
    torch.testing.assert_close(balanced_softmax(logits, targets, counts=COUNTS, reduction="none"), expected)
    adjusted = logit_adjustment(logits, targets, counts=COUNTS, tau=1.0, reduction="none")
    torch.testing.assert_close(adjusted, expected)
    torch.testing.assert_close(
        logit_adjustment(logits, targets, counts=COUNTS, tau=0.0), F.cross_entropy(logits, targets)
    )


def test_logit_adjustment_in_training_and_post_hoc_undo_each_other(batch):
    """Trained with the shift, bare logits are what post-hoc adjustment makes of the shifted ones."""
    logits, _ = batch
    shifted = (logits + torch.tensor(COUNTS, dtype=torch.float64).log()).softmax(1).numpy()
    adjusted = shift_prior(shifted, old_prior=COUNTS, new_prior=[1] * len(COUNTS))
    np.testing.assert_allclose(adjusted, logits.softmax(1).numpy(), rtol=1e-10)


def test_generalised_dice_by_hand_and_at_its_ends():
    logits, targets = torch.zeros(4, 2, dtype=torch.float64), torch.tensor([0, 0, 0, 1])
    # p = 1/2 everywhere; w = 1/9, 1; overlaps 3/2, 1/2; sums 3 + 2, 1 + 2
    expected = 1 - 2 * (1.5 / 9 + 0.5) / (5 / 9 + 3)
    assert generalised_dice(logits, targets, counts=[3, 1]).item() == pytest.approx(expected, rel=1e-12)
    right = 100.0 * F.one_hot(targets, 2).double()
    assert generalised_dice(right, targets, counts=[3, 1]).item() == pytest.approx(0, abs=1e-12)
    assert generalised_dice(-right, targets, counts=[3, 1]).item() == pytest.approx(1)
    with pytest.raises(ValueError, match="belongs to a batch"):
        generalised_dice(logits, targets, counts=[3, 1], reduction="none")


def test_deferred_reweighting_begins_at_four_fifths(batch):
    loss = build_loss("ldam_drw", class_counts=COUNTS)
    plain = ldam(*batch, counts=COUNTS)
    weighted = ldam(*batch, counts=COUNTS, weights=effective_number_weights(COUNTS))
    assert not torch.isclose(plain, weighted)
    for epoch in range(10):
        loss.begin_epoch(epoch, 10)
        torch.testing.assert_close(loss(*batch), weighted if epoch >= 8 else plain)


def test_a_learner_drives_the_deferred_reweighting(split_data):
    _, crops = split_data
    some = crops[:24], np.arange(24) % 3
    dls = CellDataLoaders.from_crops(some, some, vocab=CLASSES, bs=8)
    learner = build_learner(Trial(loss="ldam_drw", epochs=5), dls)
    seen = []
    begin = learner.loss_func.begin_epoch
    learner.loss_func.begin_epoch = lambda *epoch: (begin(*epoch), seen.append(learner.loss_func.late))
    with learner.no_bar(), learner.no_logging():
        learner.fit(5)
    assert seen == [False] * 4 + [True]
    assert learner.loss_func.counts == [8, 8, 8]


def test_build_loss_unpacks_the_trial(batch):
    logits, targets = batch
    focal = build_loss("focal", alpha=0.75, gamma=1.5)
    assert torch.equal(focal(logits, targets), focal_loss(logits, targets, alpha=0.75, gamma=1.5))
    assert torch.equal(build_loss("cross_entropy")(logits, targets), F.cross_entropy(logits, targets))
    smoothed = build_loss("cross_entropy", label_smoothing=0.1)(logits, targets)
    assert torch.equal(smoothed, F.cross_entropy(logits, targets, label_smoothing=0.1))
    with pytest.raises(ValueError, match="unknown loss 'hinge'; known: cross_entropy, focal"):
        build_loss("hinge")


@pytest.mark.parametrize("name", [name for name in LOSSES if name not in WITHOUT_COUNTS])
def test_a_missing_prior_is_said(name):
    with pytest.raises(ValueError, match="needs class_counts"):
        build_loss(name)
    with pytest.raises(ValueError, match="positive number of training cells"):
        build_loss(name, class_counts=[10, 0, 3])


@pytest.fixture(scope="module")
def split_data():
    cells, crops = make_cells({"codocyte": 20, "hypochromia": 20, "normal": 160})
    return assign_splits(cells, protocol="honest", seed=0), crops


@pytest.mark.parametrize("name", LOSSES)
def test_every_loss_learns_and_finds_the_rare_classes_in_a_trial(split_data, name):
    result = run_trial(trial_of(name, fold=0, epochs=15, learning_rate=0.01), *split_data)
    assert np.isfinite(result.curves.to_numpy(dtype=float)).all()
    column = "train_ce" if name == "ldam_drw" else "train_loss"  # re-weighting changes what that one's loss means
    assert result.curves[column].iloc[4] < 0.9 * result.curves[column].iloc[0]
    assert result.scores["macro_f1"] > 0.6  # "normal" alone has 0.3


def test_methods_have_names_of_their_own():
    trials = [trial_of(name, resample=resample) for name in LOSSES for resample in ("none", "under", "over")]
    assert len({trial.method for trial in trials}) == len(trials)


@pytest.mark.parametrize("name", LOSSES)
def test_every_loss_survives_pickling(batch, name):
    loss = build_loss(name, class_counts=COUNTS)
    assert torch.equal(pickle.loads(pickle.dumps(loss))(*batch), loss(*batch))
    torch.testing.assert_close(loss.activation(batch[0]).sum(1), torch.ones(64, dtype=torch.float64))
    assert torch.equal(loss.decodes(batch[0]), batch[0].argmax(1))


class Vocabulary:
    """What fastai's interpretation asks of a data set beside its items."""

    vocab = CategoryMap(["a", "b", "c"])

    def __init__(self, x, y):
        self.x, self.y = x, y

    def __len__(self):
        return len(self.x)

    def __getitem__(self, i):
        return self.x[i], self.y[i]


@pytest.fixture
def blobs():
    generator = torch.Generator().manual_seed(0)
    y = torch.arange(96) % 3
    x = 4 * F.one_hot(y, 3) + torch.randn(96, 3, generator=generator)
    loaders = DataLoaders(*(DataLoader(Vocabulary(x, y), bs=32, shuffle=shuffle) for shuffle in (True, False)))
    loaders.vocab = Vocabulary.vocab
    return loaders, x, y


@pytest.mark.parametrize("loss", [FocalLoss(gamma=2.0), ClassLoss(balanced_softmax, counts=COUNTS)])
def test_fastai_fits_predicts_and_interprets(blobs, loss):
    loaders, x, y = blobs
    torch.manual_seed(0)
    learner = Learner(loaders, torch.nn.Linear(3, 3), loss_func=loss, lr=0.1)
    learner.remove_cb(ProgressCallback)
    with learner.no_logging():
        learner.fit(5)
        p, targets, decoded, losses = learner.get_preds(with_decoded=True, with_loss=True)
        found = ClassificationInterpretation.from_learner(learner)
        matrix = found.confusion_matrix()
    logits = learner.model(x).detach()
    torch.testing.assert_close(p, logits.softmax(1))
    assert torch.equal(targets, y)
    assert torch.equal(decoded, logits.argmax(1))
    one_by_one = torch.stack([loss(row[None], t[None]) for row, t in zip(logits, y, strict=True)])
    torch.testing.assert_close(losses, one_by_one)
    assert (decoded == y).float().mean() > 0.9
    assert matrix.trace() == (decoded == y).sum()


@pytest.mark.parametrize("loss", [FocalLoss(gamma=2.0), ClassLoss(ldam, counts=COUNTS)])
def test_fastai_mixup_mixes_the_losses(blobs, loss):
    loaders, _, _ = blobs
    seen = []

    class Check(MixUp):
        def lf(self, pred, *yb):
            mixed = super().lf(pred, *yb)
            first = loss.function if isinstance(loss, ClassLoss) else focal_loss
            settings = {"counts": loss.counts} if isinstance(loss, ClassLoss) else {"gamma": 2.0}
            if self.training:
                first_loss = first(pred, *self.yb1, reduction="none", **settings)
                second_loss = first(pred, *yb, reduction="none", **settings)
                seen.append((mixed.item(), torch.lerp(first_loss, second_loss, self.lam.flatten()).mean().item()))
            return mixed

    learner = Learner(loaders, torch.nn.Linear(3, 3), loss_func=loss, lr=0.1, cbs=Check(0.4))
    learner.remove_cb(ProgressCallback)
    with learner.no_logging():
        learner.fit(2)
    mixed, expected = zip(*seen, strict=True)
    np.testing.assert_allclose(mixed, expected, rtol=1e-4, atol=1e-6)
    assert loss.reduction == "mean"


# Losses that drop in anywhere.

COUNTED = [name for name in LOSSES if name not in WITHOUT_COUNTS]
FUNCTIONS = [*RIVALS, generalised_dice]


@pytest.mark.parametrize("loss", FUNCTIONS)
@pytest.mark.parametrize("counts", [[7], [1, 2], [1, 2, 3, 4]])
def test_counts_of_other_classes_than_the_logits_are_refused(batch, loss, counts):
    for call in (lambda *both: loss(*both, counts=counts), ClassLoss(loss, counts=counts)):
        with pytest.raises(ValueError, match=rf"counts are of {len(counts)} classes, but logits \(64, 3\) of 3"):
            call(*batch)


@pytest.mark.parametrize("counts", [[], [1, 0, 2], [1, -1, 2], [1, float("nan"), 2], [1, float("inf"), 2]])
def test_counts_that_are_none_are_refused(batch, counts):
    with pytest.raises(ValueError, match="positive number of training cells"):
        weighted_cross_entropy(*batch, counts=counts)
    with pytest.raises(ValueError, match="positive number of training cells"):
        ClassLoss(weighted_cross_entropy, counts=counts)


@pytest.mark.parametrize("loss", FUNCTIONS)
def test_any_integer_targets_and_any_ignored_class_will_do(batch, loss):
    logits, targets = batch
    expected = loss(logits, targets, counts=COUNTS)
    for dtype in (torch.uint8, torch.int8, torch.int16, torch.int32):
        assert torch.equal(loss(logits, targets.to(dtype), counts=COUNTS), expected)
    for ignored in (255, 1, -1):
        marked = targets.clone()
        marked[::3] = ignored
        kept = marked != ignored
        expected = loss(logits[kept], targets[kept], counts=COUNTS)
        found = loss(logits, marked, counts=COUNTS, ignore_index=ignored)
        torch.testing.assert_close(found, expected)
        torch.testing.assert_close(ClassLoss(loss, counts=COUNTS, ignore_index=ignored)(logits, marked), expected)


@pytest.mark.parametrize("loss", FUNCTIONS)
def test_targets_of_no_use_say_how_to_mend_them(batch, loss):
    logits, targets = batch
    with pytest.raises(TypeError, match="targets must be class indices"):
        loss(logits, F.one_hot(targets, 3).double(), counts=COUNTS)
    with pytest.raises(TypeError, match="targets must be class indices"):
        loss(logits, targets > 0, counts=COUNTS)
    with pytest.raises(ValueError, match=r"must have shape \(64,\)"):
        loss(logits, targets[:5], counts=COUNTS)
    with pytest.raises(ValueError, match="reduction must be"):
        loss(logits, targets, counts=COUNTS, reduction="median")


@pytest.mark.parametrize("name", LOSSES)
def test_a_loss_says_what_it_is(name):
    loss = build_loss(name, class_counts=COUNTS)
    text = repr(loss)
    assert "reduction='mean'" in text
    if name not in WITHOUT_COUNTS:
        assert "[345, 356, 2691]" in text
    assert name.removesuffix("_drw") in text or "FocalLoss(alpha=1.0" in text
    assert "tau=0.5" in repr(ClassLoss(logit_adjustment, counts=COUNTS, tau=0.5, ignore_index=9))
    assert "ignore_index=9" in repr(ClassLoss(logit_adjustment, counts=COUNTS, tau=0.5, ignore_index=9))


@pytest.mark.parametrize("name", COUNTED)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_module_equals_its_function(batch, name, dtype):
    loss, logits = build_loss(name, class_counts=COUNTS), batch[0].to(dtype)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        exact = torch.finfo(dtype).eps
        torch.testing.assert_close(
            loss(logits, batch[1]), loss.function(logits, batch[1], counts=COUNTS), rtol=8 * exact, atol=8 * exact
        )


@pytest.mark.parametrize("name", COUNTED)
def test_compiled_and_exported_losses_equal_eager_ones(batch, name):
    logits, targets = batch[0].float(), batch[1]
    loss = build_loss(name, class_counts=COUNTS)
    expected = loss(logits, targets)
    torch._dynamo.reset()
    assert torch.equal(torch.compile(loss, backend="eager", fullgraph=True)(logits, targets), expected)
    exported = torch.export.export(loss, (logits, targets)).module()
    assert torch.equal(exported(logits, targets), expected)


@pytest.mark.parametrize("loss", FUNCTIONS)
def test_functions_compile_with_counts_in_a_list(batch, loss):
    torch._dynamo.reset()
    compiled = torch.compile(lambda x, t: loss(x, t, counts=[1, 2, 3]), backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(*batch), loss(*batch, counts=[1, 2, 3]))


@pytest.mark.parametrize("name", COUNTED)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_autocast_gives_dtype_and_digits_of_cross_entropy(batch, name, dtype):
    logits, targets = batch[0].to(dtype), batch[1]
    loss = build_loss(name, class_counts=COUNTS)
    assert loss(logits, targets).dtype == F.cross_entropy(logits, targets).dtype
    with torch.autocast("cpu", torch.bfloat16):
        found = loss(logits, targets)
        assert found.dtype == F.cross_entropy(logits, targets).dtype
    # Once rounded to bfloat16, the logits lose no more: neither weights nor margins are rounded, too.
    torch.testing.assert_close(found.double(), loss(logits.double(), targets), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", LOSSES)
def test_shapes_are_known_without_numbers(name):
    loss = build_loss(name, class_counts=COUNTS).to("meta")
    logits = torch.empty(8, 3, 5, device="meta", requires_grad=True)
    found = loss(logits, torch.empty(8, 5, dtype=torch.int64, device="meta"))
    assert (found.shape, found.dtype, found.device.type) == ((), torch.float32, "meta")
    found.backward()
    assert logits.grad.shape == logits.shape


@pytest.mark.parametrize("name", COUNTED)
def test_what_is_known_of_the_classes_moves_with_the_module(batch, name):
    loss = build_loss(name, class_counts=COUNTS)
    assert {buffer.device.type for buffer in loss.to("meta").buffers()} == {"meta"}
    halved = build_loss(name, class_counts=COUNTS).half()  # numbers of the classes lose nothing
    torch.testing.assert_close(halved(*batch), build_loss(name, class_counts=COUNTS)(*batch))


def test_deferred_reweighting_that_nobody_tells_the_epoch_says_so(batch):
    logits, targets = batch
    loss = build_loss("ldam_drw", class_counts=COUNTS)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        loss(logits, targets)  # nobody trains with it
    logits = logits.clone().requires_grad_()
    with pytest.warns(UserWarning, match=r"never begins.*rbcnb.training.EpochCallback"):
        loss(logits, targets)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        loss(logits, targets)  # once is enough
        informed = build_loss("ldam_drw", class_counts=COUNTS)
        informed.begin_epoch(0, 10)
        informed(logits, targets)


def shifted_by_one(logits, targets, *, counts, ignore_index=-100, reduction="mean", shift=1.0):
    """Somebody's own loss: rarest class up."""
    moved = logits.clone()
    moved[:, int(np.argmin(counts))] -= shift
    return F.cross_entropy(moved, targets, ignore_index=ignore_index, reduction=reduction)


def test_somebodys_own_function_is_given_the_counts(batch):
    loss = ClassLoss(shifted_by_one, counts=COUNTS, shift=2.0)
    assert torch.equal(loss(*batch), shifted_by_one(*batch, counts=COUNTS, shift=2.0))
    assert "shifted_by_one" in repr(loss)
