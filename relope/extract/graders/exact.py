r"""Equality after folding case, outer punctuation, Unicode forms and white space; 7.0 is 7, and 1,000 is 1000.

The whole response is compared, then what it declares: its last ``\boxed{…}``, or what its last "the answer is" or
"answer:" is followed by. A long or broken-off text that declares nothing is no answer.

Choice: two spellings of one number are equal, and nothing else about values is looked at (3.1 is a version, 3.10
another). A gold answer is often a number that a table turned into a float, and models group digits by habit: neither is
a mistake. Commas group digits only where each is followed by three of them and at most three stand before the first:
"1,00", "1,2,3" and "0,500" stay what they are. Where 1,000 means one, with three decimals, it is misread; that is rare.
"""

import re
from collections.abc import Sequence
from decimal import Decimal

from relope.extract.grading import answer_text
from relope.extract.grading.grader import answer, is_chain
from relope.types import Grade

VERSION = "5"

_GROUPED = re.compile(r"[-+]?[1-9]\d{0,2}(?:,\d{3}){1,9}(?:\.\d{1,20})?")
_WHOLE_NUMBER = re.compile(r"[-+]?\d{1,30}\.0+|[-+]?\d{1,20}(?:\.\d{1,20})?e[-+]?\d{1,2}")


def grade(response: str, answers: Sequence[str], choices: Sequence[str] = (), finish_reason: str = "") -> Grade:
    """Judge an answer that must equal one of the gold answers; choices are not looked at."""
    text = answer(response, finish_reason)
    whole, declared = fold(text), fold(answer_text.plain(answer_text.final(text)))
    said = {whole, declared, fold(answer_text.tail(text))} - {""}
    right = any(fold(gold) in said for gold in answers)
    parsed = declared or (whole if right or not is_chain(text, finish_reason) else "")
    return Grade(right, parsed, "parsed" if parsed else "unparsed")


def fold(text: str) -> str:
    """Return text in the form in which answers are compared."""
    words = bare(text)
    words = words.replace(",", "") if _GROUPED.fullmatch(words) else words
    return _plain_number(words) if _WHOLE_NUMBER.fullmatch(words) else words


def bare(text: str) -> str:
    """Return text without case, outer punctuation and runs of white space; numbers as they are written."""
    words = " ".join(answer_text.unified(text).casefold().split())
    return words.strip(" .,;:!?\"'`*()[]“”‘’") or words


def _plain_number(text: str) -> str:
    """Return a whole number without the point that a table of floats gave it; other numbers as they are."""
    number = Decimal(text)
    return f"{number:.0f}" if number == number.to_integral_value() else text
