"""A folder of `rbcnb segment` is a source of smears: with the cells that were found, and no truth."""

import json
from dataclasses import replace

import cv2
import numpy as np
import pandas as pd
import pytest

from rbcnb._utils.errors import InputError
from rbcnb.columns import FOUND, X
from rbcnb.labels.formats import read_cells
from rbcnb.segmentation import batch
from rbcnb.segmentation.batch import read_crops, segment_files
from rbcnb.segmentation.segment import FinderSpec, finder_spec, segment_smear, spec_for
from rbcnb.segmentation.segment_many import segment_smears
from rbcnb.smears.images import SmearError
from rbcnb.smears.segmented import is_segmented, segmented_smears
from rbcnb.smears.sources import load_smears, synthetic_smears

SPEC = FinderSpec(upscale="none", diameter_px=40, size_px=48)


@pytest.fixture
def folder(tmp_path):
    """Two smears and a copy of the second, segmented."""
    images = tmp_path / "smears"
    images.mkdir()
    for smear in synthetic_smears(2, seed=3, n_cells=15):
        cv2.imwrite(str(images / smear.name), smear.image[..., ::-1])
    (images / "twin.png").write_bytes((images / "synthetic_01.png").read_bytes())
    segment_files([images], tmp_path / "cells", spec=SPEC)
    return tmp_path / "cells"


def test_its_smears_have_the_cells_that_were_found(folder):
    assert is_segmented(folder)
    assert not is_segmented(folder.parent / "smears")
    smears = list(load_smears(folder, seed=0))
    assert [smear.name for smear in smears] == ["synthetic_00.png", "synthetic_01.png", "twin.png"]
    assert [smear.group for smear in smears] == ["synthetic_00.png", "synthetic_01.png", "synthetic_01.png"]
    assert all(smear.truth is None for smear in smears)
    cells = pd.read_csv(folder / "cells.csv")
    for smear in smears:
        smear_cells = cells[cells["smear"] == smear.name]
        assert np.array_equal(smear.cells[list(FOUND)], smear_cells[list(FOUND)])
        assert smear.diameter_px == pytest.approx(40)


def test_their_cells_are_not_sought_again(folder):
    cells = pd.read_csv(folder / "cells.csv")
    cells.loc[0, X] += 3.0  # somebody moved a circle
    cells.to_csv(folder / "cells.csv", index=False)
    found = segment_smears(segmented_smears(folder), SPEC)
    assert np.array_equal(found.cells[list(FOUND)], cells[list(FOUND)])
    written = read_crops(folder, "synthetic_00.png", int((cells["smear"] == "synthetic_00.png").sum()), 48)
    changed = [bool((a != b).any()) for a, b in zip(found.crops, written, strict=False)]
    assert changed == [True] + [False] * (len(written) - 1)
    larger = segment_smears(segmented_smears(folder), FinderSpec(upscale="none", size_px=64))
    assert larger.crops.shape == (len(cells), 64, 64, 3)
    assert len(larger.truth) == 0


def test_crops_of_other_cells_than_those_of_the_table_are_refused(folder, monkeypatch):
    images, table = folder.parent / "smears", folder / "cells.csv"
    assert len(read_cells(table)) > 20

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:  # all images are done, and the tables are not written yet
        patch.setattr(batch, "_in_order_of", stop)
        with pytest.raises(KeyboardInterrupt):
            segment_files([images], folder, spec=replace(SPEC, diameter_px=36), replace_cells=True)
    with pytest.raises(SmearError, match=r"cells\.csv: the cells of 'synthetic_00\.png' are not those .* --replace"):
        read_cells(table)
    segment_files([images], folder, spec=replace(SPEC, diameter_px=36), replace_cells=True)
    assert len(read_cells(table)) > 20
    (folder / "parts" / "twin.json").unlink()
    with pytest.raises(SmearError, match=r"the cells of 'twin\.png'"):
        read_cells(table)


