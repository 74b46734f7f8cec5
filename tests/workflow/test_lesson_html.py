"""The lesson as one file, in a real browser: complete, offline, readable on a phone, by keyboard and by ear."""

import re
import shutil
import time

import browser
import numpy as np
import papermill
import pytest
from exercise_answers import check_expression

from rbcnb import cli
from rbcnb.losses.exercises import evaluate, exercise_data
from rbcnb.workflow import lesson_page
from rbcnb.workflow.lesson_page import LESSON, write_lesson
from rbcnb.workflow.notebooks import ReproductionError, notebooks_folder

SMALL = {"toy_cells": 60, "toy_steps": 60, "lesson_steps": 60, "lesson_seeds": 1}
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(bool(browser.missing()), reason=f"needs a browser: {browser.missing()}"),
]


@pytest.fixture(scope="module")
def page_file(tmp_path_factory):
    """The lesson, fitted with as little as it takes, as a file."""
    folder = tmp_path_factory.mktemp("lesson")
    parameters = {"run": str(folder / "run"), **SMALL}
    notebook = papermill.execute_notebook(notebooks_folder() / LESSON, folder / LESSON, parameters, progress_bar=False)
    target = folder / "lesson.html"
    target.write_text(lesson_page.lesson_page(notebook), encoding="utf-8")
    return target


@pytest.fixture(scope="module")
def phone(page_file):
    """The page at a phone's width, all drawn, and what it asked of other hosts."""
    with browser.chromium_page(width_px=390, height_px=800) as (page, strangers):
        asked = []
        page.on("request", lambda request: asked.append(request.url))
        start = time.monotonic()
        page.goto(page_file.as_uri())
        page.wait_for_selector(".rbcnb-explorer svg")
        print(f"first drawing after {time.monotonic() - start:.2f} s")  # told, not judged: machines differ
        page.wait_for_selector("html[data-ready]", timeout=120_000)
        yield page, [url for url in [*strangers, *asked] if not url.startswith(("file:", "data:", "blob:"))]


def test_it_is_one_small_file_that_asks_nobody(page_file, phone):
    assert page_file.stat().st_size < 4e6
    text = page_file.read_text(encoding="utf-8")
    assert not re.search(r"<(script|link|img|iframe)[^>]+(src|href)=[\"']?(https?:|//)", text)
    assert phone[1] == []


def test_it_holds_every_section_drawing_and_exercise(phone):
    page, _ = phone
    assert page.locator("h2").all_inner_texts() == [
        text for text in page.locator("h2").all_inner_texts() if re.match(r"[1-9] of 9\. ", text)
    ]
    assert page.locator("section").count() == 10
    drawings = page.locator(".rbcnb-explorer")
    assert drawings.count() == 11
    assert page.locator(".rbcnb-explorer svg").count() == page.locator(".rbcnb-panels > div").count()
    assert page.locator("form.exercise").count() == 4
    assert page.locator("math").count() > 40
    assert page.locator("details.more").count() == 4
    words = page.inner_text("main")
    for of_notebooks in ("run the cell", "Run the cell", "solutions/", "your line", "`"):
        assert of_notebooks not in words
    assert page.locator("text=$").count() == 0  # no formula is left as it was typed
    assert page.locator("blockquote").count() == 9  # what to take home


def test_nothing_runs_over_the_edge_of_a_phone(phone):
    page, _ = phone
    assert page.evaluate("document.scrollingElement.scrollWidth") == 390
    wide = """[...document.querySelectorAll('main *')].filter(element => {
      const box = element.getBoundingClientRect();
      return box.width && box.right > 391 && !element.closest('.table, .formula, pre');
    }).map(element => element.outerHTML.slice(0, 100))"""
    assert page.evaluate(wide) == []
    formulas = "[...document.querySelectorAll('.formula')].map(place => place.scrollWidth - place.clientWidth)"
    assert max(page.evaluate(formulas)) <= 0


def test_no_letter_is_smaller_than_12_px(phone):
    page, _ = phone
    small = """(function all(root) {
      const inside = element => [element, ...(element.shadowRoot ? all(element.shadowRoot) : [])];
      return [...root.querySelectorAll('*')].flatMap(inside);
    })(document.body).filter(element =>
      [...element.childNodes].some(node => node.nodeType === 3 && node.data.trim()) &&
      !element.closest('script, style, math') && parseFloat(getComputedStyle(element).fontSize) < 12
    ).map(element => element.outerHTML.slice(0, 100))"""
    assert page.evaluate(small) == []


