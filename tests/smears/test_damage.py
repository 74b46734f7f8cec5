"""Damage in the middle of a file is noticed, and sound files of every make are let pass."""

import io
import warnings

import cv2
import numpy as np
import pytest
from PIL import Image

from rbcnb.smears.damage import DamageError, check_jpeg, check_png
from rbcnb.smears.images import SmearError, decode_image


def scene(height=180, width=240, seed=0):
    """A field of blurred discs with noise, as [H, W, 3] uint8."""
    rng = np.random.default_rng(seed)
    image = np.full((height, width, 3), 215, np.float32)
    for _ in range(height * width // 2500):
        centre = int(rng.integers(0, width)), int(rng.integers(0, height))
        cv2.circle(image, centre, 17, (170, 110, 120), -1)
    image = cv2.GaussianBlur(image, (0, 0), 2) + rng.normal(0, 3, image.shape)
    return image.clip(0, 255).astype(np.uint8)


def jpeg(image, **options):
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, "JPEG", **options)
    return stream.getvalue()


MAKES = [
    {"quality": 75},
    {"quality": 95, "subsampling": 0},
    {"quality": 85, "subsampling": 1, "optimize": True},
    {"quality": 90, "restart_marker_rows": 1},
    {"quality": 90, "restart_marker_blocks": 7},
    {"quality": 100, "subsampling": 0},
    {"quality": 5},
    {"quality": 85, "progressive": True},
]


@pytest.mark.parametrize("make", MAKES, ids=str)
def test_sound_jpegs_pass(make):
    images = [scene(61, 83), scene()[..., 0], np.zeros((9, 9, 3), np.uint8), np.full((50, 70), 255, np.uint8)]
    noise = np.random.default_rng(1).integers(0, 2, (64, 100, 3), np.uint8) * 255
    stripes = np.tile(np.array([0, 255], np.uint8).repeat(8), (64, 8))  # the largest steps between blocks
    for image in [*images, noise, stripes]:
        assert check_jpeg(jpeg(image, **make)) == ""


@pytest.mark.parametrize("make", [{"quality": 90, "progressive": True}, {"quality": 80}], ids=str)
@pytest.mark.parametrize("mode", ["CMYK", "L"])
def test_sound_jpegs_of_other_modes_pass(make, mode):
    stream = io.BytesIO()
    Image.fromarray(scene()).convert(mode).save(stream, "JPEG", **make)
    assert check_jpeg(stream.getvalue()) == ""


def test_what_comes_behind_a_sound_jpeg_is_no_damage():
    data = jpeg(scene(61, 83))
    assert check_jpeg(data + b"a film of the same scene" + data) == ""
    assert check_jpeg(data[:-2] + b"\xaa\xbb" + data[-2:]) == ""  # a few bytes, as some cameras leave
    assert "bytes of its data are left over" in check_jpeg(data[:-2] + b"\xaa" * 17 + data[-2:])


def middle_of(data):
    """Where the codes of a JPEG begin, and how many there are."""
    start = data.rindex(b"\xff\xda")
    return start + 14, len(data) - start - 16


@pytest.mark.parametrize("make", [*MAKES[:5], MAKES[-1]], ids=str)
@pytest.mark.parametrize("kind", ["zeros", "noise", "gap", "ones"])
@pytest.mark.parametrize("place", [0.4, 0.7])
def test_a_bad_middle_of_a_jpeg_is_noticed(make, kind, place):
    data = jpeg(scene(), **make)
    start, size = middle_of(data)
    at = start + int(place * size)
    new = {
        "zeros": bytes(512),
        "noise": np.random.default_rng(3).integers(0, 255, 512, np.uint8).tobytes(),  # 255 would begin a marker
        "gap": b"",
        "ones": b"\xff" * 512,
    }[kind]
    if kind == "noise" and "progressive" in make:
        pytest.skip("the codes of one of several scans may be any")
    broken = data[:at] + new + data[at + 512 :]
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            decode_image(broken, "a.jpg")
            noted = str(caught[0].message)
        except SmearError as error:
            noted = str(error)
    assert noted.startswith("a.jpg: ")
    assert "damaged" in noted


def test_the_message_says_what_to_do():
    data = jpeg(scene())
    start, size = middle_of(data)
    at = start + size // 2
    with pytest.raises(SmearError, match=r"a\.jpg: part of the image is damaged \(.+\); copy it again from its source"):
        decode_image(data[:at] + data[at + 300 :], "a.jpg")


def test_a_marker_that_is_missing_is_noticed():
    data = jpeg(scene(), quality=90, restart_marker_rows=1)
    at = data.index(b"\xff\xd3", middle_of(data)[0])
    with pytest.raises(DamageError):
        check_jpeg(data[:at] + b"\xff\xd5" + data[at + 2 :])


def test_a_jpeg_that_ends_too_early_is_noticed():
    data = jpeg(scene(), quality=100, subsampling=0)
    start, size = middle_of(data)
    with pytest.raises(DamageError, match="premature end"):
        check_jpeg(data[: start + size - 3000] + data[-2:])


@pytest.mark.parametrize("level", [0, 6])
def test_a_checksum_of_a_png_is_looked_at(level):
    stream = io.BytesIO()
    Image.fromarray(scene()).save(stream, "PNG", compress_level=level, pnginfo=None)
    data = bytearray(stream.getvalue())
    check_png(bytes(data))
    data[len(data) // 2] ^= 0x10
    with pytest.raises(DamageError, match="checksum"):
        check_png(bytes(data))
    with pytest.raises(SmearError, match=r"a\.png: part of the image is damaged \(a checksum is wrong\); copy it"):
        decode_image(bytes(data), "a.png")


def test_a_png_with_a_bad_text_is_read():
    from PIL.PngImagePlugin import PngInfo

    text = PngInfo()
    text.add_text("Comment", "slide 7, Monday")
    stream = io.BytesIO()
    Image.fromarray(scene()).save(stream, "PNG", pnginfo=text)
    check_png(stream.getvalue().replace(b"Monday", b"Sunday"))