@pytest.mark.parametrize("upscale", ["none", "bicubic"])
def test_crops_are_those_of_finding_and_cutting_at_once(folder, upscale):
    spec = FinderSpec(upscale=upscale, upscale_where="crops", diameter_px=40, size_px=64)
    found = segment_smears(segmented_smears(folder), spec)
    image = next(iter(segmented_smears(folder))).image
    at_once = segment_smear(image, spec)
    # Tables on disk have four decimals.
    assert np.abs(found.crops[: len(at_once.crops)].astype(int) - at_once.crops).max() <= 1


def test_settings_that_somebody_changed_are_not_those_of_the_cells(folder):
    path = folder / "finder.json"
    text = path.read_text()
    path.write_text(text.replace('"size_px": 48', '"size_px": 64'))
    with pytest.raises(InputError, match=r"finder\.json: missing, damaged"):
        finder_spec(folder)
    facts = json.loads(text)
    del facts["digest"]  # as versions before this one wrote it
    path.write_text(json.dumps(facts))
    assert finder_spec(folder) == SPEC


def test_how_cells_were_found_goes_before_what_is_asked(folder):
    assert finder_spec(folder) == SPEC
    spec = spec_for(str(folder), method="learned", upscale="bicubic", size_px=32, diameter_px=None)
    assert (spec.method, spec.diameter_px, spec.upscale, spec.size_px) == ("paper", 40, "bicubic", 32)
    assert spec_for("synthetic", method="learned").method == "learned"


def test_an_image_that_is_gone_is_an_error_of_its_own(folder):
    (folder.parent / "smears" / "synthetic_00.png").unlink()
    errors = []
    assert len(list(segmented_smears(folder, errors=errors))) == 2
    assert "synthetic_00.png: no longer there; put it back" in str(errors[0])
    with pytest.raises(SmearError, match="no longer there"):
        list(segmented_smears(folder))


@pytest.mark.parametrize(
    ("text", "what"), [("smear\na.png\n", "row 1 lacks file, diameter_px"), ('"', "cannot be read")]
)
def test_a_damaged_table_is_named(folder, text, what):
    (folder / "smears.csv").write_text(text)
    with pytest.raises(SmearError, match=rf"smears\.csv: {what}"):
        list(segmented_smears(folder))


@pytest.mark.parametrize("name", ["../../x.png", "/etc/x.png", "a\nb.png", "=1+1.png"])
def test_a_smear_of_a_name_that_no_image_can_have_is_left_out(folder, name):
    for table in ("cells.csv", "smears.csv"):
        path = folder / table
        text = pd.read_csv(path, dtype=str, keep_default_na=False)
        text.replace({"twin.png": name}).to_csv(path, index=False)
    errors = []
    smears = list(segmented_smears(folder, errors=errors))
    assert [smear.name for smear in smears] == ["synthetic_00.png", "synthetic_01.png"]
    assert repr(name) in str(errors[0])
    assert len(errors) == 1


@pytest.mark.parametrize(
    ("table", "damage", "what"),
    [
        ("cells.csv", lambda _: b"", "is empty"),
        ("smears.csv", lambda _: b"", "is empty"),
        ("cells.csv", lambda data: data[: len(data) // 2], "row"),
        ("cells.csv", lambda data: data[: data.index(b"\n", len(data) // 2) + 1], "not as many cells of"),
        ("smears.csv", lambda data: data[: data.index(b"\n") + 1], "not as many cells of"),
        ("cells.csv", lambda data: data + data.splitlines()[-1] + b"\n", "there twice"),
        ("cells.csv", lambda data: b"\xff" + data, "cannot be read"),
    ],
)
def test_a_damaged_table_is_named_with_its_mend(folder, table, damage, what):
    path = folder / table
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(SmearError, match=rf"{what}.*run rbcnb segment over all its images again") as caught:
        list(segmented_smears(folder))
    assert f"{folder}/" in str(caught.value)
    assert "\n" not in str(caught.value)
