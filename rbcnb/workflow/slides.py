"""An executed notebook as slides, in one file that needs nothing else: ``--to`` of ``jupyter nbconvert``."""

from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any

import nbformat
from latex2mathml.converter import convert
from nbconvert.exporters import SlidesExporter
from nbconvert.filters.markdown_mistune import IPythonRenderer, MarkdownWithMath
from traitlets.config import Config

from rbcnb._utils.errors import UnfinishedError
from rbcnb.workflow.lesson_page import exercise_form, exercise_key, without_notebook_words

_REVEAL = "sphinx-revealjs"  # on PyPI, and carries reveal.js; nothing else of it is used


class Slides(SlidesExporter):
    """`nbconvert`'s slides less what it fetches from elsewhere: reveal.js is inside, and formulas are MathML.

    Code is left out (``--Slides.exclude_input=False`` shows it). What is taller than a slide scrolls.

    Raises:
        UnfinishedError: reveal.js is not installed.
    """

    export_from_notebook = None  # no item of JupyterLab's menu

    @property
    def default_config(self) -> Config:
        """Of templates: where ours lies, and what is shown of a cell."""
        ours = {
            "Slides": {"exclude_input": True, "exclude_output_prompt": True},
            "TemplateExporter": {"template_file": str(Path(__file__).with_name("slides.html.j2"))},
        }
        return Config(super().default_config, **Config(ours))

    def from_notebook_node(
        self, nb: nbformat.NotebookNode, resources: dict[str, Any] | None = None, **options: Any
    ) -> tuple[str, dict[str, Any]]:
        """The page of slides; exercises are answered in it, as in the lesson's page."""
        nb = without_notebook_words(nb)
        for cell in nb.cells:
            if key := exercise_key(cell):
                cell.outputs = [nbformat.v4.new_output("display_data", {"text/html": exercise_form(key)})]
        self.register_filter("markdown2html", _markdown_to_html)
        return super().from_notebook_node(nb, {**(resources or {}), "reveal_files": _reveal_files()}, **options)


def _markdown_to_html(text: str) -> str:
    return MarkdownWithMath(_Renderer(escape=False, exclude_anchor_links=True)).render(text)


class _Renderer(IPythonRenderer):
    """Formulas as MathML, which browsers draw by themselves."""

    def block_math(self, body: str) -> str:
        return convert(body, display="block")

    def inline_math(self, body: str) -> str:
        return convert(body)


def _reveal_files() -> dict[str, str]:
    """The style and the script of reveal.js, by the ends of their names."""
    try:
        folder = Path(str(distribution(_REVEAL).locate_file("sphinx_revealjs/_static/revealjs/dist")))
        return {end: (folder / f"reveal.{end}").read_text(encoding="utf-8") for end in ("css", "js")}
    except (PackageNotFoundError, OSError):
        raise UnfinishedError("slides need reveal.js; get it with: pip install 'rbcnb[slides]'") from None
