import json
import os
import subprocess
import sys

import pytest

from rbcnb._utils.files import file_digest
from rbcnb._utils.manifest import (
    MANIFEST,
    ManifestError,
    changed_files,
    is_sealed,
    load_manifest,
    record_files,
    replace_manifest,
    set_aside,
)

WRITER = """
import sys
from pathlib import Path
from rbcnb._utils.manifest import record_files
folder, writer = Path(sys.argv[1]), sys.argv[2]
for i in range(20):
    (folder / f"{writer}-{i}").write_text(f"{writer} {i}")
    record_files(folder, {f"{writer}-{i}": {"seed": i}})
"""


@pytest.fixture
def folder(tmp_path):
    for name in "abc":
        (tmp_path / name).write_text(name)
    record_files(tmp_path, {"a": {"seed": 1}, "b": {}})
    return tmp_path


def test_files_are_recorded_with_their_digests(folder):
    entries = load_manifest(folder)
    assert entries == {
        "a": {"seed": 1, "digest": file_digest(folder / "a")},
        "b": {"digest": file_digest(folder / "b")},
    }
    assert is_sealed(folder)
    assert changed_files(folder, entries) == {}
    record_files(folder, {"c": {}}, gone=["b"])
    assert set(load_manifest(folder)) == {"a", "c"}
    replace_manifest(folder, {"b": {}})
    assert set(load_manifest(folder)) == {"b"}


def test_changed_missing_and_foreign_files_are_told(folder):
    (folder / "a").write_text("other")
    (folder / "b").unlink()
    entries = load_manifest(folder) | {"../x": {"digest": ""}, "/dev/zero": {"digest": "0"}, ".": {"digest": "0"}}
    assert changed_files(folder, entries) == {"a": file_digest(folder / "a"), "b": "", "/dev/zero": "", ".": ""}


def test_writers_at_the_same_time_lose_no_entry(tmp_path):
    writers = [subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path), str(n)]) for n in range(5)]
    assert [writer.wait(120) for writer in writers] == [0] * 5
    entries = load_manifest(tmp_path)
    assert set(entries) == {f"{n}-{i}" for n in range(5) for i in range(20)}
    assert changed_files(tmp_path, entries) == {}


def test_a_damaged_manifest_is_named_and_never_written_over(folder):
    path = folder / MANIFEST
    whole = path.read_bytes()
    damaged = [
        whole[:-3],
        b"",
        b"[]",
        b"null",
        b'{"a": 1}',
        b"\xff",
        b'{"a":' * 100_000,
        whole.replace(b'"seed": 1', b'"seed": 2'),
    ]
    for data in damaged:
        path.write_bytes(data)
        for work in (lambda: load_manifest(folder), lambda: record_files(folder, {"c": {}})):
            with pytest.raises(ManifestError, match=f"{path}: is damaged.*put back a copy"):
                work()
        assert path.read_bytes() == data
    assert [set_aside(folder, MANIFEST).name] == ["manifest.damaged-1.json"]
    record_files(folder, {"c": {}})
    path.write_bytes(b"")
    assert set_aside(folder, MANIFEST).name == "manifest.damaged-2.json"


@pytest.mark.parametrize("make", [os.mkdir, os.mkfifo])
def test_what_is_no_file_is_a_damaged_manifest(folder, make):
    (folder / MANIFEST).unlink()
    make(folder / MANIFEST)
    for work in (lambda: load_manifest(folder), lambda: record_files(folder, {"c": {}})):
        with pytest.raises(ManifestError, match=r"manifest\.json: is damaged.*put back a copy, or rename it"):
            work()
    set_aside(folder, MANIFEST)
    record_files(folder, {"c": {}})
    assert set(load_manifest(folder)) == {"c"}


def test_a_manifest_of_an_earlier_version_is_read(folder):
    entries = load_manifest(folder)
    (folder / MANIFEST).write_text(json.dumps(entries))
    assert load_manifest(folder) == entries
    assert not is_sealed(folder)
    record_files(folder, {"c": {}})
    assert is_sealed(folder)
    assert set(load_manifest(folder)) == {"a", "b", "c"}
