"""Gold answers of a row, in the form that samples carry."""

import ast
import math
import re
from collections.abc import Sequence
from typing import Any

from relope.errors import InvalidInputError
from relope.types import LETTERS

_POINT = re.compile(r"(?<=\d)\.0+\Z")
"""What a column of floats adds to a whole number."""


def gold_answers(gold: Any, choices: Sequence[str] = ()) -> tuple[str, ...]:
    """Return the gold answers of a question in the form that samples carry.

    Args:
        gold: text, a number, or a list of them. With choices: a letter, the 0-based number of the
            right option as an integer, or its text. A list written as text counts as a list.
        choices: the options; the answers are then letters.

    Raises:
        InvalidInputError: with choices, an answer that is none of them, or could be two.
    """
    return tuple(_letter(item, choices) if choices else _as_text(item) for item in listed(gold))


def gold_or_flaw(gold: Any, choices: Sequence[str] = ()) -> tuple[tuple[str, ...], dict[str, str]]:
    """Return the gold answers of a row, and what a sample's ``meta`` says when they make no sense."""
    try:
        return gold_answers(gold, choices), {}
    except InvalidInputError as error:
        return (), {"flaw": str(error).partition("; give")[0]}


def choice_or_flaw(gold: Any, choices: Sequence[str]) -> tuple[tuple[str, ...], dict[str, str]]:
    """Return the same where a question without choices makes no sense."""
    return gold_or_flaw(gold, choices) if choices else ((), {"flaw": "it has no choices"})


def letter_or_flaw(gold: str, choices: Sequence[str]) -> tuple[tuple[str, ...], dict[str, str]]:
    """Return the same where a gold answer with choices is always a letter."""
    return gold_or_flaw(LETTERS.index(gold) if choices and gold in tuple(LETTERS) else gold, choices)


def listed(gold: Any) -> list[Any]:
    """Return the gold answers of a question one by one; a list written as text counts as a list."""
    if isinstance(gold, str) and gold[:2] in ("['", '["') and gold.endswith("]") and len(gold) < 10_000:
        try:
            read = ast.literal_eval(gold)
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            return [gold]
        return read if isinstance(read, list) else [gold]
    return list(gold) if isinstance(gold, (list, tuple)) else [gold]


def _as_text(item: Any) -> str:
    if isinstance(item, bool) or not isinstance(item, (str, int, float)):
        raise InvalidInputError(f"answer {item!r} is {type(item).__name__}; give text, a number or a list of them")
    if isinstance(item, float) and not math.isfinite(item):
        raise InvalidInputError(f"answer {item!r} is no number that an answer could equal")
    return number_text(item)


def number_text(item: str | int | float) -> str:
    """Return a number as text, a whole one without the point that a column of floats gave it: 7.0 is 7."""
    return str(int(item)) if isinstance(item, float) and item.is_integer() else str(item)


def _letter(item: Any, choices: Sequence[str]) -> str:
    letters = LETTERS[: len(choices)]
    if isinstance(item, int) and not isinstance(item, bool) and 0 <= item < len(letters):
        return letters[item]
    text = _as_text(item).strip()
    spelt = {text, str(item).strip(), _POINT.sub("", text)}
    meant = {index for index, choice in enumerate(choices) if {choice.strip(), _POINT.sub("", choice.strip())} & spelt}
    if len(text) == 1 and text.upper() in letters and not (text.islower() and meant):
        meant |= {letters.index(text.upper())}
    if len(meant) == 1:
        return letters[meant.pop()]
    what = "could be two of" if meant else "is none of"
    raise InvalidInputError(
        f"answer {item!r} {what} the choices {list(choices)}; give a letter {letters[:1]}–{letters[-1:]}, "
        "the text of one option, or its number from 0"
    )
