"""What a command says while it works: lines in a log, a bar on a terminal, nothing where it is quiet."""

import io
import sys

from rbcnb._utils import progress as of_progress
from rbcnb._utils.progress import progress, quiet, say


class Terminal(io.StringIO):
    """Takes bars."""

    def isatty(self) -> bool:
        return True


def test_a_log_gets_whole_lines_now_and_then(monkeypatch, capsys):
    clock = iter(range(0, 1000, 10))
    monkeypatch.setattr(of_progress.time, "monotonic", lambda: next(clock))
    assert list(progress("abcdef", total=6, unit="image")) == list("abcdef")
    lines = capsys.readouterr().err.splitlines()
    assert lines == ["2 of 6 images; about 40 s left", "4 of 6 images; about 20 s left"]


def test_a_terminal_gets_a_bar(monkeypatch):
    monkeypatch.setattr(sys, "stderr", Terminal())
    assert list(progress("ab", total=2, unit="image")) == ["a", "b"]
    assert "2/2" in sys.stderr.getvalue()


def test_quiet_prints_nothing_and_ends(monkeypatch, capsys):
    monkeypatch.setattr(of_progress, "LINE_EVERY_S", 0.0)
    with quiet():
        say("a line")
        assert list(progress("ab", total=2, unit="image")) == ["a", "b"]
    assert capsys.readouterr().err == ""
    say("a line")
    assert list(progress("ab", total=2, unit="image")) == ["a", "b"]
    assert capsys.readouterr().err.splitlines() == ["a line", "1 of 2 images; about 0 s left"]