def test_a_screen_reader_hears_names_of_everything(phone):
    page, _ = phone
    assert page.evaluate("[...document.images].filter(image => !image.alt.trim()).length") == 0
    nameless = """[...document.querySelectorAll('input, button, nav, [role=img]')].filter(element =>
      !(element.labels?.length || element.ariaLabel || element.textContent.trim())).map(element => element.outerHTML)"""
    assert page.evaluate(nameless) == []
    assert page.evaluate("document.documentElement.lang") == "en"
    texts = page.evaluate("[...document.querySelectorAll('input[type=range]')].map(input => input.ariaValueText)")
    assert len(texts) == 21
    named = {"focal loss", "priors divided out", "macro F1", "balanced accuracy"}
    assert all(text in named or re.fullmatch(r"-?[\d.]{1,5}( %)?", text) for text in texts)


def test_the_section_that_is_read_is_marked(phone):
    page, _ = phone
    for number in (3, 9, 1):
        page.locator("nav a").nth(number - 1).click()
        page.wait_for_selector(f'nav a[aria-current][href="#section-{number}"]')
        assert page.locator("nav a[aria-current]").count() == 1


def test_on_paper_there_are_drawings_and_no_buttons(phone):
    page, _ = phone
    page.emulate_media(media="print")
    try:
        assert not page.locator("nav").is_visible()
        assert not page.locator("form.exercise button").first.is_visible()
        assert page.locator(".rbcnb-explorer svg").first.is_visible()
        over_drawings = """[...document.querySelectorAll(".rbcnb-explorer")].filter((drawing) =>
          !drawing.querySelector(".rbcnb-controls").hidden &&
          drawing.querySelector(".rbcnb-controls").getBoundingClientRect().bottom >
            drawing.querySelector(".rbcnb-panels").getBoundingClientRect().top + 1).length"""
        heights = page.evaluate("[0, 1, 2, 3].map((part) => part * document.scrollingElement.scrollHeight / 4)")
        for y in heights:  # sliders that stay in view on a screen have their place on paper
            page.evaluate("y => scrollTo(0, y)", y)
            assert page.evaluate(over_drawings) == 0
    finally:
        page.emulate_media(media="screen")
        page.evaluate("scrollTo(0, 0)")


def test_the_command_writes_the_file_whole(tmp_path, monkeypatch, capsys):
    target = tmp_path / "hand" / "out.html"

    def failing(_notebook):
        raise ValueError("no page")

    monkeypatch.setattr(lesson_page, "run_notebook", lambda source, target, _: shutil.copy(source, target))
    monkeypatch.setattr(lesson_page, "lesson_page", failing)
    with pytest.raises(ValueError, match="no page"):
        write_lesson(target, say=print)
    assert not list((tmp_path / "hand").iterdir())
    monkeypatch.setattr(lesson_page, "lesson_page", lambda _: "<!doctype html>")
    assert cli.main(["lesson", "--html", str(target)]) == 0
    assert target.read_text() == "<!doctype html>"
    assert str(target) in capsys.readouterr().out


ANSWERS = [(key, text) for key, data in exercise_data().items() if "names" in data for text, _ in data["mistakes"]]
ANSWERS += [(key, str(data["right"])) for key, data in exercise_data().items()]
ANSWERS += [("gamma", text) for text in ("2.7", "1.6", "2.9", "3.1", "-1", "9", "two", "2,9")]
ANSWERS += [("focal", "-alpha * pow(1 - p, gamma) * " + of) for of in ("log10(p)", "np.log(p, 10)", "log2(p)", "ln(p)")]
ANSWERS += [
    ("focal", text)
    for text in (
        "p + 1",
        "-alpha * p ** gamma",
        "-alpha * (1 - p) ^ gamma * ln(p_t)",
        "−α × (1 − p)^γ × log(p)",
        "+ALPHA * power(1e0 - pt, Gamma) * -torch.log(pt)",
        "-p ** 2 ** .5 / 1.5e-3 / -2 - 3 - 4",
        "1e-9",
        "-alpha * (1 - p",
        "-alpha(1 - p)",
        "-alpha * log p",
        "log(p, 2, 3)",
        "pow(p)",
        "log()",
        "log(0 * p)",
        "p.5",
        "toString(p)",
        "p; 1",
        "p $ 1",
        "(" * 5000,
        "\u0435ps",
    )
]


