r"""The option letter of a multiple-choice answer.

The rules are tried in this order; the first that finds a letter decides:

1. the last boxed letter, ``\boxed{B}``;
2. an explicit "answer is B" or "answer: B";
3. the whole response is a letter: ``b``, ``**B**``, ``(B)``;
4. it begins with ``B.``, ``B)`` or ``(B)``;
5. the single bracketed letter that is not negated;
6. a standalone capital that is not the article "A";
7. the one longest option text contained in the response.

Otherwise the answer is unparsed and wrong. Nothing is ever guessed.
"""

import re
from collections.abc import Callable, Sequence

from relope.extract.graders import bounded
from relope.extract.graders.exact import fold
from relope.extract.prompts import LETTERS
from relope.types import Grade

VERSION = "1"

_BOXED = re.compile(r"\\boxed\s*\{\s*(?:\\(?:text|mathrm|mathbf)\s*\{)?\s*\(?([A-Za-z])\)?\s*\.?\s*\}")
_EXPLICIT = re.compile(
    r"\b(?:answer|option|choice)\s*(?:is|:|=)\s*:?\s*[*_(\[{]*\s*([A-Za-z])(?![A-Za-z'])", re.IGNORECASE
)
_WHOLE = re.compile(r"[\s*_`(\[{]*([A-Za-z])[\s*_`)\]}.:]*")
_LEADING = re.compile(r"\s*(?:[*_]*([A-Z])[*_]*[.):]|\(([A-Za-z])\))")
_BRACKETED = re.compile(r"(not\s+|n't\s+|neither\s+)?[(\[]([A-Za-z])[)\]]")
_STANDALONE = re.compile(r"(?<![A-Za-z'])([A-Z])(?![A-Za-z'])")

Rule = Callable[[str, str], str]


def grade(response: str, answers: Sequence[str], choices: Sequence[str]) -> Grade:
    """Judge a multiple-choice answer; gold answers are letters."""
    letter = parse(response, choices)
    return Grade(letter in answers, letter, "parsed" if letter else "unparsed")


def parse(response: str, choices: Sequence[str]) -> str:
    """Return the option letter that an answer names, or ``""``."""
    text, letters = bounded(response), LETTERS[: len(choices)]
    for rule in (_boxed, _explicit, _whole, _leading, _bracketed, _standalone):
        if found := rule(text, letters):
            return found
    return _by_text(text, choices)


def _boxed(text: str, letters: str) -> str:
    return _last([match.upper() for match in _BOXED.findall(text)], letters)


def _explicit(text: str, letters: str) -> str:
    found = [match for match in _EXPLICIT.findall(text) if match != "a"]  # "the answer is a cat"
    return _last([match.upper() for match in found], letters)


def _whole(text: str, letters: str) -> str:
    match = _WHOLE.fullmatch(text)
    return _last([match[1].upper()], letters) if match else ""


def _leading(text: str, letters: str) -> str:
    match = _LEADING.match(text)
    return _last([(match[1] or match[2]).upper()], letters) if match else ""


def _bracketed(text: str, letters: str) -> str:
    found = {letter.upper() for negated, letter in _BRACKETED.findall(text) if not negated}
    named = [letter for letter in found if letter in letters]
    return named[0] if len(named) == 1 else ""


def _standalone(text: str, letters: str) -> str:
    named = {letter for letter in _STANDALONE.findall(text) if letter != "A" and letter in letters}
    return named.pop() if len(named) == 1 else ""


def _by_text(text: str, choices: Sequence[str]) -> str:
    folded = f" {fold(text)} "
    contained = [(len(fold(choice)), place) for place, choice in enumerate(choices) if f" {fold(choice)} " in folded]
    longest = max((length for length, _ in contained), default=0)
    best = [place for length, place in contained if length == longest and length > 0]
    return LETTERS[best[0]] if len(best) == 1 else ""


def _last(found: list[str], letters: str) -> str:
    named = [letter for letter in found if letter in letters]
    return named[-1] if named else ""
