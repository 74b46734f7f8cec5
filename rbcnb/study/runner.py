"""Many trials: what the store lacks is trained, side by side, and nothing is ever trained twice."""

import getpass
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import closing, nullcontext, suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import joblib
import numpy as np
import pandas as pd
from tqdm.auto import tqdm

from rbcnb._utils.dask_cluster import ask_all_workers, connect, count_workers, shared_folder_probe
from rbcnb._utils.errors import DeadWorkerError, PlainError
from rbcnb._utils.parallel import run_all
from rbcnb.columns import FOLD, LABEL
from rbcnb.study.progress import Course, EpochFile, Outcome, ticking
from rbcnb.study.protocols import images_per_fit
from rbcnb.study.store import checkpoint_of, is_unsealed, lacks, results_table, store_failure, store_result
from rbcnb.training.fit import TrialResult, hash_data, run_trial
from rbcnb.training.trial import PRECISIONS, Trial

if TYPE_CHECKING:
    from distributed import Client

    from rbcnb.training.trial import Trial

# Between two lines of a study, on a bar and where none can be drawn.
BAR_EVERY_S, LOG_EVERY_S = 0.5, 10.0


def block_of(trial: Trial) -> tuple[str, int, int]:
    """What the fits of several methods are compared within: network, outer split and seed."""
    return trial.architecture, trial.outer, trial.seed


def mixed_blocks(rows: pd.DataFrame) -> pd.DataFrame:
    """Blocks (`block_of`) whose fits were computed on several kinds of processor, or in several number formats.

    Args:
        rows: final fits of `run_study`.

    Returns:
        ``architecture``, ``outer``, ``seed``, ``kinds``: how many; a contrast within such a block is not within one
        machine.
    """
    kinds = rows["processor"].astype(object).fillna("") + rows["engine"]
    table = rows.assign(kinds=kinds).groupby(["architecture", "outer", "seed"])["kinds"].nunique().reset_index()
    return table[table["kinds"] > 1].reset_index(drop=True)


def fast_precision() -> str:
    """What "auto" means on this machine."""
    from rbcnb.training.engine import choose_engine

    return choose_engine().precision


def at_precision(trials: Sequence[Trial], precision: str) -> list[Trial]:
    """*trials*, those with "auto" at *precision*, or at the one that their network wants."""
    asked = [trial.wanted_precision for trial in trials]
    at = [precision if wanted == "auto" else wanted for wanted in asked]
    return [replace(trial, precision=used) for trial, used in zip(trials, at, strict=True)]


def stored_trials(trials: Sequence[Trial], store: Path, data: str) -> list[Trial] | None:
    """*trials* as *store* has them all, those with "auto" at the one precision that it has any of them in.

    None where it lacks some, or has some in either precision: then "auto" is for whoever computes to say.
    """

    def is_there(trial: Trial) -> bool:
        return not lacks(store, trial.key(data))

    auto = [trial for trial in trials if trial.precision == "auto"]
    begun = [name for name in PRECISIONS if name != "auto" and any(map(is_there, at_precision(auto, name)))]
    if auto and len(begun) != 1:
        return None
    named = at_precision(trials, *begun) if auto else list(trials)
    return named if all(map(is_there, named)) else None


class StudyError(PlainError, RuntimeError):
    """Some trials of a study failed; the finished ones are stored, and so are the reasons of the others."""


class StudyInterrupt(PlainError, KeyboardInterrupt):  # noqa: N818 - as KeyboardInterrupt
    """Somebody stopped a study."""


@dataclass(frozen=True)
class Failure:
    """Why a worker brings no result of a trial."""

    reason: str
    diverged: bool = False


