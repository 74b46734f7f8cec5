"""The labeller without a page: what its messages write, answer and show; a folder of cells; the command's refusals."""

import ast
import base64
import itertools
import json
import shutil
import subprocess
import sys

import cv2
import nbformat
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from rbcnb.cli import main
from rbcnb.labels.labeller.pictures import THUMB_PX, CellPictures, crops_of_array
from rbcnb.labels.labeller.widget import AHEAD, MOST_CLASSES, Labeller, class_keys
from rbcnb.labels.readings import append_readings, load_readings
from rbcnb.segmentation.batch import segment_files
from rbcnb.segmentation.segment import FinderSpec
from rbcnb.smears.sources import synthetic_smears
from rbcnb.workflow import pages
from rbcnb.workflow.pages import folder_labeller
from rbcnb.workflow.run import Run


class Heard(Labeller):
    """A labeller whose words to the page are kept: (message, buffers)."""

    def __init__(self, *args, **options):
        self.heard, self.ids = [], itertools.count(1)
        super().__init__(*args, **options)

    def send(self, content, buffers=()):
        json.dumps(content)  # it has to go over the wire
        self.heard.append((content, list(buffers)))

    def answer(self, kind: str, **more) -> dict:
        """The last word in answer to a message from the page."""
        self._heed(self, {"kind": kind, "view": "v", "id": next(self.ids), **more}, [])
        return self.heard[-1][0]


def cells(n: int = 6, **columns) -> pd.DataFrame:
    return pd.DataFrame({"smear": "a.png", "cell": range(n), "x_px": 50.0, "y_px": 50.0, "radius_px": 10.0}).assign(
        **columns
    )


def crops(n: int = 6) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (n, 24, 24, 3), dtype=np.uint8)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "readings.csv"


def labeller(path, n: int = 6, **options) -> Heard:
    return Heard(options.pop("cells", cells(n)), path, reader="Ann", crops=options.pop("crops", crops(n)), **options)


def test_each_message_is_a_row_on_the_disk_before_it_is_answered(path, monkeypatch):
    ann, rows_then = labeller(path), []
    send = Heard.send
    monkeypatch.setattr(
        Heard, "send", lambda self, *args: (rows_then.append(len(load_readings(path))), send(self, *args))
    )
    state = ann.answer("reading", rows=[0], what="label", label="normal", comment="thin, pale")
    assert (state["ack"], state["error"], state["read"], state["upcoming"]) == (1, "", 1, [1, 2, 3, 4, 5])
    ann.answer("reading", rows=[1], what="unsure")
    ann.answer("reading", rows=[2], what="skip")
    state = ann.answer("undo")
    assert (state["upcoming"], state["last"]) == ([2, 3, 4, 5], "a.png, cell 1: unsure")
    assert rows_then == [1, 2, 3, 4]
    written = load_readings(path)
    assert written["kind"].tolist() == ["label", "unsure", "skip", "undo"]
    assert written.loc[0, ["smear", "cell", "x_px", "radius_px", "label", "reader", "comment"]].tolist() == [
        "a.png", 0, 50.0, 10.0, "normal", "Ann", "thin, pale",
    ]  # fmt: skip
    assert ann.table().set_index("cell")["kind"].to_dict() == {0: "label", 1: "unsure"}


def test_a_new_labeller_goes_on_where_the_last_one_stopped(path):
    first = labeller(path)
    for row, label in enumerate(["normal", "codocyte", "normal"]):
        first.answer("reading", rows=[row], what="label", label=label)
    first.answer("undo")
    before, after = first.answer("hello"), labeller(path).answer("hello")
    for name in ("upcoming", "read", "n", "last", "acts", "queue", "about"):
        assert after[name] == before[name]
    assert after["upcoming"] == [2, 3, 4, 5]


