"""TIFFs of several pages, channels and sizes: the full picture is read, and what is left out is said."""

import io
import struct
import warnings

import cv2
import numpy as np
import pytest
import tifffile
from PIL import Image

from rbcnb.smears.images import SmearError, decode_image

RNG = np.random.default_rng(5)
RGB = RNG.integers(0, 256, (40, 60, 3), np.uint8)


def decoded(data, name="a.tif"):
    """The image, and what was noted of it."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        image = decode_image(data, name)
    notes = [str(warning.message) for warning in caught]
    assert all(note.startswith(f"{name}: ") for note in notes)
    return image, [note.removeprefix(f"{name}: ") for note in notes]


def written(*pages, **options):
    """A TIFF of pages (samples, options of this page)."""
    stream = io.BytesIO()
    with tifffile.TiffWriter(stream, **options) as writer:
        for samples, page_options in pages:
            writer.write(samples, **{"metadata": None} | page_options)
    return stream.getvalue()


def of_imagej(values, axes, **metadata):
    stream = io.BytesIO()
    tifffile.imwrite(stream, values, imagej=True, photometric="minisblack", metadata={"axes": axes, **metadata})
    return stream.getvalue()


def planes(values):
    return np.ascontiguousarray(np.moveaxis(values, -1, 0))


JOINED = "its 3 grey channels are read as red, green and blue"


def test_grey_channels_of_imagej_become_colours():
    image, notes = decoded(of_imagej(planes(RGB), "CYX", mode="composite"))
    assert np.array_equal(image, RGB)
    assert notes == [JOINED]


@pytest.mark.parametrize("options", [{"imagej": True, "truncate": True}, {"planarconfig": "separate"}, {}], ids=str)
def test_channels_behind_one_page_or_within_it(options):
    stack = np.stack([planes(RGB), planes(255 - RGB)])
    stream = io.BytesIO()
    tifffile.imwrite(stream, stack, photometric="minisblack", metadata={"axes": "ZCYX"}, **options)
    image, notes = decoded(stream.getvalue())
    assert np.array_equal(image, RGB)
    assert notes == ["has 2 z-planes, only the first is read", JOINED]


def test_look_up_tables_say_which_channel_is_red():
    ramp, none = np.arange(256, dtype=np.uint8), np.zeros(256, np.uint8)
    blue, red, green = ([ramp if i == colour else none for i in range(3)] for colour in (2, 0, 1))
    tables = [np.array(table) for table in (blue, red, green)]
    image, notes = decoded(of_imagej(planes(RGB[..., [2, 0, 1]]), "CYX", mode="composite", LUTs=tables))
    assert np.array_equal(image, RGB)
    assert notes == [JOINED]


def test_slices_that_imagej_calls_red_green_and_blue_are_colours():
    image, notes = decoded(of_imagej(planes(RGB), "ZYX", Labels=["Red", "Green", "Blue"]))
    assert np.array_equal(image, RGB)
    assert notes == [JOINED]
    image, notes = decoded(of_imagej(planes(RGB), "ZYX"))
    assert np.array_equal(image, np.repeat(RGB[..., :1], 3, axis=2))
    assert notes == ["has 3 z-planes, only the first is read"]


@pytest.mark.parametrize("ome", [False, True])
def test_planes_times_and_channels_that_are_left_out_are_said(ome):
    stack = RNG.integers(0, 256, (2, 5, 4, 40, 60), np.uint8)  # times, z-planes, channels
    if ome:
        stream = io.BytesIO()
        tifffile.imwrite(stream, stack, ome=True, photometric="minisblack", metadata={"axes": "TZCYX"})
        data = stream.getvalue()
    else:
        data = of_imagej(stack, "TZCYX")
    image, notes = decoded(data)
    assert np.array_equal(image, np.moveaxis(stack[0, 0, :3], 0, -1))
    assert sorted(notes) == [
        "has 2 time points, only the first is read",
        "has 4 channels, only the first three are read, as red, green and blue",
        "has 5 z-planes, only the first is read",
    ]


def test_two_channels_are_not_taken_for_colours():
    image, notes = decoded(of_imagej(planes(RGB[..., :2]), "CYX"))
    assert np.array_equal(image, np.repeat(RGB[..., :1], 3, axis=2))
    assert notes == ["has 2 channels, only the first is read"]


def test_deep_channels_keep_their_common_scale():
    values = RNG.integers(0, 4096, (40, 60, 3)).astype(np.uint16)
    values[..., 1] //= 8
    values[0, 0, 0] = 4095
    image, notes = decoded(of_imagej(planes(values), "CYX", mode="composite"))
    assert np.array_equal(image, values >> 4)
    assert notes == [JOINED, "its 16-bit samples use 12 bits, read as a camera's 12"]


def test_channels_in_a_compression_that_pillow_alone_knows():
    pages = [Image.fromarray(plane) for plane in planes(RGB)]
    stream = io.BytesIO()
    pages[0].save(
        stream,
        "TIFF",
        compression="tiff_lzw",
        save_all=True,
        append_images=pages[1:],
        tiffinfo={270: "ImageJ=1.54f\nimages=3\nchannels=3\nmode=composite\n"},
    )
    image, notes = decoded(stream.getvalue())
    assert np.array_equal(image, RGB)
    assert notes == [JOINED]


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("compression", [None, "zlib"])
def test_colours_in_separate_planes(dtype, compression):
    values = RGB.astype(dtype) * (257 if dtype == np.uint16 else 1)
    values[0, 0] = np.iinfo(dtype).max
    options = {"photometric": "rgb", "planarconfig": "separate", "compression": compression}
    image, notes = decoded(written((planes(values), options)))
    assert np.array_equal(image, values >> 8 if dtype == np.uint16 else values)
    assert notes == []


def test_white_may_be_zero():
    values = planes(RGB)
    image, _ = decoded(written(((255 - values)[0], {"photometric": "miniswhite"})))
    assert np.array_equal(image, np.repeat(RGB[..., :1], 3, axis=2))


def test_plain_pages_are_not_taken_for_colours():
    image, notes = decoded(written(*[(plane, {"photometric": "minisblack"}) for plane in planes(RGB)]))
    assert np.array_equal(image, np.repeat(RGB[..., :1], 3, axis=2))
    assert notes == ["has 3 pages, only the first is read"]


def test_other_pages_are_named_by_their_size():
    image, notes = decoded(written((RGB, {"photometric": "rgb"}), (RGB[:30, :20], {"photometric": "rgb"})))
    assert np.array_equal(image, RGB)
    assert notes == ["other pages are not read: 20 x 30"]


SMALL = "its first page is a small picture of 15 x 10; the full image of 60 x 40 is read"


@pytest.mark.parametrize("bigtiff", [False, True])
@pytest.mark.parametrize("byteorder", ["<", ">"])
@pytest.mark.parametrize("marked", [0, 1])
def test_a_thumbnail_that_comes_first_is_passed_over(bigtiff, byteorder, marked):
    small = (RGB[::4, ::4].copy(), {"photometric": "rgb", "subfiletype": marked})
    data = written(small, (RGB, {"photometric": "rgb"}), bigtiff=bigtiff, byteorder=byteorder)
    image, notes = decoded(data)
    assert np.array_equal(image, RGB)
    assert notes == [SMALL]


@pytest.mark.parametrize("deep", [False, True])
def test_a_full_image_beside_its_thumbnail(deep):
    """As in a DNG: the first page is a thumbnail, and the full image a SubIFD of it, turned as the first page says."""
    full = RGB.astype(np.uint16) * 257 if deep else RGB.copy()
    full[0, 0] = np.iinfo(full.dtype).max
    small = {"photometric": "rgb", "subfiletype": 1, "subifds": 1, "extratags": [(274, "H", 1, 6, True)]}
    data = written((RGB[::4, ::4].copy(), small), (full, {"photometric": "rgb"}))
    image, notes = decoded(data, "a.dng")
    assert np.array_equal(image, np.rot90(full >> 8 if deep else full, -1))
    assert notes == [SMALL]


@pytest.mark.parametrize("photometric", [32803, 34892])
def test_raw_data_of_a_camera_are_not_replaced_by_their_thumbnail(photometric):
    small = {"photometric": "rgb", "subfiletype": 1, "subifds": 1}
    colours = photometric == 34892
    raw = RNG.integers(0, 4096, (40, 60, 3) if colours else (40, 60), np.uint16)
    layout = {"planarconfig": "contig"} if colours else {}  # newer versions of tifffile want to be told
    data = written((RGB[::4, ::4].copy(), small), (raw, {"photometric": photometric, **layout}))
    with pytest.raises(SmearError, match=r"a\.dng: its full image of 60 x 40 holds .*raw.*; develop it"):
        decode_image(data, "a.dng")


def test_levels_of_a_pyramid_are_one_picture():
    for places in ({}, {"subifds": 2}):
        pages = [(RGB, {"photometric": "rgb", **places})]
        pages += [(RGB[::step, ::step].copy(), {"photometric": "rgb", "subfiletype": 1}) for step in (2, 4)]
        image, notes = decoded(written(*pages))
        assert np.array_equal(image, RGB)
        assert notes == []


def slide_scan(full, thumbnail):
    """As Aperio's scanners write them: the scan in tiles, a thumbnail, a smaller level, the label."""
    text = f"Aperio Image Library v12.0\n{full.shape[1]}x{full.shape[0]} (16x16) JPEG/RGB Q=70|AppMag = 40|MPP = 0.25"
    tiles = {"photometric": "rgb", "tile": (16, 16), "description": text}
    label = {"photometric": "rgb", "subfiletype": 1, "description": "Aperio Image Library v12.0\nlabel 30x20"}
    return written(
        (full, tiles),
        (thumbnail, {"photometric": "rgb", "description": text}),
        (full[::4, ::4].copy(), tiles),
        (np.full((20, 30, 3), 9, np.uint8), label),
    )


