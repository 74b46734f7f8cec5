"""From a run to a model file: the chosen setting is fitted, and kept with what a count of new smears needs.

The setting is chosen on the folds, never by the test set. What the file says of its own certainty (temperature,
threshold, confusion, and how sure it is on smears like those it knows) comes from cells that the network which judged
them was not trained on: the same setting fitted once per fold.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from rbcnb import __version__
from rbcnb._utils.parallel import run_in_order
from rbcnb.columns import (
    BORDER,
    CELL,
    CROP,
    FOLD,
    GROUP,
    LABEL,
    NO_FOLD,
    PRED,
    SMEAR,
    TARGET,
    class_names,
    prob_columns,
)
from rbcnb.counting.abstention import choose_threshold, confusion_by_group
from rbcnb.counting.model_file import ModelCard, ModelFileError, load_model, save_model
from rbcnb.counting.smear_shift import MIN_SMEARS, look_of_smear, reference_of
from rbcnb.evaluation.calibration import apply_temperature, fit_temperature
from rbcnb.evaluation.metrics import score_predictions
from rbcnb.segmentation.segment import FinderSpec, finder_spec
from rbcnb.smears.segmented import DIAMETER
from rbcnb.study.ledger import open_test
from rbcnb.study.protocols import chosen_trials
from rbcnb.study.runner import default_jobs
from rbcnb.study.store import load_predictions
from rbcnb.threads import one_thread
from rbcnb.training.fit import hash_data, run_trial
from rbcnb.training.resampling import training_rows
from rbcnb.training.trial import FIT_VERSION, Trial
from rbcnb.workflow.run import Run

if TYPE_CHECKING:
    from torch import nn

MODEL = "model.safetensors"  # in the run's folder
DATA_CARD = "data_card.md"


def choose_trial(choices: pd.DataFrame, *, protocol: str, seed: int) -> Trial:
    """The final fit to export: of all that *protocol* chose on its first split, the best by macro F1 on the folds.

    Args:
        choices: the table of notebook 04.
        seed: of the fit.
    """
    mine = choices[(choices["protocol"] == protocol) & (choices["outer"] == 0)]
    return chosen_trials(mine.loc[[mine["valid_macro_f1"].idxmax()]], seeds=[seed])[0]


def stored_predictions(trial: Trial, results: pd.DataFrame, store: str | Path) -> pd.DataFrame:
    """The predictions in *store* of *trial*, which is found among *results* by its settings.

    Raises:
        ValueError: it is not among them.
    """
    same = pd.Series(True, index=results.index)
    for name, value in trial.settings().items():
        same &= results[name].isna() if value is None else results[name] == value
    if not same.any():
        fit = f"{trial.architecture}, {trial.method}, {trial.protocol}, outer split {trial.outer}, seed {trial.seed}"
        raise ValueError(f"not among the results: {fit}; run the study that it is of")
    return load_predictions(store, results.loc[same, "key"].iloc[0])


def fit_networks(
    trials: Sequence[Trial], cells: pd.DataFrame, crops: np.ndarray, folder: str | Path, *, jobs: int | None = None
) -> list["nn.Module"]:
    """The networks of *trials*, on the CPU, fitted as `rbcnb.training.run_trial` does.

    Each is kept in a file of *folder*. What lies there from an earlier call, of the same trial, data and code, is not
    fitted again.

    Args:
        jobs: fits side by side; None for one per core.
    """
    folder, data = Path(folder), hash_data(cells, crops)
    classes = class_names(cells[LABEL])
    paths = [folder / f"{trial.key(data)}.safetensors" for trial in trials]
    missing = [(trial, path) for trial, path in zip(trials, paths, strict=True) if not _is_of(path, trial, data)]
    jobs = max(1, min(jobs or default_jobs(), len(missing)))
    run_in_order(_fit, missing, shared=(cells, crops, classes, data), jobs=jobs)
    return [load_model(path).network for path in paths]


def _is_of(path: Path, trial: Trial, data: str) -> bool:
    """Whether *path* holds the network of *trial*, whole."""
    try:
        card = load_model(path).card
        return (card.trial, card.data) == (trial.settings(), data)
    except ModelFileError:
        return False


def _fit(work: tuple[Trial, Path], cells: pd.DataFrame, crops: np.ndarray, classes: tuple[str, ...], data: str) -> None:
    """Fits one trial with one thread, as a study does, so that its numbers are the study's; and keeps the network."""
    trial, path = work
    card = ModelCard(trial.architecture, classes, crops.shape[1], finder={}, trial=trial.settings(), data=data)
    try:
        with one_thread():
            run_trial(
                trial, cells, crops, checkpoint=path.with_suffix(".ckpt"), keep=lambda net: save_model(net, card, path)
            )
    finally:
        path.with_suffix(".ckpt").unlink(missing_ok=True)


