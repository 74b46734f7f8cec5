"""What a reproduction will cost, before it starts: trials counted from parameters, speed measured on this machine."""

import time
import warnings
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

import pandas as pd

from rbcnb._utils.errors import InputError, SmearWarning
from rbcnb.columns import CELL, CLASSES, DEV, GROUP, KIND, LABEL, SMEAR, SPLIT
from rbcnb.labels.assign import LEAST_CELLS
from rbcnb.labels.consensus import current_labels
from rbcnb.labels.readings import NAMED, READINGS_CSV, load_readings
from rbcnb.segmentation.cost import upscaling_seconds
from rbcnb.smears.images import SmearError
from rbcnb.smears.segmented import is_segmented
from rbcnb.smears.sources import load_smears
from rbcnb.study.imbalance_lesson import NETWORK, plan_lesson
from rbcnb.study.ladder import BASE_RHO, all_trials, ladder_counts, plan_ladder
from rbcnb.study.leakage import GROUPED, RANDOM, leakage_trials
from rbcnb.study.protocols import COMPARED, images_per_fit, in_folds, plan_final, plan_folds, protocol_names
from rbcnb.training.splits import TEST_FRACTION, SplitError, assign_splits, outer_splits
from rbcnb.training.trial import Trial

_TYPICAL_DIAMETER_PX = 40.0  # of a cell, where it is left to be estimated
# Seconds on a machine that does nothing else.
_SEGMENT_S = 0.3  # to find and cut the cells of a smear, beside its upscaling
_NOTEBOOK_S = 8.0  # kernel start, imports and figures of a notebook that trains nothing
_LESSON_S = 40.0  # notebook 03, which trains toys and needs no smears
_WORKER_S = 6.0  # start of the worker processes of a notebook that trains


def measure_throughput(
    architecture: str,
    size_px: int,
    *,
    pretrained: bool = False,
    precision: str = "auto",
    batch_size: int = 32,
    at_least_s: float = 1.0,
) -> float:
    """Images per second of a training step (forward, backward, Adam) with one thread, or on the GPU if there is one.

    Raises:
        WeightsError: the network or its pretrained weights cannot be loaded here; found now, not by every trial.
    """
    import torch

    from rbcnb.threads import one_thread
    from rbcnb.training.engine import choose_engine, prepare
    from rbcnb.training.kernels import DenseAdam
    from rbcnb.training.models import build_model
    from rbcnb.training.normalise import normalise

    engine = choose_engine(precision=Trial(architecture, precision=precision).wanted_precision)
    device = engine.device
    with one_thread():
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            model = prepare(build_model(architecture, len(CLASSES), pretrained=pretrained), engine).train()
        optimiser = DenseAdam(model.parameters(), fused=True)
        images = normalise(torch.zeros(batch_size, size_px, size_px, 3, dtype=torch.uint8, device=device))
        targets = torch.zeros(batch_size, dtype=torch.long, device=device)

        def step() -> None:
            optimiser.zero_grad()
            torch.nn.functional.cross_entropy(model(images), targets).backward()
            optimiser.step()
            if device.type == "cuda":
                torch.cuda.synchronize()

        if size_px <= 64 or device.type == "cuda":
            step()  # the first step allocates; at 224 px on a CPU it takes many seconds, and the excess is lost in them
        start, steps = time.perf_counter(), 0
        while (seconds := time.perf_counter() - start) < at_least_s or not steps:
            step()
            steps += 1
        return steps * batch_size / seconds


def measure_contention(*, at_least_s: float = 0.3) -> float:
    """How many times as long as on a quiet machine a thread takes now, as it waits for a core; at least 1."""
    wall_s, cpu_s = time.perf_counter(), time.thread_time()
    while (used_s := time.thread_time() - cpu_s) < at_least_s:
        pass
    return max(1.0, (time.perf_counter() - wall_s) / used_s)


