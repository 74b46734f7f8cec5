#!/usr/bin/env python
"""Builds the documentation site, without a network: ``pip install -e ".[docs]" && python docs/build.py OUT``.

The pages are README.md, CONTRIBUTING.md, CHANGELOG.md and docs/*.md as they are, the six notebooks executed, a gallery
of figures/, and the public names of each folder from their docstrings. ``--run RUN`` takes the notebooks of a finished
run; otherwise ``rbcnb reproduce --profile smoke`` makes one. A warning of Sphinx, a link to nowhere and a page that
loads something from another host end the build with status 1.
"""

import argparse
import base64
import html
import importlib
import inspect
import io
import re
import shutil
import subprocess
import sys
import tempfile
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import nbformat
import yaml
from PIL import Image

from rbcnb.plotting.explorers import MIME, asset, vega

ROOT = Path(__file__).resolve().parents[1]
WIDTH_PX, THUMBNAIL_PX, COLOURS = 1200, 480, 192
FOLDERS = re.findall(r"- `rbcnb\.(\w+)`", (ROOT / "rbcnb" / "__init__.py").read_text(encoding="utf-8"))
# Page of the menu -> its heading, a sentence, and its pages.
MENU = {
    "guides": (
        "How to",
        "What people do with the package, a page each.",
        "teaching reproduce lab labelling labels python losses add_loss add_network cluster scale install",
    ),
    "notebooks": (
        "Notebooks",
        "Executed on rendered smears in the profile `smoke`, which runs every stage once: small, and of no animal. "
        "The sliders of notebook 3 move here, too.",
        "",
    ),
    "gallery": ("Gallery", "", ""),
    "api": ("API", "The public names of each folder, in the order in which data walks through them.", ""),
    "background": (
        "Background",
        "What was found, how, and how the package is built.",
        "results study paper benchmarks finder architecture trust faults ../CONTRIBUTING ../CHANGELOG",
    ),
}
# Vega once for all drawings of a page, where each drawing of a notebook brings its own. In a function, since it has
# names that Sphinx's scripts have, too.
_EXPLORERS = """
(async () => {
  %s
  %s
  for (const root of document.querySelectorAll(".rbcnb-explorer")) {
    await showExplorer(root, JSON.parse(root.nextElementSibling.textContent), window.rbcnbVega);
  }
})();"""


