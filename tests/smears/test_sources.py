import os
import shutil

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from rbcnb.columns import CLASSES, CODOCYTE, HYPOCHROMIA, LABEL, NORMAL, RADIUS, X, Y
from rbcnb.smears.chula import CHULA_TYPES, chula_smears, read_chula_labels
from rbcnb.smears.images import SmearError, read_image
from rbcnb.smears.sources import folder_smears, load_smears, spread_classes, synthetic_smears
from rbcnb.smears.synthetic.render import PAPER_COUNTS


@pytest.fixture
def rgb():
    """A smooth colour image [20,30,3]: JPEG keeps it within a few levels."""
    rows, columns = np.mgrid[:20, :30]
    return np.stack([8 * columns, 12 * rows, 100 + 3 * columns + 2 * rows], axis=-1).astype(np.uint8)


def save(path, image, **options):
    Image.fromarray(image).save(path, **options)
    return path


# --- read_image -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", ["png", "tif", "bmp"])
def test_lossless_rgb_comes_back_exactly(tmp_path, rgb, suffix):
    read = read_image(save(tmp_path / f"a.{suffix}", rgb))
    assert read.dtype == np.uint8
    assert read.flags.writeable
    np.testing.assert_array_equal(read, rgb)


def test_jpeg_comes_back_nearly(tmp_path, rgb):
    read = read_image(save(tmp_path / "a.jpg", rgb, quality=95)).astype(int)
    assert np.abs(read - rgb).max() < 12


def test_grey_and_one_bit(tmp_path, rgb):
    grey = rgb[..., 0]
    np.testing.assert_array_equal(read_image(save(tmp_path / "g.png", grey)), np.stack([grey] * 3, axis=-1))
    Image.fromarray(grey > 99).save(tmp_path / "b.png")
    np.testing.assert_array_equal(read_image(tmp_path / "b.png")[..., 1], np.where(grey > 99, 255, 0))


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_16_bit_grey_keeps_the_high_byte(tmp_path, suffix):
    values = np.array([[0, 255, 256, 65535], [40000, 257, 511, 512]], np.uint16)
    read = read_image(save(tmp_path / f"a.{suffix}", values))
    np.testing.assert_array_equal(read, np.stack([values >> 8] * 3, axis=-1))


def test_16_bit_colour_png_keeps_the_high_byte(tmp_path, rgb):
    cv2 = pytest.importorskip("cv2")
    values = rgb.astype(np.uint16) * 257
    cv2.imwrite(str(tmp_path / "a.png"), values[..., ::-1])
    np.testing.assert_array_equal(read_image(tmp_path / "a.png"), rgb)


def test_cmyk_jpeg(tmp_path, rgb):
    Image.fromarray(rgb).convert("CMYK").save(tmp_path / "a.jpg", quality=95)
    assert np.abs(read_image(tmp_path / "a.jpg").astype(int) - rgb).mean() < 6


def test_palette(tmp_path):
    image = np.array([[[255, 0, 0], [0, 128, 0]], [[0, 0, 255], [255, 255, 255]]], np.uint8)
    Image.fromarray(image).quantize(4, dither=Image.Dither.NONE).save(tmp_path / "a.png")
    np.testing.assert_array_equal(read_image(tmp_path / "a.png"), image)


def test_transparent_pixels_lie_on_white(tmp_path):
    rgba = np.array([[[10, 20, 30, 255], [10, 20, 30, 0], [0, 0, 0, 128]]], np.uint8)
    np.testing.assert_array_equal(
        read_image(save(tmp_path / "a.png", rgba)), [[[10, 20, 30], [255, 255, 255], [127, 127, 127]]]
    )


def test_exif_rotation_is_undone(tmp_path, rgb):
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera stored the scene turned by 90 degrees to the left
    save(tmp_path / "a.png", np.rot90(rgb).copy(), exif=exif)
    np.testing.assert_array_equal(read_image(tmp_path / "a.png"), rgb)


def test_first_page_of_a_tiff_with_a_warning(tmp_path, rgb):
    Image.fromarray(rgb).save(tmp_path / "a.tif", save_all=True, append_images=[Image.fromarray(255 - rgb)])
    with pytest.warns(UserWarning, match=r"a\.tif: has 2 pages"):
        np.testing.assert_array_equal(read_image(tmp_path / "a.tif"), rgb)


