"""A notebook as a page: Voila on this machine's loopback, with nothing from any other machine."""

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
import webbrowser
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

from rbcnb._utils.errors import UnfinishedError

_START_S = 60.0  # Voila answers in two or three seconds on an idle laptop
_STOP_S = 15.0
# Voila's own handler of SIGTERM closes its kernels, whether `voila` ends it or its parent was killed.
_VOILA = """
from rbcnb._utils.parent_watch import die_with_parent

die_with_parent({})
from voila.app import main

main()
"""


class PageError(UnfinishedError):
    """The page cannot be shown; the message names the mend."""


def show_page(name: str, notebook: str, *, hint: str, port: int, browse: bool, say: Callable[[str], None]) -> None:
    """Serves *notebook* until interrupted, from a folder of its own that is gone afterwards.

    Args:
        name: what the page is called, here and in its title.
        notebook: the text of an .ipynb file.
        hint: said beside the address.
        port: of the page; 0 for a free one.
        browse: open the page in the default browser.
        say: takes the address and the hint.

    Raises:
        PageError: Voila is missing or does not start, or the port is taken.
    """
    if find_spec("voila") is None:
        raise PageError("Voila is not installed; get it with: pip install 'rbcnb[lab]'")
    with tempfile.TemporaryDirectory(prefix=f"rbcnb-{name}-") as folder:
        path = Path(folder) / "notebooks" / f"{name}.ipynb"
        path.parent.mkdir()
        path.write_text(notebook, encoding="utf-8")
        with voila(path, Path(folder), port=port) as (url, server):
            say(f"{name}: {url}  ({hint})")
            if browse:
                webbrowser.open(url)
            server.wait()
        raise PageError(f"Voila ended by itself, exit code {server.returncode}")


@contextmanager
def voila(notebook: Path, folder: Path, *, port: int = 0) -> Iterator[tuple[str, subprocess.Popen]]:
    """Voila with *notebook*, log and template in *folder*: yields address and process; ends it and its kernels."""
    port = _claim(port)
    url = f"http://127.0.0.1:{port}/"
    log = folder / "voila.log"
    command = [sys.executable, "-c", _VOILA.format(os.getpid()), str(notebook), "--no-browser", "--Voila.ip=127.0.0.1"]
    command += [f"--port={port}", f"--VoilaConfiguration.template={_offline_template(folder)}"]
    command += ["--progressive_rendering=True"]
    # No pings: nobody answers them while cells run, and after 90 s Voila would drop the page that it is filling.
    command += ["--Voila.tornado_settings={'ws_ping_interval': 0}"]
    paths = os.pathsep.join(filter(None, [str(folder / "jupyter"), os.environ.get("JUPYTER_PATH")]))
    with log.open("w", encoding="utf-8") as stream:
        # A session of its own: Ctrl-C reaches this process alone, which then ends Voila in order.
        server = subprocess.Popen(
            command,
            env=os.environ | {"JUPYTER_PATH": paths},
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=stream,
            start_new_session=True,
        )
    try:
        _wait_for(url, server, log)
        yield url, server
    finally:
        server.send_signal(signal.SIGTERM)
        try:
            server.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()


def free_or(port: int) -> int:
    """*port*, or 0 for any free one where it is taken."""
    try:
        return _claim(port)
    except PageError:
        return 0


def _claim(port: int) -> int:
    if not 0 <= port < 2**16:
        raise PageError(f"port {port}: there are 1 to 65535; choose one of them with --port, or none for a free one")
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            raise PageError(
                f"port {port}: {error.strerror}; choose another with --port, or none for a free one"
            ) from None
        return probe.getsockname()[1]


def _offline_template(folder: Path) -> str:
    """Voila's own template less the style sheets that it fetches from elsewhere, for icons that no page here shows."""
    from jupyter_core.paths import jupyter_path

    found = [
        path for root in jupyter_path("voila", "templates", "lab") if (path := Path(root) / "index.html.j2").exists()
    ]
    if not found:
        raise PageError("Voila's template 'lab' is not there; get it again with: pip install --force-reinstall voila")
    target = folder / "jupyter" / "voila" / "templates" / "offline"
    target.mkdir(parents=True, exist_ok=True)
    lines = found[0].read_text(encoding="utf-8").splitlines(keepends=True)
    kept = [line for line in lines if not ("stylesheet" in line and "https://" in line)]
    (target / "index.html.j2").write_text("".join(kept), encoding="utf-8")
    (target / "conf.json").write_text(json.dumps({"base_template": "lab"}), encoding="utf-8")
    return "offline"


def _wait_for(url: str, server: subprocess.Popen, log: Path) -> None:
    deadline = time.monotonic() + _START_S
    while server.poll() is None and time.monotonic() < deadline:
        try:
            # Not the page itself: each call of that would start a kernel.
            urllib.request.urlopen(f"{url}voila/static/none", timeout=5).close()
        except urllib.error.HTTPError:
            return  # it answers
        except OSError:
            time.sleep(0.05)
    raise PageError(f"Voila did not start:\n{log.read_text(encoding='utf-8')[-2000:]}")
