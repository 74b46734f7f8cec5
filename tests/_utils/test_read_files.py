"""What is read back may be anything: the value, or one line with file, cause and remedy."""

import errno
import json
import os
import time

import numpy as np
import pandas as pd
import pytest

from rbcnb._utils.errors import InputError
from rbcnb._utils.read_files import (
    MOST_SHOWN,
    cause_of,
    folder_fault,
    parse_json,
    parse_yaml,
    read_array,
    read_bytes,
    read_json,
    read_table,
    read_text,
    require_file,
    shown,
    system_fault,
)

REMEDY = "make it again"
READERS = {
    "x.json": read_json,
    "x.csv": read_table,
    "x.parquet": read_table,
    "x.npy": read_array,
    "x.txt": read_text,
}


def one_line(error: pytest.ExceptionInfo, path: object) -> str:
    message = str(error.value)
    assert message.startswith(f"{path}: ")
    assert message.endswith(f"; {REMEDY}")
    assert "\n" not in message
    assert "[Errno" not in message
    return message


@pytest.mark.parametrize("name", READERS)
def test_what_is_whole_is_read(tmp_path, name):
    path = tmp_path / name
    table = pd.DataFrame({"a": [1, 2]})
    {
        "x.json": lambda: path.write_text('\ufeff{"a": 1}', encoding="utf-8"),
        "x.csv": lambda: table.to_csv(path, index=False),
        "x.parquet": lambda: table.to_parquet(path),
        "x.npy": lambda: np.save(path, np.arange(3)),
        "x.txt": lambda: path.write_text("é", encoding="utf-8"),
    }[name]()
    found = READERS[name](path, remedy=REMEDY)
    wanted = {"x.json": {"a": 1}, "x.csv": table, "x.parquet": table, "x.npy": np.arange(3), "x.txt": "é"}[name]
    assert np.array_equal(found, wanted)


@pytest.mark.parametrize("name", READERS)
def test_every_damage_is_one_line(tmp_path, name):
    path = tmp_path / name
    read = READERS[name]
    with pytest.raises(InputError, match="no such file") as error:
        read(path, remedy=REMEDY)
    one_line(error, path)
    path.mkdir()
    with pytest.raises(InputError, match="a folder") as error:
        read(path, remedy=REMEDY)
    one_line(error, path)
    path.rmdir()
    os.mkfifo(path)
    with pytest.raises(InputError, match="a pipe") as error:  # and it does not wait for somebody to write
        read(path, remedy=REMEDY)
    one_line(error, path)
    path.unlink()
    for data in (b"", b"\xff\xfe\x00\xd8random" * 20, bytes(range(128, 256))):
        path.write_bytes(data)
        if name == "x.txt" and not data:
            continue  # an empty text is a text
        with pytest.raises(InputError) as error:
            read(path, remedy=REMEDY)
        one_line(error, path)


def test_files_that_nobody_may_read_say_so(tmp_path, monkeypatch):
    path = tmp_path / "x.json"
    path.write_text("{}")

    def refuse(self, *_):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(self))

    monkeypatch.setattr(type(path), "open", refuse)  # whoever is root may read all
    with pytest.raises(InputError, match=r"x\.json: this user may not read or write it; change its permissions"):
        read_json(path, remedy=REMEDY)


@pytest.mark.parametrize("text", ["null", "[1]", "3", '"text"', "[" * 100_000, "1" * 5000, '{"a": 1', "{}"])
def test_json_that_is_no_object_with_those_names_is_refused(tmp_path, text):
    path = tmp_path / "x.json"
    path.write_text(text)
    with pytest.raises(InputError) as error:
        read_json(path, remedy=REMEDY, names=["b"])
    assert len(one_line(error, path)) < len(str(path)) + 2 * MOST_SHOWN


@pytest.mark.parametrize("depth", [102, 300, 900, 100_000])
def test_deep_json_is_no_json(depth):
    """Where it can be read, what is written back of it could not be."""
    for text in ("[" * depth + "]" * depth, '{"a":' * depth + "1" + "}" * depth, "[" * depth):
        with pytest.raises(ValueError, match=r"^(it is nested too deeply|Expecting value.*)$"):
            parse_json(text)
    assert parse_json("[[1], {}] ") == [[1], {}]
    assert parse_json(json.dumps([[n] for n in range(200)])) == [[n] for n in range(200)]


