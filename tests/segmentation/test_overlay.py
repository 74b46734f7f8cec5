import math

import cv2
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from rbcnb.cli import main
from rbcnb.columns import SCORE
from rbcnb.segmentation import batch, overlay
from rbcnb.segmentation.batch import segment_files
from rbcnb.segmentation.overlay import RED, draw_overlay
from rbcnb.segmentation.segment import FinderSpec

BLUE, ORANGE = (0, 114, 178), (230, 159, 0)
IMAGE = np.full((300, 1000, 3), 200, np.uint8)
CELLS = pd.DataFrame({"x_px": [100.0, 300, 500, 990], "y_px": 150.0, "radius_px": 40.0})
CELLS["border"] = [False, False, False, True]
CELLS[SCORE] = [0.9, 0.5, 0.75, 0.9]
SPEC = FinderSpec(upscale="none", diameter_px=40, size_px=48)


def colours_around(picture, x, y, radius):
    """The colours that lie on a circle."""
    angles = np.linspace(0, 2 * np.pi, 720, endpoint=False)
    columns, rows = np.round([x + radius * np.cos(angles), y + radius * np.sin(angles)]).astype(int)
    inside = (columns >= 0) & (columns < picture.shape[1])
    return {tuple(int(value) for value in picture[r, c]) for r, c in zip(rows[inside], columns[inside], strict=True)}


def test_rings_tell_sure_from_doubtful_from_cut_and_leave_the_cells():
    picture = draw_overlay(IMAGE, CELLS)
    assert picture.shape[1] == 1000
    sure, doubtful, border = (colours_around(picture, x, 150, 40) for x in (100, 300, 990))
    assert sure == {BLUE}
    assert ORANGE in doubtful  # broken: the edge shows between
    assert (255, 255, 255) in doubtful
    assert BLUE not in doubtful
    assert not border & {BLUE, ORANGE}
    assert (80, 80, 80) in border
    assert colours_around(picture, 500, 150, 40) == {BLUE}  # 0.75 is sure
    for x in (100, 300, 500):
        assert (picture[130:171, x - 20 : x + 20] == 200).all()


def test_circles_without_scores_are_neither_sure_nor_in_doubt():
    picture = draw_overlay(IMAGE, CELLS.drop(columns=SCORE))
    assert colours_around(picture, 300, 150, 40) == {BLUE}
    assert not (picture == ORANGE).all(axis=2).any()  # nor in the legend


def test_a_note_is_a_red_frame_and_red_words_that_are_not_cut_off():
    plain = draw_overlay(IMAGE, CELLS)
    noted = draw_overlay(IMAGE, CELLS, note="read with doubt, look at the rings " * 8)
    assert not (plain == RED).all(axis=2).any()
    frame = (noted.shape[1] - plain.shape[1]) // 2
    assert frame >= 8
    for side in (noted[:frame], noted[-frame:], noted[:, :frame], noted[:, -frame:]):
        assert (side == RED).all()
    words = noted[frame + 300 : -frame, frame:-frame]
    assert (words == RED).all(axis=2).sum() > 500
    assert (words[:, -4:] == 255).all()
    assert (words[:4] == 255).all()
    assert (words[-4:] == 255).all()
    assert noted.shape[0] > plain.shape[0] + 2 * frame
    assert np.array_equal(noted[frame : frame + 300, frame:-frame], plain[:300])


