"""Graders: one file each, a ``grade`` function and a ``VERSION``; no model, no guessing."""

import ast
import math
from collections.abc import Sequence
from typing import Any, Protocol, cast

from relope import registry
from relope.errors import InvalidInputError
from relope.extract.graders._text import unified
from relope.extract.prompts import LETTERS
from relope.types import Grade

HEAD_CHARACTERS, TAIL_CHARACTERS = 4_000, 16_000
"""Of a longer answer only its beginning and its end are parsed, so that every parse is bounded."""


class Grader(Protocol):
    """What a grader file exports."""

    VERSION: str

    def grade(self, response: str, answers: Sequence[str], choices: Sequence[str]) -> Grade:
        """Judge one answer against every gold answer."""


def open_grader(name: str) -> Grader:
    """Return a grader by its CLI name.

    Raises:
        NotFoundError: there is none of that name.
    """
    return cast(Grader, registry.load("graders", name))


def bounded(response: str) -> str:
    """Return the part of an answer that is parsed, characters and white space tidied: lines stay lines."""
    if len(response) > HEAD_CHARACTERS + TAIL_CHARACTERS:
        response = f"{response[:HEAD_CHARACTERS]}\n{response[-TAIL_CHARACTERS:]}"
    lines = (" ".join(line.split()) for line in unified(response).splitlines())
    return "\n".join(line for line in lines if line)


def gold_answers(gold: Any, choices: Sequence[str] = ()) -> tuple[str, ...]:
    """Return the gold answers of a question in the form that samples carry.

    Args:
        gold: text, a number, or a list of them. With choices: a letter, the 0-based place of the
            right option as an integer, or its text. A list written as text counts as a list.
        choices: the options; the answers are then letters.

    Raises:
        InvalidInputError: with choices, an answer that is none of them, or could be two.
    """
    return tuple(_letter(item, choices) if choices else _as_text(item) for item in _listed(gold))


def _listed(gold: Any) -> list[Any]:
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
    return str(item)


def _letter(item: Any, choices: Sequence[str]) -> str:
    letters = LETTERS[: len(choices)]
    if isinstance(item, int) and not isinstance(item, bool) and 0 <= item < len(letters):
        return letters[item]
    text = _as_text(item).strip()
    places = {place for place, choice in enumerate(choices) if choice.strip() == text}
    if len(text) == 1 and text.upper() in letters and not (text.islower() and places):
        places |= {letters.index(text.upper())}
    if len(places) == 1:
        return letters[places.pop()]
    what = "could be two of" if places else "is none of"
    raise InvalidInputError(
        f"answer {item!r} {what} the choices {list(choices)}; give a letter {letters[:1]}–{letters[-1:]}, "
        "the text of one option, or its place from 0"
    )
