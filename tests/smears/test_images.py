"""Image files: every kind that a camera, a scanner or a program may write, exact to the pixel where nothing is lost."""

import io
import warnings
import zlib

import cv2
import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from PIL import Image

from rbcnb.smears.images import SmearError, decode_image, images_in, read_image

LOSSLESS = {"png": "PNG", "tif": "TIFF", "bmp": "BMP", "webp": "WEBP"}
TURNED_BY = {  # what undoes each EXIF orientation, by the standard's table of where row 0 and column 0 are
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: a[::-1, ::-1].swapaxes(0, 1),
    8: lambda a: np.rot90(a),
}


def decoded(data, name="a.png"):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return decode_image(data, name)


def saved(image, kind, **options):
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def as_rgb(values):
    """What 8-bit samples [H, W] or [H, W, C] look like on white."""
    if values.ndim == 2:
        return np.repeat(values[..., None], 3, axis=-1)
    return values


@given(
    height=st.integers(1, 40),
    width=st.integers(1, 40),
    channels=st.sampled_from([1, 3, 4]),
    deep=st.booleans(),
    suffix=st.sampled_from(sorted(LOSSLESS)),
    seed=st.integers(0, 2**32 - 1),
)
@settings(max_examples=120, deadline=None)
def test_lossless_files_come_back_to_the_pixel(height, width, channels, deep, suffix, seed):
    deep = deep and suffix in ("png", "tif")
    values = np.random.default_rng(seed).integers(0, 2**16 if deep else 2**8, (height, width, channels))
    values = values.astype(np.uint16 if deep else np.uint8)
    if deep:
        values[0, 0, 0] = 65535  # or else it might be a camera of fewer bits
    if channels == 4:
        values[..., 3] = np.iinfo(values.dtype).max
    written = values[..., 0] if channels == 1 else values[..., [2, 1, 0, 3][:channels]]
    if suffix == "webp":
        data = saved(Image.fromarray(as_rgb(values[..., 0]) if channels == 1 else values), "WEBP", lossless=True)
    else:
        data = cv2.imencode(f".{suffix}", written)[1].tobytes()
    bright = (values >> 8).astype(np.uint8) if deep else values
    expected = as_rgb(bright[..., 0] if channels == 1 else bright[..., :3])
    got = decoded(data)
    assert got.dtype == np.uint8
    assert np.array_equal(got, expected)


@given(bits=st.integers(1, 16), channels=st.sampled_from([1, 3]), suffix=st.sampled_from(["png", "tif"]))
@settings(deadline=None)
def test_sixteen_bit_files_of_cameras_with_fewer_bits_are_not_dark(bits, channels, suffix):
    depth = next(depth for depth in (8, 10, 12, 14, 16) if bits <= depth)
    values = np.random.default_rng(bits).integers(0, 2**bits, (9, 7, channels)).astype(np.uint16)
    values[0, 0] = 2**bits - 1
    data = cv2.imencode(f".{suffix}", values[..., ::-1] if channels == 3 else values[..., 0])[1].tobytes()
    expected = np.broadcast_to(values >> (depth - 8), (9, 7, 3))
    if depth == 16:
        assert np.array_equal(decoded(data), expected)
    else:
        with pytest.warns(UserWarning, match=f"use {bits} bits, read as a camera's {depth}"):
            assert np.array_equal(decode_image(data, "a.png"), expected)


@pytest.mark.parametrize("orientation", TURNED_BY)
@pytest.mark.parametrize(("suffix", "deep"), [("png", False), ("png", True), ("tif", False), ("jpg", False)])
def test_every_orientation_is_undone(orientation, suffix, deep):
    image = np.zeros((16, 32, 3), np.uint8)
    image[:8, :8] = (200, 40, 60)
    image[8:, 24:] = (20, 240, 90)
    exif = Image.Exif()
    exif[0x0112] = orientation
    if deep:  # Pillow writes no 16-bit colour: the chunk is put into OpenCV's file, behind its header
        data = cv2.imencode(".png", image[..., ::-1].astype(np.uint16) * 257)[1].tobytes()
        small = saved(Image.fromarray(image), "PNG", exif=exif)
        start = small.index(b"eXIf") - 4
        end = start + 12 + int.from_bytes(small[start : start + 4], "big")
        data = data[:33] + small[start:end] + data[33:]
    else:
        options = {"quality": 98, "subsampling": 0} if suffix == "jpg" else {}
        data = saved(Image.fromarray(image), {"png": "PNG", "tif": "TIFF", "jpg": "JPEG"}[suffix], exif=exif, **options)
    got, expected = decoded(data).astype(int), TURNED_BY[orientation](image)
    assert got.shape == expected.shape
    # JPEG blurs; corners in the wrong place would be off by a hundred.
    assert np.abs(got - expected).max() <= (30 if suffix == "jpg" else 0)


