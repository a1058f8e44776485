"""Open MMMU questions: numbers to 2 decimals, text by normalised equality; any gold may match."""

from collections.abc import Sequence

from relope.extract.graders import mathvision
from relope.extract.graders.exact import fold
from relope.extract.grading.grader import answer
from relope.extract.grading.values import canonical, same
from relope.types import Grade

VERSION = f"4.{mathvision.VERSION}"


def grade(response: str, answers: Sequence[str], choices: Sequence[str] = (), finish_reason: str = "") -> Grade:
    """Judge an open answer; choices are not looked at."""
    said = mathvision.final(response, finish_reason)
    if not fold(said):
        return Grade(False, "", "unparsed")
    texts = {fold(said), fold(answer(response, finish_reason))}
    right = any(fold(gold) in texts or same(said, gold) for gold in answers)
    return Grade(right, canonical(said), "parsed")
