"""Every command with every kind of damage to each file that it reads: a clear line, exit code 1 or 2, no traceback."""

import errno
import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from rbcnb.cli import main
from rbcnb.labels.readings import append_readings

CELLS = pd.DataFrame(
    [(smear, cell, 20.0 + 12 * cell, 30.0, 5.0) for smear in ("a.png", "b.png") for cell in range(6)],
    columns=["smear", "cell", "x_px", "y_px", "radius_px"],
)
JSON = {
    "images": [{"id": 1, "file_name": "a.png"}],
    "categories": [{"id": 1, "name": "normal"}],
    "annotations": [{"image_id": 1, "category_id": 1, "bbox": [15, 25, 10, 10]}],
}
XML = '<annotations><image name="a.png"><points label="normal" points="20,30"/></image></annotations>'


def half(data: bytes) -> bytes:
    return data[: len(data) // 2 - 3]


DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda _: b"",
    "random": lambda _: np.random.default_rng(0).bytes(3000),
    "zeros": lambda data: bytes(len(data)),
    "not utf-8": lambda data: data[:40] + b"\x81\x8d\xff\xfe" + data[40:],
    "an image": lambda _: b"\x89PNG\r\n\x1a\n" + bytes(100),
}
TEXTS = {
    "null": "null",
    "a list": "[1, 2]",
    "a number": "3",
    "a text": '"text"',
    "nothing in it": "{}",
    "deep": "[" * 100_000,
    "wrong types": '{"images": 3, "annotations": {"a": null}, "size_px": []}',
}
OF_JSON = {name: lambda _, text=text: text.encode() for name, text in TEXTS.items()}
OF_CSV = {
    "header only": lambda data: data.splitlines(keepends=True)[0],
    "other columns": lambda _: b"a,b\n1,2\n",
    "words for numbers": lambda data: data.replace(b"30.0", b"many").replace(b"20.0", b"some"),
}
PLACES = ("missing", "a folder", "a pipe", "not to be read")  # what lies at the path, whatever the content
# A command ({f}: the folder of the cells, {t}: the one above), a file that it reads, and the damages that it bears,
# since the file may be missing, or what is damaged is not looked at.
EMPTY_OR_WITHOUT_NUMBERS = {"header only", "words for numbers"}
# Without a line end all of it is a torn last line, of which nobody makes a row: it is told, and set aside.
NO_READINGS = {"missing", "empty", "header only", "zeros"}
LABELS = [("labels.csv", {"not utf-8"}), ("labels.json", set()), ("labels.xml", {"not utf-8"})]
CASES = [
    *((f"import-labels {{t}}/{name} {{f}} --reader bo", f"../{name}", borne) for name, borne in LABELS),
    ("import-labels {t}/labels.csv {f} --reader bo", "cells.csv", {"missing"}),
    ("import-labels {t}/labels.csv {f} --reader bo", "smears.csv", {"missing", "header only", "words for numbers"}),
    ("import-labels {t}/labels.csv {f} --reader bo", "readings.csv", NO_READINGS),
    ("import-labels {t}/other.csv {f}", "../other.csv", {"header only"}),
    ("export-labels {f} {t}/out.csv", "readings.csv", set()),
    ("export-labels {f} {t}/out --as coco", "smears.csv", {"missing", "header only", "words for numbers"}),
    ("export-labels {f}/bare.csv {t}/out.csv", "cells.csv", {"missing"}),
    ("label {f} --reader bo --no-browser", "cells.csv", {"header only"}),
    ("label {f} --reader bo --no-browser", "readings.csv", NO_READINGS),
    ("label {f} --reader bo --no-browser", "smears.csv", {"missing", "header only", "words for numbers"}),
    ("label {f} --reader bo --no-browser --flagged {t}/flagged.csv", "../flagged.csv", EMPTY_OR_WITHOUT_NUMBERS),
    ("label {f} --reader bo --no-browser --probs {t}/probs.csv", "../probs.csv", EMPTY_OR_WITHOUT_NUMBERS),
    ("train {f}", "cells.csv", {"header only"}),
    ("train {f}", "readings.csv", set()),
    ("train {f}", "finder.json", {"nothing in it"}),
    ("count {t}/smears --model {t}/model.safetensors --out {t}/counts", "../model.safetensors", set()),
    ("reproduce --profile {t}/mine.yaml --out {t}/run", "../mine.yaml", {"empty"}),
    ("reproduce --smears {t}/smears --out {t}/run", "../smears/labels.csv", set(PLACES[:3])),
]


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    """A folder as `rbcnb segment` leaves it, with all that the commands read beside it."""
    top = tmp_path_factory.mktemp("whole")
    folder = top / "cells"
    for name in ("a.png", "b.png"):
        (top / "smears").mkdir(exist_ok=True)
        Image.new("RGB", (120, 60), "pink" if name == "a.png" else "white").save(top / "smears" / name)
        for cell in range(6):
            path = folder / "crops" / Path(name).stem / f"{cell:04d}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (16, 16)).save(path)
    CELLS.assign(border=False, crop_scale=1.0).to_csv(folder / "cells.csv", index=False)
    files = [str(top / "smears" / name) for name in ("a.png", "b.png")]
    smears = pd.DataFrame({"smear": ["a.png", "b.png"], "file": files, "diameter_px": 10.0})
    smears.to_csv(folder / "smears.csv", index=False)
    (folder / "finder.json").write_text(json.dumps({"method": "paper", "size_px": 16}))
    append_readings(folder / "readings.csv", CELLS.head(3).assign(label="normal", reader="anna"))
    append_readings(top / "other.csv", CELLS.tail(3).assign(label="normal", reader="cy"))
    append_readings(folder / "bare.csv", CELLS[["smear", "cell"]].head(3).assign(label="normal", reader="anna"))
    labels = CELLS[["smear", "x_px", "y_px"]].assign(label="normal")
    labels.to_csv(top / "labels.csv", index=False)
    labels.to_csv(top / "smears" / "labels.csv", index=False)
    (top / "labels.json").write_text(json.dumps(JSON))
    (top / "labels.xml").write_text(XML)
    CELLS.head(2)[["smear", "cell"]].to_csv(top / "flagged.csv", index=False)
    CELLS[["smear", "cell"]].assign(prob_a=0.3, prob_b=0.7).to_csv(top / "probs.csv", index=False)
    (top / "model.safetensors").write_bytes(b"\x10" + bytes(7) + b'{"a": 1}        ')
    (top / "mine.yaml").write_text("epochs: 1\n")
    return top


