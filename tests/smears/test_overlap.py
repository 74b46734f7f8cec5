"""Images that show the same cells are one smear where smears are split, others are not."""

import os
import warnings
from pathlib import Path

import cv2
import numpy as np
import pytest

from rbcnb._utils.errors import SmearWarning
from rbcnb.smears import overlap
from rbcnb.smears.images import read_image
from rbcnb.smears.overlap import Overlap, describe_overlaps, field_groups, find_overlaps, join_groups, overlaps_of_files
from rbcnb.smears.sources import load_smears, synthetic_smears

CHULA = Path(os.environ.get("RBCNB_CHULA", ""))
HEIGHT, WIDTH = 360, 480


@pytest.fixture(scope="module")
def slide():
    """A slide [720, 1200, 3] of cells of 40 px, larger than a field."""
    (whole,) = synthetic_smears(1, seed=3, n_cells=260, height_px=720, width_px=1200)
    return whole.image


def field(slide, x, y):
    return slide[y : y + HEIGHT, x : x + WIDTH]


def taken_again(image, seed):
    """*image* with other light and focus, and the noise of another exposure."""
    rng = np.random.default_rng(seed)
    soft = cv2.GaussianBlur(image, (0, 0), 1.2).astype(float) * [0.8, 0.9, 0.85]
    light = np.linspace(0.9, 1.1, image.shape[1])[None, :, None]
    return np.clip(soft * light + rng.normal(0, 4, image.shape), 0, 255).astype(np.uint8)


@pytest.mark.parametrize(("dx", "dy"), [(0, 0), (7, -3), (200, 0), (-150, 120), (310, -40), (0, 270)])
def test_two_fields_of_a_slide_that_overlap_are_found_with_their_shift(slide, dx, dy):
    first = field(slide, 320, 150)
    second = taken_again(field(slide, 320 - dx, 150 - dy) if dy <= 150 else field(slide, 320, 0), seed=1)
    if dy > 150:  # the slide ends above
        first = field(slide, 320, dy)
    (found,) = find_overlaps([("a", first), ("b", second)])
    assert (found.first, found.second) == ("a", "b")
    assert abs(found.dx_px - dx) <= 1
    assert abs(found.dy_px - dy) <= 1
    assert found.share == pytest.approx((1 - abs(dx) / WIDTH) * (1 - abs(dy) / HEIGHT), abs=0.01)


def test_fields_side_by_side_and_other_slides_do_not_overlap(slide):
    fields = {f"{x} {y}": field(slide, x, y) for x in (0, 480) for y in (0, 360)}
    others = {
        smear.name: smear.image for smear in synthetic_smears(6, seed=4, height_px=HEIGHT, width_px=WIDTH, n_cells=40)
    }
    assert find_overlaps((fields | others).items()) == []


