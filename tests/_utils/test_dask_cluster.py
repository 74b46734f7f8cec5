"""A cluster does what one machine does: the same numbers, each once, whatever happens to its workers."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from dataclasses import asdict, replace

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import make_cells
from dask_cluster import PATH, ROOT, loopback_cluster
from PIL import Image

from rbcnb._utils import dask_cluster as ours
from rbcnb._utils.dask_cluster import ask_all_workers, connect, worker_facts
from rbcnb._utils.errors import ClusterError, DeadWorkerError
from rbcnb._utils.parallel import run_all
from rbcnb.cli import main
from rbcnb.columns import CLASSES
from rbcnb.counting.model_file import ModelCard, save_model
from rbcnb.segmentation.batch import BatchError, segment_files
from rbcnb.segmentation.segment import FinderSpec
from rbcnb.segmentation.segment_many import segment_smears
from rbcnb.smears.sources import synthetic_smears
from rbcnb.study import runner
from rbcnb.study.runner import Failure, StudyError, fast_precision, run_study
from rbcnb.study.store import load_predictions
from rbcnb.study.store_index import store_rows
from rbcnb.training.models import build_model
from rbcnb.training.splits import assign_splits
from rbcnb.training.trial import Trial, expand_grid

distributed = pytest.importorskip("distributed")

FAST = Trial(epochs=2, precision="float32")
SPEC = FinderSpec(upscale="none", diameter_px=40, size_px=32)
# What a worker is made to do to a trial, before it runs it.
# Once a few are stored they wait for whoever joins late, or a quick study would be over before that.
WAITING = """
import time
from pathlib import Path
from rbcnb.study import runner
from rbcnb.training.fit import run_trial
folder = Path({folder!r})
def wait(*data, **options):
    while len(list(folder.glob("cluster/*.json"))) >= 4 and not (folder / "joined").exists():
        time.sleep(0.05)
    return run_trial(*data, **options)
runner.run_trial = wait
"""
DEADLY = """
import os
from rbcnb.study import runner
from rbcnb.training.fit import run_trial
def deadly(one, *data, **options):
    if one.seed == 1:
        os.kill(os.getpid(), 9)
    return run_trial(one, *data, **options)
