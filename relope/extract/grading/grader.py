"""Graders: one file each, a ``grade`` function and a ``VERSION``; no guessing, and no model but where one says so."""

import functools
import inspect
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import cast

from relope import registry
from relope.errors import InvalidInputError
from relope.extract.grading.answer_text import unified, untagged
from relope.extract.grading.case import ASKING, Asking
from relope.extract.grading.own_grader import is_own, open_own
from relope.extract.grading.thoughts import LENGTH, spoken
from relope.types import Grade

BRIEF_CHARACTERS, CHAIN_CHARACTERS = 80, 200
"""A longer answer that broke off, and any longer one that declares nothing, is a chain of thought."""

HEAD_CHARACTERS, TAIL_CHARACTERS = 4_000, 16_000
"""Of a longer answer only its beginning and its end are parsed, so that every parse is bounded."""

_SENTENCES = re.compile(r"[.!?:] |[\n。]")


@dataclass(frozen=True)
class Grader:
    """A grader that is open: what judges, and what its verdicts are kept under.

    Attributes:
        name: CLI name.
        version: raised when verdicts change.
        function: ``(response, answers, choices)``, and ``finish_reason`` if it takes it, → `Grade`.
        is_own: whether it is a function of the user's, which may judge without a gold answer.
        asking: what the model is shown that it asks, and how a reply is read; None for all that ask nobody.
    """

    name: str
    version: str
    function: Callable[..., Grade]
    is_own: bool = False
    asking: Asking | None = None

    @functools.cached_property
    def _told_why(self) -> bool:
        """Whether the function asks why the model stopped; a plug-in need not."""
        return "finish_reason" in inspect.signature(self.function).parameters

    def grade(
        self, response: str, answers: Sequence[str], choices: Sequence[str] = (), finish_reason: str = ""
    ) -> Grade:
        """Judge one answer against every gold answer.

        Args:
            response: what the model wrote.
            answers: every gold answer; letters where there are choices; none where nobody knows it.
            choices: the options, in their order.
            finish_reason: ``stop``, ``length`` (cut at the limit of tokens), or ``""`` where nobody knows.
        """
        more = {"finish_reason": finish_reason} if self._told_why else {}
        grade = self.function(response, answers, choices, **more)
        return grade if answers or self.is_own else replace(grade, correct=None)


def open_grader(name: str) -> Grader:
    """Return a grader by its CLI name, or a function of the user's by ``FILE.py:function`` or ``module:function``.

    Raises:
        NotFoundError: there is none of that name, or no such file, module or function.
        InvalidInputError: the user's code cannot be imported, or the function takes other arguments.
    """
    if is_own(name):
        return Grader(*open_own(name), is_own=True)
    module = registry.load("graders", name)
    asking = module if all(hasattr(module, part) for part in ASKING) else None
    return Grader(name, str(module.VERSION), module.grade, asking=cast("Asking | None", asking))


def open_rule(name: str) -> Grader:
    """Return a grader as `open_grader` does, of those that ask nobody.

    Raises:
        InvalidInputError: it asks a model.
    """
    grader = open_grader(name)
    if grader.asking is not None:
        raise InvalidInputError(
            f"the grader {name} asks a model, which is done once the answers are there",
            hint=f"afterwards `relope grade --store … --grader {name} --judge-model MODEL --endpoint URL`",
        )
    return grader


def answer(response: str, finish_reason: str = "") -> str:
    """Return what is parsed of a response: what it says outside its thoughts, bounded, tidied and without tags."""
    return untagged(bounded(spoken(response, finish_reason)))


def is_cut(text: str, finish_reason: str) -> bool:
    """Return whether an answer broke off in the midst of reasoning: what it names then is not yet its answer."""
    return finish_reason == LENGTH and (len(text) > BRIEF_CHARACTERS or bool(_SENTENCES.search(text)))


def is_chain(text: str, finish_reason: str) -> bool:
    """Return whether a text that declares no answer is too long to be one, or broke off."""
    return len(text) > CHAIN_CHARACTERS or is_cut(text, finish_reason)


def bounded(response: str) -> str:
    """Return the part of an answer that is parsed, characters and white space tidied: lines stay lines."""
    if len(response) > HEAD_CHARACTERS + TAIL_CHARACTERS:
        response = f"{response[:HEAD_CHARACTERS]}\n{response[-TAIL_CHARACTERS:]}"
    lines = (" ".join(line.split()) for line in unified(response).splitlines())
    return "\n".join(line for line in lines if line)
