import errno
import json
import os
import platform
import shutil
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from rbcnb._utils.errors import InputError, WeightsError
from rbcnb._utils.spreadsheet import is_formula
from rbcnb.cli import main
from rbcnb.columns import BORDER, CELL, FOUND, RADIUS, SCORE, SMEAR, X, Y
from rbcnb.segmentation import batch, finder_net, waifu2x
from rbcnb.segmentation.batch import BatchError, BatchReport, read_crops, segment_files
from rbcnb.segmentation.segment import FinderSpec, segment_smear
from rbcnb.smears.images import SmearError

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
    return segment_files(paths, out, **{"spec": SPEC} | options)


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


def test_no_field_of_the_list_of_errors_is_a_formula(folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run([folder, Path("=1+1.png")], tmp_path / "out")
    errors = pd.read_csv(tmp_path / "out/errors.csv")
    assert "'=1+1.png" in errors["file"].tolist()
    assert not errors.map(is_formula).any(axis=None)


def test_no_image_leaves_no_table(tmp_path):
    report = run([tmp_path / "missing.png"], tmp_path / "out")
    assert (report.n_images, report.n_cells, len(report.errors)) == (0, 0, 1)
    assert not (tmp_path / "out").exists()


def test_nothing_readable_still_gives_a_table(tmp_path):
    (tmp_path / "broken.png").write_bytes(b"no picture")
    report = run([tmp_path / "broken.png"], tmp_path / "out")
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
    assert run([folder], out, replace_cells=True).n_resumed == 2
    assert sorted(path.name for path in (out / "crops/b").iterdir()) == ["0000.png"]

    (out / "crops/b/0000.png").unlink()  # a crop lost
    assert run([folder], out).n_resumed == 2
    (out / "parts/b.json").write_text("{")  # a part damaged
    assert run([folder], out).n_resumed == 2
    assert run([folder], out, spec=replace(SPEC, size_px=32), replace_cells=True).n_resumed == 0  # other settings


@pytest.mark.slow
def test_jobs_change_nothing(folder, tmp_path):
    run([folder], tmp_path / "one")
    report = run([folder], tmp_path / "two", jobs=2)
    assert len(report.errors) == 1
    assert (tmp_path / "two/cells.csv").read_bytes() == (tmp_path / "one/cells.csv").read_bytes()


def test_files_that_share_a_name_are_left_out_and_the_rest_is_done(folder, tmp_path):
    write_smear(tmp_path / "other/B.png", (100, 75))
    report = run([folder, tmp_path / "other"], tmp_path / "out")
    messages = dict(report.errors)
    assert "B.png; rename one" in messages[str(folder / "b.png")]
    assert "b.png; rename one" in messages[str(tmp_path / "other/B.png")]
    assert set(pd.read_csv(tmp_path / "out/cells.csv")[SMEAR]) == {"a b ü.png"}
    # The same file twice is one input.
    assert run([folder, folder / "b.png", folder / "../smears/b.png"], tmp_path / "out").n_cells == 3


def test_a_name_written_in_two_ways_of_unicode_is_one_name(tmp_path):
    for i, name in enumerate(("\u00fc.png", "u\u0308.png")):
        write_smear(tmp_path / str(i) / name, (50, 60))
    report = run([tmp_path / "0", tmp_path / "1"], tmp_path / "out")
    assert (report.n_images, len(report.errors)) == (0, 2)


def test_odd_files_are_named_and_the_rest_is_done(folder, tmp_path):
    (folder / "gone.png").symlink_to(tmp_path / "nowhere.png")
    (folder / "loop.tif").symlink_to(folder / "loop.tif")
    (folder / "zero.png").touch()
    (folder / "text.png").write_text("slide 7, Monday")
    (folder / "float.tif").write_bytes(cv2.imencode(".tif", np.full((9, 9), np.nan, np.float32))[1])
    glass = np.zeros((30, 40, 4), np.uint8)
    (folder / "glass.png").write_bytes(cv2.imencode(".png", glass)[1])
    whole = write_smear(folder / "cut.jpg", (50, 60)).nbytes
    (folder / "cut.jpg").write_bytes((folder / "cut.jpg").read_bytes()[: whole // 60])
    write_smear(folder / ("x" * 245 + ".png"), (50, 60))
    write_smear(folder / ("y" * 226 + ".png"), (50, 60))
    (folder / "up").symlink_to(folder)  # a folder within itself is not walked into

    report = run([folder, folder / "loop.tif"], tmp_path / "out")
    messages = {name.rpartition("/")[2]: message for name, message in report.errors}
    expected = {
        "gone.png": "leads nowhere",
        "loop.tif": "leads nowhere",
        "zero.png": "file is empty; copy it again",
        "text.png": "not an image that can be read; save it as",
        "float.tif": "8 or 16 bit; save it as",
        "glass.png": "transparent; save it without",
        "cut.jpg": "damaged or cut short",
        "broken.jpg": "not an image",
        "x" * 245 + ".png": "too long",
    }
    assert set(messages) == set(expected)
    for name, part in expected.items():
        assert part in messages[name]
    assert (report.n_images, report.n_cells) == (4, 4)


def test_images_of_folders_within_are_not_taken_and_the_mend_is_told(tmp_path):
    assert "no image in this folder; put smears there as .png" in run([tmp_path], tmp_path / "out").errors[0][1]
    write_smear((tmp_path / "smears" / "slide1" / "a.png"), (50, 60))
    report = run([tmp_path / "smears"], tmp_path / "out")
    assert report.n_images == 0
    assert report.errors[0][1].endswith("folders within it, such as slide1, are not looked into: name each of them")
    assert run([tmp_path / "smears" / "slide1"], tmp_path / "out").n_images == 1


def test_a_file_that_vanishes_is_named(folder, tmp_path, monkeypatch):
    listed = batch.expand_inputs

    def then_remove(paths):
        found = listed(paths)
        (folder / "b.png").unlink()
        return found

    monkeypatch.setattr(batch, "expand_inputs", then_remove)
    report = run([folder], tmp_path / "out")
    assert report.n_images == 2
    assert "no such file" in dict(report.errors)[str(folder / "b.png")]


def test_what_was_made_of_a_file_is_said_and_said_again(tmp_path):
    pages = [Image.fromarray(write_smear(tmp_path / "in/a.png", (50, 60))) for _ in range(3)]
    (tmp_path / "in/a.png").unlink()
    pages[0].save(tmp_path / "in/a.tif", save_all=True, append_images=pages[1:])
    for n_resumed in (0, 1):
        report = run([tmp_path / "in"], tmp_path / "out")
        assert (report.n_cells, report.n_resumed, report.errors) == (1, n_resumed, ())
        assert report.notes == ((str(tmp_path / "in/a.tif"), "has 3 pages, only the first is read"),)


def test_a_place_that_cannot_be_written_ends_the_batch_with_a_mend(folder, tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    with pytest.raises(batch.BatchError, match=r"file/out: cannot be written to .*another --out"):
        run([folder], tmp_path / "file/out")

    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    run([folder / "b.png"], tmp_path / "out")
    monkeypatch.setattr(batch, "write_crops", full)
    with pytest.raises(batch.BatchError, match=r"the disk is full.*make room.*carries on"):
        run([folder], tmp_path / "out")
    monkeypatch.undo()
    assert run([folder], tmp_path / "out").n_resumed == 1


@pytest.mark.slow
def test_a_process_that_dies_ends_the_batch_with_a_mend(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(batch, "_try_image", lambda *_: os._exit(9))
    with pytest.raises(batch.BatchError, match="fewer --jobs"):
        run([folder], tmp_path / "out", jobs=2)


def test_no_memory_is_an_error_of_one_file(folder, tmp_path, monkeypatch):
    def greedy(image, spec):
        if not (image < 200).any():
            raise MemoryError
        return segment_smear(image, spec)

    monkeypatch.setattr(batch, "segment_smear", greedy)
    report = run([folder], tmp_path / "out")
    assert report.n_images == 2
    assert "not enough memory" in dict(report.errors)[str(folder / "empty.png")]


@pytest.mark.slow
@pytest.mark.parametrize("jobs", [1, 2])
def test_killed_in_the_middle_it_carries_on_and_ends_the_same(tmp_path, jobs):
    for i in range(24):
        write_smear(tmp_path / f"in/{i:02}.png", (40 + i, 60), (140, 90))
    code = (
        "import sys\nfrom rbcnb.segmentation import FinderSpec, segment_files\n"
        f"spec = FinderSpec(upscale='none', diameter_px=40, size_px=48)\n"
        f"segment_files([sys.argv[1]], sys.argv[2], spec=spec, jobs={jobs})\n"
    )
    out = tmp_path / "out"
    process = subprocess.Popen([sys.executable, "-c", code, str(tmp_path / "in"), str(out)])
    while len(list((out / "parts").glob("[!.]*.json"))) < 3:
        assert process.poll() is None, "ended before it could be killed"
        time.sleep(0.002)
    process.kill()
    process.wait()
    if jobs > 1:
        time.sleep(1.5)  # the workers see that their parent is gone within a second
    n_done = len(list((out / "parts").glob("[!.]*.json")))
    assert not (out / "cells.csv").exists()

    report = run([tmp_path / "in"], out)
    assert (report.n_resumed, report.n_images) == (n_done, 24)
    run([tmp_path / "in"], tmp_path / "whole")
    assert (out / "cells.csv").read_bytes() == (tmp_path / "whole/cells.csv").read_bytes()
    assert not list(out.rglob(".*part*"))  # nothing half done is left
    crops = {path.relative_to(out): path.read_bytes() for path in (out / "crops").rglob("[!.]*.png")}
    whole = tmp_path / "whole"
    assert crops == {path.relative_to(whole): path.read_bytes() for path in (whole / "crops").rglob("[!.]*.png")}


def test_one_batch_at_a_time_works_in_a_folder(folder, tmp_path, monkeypatch):
    out, printed = tmp_path / "out", []

    def meanwhile(image, spec):
        code = (
            "import sys; from rbcnb.segmentation.batch import BatchError, segment_files\n"
            "try: segment_files([sys.argv[1]], sys.argv[2])\n"
            "except BatchError as error: print(error)\n"
        )
        command = [sys.executable, "-c", code, str(folder), str(out)]
        printed.append(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
        monkeypatch.undo()
        return segment_smear(image, spec)

    monkeypatch.setattr(batch, "segment_smear", meanwhile)
    assert run([folder], out).n_cells == 3
    assert f"{out}: another process (pid {os.getpid()} on {platform.node()}) is at work there; wait" in printed[0]
    lock = out / ".lock"  # earlier releases of filelock remove it
    assert not lock.exists() or not lock.read_text()  # two folders of the same work hold the same bytes
    assert run([folder], out).n_resumed == 3  # let go of when done


def test_other_weights_are_other_work(folder, tmp_path, monkeypatch):
    """Wherever the model files lie, and whichever way the folder is named."""
    if (models := waifu2x.find_models()) is None:
        pytest.skip("no Waifu2x model files on this machine")
    copy = shutil.copytree(models, tmp_path / "copy")
    spec = FinderSpec(upscale="waifu2x", upscale_where="crops", diameter_px=40, size_px=80)
    assert run([folder / "b.png"], tmp_path / "out", spec=spec).n_resumed == 0
    monkeypatch.setenv(waifu2x.MODELS_ENV, str(copy))
    assert run([folder / "b.png"], tmp_path / "out", spec=spec).n_resumed == 1
    weights = waifu2x.model_files(copy)[1]
    changed = bytearray(weights.read_bytes())
    changed[-2] ^= 1  # of the last weight's exponent
    other = shutil.copytree(copy, tmp_path / "other") / weights.name
    other.write_bytes(changed)
    monkeypatch.setenv(waifu2x.MODELS_ENV, str(other.parent))
    assert run([folder / "b.png"], tmp_path / "out", spec=spec).n_resumed == 0


def test_other_code_is_other_work(folder, tmp_path, monkeypatch):
    run([folder], tmp_path / "out")
    monkeypatch.setattr("rbcnb.segmentation.batch._stamp", lambda: ["another finder"])
    assert run([folder], tmp_path / "out").n_resumed == 0


def test_one_cell_and_all_overlap(tmp_path):
    write_smear(tmp_path / "in/one.png", (100, 75))
    write_smear(tmp_path / "in/heap.png", *[(60 + 12 * i, 60 + 8 * j) for i in range(7) for j in range(4)])
    report = run([tmp_path / "in"], tmp_path / "out")
    assert report.errors == ()
    assert (pd.read_csv(tmp_path / "out/cells.csv")[SMEAR] == "one.png").sum() == 1


@pytest.mark.parametrize("upscale", ["bicubic", "none"])
def test_places_to_upscale_agree(folder, tmp_path, upscale):
    tables = []
    for where in ("smear", "crops"):
        spec = FinderSpec(upscale=upscale, upscale_where=where, diameter_px=40, size_px=80)
        report = run([folder], tmp_path / where, spec=spec)
        assert report.n_cells == 3
        tables.append(pd.read_csv(report.cells_csv)[[X, Y, RADIUS]].to_numpy())
    assert tables[0] == pytest.approx(tables[1], abs=1.5)


def test_a_smear_too_large_to_upscale_as_a_whole_names_the_mend(tmp_path, monkeypatch):
    monkeypatch.setattr("rbcnb.segmentation.segment.MAX_UPSCALED_PIXELS", 10_000)
    write_smear(tmp_path / "in/a.png", (50, 60))
    spec = FinderSpec(upscale="bicubic", diameter_px=40, size_px=48)
    ((file, message),) = run([tmp_path / "in"], tmp_path / "out", spec=spec).errors
    assert "a.png" in file
    assert "--upscale-where crops" in message
    assert run([tmp_path / "in"], tmp_path / "out", spec=replace(spec, upscale_where="crops")).n_cells == 1


def test_the_command_line_says_where_it_upscaled_what_it_noted_and_what_to_mend(folder, tmp_path, capsys):
    page = Image.fromarray(write_smear(tmp_path / "in/a.png", (50, 60)))
    page.save(tmp_path / "in/b.tif", save_all=True, append_images=[page])
    arguments = ["--upscale", "bicubic", "--upscale-where", "crops", "--diameter", "40", "--size", "80"]
    assert main(["segment", str(tmp_path / "in"), "--out", str(tmp_path / "out"), *arguments]) == 0
    shown = capsys.readouterr()
    assert "2 cells in 2 images" in shown.out
    assert "b.tif: has 2 pages, only the first is read" in shown.err
    assert main(["segment", str(folder), "--out", str(folder / "notes.txt/out"), *arguments]) == 1
    assert "notes.txt/out: cannot be written to" in capsys.readouterr().err


LEARNED = FinderSpec(method="learned", upscale="none", diameter_px=40, size_px=48)


def test_tables_of_the_learned_finder_hold_scores_and_resume(folder, tmp_path):
    first = run([folder], tmp_path / "out", spec=LEARNED)
    assert (first.n_images, first.n_resumed, first.n_cells) == (3, 0, 3)
    table = first.cells_csv.read_bytes()
    cells = pd.read_csv(first.cells_csv)
    assert list(cells.columns) == [*FOUND, BORDER, SCORE, "crop_scale"]
    assert cells[SCORE].between(0.4, 1).all()
    again = run([folder], tmp_path / "out", spec=LEARNED)
    assert (again.n_resumed, again.n_cells, again.cells_csv.read_bytes()) == (3, 3, table)
    assert run([folder], tmp_path / "out", replace_cells=True).n_resumed == 0  # the other finder's cells are others


def test_the_command_line_names_what_it_did_not_read(folder, tmp_path, capsys):
    (folder / "broken.jpg").unlink()
    (folder / "phone.heic").write_bytes(b"\0\0\0\x18ftypheic")
    write_smear(folder / "more" / "c.png", (50, 60))
    arguments = ["--upscale", "none", "--diameter", "40"]
    assert main(["segment", str(folder), "--out", str(tmp_path / "out"), *arguments]) == 0
    shown = capsys.readouterr()
    assert "3 cells in 3 images" in shown.out
    notes = [line for line in shown.err.splitlines() if line.startswith("rbcnb segment: ")]
    assert notes[0].startswith(f"rbcnb segment: note: {folder / 'phone.heic'}: is not read: ")
    assert notes[1].endswith(f"{folder}: folders within it are not looked into: name each of them (more)")
    assert notes[2:] == [f"rbcnb segment: note: {folder / 'empty.png'}: no cell was found"]
    assert not (tmp_path / "out/errors.csv").exists()

    for path in folder.glob("*.png"):
        path.unlink()
    assert main(["segment", str(folder), "--out", str(tmp_path / "out"), *arguments]) == 1
    assert "no image that can be read in this folder" in capsys.readouterr().err


def test_other_weights_of_the_finder_find_cells_anew(folder, tmp_path, monkeypatch):
    finder = finder_net.load_finder()
    specs = {"learned": LEARNED, "paper": SPEC, "without": replace(SPEC, white_cells=False)}
    for name, spec in specs.items():
        run([folder], tmp_path / name, spec=spec)
        assert run([folder], tmp_path / name, spec=spec).n_resumed == 3
    monkeypatch.setattr(finder_net, "load_finder", lambda: replace(finder, digest="of other weights"))
    again = {name: run([folder], tmp_path / name, spec=spec).n_resumed for name, spec in specs.items()}
    assert again == {"learned": 0, "paper": 3, "without": 0}


def test_weights_that_cannot_be_read_are_one_error_of_the_batch(folder, tmp_path, capsys, monkeypatch):
    load, damaged = finder_net.load_finder, tmp_path / "finder.safetensors"
    damaged.write_bytes(finder_net.WEIGHTS.read_bytes()[:5000])
    monkeypatch.setattr(finder_net, "load_finder", lambda: load(damaged))
    with pytest.raises(WeightsError):
        segment_smear(np.full((90, 90, 3), 225, np.uint8), LEARNED)
    out = tmp_path / "out"
    assert main(["segment", str(folder), "--out", str(out), "--upscale", "none"]) == 1
    (line,) = [line for line in capsys.readouterr().err.splitlines() if "rbcnb segment" in line]
    assert str(damaged) in line
    assert not (out / "errors.csv").exists()
    assert main(["segment", str(folder), "--out", str(out), "--upscale", "none", "--method", "paper"]) == 1
    assert str(damaged) not in capsys.readouterr().err  # only the broken image is left out


def test_options_of_the_finders_reach_them_or_are_refused(folder, tmp_path, capsys, monkeypatch):
    command, specs = ["segment", str(folder), "--out", str(tmp_path / "out")], []

    def no_work(*_, spec, **__):
        specs.append(spec)
        return BatchReport(0, 0, 0, (), (), tmp_path / "cells.csv", pd.DataFrame())

    monkeypatch.setattr(batch, "segment_files", no_work)
    for more in ([], ["--min-score", "0.7"], ["--method", "paper"], ["--method", "paper", "--leave-out-white-cells"]):
        assert main(command + more) == 0
    found = [(spec.method, spec.min_score, spec.white_cells) for spec in specs]
    assert found == [("learned", 0.4, True), ("learned", 0.7, True), ("paper", 0.4, True), ("paper", 0.4, False)]
    for more, message in (
        (["--method", "paper", "--min-score", "0.7"], "--min-score is an option of --method learned"),
        (["--leave-out-white-cells"], "--leave-out-white-cells is an option of --method paper"),
        (["--upscale-where", "smear"], "only crops are upscaled"),
        (["--min-score", "1.2"], "min_score must lie between 0 and 1"),
    ):
        capsys.readouterr()
        assert main(command + more) == 2
        assert message in capsys.readouterr().err
    assert len(specs) == 4


def test_algorithm_1_and_the_help_load_no_torch(folder, tmp_path):
    (folder / "broken.jpg").unlink()
    command = ["segment", str(folder), "--out", str(tmp_path / "out"), "--method", "paper", "--upscale", "none"]
    code = (
        "import sys\nfrom rbcnb.cli import main\n"
        "try: main(['segment', '--help'])\nexcept SystemExit: pass\n"
        f"assert main({command}) == 0\nassert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def test_the_learned_finder_resumes_from_the_command_line(folder, tmp_path, capsys, monkeypatch):
    (folder / "broken.jpg").unlink()
    arguments = ["segment", str(folder), "--out", str(tmp_path / "out"), "--upscale", "none"]
    assert main([*arguments, "--diameter", "40"]) == 0
    monkeypatch.setattr(batch, "segment_smear", None)  # nothing is done again
    assert main([*arguments, "--diameter", "40"]) == 0
    assert "3 cells in 3 images" in capsys.readouterr().out
    assert main([*arguments, "--diameter", "41"]) == 1


def test_the_learned_finder_takes_dark_fields(tmp_path):
    image = write_smear(tmp_path / "in/bright.png", (30, 30), (80, 40), (140, 40), (50, 100), (140, 100))
    Image.fromarray(255 - image).save(tmp_path / "in/dark.png")
    report = run([tmp_path / "in"], tmp_path / "out", spec=LEARNED)
    assert report.errors == ()
    cells = pd.read_csv(report.cells_csv)
    bright, dark = (cells[cells[SMEAR] == name].drop(columns=SMEAR).to_numpy() for name in ("bright.png", "dark.png"))
    assert len(bright) == 5
    assert np.array_equal(bright, dark)


def cells_of(out):
    return pd.read_csv(out / "cells.csv").groupby("smear", sort=False).size().to_dict()


def test_rows_of_images_that_are_not_named_come_back_as_they_were_written(folder, tmp_path):
    run([folder / "b.png", folder / "empty.png"], tmp_path / "out")
    tables = [tmp_path / "out" / name for name in ("cells.csv", "smears.csv")]
    before = [table.read_bytes() for table in tables]
    for table, column in zip(tables, (BORDER, "trust"), strict=True):
        rows = pd.read_csv(table)
        rows.assign(**{column: True if column == BORDER else 0.123}).to_csv(table, index=False)
    run([folder / "a b ü.png"], tmp_path / "out")
    cells, smears = (pd.read_csv(table) for table in tables)
    cells[cells[SMEAR] != "a b ü.png"].to_csv(tables[0], index=False, float_format="%.4f")
    smears[smears[SMEAR] != "a b ü.png"].to_csv(tables[1], index=False, float_format="%.4f")
    assert [table.read_bytes() for table in tables] == before


def test_a_later_run_adds_its_images_and_leaves_the_others(folder, tmp_path):
    out = tmp_path / "out"
    run([folder / "b.png"], out)
    report = run([folder / "a b ü.png"], out)
    assert (report.n_images, report.n_kept) == (1, 1)
    smears = pd.read_csv(out / "smears.csv")
    assert list(smears["smear"]) == ["b.png", "a b ü.png"]
    assert list(smears["file"]) == [str(folder / "b.png"), str(folder / "a b ü.png")]

    both = cells_of(out)
    assert list(both) == ["b.png", "a b ü.png"]
    assert run([folder / "b.png"], out).n_resumed == 1  # its rows keep their place
    assert cells_of(out) == both
    (folder / "b.png").write_bytes(b"no image any more")
    report = run([folder / "b.png"], out)  # what was found of it is not lost by an error
    assert len(report.errors) == 1
    assert cells_of(out) == both


def test_an_image_does_not_take_the_place_of_another_one_of_its_name(folder, tmp_path):
    out, other = tmp_path / "out", tmp_path / "other"
    other.mkdir()
    run([folder / "a b ü.png"], out)
    before = (out / "cells.csv").read_bytes()
    write_smear(other / "a b ü.png", (70, 70))
    write_smear(other / "a b ü.tif", (70, 70))
    for path in (other / "a b ü.png", other / "a b ü.tif"):
        report = run([path], out)
        assert report.errors[0][0] == str(path)
        assert "has another image of that name, a b ü.png; rename" in report.errors[0][1]
        assert "--replace" in report.errors[0][1]
        assert (out / "cells.csv").read_bytes() == before
    for path in (other / "a b ü.png", other / "a b ü.tif"):  # readings are of the image that was read
        ((_, message),) = run([path], out, settled={"a b ü.png"}, replace_cells=True).errors
        assert "another image of that name, a b ü.png, whose cells people have read; rename this one" in message
        assert (out / "cells.csv").read_bytes() == before
    assert run([other / "a b ü.png"], out, replace_cells=True).n_images == 1
    assert pd.read_csv(out / "cells.csv")[X].tolist() == pytest.approx([70], abs=2)


def test_cells_that_people_have_read_keep_their_numbers(folder, tmp_path, monkeypatch):
    out = tmp_path / "out"
    run([folder], out)
    before = pd.read_csv(out / "cells.csv")
    monkeypatch.setattr(batch, "_stamp", lambda: "another version")

    report = run([folder], out, settled={"a b ü.png"})
    assert report.n_resumed == 1
    assert [Path(file).name for file, note in report.notes if "people have read" in note] == ["a b ü.png"]
    assert pd.read_csv(out / "cells.csv").equals(before)
    report = run([folder], out, settled={"a b ü.png"}, replace_cells=True)
    assert report.n_resumed == 2  # those that this version has done
    assert not [note for _, note in report.notes if "people have read" in note]


def test_what_people_have_read_does_not_get_other_settings_unseen(folder, tmp_path):
    out = tmp_path / "out"
    run([folder], out)
    changed, known = replace(SPEC, size_px=32), (out / "finder.json").read_text()
    with pytest.raises(BatchError, match=r"3 of its images were done with other settings .* --replace"):
        run([folder], out, spec=changed, settled={"a b ü.png"})
    assert (out / "finder.json").read_text() == known
    (out / "finder.json").unlink()  # as an earlier version left it
    with pytest.raises(BatchError, match=r"finder\.json, which tells their settings, is missing"):
        run([folder], out, settled={"a b ü.png"})
    assert run([folder], out, spec=changed, settled={"a b ü.png"}, replace_cells=True).n_resumed == 0
    assert read_crops(out, "a b ü.png", 1, 32).shape == (1, 32, 32, 3)


def test_crops_that_are_not_what_they_should_be_are_named(folder, tmp_path):
    out = tmp_path / "out"
    run([folder], out)
    path = out / "crops/b/0001.png"
    with pytest.raises(SmearError, match=r"0000\.png: is 48 px wide, not 64; run rbcnb segment over b\.png again"):
        read_crops(out, "b.png", 2, 64)
    path.write_bytes(path.read_bytes()[:60])
    with pytest.raises(SmearError, match=r"crops.b: a crop is missing, or not the one .*; run rbcnb segment over b\."):
        read_crops(out, "b.png", 2, 48)
    path.unlink()
    with pytest.raises(SmearError, match=r"crops.b: a crop is missing"):
        read_crops(out, "b.png", 2, 48)
    run([folder], out)
    (out / "parts/b.json").write_text((out / "parts/b.json").read_text().replace("b.png", "c.png"))
    with pytest.raises(SmearError, match=r"parts.b\.json: missing, damaged, or of an earlier version; run"):
        read_crops(out, "b.png", 2, 48)


@pytest.mark.parametrize("name", ["../b.png/..", "..", "...png", "/etc/passwd/.."])
def test_the_name_of_a_smear_leads_nowhere_else(folder, tmp_path, name):
    run([folder], tmp_path / "out")
    with pytest.raises(InputError, match="leads out of that folder"):
        read_crops(tmp_path / "out", name, 1, 48)


def swap(first, second):
    first_data, second_data = first.read_bytes(), second.read_bytes()
    first.write_bytes(second_data)
    second.write_bytes(first_data)


DAMAGES = {
    "emptied crop": lambda out: (out / "crops/b/0001.png").write_bytes(b""),
    "halved crop": lambda out: halve(out / "crops/b/0000.png"),
    "swapped crops": lambda out: swap(out / "crops/b/0000.png", out / "crops/b/0001.png"),
    "a crop too many": lambda out: shutil.copy(out / "crops/b/0000.png", out / "crops/b/0002.png"),
    "crop in the place of a folder": lambda out: replace_by_folder(out / "crops/b/0000.png"),
    "halved part": lambda out: halve(out / "parts/b.json"),
    "emptied part": lambda out: (out / "parts/b.json").write_bytes(b""),
    "edited part": lambda out: edit(out / "parts/b.json"),
    "part without its digest": lambda out: edit(out / "parts/b.json", without="digest"),
    "list in the part": lambda out: (out / "parts/b.json").write_text("[1]"),
    "swapped parts": lambda out: swap(out / "parts/b.json", out / "parts/a b ü.json"),
    "halved overlay": lambda out: halve(out / "overlays/b.jpg"),
    "swapped overlays": lambda out: swap(out / "overlays/b.jpg", out / "overlays/empty.jpg"),
    "edited table": lambda out: edit_text(out / "cells.csv"),
    "halved table": lambda out: halve(out / "cells.csv"),
    "emptied tables": lambda out: [(out / name).write_bytes(b"") for name in ("cells.csv", "smears.csv")],
    "a table gone": lambda out: (out / "smears.csv").unlink(),
}


def halve(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def replace_by_folder(path):
    path.unlink()
    path.mkdir()


def edit(path, without=""):
    saved = json.loads(path.read_text())
    if without:
        del saved[without]
    saved["cells"]["x_px"][0] += 0.25
    path.write_text(json.dumps(saved))


def edit_text(path):
    path.write_text(path.read_text().replace("b.png,0,", "b.png,7,", 1))


@pytest.mark.parametrize("damage", DAMAGES)
def test_what_is_damaged_is_made_again_and_the_rest_is_not(folder, tmp_path, damage):
    out = tmp_path / "out"
    (folder / "broken.jpg").unlink()
    write_smear(folder / "b.png", (50, 60), (140, 14))  # cells whose crops differ
    run([folder], out, pictures=("overlays",))
    whole = contents(out)
    DAMAGES[damage](out)
    assert contents(out) != whole
    report = run([folder], out, settled=("b.png", "a b ü.png"), pictures=("overlays",))
    assert report.errors == ()
    assert contents(out) == whole
    assert report.n_resumed >= 1
    assert run([folder], out).n_resumed == 3


def contents(out):
    names = ("cells.csv", "smears.csv", "parts/*.json", "crops/*/*", "overlays/*")
    files = [path for name in names for path in out.glob(name) if path.is_file()]
    return {path.relative_to(out): path.read_bytes() for path in files}


def test_damaged_cells_that_people_have_read_are_not_replaced_by_others(folder, tmp_path, monkeypatch):
    out = tmp_path / "out"
    run([folder], out)
    (out / "crops/b/0001.png").write_bytes(b"")
    before = contents(out)
    monkeypatch.setattr(batch, "_stamp", lambda: "another version")
    changed = replace(SPEC, votes=0.31)
    monkeypatch.setattr(batch, "segment_smear", lambda image, _: cut_short(segment_smear(image, changed)))
    report = run([folder / "b.png"], out, settled={"b.png"})
    ((file, message),) = report.errors
    assert file == str(folder / "b.png")
    assert f"b.json in {out / 'parts'}" in message
    assert (
        "other cells are found now; put those files back from a copy, or find the cells again with --replace" in message
    )
    assert {name: data for name, data in contents(out).items() if name.parts[0] != "errors.csv"} == before
    assert run([folder / "b.png"], out, settled={"b.png"}, replace_cells=True).errors == ()


def cut_short(found):
    return replace(found, cells=found.cells.iloc[:1], crops=found.crops[:1])


def test_an_image_does_not_take_the_place_of_another_one_whose_part_is_damaged(folder, tmp_path):
    out = tmp_path / "out"
    run([folder / "b.png"], out)
    (out / "parts/b.json").write_text("{")
    write_smear(tmp_path / "other/b.tif", (70, 70))
    ((_, message),) = run([tmp_path / "other/b.tif"], out).errors
    assert "has another image of that name, b.png; rename" in message
    assert run([tmp_path / "other/b.tif"], out, replace_cells=True).errors == ()
    assert set(pd.read_csv(out / "cells.csv")[SMEAR]) == {"b.tif"}  # b.png has no crops any more


def test_a_scale_that_was_edited_is_found_anew(folder, tmp_path):
    spec = replace(LEARNED, diameter_px=None)
    for i in range(3):
        write_smear(folder / f"more{i}.png", (40 + i, 60), (140, 90), (90, 40))
    run([folder], tmp_path / "out", spec=spec)
    scale = tmp_path / "out/scale.json"
    before = scale.read_text()
    ((name, entry),) = json.loads(before).items()
    scale.write_text(json.dumps({name: entry | {"diameter_px": entry["diameter_px"] * 1.1}}))
    assert run([folder], tmp_path / "out", spec=spec).n_resumed == 6
    assert scale.read_text() == before


def test_a_folder_holds_cells_of_one_setting(folder, tmp_path):
    out = tmp_path / "out"
    run([folder / "a b ü.png"], out)
    changed, before = replace(SPEC, size_px=32), contents(out)
    for paths in ([folder / "b.png"], [folder / "a b ü.png"], [folder]):  # also where nobody has read them
        with pytest.raises(BatchError, match=r"1 of its images were .* other settings \(size_px 48 there, 32 now\)"):
            run(paths, out, spec=changed)
        assert contents(out) == before
    with pytest.raises(BatchError, match="name all its images and say --replace"):
        run([folder / "b.png"], out, spec=changed, replace_cells=True)
    assert run([folder], out, spec=changed, replace_cells=True).n_images == 3  # all of them again
    assert json.loads((out / "finder.json").read_text())["size_px"] == 32


def test_settings_are_those_of_the_cells_that_are_there(folder, tmp_path):
    out = tmp_path / "out"
    run([folder], out)
    before, known = contents(out), (out / "finder.json").read_bytes()
    data = (folder / "b.png").read_bytes()
    for name in ("a b ü.png", "b.png", "empty.png"):  # none can be done
        (folder / name).write_bytes(b"")
    changed = replace(SPEC, size_px=32)
    assert run([folder], out, spec=changed, replace_cells=True).n_images == 0
    assert (out / "finder.json").read_bytes() == known
    assert {name: data for name, data in contents(out).items() if name.parts[0] != "errors.csv"} == before
    (folder / "b.png").write_bytes(data)  # one can: cells of the others are not of its settings
    assert run([folder], out, spec=changed, replace_cells=True).n_images == 1
    assert pd.read_csv(out / "smears.csv")["smear"].tolist() == ["b.png"]
    assert json.loads((out / "finder.json").read_text())["size_px"] == 32


@pytest.mark.parametrize(("text", "what"), [("smear,cell\na,0\n", "row 1 lacks x_px"), ('"', "cannot be read")])
def test_a_damaged_table_is_named_and_nothing_is_written_over_it(folder, tmp_path, text, what):
    out = tmp_path / "out"
    run([folder / "a b ü.png"], out)
    (out / "cells.csv").write_text(text)
    with pytest.raises(BatchError, match=rf"cells\.csv: {what}"):
        run([folder / "b.png"], out)
    assert (out / "cells.csv").read_text() == text


ODD_NAMES = {  # that a Linux file system takes -> what is said of them; "" where they are done
    b"\xff\xfe.png": "its name is not text in UTF-8; rename it",
    b"a\nb.png": "its name has a line break or another control character",
    b"bell\x07.png": "control character",
    "line\u2028separator.png".encode(): "control character",
    b"=1+1.png": "a spreadsheet would run it as a formula; rename it",
    b"@SUM(A1).png": "formula",
    b"+cmd.png": "formula",
    b"-2+3.png": "formula",
    "\uff1dfull width.png".encode(): "formula",
    b"-12.png": "",
    b"+7.5.png": "",
    b"a,b;c\"d'e.png": "",
    b"back\\slash.png": "its name has a backslash",
    b"j\\..\\..\\k.png": "its name has a backslash",
    b"scan 2026-01-31 12:30.png": "",
    b"C:.png": "",
    b" blank .png": "",
    b"NA.png": "",
    b"nul.png": "",
    b"%d {x} $HOME `ls`.png": "",
    "x\u0308\u202e\U0001f9a0.png".encode(): "",
    b"w" * 226 + b".png": "",
    b"v" * 231 + b".png": "too long",
}


def odd_folder(folder):
    write_smear(folder / "plain.png", (50, 60))
    data = (folder / "plain.png").read_bytes()
    for name in ODD_NAMES:
        with open(os.path.join(os.fsencode(folder), name), "wb") as file:
            file.write(data)
    os.mkfifo(folder / "pipe.png")
    os.mkfifo(folder / "pipe")
    return folder


def test_every_name_is_done_or_named_and_the_others_are_done(tmp_path, capsys):
    folder = odd_folder(tmp_path / "in")
    out = tmp_path / "out"
    where = ["--out", str(out), "--upscale", "none", "--diameter", "40", "--size", "48", "--method", "paper"]
    extra = [str(folder / "pipe"), str(tmp_path / ("n" * 300)), "/dev/zero", str(tmp_path / "...png")]
    write_smear(tmp_path / "...png", (50, 60))
    assert main(["segment", str(folder), *extra, *where, "--overlays"]) == 1
    done = {os.fsdecode(name) for name, message in ODD_NAMES.items() if not message} | {"plain.png"}
    cells = pd.read_csv(out / "cells.csv", dtype={SMEAR: str}, keep_default_na=False)
    assert set(cells[SMEAR]) == done
    errors = dict(pd.read_csv(out / "errors.csv").to_numpy().tolist())
    for name, message in ODD_NAMES.items():
        if message:
            shown_name = os.fsdecode(name).encode("utf-8", "backslashreplace").decode()
            for raw in ("\n", "\x07", "\u2028"):
                shown_name = shown_name.replace(raw, raw.encode("unicode_escape").decode())
            assert message in errors[str(folder / shown_name)]
    for path in (folder / "pipe", "/dev/zero"):
        assert "a pipe, a device" in errors[str(path)]
    assert "no such file" in errors[str(tmp_path / ("n" * 300))]
    assert "begins with a dot" in errors[str(tmp_path / "...png")]
    assert (out / "crops/plain/0000.png").is_file()
    lines = capsys.readouterr().err.splitlines()
    assert sum("left out: " in line for line in lines) == len(errors)
    assert any(f"note: {folder / 'pipe.png'}: is not read: no file of data" in line for line in lines)
    for name in done:
        assert read_crops(out, name, 1, 48).shape == (1, 48, 48, 3)
    assert run([folder], out, spec=replace(SPEC, diameter_px=40.0)).n_resumed == len(done)


def test_a_locale_without_letters_kills_no_batch(tmp_path):
    folder = odd_folder(tmp_path / "in")
    environment = os.environ | {"PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "LC_ALL": "C"}
    options = ["--upscale", "none", "--diameter", "40", "--size", "48", "--method", "paper"]
    command = [
        sys.executable,
        "-m",
        "rbcnb.cli",
        "segment",
        os.fsencode(folder),
        "--out",
        "out-\u00fc".encode(),
        *options,
    ]
    ran = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, check=False)
    assert ran.returncode == 1, ran.stderr
    assert b"Traceback" not in ran.stderr
    assert b"set PYTHONUTF8=1" in ran.stderr
    cells = pd.read_csv(tmp_path / "out-\u00fc" / "cells.csv", dtype={SMEAR: str}, keep_default_na=False)
    ascii_names = {name.decode() for name, message in ODD_NAMES.items() if not message and name.isascii()}
    assert set(cells[SMEAR]) == ascii_names | {"plain.png"}


def test_a_name_that_the_folder_does_not_take_is_an_error_of_that_image(folder, tmp_path, monkeypatch):
    write = batch.write_crops

    def picky(place, crops):
        if place.name == "b":
            raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG))
        return write(place, crops)

    monkeypatch.setattr(batch, "write_crops", picky)
    report = run([folder], tmp_path / "out")
    assert report.n_images == 2
    assert "no file of that name can be written" in dict(report.errors)[str(folder / "b.png")]


@pytest.mark.parametrize(
    "name", ["cells.csv", "smears.csv", "errors.csv", "finder.json", "scale.json", "parts/b.json", "overlays/b.jpg"]
)
def test_a_folder_in_the_place_of_a_file_is_named(tmp_path, monkeypatch, name):
    monkeypatch.setattr(batch, "_try_diameter", lambda _: 40.0)
    images = [tmp_path / f"in/{letter}.png" for letter in "abc"]
    for path in images:
        write_smear(path, (50, 60))
    (tmp_path / "out" / name).mkdir(parents=True)
    spec = replace(SPEC, method="learned", diameter_px=None) if name == "scale.json" else SPEC
    with pytest.raises(BatchError, match=rf"out/{name}: .*is a folder, not a file\); remove or rename that folder"):
        run(images, tmp_path / "out", pictures=["overlays"], spec=spec)


@pytest.mark.parametrize("what", ["a link", "a file"])
def test_what_lies_in_the_place_of_crops_is_named_and_left(tmp_path, what):
    write_smear(tmp_path / "a.png", (50, 60))
    crops = tmp_path / "out" / "crops" / "a"
    crops.parent.mkdir(parents=True)
    (tmp_path / "else").mkdir()
    if what == "a link":
        crops.symlink_to(tmp_path / "else")
    else:
        crops.touch()
    with pytest.raises(BatchError, match=f"crops/a: is {what}, not a folder of crops; remove or rename it"):
        run([tmp_path / "a.png"], tmp_path / "out", replace_cells=True)
    crops.unlink()
    assert run([tmp_path / "a.png"], tmp_path / "out").n_cells == 1


def test_pipes_and_deep_json_are_taken_for_damaged_files(tmp_path, monkeypatch):
    monkeypatch.setattr(batch, "_try_diameter", lambda _: 40.0)
    images = [tmp_path / f"in/{letter}.png" for letter in "abc"]
    for path in images:
        write_smear(path, (50, 60))
    spec, out = replace(SPEC, method="learned", diameter_px=None), tmp_path / "out"
    run(images, out, spec=spec)
    first = (out / "scale.json").read_bytes()
    for name in ("scale.json", "parts/a.json", ".lock.holder"):
        (out / name).unlink(missing_ok=True)
        os.mkfifo(out / name)
    (out / "parts/b.json").write_text('{"a":' * 100_000)
    assert batch._known_scales(out / "scale.json") == {}
    assert run(images, out, spec=spec).n_resumed == 1
    (out / "scale.json").write_text('{"a":' * 100_000)
    assert run(images, out, spec=spec).n_resumed == 3
    assert (out / "scale.json").read_bytes() == first
