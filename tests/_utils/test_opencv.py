"""Where OpenCV's system libraries are missing, a command and a notebook say so in one line."""

import subprocess
import sys

import pytest

from rbcnb._utils.code_digest import PACKAGE

# What Python says where libgl1 is not installed.
FAKE = 'raise ImportError("libGL.so.1: cannot open shared object file: No such file or directory")\n'
SENTENCE = (
    "OpenCV needs a library that this system lacks (libGL.so.1); "
    "on Debian and Ubuntu get it with: sudo apt-get install libgl1 libglib2.0-0"
)
# A kernel's cell; the shell prints what an error shows.
NOTEBOOK = """
from IPython.core.interactiveshell import InteractiveShell

shell = InteractiveShell()
shell._showtraceback = lambda kind, error, lines: print("\\n".join(lines))
shell.run_cell("from rbcnb.workflow import begin_notebook")
"""


@pytest.fixture
def without_libgl(tmp_path, monkeypatch):
    (tmp_path / "cv2.py").write_text(FAKE)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=":")


def run(*arguments: str) -> subprocess.CompletedProcess:
    command = [sys.executable, *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


@pytest.mark.usefixtures("without_libgl")
def test_a_command_says_it_in_one_line(tmp_path):
    done = run("-m", "rbcnb.cli", "segment", str(tmp_path), "--out", str(tmp_path / "out"))
    assert (done.returncode, done.stderr) == (1, f"rbcnb segment: {SENTENCE}\n")


@pytest.mark.usefixtures("without_libgl")
def test_so_does_a_notebook():
    assert run("-c", NOTEBOOK).stdout == f"MissingLibraryError: {SENTENCE}\n"


def test_no_module_uses_opencv_in_another_way():
    sources = {path: path.read_text(encoding="utf-8") for path in PACKAGE.rglob("*.py")}
    direct = [
        path.name for path, source in sources.items() if "import cv2\n" in source.replace("opencv import cv2", "")
    ]
    assert direct == []
