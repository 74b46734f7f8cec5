"""A finished run and what is published of it, damaged: `rbcnb verify` finds it, and the same command mends it."""

import io
import json
import random
import re
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd
import pytest
from damage import Damage, draw, seeded
from in_process import called
from kills import differing, run
from made import make_run
from outcomes import record, share
from run_results import results
from small_run import small_run
from tiny_run import command

from rbcnb.study.tables import table1
from rbcnb.workflow.publish import publish_run

N_DAMAGES, N_PUBLISHED, AT_ONCE = 400, 100, 48
# Kind of file -> patterns. Files of the first kinds are made again by the same command.
MADE_AGAIN = {
    "table": ["tables/*.csv"],
    "figure": ["figures/*.png"],
    "notebook": ["notebooks/*.ipynb"],
    "report": ["report.html"],
    "data card": ["data_card.md"],
    "splits": ["splits_*.csv"],
    "list of trials": ["*_trials.csv"],
    "record of a trial": ["trials/*.json"],
    "predictions of a trial": ["trials/*.parquet"],
    "predictions of the baseline": ["classical_predictions.parquet"],
    "cells": ["cells.csv", "truth.csv", "smears.csv", "smear_cells.csv", "crops.npy", "finder.json"],
    "labels": ["labelled.csv", "ladder.csv", "label_issues.csv", "duplicates.csv", "relabel_*.csv"],
    "network": ["models/*.safetensors"],
    "picture": ["smear.png", "smears/*.jpg"],
}
KINDS = MADE_AGAIN | {
    "record of the run": ["run.json"],
    "manifest": ["manifest.json"],
    "ledger": ["test_openings.csv"],
    "model": ["model.safetensors"],
}
PUBLISHED = {
    "table": ["tables/*.csv"],
    "figure": ["figures/*.png"],
    "readme": ["README.md"],
    "splits": ["splits_*.csv"],
    "list of trials": ["*_trials.csv"],
    "packed": ["*.parquet"],
    "record of the run": ["run.json"],
    "manifest": ["manifest.json"],
    "ledger": ["test_openings.csv"],
}
ALONE = ("record of the run", "manifest")  # damaged, they change how all other files are judged


def files_of(folder: Path, kinds: Mapping[str, Sequence[str]]) -> dict[str, list[Path]]:
    """Kind -> its files in *folder* that are no hidden ones and hold anything."""
    found = {
        kind: [
            path
            for pattern in patterns
            for path in sorted(folder.glob(pattern))
            if not path.name.startswith(".") and path.stat().st_size > 1
        ]
        for kind, patterns in kinds.items()
    }
    return {kind: paths for kind, paths in found.items() if paths}


def reads_the_same(path: Path, before: bytes) -> bool:
    """Whether a person reads the same in the file as *before*: its JSON is equal, its table, or all its bytes."""
    after = path.read_bytes()
    try:
        if path.suffix == ".json":
            return json.loads(after) == json.loads(before)
        if path.suffix == ".csv":
            tables = [pd.read_csv(io.BytesIO(data), dtype=str, keep_default_na=False) for data in (after, before)]
            return tables[0].equals(tables[1])
    except ValueError:
        return False
    return after == before


def verified(folder: Path) -> tuple[int, str]:
    """Exit code of `rbcnb verify`, and what it printed."""
    return called(["verify", str(folder)])


def not_found(folder: Path, pristine: Path, drawn: Sequence[Damage], rng: random.Random) -> tuple[list[str], int]:
    """Damages *folder*, a copy of *pristine*, and mends it again: what `rbcnb verify` passes; how many there were.

    Many at once, of different files, as verifying a run takes its time: a damage is found where the report names its
    file. What a report does not name is verified again, without what it named. What changes nothing that a person reads
    does not count.
    """

    def restore(damages: Sequence[Damage]) -> None:
        for path in [path for damage in damages for path in damage.paths]:
            shutil.copy2(pristine / path.relative_to(folder), path)

    def hurts(damage: Damage) -> bool:
        damage.inflict(rng)
        return not all(
            reads_the_same(path, (pristine / path.relative_to(folder)).read_bytes()) for path in damage.paths
        )

    def passed(hurt: Sequence[Damage]) -> list[str]:
        """Those of the damages *hurt*, all that there is now, that are not found."""
        code, text = verified(folder)
        if code == 0:
            return [f"{damage}: passed" for damage in hurt]
        if len(hurt) == 1:
            return [] if code > 0 else [f"{hurt[0]}: {text}"]
        unnamed = [damage for damage in hurt if code < 0 or not any(_named(path, text) for path in damage.paths)]
        if not unnamed:
            return []
        if len(unnamed) < len(hurt):
            restore([damage for damage in hurt if damage not in unnamed])
            return passed(unnamed)
        half = len(hurt) // 2
        broken = {path: path.read_bytes() for damage in hurt[half:] for path in damage.paths}
        restore(hurt[half:])
        found = passed(hurt[:half])
        restore(hurt[:half])
        for path, data in broken.items():
            path.write_bytes(data)
        return found + passed(hurt[half:])

    waiting, wrong, n = list(drawn), [], 0
    while waiting:
        together = _together(waiting)
        if hurt := [damage for damage in together if hurts(damage)]:
            n += len(hurt)
            wrong += passed(hurt)
        restore(together)
    return wrong, n


