"""Commands that are told to stop, or are killed outright, end within seconds and leave no process behind."""

import signal
import subprocess
import sys
import time

import cv2
import psutil
import pytest

from rbcnb.segmentation.batch import segment_files
from rbcnb.segmentation.segment import FinderSpec
from rbcnb.smears.sources import synthetic_smears

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    folder = tmp_path_factory.mktemp("images")
    for smear in synthetic_smears(4, seed=3, n_cells=15):
        cv2.imwrite(str(folder / smear.name), smear.image[..., ::-1])
    return folder


def offspring(process):
    """Its processes, and Voila's server, which is in a session of its own and may have lost its parent."""
    marks = f"die_with_parent({process.pid})"
    ours = [it for it in psutil.process_iter(["cmdline"]) if any(marks in part for part in it.info["cmdline"] or ())]
    return ours + psutil.Process(process.pid).children(recursive=True)


def assert_gone(processes):
    _, left = psutil.wait_procs(processes, timeout=20)
    for process in left:
        process.kill()
    assert left == []


@pytest.mark.parametrize("moment_s", [0.5, 2.0, 4.0, 8.0])
def test_the_labeller_ends_whenever_it_is_told_to(images, tmp_path, moment_s):
    segment_files([images], tmp_path / "cells", spec=FinderSpec(upscale="none", diameter_px=40, size_px=48))
    command = [sys.executable, "-m", "rbcnb.cli", "label", str(tmp_path / "cells"), "--reader", "Ann", "--no-browser"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as process:
        try:
            time.sleep(moment_s)
            assert process.poll() is None
            started = offspring(process)
            process.send_signal(signal.SIGTERM)
            _, errors = process.communicate(timeout=40)
            assert b"Traceback" not in errors
            assert_gone(started)
        finally:
            process.kill()


def test_segmenting_that_was_killed_leaves_no_worker(images, tmp_path):
    command = [sys.executable, "-m", "rbcnb.cli", "segment", str(images), "--out", str(tmp_path / "out"), "--jobs", "2"]
    with subprocess.Popen([*command, "--upscale", "none"], stderr=subprocess.DEVNULL) as process:
        try:
            while len(started := offspring(process)) < 3:  # two workers and what counts their resources
                assert process.poll() is None
                time.sleep(0.02)
            process.kill()
            assert_gone(started)
        finally:
            process.kill()
