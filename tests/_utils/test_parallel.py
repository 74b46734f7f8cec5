"""Workers: results in order, one mechanism for all pools, and none outlives a parent that was killed."""

import re
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

import rbcnb
from rbcnb._utils.parallel import run_in_order

SLEEPERS = (
    "import sys, time\nfrom rbcnb._utils.parallel import run_in_order\n"
    "run_in_order(time.sleep, [float(s) for s in sys.argv[1:]], jobs=4)"
)


@pytest.mark.parametrize("jobs", [1, 2])
def test_results_come_in_the_order_of_the_items(jobs):
    assert run_in_order(divmod, [7, 8, 9], shared=(2,), jobs=jobs) == [(3, 1), (4, 0), (4, 1)]


@pytest.mark.slow
@pytest.mark.parametrize("wait_s", [0.0, 0.3, 6.0])
def test_no_worker_outlives_a_parent_that_was_killed(wait_s):
    """Be it at work, waiting for its first item, or still about to begin."""
    with subprocess.Popen([sys.executable, "-c", SLEEPERS, "600", "0"]) as process:
        parent, children = psutil.Process(process.pid), []
        try:
            while not (children := parent.children(recursive=True)):
                assert process.poll() is None
                time.sleep(0.005)
            time.sleep(wait_s)
            children = parent.children(recursive=True)
            process.kill()
            process.wait()
            _, left = psutil.wait_procs(children, timeout=20)
            assert left == []
        finally:
            for child in children:
                if child.is_running():
                    child.kill()


def test_there_is_one_mechanism_for_all_pools():
    sources = Path(rbcnb.__file__).parent.rglob("*.py")
    pools = re.compile(r"joblib\.Parallel|ProcessPoolExecutor|multiprocessing|get_reusable_executor")
    assert [path.name for path in sources if pools.search(path.read_text(encoding="utf-8"))] == ["parallel.py"]
