"""Windows of the upscaled image: the pixels of the whole, without the whole."""

import subprocess
import sys

import cv2
import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from rbcnb.segmentation import upscaling, waifu2x
from rbcnb.segmentation.crops import crop_cells, upscaled_crops
from rbcnb.segmentation.segment import FinderSpec, segment_smear
from rbcnb.segmentation.upscaled_windows import Region, _weighted, area_taps, rectangles, upscaled_windows
from rbcnb.smears.synthetic.render import SmearSpec, render_smear

sides = st.integers(1, 40)


@pytest.fixture
def _network():
    if waifu2x.find_models() is None:
        pytest.skip("no Waifu2x model files on this machine")
    pytest.importorskip("ncnn")


def picture(height, width, *, seed=0):
    noise = np.random.default_rng(seed).normal(128, 300, (height, width, 3))
    return np.clip(cv2.GaussianBlur(noise, (0, 0), 1.5), 0, 255).astype(np.uint8).reshape(height, width, 3)


def random_boxes(rng, height, width, n):
    boxes = [(0, 0, 1, 1), (height - 1, width - 1, height, width), (0, 0, height, min(width, 9))]
    for _ in range(n):
        rows, columns = (np.sort(rng.choice(side + 1, 2, replace=False)) for side in (height, width))
        boxes.append((int(rows[0]), int(columns[0]), int(rows[1]), int(columns[1])))
    return boxes


@pytest.mark.usefixtures("_network")
@pytest.mark.parametrize("scale", [0.4, 1.0, 1.37, 2.0, 2.0001, 3.3, 5.6])
@pytest.mark.parametrize("shape", [(1, 1), (3, 20), (37, 52)])
def test_windows_are_those_of_the_whole_image_bit_for_bit(shape, scale):
    image = picture(*shape)
    whole = upscaling.waifu2x(image, scale)
    boxes = random_boxes(np.random.default_rng(1), *whole.shape[:2], 6)
    windows = upscaled_windows(image, boxes, scale, method="waifu2x")
    for window, (top, left, bottom, right) in zip(windows, boxes, strict=True):
        assert np.array_equal(window, whole[top:bottom, left:right])


@pytest.mark.slow
@pytest.mark.usefixtures("_network")
def test_parts_of_tiles_give_the_bits_of_whole_tiles():
    # Several tiles, whose last ones are no whole number of Winograd blocks; small windows, so that most are trimmed.
    image = picture(179, 270)
    whole = upscaling.waifu2x(image, 2.0)
    rng = np.random.default_rng(2)
    corners = [(int(rng.integers(0, 320)), int(rng.integers(0, 500))) for _ in range(20)]
    boxes = [(top, left, top + 37, left + 39) for top, left in corners]
    for window, (top, left, bottom, right) in zip(
        upscaled_windows(image, boxes, 2.0, method="waifu2x"), boxes, strict=True
    ):
        assert np.array_equal(window, whole[top:bottom, left:right])


@pytest.mark.slow
@pytest.mark.usefixtures("_network")
def test_parts_of_the_image_worked_on_apart_change_nothing(monkeypatch):
    monkeypatch.setattr("rbcnb.segmentation.upscaled_windows._REGION_PX", 60)
    image = picture(40, 61)
    whole = upscaling.waifu2x(image, 3.0)
    boxes = [(top, left, top + 25, left + 25) for top in range(0, 95, 20) for left in range(0, 158, 20)]
    for window, (top, left, bottom, right) in zip(
        upscaled_windows(image, boxes, 3.0, method="waifu2x"), boxes, strict=True
    ):
        assert np.array_equal(window, whole[top:bottom, left:right])


@pytest.mark.parametrize("scale", [0.4, 1.0, 1.37, 2.0, 5.6])
def test_bicubic_windows_are_within_a_grey_level(scale):
    image = picture(37, 52)
    whole = upscaling.bicubic(image, scale).astype(int)
    boxes = random_boxes(np.random.default_rng(1), *whole.shape[:2], 8)
    for window, (top, left, bottom, right) in zip(
        upscaled_windows(image, boxes, scale, method="bicubic"), boxes, strict=True
    ):
        assert np.abs(window - whole[top:bottom, left:right]).max() <= 1


@given(n_out=st.integers(1, 300), data=st.data())
def test_area_weights_are_shares_of_what_each_pixel_covers(n_out, data):
    n_in = data.draw(st.integers(n_out, 2 * n_out))
    taps = area_taps(n_in, n_out)
    assert taps.weights.sum(axis=1) == pytest.approx(np.ones(n_out), abs=1e-6)
    # Each input pixel is shared out whole: n_out / n_in of an output pixel (slivers of under 1/1000 px are left out).
    shares = np.bincount(taps.index.ravel(), taps.weights.ravel(), minlength=n_in)
    assert shares == pytest.approx(np.full(n_in, n_out / n_in), abs=2e-3)


