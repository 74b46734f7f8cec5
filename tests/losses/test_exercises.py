"""The lesson's exercises: right answers, every mistake that is known, and whatever else a student may hand in."""

import functools
import json
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
from exercise_answers import check_expression

from rbcnb import losses
from rbcnb.evaluation.prior_shift import shift_prior
from rbcnb.losses import exercises
from rbcnb.losses.exercises import (
    NO_ANSWER,
    SHOWN_AT,
    check_eps,
    check_focal,
    check_gamma,
    check_prior,
    evaluate,
    exercise_data,
)
from rbcnb.losses.focal_curves import group_shares, modulating_factor

DATA = exercise_data()
RIGHT = {
    check_focal: lambda p_t, alpha, gamma: -alpha * (1 - p_t) ** gamma * np.log(p_t),
    check_prior: lambda p, old, new: (p * new / old) / (p * new / old).sum(axis=1, keepdims=True),
    check_eps: lambda alpha, eps: eps / alpha,
}
KEYS = {check_focal: "focal", check_prior: "prior", check_eps: "eps"}
FORMULAS = [key for key in DATA if "names" in DATA[key]]
MISTAKES = [(key, expression, message) for key in FORMULAS for expression, message in DATA[key]["mistakes"]]
# A mistake's names as the arguments of the notebook's functions.
ARGUMENTS = {"focal": ("p", "alpha", "gamma"), "eps": ("alpha", "eps")}


@pytest.fixture(autouse=True)
def first_try():
    exercises._wrong_tries.clear()


@pytest.mark.parametrize("check", RIGHT, ids=KEYS.get)
def test_right_answers_pass(check):
    assert check(RIGHT[check])
    assert check(lambda *given: np.float32(RIGHT[check](*given)))
    assert repr(check(RIGHT[check])).startswith("Right: go on.")


@pytest.mark.parametrize("check", RIGHT, ids=KEYS.get)
def test_whatever_is_handed_in_gets_a_hint_and_no_solution(check):
    def raising(*_):
        raise KeyError("x")

    handed_in = [
        raising,
        "".join,
        np.log,
        None,
        3,
        lambda *_: np.nan,
        lambda *_: "eps/alpha",
        lambda *_: [1.0, 2.0, 3.0, 4.0],
        lambda: 0,
    ]
    for answer in handed_in:
        exercises._wrong_tries.clear()
        verdict = check(answer)
        assert not verdict
        assert repr(verdict).startswith("Not yet: ")
        assert DATA[KEYS[check]]["right"] not in verdict.message
    assert "KeyError" in check(raising).message
    assert "quotation marks" in check(lambda *_: "eps/alpha").message
    assert "'e' is not defined" in check(lambda *_: eval("e / a")).message  # the student's own name
    assert check(lambda *_: None).message == NO_ANSWER


@pytest.mark.parametrize(("key", "expression", "message"), MISTAKES)
def test_every_known_mistake_is_told_from_the_right_answer_and_from_the_others(key, expression, message):
    assert not check_expression(key, expression)
    assert check_expression(key, expression).message == message


@pytest.mark.parametrize(("key", "expression", "message"), [mistake for mistake in MISTAKES if mistake[0] in ARGUMENTS])
def test_the_notebook_knows_the_mistakes_of_the_page(key, expression, message):
    check = {"focal": check_focal, "eps": check_eps}[key]

    def answer(*given):
        values = dict(zip(ARGUMENTS[key], map(np.asarray, given), strict=True))
        first = next(iter(values))
        return evaluate(expression, {first: values[first], **values})

    verdict = check(_disguised(answer))
    assert verdict.message == message


def _disguised(answer):
    """*answer* without a frame of this package: its values are computed first."""
    return lambda *given: _outside(answer, given)


def _outside(answer, given):
    profile = sys.getprofile()
    sys.setprofile(None)
    try:
        return answer(*given)
    finally:
        sys.setprofile(profile)