def test_what_cannot_be_written_is_told_and_not_counted(path):
    ann = labeller(path)
    path.mkdir()
    state = ann.answer("reading", rows=[0], what="label", label="normal")
    assert "readings.csv: is a folder, not a file" in state["error"]
    assert (state["ack"], state["read"], state["upcoming"][0]) == (1, 0, 0)
    path.rmdir()
    assert ann.answer("reading", rows=[0], what="label", label="normal")["read"] == 1
    for what, label in (("label", "nonsense"), ("label", ""), ("undo", ""), ("best", "normal")):
        assert ann.answer("reading", rows=[1], what=what, label=label)["error"]
    assert len(load_readings(path)) == 1


def test_a_sheet_holds_what_is_called_so_by_now_and_re_marks_many(path):
    ann = labeller(path, n=70, cells=cells(70, label="normal"), queue="all")
    sheet = ann.answer("sheet", label="normal", page=0)
    assert (sheet["n"], sheet["pages"], sheet["rows"]) == (70, 2, list(range(60)))
    picture = cv2.imdecode(np.frombuffer(ann.heard[-1][1][0], np.uint8), cv2.IMREAD_COLOR)
    assert picture.shape == (5 * THUMB_PX, 12 * THUMB_PX, 3)
    assert ann.answer("sheet", label="normal", page=7)["rows"] == list(range(60, 70))
    ann.answer("reading", rows=[3, 61], what="label", label="codocyte")
    assert ann.answer("sheet", label="codocyte", page=0)["rows"] == [3, 61]
    assert ann.answer("sheet", label="normal", page=0)["n"] == 68
    assert ann.answer("undo")["acts"] == 0
    assert ann.answer("sheet", label="normal", page=0)["n"] == 70
    assert ann.answer("sheet", label="codocyte", page=0)["rows"] == []
    assert load_readings(path)["kind"].tolist() == ["label", "label", "undo", "undo"]


def test_a_sheet_begins_with_what_the_model_doubts(path):
    probs = cells(4)[["smear", "cell"]].assign(prob_normal=[0.9, 0.2, 0.7, 0.1], prob_codocyte=[0.1, 0.8, 0.3, 0.9])
    ann = labeller(path, cells=cells(label="normal"), probs=probs)
    assert ann.answer("sheet", label="normal", page=0)["rows"] == [3, 1, 2, 0, 4, 5]


def test_blinded_readings_show_no_label_that_was_given(path):
    listed = cells()[["smear", "cell"]].iloc[[4, 1]]
    blind = labeller(path, cells=cells(label="normal"), queue=listed, show_given=False)
    state = blind.answer("hello")
    assert (state["queue"], state["upcoming"]) == ("list", [4, 1])
    assert blind.answer("want", rows=[4])["given"] is None
    assert blind.answer("sheet", label="normal", page=0)["n"] == 0
    seeing = labeller(path, cells=cells(label="normal"), queue=listed)
    assert seeing.answer("want", rows=[4])["given"] == "normal"
    seeing.answer("reading", rows=[4], what="label", label="codocyte")
    again = {"queue": listed, "session": "again"}
    assert labeller(path, **again).answer("sheet", label="codocyte", page=0)["rows"] == [4]
    blind = labeller(path, **again, show_given=False)
    assert blind.answer("sheet", label="codocyte", page=0)["rows"] == []
    assert blind.answer("hello")["upcoming"] == [4, 1]


def test_another_queue_can_be_chosen_and_one_that_cannot_is_refused(path):
    ann = labeller(path, cells=cells(label=["normal", None] * 3))
    assert ann.answer("hello")["upcoming"] == [1, 3, 5]
    assert [ann.answer("want", rows=[row])["given"] for row in (0, 1)] == ["normal", None]
    assert ann.answer("queue", queue="all")["upcoming"] == [0, 1, 2, 3, 4, 5]
    state = ann.answer("queue", queue="flagged")
    assert "no queue 'flagged'" in state["error"]
    assert state["queue"] == "all"
    with pytest.raises(ValueError, match="every reading carries its reader's name"):
        Labeller(cells(), path, reader=" ", crops=crops())
    with pytest.raises(ValueError, match="at most 35 have keys"):
        labeller(path, classes=[f"c{i}" for i in range(36)])
    for alike in (("normal", "Normal"), ("burr cell", "burr  cell"), ("target", "target")):
        with pytest.raises(ValueError, match="differ in case or spaces at most; keep one"):
            labeller(path, classes=alike)
    with pytest.raises(ValueError, match="queue 'best': there is no such queue"):
        labeller(path, queue="best")