def test_dust_on_the_camera_and_empty_images_do_not_overlap():
    rng = np.random.default_rng(0)
    dust = rng.integers(0, [WIDTH, HEIGHT], (12, 2))
    images = {}
    for smear in synthetic_smears(4, seed=6, height_px=HEIGHT, width_px=WIDTH, n_cells=40):
        image = smear.image.copy()
        for x, y in dust:
            cv2.circle(image, (int(x), int(y)), 5, (60, 60, 60), -1)
        images[smear.name] = image
    images |= {f"empty {level}": np.full((HEIGHT, WIDTH, 3), level, np.uint8) for level in (0, 200, 255)}
    images["other size"] = np.zeros((HEIGHT // 2, WIDTH // 2, 3), np.uint8)
    assert find_overlaps(images.items()) == []


@pytest.mark.parametrize("n_cells", [3, 8, 20])
def test_few_cells_and_a_round_stop_are_no_overlap(n_cells):
    y, x = np.ogrid[:480, :640]
    stop = ((y - 240) ** 2 + (x - 320) ** 2 > 220**2)[..., None]
    for seed in (0, 1):
        smears = list(synthetic_smears(6, seed=seed, n_cells=n_cells, height_px=480, width_px=640))
        assert find_overlaps((smear.name, smear.image) for smear in smears) == []
        assert find_overlaps((smear.name, np.where(stop, np.uint8(2), smear.image)) for smear in smears) == []


@pytest.mark.parametrize("shape", [(1, 1), (3, 4), (20, 4000), (4000, 7)])
def test_images_of_any_shape_are_looked_at(shape):
    rng = np.random.default_rng(0)
    noise = {f"{i}": rng.integers(0, 256, (*shape, 3), np.uint8) for i in range(3)}
    assert find_overlaps(noise.items()) == []
    assert find_overlaps(list(noise.items())[:1]) == find_overlaps([]) == []


def test_large_fields_of_small_cells_are_found():
    (whole,) = synthetic_smears(1, seed=8, n_cells=1500, diameter_px=20, height_px=1200, width_px=2600)
    images = [("left", whole.image[:, :1600]), ("right", taken_again(whole.image[:, 1000:], seed=2))]
    (found,) = find_overlaps(images)
    assert (found.dx_px, found.dy_px) == (pytest.approx(-1000, abs=3), pytest.approx(0, abs=3))


def test_groups_are_joined_along_a_row_of_fields():
    groups = {name: name for name in "abcd"}
    assert join_groups(groups, [("c", "d"), ("b", "c")]) == {"a": "a", "b": "b", "c": "b", "d": "b"}
    assert join_groups(groups, []) == groups
    assert join_groups({"a": "z", "b": "y", "c": "y"}, [("a", "c")]) == {"a": "z", "b": "z", "c": "z"}


@pytest.fixture
def smears(slide, tmp_path):
    """A folder of two fields that overlap, a copy of the second, one field that stands alone, and no image."""
    images = {"1.png": field(slide, 0, 0), "2.png": taken_again(field(slide, 90, 30), seed=3)}
    images |= {"3.png": images["2.png"], "4.png": field(slide, 700, 350)}
    for name, image in images.items():
        cv2.imwrite(str(tmp_path / name), image[:, :, ::-1])
    (tmp_path / "0.png").write_bytes(b"no image")
    return tmp_path


def test_a_folder_of_smears_has_overlapping_fields_in_one_group_and_says_so(smears):
    errors = []
    with pytest.warns(SmearWarning, match=r"1\.png and 2\.png \(\d\d% of the image\)"):
        groups = {smear.name: smear.group for smear in load_smears(smears, seed=0, errors=errors)}
    assert groups == {"1.png": "1.png", "2.png": "1.png", "3.png": "1.png", "4.png": "4.png"}
    assert len(errors) == 1  # 0.png, once


def test_only_smears_that_are_taken_are_looked_at(smears, monkeypatch):
    looked = []
    monkeypatch.setattr(overlap, "read_image", lambda path: looked.append(path.name) or read_image(path))
    with pytest.warns(SmearWarning, match="same cells"):
        taken = [smear.name for smear in load_smears(smears, n=2, seed=0, errors=[])]
    assert taken == ["1.png", "2.png"]
    assert looked == ["0.png", "1.png", "2.png"]
    with pytest.warns(SmearWarning, match="same cells"):
        list(load_smears(smears, n=2, seed=0, errors=[]))
    assert len(looked) == 3  # not a second time


def test_copies_alone_are_one_group_without_a_word(smears):
    (smears / "1.png").unlink()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        groups = field_groups(sorted(smears.glob("*.png")))
    assert groups == {smears / "0.png": "0.png"} | dict.fromkeys([smears / "2.png", smears / "3.png"], "2.png") | {
        smears / "4.png": "4.png"
    }


def test_too_many_images_are_not_looked_at_and_this_is_said(smears, monkeypatch):
    monkeypatch.setattr(overlap, "MOST_IMAGES", 3)
    files = {path.name: path for path in sorted(smears.glob("*.png"))}
    with pytest.warns(SmearWarning, match="there are 5 images, more than 3"):
        assert overlaps_of_files(files) == ()
    assert len(overlaps_of_files(files, n=3)) == 3


def test_many_overlaps_are_a_short_message():
    many = [Overlap(f"a/{i}.jpg", f"a/{i + 1}.jpg", 0, 0, i / 10) for i in range(1, 9)]
    message = describe_overlaps(many)
    assert "8.jpg and 9.jpg (80% of the image), " in message
    assert "1.jpg and 2.jpg" not in message
    assert message.endswith(" and 3 more pairs")


@pytest.mark.skipif(not CHULA.name, reason="set RBCNB_CHULA to the folder of Chula RBC-12")
def test_real_fields_that_overlap_are_found_and_no_others():
    names = ["27", "29", "30", "31", "33", "35", "36", "38", "39", "82", "217", "218"]
    found = overlaps_of_files({name: CHULA / "Dataset" / f"{name}.jpg" for name in names})
    pairs = {(pair.first, pair.second): (pair.dx_px, pair.dy_px) for pair in found}
    assert pairs == {
        ("29", "30"): (2, 11),
        ("29", "31"): (348, 145),
        ("30", "31"): (345, 134),
        ("35", "36"): (-94, -291),
        ("217", "218"): (194, -428),
    }