WRONG_PRIORS = {
    "Do the probabilities of a cell sum to 1": lambda p, old, new: p * new / old,
    "upside down": lambda p, old, new: (p * old / new) / (p * old / new).sum(axis=1, keepdims=True),
    "equally frequent in training": lambda p, _, new: (p * new) / (p * new).sum(axis=1, keepdims=True),
    "equally frequent in use": lambda p, old, _: (p / old) / (p / old).sum(axis=1, keepdims=True),
    "Shares are not added": lambda p, old, new: p + new - old,
    "down the columns": lambda p, old, new: (p * new / old) / (p * new / old).sum(axis=0),
    "what the network said": lambda p, *_: p,
    "shape": lambda p, old, new: (p * new / old).sum(axis=1),
}


@pytest.mark.parametrize("words", WRONG_PRIORS)
def test_mistakes_of_arrays_are_known(words):
    assert words in check_prior(WRONG_PRIORS[words]).message


def test_a_function_that_changes_its_input_is_told_so():
    def answer(probs, old, new):
        probs *= new / old
        probs /= probs.sum(axis=1, keepdims=True)
        return probs

    assert "Make a new array" in check_prior(answer).message


def test_a_formula_for_two_classes_is_not_one_for_three():
    def answer(probs, old, new):
        odds = probs[:, :2] * (new / old)[:2]
        return np.column_stack([odds / odds.sum(axis=1, keepdims=True), np.zeros((len(probs), probs.shape[1] - 2))])

    assert "with three it is not" in check_prior(answer).message


def _in_a_thread(work):
    """What *work* returns, computed in a thread of its own."""
    found = []
    thread = threading.Thread(target=lambda: found.append(work()))
    thread.start()
    thread.join()
    return found[0]


CALLS = {
    check_focal: [
        losses.focal_curve,
        losses.FocalLoss(),
        lambda p, a, g: losses.focal_curve(p, alpha=a, gamma=g),
        lambda p, a, g: functools.partial(losses.focal_curve, alpha=a)(p, gamma=g),
        lambda p, a, g: a * modulating_factor(p, gamma=g) * -np.log(p),
        lambda p, a, g: evaluate("-a * pow(1 - p, g) * log(p)", {"p": p, "a": a, "g": g}),
        lambda p, a, g: _in_a_thread(lambda: losses.focal_curve(p, alpha=a, gamma=g)),
    ],
    check_prior: [lambda p, old, new: shift_prior(p, old_prior=old, new_prior=new)],
}


@pytest.mark.parametrize(("check", "answer"), [(check, answer) for check, some in CALLS.items() for answer in some])
def test_what_is_asked_cannot_be_called(check, answer):
    verdict = check(answer)
    assert not verdict
    assert sys.getprofile() is None
    assert "Write the formula yourself" in verdict.message
    assert threading.getprofile() is None


def test_the_third_wrong_try_is_shown_more_of_the_way():
    wrong, way = (lambda _alpha, eps: eps + 1), DATA["eps"]["way"]
    for number in range(1, SHOWN_AT + 2):
        assert (way in check_eps(wrong).message) == (number >= SHOWN_AT)
    assert check_eps(RIGHT[check_eps])
    assert way not in check_focal(lambda p, *_: p).message  # each exercise counts for itself
    assert check_eps(lambda *_: None).message == NO_ANSWER  # who has no answer yet has not tried


def test_hints_and_ways_give_no_solution_away():
    for exercise in DATA.values():
        texts = [exercise["hint"], exercise["way"], *(message for _, message in exercise["mistakes"])]
        assert not [words for words in texts if str(exercise["right"]) in words or "eps / alpha" in words]


def test_the_least_gamma_is_read_off_the_gradient():
    shares = {g / 10: [part[0, 0] for part in group_shares([0.98, 0.02], [0.9, 0.4], [g / 10])] for g in range(61)}
    least = min(g for g, (_, gradient) in shares.items() if gradient < 0.05)
    off_the_loss = min(g for g, (loss, _) in shares.items() if loss < 0.05)
    assert check_gamma(least)
    assert check_gamma(str(least))
    assert off_the_loss < least
    assert "for the loss" in check_gamma(off_the_loss).message
    paper = min(g / 10 for g in range(61) if group_shares([0.8, 0.2], [0.9, 0.4], [g / 10])[1][0, 0] < 0.05)
    assert "10 : 10 : 80" in check_gamma(paper).message
    assert "5 % or more" in check_gamma(least - 0.1).message
    assert "smaller gamma" in check_gamma(least + 0.1).message
    assert "no number" in check_gamma("two").message
    assert not check_gamma(-1)
    assert check_gamma(None).message == NO_ANSWER
    assert not check_gamma(float("nan"))


