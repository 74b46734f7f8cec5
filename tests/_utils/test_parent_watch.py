"""A child ends when its parent is killed outright, and when the parent was gone before the child could look."""

import signal
import subprocess
import sys
import time

import psutil
import pytest

CHILD = "from rbcnb._utils.parent_watch import die_with_parent as f; f({}); print('up', flush=True); "
CHILD += "import time; time.sleep(60)"


@pytest.mark.slow
def test_a_child_ends_with_a_parent_that_was_killed():
    parent = "import os, subprocess, sys; child = subprocess.Popen([sys.executable, '-c', {!r}.format(os.getpid())]); "
    parent += "print(child.pid, flush=True); child.wait()"
    command = [sys.executable, "-c", parent.format(CHILD)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        child = psutil.Process(int(process.stdout.readline()))
        try:
            assert process.stdout.readline() == "up\n"
            time.sleep(2)
            assert child.is_running()
            process.kill()
            assert psutil.wait_procs([child], timeout=20)[0]
        finally:
            process.kill()
            if child.is_running():
                child.kill()


def test_a_child_whose_parent_is_gone_already_ends():
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    child = subprocess.run([sys.executable, "-c", CHILD.format(gone.pid)], timeout=30, check=False)
    assert child.returncode == -signal.SIGTERM