def main() -> int:
    """The command; returns its exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path, help="folder of the site; what it holds is replaced")
    parser.add_argument("--run", type=Path, help="a finished run, whose notebooks are shown")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="rbcnb-site-") as work:
        run, pages = arguments.run, Path(work) / "pages"
        if run is None:
            run = Path(work) / "run"
            command = [sys.executable, "-m", "rbcnb.cli", "reproduce", "--profile", "smoke", "--out", str(run)]
            subprocess.run(command, check=True)
        gather_pages(pages, run / "notebooks")
        built = Path(work) / "site"
        sphinx = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-c", str(pages / "docs")]
        status = subprocess.run([*sphinx, "-d", str(Path(work) / "trees"), str(pages), str(built)]).returncode
        faults = link_faults(built)
        print(*faults, sep="\n", file=sys.stderr)
        shutil.rmtree(arguments.out, ignore_errors=True)
        shutil.copytree(built, arguments.out)
    size = sum(path.stat().st_size for path in arguments.out.rglob("*") if path.is_file())
    print(f"{arguments.out / 'index.html'}: the site, {size / 1e6:.1f} MB")
    return int(bool(status or faults))


def gather_pages(pages: Path, executed: Path) -> None:
    """Puts the sources of all pages into *pages*, at their places in the repository, so that their links hold."""
    for path in (
        *ROOT.glob("C*.*"),
        *ROOT.glob("docs/*.*"),
        *ROOT.glob("docs/pictures/*"),
        *ROOT.glob("rbcnb/paper_tables/*"),
    ):
        (pages / path.relative_to(ROOT)).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, pages / path.relative_to(ROOT))
    for folder in ("_static/figures", "_static/thumbnails", "notebooks/solutions", "api"):
        (pages / folder).mkdir(parents=True)
    for path in ROOT.glob("figures/*.png"):
        (pages / "_static" / "figures" / path.name).write_bytes(light(path.read_bytes()))
        (pages / "_static" / "thumbnails" / path.name).write_bytes(light(path.read_bytes(), THUMBNAIL_PX))
    shutil.copytree(pages / "_static" / "figures", pages / "figures")  # where the pages have them
    notebooks = {path.name: executed / path.name for path in sorted(ROOT.glob("notebooks/*.ipynb"))}
    notebooks["solutions/03_answers.ipynb"] = ROOT / "notebooks" / "solutions" / "03_answers.ipynb"
    for name, path in notebooks.items():
        nbformat.write(light_notebook(nbformat.read(path, as_version=4)), pages / "notebooks" / name)
    (pages / "_static" / "explorers.js").write_text(_EXPLORERS % (vega(), asset("explorer.js")), encoding="utf-8")
    style = (ROOT / "docs" / "site.css").read_text(encoding="utf-8")
    (pages / "_static" / "site.css").write_text(style + asset("explorer.css"), encoding="utf-8")
    readme = (ROOT / "README.md").read_text(encoding="utf-8").replace("](figures)", "](gallery.md)")
    (pages / "index.md").write_text(readme + _toctree(MENU, hidden=True), encoding="utf-8")
    for folder in FOLDERS:
        (pages / "api" / f"{folder}.md").write_text(api_page(folder), encoding="utf-8")
    found = {"notebooks": [f"notebooks/{name}" for name in notebooks], "api": [f"api/{folder}" for folder in FOLDERS]}
    for name, (title, sentence, listed) in MENU.items():
        entries = found.get(name) or [f"docs/{entry}".replace("docs/../", "") for entry in listed.split()]
        body = gallery() if name == "gallery" else _toctree(entries)
        (pages / f"{name}.md").write_text(f"# {title}\n\n{sentence}\n\n{body}", encoding="utf-8")


def _toctree(entries, *, hidden: bool = False) -> str:
    return "\n".join(["\n```{toctree}", ":maxdepth: 1", *[":hidden:"] * hidden, "", *entries, "```\n"])


def light(png: bytes, width_px: int = WIDTH_PX) -> bytes:
    """A PNG file of few colours, at most *width_px* wide: what a phone wants to load."""
    image, stream = Image.open(io.BytesIO(png)).convert("RGB"), io.BytesIO()
    image.thumbnail((width_px, 10 * width_px), Image.Resampling.LANCZOS)
    image.quantize(COLOURS).save(stream, "PNG", optimize=True)
    return min(stream.getvalue(), png, key=len)


def light_notebook(notebook: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """An executed notebook as the site shows it: light pictures with words, and drawings that share their scripts."""
    heading = ""
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            heading = next(iter(re.findall(r"^#+ (.*)", cell.source, re.M)), heading)
            continue
        if cell.metadata.get("slideshow", {}).get("slide_type") == "skip":
            cell.metadata["tags"] = [*cell.metadata.get("tags", []), "hide-input"]  # set-up: folded
        for output in cell.get("outputs", []):
            data = output.get("data", {})
            data.pop("application/vnd.jupyter.widget-view+json", None)  # has no kernel here
            if source := data.get("text/html"):
                data["text/html"] = _light_html(source)
            elif "image/png" in data:
                data["image/png"] = _light_base64(data["image/png"])
                words = data.get("text/plain", "<")
                cell.metadata["mystnb"] = {"image": {"alt": heading if words.startswith("<") else words}}
    return notebook


def _light_base64(encoded: str) -> str:
    return base64.b64encode(light(base64.b64decode(encoded))).decode("ascii")


def _light_html(source: str) -> str:
    if explorer := re.search(rf'<script type="{re.escape(MIME)}"[^>]*>(.*?)</script>', source, re.DOTALL):
        return f'<div class="rbcnb-explorer"></div><script type="{MIME}">{explorer[1]}</script>'
    picture = re.compile(r'(?<=src="data:image/png;base64,)[^"]+')
    return picture.sub(lambda found: _light_base64(found[0]), source)


def gallery() -> str:
    """The committed figures, each a small picture that opens the large one, with the report's caption."""
    captions = yaml.safe_load((ROOT / "rbcnb" / "workflow" / "captions.yaml").read_text(encoding="utf-8"))["figures"]
    about = (ROOT / "figures" / "README.md").read_text(encoding="utf-8").split("\n", 1)[1]
    shown = [name for name in captions if (ROOT / "figures" / f"{name}.png").exists()]
    rest = sorted(path.stem for path in ROOT.glob("figures/*.png") if path.stem not in captions)
    figures = []
    for name in [*shown, *rest]:
        words = html.escape(captions.get(name, name.replace("_", " ")))
        image = f'<img loading="lazy" src="_static/thumbnails/{name}.png" alt="{words}">'
        figures.append(
            f'<figure><a href="_static/figures/{name}.png">{image}</a><figcaption>{words}</figcaption></figure>'
        )
    return f'{about}\n<div class="gallery">\n{chr(10).join(figures)}\n</div>\n'


