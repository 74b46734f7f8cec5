"""Slides of notebooks, looked at in a browser without a network."""

import subprocess
import sys
from pathlib import Path

import nbformat
import pandas as pd
import pytest
from browser import chromium_page, missing, walk_slides

from rbcnb.plotting import loss_terms, plot_class_counts

pytest.importorskip("nbconvert")
from rbcnb.workflow import slides

pytestmark = [pytest.mark.slow, pytest.mark.skipif(bool(missing()), reason=f"needs {missing()}")]


def cell(source: str, kind: str, **data: str) -> nbformat.NotebookNode:
    shown = {"slideshow": {"slide_type": kind}}
    if not data:
        return nbformat.v4.new_markdown_cell(source, metadata=shown)
    tags = {"tags": ["exercise:focal"]} if "check" in source else {}
    output = nbformat.v4.new_output("display_data", {name.replace("_", "/"): text for name, text in data.items()})
    return nbformat.v4.new_code_cell(source, metadata=shown | tags, outputs=[output])


@pytest.fixture(scope="module")
def page_file(tmp_path_factory) -> Path:
    table = pd.DataFrame({f"column {i}": range(60) for i in range(30)}).to_html()
    figure = plot_class_counts(pd.Series({"codocyte": 20, "normal": 80}))._repr_mimebundle_()["text/html"]
    cells = [
        cell("# A lesson\n\n$\\alpha$ and $$\\frac{1}{2}$$", "slide"),
        cell("parameters", "skip", text_plain="PARAMETER"),
        cell("## Charts", "slide"),
        cell("loss_terms()", "-", text_html=loss_terms().html()),
        cell("A long and wide table", "subslide"),
        cell("table", "-", text_html=table),
        cell("### Exercise 1\n\nWrite it in Python.", "subslide"),
        cell("check_focal(None)", "-", text_plain="Not yet"),
        cell("A figure", "subslide"),
        cell("figure", "-", text_html=figure),
        *(cell(f"## {i}", "slide") for i in range(5)),  # so far away, reveal.js hides a slide: a chart has no width yet
        cell("## Far away", "slide"),
        cell("loss_terms()", "-", text_html=loss_terms().html()),
    ]
    page, _ = slides.Slides().from_notebook_node(nbformat.v4.new_notebook(cells=cells))
    file = tmp_path_factory.mktemp("slides") / "lesson.html"
    file.write_text(page, encoding="utf-8")
    return file


@pytest.mark.parametrize("size", [(1280, 720), (1280, 800), (1920, 1080), (1024, 768)])
def test_a_slide_shows_all_of_itself_and_asks_nobody(page_file, size):
    with chromium_page(width_px=size[0], height_px=size[1]) as (page, strangers):
        errors = []
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.goto(page_file.as_uri())
        seen = list(walk_slides(page))
        assert not strangers
        assert not errors
    assert {slide["title"]: slide["faults"] for slide in seen if slide["faults"]} == {}
    assert [len(slide["charts"]) for slide in seen] == [0, 3, 0, 0, 0, *[0] * 5, 3]
    assert [slide["title"] for slide in seen if slide["long"]] == [seen[2]["title"]]


def test_keys_scroll_through_a_long_slide_and_go_on(page_file):
    with chromium_page(width_px=1280, height_px=720) as (page, _):
        page.goto(f"{page_file.as_uri()}#/1/1")
        page.wait_for_function("window.Reveal?.isReady()")
        places = []
        for _ in range(6):
            page.keyboard.press("Space")
            places.append(page.evaluate("[Reveal.getIndices().v, Reveal.getCurrentSlide().scrollTop]"))
        scrolled = [top for v, top in places if v == 1]
        assert scrolled == sorted(scrolled)
        assert len(set(scrolled)) > 1
        assert [v for v, _ in places][len(scrolled)] == 2


def test_a_slider_takes_the_arrow_keys_and_the_charts_follow(page_file):
    with chromium_page(width_px=1280, height_px=720) as (page, _):
        page.goto(f"{page_file.as_uri()}#/1")
        page.wait_for_function("document.querySelector('.rbcnb-explorer').views")
        page.focus("input[name=gamma]")
        before = page.inner_text(".rbcnb-reading")
        for _ in range(3):
            page.keyboard.press("ArrowRight")
        assert page.inner_text(".rbcnb-reading") != before
        assert page.evaluate("Reveal.getIndices().h") == 1


def test_an_exercise_is_answered_on_its_slide_and_no_parameter_is_shown(page_file):
    with chromium_page(width_px=1280, height_px=720) as (page, _):
        page.goto(f"{page_file.as_uri()}#/1/2")
        page.wait_for_selector("form.exercise")
        words = page.inner_text("body")
        assert "Not yet" not in words
        assert "Python" not in words  # asks for a formula, not for code
        page.fill("form.exercise input", "-alpha * (1 - p)^gamma * log(p)")
        page.keyboard.press("Enter")
        page.wait_for_function("document.querySelector('form.exercise').innerText.includes('Right')")
    text = page_file.read_text(encoding="utf-8")
    assert "PARAMETER" not in text
    assert "<math" in text


def test_printed_a_long_slide_is_whole(page_file):
    with chromium_page() as (page, _):
        page.goto(f"{page_file.as_uri()}?print-pdf")
        page.wait_for_selector(".pdf-page")
        page.wait_for_function("window.Reveal.isReady()")
        page.emulate_media(media="print")
        parts = "[...document.querySelectorAll('.pdf-page, .pdf-page section')]"
        assert page.evaluate("document.querySelectorAll('.pdf-page').length") >= 11
        assert page.evaluate(f"{parts}.every((part) => part.scrollHeight <= part.clientHeight + 1)")


def test_the_command_of_the_page_writes_a_file_beside_the_notebook(tmp_path):
    nbformat.write(nbformat.v4.new_notebook(cells=[cell("# A lesson", "slide")]), tmp_path / "lesson.ipynb")
    command = [
        sys.executable,
        "-m",
        "nbconvert",
        "--to",
        "rbcnb.workflow.slides.Slides",
        str(tmp_path / "lesson.ipynb"),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    (page,) = tmp_path.glob("*.html")
    assert "A lesson" in page.read_text(encoding="utf-8")


def test_without_reveal_it_says_where_to_get_it(monkeypatch):
    monkeypatch.setattr(slides, "_REVEAL", "no-such-package")
    with pytest.raises(slides.UnfinishedError, match=r"get it with: pip install 'rbcnb\[slides\]'"):
        slides.Slides().from_notebook_node(nbformat.v4.new_notebook(cells=[cell("# A", "slide")]))