def test_large_images_are_drawn_smaller_and_small_ones_larger(monkeypatch):
    monkeypatch.setattr(overlay, "MAX_PIXELS", 1_000_000)
    large = np.full((1500, 3000, 3), 200, np.uint8)
    cells = CELLS.assign(x_px=CELLS["x_px"] * 3, y_px=600.0, radius_px=120.0)
    picture = draw_overlay(large, cells)
    scale = picture.shape[1] / 3000
    assert scale == pytest.approx(math.sqrt(1e6 / 4.5e6), rel=0.01)
    assert BLUE in colours_around(picture, 300 * scale, 600 * scale, 120 * scale)

    small = draw_overlay(np.full((60, 100, 3), 200, np.uint8), CELLS.iloc[:1].assign(x_px=50.0, y_px=30.0, radius_px=9))
    assert small.shape[1] == 800
    assert BLUE in colours_around(small, 50.5 * 8 - 0.5, 30.5 * 8 - 0.5, 72)
    fine = draw_overlay(np.full((600, 900, 3), 200, np.uint8), CELLS.iloc[:1].assign(radius_px=3.0))
    assert fine.shape[1] == 900  # three times as large would be over the limit
    monkeypatch.undo()
    fine = draw_overlay(np.full((600, 900, 3), 200, np.uint8), CELLS.iloc[:1].assign(radius_px=3.0))
    assert fine.shape[1] == 2700

    tall = draw_overlay(np.full((20_000, 6, 3), 200, np.uint8), CELLS.iloc[:0], note="no cell was found")
    assert math.prod(tall.shape[:2]) < 60_000 * 500
    assert tall.shape[1] >= 400  # the legend has room


@pytest.fixture
def folder(tmp_path):
    smears = tmp_path / "in"
    smears.mkdir()
    for i in range(3):
        image = np.full((150, 200, 3), 225, np.uint8)
        for x in range(40, 40 + 60 * i, 60):
            cv2.circle(image, (x, 70), 20, (140, 120, 200), -1, cv2.LINE_AA)
        Image.fromarray(image).save(smears / f"{i}.png")
    return smears


def test_a_batch_draws_what_is_missing_and_nothing_twice(folder, tmp_path, monkeypatch):
    out, drawn = tmp_path / "out", []

    def drawing(image, cells, *, note):
        drawn.append(len(cells))
        return draw_overlay(image, cells, note=note)

    monkeypatch.setattr(batch, "draw_overlay", drawing)

    def run(spec=SPEC, **options):
        drawn.clear()
        report = segment_files([folder], out, spec=spec, **options)
        assert report.errors == ()
        return report.n_resumed, sorted(drawn)

    assert run() == (0, [])
    assert not (out / "overlays").exists()
    assert run(pictures=["overlays"]) == (3, [0, 1, 2])  # of cells that were found before
    pictures = {path.name: path.read_bytes() for path in (out / "overlays").iterdir()}
    assert set(pictures) == {"0.jpg", "1.jpg", "2.jpg"}
    assert run(pictures=["overlays"]) == (3, [])
    (out / "overlays/1.jpg").unlink()
    (out / "overlays/2.jpg").write_bytes(b"cut short")
    assert run(pictures=["overlays"]) == (3, [1, 2])
    assert {path.name: path.read_bytes() for path in (out / "overlays").iterdir()} == pictures

    other = FinderSpec(upscale="none", diameter_px=41, size_px=48)
    assert run(other, replace_cells=True) == (0, [])
    assert not list((out / "overlays").iterdir())  # they showed other cells
    assert run(other, pictures=["overlays"], jobs=1) == (3, [0, 1, 2])


def test_the_command_line_draws_and_marks_what_was_not_read(folder, tmp_path, capsys):
    command = ["segment", str(folder), "--out", str(tmp_path / "out"), "--upscale", "none", "--diameter", "40"]
    assert main(command) == 0
    assert "overlays" not in capsys.readouterr().out
    assert main([*command, "--overlays"]) == 0
    assert f"their rings: {tmp_path / 'out/overlays'}" in capsys.readouterr().out
    corners = {path.stem: np.array(Image.open(path))[2, 2] for path in (tmp_path / "out/overlays").iterdir()}
    noted = pd.read_csv(tmp_path / "out/smears.csv").set_index("smear")["note"].notna()
    assert noted["0.png"]
    for name, colour in corners.items():
        red = colour[0] > 180 and colour[1:].max() < 40
        assert red == noted[f"{name}.png"]