def _together(waiting: list[Damage]) -> list[Damage]:
    """Takes from *waiting* damages of different files, to be judged by one report."""
    taken: list[Damage] = []
    for damage in list(waiting):
        stems = {path.stem for other in taken for path in other.paths}
        if (damage.kind in ALONE and taken) or not stems.isdisjoint(path.stem for path in damage.paths):
            continue
        taken.append(damage)
        waiting.remove(damage)
        if damage.kind in ALONE or len(taken) == AT_ONCE:
            break
    return taken


def _named(path: Path, text: str) -> bool:
    """Whether a report names the file; of a trial, whether it names the trial."""
    name = path.stem if path.parent.name == "trials" else path.name
    return re.search(rf"(?<!\w){re.escape(name)}", text) is not None


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    """A finished run."""
    return make_run(tmp_path_factory.mktemp("finished"))


@pytest.mark.faults
def test_verify_finds_what_a_person_would_read(finished, tmp_path):
    rng = seeded("damaged run")
    folder = shutil.copytree(finished, tmp_path / finished.name)
    code, text = verified(folder)
    assert code == 0, text
    drawn = draw(files_of(folder, KINDS), share(N_DAMAGES), rng)
    passed, n = not_found(folder, finished, drawn, rng)
    record("damaged run", n, len(passed))
    assert not passed, "\n".join(passed)


@pytest.mark.faults
def test_verify_finds_what_is_damaged_of_a_published_folder(finished, tmp_path):
    rng = seeded("damaged published folder")
    pristine = publish_run(finished, tmp_path / "pristine" / "study")
    folder = shutil.copytree(pristine, tmp_path / "study")
    code, text = verified(folder)
    assert code == 0, text
    passed, n = not_found(folder, pristine, draw(files_of(folder, PUBLISHED), share(N_PUBLISHED), rng), rng)
    record("damaged published folder", n, len(passed))
    assert not passed, "\n".join(passed)


@pytest.mark.faults
def test_the_same_command_makes_again_what_can_be_made(finished, tmp_path):
    """Twelve damages at once, one of each kind that can be made again; then one of the ledger, which cannot."""
    rng = seeded("damaged run repaired")
    out = shutil.copytree(finished, tmp_path / finished.name)
    drawn = [draw({kind: paths}, 1, rng)[0] for kind, paths in files_of(out, MADE_AGAIN).items()]
    real = [damage for damage in drawn if damage.inflict(rng)]
    assert len(real) >= 10
    again = run(command(out), log=tmp_path / "log")
    problems = [f"exit code {again.code}\n{again.text[-2000:]}"] if again.code or "Traceback" in again.text else []
    if not problems:
        problems += [f"not made again: {name}" for name in differing(results(out), results(finished))]
        code, text = verified(out)
        problems += [f"verify, code {code}: {text[-1500:]}"] * bool(code)
    n_failed = len(real) if problems else 0

    shutil.rmtree(out)
    shutil.copytree(finished, out)
    Damage("ledger", "edit", out / "test_openings.csv").inflict(rng)
    again = run(command(out), log=tmp_path / "log")
    code, text = verified(out)
    lines = [line for line in (again.text if again.code else text).splitlines() if "test_openings.csv" in line]
    if not (code and lines):
        problems.append(f"a damaged ledger is not named: {again.text[-800:]}\n{text[-800:]}")
        n_failed += 1
    record("damaged run repaired", len(real) + 1, n_failed)
    assert not problems, "\n".join([*map(str, real), *problems])


@pytest.mark.slow
def test_a_changed_word_of_a_verdict_is_found_though_nothing_else_is_left(tmp_path):
    """A run whose record is cut and whose manifest is empty is no proof of a table."""
    here, _, _, final = small_run(tmp_path / "run")
    here.save_record({"parameters": {"05_final_evaluation": {"protocol": "honest", "seed": 0}}, "seeds": {"seed": 0}})
    here.save_table(table1({"honest": final}, here.store, seed=0), "table1")
    here.save_table(pd.DataFrame({"claim": ["a"], "verdict": ["inconclusive"]}), "verdict")
    code, text = verified(here.folder)
    assert code == 0, text
    path = here.folder / "tables" / "verdict.csv"
    path.write_text(path.read_text().replace("inconclusive", "supported"))
    assert verified(here.folder)[0]
    (here.folder / "manifest.json").write_bytes(b"")
    assert verified(here.folder)[0]
