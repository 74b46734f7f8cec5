import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from rbcnb._utils.errors import InputError, MissingFileError
from rbcnb._utils.files import atomic_write, bytes_digest, file_digest, folder_lock, inside, remove_parts

# Ten writers that each read a number, and write it back plus one, under the lock.
COUNTER = """
import errno, sys, time
from pathlib import Path
if {broken}:
    import fcntl
    def flock(*_):
        raise OSError(errno.ENOLCK, "No locks available")
    fcntl.flock = flock
from rbcnb._utils.files import folder_lock
folder = Path(sys.argv[1])
for _ in range(20):
    with folder_lock(folder, wait_s=60):
        n = int((folder / "n").read_text())
        time.sleep(0.001)
        (folder / "n").write_text(str(n + 1))
"""


@pytest.fixture
def no_flock(monkeypatch):
    fcntl = pytest.importorskip("fcntl")

    def flock(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", flock)


@pytest.mark.parametrize("broken", [False, True])
def test_no_writer_loses_an_update_with_or_without_the_systems_locks(tmp_path, broken):
    (tmp_path / "n").write_text("0")
    command = [sys.executable, "-c", COUNTER.format(broken=broken), str(tmp_path)]
    writers = [subprocess.Popen(command) for _ in range(5)]
    assert [writer.wait(120) for writer in writers] == [0] * 5
    assert (tmp_path / "n").read_text() == "100"


@pytest.mark.parametrize("locks", ["real", "soft"])
def test_who_does_not_wait_is_told_who_is_at_work(tmp_path, locks, request):
    if locks == "soft":
        request.getfixturevalue("no_flock")
    with folder_lock(tmp_path):
        with pytest.raises(BlockingIOError, match=rf"{tmp_path}: another process \(pid {os.getpid()} on .*wait for it"):
            folder_lock(tmp_path).__enter__()
        with folder_lock(tmp_path, name=".other"):
            pass
    with folder_lock(tmp_path):
        pass
    assert not list(tmp_path.glob("*.holder"))


@pytest.mark.usefixtures("no_flock")
def test_a_killed_holder_of_a_soft_lock_is_noticed(tmp_path):
    code = (
        COUNTER.format(broken=True)
        .replace("n = int", "os.kill(os.getpid(), 9); n = int")
        .replace("errno,", "errno, os,")
    )
    killed = subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=False)
    assert killed.returncode == -9
    assert list(tmp_path.glob(".lock*")), "it left its lock behind"
    with folder_lock(tmp_path, wait_s=30):
        pass


def test_a_folder_that_is_not_there_is_not_made_by_a_lock(tmp_path):
    with pytest.raises(FileNotFoundError, match="gone"), folder_lock(tmp_path / "gone"):
        pass
    assert not (tmp_path / "gone").exists()


def test_a_failed_write_leaves_the_old_file_and_no_other(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("old")
    with pytest.raises(TypeError), atomic_write(path, durable=True) as part, part.open("w") as file:
        file.writelines(["half", None])
    assert path.read_text() == "old"
    assert [file.name for file in tmp_path.iterdir()] == ["a.csv"]
    with atomic_write(path, durable=True) as part:
        part.write_text("new")
    assert path.read_text() == "new"


def test_digests_are_of_bytes_and_of_regular_files_alone(tmp_path):
    (tmp_path / "a").write_bytes(b"abc")
    assert file_digest(tmp_path / "a") == bytes_digest(b"ab", b"c") == bytes_digest(b"abc")
    for path in (tmp_path, tmp_path / "none", Path("/dev/zero")):
        with pytest.raises(MissingFileError, match=str(path)):
            file_digest(path)


NAMES = ("", ".", "..", "/etc/passwd", "../x", "a/../../x", "..\\x", "\\x", "C:\\x", "a\0b", "link/x", "link")


@pytest.mark.parametrize("name", NAMES)
def test_names_from_files_never_lead_out_of_the_folder(tmp_path, name):
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "link").symlink_to(tmp_path)
    with pytest.raises(InputError, match="lead"):
        inside(folder, name)


def test_names_within_the_folder_are_its_paths(tmp_path):
    assert inside(tmp_path, "tables/a..b.csv") == tmp_path / "tables" / "a..b.csv"


@pytest.mark.parametrize("name", ["C:", "12:30", "tables/12:30.csv"])
def test_a_colon_is_a_sign_of_names_except_on_windows(tmp_path, monkeypatch, name):
    monkeypatch.setattr("rbcnb._utils.files._WINDOWS", False)
    assert inside(tmp_path, name) == tmp_path / name
    monkeypatch.setattr("rbcnb._utils.files._WINDOWS", True)
    with pytest.raises(InputError, match="leads out"):
        inside(tmp_path, name)


def test_what_was_left_half_written_is_removed_and_nothing_else(tmp_path):
    kept = [".notes.part1", ".a.csv", "b.part.csv", ".readings.0123abcd.part.csv", "within/.c.0123abcd.part.csv"]
    for name in (*kept, ".cells.0123abcd.part.csv", ".0f.4567cdef.part.parquet", ".lock.89abcdef.part"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / ".folder.0123abcd.part").mkdir()
    with atomic_write(tmp_path / "now.csv") as part:
        part.touch()
    (tmp_path / "now.csv").rename(part)  # as if it had been killed before its last step
    remove_parts(tmp_path, but=["readings.csv"])
    assert {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()} == set(kept)
    assert (tmp_path / ".folder.0123abcd.part").is_dir()


def test_a_folder_in_the_place_of_a_file_is_named(tmp_path):
    (tmp_path / "a.csv").mkdir()
    with pytest.raises(IsADirectoryError) as error, atomic_write(tmp_path / "a.csv") as part:
        part.write_text("x")
    assert error.value.filename == str(tmp_path / "a.csv")
    assert ".part" not in str(error.value)
    assert [path.name for path in tmp_path.iterdir()] == ["a.csv"]


def test_faults_of_a_temporary_file_name_the_one_that_was_meant(tmp_path):
    with pytest.raises(FileNotFoundError) as error, atomic_write(tmp_path / "a.csv"):
        pass  # nothing is written
    assert error.value.filename == str(tmp_path / "a.csv")
    with pytest.raises(FileNotFoundError) as error, atomic_write(tmp_path / "a.csv"):
        (tmp_path / "other").read_text()
    assert error.value.filename == str(tmp_path / "other")