def test_the_page_says_what_python_says(phone):
    page, _ = phone
    for key, text in ANSWERS:
        wanted = check_expression(key, text)
        found = page.evaluate("([key, text]) => judge(JSON.parse(exercises.textContent)[key], text)", [key, text])
        assert found == {"passed": wanted.passed, "message": wanted.message, "tried": wanted.tried}, (key, text)


def test_page_and_python_compute_the_same_of_any_formula(phone):
    """Formulas drawn at random from the grammar: operators bind alike, and functions are the same."""
    page, _ = phone
    rng = np.random.default_rng(0)

    def drawn(depth: int) -> str:
        kind = rng.integers(0, 8 if depth else 2)
        inside = [drawn(depth - 1) for _ in range(2)] if depth else []
        match kind:
            case 0:
                return str(rng.choice(["p", "alpha", "gamma"]))
            case 1:
                return str(rng.choice(["2", "0.5", ".3", "1e-1", "3."]))
            case 2:
                return f"-{inside[0]}"
            case 3:
                return f"({inside[0]})"
            case 4:
                return f"{rng.choice(['log', 'log10', 'log2', 'exp', 'sqrt'])}({inside[0]})"
            case 5:
                return f"{rng.choice(['pow', 'log'])}({inside[0]}, {inside[1]})"
            case _:
                return f"{inside[0]} {rng.choice(['+', '-', '*', '/', '**', '^'])} {inside[1]}"

    point = {"p": 0.3, "alpha": 1.7, "gamma": 0.6}
    texts = [drawn(4) for _ in range(400)]
    found = page.evaluate(
        """([texts, point]) => texts.map((text) =>
          String(formula(text, JSON.parse(exercises.textContent).focal)(point)))""",
        [texts, point],
    )
    arrays = {name: np.array([value]) for name, value in point.items()}
    for text, value in zip(texts, map(float, found), strict=True):
        np.testing.assert_allclose(value, evaluate(text, arrays)[0], rtol=1e-9, err_msg=text)


def test_an_exercise_is_checked_in_the_page_and_a_third_try_is_shown_more(phone):
    page, _ = phone
    way = exercise_data()["eps"]["way"]
    form = page.locator('form[data-key="eps"]')
    form.locator("input").fill("")
    form.locator("input").press("Enter")
    assert "no answer yet" in form.locator("output").inner_text()
    for text in ("eps *", "nonsense", "eps / (alpha", "log(eps, 1, 2)"):  # what cannot be read is no try
        form.locator("input").fill(text)
        form.locator("input").press("Enter")
        assert way not in form.locator("output").inner_text()
    for number in range(1, 4):
        form.locator("input").fill("eps * alpha")
        form.locator("input").press("Enter")
        page.wait_for_function("!document.querySelector('form[data-key=eps] output').textContent.includes('no answer')")
        page.wait_for_timeout(200)
        text = form.locator("output").inner_text()
        assert text.startswith("Not yet: This is the way back")
        assert (way in text) == (number == 3)
    form.locator("input").fill("eps/alpha")
    form.locator("button").click()
    page.wait_for_selector("form[data-key=eps][data-passed=true]")
    assert form.locator("output").inner_text() == "Right: go on."


def test_a_folder_in_the_place_of_the_file_is_told_before_the_lesson_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(lesson_page, "run_notebook", lambda *_: pytest.fail("the lesson ran"))
    assert cli.main(["lesson", "--html", str(tmp_path)]) == 2
    assert f"{tmp_path}: is a folder; name a file" in capsys.readouterr().err


def test_a_lesson_that_fails_ends_in_a_sentence(tmp_path, monkeypatch, capsys):
    def failing(*_):
        raise ReproductionError("03_loss_exploration, cell 5: ValueError: no\nThe notebook as far as it came: gone")

    monkeypatch.setattr(lesson_page, "run_notebook", failing)
    assert cli.main(["lesson", "--html", str(tmp_path / "lesson.html")]) == 1
    assert capsys.readouterr().err.endswith("03_loss_exploration, cell 5: ValueError: no\n")
    assert not list(tmp_path.iterdir())
