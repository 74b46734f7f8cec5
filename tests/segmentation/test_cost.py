"""What finding cells will cost is measured on the images at hand."""

import cv2
import pytest

from rbcnb.segmentation import cost
from rbcnb.segmentation.cost import segmentation_seconds, upscaling_seconds
from rbcnb.segmentation.segment import FinderSpec
from rbcnb.smears.images import SmearError
from rbcnb.smears.sources import synthetic_smears

BARE = FinderSpec(method="paper", upscale="none", diameter_px=40.0, size_px=32)


def test_no_upscaling_costs_nothing():
    assert upscaling_seconds(1e6, 3.0, method="none") == upscaling_seconds(1e6, 1.0, method="bicubic") == 0.0


def test_seconds_grow_with_the_images_and_shrink_with_the_jobs(tmp_path, monkeypatch):
    smear = next(synthetic_smears(1, seed=0))
    path = tmp_path / "a.png"
    cv2.imwrite(str(path), smear.image)
    ticks = iter(range(100))
    monkeypatch.setattr(cost.time, "perf_counter", lambda: float(next(ticks)))  # a piece takes one second
    (tmp_path / "torn.png").write_bytes(b"no image")
    seconds, size = segmentation_seconds([tmp_path / "torn.png", path, path, path], BARE, jobs=2)
    assert size == smear.image.shape[1::-1]
    assert seconds == pytest.approx(size[0] * size[1] / 256**2 * 4 / 2)


def test_an_unreadable_image_tells_nothing(tmp_path):
    (tmp_path / "torn.png").write_bytes(b"no image")
    for images in ([tmp_path / "torn.png"], []):
        with pytest.raises(SmearError, match="none of the first images"):
            segmentation_seconds(images, BARE)