def damaged() -> Iterator[tuple[str, str, str]]:
    for command, file, borne in CASES:
        kinds = [*DAMAGES, *PLACES]
        kinds += OF_JSON if file.endswith(".json") else OF_CSV if file.endswith(".csv") else ()
        for kind in kinds:
            if kind not in borne:
                yield command, file, kind


@pytest.mark.parametrize(("command", "file", "kind"), [*damaged()])
def test_damage_is_one_clear_line(whole, tmp_path, monkeypatch, capsys, command, file, kind):
    top = tmp_path / "top"
    shutil.copytree(whole, top)
    table = (top / "cells" / "smears.csv").read_text().replace(str(whole), str(top))
    (top / "cells" / "smears.csv").write_text(table)
    path = (top / "cells" / file).resolve()
    data = path.read_bytes()
    path.unlink()
    if kind == "a folder":
        path.mkdir()
    elif kind == "a pipe":
        os.mkfifo(path)
    elif kind == "not to be read":
        path.write_bytes(data)
        close(path, monkeypatch)
    elif kind != "missing":
        path.write_bytes((DAMAGES | OF_JSON | OF_CSV)[kind](data))
    monkeypatch.setattr("rbcnb.workflow.pages.show_page", lambda *_, **__: pytest.fail("a page was served"))
    monkeypatch.setattr("rbcnb.workflow.notebooks.run_notebook", lambda *_, **__: pytest.fail("a run began"))
    code = main(command.format(f=top / "cells", t=top).split())
    shown = capsys.readouterr()
    assert code in (1, 2), shown
    lines = [line for line in shown.err.splitlines() if ": note: " not in line]
    assert any(path.name in line for line in lines), shown.err
    assert all(len(line) < 700 for line in lines), shown.err
    for technical in (
        "Traceback",
        "[Errno",
        "object has no attribute",
        "not subscriptable",
        "codec can't",
        "No columns",
    ):
        assert technical not in shown.err
    assert any("; " in line for line in lines), shown.err  # a remedy


def close(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Has *path* refuse to be opened, as a file of another user does: whoever is root may read all."""
    for name in ("open", "read_bytes", "read_text"):
        usual = getattr(Path, name)

        def refuse(self, *args, usual=usual, **options):
            if self.resolve() == path:
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(self))
            return usual(self, *args, **options)

        monkeypatch.setattr(Path, name, refuse)


LAUGHS = "a0: &a0 [lol]\n" + "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 12))


@pytest.mark.parametrize(
    "value",
    [
        LAUGHS,
        "[" * 3000,
        "[" + "x, " * 100_000 + "]",
        "x" * 100_000,
        "2020-13-45",
        "!!int ''",
        "9" * 5000,
        "\0",
        "{a: 1}",
    ],
)
@pytest.mark.parametrize("where", ["--set", "--profile"])
def test_values_of_any_size_are_shown_short(tmp_path, capsys, where, value):
    if where == "--set":
        given = [f"epochs={value}"]
    else:
        (tmp_path / "mine.yaml").write_text(value if value == LAUGHS else f"epochs: {value}\n")
        given = [str(tmp_path / "mine.yaml")]
    assert main(["reproduce", "--out", str(tmp_path / "run"), where, *given]) == 2
    message = capsys.readouterr().err
    assert len(message) < 1000
    assert "epochs" in message or "mine.yaml" in message


@pytest.mark.parametrize("value", [".nan", ".inf", "-.inf"])
@pytest.mark.parametrize("name", ["margin", "learning_rate", "alphas"])
def test_no_number_is_no_value(tmp_path, capsys, name, value):
    given = f"{name}=[{value}]" if name == "alphas" else f"{name}={value}"
    assert main(["reproduce", "--out", str(tmp_path / "run"), "--set", given]) == 2
    assert f"{name}: must be a finite number" in capsys.readouterr().err


def test_faults_of_the_system_are_told_in_words(tmp_path, capsys, monkeypatch):
    def full(*_args, **_options):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "runs/cells.csv")

    monkeypatch.setattr("rbcnb.labels.import_export.export_labels", full)
    assert main(["export-labels", str(tmp_path), str(tmp_path / "out")]) == 2
    printed = capsys.readouterr().err
    fault = "runs/cells.csv: the disk is full; make room and run the same command again"
    assert printed == f"rbcnb export-labels: {fault}\n"
