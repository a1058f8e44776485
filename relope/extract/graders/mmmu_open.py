"""Open MMMU questions: numbers to 2 decimals, text by normalised equality; any gold may match."""

from collections.abc import Sequence

from relope.extract.graders import mathvision
from relope.extract.graders.exact import fold
from relope.extract.grading.grader import bounded
from relope.extract.grading.values import canonical, same
from relope.types import Grade

VERSION = f"2.{mathvision.VERSION}"


def grade(response: str, answers: Sequence[str], choices: Sequence[str] = ()) -> Grade:
    """Judge an open answer; choices are not looked at."""
    said = mathvision.final(response)
    if not fold(said):
        return Grade(False, "", "unparsed")
    texts = {fold(said), fold(bounded(response))}
    right = any(fold(answer) in texts or same(said, answer) for answer in answers)
    return Grade(right, canonical(said), "parsed")
