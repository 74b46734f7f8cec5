"""Fixtures: a small table of cells whose classes can be learnt in seconds, without any smear."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

# Crops of a few pixels cost more on several threads than on one. What tests start inherits it; torch reads it once.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import pandas as pd
import pytest

from rbcnb.columns import CELL, CLASSES, CROP, GROUP, LABEL, SMEAR

SIZE_PX = 16

# A shell's background jobs ignore Ctrl-C, and so would the commands that tests start and stop with it.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def make_cells(counts: dict[str, int], *, n_smears: int = 10, seed: int = 0) -> tuple[pd.DataFrame, np.ndarray]:
    """Cells dealt out to smears in turn, and crops: noise around a level of grey that tells the class."""
    rng = np.random.default_rng(seed)
    labels = rng.permutation([name for name, n in counts.items() for _ in range(n)])
    smears = [f"{i % n_smears:02}.png" for i in range(len(labels))]
    cells = pd.DataFrame(
        {
            SMEAR: smears,
            CELL: np.arange(len(labels)) // n_smears,
            CROP: np.arange(len(labels)),
            LABEL: labels,
            GROUP: smears,
        }
    )
    level = np.array([60 + 70 * CLASSES.index(name) for name in labels])
    noise = rng.normal(0, 30, (len(labels), SIZE_PX, SIZE_PX, 3))
    crops = np.clip(level[:, None, None, None] + noise, 0, 255).astype(np.uint8)
    return cells, crops


def noisy(table: pd.DataFrame, right: float, seed: int) -> pd.DataFrame:
    """A predictions *table* with predictions that are right with probability *right*, else uniform."""
    rng = np.random.default_rng(seed)
    guess = rng.choice(CLASSES, len(table))
    return table.assign(pred=np.where(rng.random(len(table)) < right, table["target"], guess))


def ranked(table: pd.DataFrame, right: float, seed: int) -> pd.DataFrame:
    """A predictions *table* with new random probabilities, some of them ties; *right*: logit of the target."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(len(table), 3)) + right * (table["target"].to_numpy()[:, None] == np.array(CLASSES))
    values = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    return table.assign(**{f"prob_{name}": column for name, column in zip(CLASSES, values.round(2).T, strict=True)})


@pytest.fixture
def data() -> tuple[pd.DataFrame, np.ndarray]:
    """200 labelled cells of 10 smears at the paper's 10:10:80, and their crops."""
    return make_cells({"codocyte": 20, "hypochromia": 20, "normal": 160})


def make_predictions() -> pd.DataFrame:
    """A predictions table of 300 cells of 12 smears, right about two times out of three, with random probabilities."""
    rng = np.random.default_rng(1)
    targets = rng.choice(CLASSES, 300, p=[0.15, 0.15, 0.7])
    logits = rng.normal(size=(300, 3)) + 1.5 * (targets[:, None] == np.array(CLASSES))
    probs = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    table = pd.DataFrame({SMEAR: [f"{i % 12:02}.png" for i in range(300)], CELL: np.arange(300) // 12})
    table[GROUP] = table[SMEAR]
    table["target"], table["pred"] = targets, np.array(CLASSES)[probs.argmax(axis=1)]
    table[[f"prob_{name}" for name in CLASSES]] = probs
    return table


@pytest.fixture
def predictions() -> pd.DataFrame:
    """See `make_predictions`."""
    return make_predictions()


@pytest.fixture
def batch():
    """Logits [64, 3] float64 and targets [64]."""
    import torch

    generator = torch.Generator().manual_seed(0)
    logits = 3 * torch.randn(64, 3, generator=generator, dtype=torch.float64)
    return logits, torch.randint(3, (64,), generator=generator)


@pytest.fixture(scope="session")
def lab(tmp_path_factory) -> Iterator[tuple[str, Path]]:
    """One JupyterLab for all tests of pages: its address, and the folder that holds their folders."""
    from browser import lab_server

    root = tmp_path_factory.getbasetemp()
    with lab_server(root, tmp_path_factory.mktemp("lab")) as url:
        yield url, root


FIRST = (
    "test_killed_runs.py",
    "test_damaged_runs.py",
    "test_notebooks.py",
    "test_notebooks_on_other_smears.py",
    "test_dask_cluster.py",
    "test_labeller_page.py",
    "test_lesson_page.py",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files that take minutes come first, so that no worker is left alone with one. What is heavy or injects faults is
    slow, too."""
    items.sort(key=lambda item: FIRST.index(item.path.name) if item.path.name in FIRST else len(FIRST))
    for item in items:
        if item.get_closest_marker("heavy") or item.get_closest_marker("faults"):
            item.add_marker("slow")