def run_study(
    trials: Sequence[Trial],
    cells: pd.DataFrame,
    crops: np.ndarray,
    store: str | Path,
    *,
    jobs: int | None = None,
    scheduler: str | None = None,
    say: Callable[[str], None] | None = None,
) -> pd.DataFrame:
    """Runs the trials that the store does not have yet and returns all of them, one row each, in the order given.

    Each trial computes with one thread, so that its result does not depend on how many run side by side. A long one
    writes its state down between epochs, and a study that was stopped goes on from there.

    Args:
        trials: the settings; twice the same trial is run once. A ``precision`` of "auto" becomes that of the machine
            that computes; on a cluster the one that all its workers choose, or that of the stored trials, see below.
        cells: table with ``label``, ``split`` and ``fold``.
        crops: uint8 [len(cells), S, S, 3].
        store: folder of finished trials; made when missing.
        jobs: trials side by side; None takes one per core (one in all on a GPU). More than one on a GPU packs small
            trials onto it, each a process with crops and network of its own; how much that gains is unmeasured.
        scheduler: address of a Dask scheduler, such as "tcp://10.0.0.5:8786", whose workers run the trials in place of
            this machine; the results come here, and *store* need not be seen by them. Where the store has all trials,
            those with "auto" in one precision only, nobody is asked and no worker is waited for.
        say: takes a line of progress every few seconds. None: a bar in a notebook or a terminal, printed lines
            elsewhere.

    Returns:
        `rbcnb.study.store.results_table` of the trials. A fit on a fold whose loss diverged has its reason in ``error``
        and no scores.

    Raises:
        StudyError: trials failed; it names each with its reason. All others are done and stored. Or: the store cannot
            be written to, or a worker process died; what was finished is stored.
        ClusterError: the cluster cannot do the work, or not any more; what was finished is stored.
        StudyInterrupt: a KeyboardInterrupt: the workers are stopped, what was finished is stored.
    """
    store = Path(store).absolute()  # where it is for a worker, too, that sees it
    no_bar = None if say is None else True  # None: tqdm draws one in a notebook and in a terminal
    say = say or partial(print, flush=True)
    data = hash_data(cells, crops)
    if scheduler and (stored := stored_trials(trials, store, data)):
        trials, scheduler = stored, None
    with connect(scheduler, say=say) as client:
        if any(trial.precision == "auto" for trial in trials):
            trials = at_precision(trials, ask_all_workers(client, fast_precision))
        keys = [trial.key(data) for trial in trials]
        if any(is_unsealed(store, key) for key in keys):
            raise StudyError(
                f"{store}: holds trials of an earlier version, without digests that would tell damage; run once: rbcnb "
                f"results {store} --seal"
            )
        missing = {key: trial for key, trial in zip(keys, trials, strict=True) if lacks(store, key)}
        if missing:
            _check_writable(store)
            options = {"data": data, "jobs": jobs or default_jobs(), "client": client, "say": say, "no_bar": no_bar}
            errors = _train(list(missing.values()), cells, crops, store, **options)
            if errors:
                raise StudyError(
                    f"{len(errors)} of {len(missing)} trials failed, the rest is stored:\n" + "\n".join(errors)
                )
    say(f"study: {len(set(keys))} trials, {len(missing)} trained, {len(set(keys)) - len(missing)} taken from the store")
    rows = results_table(store, keys)
    if diverged := int(rows["error"].astype(bool).sum()):
        say(f"study: {diverged} of {len(rows)} fits diverged; their settings are out")
    return rows


def default_jobs() -> int:
    """One trial per core; one at a time where a GPU does the work."""
    import torch

    return 1 if torch.cuda.is_available() else joblib.cpu_count()


def _check_writable(store: Path) -> None:
    """Makes the store, and finds out before hours of training, not after, that nothing can be kept."""
    try:
        store.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=store, buffering=0) as file:
            file.write(b"a byte")
    except OSError as error:
        raise StudyError(
            f"{store}: cannot be written to ({error.strerror}); put that right, or name another store"
        ) from error


def _work(
    item: tuple[Trial, str],
    cells: pd.DataFrame,
    crops: np.ndarray,
    store: Path,
    mark: Path | None,
    progress: Path | None = None,
) -> TrialResult | Failure:
    """Runs one trial in a worker, with one thread; a long one writes its state down under the key that comes with it.

    Args:
        mark: on a cluster, a file that a worker sees in *store* if that is the same folder there.
        progress: folder for the trial's epochs; a worker that does not see it, on another machine, tells of none.
    """
    import torch

    trial, key = item
    here = mark is None or mark.exists()
    checkpoint = checkpoint_of(store if here else _worker_folder(), key)
    report = EpochFile(progress / key) if progress is not None and progress.is_dir() else None
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        result = run_trial(trial, cells, crops, checkpoint=checkpoint, report=report)
        if not here:
            checkpoint.unlink(missing_ok=True)  # in the store it goes when the result is there
        return result
    except FloatingPointError as error:
        return Failure(str(error), diverged=True)
    except Exception as error:  # whatever ails one trial, the others are still to be done
        return Failure(f"{type(error).__name__}: {error}")
    finally:
        torch.set_num_threads(threads)


