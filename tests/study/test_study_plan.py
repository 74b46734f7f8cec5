"""The study of docs/study.md: its plan stands as it was, its fits are of the pinned version, its cells come again."""

import os
import re
from pathlib import Path

import pandas as pd
import pytest
import yaml

from rbcnb.labels.assign import label_cells
from rbcnb.segmentation.segment import FinderSpec
from rbcnb.segmentation.segment_many import segment_smears
from rbcnb.smears.sources import load_smears
from rbcnb.study.ladder import BASE_RHO, ladder_counts
from rbcnb.study.ledger import load_ledger, plan_digest
from rbcnb.training.fit import hash_data
from rbcnb.training.resampling import draw_counts
from rbcnb.training.splits import assign_splits, outer_splits
from rbcnb.training.trial import FIT_VERSION

ROOT = Path(__file__).parents[2]
PLAN = ROOT / "docs" / "study.md"
RUNS = ("study", "study_pretrained", "study_published")
PUBLISHED = [name for name in RUNS if (ROOT / "results" / name / "test_openings.csv").exists()]


def pinned() -> dict[tuple[str, str], str]:
    """(run, split) -> the digest that the plan tells."""
    rows = re.findall(r"^\| `(\w+)` \| `(\w+)` \| `([0-9a-f]{16})` \|$", PLAN.read_text(encoding="utf-8"), re.MULTILINE)
    return {(run, split): digest for run, split, digest in rows}


def profile_of(run: str) -> dict:
    return yaml.safe_load((ROOT / "notebooks" / "profiles" / f"{run}.yaml").read_text(encoding="utf-8"))


def splits_of(run: str) -> dict[str, tuple[str, int]]:
    values = profile_of(run)
    return outer_splits([values["protocol"]], n_splits=values.get("n_splits", 1), n_outer=values.get("n_outer", 3))


def test_the_plan_pins_every_split_of_every_run_and_the_version_of_its_fits():
    assert set(pinned()) == {(run, split) for run in RUNS for split in splits_of(run)}
    assert f'`FIT_VERSION` "{FIT_VERSION}"' in PLAN.read_text(encoding="utf-8")


def test_no_fit_of_the_study_leaves_its_number_format_to_the_machine():
    assert {profile_of(run)["precision"] for run in RUNS} <= {"float32", "bf16"}


@pytest.mark.parametrize("run", PUBLISHED)
def test_what_was_opened_for_the_study_was_opened_by_this_very_plan(run):
    folder = ROOT / "results" / run
    ledger = load_ledger(folder)
    planned = ledger[ledger["plan"].ne("")]
    assert set(planned["plan"]) <= {plan_digest(PLAN)}
    assert set(planned["architecture"]) <= set(profile_of(run)["architectures"])
    if (folder / "final_trials.csv").exists():
        fits = pd.read_csv(folder / "final_trials.csv")
        opened = set(zip(planned["outer"].astype(int), planned["architecture"], planned["method"], strict=True))
        assert opened >= set(zip(fits["outer"], fits["architecture"], fits["method"], strict=True))


@pytest.mark.slow
@pytest.mark.parametrize("size_px", sorted({profile_of(run)["size_px"] for run in RUNS}))
def test_the_cells_of_the_study_come_out_again_to_the_last_pixel(size_px):
    chula = os.environ.get("RBCNB_CHULA")
    if not chula:
        pytest.skip("set RBCNB_CHULA to the folder of Chula RBC-12 to make the study's cells again")
    spec = FinderSpec(method="paper", upscale="none", size_px=size_px)
    found = segment_smears(load_smears("chula", data=chula, seed=0, errors=[]), spec, jobs=2)
    cells = label_cells(found.cells, found.truth).dropna(subset=["label"])
    counts = ladder_counts(cells["label"].value_counts().to_dict())[BASE_RHO]
    assert counts == {"codocyte": 345, "hypochromia": 356, "normal": 2691}
    cells = draw_counts(cells, counts, seed=0)
    crops = found.crops[cells["crop"].to_numpy()]
    digests = {}
    for run in RUNS:
        values = profile_of(run)
        if values["size_px"] == size_px:
            for name, (protocol, outer) in splits_of(run).items():
                how = {"n_folds": values["n_folds"], "n_outer": values.get("n_outer", 3), "outer": outer}
                split = assign_splits(cells, protocol=protocol, seed=values.get("seed", 0), **how)
                digests[run, name] = hash_data(split, crops)
    assert digests == {place: digest for place, digest in pinned().items() if place in digests}
