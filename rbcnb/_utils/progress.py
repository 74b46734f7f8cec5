"""Where long work stands, told in place: a bar in a notebook, one line in a terminal, plain lines in a log.

A `Teller` takes lines that stay when it is called, and by ``update`` lines that the next one replaces:
`progress_line` is a study's.
"""

import html
import shutil
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:
    pass


class Teller:
    """Plain lines, one below the other, through *say*: what a log or a caller's own function wants.

    ``every_s`` is how often an update is worth its place.
    """

    every_s = 10.0

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say

    def __call__(self, line: str) -> None:
        """A line that stays."""
        self._say(line)

    def update(self, line: str, *, share: float) -> None:  # noqa: ARG002
        """A line that the next one replaces where that can be; *share* of the work is done, 0 to 1."""
        self._say(line)

    def close(self) -> None:
        """Takes away the last update."""


class TerminalTeller(Teller):
    """One line at the end of a terminal, written over until the work is done."""

    every_s = 0.5

    def __init__(self, stream: TextIO) -> None:
        super().__init__(lambda line: print(f"\r\x1b[K{line}", file=stream, flush=True))
        self.stream = stream

    def update(self, line: str, *, share: float) -> None:  # noqa: ARG002
        """Cut to the terminal's width: a line that wraps could not be written over."""
        width = shutil.get_terminal_size().columns - 1
        print(f"\r\x1b[K{line[:width]}", end="", file=self.stream, flush=True)

    def close(self) -> None:
        """Leaves the cursor at the start of an empty line."""
        print("\r\x1b[K", end="", file=self.stream, flush=True)


class NotebookTeller(Teller):
    """One output of a notebook's cell: the lines that stay, and under them a bar while the work goes on.

    The saved notebook keeps the lines alone, as text and as HTML.
    """

    every_s = 0.5

    def __init__(self, display: Callable[..., Any]) -> None:
        """*display* is ``IPython.display.display``."""
        super().__init__(self._stay)
        self.lines: list[str] = []
        self.handle = None
        self.display = display

    def _stay(self, line: str) -> None:
        self.lines.append(line)
        self._show()

    def update(self, line: str, *, share: float) -> None:
        """A bar and the line."""
        bar = f'<progress value="{share:.4f}" max="1" style="width: 20em; vertical-align: middle"></progress> '
        self._show(line, bar)

    def close(self) -> None:
        """Leaves the lines that stay."""
        if self.handle is not None:
            self._show()

    def _show(self, line: str = "", bar: str = "") -> None:
        told = [*self.lines, line] if line else self.lines
        markup = "<br>".join([*map(html.escape, self.lines), *([bar + html.escape(line)] if line else [])])
        data = {"text/plain": "\n".join(told), "text/html": markup}
        if self.handle is None:
            self.handle = self.display(data, raw=True, display_id=True)
        else:
            self.handle.update(data, raw=True)


def teller(say: Callable[[str], None] | None = None) -> Teller:
    """The teller for where this process's words go; *say*, if given, takes plain lines instead."""
    if say is not None:
        return say if isinstance(say, Teller) else Teller(say)
    shell = sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None
    if hasattr(shell, "kernel"):
        from IPython.display import display

        return NotebookTeller(display)
    if sys.stdout.isatty():
        return TerminalTeller(sys.stdout)
    return Teller(lambda line: print(line, flush=True))
