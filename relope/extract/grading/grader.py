"""Graders: one file each, a ``grade`` function and a ``VERSION``; no model, no guessing."""

from collections.abc import Sequence
from typing import Protocol, cast

from relope import registry
from relope.extract.grading.answer_text import unified
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