def test_classes_of_earlier_readings_are_offered_in_one_spelling(path):
    given = pd.DataFrame({"smear": "a.png", "cell": range(3), "reader": "ben", "label": ["rbc", "Normal", "RBC"]})
    append_readings(path, given)
    assert labeller(path).classes == ("codocyte", "hypochromia", "normal", "rbc")
    assert labeller(path, classes=["one", "two"]).classes == ("one", "two")


def test_pictures_are_made_only_for_what_is_asked(path):
    asked = []
    table = pd.concat([cells(100).assign(smear=f"{i}.png") for i in range(100)])
    big = labeller(path, cells=table, crops=lambda row: (asked.append(row), crops(1)[0])[1])
    state = big.answer("hello")
    assert (state["n"], len(state["upcoming"]), asked) == (10_000, AHEAD, [])
    big.answer("want", rows=state["upcoming"])
    big.answer("reading", rows=[0], what="label", label="normal")
    assert asked == state["upcoming"]


def test_a_crop_reaches_the_page_to_the_bit_and_the_field_says_where_the_cell_lies():
    image = np.full((120, 200, 3), 230, np.uint8)
    image[57:64, 97:104] = 0
    table = pd.DataFrame({"smear": "a", "cell": range(3), "x_px": [100, 3, 190.0], "y_px": [60, 8, 118.0]})
    table["radius_px"] = 6.0
    pictures = CellPictures(table, crops_of_array(table, crops(3)), {"a": image}.get)
    for row in range(3):
        crop = cv2.imdecode(np.frombuffer(pictures.crop_file(row), np.uint8), cv2.IMREAD_COLOR)
        np.testing.assert_array_equal(crop[..., ::-1], crops(3)[row])
    field = pictures.field("a")
    shown = cv2.imdecode(np.frombuffer(field.file, np.uint8), cv2.IMREAD_GRAYSCALE)
    assert (field.width, field.height, shown.shape) == (200, 120, (120, 200))
    row, x, y, radius = pictures.places("a")[0]
    np.testing.assert_allclose(np.argwhere(shown < 90).mean(axis=0), [y, x], atol=0.5)
    assert (row, radius) == (0, 6.0)
    assert [pictures.nearest("a", x, 60.0) for x in (100.0, 102.9, 103.1)] == [0, 0, None]
    assert CellPictures(table, crops_of_array(table, crops(3))).field("a") is None
    nowhere = CellPictures(table.assign(radius_px=np.nan), crops_of_array(table, crops(3)), {"a": image}.get)
    assert nowhere.places("a") == ()


def test_a_missed_cell_is_added_and_a_found_one_struck_for_every_command(path):
    table = cells(3, x_px=[20.0, 50.0, 80.0])
    images = {"a.png": np.random.default_rng(1).integers(0, 256, (100, 100, 3), dtype=np.uint8)}
    ann = labeller(path, n=3, cells=table, smear_image=images.get)
    ann.answer("add", smear="a.png", x=50.5, y=20.0)
    (state, _), (field, _) = ann.heard[-2:]
    assert (state["found"], state["n"], state["upcoming"]) == (3, 4, [0, 1, 2, 3])
    assert [cell[0] for cell in field["cells"]] == [0, 1, 2, 3]
    assert ann.answer("add", smear="a.png", x=22.0, y=50.0)["found"] == 0  # there is a cell: the page goes to it
    ann.answer("reading", rows=[3], what="label", label="codocyte")
    ann.answer("reading", rows=[1], what="strike")
    assert ann.answer("hello")["counts"] == {"codocyte": 1, "strike": 1}
    added = load_readings(path).query("cell == 3")
    assert added[["x_px", "y_px", "radius_px"]].drop_duplicates().to_numpy().tolist() == [[50.5, 20.0, 10.0]]
    view = ann.table().set_index("cell")
    assert view["kind"].to_dict() == {3: "label", 1: "strike"}
    assert view["label"].isna().to_dict() == {3: False, 1: True}
    # Another reader finds the added cell in the queue, too, with its picture and without the label.
    bob = Heard(table, path, reader="Bob", crops=crops(3), smear_image=images.get)
    state = bob.answer("hello")
    assert (state["n"], sorted(state["upcoming"]), state["read"]) == (4, [0, 1, 2, 3], 0)
    card = bob.answer("want", rows=[3])
    assert (card["name"], card["label"], card["given"], len(bob.heard[-1][1])) == ("a.png, cell 3", None, None, 1)
    assert ann.answer("undo")["n"] == 4
    # Taken back altogether, it is gone.
    for _ in range(2):
        ann.answer("undo")
    assert labeller(path, n=3, cells=table, smear_image=images.get).answer("hello")["n"] == 3


