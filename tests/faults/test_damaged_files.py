"""Files that the package reads back, damaged: none is taken for another, and what can be made again is made again."""

import json
import shutil
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from damage import SWAP, WAYS, Damage, draw, seeded
from in_process import called
from kills import differing, tree
from made import make_cells, make_count, make_model, make_store
from outcomes import record, share

from rbcnb.counting.model_file import ModelFileError, load_model
from rbcnb.labels.logbook import LogbookError
from rbcnb.labels.readings import Reading, append_readings, load_readings
from rbcnb.study.store import load_curves, load_predictions, load_record, stored_keys
from rbcnb.study.store_index import store_rows

PATTERNS = {
    "crop": "crops/*/*.png",
    "finished image": "parts/*.json",
    "classified image": "classified/*.json",
    "cells": "cells.csv",
    "smears": "smears.csv",
    "settings": "finder.json",
    "scale": "scale.json",
    "counts": "differential.csv",
    "facts of the count": "count.json",
}
MADE_AGAIN = ("crop", "finished image", "classified image", "counts", "facts of the count")


def not_made_again(folder: Path, command: Sequence[str], damages: Sequence[Damage], rng) -> tuple[list[str], int]:
    """Damages *folder* and runs *command* again, damage by damage: what is wrong then; how many there were."""
    pristine = shutil.copytree(folder, folder.with_name("pristine"))
    expected, wrong, n = tree(pristine), [], 0
    for damage in damages:
        if not damage.inflict(rng):
            continue
        n += 1
        code, text = called(command)
        changed = differing(tree(folder), expected)
        if code == 0 and changed:
            wrong.append(f"{damage}: ended well with other {', '.join(changed)}")
        elif code == 0:
            continue
        elif damage.kind in MADE_AGAIN:
            wrong.append(f"{damage}: code {code}, and could be made again: {text[-300:]}")
        elif code not in (1, 2) or not any(path.name in text for path in damage.paths):
            wrong.append(f"{damage}: code {code}, without the file's name: {text[-300:]}")
        shutil.rmtree(folder)
        shutil.copytree(pristine, folder)
    return wrong, n


def files_in(folder: Path) -> dict[str, list[Path]]:
    return {kind: sorted(folder.glob(pattern)) for kind, pattern in PATTERNS.items()}


@pytest.mark.faults
def test_a_damaged_segmentation_is_made_again_or_named(tmp_path):
    folder, command = make_cells(tmp_path)
    rng = seeded("damaged segment folder")
    wrong, n = not_made_again(folder, command, draw(files_in(folder), share(120), rng), rng)
    record("damaged segment folder", n, len(wrong))
    assert not wrong, "\n".join(wrong)


@pytest.mark.faults
def test_a_damaged_count_is_made_again_or_named(tmp_path):
    folder, command = make_count(tmp_path)
    rng = seeded("damaged count folder")
    wrong, n = not_made_again(folder, command, draw(files_in(folder), share(80), rng), rng)
    record("damaged count folder", n, len(wrong))
    assert not wrong, "\n".join(wrong)


def test_an_emptied_crop_and_exchanged_ones_are_made_again(tmp_path):
    folder, command = make_cells(tmp_path)
    rng = seeded("crops")
    first, second, *_ = sorted((folder / "crops" / "synthetic_00").glob("*.png"))
    damages = [Damage("crop", "empty", first), Damage("crop", SWAP, first, second)]
    wrong, n = not_made_again(folder, command, damages, rng)
    assert n == 2
    assert not wrong, "\n".join(wrong)


def read_otherwise(store: Path, damages: Sequence[Damage], rng) -> tuple[list[str], int]:
    """Damages the trials of *store*, one after the other: those that are read as other numbers; how many there were."""
    keys = list(stored_keys(store))
    records = {key: load_record(store, key) for key in keys}
    predictions = {key: load_predictions(store, key) for key in keys}
    curves = {key: load_curves(store, [key]) for key in keys}
    table = store_rows(store).set_index("key")
    wrong, n = [], 0
    for damage in damages:
        before = {path: path.read_bytes() for path in damage.paths}
        if not damage.inflict(rng):
            continue
        n += 1
        found = []
        for key in {path.stem for path in damage.paths}:
            found += _not_as_before("record", lambda key=key: load_record(store, key), records[key])
            found += _not_as_before("predictions", lambda key=key: load_predictions(store, key), predictions[key])
            found += _not_as_before("curves", lambda key=key: load_curves(store, [key]), curves[key])
        rows = store_rows(store)
        rows = rows.set_index("key") if len(rows) else rows
        if not set(rows.index) <= set(table.index) or any(
            str(rows.loc[key].to_dict()) != str(table.loc[key, rows.columns].to_dict()) for key in rows.index
        ):
            found.append("its row of results is another")
        wrong += [f"{damage}: {words}" for words in found]
        for path, data in before.items():
            path.write_bytes(data)
    return wrong, n