def test_the_full_resolution_of_a_slide_scan_is_read():
    full = RNG.integers(0, 256, (128, 192, 3), np.uint8)
    image, notes = decoded(slide_scan(full, full[::8, ::8].copy()), "scan.svs")
    assert np.array_equal(image, full)
    assert notes == []


def test_a_slide_scan_that_is_too_large_is_not_replaced_by_its_thumbnail(monkeypatch):
    monkeypatch.setattr("rbcnb.smears.tiff.MAX_PIXELS", 128 * 192 - 1)
    full = np.zeros((128, 192, 3), np.uint8)
    with pytest.raises(SmearError, match=r"scan\.svs: 192 x 128 is over .* million pixels; cut it into tiles"):
        decode_image(slide_scan(full, full[::8, ::8].copy()), "scan.svs")


@pytest.mark.parametrize("channels", [1, 3])
def test_floats_between_0_and_1_are_read_with_a_note(channels):
    values = np.linspace(0, 1, 40 * 60 * channels).reshape(40, 60, channels).astype(np.float32)
    stream = io.BytesIO()
    tifffile.imwrite(stream, values.squeeze(), photometric="rgb" if channels == 3 else "minisblack")
    image, notes = decoded(stream.getvalue())
    assert np.array_equal(image, np.broadcast_to(np.rint(values * 255), (40, 60, 3)))
    assert notes == ["its float32 samples lie between 0 and 1, read as black to white"]


