"""The documentation site: its checks find faults, and, with the extra `docs`, it is built and moves in a browser."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import nbformat
import numpy as np
import pytest
from browser import chromium_page, explorer_lines, missing
from PIL import Image

from rbcnb.plotting import loss_terms
from rbcnb.plotting.style import png

ROOT = Path(__file__).parents[1]
LACKING = " ".join(
    name for name in ("sphinx", "myst_nb", "pydata_sphinx_theme") if importlib.util.find_spec(name) is None
)


@pytest.fixture
def build(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "docs")
    import build

    return build


def test_links_to_nowhere_and_things_of_other_hosts_are_found(build, tmp_path):
    (tmp_path / "sub").mkdir()
    (tmp_path / "other.html").write_text('<h2 id="there">T</h2><a href="sub/page.html#top">x</a>')
    (tmp_path / "sub" / "page.html").write_text(
        '<p id="top"><a href="../other.html#there">right</a><a href="https://example.org/">may be clicked</a>'
        '<a href="../gone.html">x</a><a href="../other.html#nowhere">x</a><a href="#lost">x</a><img src="lost.png">'
        '<script src="https://example.org/x.js"></script><link rel="stylesheet" href="//example.org/x.css">'
    )
    assert sorted(build.link_faults(tmp_path)) == [
        "sub/page.html: #lost leads to no such place in the page",
        "sub/page.html: ../gone.html leads to no file",
        "sub/page.html: ../other.html#nowhere leads to no such place in the page",
        "sub/page.html: loads //example.org/x.css from another host",
        "sub/page.html: loads https://example.org/x.js from another host",
        "sub/page.html: lost.png leads to no file",
    ]


def test_pictures_get_light_and_stay_what_they_are(build, tmp_path):
    noise = np.random.default_rng(0).integers(0, 255, (300, 2400, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "large.png")
    large = (tmp_path / "large.png").read_bytes()
    (tmp_path / "light.png").write_bytes(build.light(large))
    assert Image.open(tmp_path / "light.png").size == (1200, 150)
    assert len(build.light(large)) < len(large) / 4


def test_a_notebook_for_the_site_shares_scripts_folds_set_up_and_has_words_for_its_pictures(build):
    drawing = loss_terms(gamma=1.0)
    new = nbformat.v4
    shown = [
        new.new_output("execute_result", data) for data in (drawing._repr_mimebundle_(), {"image/png": drawing.picture})
    ]
    pictures = [new.new_code_cell("1", outputs=[output]) for output in shown]
    cells = [new.new_markdown_cell("## What does it cost?"), *pictures]
    cells[1].metadata["slideshow"] = {"slide_type": "skip"}
    _, explorer, picture = build.light_notebook(new.new_notebook(cells=cells)).cells
    source = explorer.outputs[0].data["text/html"]
    assert source.startswith('<div class="rbcnb-explorer"></div><script type="application/vnd.rbcnb.explorer+json">{')
    assert len(source) < len(drawing.html()) / 5
    assert explorer.metadata["tags"] == ["hide-input"]
    assert picture.metadata["mystnb"] == {"image": {"alt": "What does it cost?"}}
    assert png(drawing.still())  # the drawing itself is left as it was


@pytest.mark.heavy
@pytest.mark.skipif(bool(LACKING), reason=f"pip install 'rbcnb[docs]' to run it, for {LACKING}")
def test_the_site_is_built_by_one_command_and_asks_no_other_host_for_anything(tmp_path):
    subprocess.run([sys.executable, "docs/build.py", str(tmp_path / "site")], check=True, cwd=ROOT)
    pages = sorted((tmp_path / "site").glob("notebooks/0*.html"))
    assert len(pages) == 6
    assert sum(path.stat().st_size for path in (tmp_path / "site").rglob("*") if path.is_file()) < 25e6
    if missing():
        pytest.skip(missing())
    with chromium_page(width_px=390) as (page, strangers):
        for name in ("index", "gallery", "api/losses", "docs/architecture", "notebooks/05_final_evaluation"):
            page.goto(f"file://{tmp_path}/site/{name}.html")
            page.wait_for_load_state("networkidle")
            assert page.evaluate("document.documentElement.scrollWidth") <= 390, f"{name} is wider than a phone"
        page.goto(f"file://{tmp_path}/site/search.html?q=focal")
        page.wait_for_selector("#search-results li a")
        page.goto(f"file://{tmp_path}/site/notebooks/03_loss_exploration.html")
        page.wait_for_selector("math")
        selector = ".rbcnb-explorer:has(input)"
        page.wait_for_function(f"document.querySelector('{selector}')?.views?.length > 0")
        before = explorer_lines(page, selector)
        page.locator(f"{selector} input").first.focus()
        page.keyboard.press("End")
        page.wait_for_timeout(500)
        assert explorer_lines(page, selector) != before
        page.evaluate(f"document.querySelector('{selector}').scrollIntoView()")  # sliders stay in view under the menu
        page.mouse.wheel(0, 200)
        page.wait_for_timeout(500)
        assert page.locator(f"{selector} .rbcnb-controls").first.bounding_box()["y"] >= 79
        assert strangers == []
