"""Confident learning: thresholds, joint and list as defined and as cleanlab has them; the test set stays out."""

import numpy as np
import pandas as pd
import pytest

from rbcnb.columns import CELL, DEV, FOLD, GROUP, LABEL, SMEAR, SPLIT, TARGET, TEST, prob_columns
from rbcnb.labels.confident_learning import (
    TEST_NOTE,
    class_overlap,
    class_thresholds,
    confident_classes,
    confident_joint,
    find_label_issues,
    flag_issues,
    label_codes,
)
from rbcnb.labels.planted_errors import KINDS, MISTAKEN_FOR, plant_errors
from rbcnb.study.label_audit import audit_splits, average_predictions, eight_views, out_of_fold
from rbcnb.study.store import store_result
from rbcnb.training.fit import TrialResult
from rbcnb.training.splits import SplitError, assign_splits
from rbcnb.training.trial import Trial


def drawn(seed: int, *, n: int = 400, classes: int = 4, sharp: float = 2.0) -> tuple[np.ndarray, np.ndarray]:
    """Given labels, some of them wrong, and probabilities that mostly speak for the true ones."""
    rng = np.random.default_rng(seed)
    true = rng.choice(classes, n, p=np.arange(1, classes + 1) / np.arange(1, classes + 1).sum())
    logits = rng.normal(size=(n, classes)) + sharp * np.eye(classes)[true]
    probs = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    given = np.where(rng.random(n) < 0.1, rng.integers(0, classes, n), true)
    return given, probs


def test_thresholds_and_joint_by_hand():
    given = np.array([0, 0, 1, 1])
    probs = np.array([[0.9, 0.1], [0.3, 0.7], [0.2, 0.8], [0.6, 0.4]])
    assert class_thresholds(given, probs) == pytest.approx([0.6, 0.6])
    assert confident_classes(given, probs).tolist() == [0, 1, 1, 0]
    assert confident_joint(given, probs).tolist() == [[1, 1], [1, 1]]
    assert flag_issues(given, probs).tolist() == [False, True, False, True]
    # Nobody is sure of a class that is never given, nor of anything below both thresholds.
    assert confident_classes(np.zeros(4, int), probs).tolist() == [0, -1, -1, 0]


@pytest.mark.parametrize("seed", range(6))
def test_the_same_as_cleanlab(seed):
    pytest.importorskip("cleanlab")
    from cleanlab.count import compute_confident_joint, get_confident_thresholds
    from cleanlab.filter import find_label_issues as find_by_cleanlab

    given, probs = drawn(seed, classes=3 + seed % 3, sharp=0.5 + seed / 2)
    assert class_thresholds(given, probs) == pytest.approx(get_confident_thresholds(given, probs))
    theirs = compute_confident_joint(given, probs, calibrate=False)
    assert np.array_equal(confident_joint(given, probs), theirs)
    listed = flag_issues(given, probs)
    assert listed.any()
    expected = find_by_cleanlab(given, probs, filter_by="low_normalized_margin", n_jobs=1)
    assert np.array_equal(listed, expected)


def test_the_list_is_a_ranking_of_each_audited_cell(predictions):
    cells = predictions[[SMEAR, CELL]].assign(split=DEV)
    issues = find_label_issues(predictions, cells)
    assert issues["rank"].tolist() == list(range(1, len(predictions) + 1))
    assert issues["doubt"].is_monotonic_decreasing
    assert (issues.loc[issues["issue"], "suggested"] != issues.loc[issues["issue"], LABEL]).all()
    n_issues = issues["issue"].sum()
    assert 0 < n_issues < len(issues)
    assert issues["issue"].tolist() == [True] * n_issues + [False] * (len(issues) - n_issues)
    same = issues.merge(predictions, on=[SMEAR, CELL])
    assert (same[LABEL] == same[TARGET]).all()