def test_whole_numbers_as_floats_are_what_they_were():
    image, notes = decoded(written((RGB.astype(np.float32), {"photometric": "rgb"})))
    assert np.array_equal(image, RGB)
    assert notes == ["its 32-bit samples use 8 bits, read as a camera's 8"]


def test_alpha_in_separate_planes_lies_on_white():
    values = np.dstack([RGB, np.where(np.arange(60) < 30, 255, 0).astype(np.uint8) * np.ones((40, 1), np.uint8)])
    options = {"photometric": "rgb", "planarconfig": "separate", "extrasamples": ["unassalpha"]}
    image, _ = decoded(written((planes(values.astype(np.uint16) * 257), options)))
    assert np.array_equal(image[:, :30], RGB[:, :30])
    assert (image[:, 30:] == 255).all()


def test_more_channels_than_colours_are_said():
    values = RNG.integers(0, 256, (40, 60, 5), np.uint8)
    image, notes = decoded(written((values, {"photometric": "minisblack", "planarconfig": "contig"})))
    assert np.array_equal(image, values[..., :3])
    assert notes == ["has 5 channels, only the first three are read"]


@pytest.mark.parametrize("compression", ["tiff_lzw", "tiff_adobe_deflate", "jpeg"])
def test_a_bad_strip_is_damage(compression):
    stream = io.BytesIO()
    smooth = cv2.resize(RGB, (300, 400), interpolation=cv2.INTER_CUBIC)
    Image.fromarray(smooth).save(stream, "TIFF", compression=compression, strip_size=30_000)
    data = bytearray(stream.getvalue())
    assert np.abs(decoded(bytes(data))[0].astype(int) - smooth).mean() < 4
    with tifffile.TiffFile(io.BytesIO(bytes(data))) as tiff:
        start, size = tiff.pages[0].dataoffsets[3], tiff.pages[0].databytecounts[3]
    data[start + size // 2 : start + size // 2 + 100] = bytes(100)
    with pytest.raises(SmearError, match=r"a\.tif: .*damaged"):
        decode_image(bytes(data), "a.tif")


@pytest.mark.parametrize("data", [b"II*\0", b"II*\0" + bytes(60), b"MM\0*" + struct.pack(">IH", 8, 3)])
def test_a_tiff_without_a_page_is_damaged(data, capfd):
    with pytest.raises(SmearError, match=r"a\.svs: damaged or cut short \(no whole page in it\); copy it again"):
        decode_image(data, "a.svs")
    assert capfd.readouterr() == ("", "")


def test_a_limit_of_pillow_is_not_ours(monkeypatch):
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, np.full((30, 40, 3), 7, np.uint8))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert (decode_image(buffer.getvalue(), "a.tif") == 7).all()
    assert Image.MAX_IMAGE_PIXELS == 100