@pytest.mark.parametrize("inverted", [True, False])
def test_cmyk_jpegs_of_both_kinds(inverted):
    rgb = np.full((16, 16, 3), (190, 120, 150), np.uint8)
    cmyk = Image.fromarray(rgb).convert("CMYK")
    data = saved(cmyk, "JPEG", quality=100)  # Pillow writes Adobe's inverted kind and its marker
    marker = data.index(b"\xff\xee")
    assert data[marker + 4 : marker + 9] == b"Adobe"
    if not inverted:
        data = saved(Image.fromarray(255 - np.asarray(cmyk), "CMYK"), "JPEG", quality=100)
        length = int.from_bytes(data[marker + 2 : marker + 4], "big")
        data = data[:marker] + data[marker + 2 + length :]
    assert np.abs(decoded(data).astype(int) - rgb).max() <= 6


def test_sixteen_bit_alpha_lies_on_white():
    values = np.full((4, 4, 4), (65535, 0, 0, 65535), np.uint16)
    values[0, 0] = (0, 0, 0, 0)
    got = decoded(cv2.imencode(".png", values[..., [2, 1, 0, 3]])[1].tobytes())
    assert (got[0, 0] == 255).all()
    assert (got[1:] == (255, 0, 0)).all()


def test_grey_with_alpha_lies_on_white():
    values = np.array([[[10, 255], [10, 0]]], np.uint8)
    assert np.array_equal(decoded(saved(Image.fromarray(values, "LA"), "PNG")), [[[10] * 3, [255] * 3]])


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_nothing_but_transparency_is_refused(mode):
    image = Image.new(mode, (5, 4), (9,) * (len(mode) - 1) + (0,))
    with pytest.raises(SmearError, match=r"a\.png: every pixel is transparent; save it without"):
        decode_image(saved(image, "PNG"), "a.png")


@pytest.mark.parametrize("value", [np.nan, 0.5, 1e9])
def test_float_tiffs_are_refused(value):
    with pytest.raises(SmearError, match="8 or 16 bit; save it as"):
        decode_image(saved(Image.fromarray(np.full((4, 5), value, np.float32)), "TIFF"), "f.tif")


def test_sixteen_bit_planes_are_refused():
    tifffile = pytest.importorskip("tifffile")
    stream = io.BytesIO()
    planes = np.random.default_rng(0).integers(0, 65536, (3, 5, 7), np.uint16)
    tifffile.imwrite(stream, planes, photometric="rgb", planarconfig="separate")
    with pytest.raises(SmearError, match="separate planes; save it interleaved"):
        decode_image(stream.getvalue(), "p.tif")


def test_a_bomb_is_refused_before_it_is_decoded():
    data = bytearray(saved(Image.new("L", (8, 8)), "PNG"))
    data[16:24] = (200_000).to_bytes(4, "big") * 2  # 40 000 million pixels, says the header
    data[29:33] = zlib.crc32(data[12:29]).to_bytes(4, "big")
    with pytest.raises(SmearError, match="200000 x 200000 is over 200 million pixels; cut it"):
        decode_image(bytes(data), "bomb.png")


@given(seed=st.integers(0, 10**6), suffix=st.sampled_from(["png", "tif", "jpg", "bmp", "webp"]), data=st.data())
@settings(max_examples=60, deadline=None)
def test_damaged_files_are_read_or_refused_by_name_and_nothing_else(seed, suffix, data):
    pixels = np.random.default_rng(seed).integers(0, 256, (12, 17, 3), np.uint8)
    kind = LOSSLESS.get(suffix, "JPEG")
    broken = bytearray(saved(Image.fromarray(pixels), kind))
    for _ in range(data.draw(st.integers(1, 6))):
        broken[data.draw(st.integers(0, len(broken) - 1))] = data.draw(st.integers(0, 255))
    broken = broken[: data.draw(st.integers(1, len(broken)))]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            image = decode_image(bytes(broken), "my smear.png")
    except SmearError as error:
        assert "my smear.png: " in str(error)  # noqa: PT017 - either outcome is right
    else:
        assert image.dtype == np.uint8
        assert image.ndim == 3
        assert image.shape[2] == 3


def test_folders_list_what_can_be_read(tmp_path):
    names = ["10.PNG", "2.jpeg", "b.bmp", "c.webp", "d.tiff"]
    for name in [*names, ".hidden.png", "notes.txt"]:
        (tmp_path / name).touch()
    assert [path.name for path in images_in(tmp_path)] == ["2.jpeg", "10.PNG", "b.bmp", "c.webp", "d.tiff"]
    with pytest.raises(SmearError, match="empty; copy it again"):
        read_image(tmp_path / "2.jpeg")
