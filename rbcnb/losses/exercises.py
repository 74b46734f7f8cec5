"""The lesson's exercises: each says whether an answer is right, or gives a hint that depends on the mistake.

A check never raises, waits for nothing, and never says the right answer. What is asked and said stands in
``exercises.yaml``; the lesson's page checks by the same file, see `exercise_data`.
"""

import ast
import functools
import inspect
import itertools
import operator
import re
import sys
import textwrap
import threading
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import yaml

from rbcnb.losses.focal_curves import group_shares
from rbcnb.losses.toy import sample_toy

NO_ANSWER = "there is no answer yet; replace the None. A wrong answer gets a hint."
TOLERANCE = 1e-5  # relative: an answer computed in float32 is right, too
SHOWN_AT = 3  # the wrong try from which on more of the way is shown
_BUDGET = {"majority": 0.98, "p_easy": 0.9, "p_hard": 0.4, "share": 0.05}  # of exercise 2
_PAPER_MAJORITY = 0.8
_OPERATORS = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.Pow: operator.pow,
}
# What a formula may call, with the numbers of values in the brackets. log(x, base) is Python's.
_FUNCTIONS: dict[str, tuple[Callable[..., Any], tuple[int, ...]]] = {
    "pow": (np.power, (2,)),
    "log": (lambda x, base=np.e: np.log(x) / np.log(base), (1, 2)),
    "log10": (np.log10, (1,)),
    "log2": (np.log2, (1,)),
    "exp": (np.exp, (1,)),
    "sqrt": (np.sqrt, (1,)),
}
# Other ways to write the same, which are read as well: signs, and words.
_SIGNS = {"×": "*", "·": "*", "∙": "*", "÷": "/", "−": "-", "–": "-", "^": "**", "α": "alpha", "γ": "gamma"}
_SIGNS |= {"ε": "eps", "ϵ": "eps"}
_WORDS = {"ln": "log", "power": "pow", "epsilon": "eps", "p_t": "p", "pt": "p"}
_WORDS |= {"old_prior": "old", "new_prior": "new"}
_NOT_READ = "this is no formula: is a bracket or an operator missing?"
_wrong_tries: Counter[str] = Counter()  # exercise -> wrong answers of this session


@dataclass(frozen=True)
class Verdict:
    """Whether an answer is right; printed as what to do next.

    Attributes:
        passed: whether it is right.
        message: the hint, or what comes next.
        tried: whether there was an answer to judge. What cannot be read, or ends in an error, is no wrong try.
    """

    passed: bool
    message: str
    tried: bool = True

    def __bool__(self) -> bool:
        return self.passed

    def __repr__(self) -> str:
        return textwrap.fill(f"{'Right' if self.passed else 'Not yet'}: {self.message}", width=90)


class _NoAnswerError(Exception):
    """What was handed in has no values that could be judged; the message is the hint."""


@functools.cache
def _exercises() -> dict[str, dict[str, Any]]:
    text = Path(__file__).with_name("exercises.yaml").read_text(encoding="utf-8")
    return yaml.safe_load(text)


def exercise_data() -> dict[str, dict[str, Any]]:
    """What the page needs to check answers as Python does; JSON can hold it.

    Returns:
        Per exercise ``question``, ``hint``, ``way``, ``right`` and ``mistakes``: pairs of a mistake and the message
        for it. These are expressions of ``names``, to be compared at ``points``; without names they are numbers. How
        an expression may be written stands in ``functions``, ``signs`` and ``words``.
    """
    data = {}
    language = {"functions": {name: list(n) for name, (_, n) in _FUNCTIONS.items()}, "signs": _SIGNS, "words": _WORDS}
    for key, exercise in _exercises().items():
        if "names" in exercise:
            grid = itertools.product(*(exercise["points"][name] for name in exercise["names"]))
            points = [dict(zip(exercise["names"], values, strict=True)) for values in grid]
            data[key] = exercise | language | {"points": points, "tolerance": TOLERANCE, "shown_at": SHOWN_AT}
        else:
            hints = exercise["mistakes"]
            right = _least_gamma(_BUDGET["majority"], what=1)
            mistakes = [
                [_least_gamma(_BUDGET["majority"], what=0), hints["loss"]],
                [_least_gamma(_PAPER_MAJORITY, what=1), hints["ratio"]],
            ]
            found = {"right": right, "mistakes": mistakes, "low": hints["low"], "high": hints["high"]}
            data[key] = exercise | found | {"tolerance": 0.049, "shown_at": SHOWN_AT}
    return data


