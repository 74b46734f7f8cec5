"""The lesson, notebook 3, as a page: one file for a USB stick, or served, with a kernel behind it."""

import html
import json
import re
import tempfile
import uuid
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
from rbcnb._utils.voila_page import show_page
from rbcnb.losses.exercises import exercise_data
from rbcnb.plotting.explorers import MIME, asset, vega
from rbcnb.workflow.notebooks import ReproductionError, notebooks_folder, run_notebook

LESSON = "03_loss_exploration.ipynb"
_SET_UP = "skip"  # type of slide that a reader of the page has no use for
_EXERCISE = "exercise:"  # begins the tag of an exercise's cell; its key follows
_NOTEBOOK_ONLY = "notebook"  # tag of cells that speak of code, for those who have a notebook before them
_MORE = "more"  # tag of the cell from which on the rest of a section is folded


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


def show_lesson(*, port: int, browse: bool, say: Callable[[str], None]) -> None:
    """Serves a copy of the lesson until interrupted; arguments and errors as of `rbcnb._utils.voila_page.show_page`."""
    lesson = without_notebook_words(nbformat.read(notebooks_folder() / LESSON, as_version=4))
    for cell in lesson.cells:
        if key := exercise_key(cell):  # such a page has no place to write code
            source = "from IPython.display import HTML\nfrom rbcnb.workflow.lesson_page import exercise_form\n\n"
            cell.source = f"{source}HTML(exercise_form({key!r}))"
    hint = f"Ctrl-C ends it; to write the exercises as code, open {LESSON} in JupyterLab"
    show_page("lesson", nbformat.writes(lesson), hint=hint, port=port, browse=browse, say=say)


def lesson_page(notebook: nbformat.NotebookNode) -> str:
    """The executed lesson as the text of one HTML file."""
    sections = [f"<section id={name}>\n{''.join(parts)}\n</section>" for name, parts in _sections(notebook)]
    n_sections = len(sections) - 1  # the first one is the beginning
    links = "".join(f'<a href="#section-{i}" aria-label="section {i}">{i}</a>' for i in range(1, n_sections + 1))
    scripts = [vega(), asset("explorer.js"), _text("exercise.js"), _text("lesson.js")]
    return "\n".join(
        [
            "<!doctype html>",
            '<html lang="en"><head><meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            "<title>What does focal loss do? A lesson on class imbalance</title>",
            f"<style>{_text('lesson.css')}{_text('exercise.css')}{asset('explorer.css')}</style></head><body>",
            f'<nav aria-label="sections"><span>Sections</span>{links}</nav><main>',
            *sections,
            f'</main><script type="application/json" id="exercises">{_json(exercise_data())}</script>',
            *(f"<script>{script}</script>" for script in scripts),
            "</body></html>",
        ]
    )


def _sections(notebook: nbformat.NotebookNode) -> Iterator[tuple[str, list[str]]]:
    """Name and pieces of each section; a heading of the second rank begins one."""
    number, parts, folded = 0, [], False
    for cell in without_notebook_words(notebook).cells:
        if cell.cell_type == "markdown" and cell.source.startswith("## "):
            yield f"section-{number}", [*parts, "</details>" * folded]
            number, parts, folded = number + 1, [], False
        if _MORE in _tags(cell) and not folded:
            heading, _, cell.source = cell.source.partition("\n")
            parts.append(f'<details class="more"><summary>{html.escape(heading.lstrip("# "))}</summary>')
            folded = True
        parts.append(_cell(cell))
    yield f"section-{number}", [*parts, "</details>" * folded]


def without_notebook_words(notebook: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """The lesson for those who see no code: less the cells about code, and less what an exercise asks to be coded.

    The form of an exercise asks by itself; above it only its heading stays.
    """
    kept = [cell for cell in notebook.cells if _NOTEBOOK_ONLY not in _tags(cell)]
    cells = []
    for cell, after in zip(kept, [*kept[1:], None], strict=True):
        if cell.cell_type == "markdown" and after is not None and exercise_key(after):
            cell = nbformat.from_dict(cell | {"source": cell.source.partition("\n")[0]})
        cells.append(cell)
    return nbformat.from_dict(notebook | {"cells": cells})


def exercise_key(cell: nbformat.NotebookNode) -> str:
    """The key of the exercise that *cell* checks, of ``exercises.yaml``; "" where it checks none."""
    return next((tag.removeprefix(_EXERCISE) for tag in _tags(cell) if tag.startswith(_EXERCISE)), "")


def exercise_form(key: str) -> str:
    """The exercise *key* as a piece of a page that needs nothing else: where to type an answer, and the check."""
    place = f"rbcnb-{uuid.uuid4().hex[:12]}"
    return (
        f'<form class="exercise" id="{place}"></form><style>{_text("exercise.css")}</style>'
        f"<script>(() => {{\n{_text('exercise.js')}\n"
        f"showExercise(document.getElementById('{place}'), {_json(exercise_data()[key])});\n}})();</script>"
    )


def _tags(cell: nbformat.NotebookNode) -> list[str]:
    return cell.metadata.get("tags", [])


def _cell(cell: nbformat.NotebookNode) -> str:
    if cell.cell_type == "markdown":
        return _MARKDOWN(cell.source)
    if cell.metadata.get("slideshow", {}).get("slide_type") == _SET_UP or "injected-parameters" in _tags(cell):
        return ""
    if key := exercise_key(cell):
        return f'<form class="exercise" data-key="{key}"></form>'
    code = f"<details><summary>Code</summary><pre><code>{html.escape(cell.source)}</code></pre></details>"
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