def test_tables_lack_no_column_that_is_needed(tmp_path):
    path = tmp_path / "x.csv"
    path.write_text("a,b\n1,2\n")
    assert list(read_table(path, remedy=REMEDY, columns=["b"], dtype=str)["b"]) == ["2"]
    with pytest.raises(InputError, match="row 1 lacks c, d") as error:
        read_table(path, remedy=REMEDY, columns=["a", "c", "d"])
    one_line(error, path)


def test_arrays_run_nothing_and_are_as_large_as_they_say(tmp_path):
    path = tmp_path / "x.npy"
    np.save(path, np.zeros(100))
    whole = path.read_bytes()
    for data in (whole[:500], whole[:40], whole.replace(b"(100,)", b"(9999999999999,)"), b"PK\x03\x04" + whole):
        path.write_bytes(data)
        for mode in ("r", None):
            with pytest.raises(InputError) as error:
                read_array(path, remedy=REMEDY, mmap_mode=mode)
            one_line(error, path)
    np.save(path, np.array([object()]), allow_pickle=True)
    with pytest.raises(InputError):
        read_array(path, remedy=REMEDY)


def test_errors_are_of_the_kind_asked_for(tmp_path):
    with pytest.raises(RuntimeError, match="no such file"):
        read_bytes(tmp_path / "x", remedy=REMEDY, error=RuntimeError)
    with pytest.raises(RuntimeError, match="is a folder"):
        require_file(tmp_path, remedy=REMEDY, error=RuntimeError)


LAUGHS = "a0: &a0 [lol]\n" + "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 12))


NO_YAML = ["{a: b", "2020-13-45", "!!float a", "!!timestamp x", "!!bool x", "!!int ''", "!!python/object:os.system {}"]
NO_YAML += [
    "9" * 5000,
    "? [1]\n: 2",
    "a: b: c",
    "\t",
    "- 1\nb: 2",
    "x" * 2_000_000,
    "\0",
    "[" * 200 + "]" * 200,
    LAUGHS,
]


@pytest.mark.parametrize("text", NO_YAML)
def test_yaml_is_bounded_and_its_faults_are_one_line(text):
    start = time.process_time()
    with pytest.raises(InputError, match=r"^--set x: ") as error:
        parse_yaml(text, "--set x")
    assert time.process_time() - start < 1
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 3 * MOST_SHOWN


def test_yaml_of_settings_is_read():
    assert parse_yaml("epochs: 3\nalphas: [0.5, 1.0]\n", "x") == {"epochs": 3, "alphas": [0.5, 1.0]}
    assert parse_yaml("", "x") is None


@pytest.mark.parametrize("text", ["a: 1\nb: 2\na: 3\n", "c: {d: 1,\n d: 1,\n a: 2, a: 2}", "b:\n- 1\n? a\n: 1\n'a': 1"])
def test_yaml_with_a_key_twice_is_refused(text):
    with pytest.raises(InputError, match=r"^x\.yaml: .*line [2-5]: the key '[ad]' is there twice"):
        parse_yaml(text, "x.yaml")


def test_times_and_numbers_with_a_zero_before_them_are_text():
    text = "[12:30, 1:30.5, 010, -012, 0, 0.5, 1e-3, 1.0e-3, 12, 0x1F, .inf]"
    found = parse_yaml(text, "x")
    assert found == ["12:30", "1:30.5", "010", "-012", 0, 0.5, "1e-3", 0.001, 12, 31, float("inf")]


def test_values_are_shown_short():
    nested = ["lol"]
    for _ in range(9):
        nested = [nested] * 10
    start = time.process_time()
    for value in (nested, "x" * 10_000, 10**5000, {n: n for n in range(1000)}, np.arange(1000), [["é" * 500]] * 9):
        assert 0 < len(shown(value)) <= MOST_SHOWN
    assert time.process_time() - start < 1
    assert shown("a") == "'a'"
    assert shown([1.5, None]) == "[1.5, None]"


def test_faults_of_the_system_name_file_cause_and_remedy():
    full = system_fault(OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "cells.csv"))
    assert full == "cells.csv: the disk is full; make room and run the same command again"
    denied = system_fault(PermissionError(errno.EACCES, os.strerror(errno.EACCES), "x"))
    assert denied.startswith("x: this user may not read or write it; change")
    assert system_fault(OSError("as it is")) == "as it is"
    there = IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), "out/cells.csv")
    fault = "out/cells.csv: cannot be written to (is a folder, not a file); remove or rename that folder"
    assert folder_fault("out", there) == fault
    assert cause_of(ValueError("first\nsecond")) == "first"
    assert cause_of(ValueError()) == "ValueError"