def test_test_labels_are_left_alone_unless_asked_for(predictions):
    split = np.where(predictions[SMEAR] < "04.png", TEST, DEV)
    cells = predictions[[SMEAR, CELL]].assign(split=split)
    issues = find_label_issues(predictions, cells)
    assert set(issues[SPLIT]) == {DEV}
    assert (issues["note"] == "").all()
    # Not even the thresholds have heard of them.
    alone = predictions[split == DEV]
    assert np.array_equal(issues["doubt"], find_label_issues(alone, cells)["doubt"])
    every = find_label_issues(predictions, cells, include_test=True)
    assert len(every) == len(predictions)
    assert ((every["note"] == TEST_NOTE) == (every[SPLIT] == TEST)).all()
    assert "what every method is scored on" in TEST_NOTE


def test_cells_without_a_split_are_refused(predictions):
    with pytest.raises(ValueError, match="not in the cells table"):
        find_label_issues(predictions, predictions[[SMEAR, CELL]].head(10).assign(split=DEV))


def test_overlap_rows_are_shares(predictions):
    overlap = class_overlap(predictions)
    assert overlap.sum(axis=1).to_numpy() == pytest.approx(np.ones(3))
    classes, given, probs = label_codes(predictions)
    sure = confident_classes(given, probs)
    expected = np.mean(sure[(given == 0) & (sure >= 0)] == 2)
    assert overlap.loc[classes[0], classes[2]] == pytest.approx(expected)


def test_audit_folds_keep_smears_whole_and_tests_out(data):
    cells, _ = data
    split, audited = audit_splits(cells, seed=0, n_folds=3)
    assert split.equals(audited)
    halves = audit_splits(cells, seed=0, n_folds=2, n_outer=2)[0]  # the test is that of notebook 4
    assert halves.equals(assign_splits(cells, protocol="honest", seed=0, n_folds=2, n_outer=2))
    assert (halves[SPLIT] == TEST).sum() != (split[SPLIT] == TEST).sum()
    assert (audited.loc[audited[SPLIT] == TEST, FOLD] == -1).all()
    study, every = audit_splits(cells, seed=0, n_folds=3, include_test=True)
    assert study.equals(split)
    assert set(every[SPLIT]) == {DEV}
    assert set(every[FOLD]) == {0, 1, 2}
    assert len(every[[GROUP, FOLD]].drop_duplicates()) == every[GROUP].nunique()
    with pytest.raises(SplitError):
        audit_splits(cells, seed=0, n_folds=11, include_test=True)


def test_average_of_seeds(predictions):
    names = prob_columns(("codocyte", "hypochromia", "normal"))
    other = predictions.sample(frac=1, random_state=0)
    other[names] = np.roll(other[names].to_numpy(), 1, axis=1)
    mean = average_predictions([predictions, other]).merge(predictions, on=[SMEAR, CELL], suffixes=("", "_first"))
    first = mean[[f"{name}_first" for name in names]].to_numpy()
    assert mean[names].to_numpy() == pytest.approx((first + np.roll(first, 1, axis=1)) / 2)
    assert (
        mean["pred"] == np.array(["codocyte", "hypochromia", "normal"])[mean[names].to_numpy().argmax(axis=1)]
    ).all()
    with pytest.raises(ValueError, match="same cells"):
        average_predictions([predictions, predictions.head(10)])
    with pytest.raises(ValueError, match="twice"):
        average_predictions([pd.concat([predictions, predictions.head(1)])])


