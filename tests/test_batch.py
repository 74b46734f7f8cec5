import cv2
import numpy as np
import pandas as pd
import pytest

from rbcnb import batch
from rbcnb.batch import segment_files
from rbcnb.columns import BORDER, CELL, FOUND, RADIUS, SMEAR, X, Y
from rbcnb.segmentation import FinderSpec, segment_smear

SPEC = FinderSpec(upscale="none", diameter_px=40, size_px=48)


def write_smear(path, *centres):
    image = np.full((150, 200, 3), 225, np.uint8)
    for x, y in centres:
        cv2.circle(image, (x, y), 20, (140, 120, 200), -1, cv2.LINE_AA)
    path.parent.mkdir(parents=True, exist_ok=True)
    _, encoded = cv2.imencode(path.suffix, image)
    path.write_bytes(encoded)
    return image[..., ::-1].copy()


@pytest.fixture
def folder(tmp_path):
    """Three good smears with 2, 1 and 0 cells, one broken file, and a note that is no image."""
    smears = tmp_path / "smears"
    write_smear(smears / "b.png", (50, 60), (140, 90))
    write_smear(smears / "a b ü.png", (100, 75))
    write_smear(smears / "empty.PNG".lower())
    (smears / "broken.jpg").write_bytes(b"no picture")
    (smears / "notes.txt").write_text("ours")
    return smears


def run(paths, out, **options):
    return segment_files(paths, out, **{"spec": SPEC, "progress": False} | options)


def test_folder_becomes_crops_and_one_table(folder, tmp_path):
    report = run([folder], tmp_path / "out")
    assert (report.n_images, report.n_resumed, report.n_cells) == (3, 0, 3)

    cells = pd.read_csv(tmp_path / "out/cells.csv")
    assert list(cells.columns) == [*FOUND, BORDER, "crop_scale"]
    assert list(zip(cells[SMEAR], cells[CELL], strict=True)) == [("a b ü.png", 0), ("b.png", 0), ("b.png", 1)]
    assert cells[[X, Y]].to_numpy() == pytest.approx(np.array([[100, 75], [50, 60], [140, 90]]), abs=2)
    assert cells[RADIUS].to_numpy() == pytest.approx(20, rel=0.1)
    assert cells["crop_scale"].to_numpy() == pytest.approx(48 / 40)

    image = cv2.imread(str(folder / "b.png"))[..., ::-1].copy()
    crops = [cv2.imread(str(tmp_path / f"out/crops/b/000{i}.png"))[..., ::-1] for i in range(2)]
    assert np.array_equal(crops, segment_smear(image, SPEC).crops)


def test_bad_inputs_are_listed_and_stop_nothing(folder, tmp_path):
    (tmp_path / "bare").mkdir()
    report = run([tmp_path / "missing.png", folder, tmp_path / "bare"], tmp_path / "out")
    assert report.n_images == 3
    errors = pd.read_csv(tmp_path / "out/errors.csv")
    assert [tuple(row) for row in errors.to_numpy()] == list(report.errors)
    messages = dict(report.errors)
    assert set(messages) == {str(p) for p in (tmp_path / "missing.png", folder / "broken.jpg", tmp_path / "bare")}
    assert all(len(message) > 10 for message in messages.values())

    (folder / "broken.jpg").unlink()
    assert run([folder], tmp_path / "out").errors == ()
    assert not (tmp_path / "out/errors.csv").exists()


def test_nothing_readable_still_gives_a_table(tmp_path):
    report = run([tmp_path / "missing.png"], tmp_path / "out")
    assert (report.n_images, report.n_cells, len(report.errors)) == (0, 0, 1)
    assert list(pd.read_csv(tmp_path / "out/cells.csv").columns) == [*FOUND, BORDER, "crop_scale"]


def test_finished_images_are_not_done_again(folder, tmp_path, monkeypatch):
    done = []

    def counting(image, spec):
        done.append(image.shape)
        return segment_smear(image, spec)

    monkeypatch.setattr(batch, "segment_smear", counting)
    out = tmp_path / "out"
    run([folder], out)
    first = (out / "cells.csv").read_bytes()
    assert len(done) == 3

    done.clear()
    report = run([folder], out)
    assert (report.n_images, report.n_resumed, done) == (3, 3, [])
    assert (out / "cells.csv").read_bytes() == first

    write_smear(folder / "b.png", (70, 70))  # other bytes
    assert run([folder], out).n_resumed == 2
    assert sorted(path.name for path in (out / "crops/b").iterdir()) == ["0000.png"]

    (out / "crops/b/0000.png").unlink()  # a crop lost
    assert run([folder], out).n_resumed == 2
    (out / "parts/b.json").write_text("{")  # a part damaged
    assert run([folder], out).n_resumed == 2
    assert (
        run([folder], out, spec=FinderSpec(upscale="none", diameter_px=40, size_px=32)).n_resumed == 0
    )  # other settings


def test_jobs_change_nothing(folder, tmp_path):
    run([folder], tmp_path / "one")
    report = run([folder], tmp_path / "two", jobs=2)
    assert len(report.errors) == 1
    assert (tmp_path / "two/cells.csv").read_bytes() == (tmp_path / "one/cells.csv").read_bytes()


def test_two_inputs_of_one_name_are_refused_before_any_work(folder, tmp_path):
    write_smear(tmp_path / "other/B.png", (100, 75))
    with pytest.raises(ValueError, match=r"b\.png.*B\.png"):
        run([folder, tmp_path / "other"], tmp_path / "out")
    assert not (tmp_path / "out").exists()
    # The same file twice is one input.
    assert run([folder, folder / "b.png"], tmp_path / "out").n_cells == 3