@pytest.mark.parametrize("suffix", ["png", "jpg", "tif"])
@pytest.mark.parametrize("kept", [0.1, 0.6])
def test_a_truncated_file_is_refused(tmp_path, suffix, kept):
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    path = save(tmp_path / f"cut.{suffix}", noise)
    path.write_bytes(path.read_bytes()[: int(kept * path.stat().st_size)])
    with pytest.raises(SmearError, match=rf"cut\.{suffix}: (damaged|not an image).*(copy it again|save it as)"):
        read_image(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"", "empty"), (b"no image at all", "not an image"), (b"\x89PNG\r\n\x1a\n", "cut short|not an")],
)
def test_what_is_no_image_is_refused(tmp_path, content, message):
    (tmp_path / "a.png").write_bytes(content)
    with pytest.raises(SmearError, match=rf"a\.png: .*({message})"):
        read_image(tmp_path / "a.png")


def test_a_missing_file_and_a_folder_are_refused(tmp_path):
    for path in (tmp_path / "none.png", tmp_path):
        with pytest.raises(SmearError, match="no such file"):
            read_image(path)


def test_float_samples_are_refused(tmp_path):
    save(tmp_path / "f.tif", np.full((4, 4), 1.5, np.float32))
    with pytest.raises(SmearError, match="8 or 16 bit"):
        read_image(tmp_path / "f.tif")


def test_size_limits(tmp_path, monkeypatch):
    """Over Pillow's own limit of 89 million pixels a file is read; over ours it is refused, before it is decoded."""
    limit = Image.MAX_IMAGE_PIXELS
    path = save(tmp_path / "a.png", np.zeros((30, 40), np.uint8))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    assert read_image(path).shape == (30, 40, 3)
    assert Image.MAX_IMAGE_PIXELS == 100
    monkeypatch.setattr("rbcnb.smears.tiff.MAX_PIXELS", 1199)
    with pytest.raises(SmearError, match=r"a\.png: 40 x 30 is over .* cut it into tiles"):
        read_image(path)
    assert limit


# --- synthetic ------------------------------------------------------------------------------------------------------


def test_synthetic_smears():
    smears = list(synthetic_smears(3, seed=1, n_cells=10, diameter_px=20))
    assert [s.name for s in smears] == ["synthetic_00.png", "synthetic_01.png", "synthetic_02.png"]
    assert [s.group for s in smears] == [s.name for s in smears]
    again = list(synthetic_smears(3, seed=1, n_cells=10, diameter_px=20))
    assert all(a.image.tobytes() == b.image.tobytes() for a, b in zip(smears, again, strict=True))
    assert all(a.truth.equals(b.truth) for a, b in zip(smears, again, strict=True))
    assert smears[0].image.tobytes() != smears[1].image.tobytes()
    assert all(len(s.truth) == 10 for s in smears)


def test_the_default_size_shows_the_asked_coverage():
    (smear,) = synthetic_smears(1, seed=0)
    assert smear.image.shape == (600, 800, 3)
    (smear,) = synthetic_smears(1, seed=0, n_cells=30, diameter_px=20)
    height, width, _ = smear.image.shape
    assert 30 * np.pi * 10**2 / (height * width) == pytest.approx(0.40, rel=0.05)
    assert width / height == pytest.approx(4 / 3, abs=0.01)


@pytest.mark.parametrize(("n", "n_cells"), [(22, 154), (4, 30), (1, 7), (5, 0)])
def test_classes_over_all_smears_follow_the_paper(n, n_cells):
    counts = spread_classes(n, n_cells, np.random.default_rng(2))
    assert (counts >= 0).all()
    assert (counts.sum(axis=1) == n_cells).all()
    exact = n * n_cells * np.array(PAPER_COUNTS) / sum(PAPER_COUNTS)
    assert np.abs(counts.sum(axis=0) - exact).max() < 1


def test_smears_differ_in_their_rare_classes():
    counts = spread_classes(22, 154, np.random.default_rng(0))
    for k in range(2):
        assert counts[:, k].max() > 1.5 * counts[:, k].mean()
        assert counts[:, k].min() >= 1


# --- folder ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path, rgb):
    for name in ("2.png", "10.png", "a.tif"):
        save(tmp_path / name, rgb)
    save(tmp_path / "b.JPG", 255 - rgb, format="JPEG")
    (tmp_path / "notes.txt").write_text("not an image")
    (tmp_path / ".hidden.png").write_text("not an image")
    return tmp_path