def test_eight_views_of_each_development_cell(data):
    cells, crops = audit_splits(data[0], seed=0, n_folds=3)[0], data[1]
    views, pictures = eight_views(cells, crops)
    dev = (cells[SPLIT] == DEV).to_numpy()
    assert len(views) == len(pictures) == 8 * dev.sum()
    assert set(views[SPLIT]) == {DEV}
    assert not views.duplicated([SMEAR, CELL]).any()
    first = cells[dev].iloc[0]
    of_first = (views[SMEAR] == first[SMEAR]) & (views[CELL] // 8 == first[CELL])
    assert views.loc[of_first, [LABEL, FOLD, GROUP]].drop_duplicates().to_numpy().tolist() == [
        [*first[[LABEL, FOLD, GROUP]]]
    ]
    seen = {picture.tobytes() for picture in pictures[of_first.to_numpy()]}
    crop = crops[dev][0]
    assert seen == {np.rot90(flip, k).tobytes() for flip in (crop, crop[::-1]) for k in range(4)}
    large = np.repeat(np.repeat(crops, 8, axis=1), 8, axis=2)
    assert eight_views(cells, large)[1].shape[1:] == (64, 64, 3)


def test_folds_join_to_one_table_and_a_final_fit_is_refused(predictions, tmp_path):
    rows = []
    for seed in (0, 1):
        for fold in (0, 1):
            part = predictions[predictions[CELL] % 2 == fold]
            part = pd.concat([part.assign(cell=8 * part[CELL] + view) for view in range(8)])
            trial = Trial(seed=seed, fold=fold)
            result = TrialResult(trial, {"macro_f1": 0.5}, pd.DataFrame({"epoch": [1]}), part, 1, 0.1, "cpu", 32)
            row = {"key": store_result(result, tmp_path, data="x"), "architecture": "small", "method": "cross_entropy"}
            rows.append(row | {"seed": seed, "fold": float(fold), "error": ""})
    results = pd.DataFrame(rows)
    joined = out_of_fold(results, tmp_path)
    expected = predictions.sort_values([SMEAR, CELL], ignore_index=True)
    names = prob_columns(("codocyte", "hypochromia", "normal"))
    assert joined[names].to_numpy() == pytest.approx(expected[names].to_numpy())
    with pytest.raises(ValueError, match="same cells"):
        out_of_fold(results.iloc[:3], tmp_path)
    with pytest.raises(ValueError, match="has seen the cells"):
        out_of_fold(results.assign(fold=np.nan), tmp_path)
    with pytest.raises(ValueError, match="diverged"):
        out_of_fold(results.assign(error="nan"), tmp_path)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("rate", [0.0, 0.02, 0.1, 1.0])
def test_so_many_errors_are_planted(kind, rate):
    labels = pd.Series(np.repeat(["codocyte", "hypochromia", "normal"], [100, 100, 800]), index=range(5, 1005))
    given = plant_errors(labels, kind=kind, rate=rate, seed=3)
    assert (given != labels).sum() == round(rate * 1000)
    assert given.index.equals(labels.index)
    assert given.equals(plant_errors(labels, kind=kind, rate=rate, seed=3))


def test_a_tired_reader_errs_late_in_rare_classes_and_towards_the_likely():
    rng = np.random.default_rng(0)
    labels = pd.Series(rng.choice(["codocyte", "hypochromia", "normal"], 20_000, p=[0.1, 0.1, 0.8]))
    given = plant_errors(labels, kind="tired", rate=0.1, seed=0)
    wrong = given != labels
    # Of weights 1 to 4 along the session, the second half has (2.5 + 4) / (1 + 2.5) = 1.86 times those of the first.
    late, early = wrong[10_000:].sum(), wrong[:10_000].sum()
    assert 1.6 < late / early < 2.1
    rates = wrong.groupby(labels).mean()
    assert 2.4 < rates["codocyte"] / rates["normal"] < 3.3
    confused = pd.crosstab(labels[wrong], given[wrong], normalize="index")
    for true, odds in MISTAKEN_FOR.items():
        for name, share in odds.items():
            assert confused.loc[true, name] == pytest.approx(share, abs=0.05)


def test_unfit_noise_is_refused():
    labels = pd.Series(["normal", "codocyte"])
    for options in ({"kind": "drunk", "rate": 0.1}, {"kind": "random", "rate": 1.5}):
        with pytest.raises(ValueError, match=r"one of|between"):
            plant_errors(labels, seed=0, **options)
    with pytest.raises(ValueError, match="two classes"):
        plant_errors(pd.Series(["normal"]), kind="random", rate=0.5, seed=0)
