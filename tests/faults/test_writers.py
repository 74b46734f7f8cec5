"""Several processes write to the same file at once: what was acknowledged is there, or it was refused."""

import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import pytest
from kills import LIMIT_S, start
from locks import without_locks
from outcomes import record
from writers import there

WRITER = Path(__file__).with_name("writers.py")
EACH = {"readings": 100, "ledger": 12, "manifest": 20}


def write_at_once(what: str, folder: Path, *, writers: int, each: int, env: Mapping[str, str] | None = None) -> dict:
    """Has *writers* processes write *each* times: what they were acknowledged, what is there, what they said."""
    folder.mkdir()
    logs = [folder.with_name(f"{folder.name}.{who}.log") for who in range(writers)]
    commands = [[sys.executable, str(WRITER), what, str(folder), str(who), str(each)] for who in range(writers)]
    running = [start(command, log, env=env) for command, log in zip(commands, logs, strict=True)]
    try:
        deadline = time.monotonic() + LIMIT_S
        while len(list(folder.glob("ready*"))) < writers and time.monotonic() < deadline:
            assert all(writer.process.poll() is None for writer in running), [log.read_text() for log in logs]
            time.sleep(0.05)
        (folder / "go").touch()
        for writer in running:
            writer.process.wait(LIMIT_S)
    except subprocess.TimeoutExpired:
        pytest.fail(f"writers of {what} hang")
    finally:
        for writer in running:
            writer.survivors(within_s=0)
    lines = [line for log in logs for line in log.read_text().splitlines()]
    refused = [line for line in lines if line.startswith("refused: ")]
    texts = [log.read_text() for log in logs]
    return {
        "acknowledged": [line for line in lines if len(line.split()) <= 2 and not line.startswith("refused")],
        "there": list(there(what, folder)),
        "refused": refused,
        "traces": [text for text in texts if "Traceback" in text],
    }


def lost(outcome: dict) -> list[str]:
    return sorted(set(outcome["acknowledged"]) - set(outcome["there"]))


def test_two_writers_of_readings_lose_none(tmp_path):
    outcome = write_at_once("readings", tmp_path / "f", writers=2, each=20)
    assert not outcome["traces"]
    assert sorted(outcome["there"]) == sorted(outcome["acknowledged"])
    assert len(outcome["acknowledged"]) == 40


def test_writers_of_readings_without_locks_lose_none(tmp_path):
    outcome = write_at_once("readings", tmp_path / "f", writers=4, each=50, env=without_locks(tmp_path / "site"))
    assert not outcome["traces"]
    assert sorted(outcome["there"]) == sorted(outcome["acknowledged"])
    assert len(outcome["acknowledged"]) == 200 or outcome["refused"]


def test_locks_can_be_made_to_fail(tmp_path):
    """Else the tests without locks would test nothing."""
    code = "import fcntl; fcntl.flock(open('x', 'w'), fcntl.LOCK_EX)"
    log = tmp_path / "log"
    start([sys.executable, "-c", code], log, cwd=tmp_path, env=without_locks(tmp_path / "site")).process.wait(60)
    assert "No locks available" in log.read_text()


@pytest.mark.faults
@pytest.mark.parametrize("writers", [2, 10])
@pytest.mark.parametrize("what", [*EACH])
def test_several_writers_lose_nothing(what, writers, tmp_path):
    outcome = write_at_once(what, tmp_path / "f", writers=writers, each=EACH[what])
    missing = lost(outcome)
    record("several writers", len(outcome["acknowledged"]), len(missing), f"{what} by {writers}")
    assert not outcome["traces"]
    assert not missing
    assert len(outcome["there"]) == len(set(outcome["there"]))
    # A busy machine may have one wait too long for the others; that is told, and the lock is what works here.
    assert len(outcome["acknowledged"]) == writers * EACH[what] or outcome["refused"]


@pytest.mark.faults
@pytest.mark.parametrize("writers", [2, 10])
@pytest.mark.parametrize("what", [*EACH])
def test_without_locks_nothing_acknowledged_is_lost(what, writers, tmp_path):
    env = without_locks(tmp_path / "site")
    outcome = write_at_once(what, tmp_path / "f", writers=writers, each=EACH[what], env=env)
    missing = lost(outcome)
    record("several writers without locks", len(outcome["acknowledged"]), len(missing), f"{what} by {writers}")
    assert not outcome["traces"]
    assert not missing
    assert len(outcome["there"]) == len(set(outcome["there"]))
    assert len(outcome["acknowledged"]) == writers * EACH[what] or outcome["refused"]
