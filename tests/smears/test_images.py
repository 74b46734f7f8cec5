"""Image files: every kind that a camera, a scanner or a program may write, exact to the pixel where nothing is lost."""

import io
import struct
import subprocess
import sys
import warnings
import zlib

import cv2
import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from PIL import Image, features

from rbcnb.smears.images import (
    SmearError,
    decode_image,
    expand_inputs,
    identical_image_groups,
    images_in,
    read_image,
    unread_in,
)

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


@pytest.mark.parametrize("value", [np.nan, -1, 1.5, 1e9])
def test_float_tiffs_of_unclear_range_are_refused(value):
    with pytest.raises(SmearError, match="8 or 16 bit; save it as"):
        decode_image(saved(Image.fromarray(np.full((4, 5), value, np.float32)), "TIFF"), "f.tif")


def test_a_bomb_is_refused_before_it_is_decoded():
    data = bytearray(saved(Image.new("L", (8, 8)), "PNG"))
    data[16:24] = (200_000).to_bytes(4, "big") * 2  # 40 000 million pixels, says the header
    data[29:33] = zlib.crc32(data[12:29]).to_bytes(4, "big")
    with pytest.raises(SmearError, match="200000 x 200000 is over 200 million pixels; cut it"):
        decode_image(bytes(data), "bomb.png")


def declares(kind, width, height):
    """A small file of *kind* whose header declares *width* x *height* pixels."""
    data = bytearray(saved(Image.new("RGB", (300, 200)), kind))
    for side, new in ((300, width), (200, height)):
        for layout in (">I", "<I", ">H", "<H"):
            if (at := data[:4000].find(struct.pack(layout, side))) >= 0:
                data[at : at + struct.calcsize(layout)] = struct.pack(layout, new)
                break
    if kind == "PNG":
        data[29:33] = zlib.crc32(data[12:29]).to_bytes(4, "big")
    return bytes(data)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "BMP", "JPEG2000"])
def test_pixels_that_a_file_cannot_hold_are_refused_before_they_are_decoded(kind, monkeypatch):
    data = declares(kind, 14_000, 13_999)
    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", None)
    message = rf"a\.x: damaged or cut short \(it declares 14000 x 13999 pixels and has {len(data)} bytes\); copy it"
    with pytest.raises(SmearError, match=message):
        decode_image(data, "a.x")


def test_many_malformed_files_take_little_memory(tmp_path):
    for kind in ("PNG", "JPEG", "GIF", "BMP", "JPEG2000"):
        for sides in ((14_000, 13_999), (60_000, 60_000), (20_000, 9_999)):
            (tmp_path / f"{kind}{sides[0]}").write_bytes(declares(kind, *sides))
    code = (
        "import sys, warnings\nfrom pathlib import Path\nfrom rbcnb.smears.images import SmearError, read_image\n"
        "import resource\ndef peak(): return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024\n"
        "before, n = peak(), 0\n"
        "for path in sorted(Path(sys.argv[1]).iterdir()) * 6:\n"
        "    try: read_image(path)\n"
        "    except SmearError: n += 1\n"
        "print(n, peak() - before)"
    )
    ran = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True)
    n_refused, more_mb = map(int, ran.stdout.split())
    assert n_refused >= 90
    assert more_mb < 120


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


def test_files_that_share_a_name_but_no_bytes_are_no_group(tmp_path):
    paths = [tmp_path / folder / name for folder, name in [("a", "1.png"), ("b", "1.png"), ("b", "2.png")]]
    for path, data in zip(paths, [b"one", b"two", b"two"], strict=True):
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(data)
    groups = identical_image_groups(paths)
    assert groups[paths[0]] != groups[paths[1]] == groups[paths[2]]
    assert identical_image_groups(paths[1:]) == dict.fromkeys(paths[1:], "1.png")


SCENE = np.random.default_rng(0).integers(0, 256, (12, 17, 3), np.uint8)


