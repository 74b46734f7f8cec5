"""Nobody but the reader of a page sees anything of it: requests as a site, or another user, would forge them."""

import http.client
import os
import re
import stat
import webbrowser
from contextlib import nullcontext
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import urlsplit

import nbformat
import psutil
import pytest

from rbcnb._utils import voila_page

pytestmark = pytest.mark.skipif(find_spec("voila") is None, reason="needs Voila")
NOTEBOOK = nbformat.writes(
    nbformat.v4.new_notebook(
        cells=[nbformat.v4.new_code_cell("6 * 7")],
        metadata={"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}},
    )
)
SOCKET = {
    "Connection": "Upgrade",
    "Upgrade": "websocket",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
}
KERNEL_ID = r"\w{8}-\w{4}-\w{4}-\w{4}-\w{12}"


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """A page: its host with port, its key, its process and folder; a voila.py lies where it was started."""
    folder, stranger = tmp_path_factory.mktemp("page"), tmp_path_factory.mktemp("stranger")
    notebook = folder / "notebooks" / "page.ipynb"
    notebook.parent.mkdir()
    notebook.write_text(NOTEBOOK, encoding="utf-8")
    (stranger / "voila.py").write_text("open('was run', 'w').close()")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(stranger)
        patch.setenv("JUPYTER_RUNTIME_DIR", str(folder / "runtime"))
        with voila_page.voila(notebook, folder) as (url, process):
            host, key = urlsplit(url).netloc, urlsplit(url).query.removeprefix("token=")
            yield SimpleNamespace(host=host, key=key, process=process, folder=folder, stranger=stranger)


def ask(server, path: str, *, method: str = "GET", **headers: str) -> tuple[int, dict[str, str], str]:
    """Status, headers and body; a header that is given as None is not sent."""
    connection = http.client.HTTPConnection(server.host, timeout=30)
    given = {"Host": server.host} | {name.replace("_", "-"): value for name, value in headers.items()}
    try:
        connection.putrequest(method, path, skip_host=True)
        for name, value in given.items():
            if value is not None:
                connection.putheader(name, value)
        connection.endheaders()
        answer = connection.getresponse()
        body = "" if answer.status == 101 else answer.read().decode()
        return answer.status, dict(answer.getheaders()), body
    finally:
        connection.close()


@pytest.fixture(scope="module")
def reader(server):
    """The cookie of a browser that opened the page by its key, and the page's kernel."""
    status, headers, body = ask(server, f"/?token={server.key}")
    assert status == 200
    assert "Access-Control-Allow-Origin" not in headers
    assert "HttpOnly" in headers["Set-Cookie"]
    assert "SameSite=Strict" in headers["Set-Cookie"]
    cookie = headers["Set-Cookie"].partition(";")[0]
    return SimpleNamespace(cookie=cookie, kernel=re.search(KERNEL_ID, body)[0])


def kernels(server) -> list[psutil.Process]:
    return [child for child in psutil.Process(server.process.pid).children() if "ipykernel" in str(child.cmdline())]


PATHS = ["/", "/voila/static/voila.js", "/voila/templates/lab/static/voila.js", "/login", "/voila/files/x.png",
         "/api/kernels/{kernel}", "/voila/api/themes/x", "/nothing"]  # fmt: skip


@pytest.mark.parametrize("path", PATHS)
def test_nothing_is_answered_without_the_key(server, reader, path):
    path, before = path.format(kernel=reader.kernel), len(kernels(server))
    forged = [
        ask(server, path),
        ask(server, f"{path}?token=" + "x" * len(server.key)),
        ask(server, f"{path}?token=x&token={server.key}"),
        ask(server, path, Cookie=reader.cookie[:-5] + '0000"'),
        ask(server, f"{path}?token={server.key}", Host="evil.example"),
        ask(server, f"{path}?token={server.key}", Host=f"evil.example:{server.host.rpartition(':')[2]}"),
        ask(server, f"{path}?token={server.key}", Host="127.0.0.1"),
        ask(server, f"{path}?token={server.key}", Origin="http://evil.example"),
        ask(server, f"{path}?token={server.key}", Origin="null"),
        ask(server, path, Cookie=reader.cookie, Host="evil.example"),
        ask(server, path, Cookie=reader.cookie, Origin="http://127.0.0.1:1"),
        ask(server, path, Cookie=reader.cookie, Sec_Fetch_Site="same-site"),  # a page of another port
        ask(server, path, Cookie=reader.cookie, Sec_Fetch_Site="cross-site"),
        *(ask(server, path, method=method, Cookie=reader.cookie) for method in ("POST", "DELETE", "OPTIONS")),
        ask(server, path, method="POST", Cookie=reader.cookie, Origin="http://evil.example"),
    ]
    assert [status for status, _, _ in forged] == [403] * len(forged)
    assert ask(server, f"{path}?token={server.key}", Host=None)[0] == 400
    for _, headers, body in forged:
        assert not re.search(KERNEL_ID, body)
        assert server.key not in body
        assert not {"Set-Cookie", "Access-Control-Allow-Origin", "Location"} & set(headers)
    assert len(kernels(server)) == before


def test_a_socket_to_the_kernel_needs_key_host_and_origin(server, reader):
    for path in (f"/api/kernels/{reader.kernel}/channels", f"/voila/execution/{reader.kernel}"):
        headers = {"Origin": f"http://{server.host}", "Cookie": reader.cookie}
        refused = [{"Cookie": None}, {"Origin": "http://evil.example"}, {"Origin": None}, {"Host": "evil.example"}]
        refused += [{"Host": "evil.example", "Origin": "http://evil.example"}]
        assert [ask(server, path, **SOCKET | headers | forged)[0] for forged in refused] == [403] * len(refused)
        keyed = SOCKET | {"Origin": "http://evil.example"}
        assert ask(server, f"{path}?token={server.key}", **keyed)[0] == 403  # Jupyter would let the key pass
    assert ask(server, f"/api/kernels/{reader.kernel}/channels", **SOCKET | headers)[0] == 101


def test_the_reader_has_all_by_the_cookie_and_by_each_name_of_this_machine(server, reader):
    port = server.host.rpartition(":")[2]
    for host in (server.host, f"localhost:{port}", f"[::1]:{port}"):
        status, headers, _ = ask(server, "/voila/static/voila.js", Cookie=reader.cookie, Host=host)
        assert (status, "Access-Control-Allow-Origin" in headers) == (200, False)
    assert ask(server, f"/api/kernels/{reader.kernel}", Cookie=reader.cookie, Sec_Fetch_Site="same-origin")[0] == 200


def test_a_page_that_is_closed_ends_its_kernel(server, reader):
    _, _, body = ask(server, "/", Cookie=reader.cookie)
    before, closed = len(kernels(server)), re.search(KERNEL_ID, body)[0]
    headers = {"Origin": f"http://{server.host}", "Cookie": reader.cookie, "Content-Length": "0"}
    assert ask(server, f"/voila/api/shutdown/{closed}", method="POST", **headers)[0] == 204
    assert len(kernels(server)) == before - 1


def test_no_other_user_can_read_the_key_and_a_strangers_folder_runs_nothing(server, reader):
    assert reader.cookie
    lines = [str(process.info["cmdline"]) for process in psutil.process_iter(["cmdline"])]
    assert any(server.host.rpartition(":")[2] in line for line in lines)
    assert not any(server.key in line for line in lines)
    holders = [path for path in server.folder.rglob("*") if path.is_file() and server.key.encode() in path.read_bytes()]
    assert holders == [server.folder / "voila.log"]
    assert {stat.S_IMODE(path.stat().st_mode) for path in holders} <= {0o600}
    assert [path.name for path in server.stranger.iterdir()] == ["voila.py"]


@pytest.fixture
def secret(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(tmp_path / "runtime"))
    return tmp_path / "runtime" / "rbcnb_page_secret"


def test_a_page_keeps_its_key_and_no_other_page_has_it(secret):
    key = voila_page.kept_key("/smears Ann")
    assert len(key) == 64
    assert stat.S_IMODE(secret.stat().st_mode) == 0o600
    assert key not in secret.read_text()
    assert voila_page.kept_key("/smears Ann") == key
    assert voila_page.kept_key("/smears Bob") != key


@pytest.mark.parametrize("harm", ["empty", "cut", "binary", "seen by others"])
def test_a_secret_that_is_none_is_made_anew(secret, harm):
    key = voila_page.kept_key("page")
    if harm == "seen by others":
        secret.chmod(0o644)
    else:
        secret.write_bytes({"empty": b"", "cut": secret.read_bytes()[:20], "binary": b"\xff" * 43}[harm])
    new = voila_page.kept_key("page")
    assert new != key
    assert voila_page.kept_key("page") == new
    assert stat.S_IMODE(secret.stat().st_mode) == 0o600


def test_where_no_secret_can_be_kept_the_key_is_new_each_time(secret):
    secret.parent.write_text("no folder")
    assert voila_page.kept_key("page") != voila_page.kept_key("page")


def test_the_command_that_starts_a_browser_does_not_name_the_key(monkeypatch):
    opened, lines, url = [], [], "http://127.0.0.1:1/?token=secret"
    server = SimpleNamespace(wait=lambda: None, returncode=3)

    def opens(address: str) -> None:
        path = Path(address.removeprefix("file://"))
        opened.append((address, path.read_text(), stat.S_IMODE(path.parent.stat().st_mode)))

    monkeypatch.setattr(voila_page, "voila", lambda *_, **__: nullcontext((url, server)))
    monkeypatch.setattr(webbrowser, "open", opens)
    with pytest.raises(voila_page.PageError, match="exit code 3"):
        voila_page.show_page("lesson", NOTEBOOK, hint="hint", port=0, browse=True, say=lines.append)
    ((address, page, mode),) = opened
    assert lines == [f"lesson: {url}  (hint)"]
    assert url in page
    assert "secret" not in address
    assert os.name == "nt" or mode == 0o700
