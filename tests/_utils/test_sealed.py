"""What was written comes back; whatever was changed since does not."""

import json
import math
import os
import random

import pytest

from rbcnb._utils.files import parts_digest
from rbcnb._utils.sealed import is_whole, read_sealed, write_sealed

FACTS = {"name": "ü", "numbers": [1, 2.5, 0.1 + 0.2, math.nan, math.inf], "rows": {"b": [True, None], "a": []}}


def test_what_was_written_comes_back(tmp_path):
    path = tmp_path / "a.json"
    assert read_sealed(path) is None
    write_sealed(path, FACTS)
    back = read_sealed(path)
    assert json.dumps({name: back[name] for name in FACTS}) == json.dumps(FACTS)
    assert is_whole(back)


@pytest.mark.parametrize(
    "text", ["", "{", "null", "[]", "{}", '{"digest": "0"}', '{"digest": null}', "[" * 10_000, "[" * 900 + "]" * 900]
)
def test_what_is_no_sealed_json_is_nothing(tmp_path, text):
    (tmp_path / "a.json").write_text(text)
    assert read_sealed(tmp_path / "a.json") is None


def test_what_is_no_file_is_nothing(tmp_path):
    (tmp_path / "folder.json").mkdir()
    os.mkfifo(tmp_path / "pipe.json")  # nobody waits for a writer
    assert read_sealed(tmp_path / "folder.json") is read_sealed(tmp_path / "pipe.json") is None


def test_random_damage_is_found_or_changes_nothing(tmp_path):
    path = tmp_path / "a.json"
    write_sealed(path, FACTS)
    data, whole, draw = path.read_bytes(), json.dumps(read_sealed(path), sort_keys=True), random.Random(0)
    n_found = 0
    for _ in range(500):
        damaged = bytearray(data)
        if draw.random() < 0.8:
            damaged[draw.randrange(len(data))] ^= 1 << draw.randrange(8)
        else:
            del damaged[draw.randrange(len(data)) :]
        path.write_bytes(damaged)
        read = read_sealed(path)
        n_found += read is None
        assert read is None or json.dumps(read, sort_keys=True) == whole
    assert n_found > 450


def test_the_digest_knows_where_a_part_ends():
    assert parts_digest([b"ab", b"c"]) != parts_digest([b"a", b"bc"])
    assert parts_digest([b"ab"]) != parts_digest([b"ab", b""])