@pytest.mark.parametrize(
    ("name", "kind", "options"),
    [
        ("a.jfif", "JPEG", {"quality": 98, "subsampling": 0}),
        ("a.jpe", "JPEG", {"quality": 98, "subsampling": 0}),
        ("a.JP2", "JPEG2000", {}),
        ("a.j2k", "JPEG2000", {"no_jp2": True}),
        ("a.gif", "GIF", {}),
        ("a.ppm", "PPM", {}),
        ("a.dib", "DIB", {}),
        ("a.apng", "PNG", {}),
    ],
)
def test_other_endings_are_read_in_folders(tmp_path, name, kind, options):
    image = Image.fromarray(SCENE // 128 * 255 if kind == "GIF" else SCENE)  # GIF has but 256 colours
    (tmp_path / name).write_bytes(saved(image, kind, **options))
    assert images_in(tmp_path) == [tmp_path / name]
    read = decoded((tmp_path / name).read_bytes(), name)
    assert np.abs(read.astype(int) - np.asarray(image)).max() <= (12 if kind == "JPEG" else 0)


@pytest.mark.skipif(not features.check("avif"), reason="this Pillow reads no AVIF")
def test_avif_is_read(tmp_path):
    smooth = cv2.resize(SCENE, (170, 120), interpolation=cv2.INTER_CUBIC)
    (tmp_path / "a.avif").write_bytes(saved(Image.fromarray(smooth), "AVIF", quality=95))
    assert images_in(tmp_path) == [tmp_path / "a.avif"]
    assert np.abs(decoded((tmp_path / "a.avif").read_bytes()).astype(int) - smooth).mean() < 4


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP"])
def test_frames_that_are_left_out_are_said(kind):
    frames = [Image.fromarray(np.full((12, 17, 3), value, np.uint8)) for value in (0, 255, 51)]
    data = saved(frames[0], kind, save_all=True, append_images=frames[1:])
    with pytest.warns(UserWarning, match=r"a\.gif: has 3 frames, only the first is read"):
        assert (decode_image(data, "a.gif") == 0).all()


def test_a_file_that_is_too_large_to_hold_is_refused(tmp_path, monkeypatch):
    (tmp_path / "a.svs").write_bytes(bytes(2000))
    monkeypatch.setattr("rbcnb.smears.images.MAX_BYTES", 1999)
    with pytest.raises(SmearError, match=r"a\.svs: 0\.0 GB are too much for a smear; export the picture"):
        read_image(tmp_path / "a.svs")


HEIC = b"\0\0\0\x18ftypheic" + bytes(20)


@pytest.mark.parametrize(
    ("name", "remedy"), [("a.heic", "save it as"), ("a.cr2", "develop it"), ("a.czi", "export the")]
)
def test_an_image_of_an_unread_kind_names_its_remedy(name, remedy):
    with pytest.raises(SmearError, match=rf"{name}: not an image that can be read; {remedy}"):
        decode_image(b"\x01" * 30, name)


def test_what_a_folder_holds_unread_is_named_and_what_is_no_image_is_not(tmp_path):
    png = saved(Image.fromarray(SCENE), "PNG")
    for name in ("a.png", "slide", "b.JPG_old", ".hidden.heic", ".DS_Store"):
        (tmp_path / name).write_bytes(png)
    (tmp_path / "phone").write_bytes(HEIC)
    for name in ("c.HEIC", "d.nef", "e.czi", "labels.csv", "notes.txt", "BM.txt", "run.json", "a.xml", "Thumbs.db"):
        (tmp_path / name).write_bytes(b"BM is a text" * 3)
    notes = {path.rpartition("/")[2]: message for path, message in unread_in(tmp_path)}
    assert list(notes) == ["b.JPG_old", "c.HEIC", "d.nef", "e.czi", "phone", "slide"]
    assert all(message.startswith("is not read: ") for message in notes.values())
    for name, remedy in {
        "slide": "give it a name that ends in .png",
        "b.JPG_old": "give it a name that ends in .png",
        "c.HEIC": "save it as PNG, JPEG or TIFF",
        "phone": "save it as PNG, JPEG or TIFF",
        "d.nef": "develop it in the camera's program",
        "e.czi": "export the picture",
    }.items():
        assert remedy in notes[name]


def test_folders_within_are_named_if_they_hold_images(tmp_path):
    for name in (
        "a.png",
        "patient10/x.jpg",
        "patient2/slide1/a.tif",
        "papers/text.txt",
        ".trash/b.png",
        "out/crops/a.png",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "out/cells.csv").touch()  # of this package
    (tmp_path / "again").symlink_to(tmp_path)
    note = "folders within it are not looked into: name each of them"
    assert unread_in(tmp_path) == [(str(tmp_path), f"{note} (patient2, patient10)")]
    files, errors, notes = expand_inputs([tmp_path, tmp_path / "patient10"])
    assert [path.name for path in files] == ["a.png", "x.jpg"]
    assert errors == []
    assert notes == [(str(tmp_path), f"{note} (patient2)")]


def test_a_folder_of_nothing_but_unread_images_is_an_error(tmp_path):
    (tmp_path / "a.heic").write_bytes(HEIC)
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub/b.png").touch()
    files, errors, notes = expand_inputs([tmp_path])
    assert files == []
    assert errors == [
        (str(tmp_path), "no image that can be read in this folder; put smears there as .png, .jpg or .tif")
    ]
    assert [path for path, _ in notes] == [str(tmp_path / "a.heic"), str(tmp_path)]


def test_a_mask_beside_its_smear_is_told_as_such(tmp_path):
    for name in ("a.bmp", "a.png", "b.png"):
        (tmp_path / name).touch()
    files, errors, notes = expand_inputs([tmp_path])
    assert files == [tmp_path / "b.png"]
    assert notes == []
    messages = dict(errors)
    assert set(messages) == {str(tmp_path / "a.bmp"), str(tmp_path / "a.png")}
    assert messages[str(tmp_path / "a.png")].startswith("a.bmp beside it has the same name")
    assert "if one is a mask" in messages[str(tmp_path / "a.bmp")]
