"""A run with small fits: what notebooks 01 to 05 leave of cells, splits and final fits, for tests to build on."""

from dataclasses import replace
from pathlib import Path

import pandas as pd
from conftest import make_cells

from rbcnb.columns import CELL, CROP, SMEAR
from rbcnb.study.ledger import open_test
from rbcnb.study.runner import run_study
from rbcnb.training.splits import assign_splits
from rbcnb.training.trial import Trial
from rbcnb.workflow.run import Run

TRIAL = Trial(epochs=1, protocol="honest", learning_rate=0.01, precision="float32")
METHODS = [TRIAL, replace(TRIAL, loss="focal", alpha=1.0, gamma=2.0)]


def small_run(folder: Path) -> tuple[Run, pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """The run in *folder*, its cells, these with splits, and its final fits: ``METHODS``, two seeds each."""
    cells, crops = make_cells({"codocyte": 20, "hypochromia": 20, "normal": 80})
    here = Run.at(folder, seed=0)
    here.save_csv(cells[[SMEAR, CELL, CROP]], "cells")
    here.save_crops(crops)
    splits = assign_splits(cells, protocol="honest", seed=0, n_folds=2)
    here.save_csv(splits, "splits_honest")
    trials = [replace(trial, seed=seed) for trial in METHODS for seed in range(2)]
    open_test(here.folder, trials, splits, crops)
    final = here.save_csv(run_study(trials, splits, crops, here.store, jobs=1), "final_trials")
    return here, cells, splits, final
