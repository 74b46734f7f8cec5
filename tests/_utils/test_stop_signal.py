"""SIGTERM ends a command, even where its exception is swallowed, and does not disturb what closes things."""

import signal
import subprocess
import sys
import time

import pytest

START = """
import time
from rbcnb._utils.stop_signal import stoppable
try:
    with stoppable():
        {}
except KeyboardInterrupt:
    print("stopped", flush=True)
"""
SWALLOWS = """
        for _ in range(2):
            try:
                print("up", flush=True)
                time.sleep(30)
            except BaseException:
                pass
        time.sleep(60)
"""
CLOSES = """
        try:
            print("up", flush=True)
            time.sleep(60)
        finally:
            try:
                raise ValueError
            except ValueError:
                time.sleep(2.5)
            print("closed", flush=True)
"""


@pytest.mark.parametrize(
    ("body", "expected"), [(SWALLOWS, ["up", "up", "stopped"]), (CLOSES, ["up", "closed", "stopped"])]
)
def test_a_stop_is_neither_lost_nor_repeated(body, expected):
    code = START.format(body.strip())
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as process:
        try:
            lines = [process.stdout.readline().strip()]
            sent = time.monotonic()
            process.send_signal(signal.SIGTERM)
            lines += process.communicate(timeout=30)[0].split()
            assert lines == expected
            assert process.returncode == 0
            assert time.monotonic() - sent < 15
        finally:
            process.kill()
