"""The networks' shapes and the tables that Figs. 2 to 4 are drawn from."""

import numpy as np
import pytest
import torch

from rbcnb.training.models import (
    ARCHITECTURES,
    STAGE_COLUMNS,
    build_model,
    count_parameters,
    describe_block,
    describe_stages,
    normalise,
)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
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


def test_normalise_undoes_to_the_same_pixels():
    crops = torch.randint(0, 256, (2, 8, 8, 3), dtype=torch.uint8)
    images = normalise(crops).permute(0, 2, 3, 1).numpy()
    back = (images * [0.229, 0.224, 0.225] + [0.485, 0.456, 0.406]) * 255
    np.testing.assert_array_equal(back.round().astype(np.uint8), crops.numpy())