def _worker_folder() -> Path:
    """Where a worker that does not share the store keeps checkpoints: for the next one on its machine to go on from."""
    folder = Path(tempfile.gettempdir()) / f"rbcnb-{getpass.getuser()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    return folder


def _keep(number: int, trial: Trial, done: TrialResult | Failure | DeadWorkerError, store: Path, data: str) -> Outcome:
    """Stores what came of a trial."""
    if isinstance(done, TrialResult):
        try:
            store_result(done, store, data=data)
            return Outcome(number, macro_f1=done.scores["macro_f1"])
        except OSError as error:
            done = Failure(f"{type(error).__name__}: {error}")
    reason = str(done) if isinstance(done, DeadWorkerError) else done.reason
    # On a fold a setting that diverges has lost, and that is a result: kept, so that nobody fits it again.
    lost = isinstance(done, Failure) and done.diverged and trial.fold is not None
    failure = _store_failure(trial, store, data=data, error=reason, retry=not lost)
    return Outcome(number, error="" if lost and failure == reason else f"{trial}: {failure}")


def _store_failure(trial: Trial, store: Path, *, data: str, error: str, retry: bool) -> str:
    """Stores and returns *error*; a store that cannot take it (a full disk, say) is named in the text, no exception."""
    try:
        store_failure(trial, store, data=data, error=error, retry=retry)
    except OSError as refusal:
        return f"{error} (and {store} cannot be written to: {refusal.strerror})"
    return error


def _train(
    trials: list[Trial],
    cells: pd.DataFrame,
    crops: np.ndarray,
    store: Path,
    *,
    data: str,
    jobs: int,
    client: "Client | None",
    say: Callable[[str], None],
    no_bar: bool | None,
) -> list[str]:
    counts, n_folds = cells[LABEL].value_counts().to_dict(), max(2, int(cells[FOLD].max()) + 1)
    costs = [images_per_fit(trial, counts, n_folds=n_folds) for trial in trials]
    # The longest first, so that no worker sits idle behind one that started late; of equally long ones those of a block
    # (network, outer split, seed) together, so that what is compared is computed by one machine, stopped or not.
    order = sorted(range(len(trials)), key=lambda i: (-costs[i], *block_of(trials[i])))
    jobs = min(count_workers(client) if client else jobs, len(trials))
    items = [(trials[i], trials[i].key(data)) for i in order]
    keys = {key: i for i, (_, key) in zip(order, items, strict=True)}
    course = Course(trials, costs, jobs=jobs)
    done, start = course.done, time.monotonic()
    printed_s = [start]  # of the last line
    style = {"bar_format": "{desc} {bar}", "leave": False, "mininterval": BAR_EVERY_S}
    try:
        with (
            tqdm(total=len(trials), desc=course.line(spent_s=0), disable=no_bar, **style) as bar,
            tempfile.TemporaryDirectory(prefix="rbcnb-progress-", ignore_cleanup_errors=True) as folder,
            shared_folder_probe(store) if client else nullcontext() as mark,
        ):
            progress = Path(folder)

            def tick() -> None:
                now = time.monotonic()
                course.look(progress, keys, spent_s=now - start)
                if not bar.disable:
                    bar.set_description_str(course.line(spent_s=now - start))
                elif now - printed_s[0] >= LOG_EVERY_S:
                    say(course.line(spent_s=now - start))
                    printed_s[0] = now

            if bar.disable:
                say(course.line(spent_s=0))
            shared = cells, crops, store, mark, progress
            # An interruption between two of them is to stop the workers, too. The clock stops first.
            with (
                closing(run_all(_work, items, shared=shared, jobs=jobs, client=client)) as results,
                ticking(tick, BAR_EVERY_S),
            ):
                for place, result in results:
                    number = order[place]
                    done.append(_keep(number, trials[number], result, store, data))
                    (progress / items[place][1]).unlink(missing_ok=True)
                    with suppress(OSError, RuntimeError):  # of a scheduler that is gone the next result tells
                        course.jobs = count_workers(client) if client else jobs
                    bar.update()
    except KeyboardInterrupt:
        raise StudyInterrupt(
            f"study: stopped; {len(done)} of {len(trials)} trials are done and stored; run the same again to go on"
        ) from None
    except DeadWorkerError as error:
        raise StudyError(
            f"a worker process died, most likely because memory ran out; {len(done)} of {len(trials)} trials are done "
            f"and stored: run the same again with fewer jobs than {jobs}"
        ) from error
    return [outcome.error for outcome in done if outcome.error]
