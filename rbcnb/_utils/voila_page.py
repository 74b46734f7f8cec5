"""A notebook as a page: Voila on this machine's loopback, with nothing from any other machine."""

import hashlib
import hmac
import json
import os
import secrets
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
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path

from rbcnb._utils.errors import UnfinishedError

_START_S = 60.0  # Voila answers in two or three seconds on an idle laptop
_STOP_S = 15.0
_SECRET = "rbcnb_page_secret"  # beside Jupyter's own keys, which are as private
_SECRET_LENGTH = 43  # of 32 random bytes as text
_OPENER = '<!doctype html><meta charset="utf-8"><meta http-equiv="refresh" content="0;url={}"><a href="{}">the page</a>'


class PageError(UnfinishedError):
    """The page cannot be shown; the message names the remedy."""


def show_page(
    name: str,
    notebook: str,
    *,
    hint: str,
    port: int,
    browse: bool,
    say: Callable[[str], None],
    returning: str = "",
) -> None:
    """Serves *notebook* until interrupted, from a folder of its own that is gone afterwards.

    Only a reader who has the key in the printed address sees anything: see `rbcnb._utils.voila_server`.

    Args:
        name: what the page is called, here and in its title.
        notebook: the text of an .ipynb file.
        hint: said beside the address.
        port: of the page; 0 for a free one.
        browse: open the page in the default browser.
        say: takes the address and the hint.
        returning: what the page is of, where it has the same key at each start (`kept_key`), so that a browser that
            still shows it finds its server again; "" for a new key.

    Raises:
        PageError: Voila is missing or does not start, or the port is taken.
    """
    if find_spec("voila") is None:
        raise PageError("Voila is not installed; get it with: pip install 'rbcnb[lab]'")
    with tempfile.TemporaryDirectory(prefix=f"rbcnb-{name}-") as folder:
        path = Path(folder) / "notebooks" / f"{name}.ipynb"
        path.parent.mkdir()
        path.write_text(notebook, encoding="utf-8")
        key = kept_key(returning) if returning else None
        with voila(path, Path(folder), port=port, key=key) as (url, server):
            say(f"{name}: {url}  ({hint})")
            if browse:
                # By a file, as Jupyter does: everybody on this machine sees the command that starts a browser.
                opener = Path(folder) / "open.html"
                opener.write_text(_OPENER.format(url, url), encoding="utf-8")
                webbrowser.open(opener.as_uri())
            server.wait()
        raise PageError(f"Voila ended by itself, exit code {server.returncode}")


@contextmanager
def voila(
    notebook: Path, folder: Path, *, port: int = 0, key: str | None = None
) -> Iterator[tuple[str, subprocess.Popen]]:
    """Voila with *notebook*, log and template in *folder*: yields address and process; ends it and its kernels.

    The address holds the *key*, a random one unless given; without it nothing is answered.
    """
    port, key = _claim(port), key or secrets.token_urlsafe()
    url = f"http://127.0.0.1:{port}/"
    log = folder / "voila.log"
    command = [sys.executable, "-m", "rbcnb._utils.voila_server", str(os.getpid()), str(notebook), "--no-browser"]
    command += ["--Voila.ip=127.0.0.1", f"--port={port}", "--Voila.port_retries=0"]
    command += [f"--Voila.connection_dir_root={folder}"]  # gone with it
    command += [f"--VoilaConfiguration.template={_offline_template(folder)}", "--progressive_rendering=True"]
    # No pings: nobody answers them while cells run, and after 90 s Voila would drop the page that it is filling.
    command += ["--Voila.tornado_settings={'ws_ping_interval': 0}"]
    paths = os.pathsep.join(filter(None, [str(folder / "jupyter"), os.environ.get("JUPYTER_PATH")]))
    with open(log, "w", opener=lambda path, flags: os.open(path, flags, 0o600)) as stream:  # it names the key
        # A session of its own: Ctrl-C reaches this process alone, which then ends Voila in order.
        server = subprocess.Popen(
            command,
            env=os.environ | {"JUPYTER_PATH": paths, "JUPYTER_TOKEN": key},
            cwd=folder,  # Voila runs a voila.py that lies where it is started
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=stream,
            start_new_session=True,
        )
    try:
        _wait_for(url, server, log)
        yield f"{url}?token={key}", server
    finally:
        server.send_signal(signal.SIGTERM)
        try:
            server.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()


def kept_key(page: str) -> str:
    """The key of *page*, the same for this user at each start, and for nobody else.

    It follows from a secret in Jupyter's runtime folder, which this user alone can read; where none can be kept there,
    the key is a new one. To change all keys, delete the file.
    """
    from jupyter_core.paths import jupyter_runtime_dir, secure_write

    path, secret = Path(jupyter_runtime_dir()) / _SECRET, ""
    with suppress(OSError, UnicodeDecodeError):
        secret = path.read_text(encoding="utf-8") if os.name == "nt" or not path.stat().st_mode & 0o077 else ""
    if len(secret) != _SECRET_LENGTH:  # none yet, or cut short, or seen by others
        secret = secrets.token_urlsafe(32)
        with suppress(OSError, RuntimeError):  # of a folder where files cannot be private
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            with secure_write(str(path)) as file:
                file.write(secret)
    return hmac.new(secret.encode(), page.encode(), hashlib.sha256).hexdigest()


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
