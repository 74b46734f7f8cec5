import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from rbcnb.columns import CLASSES
from rbcnb.evaluation.metrics import confident_mistakes, examples_by_class
from rbcnb.plotting.cells import plot_heat, plot_mistakes
from rbcnb.training.gradcam import class_maps, grad_cam
from rbcnb.training.models import ARCHITECTURES, build_model
from rbcnb.training.normalise import normalise


def crops(n, size=64, seed=0):
    return np.random.default_rng(seed).integers(0, 255, (n, size, size, 3)).astype(np.uint8)


@pytest.mark.parametrize("architecture", list(ARCHITECTURES))
def test_a_map_sums_to_the_logit_without_its_bias(architecture):
    torch.manual_seed(0)
    model = build_model(architecture, 3).eval()
    images, classes = crops(3), [0, 2, 1]
    maps = class_maps(model, images, classes)
    with torch.inference_mode():
        logits = model(normalise(torch.from_numpy(images)))
    bias = list(model.modules())[-1].bias.detach()
    expected = (logits - bias)[range(3), classes].numpy()
    assert maps.sum(axis=(1, 2)) == pytest.approx(expected, rel=1e-3, abs=1e-4)
    heat = grad_cam(model, images, classes)
    assert heat.shape == (3, 64, 64)
    assert heat.min() >= 0
    assert heat.max() <= 1


@pytest.mark.parametrize("architecture", ["small", "resnet18", "densenet121"])
def test_it_is_the_mean_gradient_times_the_maps(architecture):
    """Grad-CAM as printed (Selvaraju et al., Eqs. 1 and 2), by autograd."""
    torch.manual_seed(1)
    model = build_model(architecture, 3).eval()
    images = normalise(torch.from_numpy(crops(2)))
    if architecture == "small":
        body, head = model[:4], model[4:]
    elif architecture == "resnet18":
        body, head = (
            nn.Sequential(*list(model.children())[:-2]),
            nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), model.fc),
        )
    else:
        body = nn.Sequential(model.features, nn.ReLU())
        head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), model.classifier)
    maps = body(images).detach().requires_grad_()
    head(maps)[[0, 1], [2, 0]].sum().backward()
    expected = (maps.grad.mean(dim=(2, 3), keepdim=True) * maps).sum(dim=1).detach().numpy()
    assert class_maps(model, crops(2), [2, 0]) == pytest.approx(expected, abs=1e-5)


def toy():
    """One map that is the red channel, one that is blue; class 0 is for red, class 1 for blue and against red."""
    convolution = nn.Conv2d(3, 2, 1, bias=False)
    linear = nn.Linear(2, 2)
    with torch.no_grad():
        convolution.weight[:] = torch.tensor([[1.0, 0, 0], [0, 0, 1.0]])[:, :, None, None]
        linear.weight[:] = torch.tensor([[1.0, 0], [-1, 2]])
    with torch.no_grad():
        linear.bias[:] = 7.0  # which no place is to blame for
    return nn.Sequential(nn.Sequential(convolution, nn.ReLU()), nn.AdaptiveAvgPool2d(1), nn.Flatten(), linear)


def test_a_network_known_by_hand_looks_where_it_must():
    image = np.zeros((1, 8, 8, 3), np.uint8)
    image[0, :4, :4, 0] = 255  # red above left
    image[0, 4:, 4:, 2] = 255  # blue below right
    model = toy()
    inside = normalise(torch.from_numpy(image))[0].relu().numpy()
    red, blue = inside[0], inside[2]
    assert class_maps(model, image, [0])[0] == pytest.approx(red / 64, abs=1e-6)
    assert class_maps(model, image, [1])[0] == pytest.approx((2 * blue - red) / 64, abs=1e-6)
    assert grad_cam(model, image, [1])[0] == pytest.approx(np.where(blue > 0, 1.0, 0.0), abs=1e-5)


def test_several_batches_and_no_crops_are_fine_and_a_wrong_number_of_classes_is_not():
    model = build_model("small", 2)
    assert class_maps(model, crops(40, 16), [0] * 40).shape == (40, 2, 2)
    assert grad_cam(model, crops(0, 16), []).shape == (0, 16, 16)
    with pytest.raises(ValueError, match="one class per crop"):
        class_maps(model, crops(2), [0])
    with pytest.raises(ValueError, match="last feature maps are not known"):
        class_maps(nn.Flatten(), crops(1), [0])


def test_the_surest_mistakes_are_all_mistakes_in_order(predictions):
    found = confident_mistakes(predictions, n=10)
    assert len(found) == 10
    assert (found["target"] != found["pred"]).all()
    assert found["probability"].is_monotonic_decreasing
    rows = predictions.iloc[found["row"]].reset_index(drop=True)
    pd.testing.assert_frame_equal(rows[["smear", "cell", "target", "pred"]], found[["smear", "cell", "target", "pred"]])
    wrong = predictions[predictions["target"] != predictions["pred"]].filter(like="prob_").max(axis=1)
    assert found["probability"].iloc[0] == wrong.max()
    assert len(plot_mistakes(crops(10, 16), found).axes) == 1
    assert plot_mistakes(crops(0, 16), found.iloc[:0]).axes


def test_examples_have_right_and_wrong_ones_of_each_class(predictions):
    found = examples_by_class(predictions, n=2)
    assert (found.groupby(["target", "right"]).size() == 2).all()
    assert ((found["target"] == found["pred"]) == found["right"]).all()
    figure = plot_heat(crops(len(found), 16), np.ones((len(found), 16, 16)), found, classes=CLASSES)
    assert len(figure.axes) == 6 * 4
    figure.draw_without_rendering()
    headings = [
        (ax, text) for ax in figure.axes for text in ax.texts if text.get_text().endswith("calls, surest first")
    ]
    assert [text.get_text().split()[0] for _, text in headings] == ["right", "wrong"]
    boxes = [text.get_window_extent() for _, text in headings]
    for (ax, _), box in zip(headings, boxes, strict=True):
        assert box.x0 == pytest.approx(ax.get_window_extent().x0, abs=2)  # over the half's first column
        assert figure.bbox.y1 > box.y1 > box.y0 >= ax.get_tightbbox().y1  # over its title
    assert not boxes[0].overlaps(boxes[1])
    with pytest.raises(ValueError, match="one crop, heat and row"):
        plot_heat(crops(1, 16), np.ones((1, 16, 16)), found, classes=CLASSES)
