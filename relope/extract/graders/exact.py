"""Equality after folding case, outer punctuation, Unicode forms and white space.

The whole response is compared, then what its last "the answer is" or "answer:" is followed by.
"""

from collections.abc import Sequence

from relope.extract.grading import answer_text
from relope.extract.grading.grader import bounded
from relope.types import Grade

VERSION = "3"


def grade(response: str, answers: Sequence[str], choices: Sequence[str] = ()) -> Grade:
    """Judge an answer that must equal one of the gold answers; choices are not looked at."""
    text = bounded(response)
    whole, tail, parsed = fold(text), fold(answer_text.tail(text)), fold(answer_text.stated(text)) or fold(text)
    said = {whole, tail, parsed} - {""}
    return Grade(any(fold(answer) in said for answer in answers), parsed, "parsed" if parsed else "unparsed")


def fold(text: str) -> str:
    """Return text in the form in which answers are compared."""
    words = " ".join(answer_text.unified(text).casefold().split())
    return words.strip(" .,;:!?\"'`*()[]“”‘’") or words