runner.run_trial = deadly
"""


@pytest.fixture
def split_data():
    cells, crops = make_cells({"codocyte": 20, "hypochromia": 20, "normal": 160})
    return assign_splits(cells, protocol="paper", seed=0), crops


@pytest.fixture(scope="module")
def two_workers(tmp_path_factory):
    with loopback_cluster(tmp_path_factory.mktemp("dask"), workers=2) as cluster:
        yield cluster


def scripted(folder, text) -> list[str]:
    (folder / "script.py").write_text(text)
    return ["--preload", str(folder / "script.py")]


def add(item, *terms):
    return item + sum(int(np.sum(term)) for term in terms)


def where(_):
    return os.getpid()


def stall(item, folder):
    """The first to begin is done at once, which need not be the first in order: idle workers steal from busy ones."""
    (folder / f"begun-{item}").touch()
    try:
        (folder / "first").touch(exist_ok=False)
    except FileExistsError:
        time.sleep(600)
    return item


def test_without_a_scheduler_nothing_of_dask_is_touched(monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    with connect(None) as client:
        assert client is None
        assert ask_all_workers(client, add, 1, 2) == 3
        assert dict(run_all(add, [1, 2], shared=(10,), client=client)) == {0: 11, 1: 12}


def test_a_missing_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(ClusterError, match=r"pip install 'rbcnb\[cluster\]'"), connect("tcp://127.0.0.1:1"):
        pass


def test_no_scheduler_is_said_soon_with_address_and_mend(monkeypatch, split_data, tmp_path):
    monkeypatch.setattr(ours, "CONNECT_S", 0.5)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"tcp://127.0.0.1:{free.getsockname()[1]}"
    Image.fromarray(np.zeros((40, 40, 3), np.uint8)).save(tmp_path / "smear.png")
    start, before = time.monotonic(), threading.enumerate()
    with pytest.raises(ClusterError, match=rf"{address}: no Dask scheduler answers there .*start one"):
        run_study([FAST], *split_data, tmp_path, scheduler=address)
    with pytest.raises(ClusterError, match="no Dask scheduler answers"):
        segment_files([tmp_path], tmp_path / "out", spec=SPEC, scheduler="carrier-pigeon://roof")
    assert time.monotonic() - start < 5
    assert not [thread for thread in threading.enumerate() if thread not in before]


def test_a_study_that_is_stored_needs_no_worker(monkeypatch, split_data, tmp_path):
    monkeypatch.setattr(ours, "CONNECT_S", 0.5)
    nobody, fast = "tcp://127.0.0.1:1", fast_precision()
    auto = Trial(epochs=1)
    other = replace(auto, precision={"bf16": "float32", "float32": "bf16"}[fast])
    here = run_study([auto], *split_data, tmp_path, jobs=1, say=lambda _: None)
    for trials in ([auto], [replace(auto, precision=fast), auto]):
        there = run_study(trials, *split_data, tmp_path, scheduler=nobody, say=lambda _: None)
        assert there["key"].unique().tolist() == here["key"].tolist()
    for trials in ([replace(auto, seed=1)], [auto, replace(auto, seed=1)], [auto, other]):
        with pytest.raises(ClusterError, match="no Dask scheduler answers"):
            run_study(trials, *split_data, tmp_path, scheduler=nobody)
    run_study([other], *split_data, tmp_path, jobs=1, say=lambda _: None)
    with pytest.raises(ClusterError, match="no Dask scheduler answers"):  # workers are to say which is meant
        run_study([auto], *split_data, tmp_path, scheduler=nobody)


def test_a_trial_that_kills_workers_is_a_row_that_is_tried_again(tmp_path):
    died = runner._keep(0, FAST, DeadWorkerError("KilledWorker: 4 workers died"), tmp_path, "data")
    assert died.error == f"{FAST}: KilledWorker: 4 workers died"
    lost = Trial(fold=0)
    assert runner._keep(1, lost, Failure("the loss became nan", diverged=True), tmp_path, "data").error == ""
    assert set(store_rows(tmp_path)["error"]) == {"KilledWorker: 4 workers died", "the loss became nan"}


@pytest.mark.slow
def test_one_killed_one_late_each_trial_once_and_to_the_bit_as_in_one_process(split_data, tmp_path):
    trials = expand_grid(FAST, seed=range(4), fold=[0, 1, None])
    alone = run_study(trials, *split_data, tmp_path / "alone", jobs=1, say=lambda _: None)
    stored = tmp_path / "cluster"
    lines = []
    script = scripted(tmp_path, WAITING.format(folder=str(tmp_path)))
    with loopback_cluster(tmp_path, workers=3, options=script) as cluster:
        seen = {}

        def intervene():
            while len(list(stored.glob("*.json"))) < 4:
                time.sleep(0.01)
            seen["done"] = len(list(stored.glob("*.json")))
            cluster.workers[0].send_signal(signal.SIGKILL)
            cluster.workers[0].wait()
            cluster.add_worker(*script)
            cluster.wait()
            (tmp_path / "joined").touch()

        thread = threading.Thread(target=intervene)
        thread.start()
        together = run_study(trials, *split_data, stored, scheduler=cluster.address, say=lines.append)
        thread.join()
        with distributed.Client(cluster.address, set_as_default=False) as client:
            trained = client.run(lambda dask_worker: (str(dask_worker.name), "rbcnb.training.learner" in sys.modules))
    assert cluster.workers[0].returncode == -signal.SIGKILL
    assert seen["done"] < len(trials)  # it was killed in the middle
    assert sorted(trained.values()) == [("1", True), ("2", True), ("3", True)]  # 3: the late one
    assert lines[-1] == "study: 12 trials, 12 trained, 0 taken from the store"
    assert {path.name for path in stored.iterdir()} == {
        f"{key}{suffix}" for key in alone["key"] for suffix in (".json", ".parquet")
    }
    pd.testing.assert_frame_equal(alone.drop(columns="seconds"), together.drop(columns="seconds"), check_exact=True)
    for key in alone["key"]:
        theirs = load_predictions(stored, key)
        pd.testing.assert_frame_equal(load_predictions(tmp_path / "alone", key), theirs, check_exact=True)


@pytest.mark.heavy
def test_a_deadly_trial_ends_as_a_row_and_the_others_are_done(split_data, tmp_path):
    trials = expand_grid(FAST, seed=range(4))
    with loopback_cluster(tmp_path) as cluster:
        for _ in range(2):
            cluster.add_worker(*scripted(tmp_path, DEADLY), nanny=True)
        with pytest.raises(StudyError, match=r"1 of 4 trials failed(.|\n)*seed=1(.|\n)*KilledWorker: 4 workers died"):
            run_study(trials, *split_data, tmp_path / "store", scheduler=cluster.address, say=lambda _: None)
    rows = store_rows(tmp_path / "store")
    assert rows.set_index("seed")["error"].astype(bool).to_dict() == {0: False, 1: True, 2: False, 3: False}


@pytest.mark.heavy
def test_auto_is_what_the_workers_choose_and_they_must_agree(two_workers, split_data, tmp_path, monkeypatch):
    auto = Trial(epochs=1, precision="auto")
    fast = fast_precision()
    # Were it this machine's, it would now be another.
    monkeypatch.setattr("rbcnb.training.engine._fast_precision", lambda _: {"bf16": "float32", "float32": "bf16"}[fast])
    rows = run_study([auto], *split_data, tmp_path, scheduler=two_workers.address, say=lambda _: None)
    assert rows["precision"].tolist() == [fast]
    with connect(two_workers.address) as client, pytest.raises(ClusterError, match=r"several kinds: for where"):
        ask_all_workers(client, where, 0)


@pytest.mark.slow
def test_items_begin_in_order_and_an_iterator_is_not_drawn_ahead(two_workers):
    drawn = []

    def source():
        for item in range(30):
            drawn.append(item)
            yield item

    with connect(two_workers.address) as client:
        first = run_all(add, source(), shared=(np.ones(1000, np.uint8),), client=client)
        assert next(first)[1] >= 1000
        assert len(drawn) <= 2 * ours.AHEAD + 2
        assert sorted(value for _, value in first) == list(range(1001, 1030)) or len(drawn) == 30


@pytest.mark.slow
def test_smears_are_segmented_to_the_same_tables_and_crops(two_workers, tmp_path):
    smears = list(synthetic_smears(3, seed=0, n_cells=12))
    here, there = (segment_smears(smears, SPEC, scheduler=address) for address in (None, two_workers.address))
    pd.testing.assert_frame_equal(here.cells, there.cells, check_exact=True)
    pd.testing.assert_frame_equal(here.truth, there.truth, check_exact=True)
    np.testing.assert_array_equal(here.crops, there.crops)

    (tmp_path / "in").mkdir()
    for smear in smears:
        Image.fromarray(smear.image).save(tmp_path / "in" / smear.name)
    (tmp_path / "in" / "torn.png").write_bytes(b"no picture")
    command = [sys.executable, "-m", "rbcnb.cli", "segment", str(tmp_path / "in"), "--upscale", "none", "--size", "32"]
    for out, more in (("one", []), ("two", ["--scheduler", two_workers.address])):
        done = subprocess.run(
            [*command, "--out", str(tmp_path / out), *more], capture_output=True, text=True, cwd=ROOT, check=False
        )
        assert done.returncode == 1, done.stderr
        assert "left out" in done.stderr
        assert "torn.png" in done.stderr
    files = {path.relative_to(tmp_path / "one") for path in (tmp_path / "one").rglob("*") if path.is_file()}
    assert files == {path.relative_to(tmp_path / "two") for path in (tmp_path / "two").rglob("*") if path.is_file()}
    for file in files:
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes()
    again = FinderSpec(method="learned", upscale="none", size_px=32)
    report = segment_files([tmp_path / "in"], tmp_path / "two", spec=again)
    assert report.n_resumed == 3  # what a cluster did is done


@pytest.mark.heavy
def test_smears_are_counted_to_the_same_tables(two_workers, tmp_path):
    smears = tmp_path / "smears"
    smears.mkdir()
    for smear in synthetic_smears(3, seed=0, n_cells=12):
        Image.fromarray(smear.image).save(smears / smear.name)
    torch.manual_seed(0)
    card = ModelCard("small", CLASSES, SPEC.size_px, asdict(SPEC), 1.0, 0.4)
    model = save_model(build_model("small", 3), card, tmp_path / "model.safetensors")
    command = [sys.executable, "-m", "rbcnb.cli", "count", str(smears), "--model", str(model)]
    for out, more in (("one", []), ("two", ["--scheduler", two_workers.address])):
        subprocess.run([*command, "--out", str(tmp_path / out), *more], capture_output=True, cwd=ROOT, check=True)
    for name in ("cells", "differential", "smears"):
        assert (tmp_path / "one" / f"{name}.csv").read_bytes() == (tmp_path / "two" / f"{name}.csv").read_bytes()


def test_a_count_says_that_no_scheduler_answers(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(ours, "CONNECT_S", 0.5)
    card = ModelCard("small", CLASSES, SPEC.size_px, asdict(SPEC), 1.0, 0.4)
    model = save_model(build_model("small", 3), card, tmp_path / "model.safetensors")
    Image.fromarray(np.zeros((40, 40, 3), np.uint8)).save(tmp_path / "smear.png")
    command = ["count", str(tmp_path), "--model", str(model), "--out", str(tmp_path / "out")]
    assert main([*command, "--scheduler", "carrier-pigeon://roof"]) == 1
    assert "rbcnb count: carrier-pigeon://roof: no Dask scheduler answers" in capsys.readouterr().err


@pytest.mark.slow
def test_work_that_cannot_be_unpacked_is_said(two_workers, tmp_path, monkeypatch):
    (tmp_path / "only_here.py").write_text("def double(item): return 2 * item")
    monkeypatch.syspath_prepend(tmp_path)
    import only_here

    with (
        connect(two_workers.address) as client,
        pytest.raises(ClusterError, match="cannot unpack the work, its log says why"),
    ):
        list(run_all(only_here.double, [1, 2], client=client))


@pytest.mark.slow
def test_a_folder_that_workers_do_not_share_is_named(two_workers, tmp_path, monkeypatch):
    (tmp_path / "in").mkdir()
    for smear in synthetic_smears(1, seed=0, n_cells=12):
        Image.fromarray(smear.image).save(tmp_path / "in" / smear.name)
    monkeypatch.setattr("rbcnb.segmentation.batch.shared_folder_probe", _elsewhere)
    with pytest.raises(BatchError, match=r"does not share this folder; put inputs and --out where"):
        segment_files([tmp_path / "in"], tmp_path / "out", spec=SPEC, scheduler=two_workers.address)


class _elsewhere:  # noqa: N801 in place of a function
    def __init__(self, folder):
        self.folder = folder

    def __enter__(self):
        return self.folder / "not there"

    def __exit__(self, *_):
        pass


@pytest.mark.slow
def test_workers_that_would_compute_something_else_are_refused(split_data, tmp_path):
    other = tmp_path / "other"
    shutil.copytree(ROOT / "rbcnb", other / "rbcnb", ignore=shutil.ignore_patterns("__pycache__"))
    losses = other / "rbcnb" / "losses" / "focal.py"
    losses.write_text(losses.read_text() + "\nCHANGED = True\n")
    (tmp_path / "none" / "rbcnb").mkdir(parents=True)
    (tmp_path / "none" / "rbcnb" / "__init__.py").touch()
    with loopback_cluster(tmp_path, workers=1) as cluster:
        with connect(cluster.address) as client:
            assert ask_all_workers(client, worker_facts) == worker_facts()
            # One that joins now is refused by the first item that it takes.
            cluster.add_worker(path=(other, *PATH[1:]))
            cluster.wait()
            work = run_all(runner._work, [(FAST, "key")] * 8, shared=(*split_data, tmp_path, None), client=client)
            with pytest.raises(ClusterError, match=r"worker tcp://\S+ joined late .*rbcnb's code \w+, not .*install"):
                list(work)
        cluster.add_worker("--nthreads", "2")
        cluster.add_worker(path=(tmp_path / "none",))
        cluster.wait()
        with pytest.raises(ClusterError) as caught:
            run_study([FAST], *split_data, tmp_path / "store", scheduler=cluster.address)
    text = str(caught.value)
    assert text.count("worker tcp://") == 3
    assert "rbcnb's code" in text
    assert "it has 2 threads: start it with --nthreads 1" in text
    assert "cannot import this rbcnb there" in text


@pytest.mark.heavy
def test_ctrl_c_keeps_what_is_done_and_cancels_what_has_not_begun(tmp_path):
    code = (
        "import signal, sys; from pathlib import Path; from test_dask_cluster import stall\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it\n"
        "from rbcnb._utils.dask_cluster import connect; from rbcnb._utils.parallel import run_all\n"
        "with connect(sys.argv[1]) as client:\n"
        "    try:\n"
        "        for _, item in run_all(stall, range(8), shared=(Path(sys.argv[2]),), client=client):\n"
        "            print('done', item, flush=True)\n"
        "    except KeyboardInterrupt: print('stopped', flush=True)\n"
    )
    with loopback_cluster(tmp_path, workers=2) as cluster:
        env = os.environ | {"PYTHONPATH": os.pathsep.join(map(str, PATH))}
        caller = subprocess.Popen(
            [sys.executable, "-c", code, cluster.address, str(tmp_path)], env=env, stdout=subprocess.PIPE, text=True
        )
        assert caller.stdout.readline().startswith("done ")
        while len(list(tmp_path.glob("begun-*"))) < 3:
            time.sleep(0.05)
        caller.send_signal(signal.SIGINT)
        assert caller.communicate(timeout=30)[0] == "stopped\n"
        with distributed.Client(cluster.address, set_as_default=False) as client:
            left = client.run_on_scheduler(lambda dask_scheduler: len(dask_scheduler.tasks))
        assert left == 0
        assert len(list(tmp_path.glob("begun-*"))) == 3  # the one done, and the two that workers were at
        for worker in cluster.workers:
            worker.kill()


@pytest.mark.heavy
def test_a_scheduler_that_dies_ends_the_study_with_a_mend(tmp_path):
    with loopback_cluster(tmp_path, workers=1) as cluster, connect(cluster.address) as client:
        work = run_all(stall, range(3), shared=(tmp_path,), client=client)
        number, item = next(work)
        assert number == item
        cluster.scheduler.kill()
        cluster.workers[0].kill()
        start = time.monotonic()
        with pytest.raises(ClusterError, match=r"the scheduler is gone.* what is finished is kept"):
            next(work)
        assert time.monotonic() - start < 60


def test_checkpoints_lie_in_the_store_where_a_worker_sees_it_and_else_on_its_own_disk(tmp_path, monkeypatch):
    used, reports = [], []

    def fit(_trial, _cells, _crops, *, checkpoint, report):
        used.append(checkpoint)
        reports.append(report)
        checkpoint.touch()
        return "result"

    store = tmp_path / "store"
    store.mkdir()
    monkeypatch.setattr(runner, "run_trial", fit)
    monkeypatch.setattr(runner.tempfile, "gettempdir", lambda: str(tmp_path))
    with ours.shared_folder_probe(store) as mark:
        assert runner._work((FAST, "key"), None, None, store, mark) == "result"
    assert (
        runner._work((FAST, "key"), None, None, store, mark) == "result"
    )  # the folder of that name on another machine
    assert [path.name for path in used] == ["key.ckpt", "key.ckpt"]
    assert used[0].parent == store
    assert used[1].parent.parent == tmp_path
    assert used[0].exists()  # it goes when the result is stored
    assert not used[1].exists()
    assert [path.name for path in store.iterdir()] == ["key.ckpt"]
    # A folder for its epochs that only another machine has is left alone.
    runner._work((FAST, "key"), None, None, store, mark, tmp_path / "elsewhere")
    runner._work((FAST, "key"), None, None, store, mark, tmp_path)
    assert [report and report.path for report in reports] == [None, None, None, tmp_path / "key"]
    assert not (tmp_path / "elsewhere").exists()


@pytest.mark.slow
def test_the_slurm_example_asks_for_one_thread_and_one_gpu_a_worker(monkeypatch):
    pytest.importorskip("dask_jobqueue")
    monkeypatch.syspath_prepend(ROOT / "docs")
    import slurm

    with slurm.slurm_cluster(scheduler_options={"dashboard_address": None}) as cluster:
        script = cluster.job_script()
    for line in ("#SBATCH -p gpu", "#SBATCH --gres=gpu:1", "#SBATCH --cpus-per-task=1", "#SBATCH -t 08:00:00"):
        assert line in script.splitlines()
    assert f"{sys.executable} -m distributed.cli.dask_worker tcp://" in script
    assert "--nthreads 1 " in script
    assert "--nworkers" not in script


@pytest.mark.heavy
def test_notebooks_have_a_cluster_segment_and_train(two_workers, tmp_path):
    tiny = ["--profile", "smoke", "--only", "01,02,04"]
    for setting in (
        "n_smears=6", "cells_per_smear=30", "epochs=1", "size_px=24", "upscale=none", "n_folds=2", "protocol=paper"
    ):  # fmt: skip
        tiny += ["--set", setting]
    command = [sys.executable, "-m", "rbcnb.cli", "reproduce", *tiny, "--out", str(tmp_path / "run")]
    scheduled = [*command, "--scheduler", two_workers.address]
    done = subprocess.run(scheduled, capture_output=True, text=True, cwd=ROOT, timeout=600, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "2 workers like this machine" in done.stderr
    rows = store_rows(tmp_path / "run" / "trials")
    assert len(rows) > 5
    assert not rows["error"].any()
    # A cluster is where, not what: the same run without one has nothing left to do.
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=600, check=False)
    assert done.stderr.count("done already") == 3, done.stderr[-3000:]
