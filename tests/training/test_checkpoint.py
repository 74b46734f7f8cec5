"""A fit that was stopped between two epochs ends at the same numbers as one that was not."""

import dataclasses
import os
import random

import pandas as pd
import pytest
from conftest import make_cells
from torch import nn

from rbcnb.study.runner import run_study
from rbcnb.study.store import checkpoint_of
from rbcnb.training import checkpoint, learner
from rbcnb.training.checkpoint import CheckpointCallback
from rbcnb.training.fit import hash_data, run_trial
from rbcnb.training.splits import assign_splits
from rbcnb.training.trial import Trial

TRIAL = Trial(
    loss="focal",
    alpha=0.5,
    gamma=2.0,
    epochs=5,
    fold=0,
    precision="float32",
    schedule="warm_cosine",
    augment="flips_turns",
)


class Stopped(BaseException):
    """Stands for a kill: nothing on the way up may catch it."""


@pytest.fixture(scope="module")
def split_data():
    cells, crops = make_cells({"codocyte": 20, "hypochromia": 20, "normal": 160})
    return assign_splits(cells, protocol="paper", seed=0), crops


@pytest.fixture(scope="module")
def straight(split_data):
    """``TRIAL`` without a stop."""
    return run_trial(TRIAL, *split_data)


@pytest.fixture
def stop_after(monkeypatch):
    """Checkpoints are written each epoch, and the fit is stopped at the end of the one asked for."""
    monkeypatch.setattr(checkpoint, "EVERY_S", 0.0)
    save = CheckpointCallback.after_epoch

    def set_up(last_epoch):
        def after_epoch(self):
            save(self)
            if self.epoch + 1 == last_epoch:
                raise Stopped

        monkeypatch.setattr(CheckpointCallback, "after_epoch", after_epoch)

    return set_up


@pytest.mark.parametrize("precision", ["float32", "bf16"])
def test_resumed_twice_to_the_same_bits(split_data, straight, tmp_path, stop_after, precision):
    trial = dataclasses.replace(TRIAL, precision=precision)
    if trial != TRIAL:
        straight = run_trial(trial, *split_data)
    path = tmp_path / "fit.ckpt"
    for last_epoch in (1, 3):
        stop_after(last_epoch)
        with pytest.raises(Stopped):
            run_trial(trial, *split_data, checkpoint=path)
        assert path.exists()
    stop_after(None)
    resumed = run_trial(trial, *split_data, checkpoint=path)
    pd.testing.assert_frame_equal(straight.curves, resumed.curves, check_exact=True)
    pd.testing.assert_frame_equal(straight.predictions, resumed.predictions, check_exact=True)


def test_random_layers_go_on_where_they_were(split_data, tmp_path, stop_after, monkeypatch):
    build = learner.build_model
    monkeypatch.setattr(learner, "build_model", lambda *a, **kw: nn.Sequential(build(*a, **kw), nn.Dropout(0.5)))
    straight = run_trial(TRIAL, *split_data)
    stop_after(2)
    with pytest.raises(Stopped):
        run_trial(TRIAL, *split_data, checkpoint=tmp_path / "fit.ckpt")
    stop_after(None)
    resumed = run_trial(TRIAL, *split_data, checkpoint=tmp_path / "fit.ckpt")
    pd.testing.assert_frame_equal(straight.curves, resumed.curves, check_exact=True)


def test_a_study_goes_on_from_the_checkpoint_and_clears_it_away(
    split_data, straight, tmp_path, stop_after, monkeypatch
):
    key = TRIAL.key(hash_data(*split_data))
    stop_after(4)
    with pytest.raises(Stopped):
        run_study([TRIAL], *split_data, tmp_path, jobs=1)
    assert [path.name for path in tmp_path.iterdir()] == [f"{key}.ckpt"]
    epochs = []

    def count(self):
        epochs.append(self.epoch)

    stop_after(None)
    monkeypatch.setattr(CheckpointCallback, "before_train", count, raising=False)
    rows = run_study([TRIAL], *split_data, tmp_path, jobs=1)
    assert epochs == [4]  # one epoch was left
    assert rows["macro_f1"][0] == straight.scores["macro_f1"]
    assert not checkpoint_of(tmp_path, key).exists()


def test_a_torn_checkpoint_is_left_aside(split_data, straight, tmp_path):
    path = tmp_path / "fit.ckpt"
    path.write_bytes(b"PK\x03\x04 and no more")
    with pytest.warns(UserWarning, match=r"fit\.ckpt: no checkpoint that can be read .* starts from the beginning"):
        result = run_trial(TRIAL, *split_data, checkpoint=path)
    pd.testing.assert_frame_equal(result.curves, straight.curves, check_exact=True)


def test_no_damaged_or_swapped_checkpoint_is_read(split_data, tmp_path, stop_after):
    path = tmp_path / "fit.ckpt"
    stop_after(2)
    with pytest.raises(Stopped):
        run_trial(TRIAL, *split_data, checkpoint=path)
    whole, rng = path.read_bytes(), random.Random(20)
    damaged = [whole[:n] for n in (0, 10, 17, len(whole) - 1)]
    for _ in range(60):
        flipped = bytearray(whole)
        flipped[rng.randrange(len(whole))] ^= 1 << rng.randrange(8)
        damaged.append(bytes(flipped))
    for data in damaged:
        path.write_bytes(data)
        with pytest.warns(UserWarning, match="its digest is another"):
            assert checkpoint.resume(None, path) == 0
    other = tmp_path / "other.ckpt"  # of another fit
    other.write_bytes(whole)
    with pytest.warns(UserWarning, match="its digest is another"):
        assert checkpoint.resume(None, other) == 0
    path.write_bytes(whole)
    with pytest.warns(UserWarning, match="NoneType"):  # it is read, and there is no learner
        checkpoint.resume(None, path)


def test_a_pipe_in_the_place_of_a_checkpoint_is_left_aside(tmp_path):
    os.mkfifo(tmp_path / "fit.ckpt")
    with pytest.warns(UserWarning, match=r"fit\.ckpt: is a pipe"):
        assert checkpoint.resume(None, tmp_path / "fit.ckpt") == 0


def test_a_checkpoint_of_another_network_is_left_aside(split_data, straight, tmp_path, stop_after):
    path = tmp_path / "fit.ckpt"
    stop_after(2)
    with pytest.raises(Stopped):
        run_trial(dataclasses.replace(TRIAL, precision="bf16"), *split_data, checkpoint=path)
    stop_after(None)
    with pytest.warns(UserWarning, match=r"fit\.ckpt: a checkpoint of another network.* starts from the beginning"):
        result = run_trial(TRIAL, *split_data, checkpoint=path)
    pd.testing.assert_frame_equal(result.curves, straight.curves, check_exact=True)


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), RuntimeError("unexpected pos 64 vs 0")])
def test_a_checkpoint_that_cannot_be_written_costs_no_fit(split_data, tmp_path, stop_after, monkeypatch, error):
    def full(*_):
        raise error

    stop_after(None)
    monkeypatch.setattr("torch.save", full)
    with pytest.warns(UserWarning, match=r"fit\.ckpt: no checkpoint could be written"):
        result = run_trial(TRIAL, *split_data, checkpoint=tmp_path / "fit.ckpt")
    assert len(result.curves) == TRIAL.epochs
    assert not list(tmp_path.iterdir())


def test_short_fits_write_none(split_data, tmp_path):
    run_trial(TRIAL, *split_data, checkpoint=tmp_path / "fit.ckpt")
    assert not list(tmp_path.iterdir())