def test_folder_in_natural_order_with_twins_in_one_group(folder):
    smears = list(folder_smears(folder))
    assert [(s.name, s.group) for s in smears] == [
        ("2.png", "2.png"),
        ("10.png", "2.png"),
        ("a.tif", "a.tif"),
        ("b.JPG", "b.JPG"),
    ]
    assert all(s.truth is None for s in smears)


def test_bad_files_are_passed_over_or_raised(folder):
    (folder / "5.png").write_bytes(b"")
    errors = []
    assert [s.name for s in folder_smears(folder, errors=errors)] == ["2.png", "10.png", "a.tif", "b.JPG"]
    assert [type(e) for e in errors] == [SmearError]
    assert "5.png" in str(errors[0])
    with pytest.raises(SmearError, match=r"5\.png"):
        list(folder_smears(folder))


def test_missing_and_empty_folders(tmp_path):
    with pytest.raises(SmearError, match="no such folder"):
        list(folder_smears(tmp_path / "none"))
    with pytest.raises(SmearError, match="no image in it"):
        list(folder_smears(tmp_path))


def test_labels_csv_is_the_truth(folder):
    (folder / "labels.csv").write_text(
        "\ufeffsmear, x_px,y_px,label,radius_px,reader\n"
        "2.png,3,4.5,normal,6,A\n\n2.png,7,8,codocyte,,B\na.tif,1,1,own name,2,A\n",
        encoding="utf-8",
    )
    truths = {s.name: s.truth for s in folder_smears(folder)}
    assert truths["b.JPG"] is None
    expected = pd.DataFrame({X: [3.0, 7.0], Y: [4.5, 8.0], RADIUS: [6.0, np.nan], LABEL: ["normal", "codocyte"]})
    pd.testing.assert_frame_equal(truths["2.png"], expected, check_dtype=False)
    assert truths["a.tif"][LABEL].tolist() == ["own name"]


HEADER = "smear,x_px,y_px,label,radius_px\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "the file is empty"),
        ("smear,x_px,label\n", "row 1 lacks y_px"),
        (HEADER + "2.png,1,2,normal,\n2.png,left,2,normal,\n", "row 3 has x_px 'left'; give a number"),
        (HEADER + "2.png,1,,normal,\n", "row 2 has y_px ''"),
        (HEADER + "2.png,1,inf,normal,\n", "row 2 has y_px 'inf'"),
        (HEADER + "2.png,1,2,normal,-3\n", "row 2 has radius_px '-3'"),
        (HEADER + "2.png,1,2,,\n", "row 2 has no label"),
        (HEADER + "lost.png,1,2,normal,\n", "row 2 names the smear 'lost.png'.*add the image or drop the row"),
        (HEADER + "2.png,1,2,normal,\n\n2.png,1.0,2,codocyte,\n", "row 4 names the same smear and place as row 2"),
        (HEADER + "2.png,1,2,normal\n", "row 2 has more or fewer fields"),
        (HEADER + "2.png,1,2,normal,3,4,5\n", "row 2 has more or fewer fields"),
        (HEADER + "2.png,400,2,normal,\n", "row 2 puts a cell at x_px 400, y_px 2, outside of the 30 x 20"),
    ],
)
def test_faults_of_labels_csv_name_the_row(folder, text, message):
    (folder / "labels.csv").write_text(text)
    with pytest.raises(SmearError, match=message):
        list(folder_smears(folder))


# --- Chula RBC-12 ---------------------------------------------------------------------------------------------------


@pytest.fixture
def chula(tmp_path, rgb):
    """Six images: 1 and 10 are twins with two readings, 4 has no labels, 5 an empty file, 6 only another type."""
    root = tmp_path / "chula"
    (root / "Dataset").mkdir(parents=True)
    (root / "Label").mkdir()
    for i, name in enumerate([1, 2, 4, 5, 6]):
        save(root / f"Dataset/{name}.jpg", np.roll(rgb, i, axis=1))
    shutil.copy(root / "Dataset/1.jpg", root / "Dataset/10.jpg")
    for name, text in {
        1: "5 6 0\n7 8 4\n",
        10: "5 6 11\n1 2 8\n",
        2: "9 9 0\n\n8 8 0 \n",
        5: "",
        6: "3 3 8\n",
    }.items():
        (root / f"Label/{name}.txt").write_text(text)
    return root


