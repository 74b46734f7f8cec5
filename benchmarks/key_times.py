"""What benchmarks of key presses share: a notebook of our widget and a peer's in JupyterLab, and how times are told."""

import os
import statistics
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import nbformat

ROOT = Path(__file__).parent.parent
# Whoever imports this finds the package and the tests' modules, too.
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

import browser  # noqa: E402

WARM_UP = 3  # presses: the first few warm caches up


@contextmanager
def lab_page(sources: Sequence[str], folder: Path, *, height_px: int, ready: Sequence[str]) -> Iterator[Any]:
    """A new notebook in *folder* of the code cells *sources*, run in JupyterLab; yields its page.

    ready : selectors of what must be on the page.
    """
    path = folder / "keys.ipynb"
    kernel = {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}}
    cells = [nbformat.v4.new_code_cell(source) for source in sources]
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=kernel), path)
    with (
        browser.serving("lab", path, folder / "home") as url,
        browser.chromium_page(height_px=height_px) as (page, _),
    ):
        browser.open_notebook(page, url, app="lab")
        for selector in ready:
            page.wait_for_selector(selector)
        browser.wait_until_run(page)
        page.wait_for_timeout(1500)
        yield page


def print_times(times: Mapping[str, Sequence[float]]) -> None:
    """Prints medians of milliseconds by name, the second one's (the peer's) over the first one's, and the load."""
    medians = []
    for name, milliseconds in times.items():
        low, high = statistics.quantiles(milliseconds[WARM_UP:], n=10)[::8]
        medians.append(statistics.median(milliseconds[WARM_UP:]))
        print(f"{name:32} median {medians[-1]:6.1f} ms   8 of 10 within {low:.1f} to {high:.1f} ms")
    ours, peer, *_ = medians
    print(f"ratio peer / ours: {peer / ours:.1f}   load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
