"""Batches, augmentation, the optimiser, and the curves that a fit leaves."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from rbcnb.losses.focal import focal_loss
from rbcnb.training.engine import choose_engine
from rbcnb.training.learner import CropLoader, build_learner, rotate_flip
from rbcnb.training.models import normalise
from rbcnb.training.predict import probabilities_of
from rbcnb.training.trial import Trial

CPU = choose_engine("cpu", precision="float32")


def loader(n: int, *, batch_size: int = 4, seed: int | None = None) -> CropLoader:
    generator = torch.Generator().manual_seed(0)
    crops = torch.randint(0, 256, (n, 16, 16, 3), dtype=torch.uint8, generator=generator)
    return CropLoader(crops, torch.arange(n) % 3, batch_size=batch_size, seed=seed)


def test_evaluation_batches_keep_order_and_every_cell():
    batches = list(one := loader(10))
    assert [len(targets) for _, targets in batches] == [4, 4, 2]
    assert len(one) == 3
    assert torch.equal(torch.cat([images for images, _ in batches]), normalise(one.crops))
    assert torch.equal(torch.cat([targets for _, targets in batches]), one.targets)


def test_training_order_is_seeded_and_differs_per_epoch():
    def epochs(seed):
        one = loader(12, seed=seed)
        return [torch.cat([images.mean(dim=(1, 2, 3)) for images, _ in one]) for _ in range(2)]

    first, second = epochs(0)
    assert not torch.equal(first, second)
    torch.testing.assert_close(first.sort().values, second.sort().values)
    assert all(torch.equal(a, b) for a, b in zip(epochs(0), (first, second), strict=True))
    assert not torch.equal(epochs(1)[0], first)


def test_a_shorter_epoch_serves_other_cells_each_time():
    one = loader(40, seed=0)
    one = CropLoader(one.crops, torch.arange(40), batch_size=4, seed=0, epoch_size=10)
    epochs = [torch.cat([targets for _, targets in one]).tolist() for _ in range(30)]
    assert [len(targets) for _, targets in one] == [4, 4, 2]
    assert all(len(set(epoch)) == 10 for epoch in epochs)
    assert {row for epoch in epochs for row in epoch} == set(range(40))


@pytest.mark.parametrize(("n", "sizes"), [(9, [4, 4]), (10, [4, 4, 2]), (1, [1])])
def test_no_training_batch_of_one_is_left_behind_a_full_one(n, sizes):
    assert [len(targets) for _, targets in loader(n, seed=0)] == sizes


def test_rotation_and_flips_keep_what_they_should():
    crops = np.zeros((64, 33, 33, 3), np.uint8)
    crops[:, 16, 16] = 255  # the centre stays where it is under every rotation and flip
    crops[:, 2, 4] = 255
    turned = rotate_flip(crops, seed=0)
    assert (turned[:, 16, 16] > 200).all()
    assert turned.shape == crops.shape
    assert turned.dtype == np.uint8
    assert np.array_equal(turned, rotate_flip(crops, seed=0))
    assert len({image.tobytes() for image in turned}) == 64
    corners = turned[:, :16, :16].any(axis=(1, 2, 3)), turned[:, 17:, 17:].any(axis=(1, 2, 3))
    # The off-centre dot is left in its own quarter by no flip and sent to the opposite one by both: each in about 1/4.
    assert all(0.1 < corner.mean() < 0.45 for corner in corners)
    # By at most 15 degrees: a dot 14 px above and 12 px left of the centre stays within 15 degrees of its direction.
    for image in turned:
        rows, columns = np.nonzero(image[..., 0] > 60)
        far = np.hypot(rows - 16, columns - 16) > 5
        angle = np.degrees(np.arctan2(np.abs(rows[far] - 16), np.abs(columns[far] - 16)))
        assert (np.abs(angle - np.degrees(np.arctan2(14, 12))) < 15 + 4).all()


def test_optimiser_is_torch_adam_with_the_papers_settings():
    learner = build_learner(Trial(), loader(12, seed=0), loader(0), n_classes=3, engine=CPU)
    learner.create_opt()
    learner.fit(1)
    optimiser = learner.opt.opt
    assert isinstance(optimiser, torch.optim.Adam)
    group = optimiser.param_groups[0]
    assert (group["lr"], group["betas"], group["eps"], group["weight_decay"]) == (1e-3, (0.9, 0.999), 1e-8, 0)


def test_a_fit_equals_a_plain_torch_loop():
    """fastai adds nothing: two epochs give the weights of the loop that anyone would write by hand."""
    trial = Trial(loss="focal", alpha=0.75, gamma=2.0, learning_rate=3e-3)
    torch.manual_seed(0)
    learner = build_learner(trial, loader(20, seed=5), loader(8), n_classes=3, engine=CPU)
    torch.manual_seed(0)
    model = build_learner(trial, loader(20, seed=5), loader(8), n_classes=3, engine=CPU).model
    learner.fit(2)

    optimiser = torch.optim.Adam(model.parameters(), lr=3e-3, fused=True)
    batches = loader(20, seed=5)
    means = []
    for _ in range(2):
        model.train()
        losses = []
        for images, targets in batches:
            optimiser.zero_grad()
            loss = focal_loss(model(images), targets, alpha=0.75, gamma=2.0)
            loss.backward()
            optimiser.step()
            losses += [loss.item()] * len(targets)
        means.append(np.mean(losses))
    for ours, theirs in zip(learner.model.parameters(), model.parameters(), strict=True):
        assert torch.equal(ours, theirs)

    curves = learner.curve.table
    np.testing.assert_allclose(curves["train_loss"], means, rtol=1e-6)
    model.eval()
    with torch.no_grad():
        images, targets = normalise(loader(8).crops), loader(8).targets
        logits = model(images)
    assert curves["valid_ce"].iloc[-1] == pytest.approx(F.cross_entropy(logits, targets).item(), rel=1e-5)
    assert curves["valid_loss"].iloc[-1] == pytest.approx(
        focal_loss(logits, targets, alpha=0.75, gamma=2.0).item(), rel=1e-5
    )
    predicted = probabilities_of(learner.model, (batch for batch, _ in loader(8)))
    np.testing.assert_allclose(predicted, logits.double().softmax(dim=1).numpy(), atol=1e-6)


def test_nothing_held_out_leaves_validation_empty():
    learner = build_learner(Trial(), loader(12, seed=0), loader(0), n_classes=3, engine=CPU)
    learner.fit(1)
    curves = learner.curve.table
    assert curves[["valid_loss", "valid_ce", "valid_macro_f1"]].isna().all(axis=None)
    assert curves["train_loss"].notna().all()


def test_a_loss_that_is_no_number_ends_the_fit_with_its_epoch():
    learner = build_learner(Trial(learning_rate=1e30), loader(40, seed=0), loader(0), n_classes=3, engine=CPU)
    with pytest.raises(FloatingPointError, match=r"training loss became .* in epoch"):
        learner.fit(5)