def held_out_predictions(network: "nn.Module", trial: Trial, cells: pd.DataFrame, crops: np.ndarray) -> pd.DataFrame:
    """The predictions table of the cells that *trial* holds out, as `rbcnb.training.run_trial` stores it."""
    from rbcnb.training.predict import predict_crops

    classes = class_names(cells[LABEL])
    _, held_out = training_rows(trial, cells)
    probabilities = predict_crops(network, crops[held_out])
    table = cells.iloc[held_out][[SMEAR, CELL, GROUP]].reset_index(drop=True)
    table[TARGET] = cells[LABEL].to_numpy()[held_out]
    table[PRED] = np.array(classes)[probabilities.argmax(axis=1)]
    table[prob_columns(classes)] = probabilities
    return table


def export_model(run: Run, trial: Trial, cells: pd.DataFrame, *, jobs: int | None = None) -> Path:
    """Fits *trial* and each of its folds, and writes ``model.safetensors`` into the run; returns its path.

    Args:
        run: with ``cells.csv``, ``crops.npy``, ``smears.csv`` and ``finder.json`` of notebook 01.
        trial: a final fit (``fold`` is None).
        cells: its protocol's split, with ``crop``.
        jobs: fits side by side; None for one per core.

    Raises:
        ValueError: the run's cells were found by another version of this package.
        rbcnb._utils.errors.WeightsError: they were found by the learned finder, and its weights cannot be read.
        rbcnb.study.TestSetError: the run's test set was opened with other settings of this method, labels or crops.
    """
    spec = finder_spec(run.folder)
    crops = run.load_crops(cells[CROP])
    open_test(run.folder, [trial], cells, crops)  # for the test scores in the card
    folds = [replace(trial, fold=int(fold)) for fold in sorted(set(cells[FOLD]) - {NO_FOLD})]
    folder = run.folder / "models"
    final, *others = fit_networks([trial, *folds], cells, crops, folder, jobs=jobs)

    found = run.load_csv("cells")
    whole = found.loc[~found[BORDER], [SMEAR, CELL]]
    judged = pd.concat([held_out_predictions(net, fold, cells, crops) for net, fold in zip(others, folds, strict=True)])
    judged = judged.merge(whole)  # a cell cut off by the border is not counted, and so it says nothing here
    networks = dict(zip((trial, *folds), (final, *others), strict=True))
    diameters = run.load_csv("smears").set_index(SMEAR)[DIAMETER].to_dict()
    note = run.folder / DATA_CARD
    card, _ = model_card(
        trial,
        cells,
        crops,
        judged,
        lambda temperature: looks_of_smears(networks, cells, found, run.load_crops, diameters, temperature),
        spec=spec,
        scores=score_predictions(held_out_predictions(final, trial, cells, crops)),
        run=run.folder.name,
        data_card=note.read_text(encoding="utf-8") if note.is_file() else "",
    )
    path = save_model(final, card, run.folder / MODEL)
    run.record(MODEL)
    for fold in folds:
        (folder / f"{fold.key(card.data)}.safetensors").unlink(missing_ok=True)
    return path