def _not_as_before(what: str, load: Callable, before: Any) -> list[str]:
    """What is wrong with what *load* gives: it may refuse, by None or an error of input, and give what was *before*."""
    try:
        now = load()
    except (ValueError, OSError):
        return []
    except Exception as error:
        return [f"its {what}: {type(error).__name__}: {error}"]
    # As text, in which a score that is no number is the same as another such.
    frame = isinstance(before, pd.DataFrame)
    same = now is None or (now.equals(before) if frame else json.dumps(now) == json.dumps(before))
    return [] if same else [f"its {what} are others"]


def trial_files(store: Path) -> Mapping[str, list[Path]]:
    return {"record": sorted(store.glob("[0-9a-f]*.json")), "predictions": sorted(store.glob("[0-9a-f]*.parquet"))}


@pytest.mark.faults
def test_no_damaged_trial_is_read_as_other_numbers(tmp_path):
    store, rng = make_store(tmp_path / "run"), seeded("damaged trial")
    wrong, n = read_otherwise(store, draw(trial_files(store), share(400), rng), rng)
    failed = len({line.split(": ")[0] for line in wrong})
    record("damaged trial", n, failed)
    assert not wrong, "\n".join(wrong)


@pytest.mark.slow
def test_a_changed_score_and_exchanged_trials_are_not_read(tmp_path):
    store, rng = make_store(tmp_path / "run"), seeded("trials")
    files = trial_files(store)
    scores = [Damage("record", way, files["record"][0]) for way in ("edit", "empty", "cut")]
    swaps = [Damage(kind, SWAP, *paths[:2]) for kind, paths in files.items()]
    flips = [Damage("predictions", "flip", files["predictions"][0]) for _ in range(20)]
    wrong, n = read_otherwise(store, [*scores, *swaps, *flips], rng)
    assert n == 25
    assert not wrong, "\n".join(wrong)


def unreadable(damages: int, folder: Path, rng) -> tuple[list[str], int]:
    """Damages tables of readings: what went wrong with reading them and adding to them; how many there were."""
    wrong, n = [], 0
    for number in range(damages):
        path = folder / f"{number}" / "readings.csv"
        path.parent.mkdir(parents=True)
        readings = [Reading(smear="a.png", cell=cell, reader="anna", label="normal", x_px=1.5) for cell in range(20)]
        append_readings(path, readings)
        way = rng.choice([way for way in WAYS if way != SWAP])
        damage = Damage("readings", way, path)
        if not damage.inflict(rng):
            continue
        n += 1
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of a torn last line
                load_readings(path)
                append_readings(path, [Reading(smear="b.png", cell=7, reader="bo", label="codocyte")])
                last = load_readings(path).iloc[-1]
            if last[["smear", "cell", "reader", "label"]].tolist() != ["b.png", 7, "bo", "codocyte"]:
                wrong.append(f"{damage}: what was acknowledged is not there")
        except LogbookError as error:
            if str(path) not in str(error) or ";" not in str(error):
                wrong.append(f"{damage}: the message lacks file or remedy: {error}")
        except Exception as error:
            wrong.append(f"{damage}: {type(error).__name__}: {error}")
    return wrong, n


@pytest.mark.faults
def test_damaged_readings_are_named_or_can_be_added_to(tmp_path):
    wrong, n = unreadable(share(200), tmp_path, seeded("damaged readings"))
    record("damaged readings", n, len(wrong))
    assert not wrong, "\n".join(wrong)


def test_some_damaged_readings_are_named_or_can_be_added_to(tmp_path):
    wrong, _ = unreadable(30, tmp_path, seeded("readings"))
    assert not wrong, "\n".join(wrong)


def taken(path: Path, damages: Sequence[Damage], rng) -> tuple[list[str], int]:
    """Damages the model at *path*: those that are taken for a model, or not named; how many there were."""
    data, digest = path.read_bytes(), load_model(path).digest
    wrong, n = [], 0
    for damage in damages:
        if damage.inflict(rng):
            n += 1
            try:
                if load_model(path).digest != digest:
                    wrong.append(f"{damage}: taken for another model")
            except ModelFileError as error:
                if str(path) not in str(error) or ";" not in str(error):
                    wrong.append(f"{damage}: the message lacks file or remedy: {error}")
            except Exception as error:
                wrong.append(f"{damage}: {type(error).__name__}: {error}")
        path.write_bytes(data)
    return wrong, n


@pytest.mark.faults
def test_a_damaged_model_is_refused(tmp_path):
    path, rng = make_model(tmp_path / "model.safetensors"), seeded("damaged model")
    wrong, n = taken(path, draw({"model": [path]}, share(200), rng), rng)
    record("damaged model", n, len(wrong))
    assert not wrong, "\n".join(wrong)


def test_an_emptied_and_a_cut_model_are_refused(tmp_path):
    path, rng = make_model(tmp_path / "model.safetensors"), seeded("models")
    damages = [Damage("model", way, path) for way in ("empty", "cut", "flip", "edit")]
    wrong, n = taken(path, damages, rng)
    assert n == 4
    assert not wrong, "\n".join(wrong)
