"""Debian's Chromium in front of JupyterLab or Voila on this machine's loopback, for tests and benchmarks of widgets.

What the page asks of any other host is refused and written down, so that a test can say that there was nothing.
"""

import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from unittest import mock
from urllib.parse import urlsplit

from rbcnb._utils.voila_page import voila

CHROMIUM = shutil.which("chromium")
ROOT = Path(__file__).parent.parent
_ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"]
_ARGUMENTS += ["--disable-background-networking", "--disable-component-update"]
_LAB = "--no-browser --allow-root --IdentityProvider.token= --LabApp.expose_app_in_browser=True "
_LAB += "--LabApp.news_url=None --LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate"


def missing() -> str:
    """What these tests need and this machine has not, or nothing."""
    names = [name for name in ("playwright", "jupyterlab", "voila") if find_spec(name) is None]
    mends = [f"pip install {name}" for name in names] + ([] if CHROMIUM else ["apt-get install chromium"])
    return "; ".join(mends)


def free_port() -> int:
    """A loopback port that nobody listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


@contextmanager
def serving(app: str, notebook: Path, home: Path, *, lab: tuple[str, Path] | None = None) -> Iterator[str]:
    """*notebook* served by "lab" or "voila" with settings of its own under *home*; yields the notebook's address.

    With *lab*, the address and the root folder of a `lab_server`, that server shows it.
    """
    if app == "lab" and lab is None:
        with lab_server(notebook.parent, home) as url:
            yield f"{url}doc/tree/{notebook.name}"
    elif app == "lab":
        url, root = lab
        yield f"{url}doc/tree/{notebook.relative_to(root)}"
    else:
        with _voila(notebook, home) as url:
            yield url


@contextmanager
def _voila(notebook: Path, home: Path) -> Iterator[str]:
    with mock.patch.dict(os.environ, _jupyter_folders(home)), voila(notebook, home) as (url, _):
        yield url


@contextmanager
def lab_server(root: Path, home: Path) -> Iterator[str]:
    """JupyterLab over the notebooks in *root*, with settings of its own under *home*; yields its address."""
    settings = _jupyter_folders(home)
    port = free_port()
    url = f"http://127.0.0.1:{port}/"
    command = [sys.executable, "-m", "jupyterlab", *_LAB.split(), f"--port={port}", f"--ServerApp.root_dir={root}"]
    with (home / "server.log").open("w") as log:
        server = subprocess.Popen(command, env=os.environ | settings, stdout=log, stderr=log, cwd=root)
    try:
        _wait_for(url + "api", server, home / "server.log")
        yield url
    finally:
        server.terminate()
        try:
            server.wait(20)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()


def _jupyter_folders(home: Path) -> dict[str, str]:
    home.mkdir(parents=True, exist_ok=True)
    folders = {f"JUPYTER_{name}_DIR": str(home / name.lower()) for name in ("CONFIG", "DATA", "RUNTIME")}
    return folders | {"IPYTHONDIR": str(home / "ipython"), "PYTHONPATH": str(ROOT)}


def _wait_for(url: str, server: subprocess.Popen, log: Path, *, limit_s: float = 90) -> None:
    deadline = time.monotonic() + limit_s
    while time.monotonic() < deadline and server.poll() is None:
        try:
            urllib.request.urlopen(url, timeout=5).close()
        except urllib.error.HTTPError:
            return  # it answers
        except OSError:
            time.sleep(0.1)
        else:
            return
    raise RuntimeError(f"no answer from {url}:\n{log.read_text()[-2000:]}")


@contextmanager
def chromium_page(*, width_px: int = 1300, height_px: int = 1000) -> Iterator[tuple[Any, list[str]]]:
    """A new page and the list, filled as it goes, of addresses beyond loopback that it asked for in vain."""
    from playwright.sync_api import sync_playwright

    strangers: list[str] = []

    def gate(route: Any) -> None:
        if urlsplit(route.request.url).hostname in ("127.0.0.1", "localhost", None):
            route.continue_()
        else:
            strangers.append(route.request.url)
            route.abort()

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=_ARGUMENTS)
        try:
            page = browser.new_page(viewport={"width": width_px, "height": height_px})
            page.set_default_timeout(60_000)
            page.route("**/*", gate)
            yield page, strangers
        finally:
            browser.close()


def open_notebook(page: Any, url: str, *, app: str) -> None:
    """Opens the notebook and, in JupyterLab, runs all its cells; returns when the kernel is at work or done."""
    page.goto(url)
    if app == "lab":
        page.wait_for_selector(".jp-Notebook .jp-Cell")
        page.wait_for_function("window.jupyterapp !== undefined")
        page.wait_for_function("window.jupyterapp.shell.currentWidget?.sessionContext?.isReady")
        page.evaluate("window.jupyterapp.shell.currentWidget.sessionContext.session.kernel.info.then(() => true)")
        # Not awaited: the command's promise may outlive the run.
        page.evaluate("() => void window.jupyterapp.commands.execute('notebook:run-all-cells')")


def wait_until_run(page: Any, *, limit_ms: float = 180_000) -> None:
    """Waits until JupyterLab has run every cell; sliders answer only then, for a kernel does one thing at a time."""
    page.wait_for_function("!document.body.innerText.includes('[*]')", timeout=limit_ms)


# In the page: the time from a key's event to the first frame that shows a newly loaded picture.
_STOPWATCH = """() => {
  window.keyed = null; window.latencies = [];
  document.addEventListener('keydown', () => { window.keyed = performance.now(); }, true);
  document.addEventListener('load', event => {
    if (!(event.target instanceof HTMLImageElement) || window.keyed === null) return;
    const start = window.keyed; window.keyed = null;
    requestAnimationFrame(() => {
      const channel = new MessageChannel();  // its message comes after the frame is drawn
      channel.port1.onmessage = () => window.latencies.push(performance.now() - start);
      channel.port2.postMessage(0);
    });
  }, true);
}"""


# As above, for a page that has its pictures before the key and only puts them there: from the key's event to the first
# frame after the element's attribute names another cell, with every picture in it loaded.
_ATTRIBUTE_STOPWATCH = """([selector, attribute]) => {
  window.keyed = null; window.latencies = [];
  const element = document.querySelector(selector);
  document.addEventListener('keydown', () => { window.keyed = performance.now(); }, true);
  new MutationObserver(() => {
    const loaded = [...element.querySelectorAll('img[src]')].every(image => image.complete && image.naturalWidth);
    if (window.keyed === null || !element.getAttribute(attribute) || !loaded) return;
    const start = window.keyed; window.keyed = null;
    requestAnimationFrame(() => {
      const channel = new MessageChannel();
      channel.port1.onmessage = () => window.latencies.push(performance.now() - start);
      channel.port2.postMessage(0);
    });
  }).observe(element, { attributeFilter: [attribute] });
}"""


def start_attribute_stopwatch(page: Any, selector: str, attribute: str) -> None:
    """Has the page time, from now on, every key press until *attribute* of the first *selector* has another value."""
    page.evaluate(_ATTRIBUTE_STOPWATCH, [selector, attribute])


# As above, for charts that the page draws itself: to the first frame after a mark of the chart has another shape.
_DRAWING_STOPWATCH = """(selector) => {
  window.keyed = null; window.latencies = [];
  document.addEventListener('keydown', () => { window.keyed = performance.now(); }, true);
  for (const view of document.querySelector(selector).views) {
    new MutationObserver(() => {
      if (window.keyed === null) return;
      const start = window.keyed; window.keyed = null;
      requestAnimationFrame(() => {
        const channel = new MessageChannel();
        channel.port1.onmessage = () => window.latencies.push(performance.now() - start);
        channel.port2.postMessage(0);
      });
    }).observe(view.container(), { subtree: true, attributeFilter: ['d'] });
  }
}"""


def start_drawing_stopwatch(page: Any, selector: str = ".rbcnb-explorer") -> None:
    """Has the page time, from now on, every key press until a curve of the first explorer at *selector* changes."""
    page.evaluate(_DRAWING_STOPWATCH, selector)


def explorer_lines(page: Any, selector: str = ".rbcnb-explorer") -> list[list[list[list[float]]]]:
    """What the first explorer at *selector* draws: panel -> line -> points, each x and y."""
    return page.evaluate(_LINES, selector)


_LINES = """(selector) => document.querySelector(selector).views.map((view) => {
  const lines = [];
  const walk = (mark) => {
    if (mark.marktype === "line" && mark.role === "mark") lines.push(mark.items.map(({ datum }) => [datum.x, datum.y]));
    for (const item of mark.items) (item.items ?? []).forEach(walk);
  };
  walk(view.scenegraph().root);
  return lines;
})"""


def start_stopwatch(page: Any) -> None:
    """Has the page time, from now on, every key press until the pixels of a picture change."""
    page.evaluate(_STOPWATCH)


def press_and_time(page: Any, key: str, *, limit_ms: float = 20_000) -> float:
    """Milliseconds from pressing *key* to the frame that shows a new picture, by the page's own clock."""
    done = page.evaluate("window.latencies.length")
    page.keyboard.press(key)
    page.wait_for_function(f"window.latencies.length > {done}", timeout=limit_ms)
    return page.evaluate(f"window.latencies[{done}]")


