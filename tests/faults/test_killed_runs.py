"""`rbcnb reproduce`, killed again and again, ends as a run that was left alone."""

import shutil
from pathlib import Path

import pytest
from damage import seeded
from kills import count_files, differing, kill_at, run, temporary_files
from made import make_run
from outcomes import record, share
from run_results import results, trials
from tiny_run import command

from rbcnb.cli import main

MOMENTS = 20


@pytest.mark.faults
def test_a_run_killed_often_ends_as_one_that_was_left_alone(tmp_path):
    left_alone = make_run(tmp_path / "left_alone")
    rng, out, log = seeded("reproduce killed"), tmp_path / "killed" / "run", tmp_path / "log"
    n_files, moments = count_files(left_alone), share(MOMENTS)
    problems, n_killed, n_failed = [], 0, 0
    done: dict[Path, int] = {}  # finished trials, and when they were written
    for moment in range(moments):
        # A second of chance: notebooks write in bursts, and compute between them.
        n_now = n_files * (moment + 1) // (moments + 1)
        killed, alive = kill_at(
            command(out, "--jobs", "2"), out, n_now, rng=rng, group=bool(moment % 2), log=log, jitter_s=1.0
        )
        n_killed += killed
        found = [f"outlived it: {words}" for words in alive]
        found += [
            f"done again or gone: {path.name}"
            for path, when in done.items()
            if not path.exists() or path.stat().st_mtime_ns != when
        ]
        done |= {path: path.stat().st_mtime_ns for path in out.glob("trials/*.json") if not path.name.startswith(".")}
        problems += [f"moment {moment}: {words}" for words in found]
        n_failed += bool(found)
        if not killed:
            break
    last = run(command(out, "--jobs", "1"), log=log)
    ended = [f"outlived the last run: {words}" for words in last.survivors]
    if last.code:
        ended.append(f"code {last.code}: {last.text[-2000:]}")
    else:
        ended += [f"not as left alone: {name}" for name in differing(results(out), results(left_alone))]
        ended += [f"not as left alone: trial {name}" for name in differing(trials(out), trials(left_alone))]
        ended += [f"left over: {name}" for name in temporary_files(out)]
        ended += [f"done again: {path.name}" for path, when in done.items() if path.stat().st_mtime_ns != when]
        if main(["verify", str(out)]):
            ended.append("rbcnb verify is not content")
    record("reproduce killed", n_killed, n_killed if ended else n_failed)
    assert not problems + ended, "\n".join(problems + ended)
    assert n_killed >= moments / 2, f"only {n_killed} of {moments} kills came before the end"
    shutil.rmtree(out)
