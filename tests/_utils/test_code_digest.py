"""Digests of code: every byte of the folders that are named counts, and no other. Versions of libraries."""

import numpy as np
import pytest

from rbcnb._utils import code_digest as module
from rbcnb._utils.code_digest import code_digest, installed_versions


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A package of two folders in place of ours."""
    for name in ("columns.py", "light/lamp.py", "light/deep/bulb.py", "finder/find.py"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(f"NAME = {name!r}\n")
    monkeypatch.setattr(module, "PACKAGE", tmp_path)
    code_digest.cache_clear()
    yield tmp_path
    code_digest.cache_clear()


def digests():
    code_digest.cache_clear()
    return code_digest("light"), code_digest("finder"), code_digest("light", "finder"), code_digest()


def test_a_changed_file_changes_the_digests_of_its_folder_and_of_all(package):
    before = digests()
    assert len(set(before)) == 3  # both folders are all there is
    (package / "light" / "deep" / "bulb.py").write_text("NAME = 1\n")
    assert [earlier == later for earlier, later in zip(before, digests(), strict=True)] == [False, True, False, False]


def test_a_moved_file_and_a_root_module_count(package):
    before = digests()
    (package / "columns.py").write_text("NAME = 1\n")
    middle = digests()
    assert not set(before) & set(middle)
    (package / "light" / "lamp.py").rename(package / "light" / "sun.py")
    assert digests()[0] != middle[0]


def test_what_is_not_installed_says_so():
    versions = installed_versions(["numpy", "no-such-distribution"])
    assert versions == {"numpy": np.__version__, "no-such-distribution": "not installed"}