# Of the slide that is shown: what of it nobody can see, however they scroll, and the sizes of its charts.
_SLIDE = """() => {
  const slide = Reveal.getCurrentSlide(), faults = [];
  const begin = (element) => element.outerHTML.slice(0, 90);
  const frame = slide.getBoundingClientRect();
  const outside = frame.top < -1 || frame.left < -1 || frame.bottom > innerHeight + 1 || frame.right > innerWidth + 1;
  if (outside) faults.push(`the slide stands at ${JSON.stringify(frame)}`);
  const scrolls = (element, axis) => ["auto", "scroll"].includes(getComputedStyle(element)[`overflow-${axis}`]);
  const long = slide.scrollHeight > slide.clientHeight + 1;
  if (long && !scrolls(slide, "y")) faults.push("it is longer than its place, and does not scroll");
  for (const element of slide.querySelectorAll("*")) {
    if (element.closest("math, script, style")) continue;
    const { right, bottom, width } = element.getBoundingClientRect();
    let holder = element.parentElement;
    while (holder !== slide && !scrolls(holder, "x")) holder = holder.parentElement;
    if (width && holder === slide && right > frame.right + 1) faults.push(`cut on the right: ${begin(element)}`);
    if (!long && bottom > frame.bottom + 1) faults.push(`cut below: ${begin(element)}`);
  }
  for (const image of slide.querySelectorAll("img")) {
    if (!image.naturalWidth || !image.width || !image.height) faults.push(`no picture: ${image.alt}`);
    if (!image.alt || image.alt.startsWith("No description")) faults.push("a picture without words");
  }
  const charts = [...slide.querySelectorAll(".rbcnb-panels > *")].map((place) => {
    const drawing = place.shadowRoot?.querySelector("svg") ?? place.querySelector("img");
    return drawing ? [drawing.getBoundingClientRect().width, drawing.getBoundingClientRect().height] : [0, 0];
  });
  if (charts.flat().some((side) => side < 60)) faults.push(`charts of ${JSON.stringify(charts)} px`);
  return { title: slide.innerText.slice(0, 60), faults, charts, long };
}"""


def walk_slides(page: Any) -> Iterator[dict[str, Any]]:
    """Shows every slide in turn: its title, what is wrong with it, the sizes of its charts, whether it is long."""
    page.wait_for_function("window.Reveal?.isReady()")
    page.wait_for_function("[...document.querySelectorAll('.rbcnb-explorer')].every(({ views }) => views)")
    for place in page.evaluate("Reveal.getSlides().map((slide) => Reveal.getIndices(slide))"):
        page.evaluate("({ h, v }) => Reveal.slide(h, v)", place)
        page.wait_for_timeout(250)  # a chart takes its width when it is shown
        yield page.evaluate(_SLIDE)