@given(height=sides, width=sides, data=st.data())
@settings(max_examples=60, deadline=None)
def test_area_averages_are_opencvs_own_to_the_bit(height, width, data):
    image = np.random.default_rng(height * 100 + width).integers(0, 256, (height, width, 3), np.uint8)
    size = [data.draw(st.integers(-(-side // 2), side)) for side in (height, width)]
    got = _weighted(
        Region(image, 0, 0, (height, width)),
        [area_taps(*pair) for pair in zip((height, width), size, strict=True)],
        (0, 0, *size),
    )
    assert np.array_equal(got, cv2.resize(image, (size[1], size[0]), interpolation=cv2.INTER_AREA))


@given(height=sides, width=sides, data=st.data())
def test_what_leaves_the_image_is_reflected_as_opencv_does(height, width, data):
    image = np.arange(height * width * 3, dtype=np.uint32).reshape(height, width, 3).astype(np.uint8)
    edge = data.draw(st.integers(0, 50))
    bordered = cv2.copyMakeBorder(image, *[edge] * 4, cv2.BORDER_REFLECT_101)
    assert np.array_equal(
        Region(image, 0, 0, (height, width)).read(-edge, -edge, height + edge, width + edge), bordered
    )


@given(seed=st.integers(0, 10**6), height=sides, width=sides, density=st.floats(0, 1))
def test_rectangles_cover_the_mask_once_and_cost_no_more_than_their_hull(seed, height, width, density):
    mask = np.random.default_rng(seed).random((height, width)) < density
    found = rectangles(mask, overhead=1.5)
    covered = np.zeros(mask.shape, int)
    for top, left, bottom, right in found:
        assert mask[top:bottom, left:right].any()
        covered[top:bottom, left:right] += 1
    assert covered.max(initial=0) <= 1
    assert (covered[mask] == 1).all()
    if mask.any():
        rows, columns = np.nonzero(mask)
        hull = (np.ptp(rows) + 2.5) * (np.ptp(columns) + 2.5)
        assert sum((c - a + 1.5) * (d - b + 1.5) for a, b, c, d in found) <= hull + 1e-9


def test_separate_spots_are_covered_separately():
    mask = np.zeros((32, 32), bool)
    mask[2:6, 3:9] = mask[20:30, 25:28] = True
    assert sorted(rectangles(mask, overhead=1.5)) == [(2, 3, 6, 9), (20, 25, 30, 28)]


@pytest.mark.usefixtures("_network")
@pytest.mark.parametrize("upscale", ["waifu2x", "bicubic"])
def test_crops_of_the_same_circles_are_the_same_crops(upscale):
    # Touching borders, larger than the crop, smaller than it, and one that lies outside altogether.
    image = render_smear(SmearSpec(height_px=60, width_px=84, n_cells=8, diameter_px=20), seed=1)[0]
    cells = segment_smear(image, FinderSpec(upscale="none", diameter_px=20)).cells[["x_px", "y_px", "radius_px"]]
    assert len(cells) >= 4
    cells.loc[len(cells)] = [0.0, 59.0, 13.0]
    cells.loc[len(cells)] = [40.3, 30.2, 4.2]
    cells.loc[len(cells)] = [-200.0, 30.2, 4.2]
    whole = upscaling.upscale(image, 2.7, method=upscale)
    expected = crop_cells(whole, cells, 54, scale=2.7)
    crops = upscaled_crops(image, cells, 54, 2.7, method=upscale)
    assert np.abs(crops.astype(int) - expected).max() <= (upscale == "bicubic")
    assert not crops[-1].any()


def test_where_to_upscale_follows_the_method_unless_told():
    assert FinderSpec().upscales_smear
    assert not FinderSpec(upscale_where="crops").upscales_smear
    assert not FinderSpec(upscale="none", upscale_where="smear").upscales_smear
    with pytest.raises(ValueError, match="upscale_where"):
        FinderSpec(upscale_where="cells")
    assert not FinderSpec(method="learned").upscales_smear
    with pytest.raises(ValueError, match="only crops"):
        FinderSpec(method="learned", upscale_where="smear")


def test_boxes_outside_are_refused_and_none_are_none():
    image = picture(10, 12)
    assert upscaled_windows(image, [], 2.0, method="bicubic") == []
    for box in ((0, 0, 21, 5), (-1, 0, 5, 5), (3, 3, 3, 9)):
        with pytest.raises(ValueError, match="20 x 24"):
            upscaled_windows(image, [box], 2.0, method="bicubic")


@pytest.mark.slow
@pytest.mark.usefixtures("_network")
def test_a_large_image_needs_little_more_memory_than_itself():
    code = """
import resource
import numpy as np
from rbcnb.segmentation.upscaled_windows import upscaled_windows
image = np.full((5000, 8000, 3), 200, np.uint8)  # 120 MB; at 8 times the size 7.7 GB
boxes = [(top, left, top + 224, left + 224) for top in (0, 1400) for left in (0, 2300)]
upscaled_windows(image[:300, :500], boxes, 5.6, method="waifu2x")  # the network itself fills half a gigabyte
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
boxes = [(top, left, top + 224, left + 224) for top in (0, 27776) for left in (0, 44576)]
upscaled_windows(image, boxes, 5.6, method="waifu2x")
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert float(done.stdout) < 150  # MB