def test_strips_that_lie_on_each_other_are_damage_and_are_not_copied():
    image = np.random.default_rng(0).integers(0, 255, (300, 300, 3), np.uint8)
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, image, rowsperstrip=1, compression="zlib")
    data = bytearray(buffer.getvalue())
    with tifffile.TiffFile(io.BytesIO(data)) as tiff:
        counts, offsets = (tiff.pages[0].tags[name] for name in ("StripByteCounts", "StripOffsets"))
        layout = {3: "H", 4: "I", 16: "Q"}[counts.dtype]
        at, n = counts.valueoffset, counts.count
        assert n == offsets.count == 300
    for i in range(n):
        struct.pack_into(f"<{layout}", data, at + i * struct.calcsize(layout), 60_000 - i)
    with pytest.raises(SmearError, match="its strips lie on each other"):
        decode_image(bytes(data), "a.tif")


def test_samples_that_no_memory_holds_are_refused_before_they_are_decoded(monkeypatch):
    monkeypatch.setattr("rbcnb.smears.tiff._MAX_SAMPLE_BYTES", 10_000)
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, np.zeros((3, 60, 70), np.uint16), metadata={"axes": "CYX"}, truncate=True)
    monkeypatch.setattr(tifffile.TiffPageSeries, "asarray", None)
    with pytest.raises(SmearError, match=r"a\.tif: its channels and planes hold 0\.0 GB; export the plane"):
        decode_image(buffer.getvalue(), "a.tif")


def chain(*pages):
    """A TIFF of one-tag pages (tag, value, offset of the next page) with 18 bytes each, from byte 8 on."""
    return b"II*\0" + struct.pack("<I", 8) + b"".join(struct.pack("<HHHIII", 1, tag, 4, 1, *of) for tag, *of in pages)


WIDTH, WITHIN = 256, 330  # tags


@pytest.mark.parametrize(
    "pages",
    [
        [(WIDTH, 8, 8)],
        [(WIDTH, 8, 26), (WIDTH, 8, 8)],
        [(WIDTH, 8, 26), (WIDTH, 8, 44), (WIDTH, 8, 26)],
        [(WITHIN, 8, 0)],
        [(WITHIN, 26, 26), (WIDTH, 8, 8)],
    ],
    ids=["itself", "first", "second", "within itself", "within and after"],
)
def test_pages_that_lead_back_to_an_earlier_one_are_damage(pages):
    with pytest.raises(SmearError, match=r"^a\.tif: damaged \(its pages lead back to an earlier one\); copy it again"):
        decode_image(chain(*pages), "a.tif")


def test_more_pages_than_any_smear_has_are_refused(monkeypatch):
    monkeypatch.setattr("rbcnb.smears.tiff._MOST_PAGES", 2)
    pages = [(RGB, {}), (RGB, {}), (RGB, {})]
    assert np.array_equal(decoded(written(*pages[:2]))[0], RGB)
    with pytest.raises(SmearError, match=r"^a\.tif: has over 2 pages; save the one with the cells"):
        decode_image(written(*pages), "a.tif")
