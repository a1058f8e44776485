r"""Mathematical answers: the last ``\boxed{}``, an option's letter or text, or an equal value.

Without a box the tail of "the answer is" is taken, then what the last line ends in. Values are read
by a restricted parser of our own (`_values`); model text is never evaluated.
"""

from collections.abc import Sequence

from relope.extract.graders import _text, bounded, multiple_choice
from relope.extract.graders._values import canonical, same
from relope.extract.prompts import LETTERS
from relope.types import Grade

VERSION = "2"


def grade(response: str, answers: Sequence[str], choices: Sequence[str] = ()) -> Grade:
    """Judge an answer; with choices the gold answers are letters, and the option's text counts too."""
    said = final(response)
    if choices:
        letters = [LETTERS[place] for place, choice in enumerate(choices) if said and same(said, choice)]
        letter = _letter(response, said, choices) or next(iter(letters), "")
        right = (bool(letter) and letter in answers) or any(named in answers for named in letters)
        return Grade(right, letter or canonical(said), "parsed" if letter else "unparsed")
    if not said:
        return Grade(False, "", "unparsed")
    right = any(same(text, _unboxed(answer)) for answer in answers for text in (said, response))
    return Grade(right, canonical(said), "parsed")


def _letter(response: str, said: str, choices: Sequence[str]) -> str:
    """Return the letter that the final answer names; only without a box is the whole text read."""
    return multiple_choice.parse(said, choices) or (
        "" if _text.boxed(bounded(response)) else multiple_choice.parse(response, choices)
    )


def final(response: str) -> str:
    """Return the final answer of a response as it was written, or ``""``."""
    text = _text.untagged(bounded(response))
    if found := _text.boxed(text):
        return found[0]
    said = _text.stated(text) or _text.concluded(text)
    return said if _text.plain(said) else ""


def _unboxed(gold: str) -> str:
    found = _text.boxed(gold)
    return found[0] if found else gold