def study_images(values: Mapping[str, Any], available: Mapping[str, int]) -> dict[str, dict[str, float]]:
    """Images to train on, per notebook and architecture; an upper bound, as chosen epochs are at most those tried.

    Args:
        values: parameters of all notebooks together.
        available: class -> labelled cells expected.
    """
    n_folds, rungs = values["n_folds"], ladder_counts(available)
    whole = rungs[BASE_RHO]
    networks = [*values["architectures"], *([NETWORK] if values["imbalance_seeds"] else [])]
    images = {name: dict.fromkeys(networks, 0.0) for name in ("04", "05", "06")}

    def add(notebook: str, trials: Iterable[Trial], counts: Mapping[str, int]) -> None:
        for trial in trials:
            images[notebook][trial.architecture] += images_per_fit(trial, counts, n_folds=n_folds)

    places = outer_splits(protocol_names(values["protocol"]), n_splits=values["n_splits"], n_outer=values["n_outer"])
    folds = plan_folds(places, values)
    choices = _supposed_choices([trial for trials in folds.values() for trial in trials if trial.fold == 0])
    final = plan_final(choices, seed=values["seed"], n_seeds=values["n_seeds"])
    # Of the cells that are trained on, their number per class is all that the plan asks for.
    dev = [name for name, n in whole.items() for _ in range(round(n * (1 - TEST_FRACTION)))]
    splits = dict.fromkeys(places, pd.DataFrame({LABEL: dev, SPLIT: DEV}))
    ladders = plan_ladder(dict(iter(choices.groupby("protocol"))), splits, rungs, values)
    for name in places:
        add("04", folds[name], whole)
        add("05", final[name], whole)
        if name == "paper":
            for (_, rho), trials in ladders[name].items():
                if rungs[rho] != whole:
                    add("06", trials, rungs[rho])
        elif name in ladders:  # the ladder may be climbed on the first outer splits alone
            add("06", set(all_trials(ladders[name])) - set(final[name]), whole)
    if "honest" in protocol_names(values["protocol"]):
        dev_cells = next(iter(splits.values()))
        lesson = plan_lesson(dict.fromkeys(range(values["n_outer"]), dev_cells), rungs, values)
        for trials in lesson.values():
            add("06", trials, whole)
    plain = [Trial(architecture=name, epochs=values["epochs"]) for name in values["architectures"]]
    for seed in range(values["leakage_repeats"]):
        for scheme in (RANDOM, GROUPED):
            add("05", leakage_trials(plain, scheme, n_outer=values["n_outer"], seed=seed), whole)
    return images


def _supposed_choices(tried: Sequence[Trial]) -> pd.DataFrame:
    """As if the honest protocol chose every method's first setting: the others take as many images. The paper's all."""
    rows = pd.DataFrame([trial.settings() | {"method": trial.method, "macro_f1": 0.0} for trial in tried])
    return rows[(rows["protocol"] == "paper") | ~rows.duplicated(["protocol", *COMPARED])]


def audit_images(values: Mapping[str, Any], available: Mapping[str, int]) -> float:
    """Images to train on in notebook 02: folds and seeds of the small net, and its fits before and after correction."""
    trial = Trial(epochs=values["correction_epochs"])
    # The audit looks at eight views of each cell.
    folds = in_folds([replace(trial, epochs=8 * values["audit_epochs"])], values["n_folds"])
    counts = ladder_counts(available)[BASE_RHO]
    per_seed = sum(images_per_fit(fit, counts, n_folds=values["n_folds"]) for fit in [*folds, trial, trial])
    return values["audit_fits"] * per_seed


@dataclass(frozen=True)
class Expected:
    """What the smear source will bring, before any smear is segmented."""

    cells: pd.DataFrame  # the labelled ones: SMEAR, CELL, LABEL, GROUP
    n_smears: int
    image_px: float  # pixels per smear

    @property
    def n_cells(self) -> dict[str, int]:
        """Class -> labelled cells."""
        return self.cells[LABEL].value_counts(sort=False).to_dict()

    @property
    def studied(self) -> dict[str, int]:
        """``n_cells`` of the classes that are studied."""
        return {name: n for name, n in self.n_cells.items() if n >= LEAST_CELLS}


def expected_cells(values: Mapping[str, Any]) -> Expected:
    """Counts smears, groups and labelled cells of the parameters' source; what cannot be used of it is a warning."""
    errors: list[SmearError] = []
    smears = load_smears(
        values["smears"],
        data=values["data"] or None,
        n=values["n_smears"] if values["smears"] == "synthetic" else values["max_smears"] or None,
        seed=values["seed"],
        n_cells=values["cells_per_smear"],
        types=values["types"],
        errors=errors,
    )
    rows, sizes = [], []
    named = _named_cells(values["smears"])
    for smear in smears:
        sizes.append(smear.image.shape[0] * smear.image.shape[1])
        if smear.name in named:
            rows += [(smear.name, smear.group, label) for label in named[smear.name]]
        if smear.truth is not None:
            rows += [(smear.name, smear.group, label) for label in smear.truth[LABEL]]
    for error in errors:
        warnings.warn(f"will be left out: {error}", SmearWarning, stacklevel=2)
    cells = pd.DataFrame(rows, columns=[SMEAR, GROUP, LABEL]).reset_index(names=CELL)
    return Expected(cells, len(sizes), sum(sizes) / max(1, len(sizes)))


def _named_cells(source: str) -> dict[str, list[str]]:
    """Smear -> the labels that readers gave its cells, where *source* is a folder of `rbcnb segment`."""
    if not is_segmented(source):
        return {}
    view = current_labels(load_readings(Path(source) / READINGS_CSV))
    return view[view[KIND] == NAMED].groupby(SMEAR)[LABEL].apply(list).to_dict()


