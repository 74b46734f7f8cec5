"""A second look is blind, its controls match, its estimate covers what was planted; corrections spare the test."""

import numpy as np
import pandas as pd
import pytest
from conftest import make_cells

from rbcnb.columns import CELL, DEV, FOLD, GROUP, LABEL, SMEAR, SPLIT, TEST
from rbcnb.labels.planted_errors import plant_errors
from rbcnb.labels.readings import Reading, append_readings
from rbcnb.labels.second_look import (
    SIMULATED_READER,
    compare_second_look,
    error_estimate,
    relabel_queue,
    simulated_labels,
)
from rbcnb.study.label_audit import apply_corrections, correction_effect, load_corrections
from rbcnb.training.splits import assign_splits
from rbcnb.training.trial import Trial


def ranked(n: int = 300, *, seed: int = 0, n_issues: int = 40) -> pd.DataFrame:
    """A list of issues as the audit makes it, the first ones flagged."""
    rng = np.random.default_rng(seed)
    table = pd.DataFrame({SMEAR: [f"{i % 10}.png" for i in range(n)], CELL: np.arange(n) // 10})
    labels = rng.choice(["codocyte", "hypochromia", "normal"], n, p=[0.1, 0.2, 0.7])
    facts = {GROUP: table[SMEAR], SPLIT: DEV, LABEL: labels, "suggested": "normal", "doubt": -np.arange(n) / n}
    return table.assign(**facts, issue=np.arange(n) < n_issues, rank=np.arange(1, n + 1), note="")


def placed(cells: pd.DataFrame) -> pd.DataFrame:
    """An honest split of cells that lie side by side."""
    return assign_splits(cells, protocol="honest", seed=0).assign(x_px=25.0 * cells[CELL], y_px=60.0, radius_px=10.0)


@pytest.mark.parametrize("n_issues", [40, 200])
def test_controls_are_of_the_suspects_classes_and_undoubted(n_issues):
    issues = ranked(n_issues=n_issues)
    queue, key = relabel_queue(issues, seed=0)
    suspects, controls = (key[key["role"] == role] for role in ("suspect", "control"))
    wanted = issues[issues["issue"]]
    assert set(zip(suspects[SMEAR], suspects[CELL], strict=True)) == set(zip(wanted[SMEAR], wanted[CELL], strict=True))
    for name, n in suspects[LABEL].value_counts().items():
        available = ((issues[LABEL] == name) & ~issues["issue"]).sum()
        assert (controls[LABEL] == name).sum() == min(available, n)
    assert not controls.merge(wanted, on=[SMEAR, CELL]).shape[0]
    assert not key.duplicated([SMEAR, CELL]).any()
    assert queue.equals(key[[SMEAR, CELL]])


def test_the_queue_tells_nothing():
    issues = ranked(1000, n_issues=100)
    queue, key = relabel_queue(issues, seed=1)
    assert list(queue.columns) == [SMEAR, CELL]
    place = np.flatnonzero(key["role"] == "suspect")
    # Were suspects first or last, their mean place would be off by a quarter of the queue, 50 places.
    assert abs(place.mean() - (len(key) - 1) / 2) < 4 * len(key) / np.sqrt(12 * len(place))
    assert not key[key["role"] == "suspect"]["doubt"].is_monotonic_decreasing
    again, other = (relabel_queue(issues, seed=seed)[0] for seed in (1, 2))
    assert again.equals(queue)
    assert not other.equals(queue)


def test_the_first_so_many_may_be_asked_for():
    issues = ranked()
    _, key = relabel_queue(issues, n_suspects=10, seed=0)
    assert (key["role"] == "suspect").sum() == 10
    controls = key[key["role"] == "control"].merge(issues, on=[SMEAR, CELL])
    assert not controls["issue"].any()  # doubted, if not suspected: no control
    with pytest.raises(ValueError, match="no suspect"):
        relabel_queue(issues, n_suspects=0, seed=0)


def reading(cell: pd.Series, **fields: str) -> Reading:
    return Reading(smear=cell[SMEAR], cell=cell[CELL], x_px=cell["x_px"], y_px=cell["y_px"], reader="B", **fields)


def look_of(counts: dict[str, tuple[int, int, int, int]]) -> pd.DataFrame:
    """class -> suspects, of them changed, controls, of them changed."""
    rows = []
    for name, (suspects, hits, controls, slips) in counts.items():
        for role, n, changed in (("suspect", suspects, hits), ("control", controls, slips)):
            rows += [{LABEL: name, "role": role, "changed": i < changed} for i in range(n)]
    return pd.DataFrame(rows).astype({"changed": "boolean"})


def test_newcombes_interval():
    # Newcombe (1998), table II, method 10: 56/70 against 48/80, and 9/10 against 3/10.
    table = error_estimate(look_of({"normal": (70, 56, 80, 48), "codocyte": (10, 9, 10, 3)})).set_index(LABEL)
    assert table.loc["normal", ["excess", "low", "high"]].tolist() == pytest.approx([0.2, 0.0524, 0.3339], abs=5e-5)
    assert table.loc["codocyte", ["low", "high"]].tolist() == pytest.approx([0.1705, 0.8090], abs=5e-5)
    assert table.loc["normal", "errors"] == pytest.approx(14)


def test_all_is_the_mean_by_suspects_and_one_class_alone_is_itself():
    alone = error_estimate(look_of({"normal": (70, 56, 80, 48)}))
    assert alone.loc[1, ["excess", "low", "high", "errors"]].tolist() == pytest.approx(
        alone.loc[0, ["excess", "low", "high", "errors"]].tolist()
    )
    two = error_estimate(look_of({"normal": (60, 30, 60, 6), "codocyte": (20, 4, 20, 2)})).set_index(LABEL)
    assert two.index.tolist() == ["codocyte", "normal", "all"]
    assert two.loc["all", "excess"] == pytest.approx((60 * 0.4 + 20 * 0.1) / 80)
    assert two.loc["all", "errors"] == pytest.approx(26)
    # A class without controls has no excess, and the sum speaks of the others.
    bare = error_estimate(look_of({"normal": (60, 30, 60, 6), "codocyte": (20, 4, 0, 0)})).set_index(LABEL)
    assert np.isnan(bare.loc["codocyte", "excess"])
    assert bare.loc["all", "errors"] == pytest.approx(24)
    none = error_estimate(look_of({"codocyte": (20, 4, 0, 0)})).set_index(LABEL)
    assert none.loc["all", ["excess", "low", "high"]].isna().all()


@pytest.mark.slow
def test_the_interval_covers_the_planted_errors():
    """Suspects of which 40 % are wrong, a reader who slips in 8 %: the interval holds the truth 19 times out of 20."""
    rng = np.random.default_rng(0)
    hits = 0
    for _ in range(200):
        wrong = rng.random(60) < 0.4
        # A slip on a wrong label, which is of three classes, mends it by chance half the time, or leaves it changed.
        changed = np.where(wrong, rng.random(60) < 1 - 0.08 / 2, rng.random(60) < 0.08)
        slips = rng.random(60) < 0.08
        row = error_estimate(look_of({"normal": (60, changed.sum(), 60, slips.sum())})).iloc[-1]
        hits += row["low"] <= 0.4 * (1 - 0.04 - 0.08) <= row["high"]
    assert 0.91 <= hits / 200 <= 0.995


def test_unread_cells_count_as_such():
    issues = ranked()
    _, key = relabel_queue(issues, seed=0)
    truth = issues[[SMEAR, CELL, LABEL]]
    labels = simulated_labels(key, truth, slip_rate=0.0, seed=0)
    labels.loc[:4, LABEL] = np.nan
    look = compare_second_look(key, labels.drop(index=[5, 6]))
    assert look["changed"].isna().sum() == 7
    assert not look["changed"].dropna().any()
    table = error_estimate(look)
    assert table.iloc[-1]["unread"] == 7
    assert table.iloc[-1]["suspects"] + table.iloc[-1]["controls"] == len(key) - 7


def test_the_simulated_reader_slips_as_often_as_said():
    issues = ranked(3000, n_issues=1400)
    _, key = relabel_queue(issues, seed=0)
    truth = issues[[SMEAR, CELL, LABEL]]
    given = simulated_labels(key, truth, slip_rate=0.1, seed=1)
    assert set(given["reader"]) == {SIMULATED_READER}
    share = (given[LABEL] != key[LABEL]).mean()
    assert abs(share - 0.1) < 4 * np.sqrt(0.09 / len(key))
    with pytest.raises(ValueError, match="lacks"):
        simulated_labels(key, truth.head(3), slip_rate=0.0, seed=0)


def test_corrections_reach_development_cells_alone(data, tmp_path):
    cells = placed(data[0])
    dev, test = (cells[(cells[SPLIT] == side) & (cells[LABEL] == "normal")].iloc[0] for side in (DEV, TEST))
    odd, unsure = (row for _, row in cells[(cells[SPLIT] == DEV) & (cells[LABEL] == "codocyte")].head(2).iterrows())
    path = tmp_path / "second.csv"
    answers = ((dev, "codocyte"), (test, "codocyte"), (odd, "elliptocyte"))
    append_readings(path, [reading(cell, label=label) for cell, label in answers] + [reading(unsure, kind="unsure")])
    corrected, changes = apply_corrections(cells, load_corrections(path))
    others = cells.index.difference([dev.name, odd.name, unsure.name])
    assert corrected.loc[others].equals(cells.loc[others])
    assert corrected.loc[dev.name, [LABEL, SPLIT]].tolist() == ["codocyte", DEV]
    for row in (odd, unsure):
        assert corrected.loc[row.name, [LABEL, SPLIT, FOLD]].tolist() == ["codocyte", "unused", -1]
    assert sorted(changes["second"].dropna()) == ["codocyte", "elliptocyte"]
    assert len(changes) == 3
    # The reader takes it back: the file grows, the label returns.
    append_readings(path, [reading(dev, label="normal")])
    assert apply_corrections(cells, load_corrections(path))[0].loc[dev.name, LABEL] == "normal"
    with pytest.raises(FileNotFoundError, match="no such file"):
        load_corrections(tmp_path / "none.csv")


@pytest.mark.slow
def test_right_labels_beat_wrong_ones_on_the_same_test(tmp_path):
    cells, crops = make_cells({"codocyte": 40, "hypochromia": 40, "normal": 80})
    cells = placed(cells)
    dev = cells[SPLIT] == DEV
    given = cells.copy()
    given.loc[dev, LABEL] = plant_errors(cells.loc[dev, LABEL], kind="random", rate=0.6, seed=0)
    corrected, _ = apply_corrections(given, simulated_labels(given, cells, slip_rate=0.0, seed=0))
    assert corrected[LABEL].equals(cells[LABEL])
    trial = Trial(epochs=4, learning_rate=3e-3, protocol="honest", fold=1)
    study = {"trial": trial, "seeds": (0, 1), "jobs": 1}
    gain = correction_effect(given, corrected, crops, tmp_path, **study)
    assert gain.mean > 0.2
    assert gain.n_seeds == 2
    assert correction_effect(given, given, crops, tmp_path, **study).mean == 0
    other = cells.assign(**{LABEL: cells[LABEL].where(dev, "normal")})
    with pytest.raises(ValueError, match="two tests"):
        correction_effect(given, other, crops, tmp_path, **study)
