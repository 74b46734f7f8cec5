"""What Python says of a typed answer: the page of the lesson must say the same."""

from rbcnb.losses import exercises
from rbcnb.losses.exercises import NO_ANSWER, Verdict, evaluate, exercise_data


def check_expression(key: str, text: str) -> Verdict:
    """What is said of the answer *text* to the exercise *key*, on the first wrong try."""
    exercise = exercise_data()[key]
    if not text.strip():
        return Verdict(False, NO_ANSWER, tried=False)
    try:
        if "names" not in exercise:
            return exercises._number_verdict(exercise, text)
        return exercises._judged(exercise, evaluate(text, exercises._points(exercise)))
    except ValueError as error:
        return Verdict(False, f"{error}{'' if str(error).endswith('?') else '.'}", tried=False)