def test_no_check_keeps_anybody_waiting_and_none_needs_torch():
    code = (
        "import sys, time\n"
        "from rbcnb.losses.exercises import check_eps\n"
        "start = time.process_time()\n"
        "right, wrong = check_eps(lambda alpha, eps: eps / alpha), check_eps(lambda alpha, eps: eps * alpha)\n"
        "assert right and not wrong and time.process_time() - start < 2\n"
        "assert float(repr(right).split()[-1].rstrip('.')) < 1e-6, right\n"
        "assert 'torch' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("-alfa * pow(1 - p, gamma) * log(p)", "what does alfa mean"),
        ("-alpha * np.sum(p)", "what does sum mean"),
        ("-alpha * (1 - p", "bracket"),
        ("-alpha(1 - p)", "bracket or an operator"),
        ("-alpha * log p", "bracket or an operator"),
        ("__import__('os').getcwd()", "what does"),
        ("pow(p)", "pow takes 2 in its brackets, and here are 1"),
        ("log(p, 2, 3)", "log takes 1 or 2 in its brackets, and here are 3"),
        ("p; alpha", "this is no formula"),
        ("(" * 5000, "bracket"),
        ("  ", NO_ANSWER),
    ],
)
def test_a_formula_that_cannot_be_read_says_what_to_write_and_is_no_try(text, words):
    verdict = check_expression("focal", text)
    assert not verdict
    assert not verdict.tried
    assert words in verdict.message


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("log(0 * p)", "no finite number"),
        ("9 ** 9 ** 9 ** 9 + p", "no finite number"),
        ("p + 1", DATA["focal"]["hint"]),
        ("-alpha * pow(1 - p, gamma) * log10(p)", "2.3 times too small"),
        ("-alpha * (1 - p) ** gamma * np.log10(p)", "2.3 times too small"),
        ("-alpha * (1 - p) ** gamma * math.log(p, 10)", "2.3 times too small"),
        ("-alpha * pow(1 - p, gamma) * log2(p)", "1.44 times too large"),
    ],
)
def test_a_formula_that_is_wrong_is_a_try(text, words):
    verdict = check_expression("focal", text)
    assert not verdict
    assert verdict.tried
    assert words in verdict.message


@pytest.mark.parametrize(
    ("key", "text"),
    [
        ("focal", "-alpha * (1 - p) ^ gamma * log(p)"),
        ("focal", "-alpha * (1 - p_t) ** gamma * np.log(p_t)"),
        ("focal", "−α × (1 − p)^γ × ln(p)"),
        ("focal", "+ALPHA * power(1e0 - pt, Gamma) * -torch.log(pt)"),
        ("focal", "-alpha * log(p) * (1 - p) ** (2 * gamma) ** (1 / 1) / (1 - p) ** gamma"),
        ("focal", "alpha * (1 - p) ** gamma * -log(p, exp(1))"),
        ("prior", "p*new_prior/old_prior / (p*new_prior/old_prior + (1-p)*(1-new_prior)/(1-old_prior))"),
        ("eps", "ε / α"),
        ("eps", "epsilon ÷ alpha"),
    ],
)
def test_other_ways_to_write_the_same_are_right(key, text):
    assert check_expression(key, text), check_expression(key, text)


def test_an_answer_that_ends_in_an_error_is_no_try():
    def leaving(_alpha, _eps):
        raise SystemExit("bye")

    way = DATA["eps"]["way"]
    for answer in (leaving, None, 3, lambda _a, _e: "eps/alpha", lambda _a, _e: [1.0, 2.0], lambda: 0) * SHOWN_AT:
        assert way not in check_eps(answer).message
    assert "SystemExit: bye" in check_eps(leaving).message
    assert way not in check_eps(lambda _alpha, eps: eps + 1).message  # the first try


def test_the_page_is_given_what_it_needs():
    assert json.loads(json.dumps(DATA)) == DATA
    for key in FORMULAS:
        assert check_expression(key, DATA[key]["right"])
        assert set(DATA[key]["points"][0]) == set(DATA[key]["names"])
    assert check_expression("gamma", " 3.0 ")
    start = time.perf_counter()
    check_expression("focal", "p")
    assert time.perf_counter() - start < 2