def _least_gamma(majority: float, *, what: int) -> float:
    """The least gamma, to one decimal, at which *majority* brings under 5 % of the loss (*what* 0) or gradient (1)."""
    gammas = np.arange(61) / 10
    shares = group_shares((majority, 1 - majority), (_BUDGET["p_easy"], _BUDGET["p_hard"]), gammas)[what]
    return float(gammas[shares[:, 0] < _BUDGET["share"]].min())


def evaluate(text: str, names: Mapping[str, np.ndarray]) -> np.ndarray:
    """The expression *text* at the values of *names*; nothing but arithmetic is done.

    Raises:
        ValueError: there is something else in it; the message says what to write.
    """
    text = _rewritten(text)
    known = [*names, *_FUNCTIONS]
    in_words = f"Known are {', '.join(known)}, numbers, + - * / and brackets"
    if strangers := [word for word in re.findall(r"(?<![\w.])[^\W\d]\w*", text) if word not in known]:
        raise ValueError(f"what does {strangers[0]} mean? {in_words}")
    if re.search(r"[^\w\s.,()+*/-]", text):
        raise ValueError(f"this is no formula. {in_words}")

    def value(node: ast.expr) -> Any:
        match node:
            case ast.Constant(value=float() | int() as number):
                return np.float64(number)  # of Python's own integers a power may take hours
            case ast.Name(id=name) if name in names:
                return names[name]
            case ast.UnaryOp(op=ast.USub(), operand=operand):
                return -value(operand)
            case ast.UnaryOp(op=ast.UAdd(), operand=operand):
                return value(operand)
            case ast.BinOp(left=left, op=op, right=right) if type(op) in _OPERATORS:
                return _OPERATORS[type(op)](value(left), value(right))
            case ast.Call(func=ast.Name(id=name), args=arguments, keywords=[]) if name in _FUNCTIONS:
                function, counts = _FUNCTIONS[name]
                if len(arguments) not in counts:
                    wanted = " or ".join(map(str, counts))
                    raise ValueError(f"{name} takes {wanted} in its brackets, and here are {len(arguments)}")
                return function(*map(value, arguments))
        raise ValueError(_NOT_READ)

    try:
        tree = ast.parse(text, mode="eval").body
        with np.errstate(all="ignore"):
            return np.broadcast_to(np.asarray(value(tree), dtype=float), np.shape(next(iter(names.values()))))
    except (SyntaxError, RecursionError, MemoryError):
        raise ValueError(_NOT_READ) from None


def _rewritten(text: str) -> str:
    """*text* in the words and signs of `evaluate`: ``np.log``, ``ln``, ``p_t``, Greek letters and × are read, too."""
    text = "".join(_SIGNS.get(sign, sign) for sign in text.strip().lower())
    text = re.sub(r"\b(?:np|numpy|math|torch)\.", "", text)
    return re.sub(r"(?<![\w.])[^\W\d]\w*", lambda word: _WORDS.get(word[0], word[0]), text)


def _points(exercise: Mapping[str, Any]) -> dict[str, np.ndarray]:
    return {name: np.array([point[name] for point in exercise["points"]]) for name in exercise["names"]}


def _judged(exercise: Mapping[str, Any], found: np.ndarray) -> Verdict:
    """The verdict on values at the exercise's points."""
    points = _points(exercise)
    if not np.isfinite(found).all():
        return Verdict(False, "at some points this is no finite number: is there a logarithm or a division of 0?")
    for expression, message in [[exercise["right"], ""], *exercise["mistakes"]]:
        if np.allclose(found, evaluate(expression, points), rtol=exercise["tolerance"], atol=1e-9):
            return Verdict(not message, message or "go on.")
    return Verdict(False, exercise["hint"])


