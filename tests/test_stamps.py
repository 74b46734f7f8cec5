"""Digests of code: layout does not count, what is computed does, and imports are followed."""

import pytest

from rbcnb import stamps
from rbcnb.stamps import code_stamp, fingerprints, with_imports


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A package of two modules in place of ours."""
    monkeypatch.setattr(stamps, "__file__", str(tmp_path / "stamps.py"))
    (tmp_path / "finder.py").write_text(
        "from rbcnb import light\nimport numpy\n\n\ndef find():\n    return light.LEVEL\n"
    )
    (tmp_path / "light.py").write_text("from rbcnb.finder import LEVEL as L\nfrom math import pi\nLEVEL = 1\n")
    code_stamp.cache_clear()
    with_imports.cache_clear()
    yield tmp_path
    code_stamp.cache_clear()
    with_imports.cache_clear()


def test_comments_and_layout_do_not_count_and_code_does(package):
    first = code_stamp("light")
    code_stamp.cache_clear()
    (package / "light.py").write_text(
        "from rbcnb.finder import LEVEL as L  # why\nfrom math import pi\n\nLEVEL   =   1\n"
    )
    assert code_stamp("light") == first
    code_stamp.cache_clear()
    (package / "light.py").write_text("from rbcnb.finder import LEVEL as L\nfrom math import pi\nLEVEL = 2\n")
    assert code_stamp("light") != first


@pytest.mark.usefixtures("package")
def test_imports_are_followed_in_both_spellings_and_round_circles():
    assert with_imports("finder") == ("finder", "light")
    assert with_imports("light") == ("finder", "light")


def test_a_batch_depends_on_all_that_finds_and_upscales():
    found = with_imports("images", "segmentation")
    assert {"diameter", "images", "segmentation", "superres", "waifu", "windows"} <= set(found)
    assert "learner" not in found


def test_a_files_content_counts_where_a_parameter_names_it(tmp_path):
    notebook, file = tmp_path / "04_x.ipynb", tmp_path / "second.csv"
    notebook.write_text("{}")

    def stamp(**parameters) -> str:
        return fingerprints([notebook], {"04_x": parameters}, source="")["04_x"]

    none = stamp(corrections="")
    file.write_text("one")
    one = stamp(corrections=str(file))
    file.write_text("two")
    assert len({none, one, stamp(corrections=str(file))}) == 3
    file.write_text("one")
    assert stamp(corrections=str(file)) == one
    # Where it lies does not matter.
    assert stamp(corrections=str(file.rename(tmp_path / "moved.csv"))) == one