def test_a_message_that_is_sent_again_is_written_once(path):
    ann = labeller(path)
    message = {"rows": [0], "names": [["a.png", 0]], "what": "label", "label": "normal", "time": 1_700_000_000_123}
    ann.answer("reading", **message)
    later = labeller(path)  # the server was started again
    assert later.answer("reading", again=True, **message)["read"] == 1
    assert len(load_readings(path)) == 1
    assert load_readings(path)["time"].iloc[0].isoformat() == "2023-11-14T22:13:20.123000+00:00"
    message |= {"names": [["a.png", 1]], "rows": [5], "time": 1_700_000_000_999}
    assert later.answer("reading", again=True, **message)["read"] == 2
    undo = {"again": True, "time": 1_700_000_001_500}
    assert later.answer("undo", **undo)["read"] == 1
    assert later.answer("undo", **undo)["read"] == 1
    assert load_readings(path)["cell"].tolist() == [0, 1, 1]
    gone = {"names": [["b.png", 1]], "rows": [1], "what": "unsure", "time": 1_700_000_002_000}
    assert "no such cell" in later.answer("reading", again=True, **gone)["error"]


def test_a_reader_who_labels_in_another_process_is_told(path):
    code = "import sys; from pathlib import Path; from rbcnb.labels.labeller.widget import claim_reader as claim; "
    code += "print(claim(Path(sys.argv[1]), 'Ann'), flush=True); sys.stdin.read()"
    with subprocess.Popen([sys.executable, "-c", code, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout.readline() == b"True\n"
        ann = labeller(path)
        assert ann.answer("hello")["about"]["elsewhere"]
        assert not Heard(cells(), path, reader="Bob", crops=crops()).answer("hello")["about"]["elsewhere"]
        other.stdin.close()
    assert not ann.answer("hello")["about"]["elsewhere"]
    assert not labeller(path).answer("hello")["about"]["elsewhere"]  # the same process, and a cell that is run again


def test_keys_are_letters_of_the_names_where_they_can_be():
    assert class_keys(["codocyte", "hypochromia", "normal"]) == ["c", "h", "n"]
    chula = ["normal cell", "macrocyte", "microcyte", "spherocyte", "target cell", "stomatocyte", "ovalocyte"]
    chula += [
        "teardrop",
        "burr cell",
        "schistocyte",
        "uncategorised",
        "hypochromia",
        "elliptocyte",
        "Heinz body",
        "acanthocyte",
    ]
    keys = class_keys(chula)
    assert len(set(keys)) == 15
    assert all(key in name.lower() for key, name in zip(keys, chula, strict=True))
    assert class_keys(["a", "aa", "aaa", "โรค", "Échinocyte"]) == ["a", "1", "2", "3", "e"]
    assert len(set(class_keys([f"c{i}" for i in range(MOST_CLASSES)]))) == MOST_CLASSES


def test_one_damaged_picture_does_not_hold_up_the_others(path):
    def crop(row: int) -> np.ndarray:
        if row == 1:
            raise OSError("1.png: torn")
        return crops()[row]

    ann = labeller(path, crops=crop)
    ann.answer("want", rows=[0, 1, 2])
    assert [(card["row"], card.get("problem"), len(files)) for card, files in ann.heard] == [
        (0, None, 1), (1, "1.png: torn", 0), (2, None, 1),
    ]  # fmt: skip


def test_the_still_picture_shows_what_comes_next(path):
    ann = labeller(path)
    assert ann.still(4).get_size_inches()[0] == pytest.approx(0.95 * 4 + 0.1)
    for row in range(6):
        ann.answer("reading", rows=[row], what="label", label="normal")
    assert ann.still().axes  # nothing is left, and a page that runs nothing has a picture all the same


def test_in_whatever_state_it_says_what_is_left_and_what_to_do(path):
    table, listed = cells(2, label="normal"), cells(2)[["smear", "cell"]]
    ann = labeller(path, n=2, cells=table)
    assert ann.advice().startswith("Nothing is left to label: each of the 2 cells has a label")
    assert 'choose the queue "all"' in ann.answer("hello")["words"]
    assert ann.answer("queue", queue="all")["words"].startswith('2 of 2 cells of the queue "all" are left to read')
    assert 'The queue "disagreement" holds no cell' in ann.answer("queue", queue="disagreement")["words"]
    again = labeller(path, n=2, cells=table, queue=listed)
    again.answer("reading", rows=[0], what="label", label="normal")
    again.answer("reading", rows=[1], what="skip")
    assert again.advice().startswith("1 of 2 cells")
    advice = again.answer("reading", rows=[1], what="unsure")["words"]
    assert advice.startswith(
        'Every cell of the queue "list" is read, 2 in all, and every reading is saved. Run the cells'
    )


def test_without_a_kernel_there_are_a_picture_and_words(path):
    """What the page shows while the kernel is busy is what a saved notebook holds: both are there when displayed."""
    ann = labeller(path, n=2, cells=cells(2, label="normal"))
    data, _ = ann._repr_mimebundle_()
    assert "application/vnd.jupyter.widget-view+json" in data
    assert data["text/plain"] == ann.words == f"A labeller, reader Ann. {ann.advice()}"
    assert base64.b64decode(data["image/jpeg"]) == ann.picture
    picture = cv2.imdecode(np.frombuffer(ann.picture, np.uint8), cv2.IMREAD_COLOR)
    assert picture.shape == (THUMB_PX, 2 * THUMB_PX, 3)  # the two cells and nothing black beside them
    assert picture.std() > 20
    assert 'alt="A labeller, reader Ann.' in data["text/html"]

    def torn(_row: int) -> np.ndarray:
        raise OSError("torn")

    data, _ = labeller(path, crops=torn)._repr_mimebundle_()
    assert "image/jpeg" not in data
    assert data["text/plain"].startswith("A labeller")


@pytest.fixture(scope="module")
def segmented(tmp_path_factory):
    """What `rbcnb segment` makes of one small smear, and the folder that the smear lies in."""
    folder = tmp_path_factory.mktemp("segmented")
    (folder / "smears").mkdir()
    Image.fromarray(next(synthetic_smears(1, seed=0, n_cells=12)).image).save(folder / "smears" / "NA.png")
    spec = FinderSpec(method="learned", upscale="none", size_px=32)
    segment_files([folder / "smears"], folder / "out", spec=spec)
    return folder


def test_a_folder_of_segmented_cells(segmented):
    ann = folder_labeller(segmented / "out", reader="Ann", smears=segmented / "smears")
    assert ann.path == segmented / "out" / "readings.csv"
    row = len(pd.read_csv(segmented / "out" / "cells.csv")) - 1
    first = np.asarray(Image.open(segmented / "out" / "crops" / "NA" / f"{row:04d}.png"))
    np.testing.assert_array_equal(ann._pictures.crop(row), first)
    assert ann._pictures.field("NA.png") is not None


def test_smears_are_found_where_segment_read_them(segmented, tmp_path):
    shutil.copytree(segmented / "out", tmp_path / "out")
    table = pd.read_csv(tmp_path / "out" / "smears.csv", keep_default_na=False).assign(file="/nowhere/NA.png")
    table.to_csv(tmp_path / "out" / "smears.csv", index=False)
    assert folder_labeller(tmp_path / "out", reader="Ann")._pictures.field("NA.png") is None
    table.assign(file=str(segmented / "smears" / "NA.png")).to_csv(tmp_path / "out" / "smears.csv", index=False)
    ann = folder_labeller(tmp_path / "out", reader="Ann", um_per_px=0.1)
    assert ann._pictures.field("NA.png") is not None
    assert ann._um_per_px("NA.png") == 0.1
    assert f"Next: rbcnb train {tmp_path / 'out'}." in ann._next_step


def test_the_page_holds_a_cell_that_shows_the_labeller(segmented, monkeypatch):
    shown = []
    monkeypatch.setattr(pages, "show_page", lambda _, notebook, **__: shown.append(notebook))
    pages.show_labeller(segmented / "out", port=0, browse=False, say=print, reader="Ann", smears=segmented / "smears")
    (cell,) = nbformat.reads(shown[0], as_version=4).cells
    *imports, last = ast.parse(cell.source).body
    names: dict = {}
    exec(compile(ast.Module(imports, []), "cell", "exec"), names)
    assert isinstance(eval(compile(ast.Expression(last.value), "cell", "eval"), names), Labeller)


def test_a_run_has_its_own_smears_and_crops(tmp_path):
    run = Run.at(tmp_path)
    smear = next(synthetic_smears(1, seed=0, n_cells=12))
    kept = list(run.keep_smears([smear]))
    assert kept == [smear]
    run.save_csv(smear.truth.assign(smear=smear.name, cell=range(12), crop=range(12))[::-1], "cells")
    run.save_crops(crops(12))
    ann = folder_labeller(tmp_path, reader="Ann")
    np.testing.assert_array_equal(ann._pictures.crop(0), crops(12)[11])
    assert np.abs(run.load_smear(smear.name).astype(int) - smear.image).mean() < 3
    assert ann._pictures.field(smear.name) is not None


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ([], "cells.csv: no such table; make it with: rbcnb segment IMAGES --out"),
        (["--smears", "nowhere"], "nowhere: no such folder"),
        (["--readings", "readings.txt"], "readings.txt"),
        (["--reader", ""], "every reading carries its reader's name"),
        (["--classes", "round,=1+1"], "classes: '=1+1': a spreadsheet takes that for a formula"),
        (["--reader", "@Ann"], "reader '@Ann': a spreadsheet takes that for a formula"),
        (["--classes", "round,Round"], "'round' and 'Round' differ in case or spaces at most; keep one"),
        (["--um-per-px", "0"], "--um-per-px 0.0: no size of a pixel"),
        (["--flagged", "none.csv"], "none.csv: there is no such file; name a CSV"),
    ],
)
def test_the_command_refuses_before_it_serves(segmented, tmp_path, capsys, more, message):
    folder = segmented / "out" if more else tmp_path
    assert main(["label", str(folder), "--reader", "Ann", "--no-browser", *more]) == 2
    assert message in capsys.readouterr().err


def test_the_command_begins_with_the_flagged_cells_in_their_order(segmented, tmp_path, monkeypatch):
    shown = []
    monkeypatch.setattr(pages, "show_page", lambda _, notebook, **__: shown.append(nbformat.reads(notebook, 4)))
    pd.DataFrame({"smear": "NA.png", "cell": [5, 2]}).to_csv(tmp_path / "mistakes.csv", index=False)
    where = ["label", str(segmented / "out"), "--smears", str(segmented / "smears"), "--no-browser"]
    assert main([*where, "--reader", "Ann", "--flagged", str(tmp_path / "mistakes.csv")]) == 0
    names = {}
    exec(shown[0].cells[0].source.replace("\n\nfolder_labeller", "\n\nann = folder_labeller"), names)
    assert list(names["ann"].sitting.upcoming()) == [5, 2]
