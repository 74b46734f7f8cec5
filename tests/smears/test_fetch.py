import hashlib
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import pooch
import pytest
from chula_registry import write_registry

from rbcnb.cli import main
from rbcnb.smears.chula import REGISTRY, FetchError, fetch_chula

CONTENT = {
    "LICENSE": b"MIT",
    "Dataset/1.jpg": b"\xff\xd8 one",
    "Dataset/2.jpg": b"\xff\xd8 two",
    "Label/1.txt": b"1 2 0\n",
}


class Recorder(SimpleHTTPRequestHandler):
    def do_GET(self):
        self.server.requests.append(self.path.lstrip("/"))
        super().do_GET()

    def log_message(self, *_):
        pass


@pytest.fixture
def server(tmp_path):
    """A loopback server of a small dataset: its base URL, registry, folder and the list of paths asked for."""
    root = tmp_path / "published"
    for name, content in CONTENT.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)
    httpd = ThreadingHTTPServer(("127.0.0.1", 0), partial(Recorder, directory=root))
    httpd.requests, httpd.root = [], root
    httpd.url = f"http://127.0.0.1:{httpd.server_port}/"
    httpd.registry = {name: hashlib.sha256(content).hexdigest() for name, content in CONTENT.items()}
    thread = threading.Thread(target=partial(httpd.serve_forever, poll_interval=0.02))
    thread.start()
    yield httpd
    httpd.shutdown()
    thread.join()
    httpd.server_close()


def fetch(server, out, **options):
    return fetch_chula(out, base_url=server.url, registry=server.registry, retries=0, **options)


def test_fetches_every_file(server, tmp_path):
    out = fetch(server, tmp_path / "out")
    assert {p.relative_to(out).as_posix(): p.read_bytes() for p in out.rglob("*") if p.is_file()} == CONTENT
    assert sorted(server.requests) == sorted(CONTENT)


def test_the_command_fetches_them_and_prints_where_they_lie(server, tmp_path, capsys, monkeypatch):
    here = {"base_url": server.url, "registry": server.registry, "retries": 0}
    monkeypatch.setattr(fetch_chula, "__kwdefaults__", here)
    assert main(["fetch", "chula", "--out", str(tmp_path / "out")]) == 0
    assert capsys.readouterr().out == f"{tmp_path / 'out'}\n"
    assert (tmp_path / "out" / "Label" / "1.txt").read_bytes() == CONTENT["Label/1.txt"]


def test_asks_only_for_what_is_missing_or_damaged(server, tmp_path):
    out = fetch(server, tmp_path / "out")
    (out / "Dataset/1.jpg").unlink()
    (out / "Label/1.txt").write_bytes(b"half")
    server.requests.clear()
    fetch(server, out)
    assert sorted(server.requests) == ["Dataset/1.jpg", "Label/1.txt"]
    assert (out / "Label/1.txt").read_bytes() == CONTENT["Label/1.txt"]
    server.requests.clear()
    fetch(server, out)
    assert server.requests == []


def test_a_file_changed_at_the_source_is_refused_and_the_rest_kept(server, tmp_path):
    (server.root / "Dataset/2.jpg").write_bytes(b"something else")
    (server.root / "Label/1.txt").unlink()
    out = tmp_path / "out"
    with pytest.raises(FetchError, match="2 of 4 files") as caught:
        fetch(server, out)
    _, image, label = str(caught.value).splitlines()
    assert image.startswith("  Dataset/2.jpg: ")
    assert "SHA-256" in image
    assert label.startswith("  Label/1.txt: ")
    assert "404" in label
    assert sorted(p.relative_to(out).as_posix() for p in out.rglob("*") if p.is_file()) == ["Dataset/1.jpg", "LICENSE"]


def test_a_passing_fault_is_tried_again(server, tmp_path, monkeypatch):
    monkeypatch.setattr("pooch.core.time.sleep", lambda _: None)
    faults = iter([True])

    def do_GET(self, plain=Recorder.do_GET):  # noqa: N802
        if next(faults, False):
            self.server.requests.append(self.path.lstrip("/"))
            self.send_error(503)
        else:
            plain(self)

    monkeypatch.setattr(Recorder, "do_GET", do_GET)
    fetch_chula(tmp_path / "out", base_url=server.url, registry=server.registry, retries=1)
    assert len(server.requests) == len(CONTENT) + 1


def test_gives_up_early_when_nothing_answers(server, tmp_path):
    registry = {f"Dataset/{i}.jpg": "0" * 64 for i in range(400)}
    with pytest.raises(FetchError) as caught:
        fetch_chula(tmp_path / "out", base_url=server.url, registry=registry, retries=0)
    assert len(server.requests) < 200
    assert str(caught.value).count("Dataset/") >= 20


def test_out_must_be_a_folder(server, tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(FetchError, match="cannot be made a folder"):
        fetch(server, tmp_path / "file")


def test_the_registry_of_a_copy(server, tmp_path):
    (server.root / "notes.json").write_text("{}")
    path = tmp_path / "registry.txt"
    assert write_registry(server.root, path) == len(CONTENT)
    assert registry_in(path) == server.registry
    with pytest.raises(FileNotFoundError, match="give the dataset's folder"):
        write_registry(tmp_path / "nowhere", path)


def registry_in(path):
    store = pooch.create(path.parent, "")
    store.load_registry(path)
    return store.registry


def test_the_packaged_registry_is_what_is_fetched(server, tmp_path):
    registry = registry_in(REGISTRY)
    with pytest.raises(FetchError, match=f"of {len(registry)} files"):
        fetch_chula(tmp_path / "out", base_url=server.url, retries=0)
    assert set(server.requests) <= set(registry)
    assert {"LICENSE", "README.md"} <= set(registry)
    assert all(len(value) == 64 and int(value, 16) >= 0 for value in registry.values())
    images = {name.split("/")[1].removesuffix(".jpg") for name in registry if name.startswith("Dataset/")}
    labels = {name.split("/")[1].removesuffix(".txt") for name in registry if name.startswith("Label/")}
    assert labels < images
