"""docs/faults.md and the tests speak of the same kinds of faults."""

import re
from pathlib import Path

import pytest
from outcomes import BEGIN, END, KINDS, PAGE, record, table

CALL = re.compile(r'(?:record|killed_and_resumed|settle)\(\s*"([^"]+)"')


def test_every_kind_has_a_test_that_notes_its_outcome():
    tests = [path for path in Path(__file__).parent.glob("test_*.py") if path.name != Path(__file__).name]
    sources = [path.read_text(encoding="utf-8") for path in tests]
    assert {kind for source in sources for kind in CALL.findall(source)} == set(KINDS)


def test_the_page_has_the_kinds_of_the_tests_and_how_each_is_known():
    shown = PAGE.read_text(encoding="utf-8").split(BEGIN)[1].split(END)[0].strip().splitlines()
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in shown[2:]]
    assert {row[0]: row[-1] for row in rows} == KINDS
    assert all(row[1] == "not run" or 0 <= int(row[2]) <= int(row[1]) for row in rows)


def test_outcomes_become_a_table(tmp_path, monkeypatch):
    path = tmp_path / "faults.csv"
    monkeypatch.setenv("RBCNB_FAULTS_CSV", str(path))
    record("segment killed", 20, 1)
    record("segment killed", 20, 0, "on two workers")
    lines = table(path).splitlines()
    assert lines[2].startswith("| segment killed | 40 | 39 | ")
    assert len(lines) == 2 + len(KINDS)
    assert lines[3].startswith("| count killed | not run |  | ")
    with pytest.raises(ValueError, match="no kind"):
        record("an earthquake", 1, 1)