def _number_verdict(exercise: Mapping[str, Any], answer: object) -> Verdict:
    try:
        number = float(answer.replace(",", ".") if isinstance(answer, str) else answer)
    except (TypeError, ValueError):
        return Verdict(False, "this is no number.", tried=False)
    if abs(number - exercise["right"]) <= exercise["tolerance"]:
        return Verdict(True, "go on.")
    for value, message in exercise["mistakes"]:
        if abs(number - value) <= exercise["tolerance"]:
            return Verdict(False, message)
    if 0 <= number <= 6:
        return Verdict(False, exercise["low" if number < exercise["right"] else "high"])
    return Verdict(False, exercise["hint"])


def _checks(key: str) -> Callable[[Callable], Callable[[object], Verdict]]:
    """Makes a check of a function from one that returns the values of an answer, or a verdict on it."""

    def decorate(measure: Callable[[Callable, dict], Any]) -> Callable[[object], Verdict]:
        @functools.wraps(measure)
        def check(answer: object) -> Verdict:
            exercise = exercise_data()[key]
            try:
                verdict = measure(answer, exercise)
            except _NoAnswerError as error:
                verdict = Verdict(False, str(error), tried=False)
            except NameError as error:
                words = f"{error}. The names that your function is given stand in its first line."
                verdict = Verdict(False, words, tried=False)
            except (Exception, SystemExit) as error:  # the student's code, whatever it does
                verdict = Verdict(False, f"your answer ended in {type(error).__name__}: {error}.", tried=False)
            if verdict.passed or not verdict.tried:
                return verdict
            _wrong_tries[key] += 1
            return Verdict(False, f"{verdict.message} {exercise['way'] * (_wrong_tries[key] >= SHOWN_AT)}".rstrip())

        signature = inspect.signature(measure)  # help shows what a caller gives: the answer alone
        check.__signature__ = signature.replace(parameters=[signature.parameters["answer"]])
        return check

    return decorate


def _call(answer: Callable[..., Any], *arguments: Any, shape: tuple[int, ...]) -> np.ndarray:
    """What *answer* makes of *arguments*, as numbers of *shape*; it must not leave the work to this package."""
    if not callable(answer):
        raise _NoAnswerError(f"the check wants the function itself, and was given {answer!r}.")
    ours = (getattr(answer, "__module__", None) or "").startswith("rbcnb.")
    asked = [getattr(answer, "__name__", type(answer).__name__)] if ours else []

    def listen(frame: FrameType, event: str, _argument: object) -> None:
        if (
            event == "call"
            and frame.f_globals.get("__name__", "").startswith("rbcnb.")
            and frame.f_code.co_name != "<module>"  # its import, where this is its first use
        ):
            asked.append(frame.f_code.co_name)

    before = sys.getprofile(), threading.getprofile()
    try:
        if not asked:
            threading.setprofile(listen)  # of threads that the answer starts
            sys.setprofile(listen)
            found = answer(*arguments)
    finally:
        sys.setprofile(before[0])
        threading.setprofile(before[1])
    if asked:
        raise _NoAnswerError(f"this leaves the work to {asked[0]} of rbcnb. Write the formula yourself.")
    if found is None:
        raise _NoAnswerError(NO_ANSWER)
    if isinstance(found, str):
        raise _NoAnswerError(f"the answer is text, {found!r}. Write the formula as code, without quotation marks.")
    found = np.asarray(found, dtype=float)
    if found.shape != shape:
        raise _NoAnswerError(f"the answer has the shape {found.shape}, and {shape} is asked for: a value for each.")
    return found


@_checks("focal")
def check_focal(answer: Callable[..., np.ndarray], exercise: Mapping[str, Any]) -> Verdict:
    """Checks that *answer* is Eq. (4), and returns the verdict.

    Args:
        answer: function of p_t [N], alpha and gamma (an array and two floats) that returns the losses [N] in nats.
    """
    p = np.array(sorted({point["p"] for point in exercise["points"]}))
    settings = dict.fromkeys((point["alpha"], point["gamma"]) for point in exercise["points"])
    found = {pair: _call(answer, p.copy(), *pair, shape=p.shape) for pair in settings}
    place = {value: i for i, value in enumerate(p)}
    return _judged(exercise, np.array([found[q["alpha"], q["gamma"]][place[q["p"]]] for q in exercise["points"]]))


