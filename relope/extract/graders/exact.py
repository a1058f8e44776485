"""Equality after folding case, outer punctuation, Unicode forms and white space."""

import unicodedata
from collections.abc import Sequence

from relope.extract.graders import bounded
from relope.types import Grade

VERSION = "2"


def grade(response: str, answers: Sequence[str], choices: Sequence[str] = ()) -> Grade:
    """Judge an answer that must equal one of the gold answers; choices are not looked at."""
    parsed = fold(bounded(response))
    right = bool(parsed) and any(parsed == fold(answer) for answer in answers)
    return Grade(right, parsed, "parsed" if parsed else "unparsed")


def fold(text: str) -> str:
    """Return text in the form in which answers are compared."""
    words = " ".join(unicodedata.normalize("NFKC", text).casefold().split())
    return words.strip(" .,;:!?\"'`*()[]“”‘’") or words
