"""Graders: one file each, a ``grade`` function and a ``VERSION``; no model, no guessing."""

from collections.abc import Sequence
from typing import Protocol, cast

from relope import registry
from relope.types import Grade

MAX_CHARACTERS = 20_000
"""Longer answers are graded on their last so many characters, so that every parse is bounded."""


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
    """Return the part of an answer that is parsed."""
    return response[-MAX_CHARACTERS:]