@_checks("gamma")
def check_gamma(answer: float | None, exercise: Mapping[str, Any]) -> Verdict:
    """Checks that *answer* is the least gamma at which the majority of 1:1:98 brings under 5 % of the gradient.

    Cells of the majority have a p_t of 0.9, rare ones 0.4. Returns the verdict.

    Args:
        answer: gamma to one decimal, as a number or as text; None where there is none yet.
    """
    return Verdict(False, NO_ANSWER, tried=False) if answer is None else _number_verdict(exercise, answer)


@_checks("prior")
def check_prior(answer: Callable[..., np.ndarray], exercise: Mapping[str, Any]) -> Verdict:
    """Checks that *answer* is Bayes' rule for any number of classes, and returns the verdict.

    Args:
        answer: function of probs [N, C], old_prior [C] and new_prior [C] (float arrays) that returns the probabilities
            [N, C] under the new prior, in a new array.
    """
    values = []
    for point in exercise["points"]:
        probs = np.array([[point["p"], 1 - point["p"]], [0.5, 0.5]])
        given = probs.copy()
        found = _call(answer, given, *(np.array([s, 1 - s]) for s in (point["old"], point["new"])), shape=(2, 2))
        if not np.array_equal(given, probs):
            raise _NoAnswerError("your function changes the probabilities that it is given. Make a new array.")
        odds = probs * [point["new"] / point["old"], (1 - point["new"]) / (1 - point["old"])]
        if np.allclose(found, odds / odds.sum(axis=0)):
            return Verdict(False, "the sum is taken down the columns. Whose probabilities must sum to 1?")
        values.append(found[0, 0])
    verdict = _judged(exercise, np.array(values))
    if verdict.passed:
        x, _ = sample_toy(50, seed=3)
        probs, old, new = np.abs(x[:, [0, 1, 0]]) + 0.1, np.array([0.1, 0.1, 0.8]), np.array([0.3, 0.2, 0.5])
        probs /= probs.sum(axis=1, keepdims=True)
        wanted = probs * new / old / (probs @ (new / old))[:, None]
        if not np.allclose(_call(answer, probs, old, new, shape=probs.shape), wanted, rtol=TOLERANCE):
            return Verdict(False, "with two classes it is right, with three it is not. Is a class left out?")
    return verdict


@_checks("eps")
def check_eps(answer: Callable[[float, float], float], exercise: Mapping[str, Any]) -> Verdict:
    """Checks that *answer* is the eps of Adam at which alpha = 1 trains as alpha does at eps, and returns the verdict.

    Args:
        answer: function of alpha and eps (two floats) that returns one number.
    """
    points = [(point["alpha"], point["eps"]) for point in exercise["points"]]
    mine = [float(_call(answer, *point, shape=())) for point in points]
    verdict = _judged(exercise, np.array(mine))
    if not verdict.passed:
        return verdict
    pairs = zip(points, mine, strict=True)
    gap = max(np.abs(_adam_weights(*point) - _adam_weights(1.0, eps_at_1)).max() for point, eps_at_1 in pairs)
    return Verdict(
        True, f"go on. Two models trained with it for 50 steps of Adam have weights that differ by {gap:.0e}."
    )


def _adam_weights(alpha: float, eps: float) -> np.ndarray:
    """[3, 3] weights of softmax regression on the toy after 50 steps of Adam on alpha times cross entropy."""
    x, targets = sample_toy(100, seed=0)
    x = np.column_stack([x, np.ones(len(x))])
    weights, m, v = np.zeros((3, 3)), 0.0, 0.0
    for step in range(1, 51):
        logits = x @ weights
        probs = np.exp(logits - logits.max(axis=1, keepdims=True))
        probs /= probs.sum(axis=1, keepdims=True)
        gradient = alpha * x.T @ (probs - np.eye(3)[targets]) / len(x)
        m, v = 0.9 * m + 0.1 * gradient, 0.999 * v + 0.001 * gradient**2
        weights = weights - 0.01 * (m / (1 - 0.9**step)) / (np.sqrt(v / (1 - 0.999**step)) + eps)
    return weights