def model_card(
    trial: Trial,
    cells: pd.DataFrame,
    crops: np.ndarray,
    judged: pd.DataFrame,
    looks_at: Callable[[float], list[dict[str, float]]],
    *,
    spec: FinderSpec,
    run: str,
    scores: Mapping[str, float] | None = None,
    data_card: str = "",
) -> tuple[ModelCard, pd.DataFrame]:
    """What a model's file says beside the weights, and *judged* with calibrated probabilities.

    Args:
        trial: the fit of the model.
        cells, crops: that it was fitted on.
        judged: predictions of whole cells by networks that were not fitted on their fold.
        looks_at: temperature -> `look_of_smear` of each smear (`looks_of_smears`).
        spec: how the cells were found.
        run: name of the folder.
        scores: None for those of *judged*.
        data_card: its text.

    Raises:
        rbcnb._utils.errors.WeightsError: the cells were found by the learned finder, and its weights cannot be read.
    """
    temperature = fit_temperature(judged)
    judged = apply_temperature(judged, temperature)
    threshold, sure = choose_threshold(judged)
    looks = looks_at(temperature)
    scores = score_predictions(judged) if scores is None else scores
    card = ModelCard(
        architecture=trial.architecture,
        classes=class_names(cells[LABEL]),
        size_px=crops.shape[1],
        finder=asdict(spec),
        temperature=temperature,
        threshold=threshold,
        sure=sure,
        confusion=confusion_by_group(judged, threshold=threshold).tolist(),
        look=asdict(reference_of(looks)) if len(looks) >= MIN_SMEARS else {},  # fewer show no spread
        trial=trial.settings(),
        # JSON has no word for a score that is undefined but null.
        scores={name: None if np.isnan(value) else value for name, value in scores.items()},
        data=hash_data(cells, crops),
        run=run,
        fit_version=FIT_VERSION,
        package=__version__,
        data_card=data_card,
        finder_weights=_finder_weights(spec),
    )
    return card, judged


def _finder_weights(spec: FinderSpec) -> str:
    """The digest of the learned finder's weights if it had a say in the cells, else ""."""
    if not spec.uses_learned_finder:
        return ""
    from rbcnb.segmentation.finder_net import load_finder

    return load_finder().digest


def looks_of_smears(
    networks: Mapping[Trial, "nn.Module"],
    cells: pd.DataFrame,
    found: pd.DataFrame,
    load_crops: Callable[[pd.Series], np.ndarray],
    diameters: Mapping[str, float],
    temperature: float,
) -> list[dict[str, float]]:
    """`look_of_smear` of every smear that has enough cells, over all cells that were found in it.

    Each smear is judged by a network that holds some of its cells out, on the cells that it was not trained on.

    Args:
        networks: of trials that hold cells out.
        cells: labelled, with ``crop``, ``split`` and ``fold``.
        found: all cells that were found, with ``crop``.
        load_crops: column ``crop`` -> crops uint8 [N, S, S, 3].
        diameters: smear -> diameter of a typical cell, in its pixels.
        temperature: of the networks' probabilities.
    """
    from rbcnb.training.predict import predict_crops

    rows_of = dict(iter(found.groupby(SMEAR, sort=False)))
    looks = []
    for trial, network in networks.items():
        train, held_out = training_rows(trial, cells)
        seen = set(cells[CROP].to_numpy()[train])
        for smear in cells[SMEAR].iloc[held_out].unique():
            rows = rows_of.pop(smear, None)  # of a smear on both sides of several folds the first is enough
            if rows is None:
                continue
            rows = rows[~rows[CROP].isin(seen)].reset_index(drop=True)
            if rows.empty:
                continue
            crops = load_crops(rows[CROP])
            table = pd.DataFrame(predict_crops(network, crops), columns=prob_columns(class_names(cells[LABEL])))
            sure = apply_temperature(table, temperature).to_numpy().max(axis=1)
            looks.append(look_of_smear(crops, rows, diameter_px=diameters[smear], confidence=sure))
    return [look for look in looks if look]