def test_chula_truth_and_groups(chula):
    smears = list(chula_smears(chula))
    assert [(s.name, s.group) for s in smears] == [("1.jpg", "1.jpg"), ("2.jpg", "2.jpg"), ("10.jpg", "1.jpg")]
    assert [s.truth[LABEL].tolist() for s in smears] == [[NORMAL, CODOCYTE], [NORMAL, NORMAL], [HYPOCHROMIA]]
    assert smears[0].truth[[X, Y]].to_numpy().tolist() == [[5, 6], [7, 8]]
    assert smears[0].truth[RADIUS].isna().all()


def test_chula_types(chula):
    assert [s.name for s in chula_smears(chula, types="burr_cell")] == ["6.jpg", "10.jpg"]
    assert [s.name for s in chula_smears(chula, types="all")] == ["1.jpg", "2.jpg", "6.jpg", "10.jpg"]
    assert [s.name for s in chula_smears(chula, types="codocyte, hypochromia")] == ["1.jpg", "10.jpg"]
    with pytest.raises(SmearError, match="no type target; its types are normal, macrocyte"):
        list(chula_smears(chula, types=["target"]))
    with pytest.raises(SmearError, match="no labelled smear holds a cell of teardrop"):
        list(chula_smears(chula, types=["teardrop"]))
    assert set(CLASSES) < set(CHULA_TYPES.values())
    assert list(CHULA_TYPES) == list(range(13))


def test_chula_draws_every_class(chula):
    for seed in range(8):
        drawn = [s.name for s in chula_smears(chula, types=(CODOCYTE, HYPOCHROMIA), n=2, seed=seed)]
        assert drawn == ["1.jpg", "10.jpg"]
        names = [s.name for s in chula_smears(chula, n=3, seed=seed)]
        assert sorted(names) == ["1.jpg", "10.jpg", "2.jpg"]
        assert [s.name for s in chula_smears(chula, n=2, seed=seed)] == names[:2]
    assert len(list(chula_smears(chula, n=99))) == 3


def test_only_drawn_images_are_decoded(chula):
    drawn = [s.name for s in chula_smears(chula, types=[CODOCYTE], n=1)]
    (chula / "Dataset/2.jpg").write_bytes(b"")
    assert [s.name for s in chula_smears(chula, types=[CODOCYTE], n=1)] == drawn == ["1.jpg"]


@pytest.mark.parametrize("line", ["5 6", "5 6 13", "5 six 0", "5 6 0 0", "nan 6 0", "5 6 0.0"])
def test_a_malformed_chula_label_names_the_line(chula, line):
    path = chula / "Label/2.txt"
    path.write_text(f"9 9 0\n\n{line}\n")
    with pytest.raises(SmearError, match=r"2\.txt: line 3 is .*it must be"):
        read_chula_labels(path)
    errors = []
    assert [s.name for s in chula_smears(chula, errors=errors)] == ["1.jpg", "10.jpg"]
    assert len(errors) == 1


def test_a_wrong_chula_root_says_how_to_get_it(tmp_path):
    with pytest.raises(SmearError, match="rbcnb fetch chula --out"):
        list(chula_smears(tmp_path))


@pytest.mark.skipif("RBCNB_CHULA" not in os.environ, reason="set RBCNB_CHULA to the folder of Chula RBC-12")
def test_the_real_chula():
    root = os.environ["RBCNB_CHULA"]
    smears = list(chula_smears(root, n=6, seed=0))
    assert len(smears) == 6
    assert all(s.image.shape == (480, 640, 3) for s in smears)
    assert set(pd.concat([s.truth for s in smears])[LABEL]) == set(CLASSES)


# --- load_smears ----------------------------------------------------------------------------------------------------


def test_load_smears_dispatches(folder, chula):
    assert [s.name for s in load_smears(folder, n=2, seed=0)] == ["2.png", "10.png"]
    assert len(list(load_smears("chula", data=chula, n=2, seed=0))) == 2
    (smear,) = load_smears("synthetic", n=1, seed=4, n_cells=5)
    (same,) = synthetic_smears(1, seed=4, n_cells=5)
    assert smear.image.tobytes() == same.image.tobytes()
    with pytest.raises(SmearError, match="--data DIR"):
        list(load_smears("chula", seed=0))
    with pytest.raises(SmearError, match="no such folder"):
        list(load_smears("nowhere", seed=0))