def check_enough(expected: Expected, values: Mapping[str, Any]) -> None:
    """Refuses what is bound to fail later, hours into a run perhaps.

    Raises:
        SmearError: no labelled cells at all.
        SplitError: too few smears for the honest protocol's folds.
    """
    if not expected.n_cells:
        where = (
            f"label them: rbcnb label {values['smears']} --reader YOUR_NAME"
            if is_segmented(values["smears"])
            else "put a labels.csv with smear,x_px,y_px,label beside the images (rbcnb export-labels writes one)"
        )
        raise SmearError(
            f"{values['smears']}: no smear has labelled cells to train on; {where}, or run --only 01 to find the cells "
            "alone"
        )
    if len(expected.studied) < 2:
        have = ", ".join(f"{n} {name}" for name, n in expected.n_cells.items())
        raise SmearError(
            f"{values['smears']}: a study needs two classes of at least {LEAST_CELLS} labelled cells, and there are "
            f"{have}; label more"
        )
    if "honest" not in protocol_names(values["protocol"]):
        return
    outer_splits(("honest",), n_splits=values["n_splits"], n_outer=values["n_outer"])
    if missing := set(values["ladder_methods"]) - set(values["methods"]):
        raise InputError(f"the ladder asks for {', '.join(sorted(missing))}: add that to methods, or nothing tunes it")
    cells = expected.cells[expected.cells[LABEL].isin(expected.studied)]
    if fault := _split_fault(cells, values):
        remedy = "label more smears"
        for n_outer, n_folds in product(range(values["n_outer"], 1, -1), range(values["n_folds"], 1, -1)):
            fewer = {"n_outer": n_outer, "n_folds": n_folds, "n_splits": min(values["n_splits"], n_outer)}
            if not _split_fault(cells, {**values, **fewer}):
                remedy += ", or say " + " ".join(f"--set {name}={n}" for name, n in fewer.items() if n != values[name])
                break
        source = values["smears"]
        train = f"rbcnb train {source if is_segmented(source) else ''}".rstrip()
        train = f". For a model to count with, these smears will do: {train}" * (source != "synthetic")
        raise SplitError(f"{source}: {fault} The honest protocol keeps smears whole: {remedy}{train}")


def _split_fault(cells: pd.DataFrame, values: Mapping[str, Any]) -> str:
    """Why *cells* cannot be dealt as the honest protocol of *values* asks, or nothing."""
    how = {name: values[name] for name in ("seed", "n_folds", "n_outer")}
    try:
        for outer in range(max(values["n_splits"], values["n_outer"])):  # the lesson takes each outer fold
            assign_splits(cells, protocol="honest", outer=outer, **how)
    except SplitError as error:
        return f"{str(error).partition(';')[0]}."
    return ""


def estimate(values: Mapping[str, Any], *, notebooks: Collection[str], jobs: int) -> dict[str, float]:
    """Seconds that each of *notebooks* will about take; measures only what these need.

    Args:
        values: parameters of all notebooks together.
        notebooks: numbers, "01" to "06".
        jobs: trials side by side.

    Raises:
        SmearError, SplitError: the smears are not there, or too few for what the notebooks will do (`check_enough`).
    """
    slowness = measure_contention()  # what is not a constant below is measured, and slow already
    seconds = {name: slowness * (_LESSON_S if name == "03" else _NOTEBOOK_S) for name in notebooks}
    if set(notebooks) <= {"03"}:
        return seconds
    expected = expected_cells(values)
    if "01" in seconds:
        scale = values["size_px"] / (values["diameter_px"] or _TYPICAL_DIAMETER_PX)
        upscaling_s = upscaling_seconds(expected.image_px, scale, method=values["upscale"])
        seconds["01"] += expected.n_smears * (slowness * _SEGMENT_S + upscaling_s)
    training = {"04", "05", "06"} & set(notebooks)
    if training or "02" in seconds:
        check_enough(expected, values)
    if "02" in seconds:
        train_s = audit_images(values, expected.studied) / measure_throughput("small", values["size_px"]) / jobs
        seconds["02"] += slowness * _WORKER_S + train_s
    if training:
        images = study_images(values, expected.studied)
        needed = dict.fromkeys(name for notebook in training for name, n in images[notebook].items() if n)
        speed = {
            # The lesson's network, where the study has others, is trained from the start.
            name: measure_throughput(
                name,
                values["size_px"],
                pretrained=values["pretrained"] and name in values["architectures"],
                precision=values["precision"],
            )
            for name in needed
        }
        for notebook in training:
            train_s = sum(n / speed[name] for name, n in images[notebook].items() if n) / jobs
            seconds[notebook] += slowness * _WORKER_S + train_s
    return seconds