def api_page(folder: str) -> str:
    """The page of a folder: its docstring, its public names in a line each, then each name's docstring."""
    module = importlib.import_module(f"rbcnb.{folder}")
    names, entries = [], []
    for name in module.__all__:
        thing = getattr(module, name)
        if not callable(thing):  # a value, which has no docstring
            summary = ", ".join(thing) if isinstance(thing, dict) else repr(thing)
            entries += [f".. py:data:: {name}", "", f"   {summary}", ""]
        else:
            summary = inspect.getdoc(thing).split("\n", 1)[0]
            kind = "class" if inspect.isclass(thing) else "function"
            entries += [f".. auto{kind}:: {name}", *["   :members:"] * (kind == "class"), ""]
        names.append(f"- `{name}`: {summary}")
    lines = [f".. automodule:: rbcnb.{folder}", "   :no-members:", "", f".. currentmodule:: rbcnb.{folder}", ""]
    return "\n".join([f"# rbcnb.{folder}\n", "```{eval-rst}", *lines, *names, "", *entries, "```\n"])


class _Page(HTMLParser):
    """What a page refers to, and the names within it that others can refer to."""

    def __init__(self) -> None:
        super().__init__()
        self.links: list[str] = []
        self.loaded: list[str] = []  # without anybody's click
        self.names: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Reads one tag."""
        given = {name: value or "" for name, value in attrs}
        self.names |= {given[name] for name in ("id", "name") if name in given}
        if "src" in given or (tag == "link" and given.get("rel") not in ("next", "prev", "canonical")):
            self.loaded.append(given.get("src", given.get("href", "")))
        elif "href" in given:
            self.links.append(given["href"])


def link_faults(site: Path) -> list[str]:
    """A line for each link in *site* that leads nowhere, and for each thing that is loaded from another host."""
    pages = {}
    for path in sorted(set(site.rglob("*.html")) - set(site.glob("_static/**/*"))):  # templates of the theme lie there
        pages[path.resolve()] = page = _Page()
        page.feed(path.read_text(encoding="utf-8"))
    faults = []
    for path, page in pages.items():
        shown = path.relative_to(site.resolve())
        faults += [f"{shown}: loads {link} from another host" for link in page.loaded if urlsplit(link).netloc]
        for link in (*page.links, *page.loaded):
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            there = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            if not there.exists():
                faults.append(f"{shown}: {link} leads to no file")
            elif parts.fragment and there in pages and unquote(parts.fragment) not in pages[there].names:
                faults.append(f"{shown}: {link} leads to no such place in the page")
    return faults


if __name__ == "__main__":
    sys.exit(main())
