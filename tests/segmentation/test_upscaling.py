import sys

import cv2
import numpy as np
import pytest
from joblib.externals.loky import get_reusable_executor

from rbcnb._utils.parallel import run_all
from rbcnb.segmentation import upscaling, waifu2x


@pytest.fixture(scope="module")
def network():
    """The real network with one thread; its absence skips what only it can show."""
    folder = waifu2x.find_models()
    if folder is None:
        pytest.skip("no Waifu2x model files on this machine")
    pytest.importorskip("ncnn")
    return waifu2x.network()


def picture(height, width, *, seed=0):
    """A smooth random picture with an edge, [H, W, 3] uint8."""
    noise = np.random.default_rng(seed).normal(128, 300, (height, width, 3))
    image = np.clip(cv2.GaussianBlur(noise, (0, 0), 3), 0, 255).astype(np.uint8)
    image[:, width // 2 :] //= 2
    return image


@pytest.mark.usefixtures("network")
@pytest.mark.parametrize("scale", [0.3, 0.5, 1.0, 1.6, 2.0, 3.3])
@pytest.mark.parametrize("shape", [(31, 44), (1, 1), (3, 20)])
def test_every_method_gives_exactly_the_rounded_size(shape, scale):
    image = picture(*shape)
    expected = (max(1, round(shape[0] * scale)), max(1, round(shape[1] * scale)), 3)
    for method in upscaling.METHODS:
        out = upscaling.upscale(image, scale, method=method)
        assert out.shape == expected
        assert out.dtype == np.uint8


def test_tiles_change_nothing(network, monkeypatch):
    image = picture(90, 130)
    whole = waifu2x.double(network, image).astype(int)
    for tile_px in (32, 47):
        monkeypatch.setattr(waifu2x, "TILE_PX", tile_px)
        tiled = waifu2x.double(network, image).astype(int)
        # Sums in another order differ in the seventh digit, which tips a rounding once in some ten thousand values.
        assert np.abs(tiled - whole).max() <= 1
        assert np.mean(tiled != whole) < 1e-3


@pytest.mark.usefixtures("network")
def test_waifu2x_gives_the_same_bytes_again():
    image = picture(60, 70)
    first = upscaling.waifu2x(image, 2.5)
    assert np.array_equal(first, upscaling.waifu2x(image, 2.5))


@pytest.mark.usefixtures("network")
def test_waifu2x_keeps_a_flat_image_flat_and_content_in_its_place():
    flat = np.full((20, 30, 3), (180, 120, 60), np.uint8)
    assert np.abs(upscaling.waifu2x(flat, 2).astype(int) - flat[0, 0]).max() <= 2
    # A shift by half a pixel, or swapped channels, would cost far more than this.
    image = picture(64, 64)
    image[..., 2] = 255 - image[..., 1]
    back = cv2.resize(upscaling.waifu2x(image, 2), (64, 64), interpolation=cv2.INTER_AREA).astype(int)
    assert np.abs(back - image)[4:-4, 4:-4].mean() < 2


@pytest.mark.usefixtures("network")
def test_waifu2x_restores_edges_better_than_bicubic():
    # Anti-aliased discs: the network must come nearer to the picture at full size than interpolation does.
    full = np.full((160, 160, 3), 230, np.uint8)
    for x in range(20, 160, 40):
        for y in range(20, 160, 40):
            cv2.circle(full, (x, y), 12, (150, 90, 110), -1, cv2.LINE_AA)
    small = cv2.resize(full, (80, 80), interpolation=cv2.INTER_AREA)
    errors = [np.abs(upscaling.upscale(small, 2, method=m).astype(int) - full).mean() for m in upscaling.METHODS]
    assert errors[0] < 0.8 * errors[1]


def test_down_to_the_same_size_or_smaller_runs_no_network(monkeypatch):
    monkeypatch.setenv(waifu2x.MODELS_ENV, "/nowhere")
    image = picture(20, 30)
    assert np.array_equal(upscaling.waifu2x(image, 1.0), image)
    half = upscaling.waifu2x(image, 0.5)
    assert np.array_equal(half, cv2.resize(image, (15, 10), interpolation=cv2.INTER_AREA))


def test_missing_models_say_how_to_mend_it_and_upscale_warns_once(monkeypatch, tmp_path):
    monkeypatch.setenv(waifu2x.MODELS_ENV, str(tmp_path))
    image = picture(8, 8)
    with pytest.raises(waifu2x.Waifu2xUnavailable, match=r"scale2\.0x_model\.param"):
        upscaling.waifu2x(image, 2)
    upscaling._warn_once.cache_clear()
    with pytest.warns(RuntimeWarning, match="bicubically"):
        out = upscaling.upscale(image, 2, method="waifu2x")
    assert np.array_equal(out, upscaling.bicubic(image, 2))


def test_missing_ncnn_is_waifu2x_unavailable(monkeypatch, tmp_path):
    for name in ("scale2.0x_model.param", "scale2.0x_model.bin"):
        (tmp_path / name).touch()
    monkeypatch.setenv(waifu2x.MODELS_ENV, str(tmp_path))
    monkeypatch.setitem(sys.modules, "ncnn", None)
    with pytest.raises(waifu2x.Waifu2xUnavailable, match="pip install ncnn"):
        upscaling.waifu2x(picture(8, 8), 2)


def test_damaged_models_are_waifu2x_unavailable(monkeypatch, tmp_path):
    pytest.importorskip("ncnn")
    monkeypatch.setenv(waifu2x.MODELS_ENV, str(tmp_path))
    for name in ("scale2.0x_model.param", "scale2.0x_model.bin"):
        (tmp_path / name).write_text("not a network")
    with pytest.raises(waifu2x.Waifu2xUnavailable, match="cannot be read"):
        upscaling.waifu2x(picture(8, 8), 2)


def test_models_folder_from_the_environment(monkeypatch, tmp_path):
    folder = tmp_path / "models-upconv_7_photo"
    folder.mkdir()
    monkeypatch.setenv(waifu2x.MODELS_ENV, str(tmp_path))
    assert waifu2x.find_models() is None
    for name in ("scale2.0x_model.param", "scale2.0x_model.bin"):
        (folder / name).touch()
    assert waifu2x.find_models() == folder


def test_a_folder_to_use_is_used_by_workers_too(monkeypatch, tmp_path):
    monkeypatch.setenv(waifu2x.MODELS_ENV, "")  # restored afterwards
    with pytest.raises(waifu2x.Waifu2xUnavailable, match="No Waifu2x model"):
        waifu2x.use_models(tmp_path)
    for name in ("scale2.0x_model.param", "scale2.0x_model.bin"):
        (tmp_path / name).touch()
    waifu2x.use_models(tmp_path)
    get_reusable_executor().shutdown()  # workers of an earlier test keep the environment that they began with
    answers = dict(run_all(_folder_in_use, [0, 1], jobs=2))
    get_reusable_executor().shutdown()
    assert answers == dict.fromkeys((0, 1), tmp_path.resolve())


def _folder_in_use(_):
    return waifu2x.find_models()


def test_bad_arguments_are_refused():
    with pytest.raises(ValueError, match="waifu2x, bicubic"):
        upscaling.upscale(picture(8, 8), 2, method="lanczos")
    for scale in (0, -1, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="scale"):
            upscaling.bicubic(picture(8, 8), scale)
    with pytest.raises(ValueError, match="uint8"):
        upscaling.waifu2x(np.zeros((8, 8, 3)), 2)
