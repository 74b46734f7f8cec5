"""The lesson, notebook 3, as one page: formulas, moving charts and exercises, from a USB stick, without a network."""

import html
import json
import re
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import mistune
import nbformat
from latex2mathml.converter import convert
from mistune.plugins.math import math
from mistune.plugins.table import table

from rbcnb._utils.errors import InputError
from rbcnb._utils.files import atomic_write
from rbcnb.losses.exercises import exercise_data
from rbcnb.plotting.explorers import MIME, asset, vega
from rbcnb.workflow.notebooks import ReproductionError, notebooks_folder, run_notebook

LESSON = "03_loss_exploration.ipynb"
_SET_UP = "skip"  # type of slide that a reader of the page has no use for
_EXERCISE = "exercise:"  # begins the tag of an exercise's cell; its key follows


def write_lesson(target: str | Path, *, say: Callable[[str], None]) -> Path:
    """Runs the lesson and writes it as a page to *target*.

    Raises:
        ReproductionError: a cell failed, or the kernel died.
        InputError: *target* is a folder.
        OSError: *target* cannot be written.
    """
    target = Path(target)
    if target.is_dir():  # found out before the lesson runs, not after
        raise InputError(f"{target}: is a folder; name a file, such as {target / 'lesson.html'}")
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="rbcnb-lesson-") as folder:
        say("the lesson runs once, for a minute or so ...")
        executed = Path(folder) / LESSON
        try:
            run_notebook(notebooks_folder() / LESSON, executed, {"run": str(Path(folder) / "run")})
        except ReproductionError as error:  # its other lines speak of a run's folder, which this has not
            raise ReproductionError(str(error).splitlines()[0]) from None
        notebook = nbformat.read(executed, as_version=4)
    with atomic_write(target) as part:
        part.write_text(lesson_page(notebook), encoding="utf-8")
    say(f"{target}: {target.stat().st_size / 1e6:.1f} MB; it opens in any browser, and needs no network")
    return target


def lesson_page(notebook: nbformat.NotebookNode) -> str:
    """The executed lesson as the text of one HTML file."""
    sections = [f"<section id={name}>\n{''.join(parts)}\n</section>" for name, parts in _sections(notebook)]
    n_sections = len(sections) - 1  # the first one is the beginning
    links = "".join(f'<a href="#section-{i}" aria-label="section {i}">{i}</a>' for i in range(1, n_sections + 1))
    scripts = [vega(), asset("explorer.js"), _text("lesson.js")]
    return "\n".join(
        [
            "<!doctype html>",
            '<html lang="en"><head><meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            "<title>What does focal loss do? A lesson on class imbalance</title>",
            f"<style>{_text('lesson.css')}{asset('explorer.css')}</style></head><body>",
            f'<nav aria-label="sections"><span>Sections</span>{links}</nav><main>',
            *sections,
            f'</main><script type="application/json" id="exercises">{_json(exercise_data())}</script>',
            *(f"<script>{script}</script>" for script in scripts),
            "</body></html>",
        ]
    )


def _sections(notebook: nbformat.NotebookNode) -> Iterator[tuple[str, list[str]]]:
    """Name and pieces of each section; a heading of the second rank begins one."""
    number, parts = 0, []
    for cell in notebook.cells:
        if cell.cell_type == "markdown" and cell.source.startswith("## "):
            yield f"section-{number}", parts
            number, parts = number + 1, []
        parts.append(_cell(cell))
    yield f"section-{number}", parts


def _cell(cell: nbformat.NotebookNode) -> str:
    if cell.cell_type == "markdown":
        return _MARKDOWN(cell.source)
    tags = cell.metadata.get("tags", [])
    if cell.metadata.get("slideshow", {}).get("slide_type") == _SET_UP or "injected-parameters" in tags:
        return ""
    code = f"<details><summary>Code</summary><pre><code>{html.escape(cell.source)}</code></pre></details>"
    if keys := [tag.removeprefix(_EXERCISE) for tag in tags if tag.startswith(_EXERCISE)]:
        return f'<form class="exercise" data-key="{keys[0]}"></form>{code}'
    return "".join(map(_output, cell.outputs)) + code


def _output(output: nbformat.NotebookNode) -> str:
    if output.output_type == "stream":
        return f"<pre>{html.escape(output.text)}</pre>"
    data = output.get("data", {})
    source = "".join(data.get("text/html", ""))
    if explorer := re.search(rf'<script type="{re.escape(MIME)}"[^>]*>(.*?)</script>', source, re.DOTALL):
        return f'<div class="rbcnb-explorer"></div><script type="{MIME}">{explorer[1]}</script>'
    if source:
        plain = re.sub("<style.*?</style>", "", source, flags=re.DOTALL)
        return f'<div class="table">{plain}</div>' if "<table" in plain else plain
    if "image/png" in data:
        words = html.escape("".join(data.get("text/plain", "a picture")), quote=True)
        return f'<img alt="{words}" src="data:image/png;base64,{data["image/png"].strip()}">'
    return f"<pre>{html.escape(''.join(data.get('text/plain', '')))}</pre>"


class _Renderer(mistune.HTMLRenderer):
    """Formulas as MathML, which browsers draw by themselves."""

    def block_math(self, text: str) -> str:
        return f'<div class="formula">{convert(text, display="block")}</div>'

    def inline_math(self, text: str) -> str:
        return convert(text)


_MARKDOWN = mistune.create_markdown(renderer=_Renderer(escape=False), plugins=[math, table])


def _json(data: Any) -> str:
    return json.dumps(data).replace("<", "\\u003c")


def _text(name: str) -> str:
    return Path(__file__).with_name(name).read_text(encoding="utf-8")
