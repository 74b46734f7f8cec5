"""The lesson on imbalance: its fits, its numbers against other code, and its direction where the truth is known."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import make_cells
from scipy.stats import norm
from sklearn.metrics import balanced_accuracy_score, f1_score
from stored_trials import keep_predictions

from rbcnb.columns import CELL, CLASSES, GROUP, SMEAR, prob_columns
from rbcnb.losses.focal import focal_loss
from rbcnb.plotting.comparisons import plot_imbalance_lesson
from rbcnb.study.imbalance_lesson import (
    DECAYED,
    DIVIDED,
    MAPPED,
    NONE,
    OVER_CONFIDENT,
    SURE_FACTOR,
    imbalance_lesson,
    lesson_entry,
    lesson_splits,
    lesson_text,
    plan_lesson,
)
from rbcnb.study.ladder import ladder_counts
from rbcnb.study.ledger import open_test
from rbcnb.training.resampling import training_rows

COUNTS = {"codocyte": 45, "hypochromia": 45, "normal": 350}
VALUES = {"imbalance_methods": ["focal", "balanced_softmax"], "imbalance_seeds": 2, "imbalance_epochs": 4, "seed": 7}
PRIOR = (17, 18, 652)
PLAIN = f"cross_entropy, {NONE}"


@pytest.fixture(scope="module")
def cells():
    return make_cells(COUNTS, n_smears=12)[0]


def test_every_method_meets_the_same_rare_cells_and_every_smear_is_tested_once(cells):
    splits = lesson_splits(cells, seed=7, n_outer=3)
    tested = pd.concat([part.loc[part["split"] == "test", [SMEAR, CELL]] for part in splits.values()])
    assert len(tested) == len(cells)
    assert not tested.duplicated().any()
    plan = plan_lesson(splits, ladder_counts(COUNTS), VALUES)
    for outer, trials in plan.items():
        decayed = [trial for trial in trials if trial.schedule == "cosine"]
        methods = ["cross_entropy", "focal", "balanced_softmax"]
        assert [(t.method, t.seed) for t in decayed] == [(name, seed) for name in methods for seed in (7, 8)]
        assert {(t.outer, t.epochs, t.fold, t.augment) for t in decayed} == {(outer, 4, None, "flips_turns")}
        assert [(t.alpha, t.gamma) for t in decayed if t.loss == "focal"] == 2 * [(1.0, 2.0)]
        first, other = (set(training_rows(t, splits[outer])[0]) for t in decayed[:2])
        assert all(set(training_rows(t, splits[outer])[0]) == first for t in decayed[::2])
        assert first != other  # another seed draws other cells
        rare, _, common = map(int, decayed[0].dev_counts.split("/"))
        assert common / rare == pytest.approx(37.9, rel=0.15)  # whole cells
        sure = [trial for trial in trials if trial.schedule == "constant"]
        assert [(t.method, t.seed, t.epochs) for t in sure] == [("cross_entropy", s, 4 * SURE_FACTOR) for s in (7, 8)]
        assert sum(map(int, sure[0].dev_counts.split("/"))) < common / 2
    alone = plan_lesson(splits, ladder_counts(COUNTS), VALUES | {"imbalance_methods": ["cross_entropy"]})
    assert {trial.method for trials in alone.values() for trial in trials} == {"cross_entropy"}
    with pytest.raises(ValueError, match="unknown method 'softmax'"):
        plan_lesson(splits, ladder_counts(COUNTS), VALUES | {"imbalance_methods": ["softmax"]})


def test_the_ledger_keeps_the_lesson_apart_and_each_of_its_settings_once(cells, tmp_path):
    crops = np.zeros((len(cells), 2, 2, 3), np.uint8)
    splits = lesson_splits(cells, seed=7, n_outer=3)
    trials = plan_lesson(splits, ladder_counts(COUNTS), VALUES)[0]
    tuned = replace(trials[0], epochs=9, dev_counts="all")
    open_test(tmp_path, [tuned], splits[0], crops)
    ledger = open_test(tmp_path, [lesson_entry(trial) for trial in trials], splits[0], crops)
    assert list(ledger["method"])[1:] == [
        "imbalance lesson, cross entropy, cosine rate",
        "imbalance lesson, focal loss, cosine rate",
        "imbalance lesson, balanced softmax, cosine rate",
        "imbalance lesson, cross entropy, constant rate",
    ]
    with pytest.raises(ValueError, match=r"imbalance lesson, cross entropy, cosine rate was tested with .*reopen"):
        open_test(tmp_path, [lesson_entry(replace(trials[0], epochs=5))], splits[0], crops)


def stored(fits: dict[tuple[str, str], list[np.ndarray]], targets: pd.DataFrame, folder) -> pd.DataFrame:
    """Predictions in a store, two outer splits a seed: (schedule, method) -> probabilities [N, 3] per seed."""
    rows = []
    for (schedule, method), seeds in fits.items():
        for seed, probabilities in enumerate(seeds):
            table = targets.assign(pred=np.array(CLASSES)[probabilities.argmax(axis=1)])
            table[prob_columns(CLASSES)] = probabilities
            for outer in range(2):
                half = table[table[SMEAR] % 2 == outer]
                key = keep_predictions(folder, f"{schedule}{method}{seed}{outer}", half)
                counts = PRIOR if schedule == "cosine" else (6, 6, 228)
                place = {
                    "architecture": "small",
                    "fold": np.nan,
                    "seed": seed,
                    "outer": outer,
                    "dev_counts": "/".join(map(str, counts)),
                    "key": key,
                }
                gamma = 2.0 if method == "focal" else np.nan
                rows.append({"method": method, "schedule": schedule, "gamma": gamma, **place})
    return pd.DataFrame(rows)


def targets_of(rng: np.random.Generator, *, n_smears: int, n: int) -> pd.DataFrame:
    """Cells of smears, eight times as many of one class as of the others."""
    smears = np.repeat(np.arange(n_smears), n)
    names = rng.choice(CLASSES, n_smears * n, p=[0.1, 0.1, 0.8])
    return pd.DataFrame({SMEAR: smears, CELL: np.tile(np.arange(n), n_smears), GROUP: smears, "target": names})


def row_of(table: pd.DataFrame, method: str, correction: str = NONE, *, training: str = DECAYED, against: str = PLAIN):
    named = {"training": training, "method": method, "correction": correction, "against": against}
    (row,) = table[(table[list(named)] == list(named.values())).all(axis=1)].itertuples()
    return row


def test_the_numbers_are_those_of_scikit_learn(tmp_path):
    rng = np.random.default_rng(0)
    targets = targets_of(rng, n_smears=6, n=40)
    right = targets["target"].to_numpy()[:, None] == np.array(CLASSES)

    def guesses(n_seeds):
        logits = [2 * right + rng.normal(size=right.shape) for _ in range(n_seeds)]
        return [np.exp(logit) / np.exp(logit).sum(axis=1, keepdims=True) for logit in logits]

    names = [("cosine", "cross_entropy"), ("cosine", "focal"), ("cosine", "ldam"), ("constant", "cross_entropy")]
    fits = {name: guesses(2) for name in names}
    table = imbalance_lesson(stored(fits, targets, tmp_path), tmp_path, seed=0)
    weights = targets["target"].map(pd.Series(PRIOR, CLASSES) / targets["target"].value_counts())
    odds = {"cosine": np.array(PRIOR), "constant": np.array((6, 6, 228))}

    def scores(schedule, method, *, divided):
        calls = [(probs / odds[schedule] if divided else probs).argmax(axis=1) for probs in fits[schedule, method]]
        calls = [np.array(CLASSES)[predicted] for predicted in calls]
        options = {"average": "macro", "sample_weight": weights}
        return np.array(
            [
                [f1_score(targets["target"], call, **options) for call in calls],
                [balanced_accuracy_score(targets["target"], call) for call in calls],
            ]
        ).mean(axis=1)

    plain = scores("cosine", "cross_entropy", divided=False)
    for row, scored, rival in (
        (row_of(table, "cross_entropy", against=""), plain, None),
        (row_of(table, "focal"), scores("cosine", "focal", divided=False), plain),
        (row_of(table, "ldam"), scores("cosine", "ldam", divided=False), plain),
        (row_of(table, "cross_entropy", DIVIDED), scores("cosine", "cross_entropy", divided=True), plain),
        (row_of(table, "focal", DIVIDED), scores("cosine", "focal", divided=True), plain),
        (
            row_of(table, "cross_entropy", DIVIDED, training=OVER_CONFIDENT),
            scores("constant", "cross_entropy", divided=True),
            scores("constant", "cross_entropy", divided=False),
        ),
    ):
        assert (row.macro_f1, row.balanced_accuracy) == pytest.approx(tuple(scored))
        gaps = (row.macro_f1_difference, row.balanced_accuracy_difference)
        assert gaps == pytest.approx(tuple(scored - rival) if rival is not None else (np.nan, np.nan), nan_ok=True)
        assert (row.n_seeds, row.n_smears, row.rho) == (2, 6, pytest.approx(652 / 17))
    divided = row_of(table, "cross_entropy", DIVIDED)
    both = [(probs, probs / odds["cosine"]) for probs in fits["cosine", "cross_entropy"]]
    assert divided.changed == pytest.approx(np.mean([a.argmax(1) != b.argmax(1) for a, b in both]))
    assert divided.sure == pytest.approx(np.mean([probs.max(axis=1) > 0.99 for probs, _ in both]))
    assert row_of(table, "focal", MAPPED).changed != row_of(table, "focal", DIVIDED).changed
    assert "balanced_softmax" not in set(table["method"])


@pytest.fixture(scope="module")
def known(tmp_path_factory):
    """Cells of which one number is known, normal with sd 1 around -2.6, 0 or 2.6, shifted a bit by smear and seed.

    What each loss makes of it is computed, not trained: cross entropy the posterior under the training prior, balanced
    softmax that under equal priors, focal loss the probabilities of least expected loss; and an over-confident network
    has logits ten times as large.
    """
    folder = tmp_path_factory.mktemp("known")
    rng = np.random.default_rng(3)
    targets = targets_of(rng, n_smears=24, n=120)
    centre = np.array([-2.6, 2.6, 0.0])
    places = targets["target"].map(dict(zip(CLASSES, centre, strict=True))) + rng.normal(size=len(targets))
    places += rng.normal(scale=0.15, size=24)[targets[SMEAR]]
    made = {(schedule, "cross_entropy"): [] for schedule in ("cosine", "constant")}
    made |= {("cosine", method): [] for method in ("focal", "balanced_softmax")}
    for _ in range(3):
        density = norm.pdf(places.to_numpy()[:, None], centre + rng.normal(scale=0.05, size=3))
        for method, prior in (("cross_entropy", PRIOR), ("balanced_softmax", (1, 1, 1))):
            joint = density * np.array(prior)
            made["cosine", method].append(joint / joint.sum(axis=1, keepdims=True))
        posterior = made["cosine", "cross_entropy"][-1]
        made["cosine", "focal"].append(least_focal_loss(posterior))
        sure = np.exp(10 * np.log(posterior + 1e-30) - 10 * np.log(posterior.max(axis=1, keepdims=True)))
        made["constant", "cross_entropy"].append(sure / sure.sum(axis=1, keepdims=True))
    return imbalance_lesson(stored(made, targets, folder), folder, seed=0)


def least_focal_loss(posterior: np.ndarray) -> np.ndarray:
    """The probabilities that minimise the expected focal loss of every cell."""
    wanted = torch.tensor(posterior)
    logits = torch.log(wanted.clamp(min=1e-12)).requires_grad_()
    fit = torch.optim.LBFGS([logits], max_iter=400, line_search_fn="strong_wolfe", tolerance_change=1e-12)

    def loss() -> torch.Tensor:
        fit.zero_grad()
        value = focal_loss(logits, wanted, gamma=2.0, reduction="sum")
        value.backward()
        return value

    fit.step(loss)
    return logits.detach().softmax(dim=1).numpy()


def test_priors_divided_out_do_what_reweighting_does_and_the_scores_disagree(known):
    for row in (row_of(known, "cross_entropy", DIVIDED), row_of(known, "balanced_softmax")):
        assert row.balanced_accuracy_low > 0.1
        assert row.macro_f1_high < 0
    apart = row_of(known, "balanced_softmax", against=f"cross_entropy, {DIVIDED}")
    assert apart.balanced_accuracy_difference == pytest.approx(0, abs=1e-9)  # the same posterior, by two ways
    assert apart.macro_f1_difference == pytest.approx(0, abs=1e-9)


def test_focal_loss_moves_no_boundary_and_must_be_mapped_back(known):
    focal = row_of(known, "focal")
    assert focal.balanced_accuracy_difference == pytest.approx(0, abs=0.01)  # the order of a cell's classes stays
    assert focal.macro_f1_difference == pytest.approx(0, abs=0.01)
    naive, mapped = row_of(known, "focal", DIVIDED), row_of(known, "focal", MAPPED)
    divided = row_of(known, "cross_entropy", DIVIDED)
    assert naive.balanced_accuracy < divided.balanced_accuracy - 0.05
    assert naive.macro_f1 < divided.macro_f1 - 0.05
    assert mapped.balanced_accuracy == pytest.approx(divided.balanced_accuracy, abs=0.01)
    assert mapped.macro_f1 == pytest.approx(divided.macro_f1, abs=0.01)


def test_dividing_an_over_confident_network_does_little(known):
    sure, divided = (row_of(known, "cross_entropy", DIVIDED, training=way) for way in (OVER_CONFIDENT, DECAYED))
    assert sure.sure > divided.sure + 0.1
    assert sure.changed < divided.changed / 2
    assert 0 <= sure.balanced_accuracy_difference < divided.balanced_accuracy_difference / 2


def test_the_sentences_follow_the_numbers(known):
    lines = lesson_text(known).splitlines()
    assert [line[:3] for line in lines] == [f"{n}. " for n in range(1, 6)]
    divided = row_of(known, "cross_entropy", DIVIDED)
    change = f"{divided.balanced_accuracy_difference:+.3f} [{divided.balanced_accuracy_low:+.3f}, "
    assert change in lines[1]
    assert "a gain by balanced accuracy and a loss by macro F1" in lines[2]
    better = known.assign(macro_f1_low=0.01, macro_f1_high=0.02)
    assert "a gain by balanced accuracy and a gain by macro F1" in lesson_text(better)
    unclear = known.assign(macro_f1_low=-0.01, macro_f1_high=0.02)
    assert "a gain by balanced accuracy and neither gain nor loss by macro F1" in lesson_text(unclear)
    alone = known[(known["method"] == "cross_entropy")]
    assert [line[3:12] for line in lesson_text(alone).splitlines()] == ["Cross ent", "The same ", "A network"]


def test_a_figure_is_drawn_again_from_the_saved_table(tmp_path):
    rng = np.random.default_rng(1)
    targets = targets_of(rng, n_smears=4, n=30)
    right = targets["target"].to_numpy()[:, None] == np.array(CLASSES)
    names = [("cosine", "cross_entropy"), ("cosine", "focal"), ("constant", "cross_entropy")]
    fits = {}
    for name in names:
        weights = [np.exp(2 * right + rng.normal(size=right.shape)) for _ in range(2)]
        fits[name] = [weight / weight.sum(axis=1, keepdims=True) for weight in weights]
    table = imbalance_lesson(stored(fits, targets, tmp_path), tmp_path, seed=0)
    table.to_csv(tmp_path / "lesson.csv", index=False)
    figures = [plot_imbalance_lesson(rows) for rows in (table, pd.read_csv(tmp_path / "lesson.csv"))]
    drawn = [[np.asarray(line.get_xdata()) for line in figure.axes[0].lines] for figure in figures]
    shown = table[table["against"] == PLAIN]
    np.testing.assert_allclose(drawn[0][0], shown.query("correction == 'none'")["macro_f1_difference"])
    assert np.allclose(np.concatenate(drawn[0]), np.concatenate(drawn[1]))
    for figure in figures:
        low, high = figure.axes[1].get_xlim()
        assert low == -high
        ends = [f"{score}_{end}" for score in ("macro_f1", "balanced_accuracy") for end in ("low", "high")]
        assert (shown[ends].abs() < high).all(axis=None)
